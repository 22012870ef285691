import csv
import json
import os
from pathlib import Path
from statistics import fmean, stdev

import pytest
from matplotlib.image import imread

from nmfdnn.records import Record, write_metrics, write_summary
from nmfdnn.views.compare import by_data, choose_errors, figure, group_runs, load_runs, main, table


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


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (("0.23204735681527128", "0.00017282680360478214"), ("0.232", "0.0001728")),
        (("0.12345678", "0.12345679"), ("0.12345678", "0.12345679")),
        (("0.5", "1000000", "a.b", "1.0.2"), ("0.5", "1000000", "a.b", "1.0.2")),
    ],
)
def test_drawn_numbers_are_short_in_labels_where_that_tells_them_apart(
    tmp_path: Path, values: tuple[str, ...], shown: tuple[str, ...]
) -> None:
    for i, value in enumerate(values):
        make_run(tmp_path / str(i), [30, 12], overrides=[f"jacobi.omega={value}"])
    labels = [group.label for group in group_runs(load_runs([tmp_path]))]
    assert labels == [f"nmf, jacobi.omega={text}" for text in shown]


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
        ("metrics.csv", None, "no metrics.csv"),
        ("summary.json", "7", "no table"),
        ("summary.json", "null", "no table"),
        ("summary.json", "", "line 1"),
        ("summary.json", "[" * 100_000, "recursion"),
        ("summary.json", "9" * 5000, "digits"),
        ("summary.json", b"\xff\xfe\x00", "utf-8"),
        ("summary.json", bytes(range(256)), "utf-8"),
        ("metrics.csv", "", "no complete row"),
        ("metrics.csv", "epoch,test_error,train_seconds\n", "no complete row"),
        ("metrics.csv", b"\x89PNG\xff\x00\x01", "utf-8"),
        ("metrics.csv", "epoch,test_error,train_seconds\n0,3\x000,0\n", ""),
        ("metrics.csv", "epoch,test_error,train_seconds\n0,30," + "1" * 200_000 + "\n", "field larger"),
        ("metrics.csv", "epoch,test_error,train_seconds\n0,30,0,1,2\n", ""),
        ("metrics.csv", "epoch,test_error,train_seconds\n0,,0\n", "no complete row"),
        ("metrics.csv", "epoch,test_error,train_seconds\n0,nan,0\n", "impossible"),
        ("metrics.csv", "epoch,test_error,train_seconds\n0,inf,0\n", "impossible"),
        ("metrics.csv", "epoch,test_error,train_seconds\n0,101,0\n", "impossible"),
        ("metrics.csv", "epoch,test_error,train_seconds\n0,30,-1\n", "impossible"),
        ("metrics.csv", "epoch,test_error,train_seconds\ninf,30,0\n", "impossible"),
        ("metrics.csv", "epoch,test_error,train_seconds\n1,30,0\n0,20,1\n", "out of order"),
        ("metrics.csv", "epoch,test_error,train_seconds\n1,30,0\n1,20,1\n", "out of order"),
        ("metrics.csv", "epoch,test_error,train_seconds\n0,30,1\n1,20,0\n", "out of order"),
    ],
)
def test_a_damaged_run_is_named_and_skipped(
    sweep: Path, capsys: pytest.CaptureFixture, name: str, content: str | bytes | None, reason: str
) -> None:
    file = make_run(sweep / "sweep/3", [30, 1], seed=3) / name
    file.unlink()
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert len(load_runs([sweep])) == 3
    (error,) = capsys.readouterr().err.splitlines()
    assert "sweep/3" in error
    assert reason in error


def a_directory(file: Path) -> None:
    file.mkdir()


def a_loop(file: Path) -> None:
    file.symlink_to(file)


def a_device(file: Path) -> None:
    file.symlink_to("/dev/zero")


def an_endless_file(file: Path) -> None:
    file.touch()
    os.truncate(file, 2**40)


@pytest.mark.parametrize("name", ["summary.json", "metrics.csv", "nmfdnn.log"])
@pytest.mark.parametrize("make", [a_directory, os.mkfifo, a_loop, a_device, an_endless_file])
def test_what_is_no_file_holds_nothing_up(
    sweep: Path, capsys: pytest.CaptureFixture, name: str, make
) -> None:
    folder = make_run(sweep / "sweep/3", [30, 1], seed=3, finished=name != "nmfdnn.log")
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    assert len(load_runs([sweep])) == 3
    (error,) = capsys.readouterr().err.splitlines()
    assert "sweep/3" in error
    assert ("unfinished" if name == "nmfdnn.log" else name) in error


def test_links_in_a_circle_are_not_followed(sweep: Path) -> None:
    (sweep / "sweep/0/up").symlink_to(sweep)
    (sweep / "again").symlink_to(sweep / "sweep/0")
    assert len(load_runs([sweep, sweep / "again"])) == 3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(
            (key, value)
            for key in ("test_error", "train_error")
            for value in ("low", None, [1], True, -1, 101)
        ),
        *((key, value) for key in ("validation_error", "train_seconds") for value in ("1", {}, 10**400)),
        *(("peak_memory_mb", value) for value in (float("nan"), float("inf"), None)),
        *(("layers", value) for value in (30, [], ["a"], [[1]], {"1": 2})),
        *(("epochs", value) for value in ("3", [3], 10**400)),
        *(("seed", value) for value in ("1", [1], {}, 1.5)),
        *(("overrides", value) for value in ("seed=1", 7, {"a": 1}, [1, 2], [None])),
        *((key, value) for key in ("method", "data", "dtype") for value in (None, 1, ["nmf"])),
        ("experiment", 5),
    ],
)
def test_a_summary_with_an_impossible_value_is_skipped(
    sweep: Path, capsys: pytest.CaptureFixture, key: str, value: object
) -> None:
    make_run(sweep / "sweep/3", [30, 1], **{key: value})
    assert len(load_runs([sweep])) == 3
    error = capsys.readouterr().err
    assert f"{key} in summary.json is " in error
    assert len(error) < 500


TEXTS = ["$\\frac{", "_x", "a|b", "two\nlines", "\x1b[31m", "\ud800", "日本語", "x" * 5000, ""]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_any_text_is_shown(sweep: Path, capsys: pytest.CaptureFixture, text: str, tmp_path: Path) -> None:
    for number, key in enumerate(("method", "experiment", "data", "dtype")):
        make_run(sweep / f"odd/{number}", [30, 20], **{key: text})
    make_run(sweep / "odd/4", [30, 20], overrides=[text], warnings=[text, {"a": text}], device=text)
    main([str(sweep), "--output", str(tmp_path / "x.png"), "--csv", str(tmp_path / "x.csv")])
    printed = capsys.readouterr().out
    for part in printed.split("\n\n"):
        lines = [line for line in part.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in lines}) <= 1
    assert all(character.isprintable() or character == "\n" for character in printed)
    assert len(list(csv.DictReader((tmp_path / "x.csv").open(newline="", encoding="utf-8")))) == 7
    assert max(imread(tmp_path / "x.png").shape) < 10_000


@pytest.mark.parametrize("said", [["kept epoch 0", "chance"], "kept epoch 0", {"kept": 0}, 5])
def test_what_a_run_warns_of_is_seen(sweep: Path, said: object) -> None:
    make_run(sweep / "sweep/3", [30, 20, 9, 6], seed=3, warnings=said)
    make_run(sweep / "sweep/4", [30, 20, 9, 6], method="jacobi", warnings=["another"], last={"epoch": 3})
    make_run(sweep / "sweep/5", [30, 20, 9, 6], method="other", warnings=[])
    groups = group_runs(load_runs([sweep]))
    text = table(groups, [12])
    assert cells(text, "nmf [1]")[0][0] == "3"
    assert cells(text, "jacobi [2]")
    assert cells(text, "other")
    notes = [line for line in text.splitlines() if line.startswith("[")]
    first = "; ".join(f"seed 3: {warning}" for warning in (said if isinstance(said, list) else [said]))
    assert notes == [f"[1] {first}", "[2] seed 1: another"]
    legend = [line.get_label() for line in figure(groups).axes[0].lines]
    assert legend == [
        "nmf (n = 3, 1 with warnings)",
        "bp (n = 1)",
        "jacobi (n = 1, 1 with warnings)",
        "other (n = 1)",
    ]


LOG = "2026-11-26 01:45:28,525 INFO nmf on digits\n2026-11-26 01:45:29,525 {}\n"


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (
            LOG.format("ERROR nmf.omega must be in (0, 2], got -1"),
            "failed: nmf.omega must be in (0, 2], got -1;",
        ),
        (LOG.format("ERROR the first line\nand the remedy"), "failed: the first line and the remedy;"),
        (LOG.format("INFO epoch   1  train 3 %"), "INFO epoch 1 train 3 %;"),
        (LOG.format("ERROR broken") + LOG.format("INFO continuing"), "INFO continuing;"),
        ("epoch   1\n", "ends with: epoch 1;"),
        ("\xff\x00\ud800", "unfinished"),
        ("", "unfinished, no summary.json; left out"),
    ],
)
def test_a_failed_job_of_a_sweep_is_named_with_the_reason(
    sweep: Path, capsys: pytest.CaptureFixture, log: str, reason: str
) -> None:
    folder = sweep / "sweep/3"
    folder.mkdir()
    (folder / "nmfdnn.log").write_text(log, encoding="utf-8", errors="surrogatepass")
    assert len(load_runs([sweep])) == 3
    (error,) = capsys.readouterr().err.splitlines()
    assert "sweep/3" in error
    assert reason in error


def test_a_job_without_a_log_is_named_but_not_every_config_is_a_job(
    sweep: Path, capsys: pytest.CaptureFixture
) -> None:
    for folder in (sweep / "configs", sweep / "sweep/3"):
        folder.mkdir()
        (folder / "config.yaml").touch()
    (sweep / "sweep/multirun.yaml").touch()
    load_runs([sweep])
    (error,) = capsys.readouterr().err.splitlines()
    assert "sweep/3: unfinished" in error


def on_data(sweep: Path) -> Path:
    """Runs on three more data sets, two of which have the same name."""
    for seed in (1, 2):
        make_run(sweep / f"more/m{seed}", [50, 40, 30], data="mnist_5k", layers=[784, 30, 10], seed=seed)
        for name in "ab":
            changes = [f"data.path={name}.npz", "data.validation=0.2"]
            make_run(sweep / f"more/{name}{seed}", [60, 50, 20], data="arrays", seed=seed, overrides=changes)
    return sweep


def test_data_sets_are_told_apart_by_all_that_matters(sweep: Path) -> None:
    on_data(sweep)
    make_run(sweep / "more/c", [60, 50], data="arrays", layers=[65, 30, 10], overrides=["data.path=a.npz"])
    make_run(sweep / "more/d", [60, 50], overrides=["data.train_samples=50", "+data.root=x"])
    groups = group_runs(load_runs([sweep]))
    found = {members[0].data: [group.label for group in members] for members in by_data(groups)}
    assert found == {
        "arrays data.path=a.npz (64 features, 10 classes)": ["nmf"],
        "arrays data.path=b.npz (64 features, 10 classes)": ["nmf"],
        "arrays data.path=a.npz (65 features, 10 classes)": ["nmf"],
        "digits (64 features, 10 classes)": [
            "nmf, 1 epochs, +data.root=x, data.train_samples=50",
            "nmf, 3 epochs",
            "bp, 3 epochs",
        ],
        "mnist_5k (784 features, 10 classes)": ["nmf"],
    }


def test_every_data_set_has_its_panel_its_table_and_its_levels(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    groups = group_runs(load_runs([on_data(sweep)]))
    picture = figure(groups)
    assert [sub.get_suptitle().split(" (")[0] for sub in picture.subfigs] == [
        "arrays data.path=a.npz",
        "arrays data.path=b.npz",
        "mnist_5k",
        "digits",
    ]
    ends = [[axes.lines[0].get_ydata()[-1] for axes in sub.axes] for sub in picture.subfigs]
    assert ends == [[20, 20], [20, 20], [30, 30], [5, 5]]
    assert [len(sub.axes[0].lines) for sub in picture.subfigs] == [1, 1, 1, 2]
    main([str(sweep), "--output", str(tmp_path / "x.png"), "--csv", str(tmp_path / "x.csv")])
    printed = capsys.readouterr().out
    before, digits = printed.split("digits (64 features, 10 classes): quickstart")
    assert [row[3] for row in cells(before, "nmf")[::2]] == ["20.00 ± 0.00", "20.00 ± 0.00", "30.00 ± 0.00"]
    assert cells(digits, "nmf")[0][3] == "5.00 ± 1.41"
    assert "≤ 6 %" in digits
    assert "≤ 6 %" not in before
    rows = list(csv.DictReader((tmp_path / "x.csv").open(newline="", encoding="utf-8")))
    assert [row["data"] for row in rows] == ["arrays", "arrays", "mnist_5k", "digits", "digits"]
    assert [row["overrides"].split(" ")[0] for row in rows[:3]] == ["data.path=a.npz", "data.path=b.npz", ""]
    assert [row["reached_20"] for row in rows] == ["2", "2", "0", "2", "1"]


def test_groups_that_share_no_epoch_are_in_the_table_only(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for seed in (1, 2):
        folder = make_run(tmp_path / str(seed), [30, 20], seed=seed)
        write_metrics(folder, [Record(seed, 5, None, 10, 0.1, 1, 1.0)])
    main([str(tmp_path), "--output", str(tmp_path / "x.png")])
    captured = capsys.readouterr()
    assert "no epoch that all runs have" in captured.err
    assert cells(captured.out, "nmf")[0][0] == "2"


def test_the_picture_is_bounded_in_groups_and_data_sets(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for number in range(60):
        make_run(tmp_path / f"a{number}", [30, number + 1], overrides=[f"nmf.omega={'9' * 99}{number}"])
    for number in range(20):
        make_run(tmp_path / f"b{number}", [30, 9], data=f"set{number}")
    groups = group_runs(load_runs([tmp_path]))
    picture = figure(groups)
    width, height = picture.get_size_inches() * picture.dpi
    assert width * height < 20e6
    assert "the 40 of 60 groups with the lowest test errors" in picture.subfigs[0].get_suptitle()
    assert max(line.get_ydata()[-1] for line in picture.subfigs[0].axes[0].lines) == 40
    main([str(tmp_path), "--output", str(tmp_path / "x.png")])
    assert "set19 (64 features, 10 classes): not in the picture" in capsys.readouterr().err


@pytest.mark.parametrize("pace", [0.0, 5e-324, 1e-9, 1e11])
@pytest.mark.parametrize("errors", [[0, 0], [100, 5e-324], [90, 1e-9, 0], [50, 50, 50]])
def test_extreme_values_are_drawn(tmp_path: Path, pace: float, errors: list[float]) -> None:
    make_run(tmp_path / "a", errors, pace=pace, pretrain_seconds=0.0)
    make_run(tmp_path / "b", errors, method="bp", pretrain_seconds=0.0)
    main([str(tmp_path), "--output", str(tmp_path / "x.png")])
    assert imread(tmp_path / "x.png").shape[1] > 1000


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


def test_every_number_of_the_csv_is_the_one_that_the_files_give(sweep: Path, tmp_path: Path) -> None:
    extra = {"validation_error": 3.25, "warnings": ["chance"], "seed": 3, "peak_memory_mb": 131.0}
    make_run(sweep / "sweep/3", [31, 17, 12, 7], pace=3.5, train_error=2.125, pretrain_seconds=1.5, **extra)
    main(
        [
            str(sweep),
            "--errors",
            "17",
            "8",
            "--output",
            str(tmp_path / "x.png"),
            "--csv",
            str(tmp_path / "x.csv"),
        ]
    )
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    members = [[sweep / "sweep/0", sweep / "sweep/1", sweep / "sweep/3"], [sweep / "sweep/2/bp"]]
    for row, folders in zip(rows, members, strict=True):
        summaries = [json.loads((folder / "summary.json").read_text(encoding="utf-8")) for folder in folders]
        assert row["runs"] == str(len(folders))
        assert row["runs_with_warnings"] == str(sum("warnings" in summary for summary in summaries))
        for key in (
            "train_error",
            "validation_error",
            "test_error",
            "pretrain_seconds",
            "train_seconds",
            "peak_memory_mb",
        ):
            values = [summary[key] for summary in summaries if summary[key] is not None]
            assert row[f"{key}_mean"] == (str(fmean(values)) if values else "")
            assert row[f"{key}_std"] == (str(stdev(values)) if len(values) > 1 else "")
        for error in (17, 8):
            times = []
            for folder, summary in zip(folders, summaries, strict=True):
                with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
                    reached = [
                        float(r["train_seconds"])
                        for r in csv.DictReader(file)
                        if float(r["test_error"]) <= error
                    ]
                times += [summary["pretrain_seconds"] + reached[0]] if reached else []
            assert row[f"reached_{error}"] == str(len(times))
            assert row[f"seconds_to_{error}"] == (str(fmean(times)) if times else "")
    assert [(row["label"], row["method"]) for row in rows] == [("nmf", "nmf"), ("bp", "bp")]
    assert rows[0]["seconds_to_17"] == str(fmean([12, 18, 5]))


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


def test_the_legend_says_what_lines_and_bands_are_where_there_are_bands(sweep: Path) -> None:
    def legend(*folders: Path) -> list[str]:
        (place,) = figure(group_runs(load_runs(folders))).subfigs
        return [text.get_text() for text in place.legends[0].get_texts()]

    assert legend(sweep) == [
        "nmf (n = 2)",
        "bp (n = 1)",
        "line: mean of the runs; band: from their lowest to their highest",
    ]
    assert legend(sweep / "sweep/2") == ["bp (n = 1)"]


def test_a_run_tells_its_settings_and_all_its_errors(tmp_path: Path) -> None:
    make_run(
        tmp_path / "a", [30, 12], overrides=["seed=3", "nmf.omega=0.5", "+nmf.x=a=b", "hydra.verbose=true"]
    )
    (run,) = load_runs([tmp_path])
    assert run.settings == {
        "method": "nmf",
        "experiment": "quickstart",
        "layers": "64-30-10",
        "dtype": "float32",
        "epochs": "1",
        "nmf.omega": "0.5",
        "nmf.x": "a=b",
    }
    assert (run.train_errors, run.validation_errors) == ([15, 6], [None, None])
