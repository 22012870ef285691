"""`nmfdnn-compare DIR…`: finished runs, grouped over seeds, as a table and as test-error curves."""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from .records import METRICS, SUMMARY, read_metrics, read_summary
from .text import print_anything

LABEL_WIDTH = 26  # with it the table has 120 columns at most
SETTINGS = ("method", "experiment", "data", "layers", "dtype", "epochs")
# Overrides that do not tell one group from another: not the experiment, or in SETTINGS already.
IGNORED = ("seed", "device", "resume", "hydra", "network.hidden", *SETTINGS)
ERRORS = ("train_error", "validation_error", "test_error")
COSTS = ("pretrain_seconds", "train_seconds", "peak_memory_mb")
LEVELS = [n / 10 for n in (*range(1, 10), *range(10, 50, 5), *range(50, 200, 10), *range(200, 1000, 50))]


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where it is.
        summary: its `summary.json`.
        epochs: epochs trained at each record, from 0.
        test_errors: % after each of them.
        seconds: pre-training and training until then.
    """

    folder: Path
    summary: dict[str, Any]
    epochs: list[float]
    test_errors: list[float]
    seconds: list[float]

    def seconds_to(self, error: float) -> float | None:
        """Seconds until the test error was first ≤ `error` %, pre-training included; None if never."""
        reached = (s for s, e in zip(self.seconds, self.test_errors, strict=True) if e <= error)
        return next(reached, None)


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed, and a label that tells them from the other groups."""

    label: str
    runs: list[Run]

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
    """Every finished run below the folders `paths`, each once, in the order of their names.

    Unfinished and damaged runs are named on stderr and left out.
    """
    found = {
        file.parent.resolve(): file.parent
        for path in paths
        for name in (SUMMARY, METRICS)
        for file in sorted(path.rglob(name))
    }
    runs = []
    for folder in sorted(found.values()):
        if not (folder / SUMMARY).exists():
            _warn(f"{folder}: unfinished, {METRICS} but no {SUMMARY}; left out")
            continue
        try:
            runs.append(_read(folder))
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            _warn(f"{folder}: damaged or incomplete, skipped: {reason}")
    return runs


def _read(folder: Path) -> Run:
    summary = read_summary(folder)
    if not isinstance(summary, dict):
        raise ValueError(f"{SUMMARY} holds no table of values")
    missing = [key for key in (*SETTINGS, "seed", *ERRORS, *COSTS) if key not in summary]
    if missing:
        raise ValueError(f"{SUMMARY} has no {', '.join(missing)}")
    for key in (*ERRORS, *COSTS):
        value = summary[key]
        if isinstance(value, int | float) or (value is None and key == "validation_error"):
            continue
        raise ValueError(f"{key} in {SUMMARY} is {value!r}, not a number")
    if not isinstance(summary["layers"], list):
        raise ValueError(f"layers in {SUMMARY} is {summary['layers']!r}, not a list of widths")
    rows = read_metrics(folder)
    epochs, errors, seconds = (
        [float(value) for row in rows if (value := row[key]) is not None]
        for key in ("epoch", "test_error", "train_seconds")
    )
    if not rows or not len(epochs) == len(errors) == len(seconds) == len(rows):
        raise ValueError(f"{METRICS} has no complete row of epoch, test_error and train_seconds per epoch")
    start = summary["pretrain_seconds"]
    return Run(folder, summary, epochs, errors, [start + s for s in seconds])


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """Groups of runs that differ only in the seed, in the order of the first run of each.

    A label has the method and whatever else the groups do not all have in common.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        key = json.dumps([[run.summary[name] for name in SETTINGS], _overrides(run)])
        groups.setdefault(key, []).append(run)
    firsts = [members[0] for members in groups.values()]
    differing = [name for name in SETTINGS[1:] if len({_setting(run, name) for run in firsts}) > 1]
    shared = set.intersection(*(set(_overrides(run)) for run in firsts)) if firsts else set()
    return [
        Group(
            ", ".join(
                [
                    _setting(members[0], "method"),
                    *(_setting(members[0], name) for name in differing),
                    *(override for override in _overrides(members[0]) if override not in shared),
                ]
            ),
            members,
        )
        for members in groups.values()
    ]


def _overrides(run: Run) -> list[str]:
    """What was asked for on the command line and is neither ignored nor in the settings."""
    kept = []
    for override in run.summary.get("overrides") or []:
        name = override.partition("=")[0].lstrip("+~")
        if name not in IGNORED and not name.startswith(("hydra.", "hydra/")):
            kept.append(override)
    return sorted(kept)


def _setting(run: Run, name: str) -> str:
    value = run.summary[name]
    if name == "layers":
        return "-".join(map(str, value))
    return f"{value} epochs" if name == "epochs" else str(value)


def describe(groups: Sequence[Group]) -> str:
    """The settings that all groups have in common."""
    runs = [group.runs[0] for group in groups]
    texts = [{_setting(run, name) for run in runs} for name in SETTINGS[1:]]
    return ", ".join(values.pop() for values in texts if len(values) == 1)


def check(groups: Iterable[Group]) -> None:
    """Warn on stderr about seeds that count twice and about times from different devices."""
    for group in groups:
        seeds = Counter(run.summary["seed"] for run in group.runs)
        twice = [str(seed) for seed, count in seeds.items() if count > 1]
        if twice:
            _warn(f"{group.label}: more than one run with seed {', '.join(twice)}; each of them is counted")
        devices = {str(run.summary.get("device")) for run in group.runs}
        if len(devices) > 1:
            _warn(f"{group.label}: runs on {' and '.join(sorted(devices))}; their times are averaged")


def choose_errors(groups: Sequence[Group]) -> list[float]:
    """Up to five round test errors in %, descending, dense near the lowest that all seeds of a group reach.

    Errors that every run starts with are of no interest and left out.
    """
    best = min(max(min(run.test_errors) for run in group.runs) for group in groups)
    start = max(run.test_errors[0] for group in groups for run in group.runs)
    candidates = [level for level in LEVELS if level >= best]
    chosen = [candidates[i] for i in (0, 1, 3, 6, 10) if i < len(candidates)]
    return [level for level in reversed(chosen) if level < start] or chosen[:1]


def table(groups: Sequence[Group], errors: Sequence[float]) -> str:
    """Two Markdown tables: errors and costs; seconds to each test error in `errors` (%).

    Errors are means ± standard deviations (n − 1; "-" for one seed), all else are means over the seeds. A
    time is the mean over the seeds that reached the error, with "(k/n)" if not all did; "–" if none.
    """
    results = [["", "runs", "train %", "validation %", "test %", "pretrain s", "train s", "peak MB"]]
    times = [["seconds to a test error of", *(f"≤ {error:g} %" for error in errors)]]
    for group in groups:
        costs = [_mean(group.values(key)) for key in COSTS]
        results.append(
            [
                group.label,
                str(len(group.runs)),
                *(_spread(group.values(key)) for key in ERRORS),
                *(_seconds(cost) for cost in costs[:2]),
                f"{costs[2]:.0f}",
            ]
        )
        times.append([group.label, *(_reached(group, error) for error in errors)])
    return f"{_markdown(results)}\n\n{_markdown(times)}" if errors else _markdown(results)


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    spread = f"{statistics.stdev(values):.2f}" if len(values) > 1 else "-"
    return f"{_mean(values):.2f} ± {spread}"


def _seconds(value: float) -> str:
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _reached(group: Group, error: float) -> str:
    times = group.seconds_to(error)
    if not times:
        return "–"
    share = "" if len(times) == len(group.runs) else f" ({len(times)}/{len(group.runs)})"
    return _seconds(_mean(times)) + share


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    """Aligned rows, the first the header; a long first cell continues in rows of its own."""
    lines = []
    for row in rows:
        first, *more = _wrap(row[0])
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
    """The table's numbers in full precision, a row per group."""
    rows = []
    for group in groups:
        row: dict[str, Any] = {"label": group.label}
        row.update({name: _setting(group.runs[0], name) for name in SETTINGS})
        row.update(epochs=group.runs[0].summary["epochs"], overrides=" ".join(_overrides(group.runs[0])))
        row["runs"] = len(group.runs)
        for key in (*ERRORS, *COSTS):
            values = group.values(key)
            row[f"{key}_mean"] = _mean(values) if values else None
            row[f"{key}_std"] = statistics.stdev(values) if len(values) > 1 else None
        for error in errors:
            times = group.seconds_to(error)
            row[f"seconds_to_{error:g}"] = _mean(times) if times else None
            row[f"reached_{error:g}"] = len(times)
        rows.append(row)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def figure(groups: Sequence[Group]) -> Figure:
    """Test error against epochs, and against seconds of pre-training and training.

    A curve is the mean over the seeds at each epoch that all of them have, at their mean time; the band goes
    from the lowest to the highest.
    """
    picture = Figure(figsize=(12, 5), dpi=130, layout="constrained")
    by_epoch, by_time = picture.subplots(1, 2, sharey=True)
    starts, ends = [], []
    for index, group in enumerate(groups):
        epochs, seconds, spread = group.curve()
        starts.append(seconds[0])
        ends.append(seconds[-1])
        mean, low, high = ([f(values) for values in spread] for f in (_mean, min, max))
        style = ("-", "--", ":", "-.")[index // 10 % 4]
        for axes, x in ((by_epoch, epochs), (by_time, seconds)):
            axes.plot(x, mean, style, color=f"C{index % 10}", label=f"{group.label} (n = {len(group.runs)})")
            axes.fill_between(x, low, high, color=f"C{index % 10}", alpha=0.2, linewidth=0)
    by_epoch.set(xlabel="epoch", ylabel="test error (%)")
    by_time.set(xlabel="seconds of pre-training and training")
    by_epoch.xaxis.get_major_locator().set_params(integer=True)
    # A random start guesses; shown in full it would press the curves together. The axis begins at the errors
    # after one epoch, or at a start that is about as good.
    runs = [run for group in groups for run in group.runs]
    later = [error for run in runs for error in run.test_errors[1:]] or [run.test_errors[0] for run in runs]
    errors = later + [run.test_errors[0] for run in runs if run.test_errors[0] <= 2 * max(later)]
    by_epoch.set_ylim(0.95 * min(errors), 1.05 * max(errors) or None)
    if min(errors) > 0 and max(errors) > 4 * min(errors):
        by_epoch.set_yscale("log")
        _label(by_epoch.yaxis, min(errors), max(errors))
    if min(ends) > 0 and max(ends) > 4 * min(ends):
        by_time.set_xscale("log", nonpositive="mask")
        _label(by_time.xaxis, min(starts), max(ends))
    for axes in (by_epoch, by_time):
        axes.grid(which="major", alpha=0.4)
        axes.grid(which="minor", alpha=0.15)
        axes.tick_params(labelleft=True)
    picture.suptitle(describe(groups))
    handles, labels = by_epoch.get_legend_handles_labels()
    columns = min(len(labels), max(1, 120 // max(map(len, labels))))
    picture.set_figheight(4.6 + 0.22 * math.ceil(len(labels) / columns))
    picture.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    return picture


def _label(axis: Axis, low: float, high: float) -> None:
    """Label a logarithmic axis, which shows values from `low` to `high`, with round plain numbers."""
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
        help="test errors in %% to time (default: chosen from the runs)",
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
    check(groups)
    errors = options.errors or choose_errors(groups)
    print(f"{describe(groups)}\nerrors in % of the samples, mean ± standard deviation over the runs\n")
    print(table(groups, errors))
    try:
        for path in filter(None, (options.output, options.csv)):
            path.parent.mkdir(parents=True, exist_ok=True)
        figure(groups).savefig(options.output)
        if options.csv:
            write_csv(options.csv, groups, errors)
    except (OSError, ValueError) as error:  # ValueError: a picture format that matplotlib does not know
        print(f"cannot write the results: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    print("\nwritten:", *filter(None, (options.output, options.csv)))


if __name__ == "__main__":
    main()
