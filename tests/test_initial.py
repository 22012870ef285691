"""Training that starts from what another run has learned."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from runs import TINY, configured

from nmfdnn.data import load
from nmfdnn.errors import CheckpointError, ConfigError
from nmfdnn.model import load as load_model
from nmfdnn.records import read_metrics
from nmfdnn.runs.experiment import run
from nmfdnn.training import METHODS

BATCHES = ["jacobi.batch_size=20", "nmf.batch_size=60", "bp.batch_size=20", "network.start=he"]

TRAINED = ("nmf", "jacobi", "bp")


def write(path: Path, scale: float = 1.0, names: str = "xyz") -> Path:
    """Three classes of samples in five features."""
    rng = np.random.default_rng(0)
    y = np.arange(240) % 3
    X = scale * (np.eye(3)[y] @ rng.random((3, 5)) + 0.1 * rng.random((240, 5)))
    pandas.DataFrame(X).assign(kind=np.array(list(names))[y]).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A table, and networks that some methods have trained."""
    place = tmp_path_factory.mktemp("initial")
    write(place / "table.csv")
    for method in TRAINED:
        train(place / method, place / "table.csv", f"method={method}", "epochs=4")
    return place


def train(folder: Path, data: Path, *overrides: str) -> dict:
    folder.mkdir(exist_ok=True)
    return run(configured(*TINY[4:], *BATCHES, "data=arrays", f"data.path={data}", *overrides), folder)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("before", TRAINED)
def test_every_method_starts_from_every_network(place, tmp_path, before, method):
    start = load_model(place / before)
    options = [f"init_from={place / before}", f"method={method}", "epochs=2", "seed=7"]
    summary = train(tmp_path, place / "table.csv", *options)
    first = read_metrics(tmp_path)[0]
    config = configured("data=arrays", f"data.path={place / 'table.csv'}").data
    taken = (start.preprocessing, start.targets)
    data = load(config, seed=7, device=torch.device("cpu"), dtype=torch.float32, taken=taken)
    wrong = 100 * float((start.network.predict(data.test.X) != data.test.labels).double().mean())
    assert first["test_error"] == pytest.approx(wrong)
    after = load_model(tmp_path)
    assert torch.equal(after.preprocessing.offset, start.preprocessing.offset)
    assert torch.equal(after.preprocessing.scale, start.preprocessing.scale)
    assert summary["pretrain_seconds"] == 0


def test_the_preprocessing_is_taken_over_and_not_fitted_again(place, tmp_path):
    """Data in another unit: a new fit would undo the difference."""
    start = load_model(place / "bp")
    train(tmp_path, write(tmp_path / "table.csv", scale=3.0), f"init_from={place / 'bp'}", "epochs=0")
    assert torch.equal(load_model(tmp_path).preprocessing.scale, start.preprocessing.scale)


def test_a_continued_run_does_not_need_the_file(place, tmp_path):
    shutil.copy(place / "bp" / "model.safetensors", tmp_path / "start.safetensors")
    options = [f"init_from={tmp_path / 'start.safetensors'}", "method=jacobi", "epochs=4"]
    whole = train(tmp_path / "whole", place / "table.csv", *options)
    train(tmp_path / "parts", place / "table.csv", *options, "epochs=2")
    (tmp_path / "start.safetensors").unlink()
    parts = train(tmp_path / "parts", place / "table.csv", *options, "resume=true")
    assert parts["epochs_trained"] == whole["epochs_trained"] == 4
    first, second = (read_metrics(tmp_path / name)[0] for name in ("whole", "parts"))
    assert first == second


def test_what_does_not_fit_is_refused(place, tmp_path):
    table, start = place / "table.csv", f"init_from={place / 'bp'}"
    with pytest.raises(ConfigError, match=r"widths 5-16-8-3 .*set network.hidden=\[16,8\]") as caught:
        train(tmp_path, table, start, "network.hidden=[9]")
    remedy = str(caught.value).rpartition("set ")[2].replace("'", "").split()
    train(tmp_path / "cured", table, start, "network.hidden=[9]", *remedy, "epochs=0")
    with pytest.raises(
        ConfigError, match=r"init_from predicts the classes x, y, z, these data have .* a, b, c"
    ):
        train(tmp_path, write(tmp_path / "other.csv", names="abc"), start)
    turned = pandas.read_csv(table)
    turned = turned.rename(columns=lambda name: name if name == "kind" else f"x{name}")
    turned.to_csv(tmp_path / "named.csv", index=False)
    turned[[*turned.columns[4::-1], "kind"]].to_csv(tmp_path / "turned.csv", index=False)
    train(tmp_path / "named", tmp_path / "named.csv", "epochs=0")
    with pytest.raises(ConfigError, match=r"trained on the columns x0, x1, x2, x3, x4, these are x4, x3"):
        train(tmp_path, tmp_path / "turned.csv", f"init_from={tmp_path / 'named'}")
    with pytest.raises(ConfigError, match=r"trained on samples of shape \(5,\), these are of \(8, 8\)"):
        run(configured(*TINY[4:], "data=digits", start), tmp_path)
    with pytest.raises(CheckpointError, match="is no file: give the folder of a run"):
        train(tmp_path, table, f"init_from={tmp_path / 'nothing'}")


def test_pixels_that_stand_for_something_else_are_refused(tmp_path):
    digits = ["data=digits", "method=bp", "epochs=0", "network.output_start=random"]
    (tmp_path / "first").mkdir()
    run(configured(*TINY[4:], *BATCHES, *digits), tmp_path / "first")
    with pytest.raises(ConfigError, match="16 stands for 1, in these 1: store or scale them"):
        run(
            configured(*TINY[4:], *BATCHES, *digits, f"init_from={tmp_path / 'first'}", "data.scale=false"),
            tmp_path,
        )
