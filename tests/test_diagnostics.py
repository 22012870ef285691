"""The diagnostics: what is altered and what is not, what passes, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from boards import DIGITS, done, record_of
from runs import configured

import board  # isort: skip  (after boards, which knows where these are)
import diagnostics
from board_rows import ROWS

from nmfdnn.data import load
from nmfdnn.training.common import Stopwatch

SMALL, LARGE = diagnostics.SETS
CHECKS = {check.name: check for check in diagnostics.CHECKS}


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    monkeypatch.setattr(Stopwatch, "_now", Stopwatch._now)  # runs of the board replace it


def row(name: str):
    return next(row for row in ROWS if row.name == name)


def tuned(tmp_path: Path, *names: str) -> board.Record:
    """Where the last candidate has won, for each of these rows on digits."""
    jobs = [board.candidates(DIGITS, row(name)) for name in names]
    found = [done(job, 90.0, 5.0 - i) for some in jobs for i, job in enumerate(some)]
    return record_of(tmp_path, *found)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("altered")
    diagnostics.prepare(out, SMALL)
    return out


def arrays(prepared: Path, name: str) -> dict[str, np.ndarray]:
    return dict(np.load(diagnostics.file_of(prepared, "digits", name)))


def test_samples_are_those_that_tuning_saw_and_no_test_data(prepared):
    config = configured("data=digits", "data.validation=0.25").data
    dataset = load(config, seed=1, device=torch.device("cpu"), dtype=torch.float32)
    plain = arrays(prepared, "plain")
    assert len(plain["X"]) == SMALL.samples == len(dataset.train)
    for X, source in ((plain["X"], dataset.train), (plain["X_test"], dataset.validation)):
        assert np.array_equal(X, source.take(torch.arange(len(source))).X)


def test_alterations(prepared):
    plain = arrays(prepared, "plain")
    found = {name: arrays(prepared, name) for name in diagnostics.ALTERED}
    for name, own in found.items():
        assert np.array_equal(own["y_test"], plain["y_test"])
        if name != "noise" and not name.startswith("few"):
            assert np.array_equal(own["y"], plain["y"])
        if name not in ("scales", "offset"):
            assert np.array_equal(own["X_test"], plain["X_test"])
    for number in (100, 300, 1000):
        few = found[f"few-{number}"]
        assert len(few["X"]) == len(few["y"]) == number
        assert len(set(few["y"])) == 10
    assert np.mean(found["noise"]["y"] != plain["y"]) == pytest.approx(0.2, abs=0.03)
    assert set(found["noise"]["y"]) == set(range(10))
    scale = found["scales"]["X"].max(axis=0) / np.maximum(plain["X"].max(axis=0), 1e-9)
    powers = np.log10(scale[plain["X"].max(axis=0) > 0])
    assert np.allclose(powers, powers.round(), atol=1e-4)
    assert {powers.round().min(), powers.round().max()} == {-3, 3}
    used = plain["X"].max(axis=0) > 0
    units = found["scales"]["X"][:, used].max(axis=0) / plain["X"][:, used].max(axis=0)
    assert np.allclose(found["scales"]["X_test"][:, used], plain["X_test"][:, used] * units, rtol=1e-5)
    for part in ("X", "X_test"):
        assert np.allclose(found["offset"][part], plain[part] + 10)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_check_changes_what_it_says_and_keeps_the_row_s_settings(row, tmp_path):
    choices = tuned(tmp_path, row.name)
    best = board.candidates(DIGITS, row)[-1]
    own = board.settings(best.overrides)
    (batch,) = {board.batch_of(DIGITS, row, best.overrides)}
    for name, size, epochs, hidden in (
        ("plain", batch, 20, [1000, 500]),
        ("depth-4", batch, 20, [100] * 4),
        ("width-16", batch, 20, [16, 16]),
        ("batch-1", 1, 1, [1000, 500]),
        ("batch-30", 30, 5, [1000, 500]),
        ("batch-all", 1078, 40, [1000, 500]),
        ("few-100", min(batch, 100), 100, [1000, 500]),
    ):
        job = diagnostics.job_of(choices, SMALL, row, CHECKS[name])
        if batch == 0 and name.startswith("batch"):
            assert job is None
            continue
        found = board.settings(job.overrides)
        kept = {"epochs", "data", "network.hidden"}
        assert {k: v for k, v in found.items() if k not in kept and not k.endswith("batch_size")} == {
            k: v for k, v in own.items() if k not in kept and not k.endswith("batch_size")
        }
        assert "data" not in found
        assert found["epochs"] == str(epochs)
        assert found["network.hidden"] == str(hidden).replace(" ", "")
        assert board.batch_of(DIGITS, row, job.overrides) == size
    config = configured(*diagnostics.job_of(choices, SMALL, row, CHECKS["plain"]).overrides.split())
    assert config.flat().get(f"{config.method}.batch_size", 0) == batch


def test_a_row_has_the_settings_of_the_first_place_that_has_chosen(tmp_path):
    choices = tuned(tmp_path, "muon")
    data, job = diagnostics.chosen(choices, LARGE, row("muon"))
    assert (data.name, job) == ("digits", board.candidates(DIGITS, row("muon"))[-1])
    fashion = LARGE.data
    for i, job in enumerate(board.candidates(fashion, row("muon"))):
        choices.add(done(job, 90, 10.0 + i))
    assert diagnostics.chosen(choices, LARGE, row("muon"))[0] == fashion
    assert diagnostics.chosen(choices, LARGE, row("ff")) is None
    assert diagnostics.job_of(choices, LARGE, row("ff"), CHECKS["plain"]) is None


def test_a_run_ends_in_the_record_and_one_that_is_too_long_is_stopped(prepared, monkeypatch, tmp_path):
    job = board.Job("digits", "jacobi", "few-100", "experiment=best network.hidden=[20] epochs=2", 1)
    small = board.Job("digits", "jacobi", "few-100", f"{job.overrides} jacobi.batch_size=50", 1)
    found = diagnostics.run(small, DIGITS, prepared)
    assert len(found.errors) == 3
    assert found.error < 60
    monkeypatch.setattr(diagnostics, "LIMIT", 0.5)
    long = board.Job("digits", "jacobi", "plain", f"{job.overrides} epochs=100000", 1)
    found = diagnostics.run(long, DIGITS, prepared)
    assert found.failed.startswith("TooLongError: more than 0.5 CPU seconds")
    assert not found.errors
    reference = diagnostics.run(diagnostics.reference(SMALL, CHECKS["depth-4"]), DIGITS, prepared)
    assert reference.job.stage == "plain"
    assert 0 < reference.error < 5


def test_the_table_says_what_passed_failed_and_was_not_run(tmp_path):
    choices = tuned(tmp_path, "jacobi", "bcd")
    record = board.Record(tmp_path / "diagnostics.jsonl")
    for check in diagnostics.CHECKS:
        record.add(done(diagnostics.reference(SMALL, check), 2.0))
    outcome = {
        "plain": (5.0, ""),
        "depth-2": (5.01, ""),
        "depth-4": (0.0, "ConfigError: the weights are no longer finite"),
        "depth-6": (0.0, "TooLongError: more than 60 CPU seconds"),
        "depth-10": (float("nan"), ""),
    }
    for name, (error, failed) in outcome.items():
        job = diagnostics.job_of(choices, SMALL, row("jacobi"), CHECKS[name])
        record.add(done(job, *([] if failed else [90, error]), failed=failed))
    record.add(done(diagnostics.job_of(choices, SMALL, row("bcd"), CHECKS["plain"]), 90, 4.0))
    head, _, linear, jacobi, bcd = diagnostics.table(record, choices, SMALL)
    assert head.startswith("| method | passed | plain | depth-2 |")
    assert linear.startswith("| linear classifier |  | 2.00 | 2.00 |")
    assert jacobi.startswith(
        "| `jacobi` | 1 of 5 | 5.00 | **5.01** | **failed** | **too long** | **diverged** | not run |"
    )
    assert bcd.startswith("| `bcd` | 1 of 1 | 4.00 |")
    assert bcd.count("–") == 3  # one sample at a time, 30, all
    page = diagnostics.page(record, choices)
    assert "- `jacobi`, depth-4: ConfigError: the weights are no longer finite" in page
    assert "depth-6: TooLong" not in page
    assert f"{diagnostics.MARGIN:g} points above" in page
    assert f"within {diagnostics.LIMIT:g} CPU seconds" in page
