import csv
import json
from pathlib import Path
from statistics import stdev

import pytest
from matplotlib.image import imread

from nmfdnn.compare import choose_errors, figure, group_runs, load_runs, main, table
from nmfdnn.records import Record, write_metrics, write_summary


def make_run(
    folder: Path, errors: list[float], *, pace: float = 2.0, finished: bool = True, **changes
) -> Path:
    """A run whose test error is `errors`, a value per epoch from 0, each epoch taking `pace` seconds."""
    folder.mkdir(parents=True)
    write_metrics(
        folder,
        [
            Record(epoch, error / 2, None, error, 0.1, pace * epoch, 1.0, [0.1] if epoch else [], [1.0])
            for epoch, error in enumerate(errors)
        ],
    )
    summary = {
        "method": "nmf",
        "experiment": "quickstart",
        "data": "digits",
        "layers": [64, 30, 10],
        "seed": 1,
        "device": "cpu",
        "dtype": "float32",
        "epochs": len(errors) - 1,
        "train_error": errors[-1] / 2,
        "validation_error": None,
        "test_error": errors[-1],
        "best_validation_epoch": None,
        "train_seconds": pace * (len(errors) - 1),
        "pretrain_seconds": 10.0,
        "peak_memory_mb": 100.0,
        "parameters": 2220,
        "overrides": [],
        **changes,
    }
    if finished:
        write_summary(folder, summary)
    return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    make_run(tmp_path / "sweep/0", [30, 12, 6, 4], seed=1, overrides=["seed=1", "method=nmf"])
    make_run(
        tmp_path / "sweep/1", [30, 20, 9, 6], seed=2, overrides=["seed=2", "method=nmf", "device=cpu"], pace=4
    )
    make_run(
        tmp_path / "sweep/2/bp",
        [90, 40, 11, 8],
        method="bp",
        pretrain_seconds=0.0,
        overrides=["seed=1", "method=bp", "hydra.verbose=true", "+hydra.run.dir=x", "hydra/launcher=basic"],
    )
    return tmp_path


def cells(text: str, row: str) -> list[list[str]]:
    """The cells of each table row that starts with `row`."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line
    ]
    return [line[1:] for line in rows if line[0] == row]


def test_runs_are_found_at_any_depth_and_counted_once(sweep: Path) -> None:
    runs = load_runs([sweep, sweep / "sweep", sweep / "sweep/0"])
    assert [run.folder.name for run in runs] == ["0", "1", "bp"]
    assert [run.folder.name for run in load_runs([sweep / "sweep/0"])] == ["0"]


def test_runs_that_differ_only_in_seed_device_and_hydra_form_a_group(sweep: Path) -> None:
    groups = group_runs(load_runs([sweep]))
    assert [(group.label, len(group.runs)) for group in groups] == [("nmf", 2), ("bp", 1)]


@pytest.mark.parametrize(
    ("change", "label"),
    [
        ({"data": "mnist_5k"}, "nmf, mnist_5k"),
        ({"layers": [64, 50, 10]}, "nmf, 64-50-10"),
        ({"dtype": "float64"}, "nmf, float64"),
        ({"experiment": None}, "nmf, None"),
        ({"epochs": 7}, "nmf, 7 epochs"),
        ({"overrides": ["seed=3", "nmf.omega=0.5"]}, "nmf, nmf.omega=0.5"),
    ],
)
def test_any_other_difference_makes_a_group_and_is_in_its_label(
    sweep: Path, change: dict, label: str
) -> None:
    make_run(sweep / "sweep/3", [30, 20, 10, 8], **change)
    labels = [group.label for group in group_runs(load_runs([sweep]))]
    assert len(labels) == 3
    assert labels[2] == label


def test_the_table_has_exact_means_and_deviations(sweep: Path) -> None:
    text = table(group_runs(load_runs([sweep])), [])
    ((runs, train, validation, test, pretrain, seconds, memory),) = cells(text, "nmf")
    assert (runs, train, test) == ("2", "2.50 ± 0.71", "5.00 ± 1.41")  # of 2, 3 and of 4, 6
    assert validation == "–"
    assert (pretrain, seconds, memory) == ("10.0", "9.00", "100")  # 3 epochs of 2 s and of 4 s
    assert cells(text, "bp")[0][:4] == ["1", "4.00 ± -", "–", "8.00 ± -"]


def test_seconds_to_an_error_include_pretraining_and_count_the_seeds_that_reached_it(sweep: Path) -> None:
    text = table(group_runs(load_runs([sweep])), [35, 12, 6, 5, 1])
    # On top of 10 s, seed 1 (2 s an epoch) reaches 12 % after 1 epoch, seed 2 (4 s an epoch) after 2.
    # They reach 6 % after 2 and 3.
    assert cells(text, "nmf")[1] == ["10.0", "15.0", "18.0", "16.0 (1/2)", "–"]
    assert cells(text, "bp")[1] == ["4.00", "4.00", "–", "–", "–"]


def test_the_table_fits_a_terminal_even_with_long_labels(sweep: Path) -> None:
    overrides = ["network.output_start=random", "nmf.hidden_iterations=3", "nmf.input_factor=batch"]
    make_run(sweep / "sweep/3", [30, 20.25, 10], overrides=overrides, peak_memory_mb=12345.0)
    make_run(sweep / "sweep/4", [30, 20.25, 88], overrides=overrides, seed=2, train_seconds=54321.0)
    text = table(group_runs(load_runs([sweep])), [20, 15, 12, 11, 10.5])
    assert max(map(len, text.splitlines())) <= 120
    for part in text.split("\n\n"):
        assert len({line.count("|") for line in part.splitlines()}) == 1
        assert len({len(line) for line in part.splitlines()}) == 1
    flat = " ".join(line.split("|")[1].strip() for line in text.splitlines() if "|" in line)
    assert "network.output_start=random, nmf.hidden_iterations=3, nmf.input_factor=batch" in flat


def test_chosen_errors_are_round_and_between_best_and_start(sweep: Path) -> None:
    # All seeds of nmf reach 6 %; then every step up is wider.
    assert choose_errors(group_runs(load_runs([sweep]))) == [16, 12, 9, 7, 6]


def test_chosen_errors_are_below_the_start(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [3.2, 2.4])
    assert choose_errors(group_runs(load_runs([tmp_path]))) == [3, 2.5]
    make_run(tmp_path / "b", [3.2, 0.0], method="bp")
    assert choose_errors(group_runs(load_runs([tmp_path])))[-1] == 0.1


def test_an_unfinished_run_is_named_and_left_out(sweep: Path, capsys: pytest.CaptureFixture) -> None:
    make_run(sweep / "sweep/3", [30, 1], seed=3, finished=False)
    runs = load_runs([sweep])
    assert len(runs) == 3
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert "sweep/3" in errors[0]
    assert "unfinished" in errors[0]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("summary.json", '{"method": "nmf", ', "line 1"),
        ("summary.json", "[1, 2]", "no table"),
        ("summary.json", '{"method": "nmf"}', "has no experiment"),
        ("metrics.csv", "epoch,test_error\n0,30\n", "train_seconds"),
        ("metrics.csv", "epoch,test_error,train_seconds\n0,30,0\n1,\n", "per epoch"),
        ("metrics.csv", "epoch,test_error,train_seconds\n0,30,zero\n", "zero"),
        ("metrics.csv", None, "metrics.csv"),
    ],
)
def test_a_damaged_run_is_named_and_skipped(
    sweep: Path, capsys: pytest.CaptureFixture, name: str, content: str | None, reason: str
) -> None:
    folder = make_run(sweep / "sweep/3", [30, 1], seed=3)
    (folder / name).unlink() if content is None else (folder / name).write_text(content)
    assert len(load_runs([sweep])) == 3
    (error,) = capsys.readouterr().err.splitlines()
    assert "sweep/3" in error
    assert reason in error


@pytest.mark.parametrize(("key", "value"), [("test_error", "low"), ("layers", 30), ("train_error", None)])
def test_a_summary_with_an_impossible_value_is_skipped(
    sweep: Path, capsys: pytest.CaptureFixture, key: str, value: object
) -> None:
    make_run(sweep / "sweep/3", [30, 1], **{key: value})
    assert len(load_runs([sweep])) == 3
    assert f"{key} in summary.json is {value!r}" in capsys.readouterr().err


def test_the_curves_are_means_with_a_band_from_lowest_to_highest(sweep: Path) -> None:
    by_epoch, by_time = figure(group_runs(load_runs([sweep]))).axes
    line, band = by_epoch.lines[0], by_epoch.collections[0]
    assert line.get_xdata().tolist() == [0, 1, 2, 3]
    assert line.get_ydata().tolist() == [30, 16, 7.5, 5]
    at_1 = {y for x, y in band.get_paths()[0].vertices if x == 1}
    assert at_1 == {12, 20}
    assert by_time.lines[0].get_xdata().tolist() == [10, 13, 16, 19]
    assert by_time.lines[1].get_xdata().tolist() == [0, 2, 4, 6]
    assert by_time.lines[1].get_ydata().tolist() == [90, 40, 11, 8]


def test_seeds_of_unequal_length_share_their_common_epochs(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [30, 20, 10], seed=1, epochs=9)
    make_run(tmp_path / "b", [50, 40], seed=2, epochs=9)
    (line,) = figure(group_runs(load_runs([tmp_path]))).axes[0].lines
    assert line.get_xdata().tolist() == [0, 1]
    assert line.get_ydata().tolist() == [40, 30]


def test_main_prints_and_writes_picture_and_csv(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    picture, numbers = tmp_path / "new/compare.png", tmp_path / "new/table.csv"
    main([str(sweep), "--errors", "12", "5.5", "--output", str(picture), "--csv", str(numbers)])
    printed = capsys.readouterr().out
    assert cells(printed, "nmf")[1] == ["15.0", "16.0 (1/2)"]
    assert str(picture) in printed
    pixels = imread(picture)
    assert pixels.shape[0] > 500
    assert pixels.shape[1] > 1000
    colours = {tuple(pixel) for pixel in (pixels[::3, ::3, :3].reshape(-1, 3) * 255).round().astype(int)}
    assert {(31, 119, 180), (255, 127, 14)} <= colours  # a line for each group
    with numbers.open(newline="") as file:
        nmf, bp = csv.DictReader(file)
    assert (nmf["label"], nmf["layers"], nmf["runs"], nmf["epochs"]) == ("nmf", "64-30-10", "2", "3")
    assert float(nmf["test_error_mean"]) == 5
    assert float(nmf["test_error_std"]) == pytest.approx(stdev([4, 6]))
    assert (nmf["seconds_to_5.5"], nmf["reached_5.5"]) == ("16.0", "1")
    assert (bp["test_error_std"], bp["seconds_to_5.5"], bp["reached_5.5"]) == ("", "", "0")


def test_main_warns_about_repeated_seeds_and_mixed_devices(
    sweep: Path, capsys: pytest.CaptureFixture
) -> None:
    make_run(sweep / "sweep/3", [30, 20, 9, 6], seed=2, device="cuda")
    main([str(sweep), "--output", str(sweep / "compare.png")])
    errors = capsys.readouterr().err
    assert "nmf: more than one run with seed 2" in errors
    assert "cpu and cuda" in errors


def test_no_runs_at_all(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    missing = tmp_path / "missing"
    (tmp_path / "note.json").write_text(json.dumps({}))
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path), str(missing), "--output", str(tmp_path / "compare.png")])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert str(tmp_path) in error
    assert str(missing) in error
    assert not (tmp_path / "compare.png").exists()


def test_an_impossible_picture_format_is_explained(sweep: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(sweep), "--output", str(sweep / "compare.xyz")])
    assert stop.value.code == 2
    assert "xyz" in capsys.readouterr().err
