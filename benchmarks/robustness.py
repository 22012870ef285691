"""Error as a function of each parameter over two decades, and the share of seeds that diverge.

`python benchmarks/robustness.py OUT` varies one parameter at a time around the experiment `best_small`,
and the learning rate and batch size of Adam around `best_small_bp`, on 4,000 digits with a quarter held out;
then it runs both with twenty seeds as they are. It writes a Markdown table of validation errors,
OUT/robustness.md, and draws OUT/robustness.png. Runs are single-threaded, `--jobs` at a time; one that is
there already is not repeated. KEY=VALUE arguments go to every run, for instance data=digits.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from launch import parallel_arguments, report, spread, train
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from nmfdnn.records import SUMMARY, read_summary


@dataclass(frozen=True)
class Sweep:
    """One parameter of one experiment."""

    experiment: str
    key: str
    values: Sequence[float]

    def folder(self, out: Path, value: float, seed: int) -> Path:
        """Where the run is kept."""
        return out / "runs" / self.experiment / f"{self.key}_{value:g}" / str(seed)


SWEEPS = [
    Sweep("best_small", "jacobi.omega", [0.3, 1, 3, 10, 30]),
    Sweep("best_small", "jacobi.batch_size", [30, 100, 250, 1000, 3000]),
    Sweep("best_small", "jacobi.input_ridge", [0.04, 0.12, 0.4, 1.2, 4]),
    Sweep("best_small", "jacobi.ridge", [0.006, 0.02, 0.06, 0.2, 0.6]),
    Sweep("best_small_bp", "bp.learning_rate", [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]),
    Sweep("best_small_bp", "bp.batch_size", [30, 100, 300, 1000, 3000]),
]
SEEDS = 20

SMALL = ["data=mnist_5k", "data.validation=0.25", "threads=1"]
"""What every run has, unless the command line says otherwise."""


def validation_errors(folders: Iterable[Path]) -> list[float]:
    """Validation error of each run; infinite for one that diverged."""
    return [
        read_summary(folder)["validation_error"] if (folder / SUMMARY).exists() else math.inf
        for folder in folders
    ]


def errors(sweep: Sweep, out: Path, value: float, seeds: Sequence[int]) -> list[float]:
    """Validation error of each seed."""
    return validation_errors(sweep.folder(out, value, seed) for seed in seeds)


def band(axis: Axes, x: Sequence[float], found: Sequence[list[float]], label: str | None = None) -> None:
    """Median and range of the errors found at each x, on a log scale; one that diverged is drawn at 100 %."""
    low, middle, high = ([min(f(e), 100) for e in found] for f in (min, statistics.median, max))
    axis.plot(x, middle, "o-", label=label)
    axis.fill_between(x, low, high, alpha=0.2)
    axis.set_yscale("log")
    axis.minorticks_off()
    axis.yaxis.set_major_locator(FixedLocator([2, 3, 5, 10, 20, 50, 100]))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.grid(alpha=0.3)


def draw(sweeps: Sequence[Sweep], out: Path, seeds: Sequence[int]) -> Figure:
    """A panel for each parameter: median and range of the validation error over its values."""
    columns = math.ceil(len(sweeps) / 2)
    figure = Figure(figsize=(4 * columns, 6.5), layout="constrained")
    axes = figure.subplots(2, columns, sharey=True).flat
    for axis, sweep in zip(axes, sweeps, strict=False):
        axis.set(xscale="log", title=f"{sweep.experiment}: {sweep.key}")
        axis.set_xticks(sweep.values, [f"{value:g}" for value in sweep.values])
        band(axis, sweep.values, [errors(sweep, out, value, seeds) for value in sweep.values])
    figure.supylabel("validation error, %")
    return figure


def main() -> None:
    """Train, tabulate, draw."""
    arguments = parallel_arguments(__doc__)
    out, seeds = arguments.out, arguments.seeds
    plain = [Sweep(experiment, "threads", [1]) for experiment in ("best_small", "best_small_bp")]
    todo = [(s, value, seed) for s in SWEEPS for value in s.values for seed in seeds]
    todo += [(s, 1, seed) for s in plain for seed in range(1, SEEDS + 1)]

    def run(sweep: Sweep, value: float, seed: int) -> None:
        own = [f"experiment={sweep.experiment}", f"{sweep.key}={value:g}", f"seed={seed}"]
        train(sweep.folder(out, value, seed), [*SMALL, *own, *arguments.overrides], check=False)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda job: run(*job), todo))
    lines = ["| experiment | parameter | value | validation error, % |", "|---|---|---|---|"]
    for sweep in SWEEPS:
        for value in sweep.values:
            found = spread(errors(sweep, out, value, seeds), "diverged")
            lines.append(f"| {sweep.experiment} | {sweep.key} | {value:g} | {found} |")
    for sweep in plain:
        found = spread(errors(sweep, out, 1, range(1, SEEDS + 1)), "diverged")
        lines.append(f"| {sweep.experiment} | {SEEDS} seeds | as it is | {found} |")
    report(lines, out / "robustness.md")
    draw(SWEEPS, out, seeds).savefig(out / "robustness.png", dpi=110)


if __name__ == "__main__":
    main()
