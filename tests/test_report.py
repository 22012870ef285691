"""The page of nmfdnn-report: what it says is what the files say, and nothing in a file becomes part of it."""

from __future__ import annotations

import json
import os
import re
import shlex
from base64 import b64decode, b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from runs import TINY, forked
from test_compare import a_device, a_directory, a_loop, an_endless_file, make_run

from nmfdnn.data import Dataset
from nmfdnn.network import Network
from nmfdnn.records import read_metrics, read_summary
from nmfdnn.runs import tracking
from nmfdnn.runs.tracking import EVENTS, Tracker, read_pictures
from nmfdnn.source import Memory
from nmfdnn.targets import Classes
from nmfdnn.views import charts, report
from nmfdnn.views.charts import Series, chart, numeric, ordinal
from nmfdnn.views.report import main

HOSTILE = (
    "</script></title></pre><script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{7*7}}${x}\x00\ud800"
)
VOID = {"meta", "img", "br", "line", "circle", "polyline", "polygon"}


class Page(HTMLParser):
    """The elements of a page, in their order, and its text; fails where an element is not closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.source = path.read_bytes().decode()
        self.feed(self.source)
        self.close()
        assert not self.open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["script"], ["style"]):
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def charts(self) -> list[list[dict]]:
        return [json.loads(svg["data-series"]) for svg in self.all("svg") if "data-series" in svg]


def written(*folders: Path) -> Page:
    """The page of the runs in the folders, beside the first of them."""
    path = folders[0].parent / "page.html"
    main([*map(str, folders), "-o", str(path)])
    return Page(path)


def texts(series: dict) -> list[str]:
    return [point[2] for point in series["points"]]


def add_pictures(folder: Path) -> dict[str, bytes]:
    X = torch.rand(9, 16, generator=torch.Generator().manual_seed(0))
    split = Memory(X, torch.arange(9) % 3)
    data = Dataset("tiny", split, None, split, Classes(("a", "b", HOSTILE)), (4, 4))
    with Tracker(folder) as tracker:
        net = Network([torch.ones(16, 3)], False)
        tracker.end(net, data, net.outputs(X), 1, {}, {})
    return read_pictures(folder)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "sweep"
    make_run(folder / "0", [30, 12, 4], seed=1, overrides=["seed=1", "nmf.omega=0.5"], validation_error=5.0)
    make_run(folder / "1", [30, 20, 6], seed=2, overrides=["seed=2", "nmf.omega=0.5"], validation_error=6.0)
    make_run(folder / "2", [30, 15, 3], seed=1, overrides=["seed=1", "nmf.omega=1"], validation_error=9.0)
    return folder


def test_the_page_needs_nothing_else_and_lets_nothing_else_run(sweep: Path) -> None:
    add_pictures(sweep / "0")
    page = written(sweep)
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "base", "form", "use", "audio", "video", "embed")
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,"))
    assert "http" not in re.sub('http-equiv="[^"]*"', "", page.source)
    assert "url(" not in page.source
    assert "@import" not in page.source
    (policy,) = (meta["content"] for meta in page.all("meta") if meta.get("http-equiv"))
    (script,) = re.findall("<script>(.*?)</script>", page.source, re.DOTALL)
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )


def test_the_result_comes_first_and_was_not_chosen_by_test_errors(sweep: Path) -> None:
    text = written(sweep).text
    # The third run has the lowest test error, the first two the lowest validation error.
    assert text.index("5.00 ± 1.41 % test error") < text.index("runs train %")
    assert "digits: nmf, nmf.omega=0.5, 2 runs, validation error 5.50 %" in text
    assert "the lowest validation error of 2 settings" in text
    assert text.index("nmf, nmf.omega=0.5 2 2.50 ± 0.71") < text.index("nmf, nmf.omega=1 1 1.50 ± -")


def test_a_choice_by_test_errors_is_called_flattering(tmp_path: Path) -> None:
    make_run(tmp_path / "a/0", [30, 4])
    make_run(tmp_path / "a/1", [30, 3], method="bp")
    text = written(tmp_path / "a").text
    assert "3.00 % test error digits: bp, seed 1" in text
    assert "the lowest test error of 2 settings, which flatters it" in text


def test_a_run_alone_has_its_result_its_curves_and_no_tables_of_groups(tmp_path: Path) -> None:
    page = written(make_run(tmp_path / "run", [30, 12, 6], validation_error=4.0))
    assert (
        "6.00 % test error digits: nmf, seed 1, validation error 4.00 %, training error 3.00 %, 14 s"
        in page.text
    )
    assert "Settings against result" not in page.text
    by_epoch, by_time = page.charts()
    assert [one["name"] for one in by_epoch] == ["test", "training"]
    assert texts(by_epoch[0]) == ["30.00 %", "12.00 %", "6.00 %"]
    assert texts(by_epoch[1]) == ["15.00 %", "6.00 %", "3.00 %"]
    assert [point[3] for point in by_epoch[0]["points"]] == ["epoch 0", "epoch 1", "epoch 2"]
    assert texts(by_time[0]) == ["30.00 %, 10 s, epoch 0", "12.00 %, 12 s, epoch 1", "6.00 %, 14 s, epoch 2"]


def test_curves_of_a_sweep_are_means_with_their_ends(sweep: Path) -> None:
    by_epoch, by_time, *_ = written(sweep).charts()
    assert [one["name"] for one in by_epoch] == ["nmf, nmf.omega=0.5", "nmf, nmf.omega=1"]
    assert texts(by_epoch[0])[1:] == ["16.00 % (12.00 – 20.00)", "5.00 % (4.00 – 6.00)"]
    assert texts(by_epoch[1]) == ["30.00 %", "15.00 %", "3.00 %"]
    assert texts(by_time[1])[2] == "3.00 %, 14 s, epoch 2"
    assert len({point[0] for point in by_epoch[0]["points"]}) == 3


def test_settings_are_shown_against_results(sweep: Path) -> None:
    make_run(sweep / "3", [30, 9], seed=1, overrides=["nmf.omega=2e-1"], validation_error=9.0, epochs=2)
    page = written(sweep)
    (settings,) = (one for one in page.charts() if one[0]["name"] == "test" and len(one) == 4)
    runs, means = settings[0], settings[1]
    assert [point[3] for point in means["points"]] == ["nmf.omega = 2e-1", "nmf.omega = 0.5", "nmf.omega = 1"]
    assert texts(means) == ["9.00 %", "5.00 %", "3.00 %"]
    assert sorted(texts(runs)) == ["3.00 %, seed 1", "4.00 %, seed 1", "6.00 %, seed 2", "9.00 %, seed 1"]
    by_text = {point[2]: point[0] for point in runs["points"]}
    assert by_text["9.00 %, seed 1"] < by_text["4.00 %, seed 1"] == by_text["6.00 %, seed 2"]
    assert "Error against seed" not in page.text


def test_methods_are_not_joined_by_a_line(tmp_path: Path) -> None:
    for number, method in enumerate(("nmf", "bp")):
        make_run(tmp_path / f"a/{number}", [30, 4 + number], method=method)
    page = written(tmp_path / "a")
    svg = next(part for part in page.source.split("<figure>") if "Error against method" in part)
    assert svg.count("ring s0") == 2
    assert "<polyline" not in svg


def test_the_pictures_are_those_of_the_events(sweep: Path) -> None:
    pictures = add_pictures(sweep / "0")
    page = written(sweep)
    images = page.all("img")
    shown = {b64decode(image["src"].partition(",")[2]) for image in images}
    assert shown == set(pictures.values())
    assert len(images) == 3
    assert all(len(image["alt"]) > 20 for image in images)
    assert "Confusion matrix" in page.text
    assert "Misclassified test samples" in page.text
    assert page.text.count("There are no pictures, for its events hold none.") == 2


def test_the_command_repeats_the_run(tmp_path: Path) -> None:
    path = tmp_path / "it's $(here) my.csv"
    rows = [f"{i % 7},{i % 5},{i % 3}" for i in range(60)]
    path.write_text("\n".join(["a,b,y", *rows]))
    asked = [
        "data=arrays",
        f"data.path='{str(path).replace(chr(39), chr(92) + chr(39))}'",
        "seed=3",
        "epochs=1",
    ]
    asked += [*(o for o in TINY if not o.startswith("data")), "nmf.batch_size=20"]
    status, printed = forked(*asked, f"hydra.run.dir={tmp_path / 'first'}", cwd=tmp_path)
    assert status == 0, printed
    page = written(tmp_path / "first")
    (found,) = re.findall("<h3>Repeat it</h3>\n<pre>(.*?)</pre>", page.source, re.DOTALL)
    line = next(word for word in page.words if word.startswith("nmfdnn "))
    program, *arguments = shlex.split(line)
    assert program == "nmfdnn"
    assert found
    status, printed = forked(*arguments, f"hydra.run.dir={tmp_path / 'second'}", cwd=tmp_path)
    assert status == 0, printed
    first, second = (
        [row["objective"] for row in read_metrics(tmp_path / name)] for name in ("first", "second")
    )
    assert first == second
    assert read_summary(tmp_path / "first")["seed"] == 3


def test_no_command_is_made_up(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [30, 4])
    assert "no command is known" in written(run).text  # a run from Python leaves no config.yaml
    (run / "config.yaml").write_text("method: nmf\n")
    page = written(run)
    assert "no command is known" not in page.text
    assert "method: nmf" in page.text


def test_warnings_and_what_failed_are_seen(sweep: Path) -> None:
    make_run(
        sweep / "3", [30, 1], seed=3, overrides=["seed=3", "nmf.omega=0.5"], warnings=["hardly above chance"]
    )
    log = make_run(sweep / "4", [30, 1], finished=False) / "nmfdnn.log"
    log.write_text("2026-01-01 10:00:00,000 ERROR W is not finite: lower nmf.omega\n")
    (make_run(sweep / "5", [30, 1]) / "summary.json").write_text("{")
    text = written(sweep).text
    assert "3: hardly above chance" in text[: text.index("runs train %")] or "hardly above chance" in text
    assert "2 jobs are not among the results" in text[: text.index("runs train %")]
    assert "failed: W is not finite: lower nmf.omega" in text
    assert f"{sweep / '5'} damaged or incomplete" in text


def test_failed_jobs_alone_are_a_page_too(tmp_path: Path) -> None:
    make_run(tmp_path / "a/0", [30, 1], finished=False)
    text = written(tmp_path / "a").text
    assert "no finished run" in text
    assert "1 job is not among the results" in text


@pytest.mark.parametrize("where", ["summary", "override", "warning", "files", "tag", "folder"])
def test_no_text_of_any_file_becomes_markup(tmp_path: Path, where: str, monkeypatch) -> None:
    clean, hostile = tmp_path / "clean", tmp_path / "hostile"
    for folder in (clean, hostile):
        text = HOSTILE if folder is hostile else "plain"
        changes: dict = {}
        if where == "summary":
            keys = ("method", "experiment", "data", "dtype", "device", "git_commit", "threads", "another")
            changes = {**dict.fromkeys(keys, text), "versions": {"nmfdnn": text}, text: text}
        if where == "override":
            changes = {"overrides": [f"nmf.omega={text}", f"{text}=1", text]}
        if where == "warning":
            changes = {"warnings": [text, {text: text}]}
        name = "a" + (text.translate({0: None, 0xD800: None, ord("/"): "_"}) if where == "folder" else "")
        run = make_run(folder / name, [30, 4], **changes)
        make_run(folder / "other", [30, 5], seed=2)
        failed = make_run(folder / f"{name}_failed", [30, 4], finished=False)
        (run / "config.yaml").write_bytes(text.encode("utf-8", "replace") if where == "files" else b"plain")
        message = text if where == "files" else "plain"
        (failed / "nmfdnn.log").write_bytes(
            f"2026-01-01 10:00:00,000 ERROR {message}\n".encode("utf-8", "surrogatepass")
        )
        add_pictures(run)
    pages = []
    (picture, *_) = read_pictures(run).values()
    for text, folder in (("plain", clean), (HOSTILE, hostile)):
        if where == "tag":
            monkeypatch.setattr(tracking, "read_pictures", lambda _, text=text: {text: picture})
        pages.append(written(folder))
    plain, page = pages
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert [sorted(attributes) for _, attributes in page.elements] == [
        sorted(attributes) for _, attributes in plain.elements
    ]
    assert page.source.count("&lt;") > plain.source.count("&lt;")
    assert "49" not in [word.strip() for word in page.words]
    assert "\x00" not in page.source


def test_long_texts_are_cut(sweep: Path) -> None:
    endless = "x" * 20_000
    make_run(sweep / "3", [30, 9], method=endless, experiment=endless, data=endless, device=endless)
    make_run(sweep / "4", [30, 9], method=endless, experiment=endless, overrides=[f"{endless}={endless}"])
    words = [word for word in written(sweep).words if "x" * 50 in word]
    assert len(words) > 9
    assert [word for word in words if len(word) > 2000] == []


@pytest.mark.parametrize("name", [EVENTS, "config.yaml"])
@pytest.mark.parametrize("make", [a_directory, os.mkfifo, a_loop, a_device, an_endless_file])
def test_what_is_no_file_holds_no_page_up(tmp_path: Path, name: str, make) -> None:
    run = make_run(tmp_path / "run", [30, 4])
    (run / name).parent.mkdir(exist_ok=True)
    make(run / name)
    text = written(run).text
    assert "4.00 % test error" in text
    assert ("There are no pictures" if name == EVENTS else "Its configuration is left out") in text


@pytest.mark.parametrize("content", [b"", b"\xff" * 300, b"<script>alert(1)</script>", bytes(range(256)) * 9])
def test_any_content_of_a_file_makes_a_page(tmp_path: Path, content: bytes) -> None:
    run = make_run(tmp_path / "run", [30, 4])
    for name in (EVENTS, "config.yaml", "nmfdnn.log", "overrides.yaml"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_bytes(content)
    page = written(run)
    assert "4.00 % test error" in page.text
    assert len(page.all("script")) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no picture", "is damaged"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "is damaged"),
        (b"", "is damaged"),
        (None, "is damaged"),
        (b"\x89PNG\r\n\x1a\n" * 2**20, "is too large"),
    ],
)
def test_a_picture_that_is_none_is_named_and_left_out(
    tmp_path: Path, monkeypatch, content: bytes | None, reason: str
) -> None:
    run = make_run(tmp_path / "run", [30, 4])
    whole = next(iter(add_pictures(run).values()))
    found = {"images/odd": whole[:-40] if content is None else content, "images/good": whole}
    monkeypatch.setattr(tracking, "read_pictures", lambda _: found)
    page = written(run)
    assert len(page.all("img")) == 1
    assert f"The picture images/odd is left out: it {reason}" in page.text


def test_a_picture_of_very_many_pixels_is_left_out(tmp_path: Path, monkeypatch) -> None:
    run = make_run(tmp_path / "run", [30, 4])
    Figure(figsize=(50, 1), dpi=100).savefig(tmp_path / "wide.png")
    monkeypatch.setattr(tracking, "read_pictures", lambda _: {"wide": (tmp_path / "wide.png").read_bytes()})
    assert "The picture wide is left out: it has 5000 × 100 pixels" in written(run).text


def test_what_there_is_no_room_for_is_named(sweep: Path, monkeypatch) -> None:
    for name in "012":
        add_pictures(sweep / name)
    sizes = [len(data) for data in read_pictures(sweep / "0").values()]
    monkeypatch.setattr(report, "PICTURES", sum(sizes) + 1)
    monkeypatch.setattr(report, "CURVES", 1)
    monkeypatch.setattr(report, "RUNS", 2)
    page = written(sweep)
    assert len(page.all("img")) == 3  # all of the best run
    assert "pictures of 1 runs are left out" in page.text
    assert "More pictures are left out, for there was no room." in page.text
    assert "1 runs are in the tables, but not shown one by one" in page.text
    assert "nmf, nmf.omega=1 1 1.50 ± -" in page.text
    assert "the curves are those of the best 1 of 2 settings" in page.text
    assert [one["name"] for one in page.charts()[0]] == ["nmf, nmf.omega=0.5"]
    assert len(page.all("details")) == 2 * 2  # a run, and its records


def test_very_long_runs_are_thinned_and_say_so(tmp_path: Path) -> None:
    page = written(make_run(tmp_path / "run", [50 - i / 100 for i in range(3001)]))
    (test, _), _ = page.charts()
    assert len(test["points"]) == charts.POINTS
    assert (texts(test)[0], texts(test)[-1]) == ("50.00 %", "20.00 %")
    assert "… 2801 more" in page.text
    assert len(page.source) < 500_000


@pytest.mark.parametrize("errors", [[0.0], [0.0, 0.0], [7.0, 7.0], [1e-9, 1e-12], [100, 0], [5e-324, 100]])
@pytest.mark.parametrize("pace", [0.0, 5e-324, 1e-9, 1e11])
def test_extreme_values_are_drawn(tmp_path: Path, errors: list[float], pace: float) -> None:
    make_run(tmp_path / "a/0", errors, pace=pace, pretrain_seconds=0.0, validation_error=0.0)
    make_run(tmp_path / "a/1", errors, method="bp", pretrain_seconds=0.0, validation_error=100.0)
    page = written(tmp_path / "a")
    for series in page.charts():
        for one in series:
            for x, y, _, _ in one["points"]:
                assert 0 <= x <= charts.WIDTH
                assert y == y
    assert "nan" not in "".join(str(attributes) for _, attributes in page.elements).lower().replace(
        "nano", ""
    )


def test_all_that_is_seen_has_words(sweep: Path) -> None:
    add_pictures(sweep / "0")
    page = written(sweep)
    for svg in page.all("svg"):
        if "viewbox" in svg:  # not one inside another
            assert svg.get("aria-hidden") == "true" or "rror against" in svg["aria-label"]
    assert page.all("html") == [{"lang": "en"}]
    assert all(th.get("scope") in ("col", "row") for th in page.all("th"))
    assert "width=device-width" in str(page.all("meta"))


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_texts_and_lines_stand_out_in_light_and_dark() -> None:
    """The contrasts that WCAG 2 asks for: 4.5 for texts, 3 for what else has to be seen."""
    style = (Path(report.__file__).parent / "report.css").read_text(encoding="utf-8")
    light, dark, *_ = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    assert style.index("prefers-color-scheme: dark") < style.index(dark)
    for block in (light, dark):
        colours = dict(re.findall(r"--(\w+): (#\w{6})", block))
        for text in ("ink", "soft"):
            assert min(contrast(colours[text], colours[under]) for under in ("page", "panel")) >= 4.5
        assert contrast(colours["warn"], colours["warned"]) >= 4.5
        for number in range(8):
            assert contrast(colours[f"c{number}"], colours["page"]) >= 3
    assert contrast(*(dict(re.findall(r"--(page): (#\w{6})", block))["page"] for block in (light, dark))) > 10


def test_every_style_of_a_line_is_in_the_style_sheet_and_differs() -> None:
    style = (Path(report.__file__).parent / "report.css").read_text(encoding="utf-8")
    looks: dict[int, list[str]] = {number: [] for number in range(charts.STYLES)}
    for names, rule in re.findall(r"((?:\.s\d+(?:, )?)+) \{(.*?)\}", style):
        for number in re.findall(r"\d+", names):
            looks[int(number)].append(rule.strip())
    assert len(looks) == len({tuple(look) for look in looks.values()}) == charts.STYLES


def test_an_axis_has_round_labels_within_it() -> None:
    assert [text for _, text in numeric("x", [0, 10], from_zero=True).ticks] == [
        "0",
        "2",
        "4",
        "6",
        "8",
        "10",
    ]
    log = numeric("x", [1.3, 48])
    assert log.log
    assert [text for _, text in log.ticks] == ["2", "5", "10", "20", "50"]
    assert log.place(1.3) == pytest.approx(0, abs=0.05)
    assert log.place(8) == pytest.approx(0.5, abs=0.05)
    assert log.place(0) == 0
    names = ordinal("x", [f"n{i}" for i in range(20)])
    assert [text for _, text in names.ticks] == ["n0", "n3", "n6", "n9", "n12", "n15", "n18"]
    for values in ([3.0], [0.0], [1e-12, 1e11], [2.0, 2.0000001]):
        axis = numeric("x", values)
        assert all(0 <= axis.place(value) <= 1 for value in (*values, *(at for at, _ in axis.ticks)))


def test_a_chart_cuts_off_what_its_axis_has_no_room_for() -> None:
    axis = numeric("y", [1, 2])
    drawn = chart("words", numeric("x", [0, 1]), axis, [Series("a", 0, [(0, 90), (1, 1)], ["far", "near"])])
    (points,) = re.findall('polyline points="([^"]*)"', drawn)
    assert float(points.split()[0].split(",")[1]) < 0
    assert drawn.index("<svg x=") < drawn.index("<polyline")  # which clips


def test_where_there_is_no_run_it_says_so(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path), "-o", str(tmp_path / "page.html")])
    assert end.value.code == 2
    assert "no run" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_a_folder_that_is_not_there_costs_no_page(sweep: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "page.html").write_text("of before")
    with pytest.raises(SystemExit) as end:
        main([str(sweep), str(tmp_path / "swep"), "-o", str(tmp_path / "page.html")])
    assert end.value.code == 2
    assert "there is no" in (said := capsys.readouterr().err)
    assert "swep" in said
    assert (tmp_path / "page.html").read_text() == "of before"


def test_a_page_that_cannot_be_written_is_explained_and_the_old_one_stays(sweep: Path, capsys) -> None:
    (sweep.parent / "file").write_text("old")
    with pytest.raises(SystemExit) as end:
        main([str(sweep), "-o", str(sweep.parent / "file" / "page.html")])
    assert end.value.code == 2
    assert "cannot write" in capsys.readouterr().err
    assert (sweep.parent / "file").read_text() == "old"
