"""`nmfdnn-report DIR…`: a run or a sweep as one HTML file that needs nothing else, no network either.

`compare` finds, checks and groups the runs. Jinja2 escapes every text; should one get through all the same,
the page's own content security policy lets nothing run but its own script, and nothing be loaded.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from .. import files
from ..records import PARTS, Measure, command
from ..text import one_line, print_anything
from ..version import __version__
from .charts import Axis, Series, chart, numeric, ordinal
from .compare import (
    CONFIG,
    ERRORS,
    SUMMARY,
    Group,
    LeftOut,
    Run,
    by_data,
    choose_errors,
    describe,
    doubts,
    find_runs,
    group_runs,
    mean,
    require_file,
    results,
    shown,
    spread,
    times,
)

CURVES = 24  # groups in a chart
RUNS = 100  # runs that are shown one by one
SETTINGS = 8  # charts of settings of a data set
RECORDS = 200  # rows in a run's table
NAME = 120  # characters of a name, of whatever
TEXT = 2**16  # characters of a configuration
PICTURES = 2**24  # bytes of all pictures together
PICTURE, SIDE = 2**22, 4096  # bytes and pixels of one
PER_RUN = 12  # pictures of a run

TITLES = {
    "images/misclassified": "Misclassified test samples",
    "images/confusion_matrix": "Confusion matrix",
    "images/predictions": "Predictions",
    "images/farthest": "Worst predictions",
    "images/first_layer_weights": "First-layer weights",
    "images/nmf_parts": "First-layer parts",
    "images/reconstructions": "Reconstructions",
}


@dataclass
class Charts:
    """Charts side by side, and the names of their lines with the styles of these."""

    charts: list[dict[str, str]] = field(default_factory=list)
    legend: list[tuple[str, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Curve:
    """Errors after epochs and seconds, a text for each; means have a band, from lowest to highest."""

    name: str
    epochs: Sequence[float]
    seconds: Sequence[float]
    errors: Sequence[float]
    texts: Sequence[str]
    band: Sequence[tuple[float, float]] = ()


def page(runs: Sequence[Run], left: Sequence[LeftOut]) -> str:
    """The report of these runs, and of what was left out.

    Args:
        runs: of `find_runs`.
        left: the same.
    """
    groups = group_runs(runs)
    notes = doubts(groups)
    room = _Room(notes)
    sets = [_data_set(members, room, alone=len(runs) == 1) for members in by_data(groups)]
    room.close()
    names = list(dict.fromkeys(one_line(run.summary["data"], NAME) for run in runs))
    what = ", ".join(names[:3]) + (" …" if len(names) > 3 else "") or "no finished run"
    count = f"{len(runs)} runs" if len(runs) != 1 else f"a run of {one_line(runs[0].summary['method'], NAME)}"
    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, finalize=_finalize
    )
    script = (here / "report.js").read_text(encoding="utf-8")
    return environment.get_template("report.html").render(
        title=f"{what}: {count}" if runs else what,
        sets=sets,
        left=[(str(out.folder), out.reason) for out in left],
        notes=notes,
        version=__version__,
        style=Markup((here / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        digest=b64encode(sha256(script.encode()).digest()).decode(),
    )


def _finalize(value: object) -> object:
    """A text as one that every browser shows: unprintable characters as their escapes."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return "\n".join(one_line(line) if not line.isprintable() else line for line in value.split("\n"))


class _Room:
    """What is left of the space for pictures and runs; what finds none is named in the notes at the end."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes
        self.bytes, self.runs = PICTURES, RUNS
        self.without, self.unseen = 0, 0

    def pictures(self, run: Run, missing: list[str]) -> list[dict[str, Any]]:
        """The pictures of a run; `missing` gets to know what is not among them."""
        from ..runs.tracking import DESCRIPTIONS

        found = []
        for tag, data in _pictures(run, missing):
            image = _image(data)
            if isinstance(image, str):
                missing.append(f"The picture {one_line(tag, 60)} is left out: {image}.")
                continue
            if len(data) > self.bytes:
                missing.append("More pictures are left out, for there was no room.")
                self.without += 1
                break
            self.bytes -= len(data)
            title = TITLES.get(tag, one_line(tag, 60))
            about = DESCRIPTIONS.get(tag, "")
            found.append(
                {
                    "data": b64encode(data).decode(),
                    "width": image[0],
                    "height": image[1],
                    "alt": f"{title} of {run.folder.name}" + (f": {about}" if about else ""),
                    "caption": f"{title}: {about}" if about else title,
                }
            )
        return found

    def close(self) -> None:
        """Name what found no room."""
        remedy = "a report of its folder alone has them: nmfdnn-report FOLDER"
        if self.without:
            self.notes.append(
                f"pictures of {self.without} runs are left out, for this file has room for "
                f"{PICTURES // 2**20} MB; {remedy}"
            )
        if self.unseen:
            self.notes.append(
                f"{self.unseen} runs are in the tables, but not shown one by one, for this file has room for "
                f"{RUNS}; {remedy}"
            )


def _pictures(run: Run, missing: list[str]) -> list[tuple[str, bytes]]:
    """Tags and contents of a run's pictures, first those that every run has."""
    from ..runs.tracking import read_pictures  # with it come PyTorch and TensorBoard

    try:
        found = read_pictures(run.folder)
    except (OSError, ValueError) as error:
        missing.append(f"There are no pictures, for its events cannot be read: {error}.")
        return []
    if not found:
        missing.append("There are no pictures, for its events hold none.")
    order = [*(tag for tag in TITLES if tag in found), *(tag for tag in found if tag not in TITLES)]
    if len(order) > PER_RUN:
        missing.append(f"Of its {len(order)} pictures the first {PER_RUN} are here.")
    return [(tag, found[tag]) for tag in order[:PER_RUN]]


def _image(data: bytes) -> tuple[int, int] | str:
    """Width and height of a PNG, or why it is not shown."""
    if len(data) > PICTURE:
        return "it is too large"
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            width, height = image.size
            if max(width, height) > SIDE:
                return f"it has {width} × {height} pixels"
            image.verify()
    except Exception as error:  # anything may be in there
        return f"it is damaged: {one_line(str(error), 80)}"
    return width, height


def _data_set(members: Sequence[Group], room: _Room, alone: bool) -> dict[str, Any]:
    """What the page says of the groups on one data set; `alone` if there is but one run in all."""
    ranked, order = _ranked(members)
    runs = [run for group in ranked for run in group.runs]
    shown_runs = runs[: room.runs]
    room.runs -= len(shown_runs)
    room.unseen += len(runs) - len(shown_runs)
    rows, footnotes = results(ranked)
    best = ranked[0]
    measure = best.measure
    errors = best.values("test_error")
    result = spread(errors, measure) if len(best.runs) > 1 else measure.number(errors[0])
    warned = [f"{run.folder.name}: {text}" for run in best.runs for text in run.warnings]
    return {
        "name": one_line(describe(members), 2 * NAME),
        "sweep": not alone,
        "headline": f"{result}{measure.unit} test {measure.title}",
        "measure": measure,
        "explanation": _explanation(best, len(ranked), order),
        "warnings": [] if alone else warned,
        "order": order and f", in the order of their {order}",
        "results": _named(rows),
        "footnotes": footnotes,
        "times": _named(times(ranked, choose_errors(ranked))),
        "curves": _of_groups(ranked, room.notes),
        "settings": _of_settings(runs, room.notes),
        "runs": [_run(run, room) for run in shown_runs],
    }


def _named(rows: list[list[str]]) -> list[list[str]]:
    return [[one_line(name, NAME), *cells] for name, *cells in rows]


def _ranked(members: Sequence[Group]) -> tuple[list[Group], str]:
    """The groups, the best first, and what that was judged by."""
    for part in ("validation", "test"):
        key = f"{part}_error"
        if all(len(group.values(key)) == len(group.runs) for group in members):
            ranked = sorted(members, key=lambda group: mean(group.values(key)))
            return ranked, f"{part} {members[0].measure.title}"
    return list(members), ""


def _explanation(best: Group, of: int, order: str) -> str:
    runs, measure = best.runs, best.measure
    validation = best.values("validation_error")
    label = best.label if of > 1 else runs[0].summary["method"]
    texts = [f"{one_line(runs[0].summary['data'], NAME)}: {one_line(label, NAME)}"]
    texts.append(f"{len(runs)} runs" if len(runs) > 1 else f"seed {runs[0].summary['seed']}")
    if validation:
        texts.append(f"validation {measure.title} {measure.text(mean(validation))}")
    texts.append(f"training {measure.title} {measure.text(mean(best.values('train_error')))}")
    texts.append(f"{mean([run.seconds[-1] for run in runs]):.3g} s")
    text = ", ".join(texts)
    if of > 1 and order:
        text += f"; the lowest {order} of {of} settings"
        if order.startswith("test"):
            text += ", which flatters it: there is no validation part to choose by"
    return text


def _of_groups(groups: Sequence[Group], notes: list[str]) -> Charts:
    """Test errors of groups, against epochs and seconds."""
    drawn = [group for group in groups if group.curve()[0]]
    if len(drawn) > CURVES:
        notes.append(f"{drawn[0].data}: the curves are those of the best {CURVES} of {len(drawn)} settings")
        drawn = drawn[:CURVES]
    if not drawn:
        return Charts()
    curves, measure = [], drawn[0].measure
    for group in drawn:
        epochs, seconds, errors = group.curve()
        middle = [mean(values) for values in errors]
        band = [(min(values), max(values)) for values in errors] if len(group.runs) > 1 else []
        texts = [measure.text(value) for value in middle]
        if band:
            texts = [
                f"{text} ({measure.number(low)} – {measure.number(high)})"
                for text, (low, high) in zip(texts, band, strict=True)
            ]
        curves.append(Curve(one_line(group.label, NAME), epochs, seconds, middle, texts, band))
    y = numeric(f"test {measure.axis}", shown([run.test_errors for group in drawn for run in group.runs]))
    bands = any(curve.band for curve in curves)
    of = ": mean of the runs; the band goes from their lowest to their highest" if bands else ""
    return _pair(f"Test {measure.title}", of, y, curves, measure)


def _of_run(run: Run) -> Charts:
    """Errors of one run, against epochs and seconds."""
    curves = []
    errors: dict[str, Sequence[float | None]] = {
        "test": run.test_errors,
        "validation": run.validation_errors,
        "training": run.train_errors,
    }
    for name, values in errors.items():
        rows = [row for row in zip(run.epochs, run.seconds, values, strict=True) if row[2] is not None]
        if rows:
            epochs, seconds, known = zip(*rows, strict=True)
            curves.append(Curve(name, epochs, seconds, known, [run.measure.text(value) for value in known]))
    y = numeric(run.measure.axis, shown([curve.errors for curve in curves]))
    return _pair(_capital(run.measure.title), "", y, curves, run.measure)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _pair(what: str, of: str, y: Axis, curves: Sequence[Curve], measure: Measure) -> Charts:
    """The curves against epochs and against seconds."""
    ends = "; ".join(
        f"{one.name}: from {measure.number(one.errors[0])} to {measure.text(one.errors[-1])} after epoch "
        f"{one.epochs[-1]:g}"
        for one in curves
    )
    charts = Charts(legend=[(curve.name, style) for style, curve in enumerate(curves)])
    every, lasts = [s for one in curves for s in one.seconds], [one.seconds[-1] for one in curves]
    spread_out = 0 < 4 * min(lasts) < max(lasts)  # then the slowest would press all others together
    seconds = numeric(
        "seconds of pre-training and training",
        [s for s in every if s > 0] if spread_out else every,
        from_zero=not spread_out,
    )
    epochs = numeric("epoch", [epoch for one in curves for epoch in one.epochs], from_zero=True)
    for name, x in (("epochs", epochs), ("seconds", seconds)):
        series = []
        for style, one in enumerate(curves):
            across = one.epochs if name == "epochs" else one.seconds
            heads = [f"epoch {epoch:g}" for epoch in one.epochs]
            texts = one.texts
            if name == "seconds":
                rows = zip(one.texts, one.seconds, heads, strict=True)
                texts, heads = [f"{text}, {second:.3g} s, {head}" for text, second, head in rows], []
            points = list(zip(across, one.errors, strict=True))
            series.append(Series(one.name, style, points, texts, heads, one.band))
        caption = f"{what} against {name}{of}"
        svg = chart(one_line(f"{caption}. {ends}", 2000), x, y, series)
        charts.charts.append({"svg": Markup(svg), "caption": caption})
    return charts


def _of_settings(runs: Sequence[Run], notes: list[str]) -> Charts:
    """Errors of the runs against each setting of which they have more than one value."""
    settings = [run.settings for run in runs]
    keys = [
        key
        for key in dict.fromkeys(key for one in settings for key in one)
        if len({one.get(key) for one in settings}) > 1
    ]
    if len(keys) > SETTINGS:
        notes.append(f"{runs[0].data}: of {len(keys)} settings that vary, {SETTINGS} have a chart")
    charts = Charts()
    validated = all(run.summary["validation_error"] is not None for run in runs)
    kinds = [("test", 0), ("validation", 1)] if validated else [("test", 0)]
    measure = runs[0].measure
    y = numeric(measure.axis, [run.summary[f"{kind}_error"] for kind, _ in kinds for run in runs])
    for key in keys[:SETTINGS]:
        values = [one_line(one.get(key, "as in the recipe"), 40) for one in settings]
        names = sorted(set(values), key=_number)
        series = []
        for kind, style in kinds:
            errors = [float(run.summary[f"{kind}_error"]) for run in runs]
            points = [(names.index(value), error) for value, error in zip(values, errors, strict=True)]
            texts = [
                f"{measure.text(error)}, seed {run.summary['seed']}"
                for error, run in zip(errors, runs, strict=True)
            ]
            heads = [f"{key} = {value}" for value in values]
            series.append(Series(kind, style, points, texts, heads, line=False))
            means = [mean([error for at, error in points if at == i]) for i in range(len(names))]
            texts, heads = [measure.text(error) for error in means], [f"{key} = {name}" for name in names]
            # A line between methods would say that there is something in between.
            joined = all(_number(name)[0] < math.inf for name in names)
            middles = list(enumerate(means))
            series.append(Series(f"{kind}, mean", style, middles, texts, heads, line=joined, rings=True))
        what = f"{_capital(measure.title)} against {one_line(key, 60)}"
        caption = f"{what}: a dot for each run, rings for their means"
        ends = "; ".join(
            f"{name}: {measure.text(y)}" for name, (_, y) in zip(names, series[1].points, strict=True)
        )
        axis = ordinal(one_line(key, 60), [one_line(name, 14) for name in names])
        svg = chart(one_line(f"{caption}. Mean test {measure.title}: {ends}", 2000), axis, y, series)
        charts.charts.append({"svg": Markup(svg), "caption": caption})
    charts.legend = kinds if keys else []
    return charts


def _number(text: str) -> tuple[float, str]:
    """To sort by: numbers in their order, then all else."""
    try:
        value = float(text)
    except ValueError:
        return math.inf, text
    return (value if math.isfinite(value) else math.inf), text


def _run(run: Run, room: _Room) -> dict[str, Any]:
    """What the page says of one run."""
    summary = run.summary
    errors = [
        f"{name} {run.measure.text(summary[key])}"
        for name, key in zip(("training", "validation", "test"), ERRORS, strict=True)
        if summary[key] is not None
    ]
    missing: list[str] = []
    aliases = {key for key in ERRORS if not key.endswith(f"_{run.measure.name}")}
    return {
        "name": one_line(run.folder.name or str(run.folder), NAME),
        "errors": ", ".join(reversed(errors)),
        "warnings": run.warnings,
        "curves": _of_run(run),
        "command": _command(run),
        "made": _made(summary),
        "pictures": room.pictures(run, missing),
        "facts": [
            (name.replace("_", " "), one_line(_fact(value), 300))
            for name, value in (("folder", str(run.folder)), *summary.items())
            if name not in ("warnings", "overrides", "versions", "last", "measure", *aliases)
        ],
        "records": _records(run),
        "config": _config(run.folder, missing),
        "missing": missing,
    }


def _command(run: Run) -> str | None:
    """What repeats the run; None where nothing says that it was started on the command line."""
    overrides = run.summary.get("overrides")
    if overrides is None or not (run.folder / CONFIG).is_file():
        return None
    return command(overrides)


def _made(summary: dict[str, Any]) -> str:
    versions = summary.get("versions")
    version = versions.get("nmfdnn") if isinstance(versions, dict) else None
    parts = [f"in nmfdnn {version}" if version else "in a version that is not known"]
    if summary.get("git_commit"):
        parts.append(f"at commit {summary['git_commit']}")
    parts.append(f"on {summary.get('device', 'a device that is not known')}")
    if summary.get("threads"):
        parts.append(f"threads: {summary['threads']}")
    return one_line(", ".join(parts), 300)


def _fact(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "-".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_fact(part)}" for key, part in value.items())
    return "–" if value is None else str(value)


def _records(run: Run) -> list[list[str]]:
    measure = run.measure
    rows = [["epoch", *(f"{part} {measure.symbol}" for part in PARTS), "seconds"]]
    n = len(run.epochs)
    for i in [*range(min(n, RECORDS))[: RECORDS - 1], n - 1] if n > RECORDS else range(n):
        errors = (run.train_errors[i], run.validation_errors[i], run.test_errors[i])
        cells = ["–" if error is None else measure.number(error) for error in errors]
        rows.append([f"{run.epochs[i]:g}", *cells, f"{run.seconds[i]:.4g}"])
    if n > RECORDS:
        rows.insert(-1, [f"… {n - RECORDS} more", "", "", "", ""])
    return rows


def _config(folder: Path, missing: list[str]) -> str:
    """The run's configuration as it lies there."""
    try:
        require_file(folder / CONFIG)
        with (folder / CONFIG).open(encoding="utf-8", errors="backslashreplace") as file:
            text = file.read(TEXT + 1)
    except (OSError, ValueError) as error:
        missing.append(f"Its configuration is left out: {error}.")
        return ""
    return text if len(text) <= TEXT else f"{text[:TEXT]}\n… (the rest is left out)"


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="nmfdnn-report",
        description="Write the runs below the given folders as one HTML file that needs nothing else.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folder with runs, at any depth")
    parser.add_argument(
        *("-o", "--output"),
        type=Path,
        default=Path("report.html"),
        metavar="FILE",
        help="the page (default: %(default)s)",
    )
    print_anything()
    options = parser.parse_args(arguments)
    nowhere = [str(folder) for folder in options.folders if not folder.exists()]
    if nowhere:  # a page of nothing is not worth the one that may lie there from before
        print(f"there is no {', '.join(nowhere)}", file=sys.stderr)
        raise SystemExit(2)
    runs, left = find_runs(options.folders)
    if not runs and not left:
        print(f"no run (a folder with {SUMMARY}) in {', '.join(map(str, options.folders))}", file=sys.stderr)
        raise SystemExit(2)
    text = page(runs, left).encode("utf-8", "backslashreplace")
    path = options.output
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, lambda file: file.write(text))
    except OSError as error:
        print(f"cannot write {path}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    rest = f"; {len(left)} left out, which the page names" if left else ""
    print(f"written: {path} ({len(text) / 2**20:.1f} MB), finished runs: {len(runs)}{rest}")


if __name__ == "__main__":
    main()
