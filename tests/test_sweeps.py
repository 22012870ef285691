"""Sweeps through Hydra's plugins: jobs side by side, and a search that goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest
import yaml
from runs import TINY, nmfdnn

from nmfdnn.records import read_summary
from nmfdnn.views import compare

SHORT = [*TINY, "epochs=1", "data.validation=0.2"]


def summaries(folder: Path) -> list[dict]:
    return [read_summary(path.parent) for path in sorted(folder.glob("*/summary.json"))]


def test_jobs_side_by_side(tmp_path):
    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    done = nmfdnn("-m", *SHORT, "method=nmf,bp", "seed=1,2", *joblib, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = summaries(tmp_path / "sweep")
    assert sorted((s["method"], s["seed"]) for s in found) == [("bp", 1), ("bp", 2), ("nmf", 1), ("nmf", 2)]


@pytest.fixture(scope="module")
def search(tmp_path_factory) -> Path:
    """Two commands with two trials each, in one folder."""
    folder = tmp_path_factory.mktemp("search") / "sweep"
    for _ in range(2):
        trials = ("hydra.sweeper.n_trials=2", f"hydra.sweep.dir={folder}")
        done = nmfdnn("-m", "+search=jacobi", *SHORT, "jacobi.batch_size=20", *trials, cwd=folder.parent)
        assert done.returncode == 0, done.stderr
    return folder


def test_a_search_finds_the_lowest_validation_error_and_goes_on(search):
    found = summaries(search)
    assert len(found) == 4
    settings = [frozenset(s["overrides"]) for s in found]
    assert len(set(settings)) == 4
    best = yaml.safe_load((search / "optimization_results.yaml").read_text())
    assert best["best_value"] == min(s["validation_error"] for s in found)
    (chosen,) = [
        s
        for s in found
        if {f"{key}={value}" for key, value in best["best_params"].items()} <= set(s["overrides"])
    ]
    assert chosen["validation_error"] == best["best_value"]


def test_a_comparison_shows_the_trials_as_a_table(search, tmp_path, capsys):
    compare.main(
        [str(search), "--output", str(tmp_path / "trials.png"), "--csv", str(tmp_path / "trials.csv")]
    )
    told = capsys.readouterr().out
    trials = pandas.read_csv(tmp_path / "trials.csv")
    assert len(trials) == 4
    assert set(trials["validation_error_mean"]) == {s["validation_error"] for s in summaries(search)}
    for key in ("jacobi.damping", "jacobi.input_ridge", "jacobi.omega"):
        assert trials["label"].str.contains(key).all()
        assert told.count(f"{key}=") >= 4
