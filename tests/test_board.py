"""The board: runs are not repeated, choices see no test error, tables say what was run and what was not."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
from boards import DIGITS, done, record_of
from hydra import compose, initialize_config_module
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from runs import configured

import nmfdnn
from nmfdnn.targets import Classes
from nmfdnn.training import jacobi, relaxation, seidel
from nmfdnn.training.common import Stopwatch
from nmfdnn.training.jacobi import JacobiTrainer
from nmfdnn.training.relaxation import RelaxationTrainer

import ablation  # isort: skip  (after boards, which knows where these are)
import board
import board_configs
from board_rows import DATA, ROWS, Data, Row, all_layers, all_samples, one_layer

SMALL = "experiment=best network.hidden=[20] epochs=2"
ROW = Row("own", SMALL, ("", "jacobi.omega=1", "jacobi.omega=6"), ("",), 1, (250, 250), all_layers)


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    monkeypatch.setattr(Stopwatch, "_now", Stopwatch._now)  # runs of the board replace it


@pytest.mark.parametrize("stage", ["tune", "final"])
def test_a_run_for_a_choice_tells_validation_errors_only_and_a_final_one_test_errors(stage, tmp_path):
    job = board.Job("digits", "own", stage, f"{SMALL} data=digits", 2)
    found = board.run(job, DIGITS, tmp_path)
    held = board.VALIDATION[False] if stage == "tune" else 0
    own = [*job.overrides.split(), "seed=2", f"data.validation={held}", "threads=1"]
    trained = nmfdnn.train(*own, folder=tmp_path / "plain")
    part = "validation_error" if stage == "tune" else "test_error"
    assert found.error == pytest.approx(trained.summary["last"][part], abs=1e-3)
    assert trained.summary["last"]["test_error"] != pytest.approx(
        trained.summary["last"].get("validation_error") or 0, abs=1e-3
    )
    assert len(found.errors) == len(found.seconds) == 3
    assert found.seconds[0] == 0 < found.seconds[1] < found.seconds[2]
    assert not (tmp_path / stage).exists() or not list((tmp_path / stage).iterdir())


def test_the_record_is_read_again_as_it_was_written_and_finished_runs_are_not_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(board, "ROWS", (ROW,))
    first, second, third = board.candidates(DIGITS, ROW)
    record = record_of(tmp_path, done(first, 90, 3.5), done(third, failed="diverged"))
    assert record.done[first] == done(first, 90, 3.5)
    arguments = ["board.py", str(tmp_path), "--data", "digits", "--rows", "own", "--stages", "tune"]
    asked = []

    def make(record, todo, *_, **__):
        asked.extend(job for job, _ in todo)

    monkeypatch.setattr(board, "make", make)
    monkeypatch.setattr(sys, "argv", [*arguments, "--record", str(record.file)])
    board.main()
    assert asked == [second]


def test_the_lowest_last_validation_error_is_chosen_and_no_failed_run(tmp_path):
    first, second, third = board.candidates(DIGITS, ROW)
    some = [done(first, 90, 1.0, 4.0), done(second, 90, 5.0, 3.0), done(third, failed="diverged")]
    assert board.choose(record_of(tmp_path, *some[:2]), DIGITS, ROW) is None  # one has not run
    record = board.Record(tmp_path / "board.jsonl")
    record.add(some[2])
    assert board.choose(record, DIGITS, ROW) == second
    finals = board.jobs(record, DIGITS, ROW, "final", None)
    assert [job.seed for job in finals] == [1, 2, 3, 4, 5]
    assert {job.overrides for job in finals} == {second.overrides}


def test_parts_take_every_run_once(tmp_path, monkeypatch):
    monkeypatch.setattr(board, "ROWS", (ROW,))
    record = record_of(tmp_path)
    taken = []
    for part in ("1/2", "2/2"):
        arguments = type("Arguments", (), {"rows": ["own"], "data": ["digits"], "seeds": None, "part": part})
        taken += [job for job, _ in board.waiting(record, arguments, "tune")]
    assert sorted(taken, key=str) == sorted(board.candidates(DIGITS, ROW), key=str)


def test_the_table_says_medians_ranges_and_what_was_not_run(tmp_path, monkeypatch):
    other = dataclasses.replace(ROW, name="other")
    monkeypatch.setattr(board, "ROWS", (other, ROW))
    tries = board.candidates(DIGITS, ROW)
    found = [done(job, 90, error) for job, error in zip(tries, (2.0, 1.5, 2.5), strict=True)]
    finals = [board.Job("digits", "own", "final", tries[1].overrides, seed) for seed in (1, 2, 3)]
    found += [done(job, 90, 3, last) for job, last in zip(finals, (1.0, 1.25, 3.0), strict=True)]
    record = record_of(tmp_path, *found)
    head, _, own = board.table(record, DIGITS)
    assert "CPU s to 2 %" in head
    assert own.startswith(
        "| `own` | 1.25 (1.00 – 3.00) | 3 | 20 | 2.0 (2.0 – 2.0) | 1.0 (1.0 – 1.0) | 2.0 (2.0 – never) |"
    )
    assert board.sensitivity(record, DIGITS, ROW) == "`omega` **1** 1.50, default 2.00, 6 2.50"
    page = board.page(record)
    assert "| `own` | `omega`" in page
    assert "| `other`" not in page
    assert page.count("Not run yet: `other`.") == 1
    assert board.draw(record).axes[0].get_title() == "digits"


def test_what_is_held_follows_from_the_method():
    widths = [784, 1000, 500, 10]
    assert all_layers(widths, 250, 4000) == 250 * (784 + 1000 + 500)
    assert one_layer(widths, 250, 4000) == 250 * (784 + 1000)
    assert all_samples(widths, 250, 4000) == 4000 * (784 + 2 * 1510)


def test_every_row_has_the_same_number_of_tries_none_twice():
    assert len({(len(row.small), len(row.large)) for row in ROWS}) == 1
    for row in ROWS:
        assert len(set(row.small)) == len(row.small)
        assert len(set(row.large)) == len(row.large)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_setting_is_one_of_the_configuration(row):
    fashion = Data("fashion_mnist", "data=fashion_mnist", (784, 60000, 10), large=True)
    for data in (DIGITS, fashion):
        first, *_, last = board.candidates(data, row)
        config = configured(
            *f"{last.overrides} {first.overrides}".split()
        )  # every key, and the first's values
        assert config.network.hidden == [1000, 500]
        batch = config.flat().get(f"{config.method}.batch_size", 0)
        own = board.settings(first.overrides)
        assert batch == row.batch[data.large] or own[f"{config.method}.batch_size"] == str(batch)


def first_weights(folder: Path, method: str, change: str) -> float:
    settings = ["network.hidden=[20,10]", "data.train_samples=300", f"{method}.batch_size=50", "epochs=2"]
    settings += [f"method={method}", "data=digits", "threads=1"]
    with ablation.changed(change):
        trained = nmfdnn.train("experiment=best", *settings, folder=folder)
    return trained.model.network.weights[0].double().square().sum().item()


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    methods = ("jacobi", "seidel")
    return {method: first_weights(tmp_path_factory.mktemp(method), method, "") for method in methods}


@pytest.mark.parametrize("change", sorted({v.change for v in ablation.VARIANTS} - {""}))
def test_a_change_of_the_trainer_acts_while_it_lasts(change, unchanged, tmp_path):
    method = "seidel" if change == "own" else "jacobi"
    places = (RelaxationTrainer, JacobiTrainer, Classes, relaxation, jacobi, seidel)
    before = [dict(vars(place)) for place in places]
    assert first_weights(tmp_path, method, change) != unchanged[method]
    after = [dict(vars(place)) for place in places]
    assert before == after


def test_the_ablation_s_table_compares_seed_by_seed(tmp_path):
    plain = next(v for v in ablation.VARIANTS if v.overrides == ablation.JACOBI and not v.change)
    other, lost = (v for v in ablation.VARIANTS if v.change in ("share", "trust"))
    errors = {plain: (2.0, 3.0, 5.0), other: (3.0, 5.0, 5.0)}
    found = [
        done(ablation.job_of(v, DIGITS, seed), 90, error)
        for v, values in errors.items()
        for seed, error in enumerate(values, start=1)
    ]
    found += [done(ablation.job_of(lost, DIGITS, seed), failed="diverged") for seed in (1, 2, 3)]
    lines = ablation.table(record_of(tmp_path, *found), DIGITS, [1, 2, 3])
    starts = {line.split(" | ")[0].lstrip("| "): line.split(" | ")[1:3] for line in lines}
    assert starts[plain.name] == ["3.00 (2.00 – 5.00)", "+0.00"]
    assert starts[other.name] == ["5.00 (3.00 – 5.00)", "+1.00"]
    assert starts[lost.name] == ["3 of 3 diverged", ""]
    parts = ablation.sections(record_of(tmp_path, *found))
    assert [line for line in parts if line.startswith("###")] == ["### digits, 3 seeds"]
    assert set(lines) < set(parts)


def test_the_ablation_of_large_data_has_the_board_s_epochs():
    large = next(data for data in DATA if data.name == "fashion_mnist")
    for variant in ablation.VARIANTS:
        assert ablation.job_of(variant, large, 1).overrides.endswith(f"epochs={ROWS[0].epochs}")
        assert ablation.job_of(variant, DIGITS, 1).overrides.endswith("epochs=20")


def files_of(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.yaml")}


def test_the_configurations_say_what_the_record_says():
    again = "run python benchmarks/board.py --experiments"
    assert files_of(board.EXPERIMENTS) == board.experiments(board.Record(board.RECORD)), again
    assert files_of(board.SWEEPS) == board.sweeps(), again


@pytest.mark.parametrize("name", sorted(files_of(board.EXPERIMENTS)))
def test_a_row_s_experiment_has_the_settings_that_were_chosen(name):
    row = next(row for row in ROWS if row.name == name)
    record = board.Record(board.RECORD)
    places = [data for place in board.PLACES for data in DATA if data.name == place]
    best = next(best for data in places if (best := board.choose(record, data, row)))
    found, asked = configured(f"experiment=board/{name}").flat(), configured(*best.overrides.split()).flat()
    assert found.pop("experiment") == f"board_{name}"
    asked.pop("experiment")
    assert found == asked


def test_experiments_come_from_the_first_place_that_has_chosen(tmp_path, monkeypatch):
    monkeypatch.setattr(board, "ROWS", (ROW, dataclasses.replace(ROW, name="other")))
    few, large = (next(data for data in DATA if data.name == name) for name in ("mnist_5k", "fashion_mnist"))
    tries = board.candidates(few, ROW)
    record = record_of(tmp_path, *(done(job, 90, 5.0 - i) for i, job in enumerate(tries)))
    (text,) = board.experiments(record).values()
    assert "as chosen on mnist_5k, with 3.00 %" in text
    assert text.endswith("epochs: 20\nnetwork:\n  hidden: [20]\njacobi:\n  omega: 6\n")
    record.add(done(*board.candidates(large, ROW), 90, 9.0))
    (text,) = board.experiments(record).values()
    assert "as chosen on fashion_mnist, with 9.00 %" in text
    (tmp_path / "gone.yaml").touch()
    board_configs.replace(tmp_path, {"own": text})
    assert files_of(tmp_path) == {"own": text}


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("name", ["jacobi", "nmf", "adam", "dtp", "bcd"])
def test_a_sweep_s_jobs_are_what_is_tried(name, large):
    row = next(row for row in ROWS if row.name == name)
    swept = f"+search=board/{name}{'_large' * large}"
    with initialize_config_module("nmfdnn.configs", version_base="1.3"):
        params = compose("config", [swept], return_hydra_config=True).hydra.sweeper.params
    given = [f"{key}={value}" for key, value in params.items()]
    parsed = OverridesParser.create().parse_overrides(given)
    (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    data = next(data for data in DATA if data.name == board_configs.SWEPT[large])
    asked = [board.arguments_of(job, data, Path()) for job in board.candidates(data, row)]
    assert [configured(*job).flat() for job in jobs] == [configured(*own).flat() for own in asked]
