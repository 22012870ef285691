"""Runs from Python are those of the command line."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from runs import TINY, nmfdnn

from nmfdnn import Trained, load, train
from nmfdnn.errors import CheckpointError, ConfigError
from nmfdnn.records import read_metrics, read_summary

SETTINGS = [*TINY, "method=bp", "network.start=he", "epochs=2", "threads=1"]


def test_the_same_as_the_command_line(tmp_path):
    done = nmfdnn(*SETTINGS, f"hydra.run.dir={tmp_path / 'cli'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trained = train(*SETTINGS, folder=tmp_path / "api")
    assert isinstance(trained, Trained)
    for a, b in zip(load(tmp_path / "cli").network.weights, trained.model.network.weights, strict=True):
        assert torch.equal(a, b)
    assert trained.summary == read_summary(trained.folder)
    assert (trained.folder / "config.yaml").read_text() == (tmp_path / "cli" / "config.yaml").read_text()
    names = ("epoch", "test_error", "objective")
    rows = [[[row[n] for n in names] for row in read_metrics(tmp_path / f)] for f in ("cli", "api")]
    assert rows[0] == rows[1]
    assert trained.model.predict(np.zeros((2, 12))).shape == (2,)


def test_a_folder_of_its_own_and_one_to_continue(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = (train(*SETTINGS) for _ in range(2))
    assert first.folder != second.folder
    more = train("resume=true", "epochs=3", folder=first.folder)
    assert more.summary["epochs_trained"] == 3
    with pytest.raises(CheckpointError, match="already holds a run"):
        train(*SETTINGS, folder=first.folder)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs=-1", "epochs must be ≥ 0"),
        ("epochz=1", "no key epochz: did you mean epochs?"),
        ("network.convolution=[{channels:8,kernl:3}]", "no key kernl: did you mean kernel?"),
        ("epochs=many", "epochs: Value 'many'"),
        ("experiment=bets", "no experiment=bets: did you mean best?"),
        ("network.hidden=[8", "'[8'"),
    ],
)
def test_errors_are_those_of_the_command_line(override, message, tmp_path):
    with pytest.raises(ConfigError, match=re.escape(message)):
        train(*TINY, override, folder=tmp_path)
