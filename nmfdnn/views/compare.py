"""`nmfdnn-compare DIR…`: finished runs, grouped over seeds, as a table and as test-error curves."""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import re
import reprlib
import statistics
import sys
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..records import MEASURES, METRICS, PARTS, SUMMARY, Measure, measure_of, read_metrics, read_summary
from ..text import label, one_line, print_anything

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure, SubFigure

LOG, CONFIG, SWEEP = "nmfdnn.log", "config.yaml", "multirun.yaml"
LABEL_WIDTH = 26  # with it the table has 120 columns at most
SETTINGS = ("method", "experiment", "data", "layers", "dtype", "epochs")
# Overrides that do not tell one group from another: not the experiment, or in SETTINGS already.
IGNORED = ("seed", "device", "resume", "hydra", "network.hidden", *SETTINGS)
# Overrides after which test errors can still be compared: the test data are the same.
SAME_DATA = tuple(
    f"data.{key}" for key in ("root", "download", "validation", "train_samples", "scale", "standardize")
)
ERRORS = ("train_error", "validation_error", "test_error")
COSTS = ("pretrain_seconds", "train_seconds", "peak_memory_mb")
LEVELS = [n / 10 for n in (*range(1, 10), *range(10, 50, 5), *range(50, 200, 10), *range(200, 1000, 50))]
LARGEST_FILE = 2**26  # bytes; a record takes some hundred
PANELS, CURVES = 8, 40  # data sets in a picture, groups in a panel


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where it is.
        summary: its `summary.json`.
        epochs: epochs trained at each record, from 0.
        test_errors: errors after each of them, in what `measure` says.
        train_errors: the same of the training part; None where it is not known.
        validation_errors: the same of the validation part.
        seconds: pre-training and training until then.
        warnings: what the run itself says against its result.
    """

    folder: Path
    summary: dict[str, Any]
    epochs: list[float]
    test_errors: list[float]
    train_errors: list[float | None]
    validation_errors: list[float | None]
    seconds: list[float]
    warnings: list[str]

    @property
    def measure(self) -> Measure:
        """What its errors are."""
        return measure_of(self.summary)

    @property
    def settings(self) -> dict[str, str]:
        """What can tell it from other runs on its data, but the seed: `SETTINGS` and overrides."""
        named = {name: _setting(self, name) for name in SETTINGS if name not in ("data", "epochs")}
        named["epochs"] = f"{self.summary['epochs']:g}"
        return {**named, **{_key(o): o.partition("=")[2] for o in _overrides(self)}}

    @property
    def data(self) -> str:
        """Its data set: the name, what was changed of it, and its size."""
        changes = [o for o in _overrides(self) if o.startswith("data.") and _key(o) not in SAME_DATA]
        features, *_, outputs = self.summary["layers"]
        return one_line(
            f"{' '.join([self.summary['data'], *changes])} "
            f"({features} features, {outputs} {self.measure.outputs})"
        )

    def seconds_to(self, error: float) -> float | None:
        """Seconds until the test error was first ≤ `error`, pre-training included; None if never."""
        reached = (s for s, e in zip(self.seconds, self.test_errors, strict=True) if e <= error)
        return next(reached, None)


@dataclass(frozen=True)
class LeftOut:
    """A folder with traces of a run that cannot be shown, and why."""

    folder: Path
    reason: str


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed, and a label that tells them from others on the same data."""

    label: str
    runs: list[Run]

    @property
    def data(self) -> str:
        """The data set of all its runs."""
        return self.runs[0].data

    @property
    def measure(self) -> Measure:
        """What the errors of all its runs are."""
        return self.runs[0].measure

    def values(self, key: str) -> list[float]:
        """A summary's number over the seeds, without those that have none."""
        return [run.summary[key] for run in self.runs if run.summary.get(key) is not None]

    def seconds_to(self, error: float) -> list[float]:
        """Seconds to a test error of the seeds that reached it."""
        return [seconds for run in self.runs if (seconds := run.seconds_to(error)) is not None]

    def curve(self) -> tuple[list[float], list[float], list[list[float]]]:
        """The epochs that all seeds have, their mean seconds, and each one's test errors over the seeds."""
        rows = [
            dict(zip(run.epochs, zip(run.seconds, run.test_errors, strict=True), strict=True))
            for run in self.runs
        ]
        epochs = sorted(set.intersection(*map(set, rows)))
        seconds = [statistics.fmean(row[epoch][0] for row in rows) for epoch in epochs]
        return epochs, seconds, [[row[epoch][1] for row in rows] for epoch in epochs]


def load_runs(paths: Iterable[Path]) -> list[Run]:
    """The runs of `find_runs`; what is left out is named on stderr."""
    runs, left = find_runs(paths)
    for out in left:
        _warn(f"{out.folder}: {out.reason}")
    return runs


def find_runs(paths: Iterable[Path]) -> tuple[list[Run], list[LeftOut]]:
    """Every finished run below the folders `paths`, each once, in the order of their names.

    Failed, unfinished and damaged runs are left out, as far as known with the reason.
    """
    runs: list[Run] = []
    left: list[LeftOut] = []
    for folder in _folders(paths, left):
        if not os.path.lexists(folder / SUMMARY):
            left.append(LeftOut(folder, f"{_end(folder)}; left out"))
            continue
        try:
            runs.append(_read(folder))
        except (OSError, ValueError, KeyError, TypeError, RecursionError, MemoryError, csv.Error) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            left.append(LeftOut(folder, f"damaged or incomplete, skipped: {one_line(reason, 300)}"))
    return runs, left


def _folders(paths: Iterable[Path], left: list[LeftOut]) -> list[Path]:
    """Folders with traces of a run, whatever became of it, each once; what cannot be read joins `left`."""

    def refused(error: OSError) -> None:
        left.append(LeftOut(Path(str(error.filename)), f"cannot be read: {error.strerror}"))

    found = {}
    for path in paths:
        for root, folders, files in os.walk(path, onerror=refused):
            folder = Path(root)
            names = {*folders, *files}
            job = CONFIG in names and (folder.parent / SWEEP).is_file()
            if job or not names.isdisjoint((SUMMARY, METRICS, LOG)):
                found[os.path.realpath(folder)] = folder
    return sorted(found.values())


def _end(folder: Path) -> str:
    """How a run without a summary ended, by its log."""
    try:
        require_file(folder / LOG)
        text = (folder / LOG).read_text(encoding="utf-8", errors="replace").strip()
    except (OSError, ValueError):
        text = ""
    # A record: date, time, level, and a message of one or more lines.
    entries = re.split(r"^\d{4}-\d\d-\d\d \S+ (?=[A-Z]+ )", text, flags=re.MULTILINE)
    kind, _, message = entries[-1].partition(" ")
    if kind in ("ERROR", "CRITICAL"):
        return f"failed: {one_line(message, 300)}"
    last = f"; its log ends with: {one_line(text.splitlines()[-1], 200)}" if text else ""
    return f"unfinished, no {SUMMARY}{last}"


def require_file(path: Path) -> None:
    """Refuse what could hold a reader up: pipes, devices, endless files."""
    if not path.is_file():
        raise ValueError(f"{path.name} is no regular file" if os.path.lexists(path) else f"no {path.name}")
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"{path.name} is larger than any run writes")


def _read(folder: Path) -> Run:
    for name in (SUMMARY, METRICS):
        require_file(folder / name)
    summary = read_summary(folder)
    if not isinstance(summary, dict):
        raise ValueError(f"{SUMMARY} holds no table of values")
    if summary.get("measure", "error") not in MEASURES:
        raise ValueError(f"{SUMMARY} has errors of an unknown kind, {reprlib.repr(summary['measure'])}")
    measure = measure_of(summary)
    columns = {f"{part}_error": f"{part}_{measure.name}" for part in PARTS}
    # Whatever the errors are, they are found under one name from here on.
    summary |= {key: summary[column] for key, column in columns.items() if column in summary}
    missing = [key for key in (*SETTINGS, "seed", *ERRORS, *COSTS) if key not in summary]
    if missing:
        raise ValueError(f"{SUMMARY} has no {', '.join(missing)}")
    layers, overrides = summary["layers"], summary.get("overrides") or []
    for key, fits, expected in (
        *((key, isinstance(summary[key], str), "a text") for key in ("method", "data", "dtype")),
        ("experiment", isinstance(summary["experiment"], str | None), "a text"),
        ("seed", isinstance(summary["seed"], int), "a whole number"),
        ("epochs", _is_number(summary["epochs"]), "a number"),
        ("layers", isinstance(layers, list) and layers and all(map(_is_number, layers)), "a list of widths"),
        (
            "overrides",
            isinstance(overrides, list) and all(isinstance(o, str) for o in overrides),
            "a list of texts",
        ),
        *((key, _is_number(summary[key]), "a number ≥ 0") for key in COSTS),
        *(
            (
                key,
                _is_number(summary[key], measure.limit) or (summary[key], key) == (None, "validation_error"),
                "a percentage" if measure.unit else "a number ≥ 0",
            )
            for key in ERRORS
        ),
    ):
        if not fits:
            raise ValueError(f"{key} in {SUMMARY} is {reprlib.repr(summary[key])}, not {expected}")
    rows = read_metrics(folder)
    epochs, errors, seconds = (
        [value for row in rows if (value := row[key]) is not None]
        for key in ("epoch", columns["test_error"], "train_seconds")
    )
    if not rows or not len(epochs) == len(errors) == len(seconds) == len(rows):
        raise ValueError(
            f"{METRICS} has no complete row of epoch, {columns['test_error']} and train_seconds per epoch"
        )
    possible = all(_is_number(error, measure.limit) for error in errors)
    if not all(map(_is_number, [*epochs, *seconds])) or not possible:
        raise ValueError(f"{METRICS} has an impossible epoch, {columns['test_error']} or train_seconds")
    if epochs != sorted(set(epochs)) or seconds != sorted(seconds):
        raise ValueError(f"{METRICS} is out of order: epoch and train_seconds have to increase")
    said = summary.get("warnings") or []
    said = [one_line(str(text), 300) for text in (said if isinstance(said, list) else [said])]
    start = summary["pretrain_seconds"]
    train, validation = (
        [value if _is_number(value := row.get(columns[key]), measure.limit) else None for row in rows]
        for key in ("train_error", "validation_error")
    )
    return Run(folder, summary, epochs, errors, train, validation, [start + s for s in seconds], said)


def _is_number(value: object, limit: float = 1e12) -> bool:
    """From 0 to the limit: not NaN, and nothing that arithmetic could overflow with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= limit


def _warn(message: str) -> None:
    print(f"warning: {one_line(message)}", file=sys.stderr)


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """Groups of runs that differ only in the seed, in the order of the first run of each.

    A label has the method and whatever else the groups on the same data do not all have in common.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        key = json.dumps([[run.summary[name] for name in SETTINGS], _overrides(run)])
        groups.setdefault(key, []).append(run)
    peers: dict[str, list[Run]] = {}  # the first run of each group on a data set
    for members in groups.values():
        peers.setdefault(members[0].data, []).append(members[0])
    differing = {
        data: [name for name in SETTINGS[1:] if len({_setting(run, name) for run in firsts}) > 1]
        for data, firsts in peers.items()
    }
    shared = {
        data: set.intersection(*(set(_overrides(run)) for run in firsts)) for data, firsts in peers.items()
    }
    short = {
        data: _shortened({o for run in firsts for o in _overrides(run)}) for data, firsts in peers.items()
    }
    return [
        Group(
            one_line(
                ", ".join(
                    [
                        _setting(members[0], "method"),
                        *(_setting(members[0], name) for name in differing[members[0].data]),
                        *(
                            short[members[0].data][override]
                            for override in _overrides(members[0])
                            if override not in shared[members[0].data]
                        ),
                    ]
                )
            ),
            members,
        )
        for members in groups.values()
    ]


def by_data(groups: Iterable[Group]) -> list[list[Group]]:
    """The groups on each data set: errors on different data are not to be compared."""
    sets: dict[str, list[Group]] = {}
    for group in groups:
        sets.setdefault(group.data, []).append(group)
    return list(sets.values())


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _overrides(run: Run) -> list[str]:
    """What was asked for on the command line and is neither ignored nor in the settings."""
    return sorted(
        override
        for override in run.summary.get("overrides") or []
        if _key(override) not in IGNORED and not _key(override).startswith(("hydra.", "hydra/"))
    )


def _shortened(overrides: set[str]) -> dict[str, str]:
    """Overrides with four digits of their fractions, as searches draw them, if that tells them apart."""

    def shorter(override: str) -> str:
        key, _, value = override.partition("=")
        try:
            text = f"{key}={float(value):.4g}" if "." in value else override
        except ValueError:
            return override
        return min(text, override, key=len)

    short = {override: shorter(override) for override in overrides}
    return short if len({*short.values()}) == len(short) else {override: override for override in overrides}


def _setting(run: Run, name: str) -> str:
    value = run.summary[name]
    if name == "layers":
        return "-".join(map(str, value))
    return f"{value} epochs" if name == "epochs" else str(value)


def describe(groups: Sequence[Group]) -> str:
    """The data set and the settings that all groups, which are on it, have in common."""
    runs = [group.runs[0] for group in groups]
    texts = [{_setting(run, name) for run in runs} for name in SETTINGS[1:] if name != "data"]
    return one_line(f"{runs[0].data}: {', '.join(values.pop() for values in texts if len(values) == 1)}")


def doubts(groups: Iterable[Group]) -> list[str]:
    """Seeds that count twice, times from different devices, and what cannot be drawn."""
    found = []
    for group in groups:
        name = f"{group.data}, {group.label}"
        seeds = Counter(run.summary["seed"] for run in group.runs)
        twice = [str(seed) for seed, count in seeds.items() if count > 1]
        if twice:
            found.append(f"{name}: more than one run with seed {', '.join(twice)}; each of them is counted")
        devices = {str(run.summary.get("device")) for run in group.runs}
        if len(devices) > 1:
            found.append(f"{name}: runs on {' and '.join(sorted(devices))}; their times are averaged")
        if not group.curve()[0]:
            found.append(f"{name}: no epoch that all runs have; in the table, but not in the picture")
    return found


def choose_errors(groups: Sequence[Group]) -> list[float]:
    """Up to five round test errors, descending, dense near the lowest that all seeds of a group reach.

    Errors that every run starts with are of no interest and left out.
    """
    best = min(max(min(run.test_errors) for run in group.runs) for group in groups)
    start = max(run.test_errors[0] for group in groups for run in group.runs)
    unit = 1.0
    if groups[0].measure.round_steps and best > 0:
        unit = 10.0 ** math.floor(math.log10(best))
    candidates = [round(level * unit, 12) for level in LEVELS if level * unit >= best]
    chosen = [candidates[i] for i in (0, 1, 3, 6, 10) if i < len(candidates)]
    return [level for level in reversed(chosen) if level < start] or chosen[:1]


def table(groups: Sequence[Group], errors: Sequence[float]) -> str:
    """Two Markdown tables, of `results` and of `times`. Then runs' warnings."""
    rows, notes = results(groups)
    texts = [_markdown(rows), _markdown(times(groups, errors)) if errors else "", "\n".join(notes)]
    return "\n\n".join(filter(None, texts))


def results(groups: Sequence[Group]) -> tuple[list[list[str]], list[str]]:
    """Errors and costs, a row for each group after one of headings; and notes, to which labels refer.

    Errors are means ± standard deviations (n − 1; "-" for one seed), all else are means over the seeds.
    """
    measure = groups[0].measure
    heads = [f"{part} {measure.symbol}" for part in PARTS]
    rows = [["", "runs", *heads, "pretrain s", "train s", "peak MB"]]
    notes: list[str] = []
    for group in groups:
        costs = [mean(group.values(key)) for key in COSTS]
        said = [f"seed {run.summary['seed']}: {text}" for run in group.runs for text in run.warnings]
        if said:
            notes.append(f"[{len(notes) + 1}] {'; '.join(said)}")
        rows.append(
            [
                f"{group.label} [{len(notes)}]" if said else group.label,
                str(len(group.runs)),
                *(spread(group.values(key), measure) for key in ERRORS),
                *(_seconds(cost) for cost in costs[:2]),
                f"{costs[2]:.0f}",
            ]
        )
    return rows, notes


def times(groups: Sequence[Group], errors: Sequence[float]) -> list[list[str]]:
    """Seconds to each test error in `errors`, a row for each group after one of headings.

    A time is the mean over the seeds that reached the error, with "(k/n)" if not all did; "–" if none.
    """
    measure = groups[0].measure
    heading = [
        f"seconds to a test {measure.title} of",
        *(f"≤ {error:g}{measure.unit}" for error in errors),
    ]
    return [heading, *([group.label, *(_reached(group, error) for error in errors)] for group in groups)]


def mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan


def spread(values: Sequence[float], measure: Measure) -> str:
    if not values:
        return "–"
    spread = measure.number(statistics.stdev(values)) if len(values) > 1 else "-"
    return f"{measure.number(mean(values))} ± {spread}"


def _seconds(value: float) -> str:
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _reached(group: Group, error: float) -> str:
    times = group.seconds_to(error)
    if not times:
        return "–"
    share = "" if len(times) == len(group.runs) else f" ({len(times)}/{len(group.runs)})"
    return _seconds(mean(times)) + share


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    """Aligned rows, the first the header; a long first cell continues in rows of its own."""
    lines = []
    for row in rows:
        first, *more = _wrap(row[0].replace("|", r"\|"))
        lines += [[first, *row[1:]], *([text, *[""] * (len(row) - 1)] for text in more)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    head = len(_wrap(rows[0][0]))
    rule = [f":{'-' * (widths[0] - 1)}", *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    lines.insert(head, rule)
    return "\n".join(
        f"| {line[0]:<{widths[0]}} | "
        + " | ".join(f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
        + " |"
        for line in lines
    )


def _wrap(label: str) -> list[str]:
    return textwrap.wrap(label, LABEL_WIDTH, break_long_words=False, break_on_hyphens=False) or [""]


def write_csv(path: Path, groups: Sequence[Group], errors: Sequence[float]) -> None:
    """The table's numbers in full precision, a row per group on whichever data."""
    rows = []
    for group in groups:
        row: dict[str, Any] = {"label": group.label}
        row.update({name: _setting(group.runs[0], name) for name in SETTINGS})
        row.update(epochs=group.runs[0].summary["epochs"], overrides=" ".join(_overrides(group.runs[0])))
        row["runs"] = len(group.runs)
        row["runs_with_warnings"] = sum(bool(run.warnings) for run in group.runs)
        for key in (*ERRORS, *COSTS):
            values = group.values(key)
            key = key.replace("_error", f"_{group.measure.name}")
            row[f"{key}_mean"] = mean(values) if values else None
            row[f"{key}_std"] = statistics.stdev(values) if len(values) > 1 else None
        for error in errors:
            times = group.seconds_to(error)
            row[f"seconds_to_{error:g}"] = mean(times) if times else None
            row[f"reached_{error:g}"] = len(times)
        rows.append(row)
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(column for row in rows for column in row)))
        writer.writeheader()
        writer.writerows(rows)


def figure(groups: Sequence[Group]) -> Figure:
    """For each data set test error against epochs, and against seconds of pre-training and training.

    A curve is the mean over the seeds at each epoch that all of them have, at their mean time; the band goes
    from the lowest to the highest. Of very many data sets or groups the first, or the best, are drawn.
    """
    from matplotlib.figure import Figure

    panels = []
    for members in by_data(groups)[:PANELS]:
        best = sorted((g for g in members if g.curve()[0]), key=lambda g: mean(g.values("test_error")))
        panels.append(
            (describe(members), len(members), [group for group in members if group in best[:CURVES]])
        )
    heights = [4.6 + 0.22 * math.ceil(len(drawn) / _columns(drawn)) for _, _, drawn in panels]
    picture = Figure(figsize=(12, sum(heights)), dpi=130, layout="constrained")
    places = picture.subfigures(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    for place, (title, total, drawn) in zip(places, panels, strict=True):
        best_of = (
            f"\nthe {CURVES} of {total} groups with the lowest test errors"
            if len(drawn) < total > CURVES
            else ""
        )
        place.suptitle(label(title, 140) + best_of, fontsize=11)
        if drawn:
            _panel(place, drawn)
    return picture


def _legend(group: Group) -> str:
    warned = sum(bool(run.warnings) for run in group.runs)
    return label(group.label, 90) + f" (n = {len(group.runs)}{f', {warned} with warnings' if warned else ''})"


def _columns(groups: Sequence[Group]) -> int:
    """How many legend entries fit side by side."""
    longest = max((len(_legend(group)) for group in groups), default=1)
    return max(1, min(len(groups), 120 // longest))


def _panel(place: SubFigure, groups: Sequence[Group]) -> None:
    by_epoch, by_time = place.subplots(1, 2, sharey=True)
    starts, ends = [], []
    for index, group in enumerate(groups):
        epochs, seconds, errors = group.curve()
        starts.append(seconds[0])
        ends.append(seconds[-1])
        middle, low, high = ([f(values) for values in errors] for f in (mean, min, max))
        style = ("-", "--", ":", "-.")[index // 10 % 4]
        for axes, x in ((by_epoch, epochs), (by_time, seconds)):
            axes.plot(x, middle, style, color=f"C{index % 10}", label=_legend(group))
            axes.fill_between(x, low, high, color=f"C{index % 10}", alpha=0.2, linewidth=0)
    by_epoch.set(xlabel="epoch", ylabel=f"test {groups[0].measure.axis}")
    by_time.set(xlabel="seconds of pre-training and training")
    by_epoch.xaxis.get_major_locator().set_params(integer=True)
    drawn = shown([run.test_errors for group in groups for run in group.runs])
    by_epoch.set_ylim(0.95 * min(drawn), 1.05 * max(drawn) or 0.01)
    if min(drawn) > 0 and max(drawn) > 4 * min(drawn):
        by_epoch.set_yscale("log")
        _label(by_epoch.yaxis, min(drawn), max(drawn))
    if min(ends) > 0 and max(ends) > 4 * min(ends):
        by_time.set_xscale("log", nonpositive="mask")
        _label(by_time.xaxis, min(starts), max(ends))
    for axes in (by_epoch, by_time):
        axes.grid(which="major", alpha=0.4)
        axes.grid(which="minor", alpha=0.15)
        axes.tick_params(labelleft=True)
    handles, labels = by_epoch.get_legend_handles_labels()
    if any(len(group.runs) > 1 for group in groups):
        from matplotlib.patches import Patch

        handles.append(Patch(color="0.5", alpha=0.3, linewidth=0))
        labels.append("line: mean of the runs; band: from their lowest to their highest")
    place.legend(handles, labels, loc="outside lower center", ncols=_columns(groups), frameon=False)


def shown(curves: Sequence[Sequence[float]]) -> list[float]:
    """The errors of all curves that an axis should have room for.

    A random start guesses; shown in full it would press the curves together. The axis begins at the errors
    after one epoch, or at a start that is about as good.
    """
    later = [error for curve in curves for error in curve[1:]] or [curve[0] for curve in curves]
    return later + [curve[0] for curve in curves if curve[0] <= 2 * max(later)]


def _label(axis: Axis, low: float, high: float) -> None:
    """Label a logarithmic axis, which shows values from `low` to `high`, with round plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 20 * low else (1, 1.5, 2, 3, 4, 5, 7)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="nmfdnn-compare",
        usage="%(prog)s DIR [DIR …] [--errors E [E …]] [--output compare.png] [--csv table.csv]",
        description="Compare the finished runs below the given folders, averaged over seeds.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folder with runs, at any depth")
    parser.add_argument(
        "--errors",
        nargs="+",
        type=float,
        metavar="E",
        help="test errors, in %% or the unit of the values, to time (default: chosen from the runs)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("compare.png"),
        metavar="FILE",
        help="picture (default: %(default)s)",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the table's numbers here")
    print_anything()
    options = parser.parse_args(arguments)
    groups = group_runs(load_runs(options.folders))
    if not groups:
        print(
            f"no finished run (a folder with {SUMMARY}) in {', '.join(map(str, options.folders))}",
            file=sys.stderr,
        )
        raise SystemExit(2)
    for doubt in doubts(groups):
        _warn(doubt)
    for members in by_data(groups)[PANELS:]:
        _warn(f"{members[0].data}: not in the picture, which has room for {PANELS} data sets")
    what = ", ".join(dict.fromkeys(group.measure.what for group in groups))
    print(f"{what}, mean ± standard deviation over the runs")
    timed: set[float] = set()
    for members in by_data(groups):
        errors = options.errors or choose_errors(members)
        timed.update(errors)
        print(f"\n{describe(members)}\n\n{table(members, errors)}")
    outputs = []
    if options.csv:
        outputs.append((options.csv, lambda: write_csv(options.csv, groups, sorted(timed, reverse=True))))
    outputs.append((options.output, lambda: _save(figure(groups), options.output)))
    status = 0
    print()
    for path, write in outputs:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write()
            print("written:", path)
        except (OSError, ValueError) as error:  # ValueError: a picture format that matplotlib does not know
            print(f"cannot write {path}: {error}", file=sys.stderr)
            status = 2
    if status:
        raise SystemExit(status)


def _save(picture: Figure, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about letters that the font lacks
        picture.savefig(path)


if __name__ == "__main__":
    main()
