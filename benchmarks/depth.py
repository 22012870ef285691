"""Error as a function of depth, the alternation beside backpropagation.

`python benchmarks/depth.py OUT` trains `best_small` from a He and from a pre-trained start, and
`best_small_bp`, with 2 to 10 hidden layers of 300 units, on 4,000 digits with a quarter held out. It writes
a Markdown table of validation errors, OUT/depth.md, and draws OUT/depth.png. Runs are single-threaded,
`--jobs` at a time; one that is there already is not repeated. KEY=VALUE arguments go to every run, for
instance data=fashion_mnist.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from launch import parallel_arguments, report, spread, train
from matplotlib.figure import Figure
from robustness import SMALL, band, validation_errors

DEPTHS = [2, 3, 4, 6, 8, 10]
WIDTH = 300
METHODS = {
    "alternation, He start": ["experiment=best_small"],
    "alternation, NMF pre-training": [
        "experiment=best_small",
        "network.start=pretrained",
        "pretraining.outer_iterations=3",
        "pretraining.nmf_iterations=10",
        "pretraining.lsq_iterations=10",
    ],
    "backpropagation": ["experiment=best_small_bp"],
}


def main() -> None:
    """Train, tabulate, draw."""
    arguments = parallel_arguments(__doc__)

    def folder(method: str, depth: int, seed: int) -> Path:
        return Path(arguments.out, "runs", method.replace(", ", "_").replace(" ", "_"), str(depth), str(seed))

    def run(method: str, depth: int, seed: int) -> None:
        hidden = f"network.hidden={[WIDTH] * depth}".replace(" ", "")
        own = [*SMALL, hidden, f"seed={seed}", *METHODS[method], *arguments.overrides]
        train(folder(method, depth, seed), own, check=False)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        jobs = [(m, depth, seed) for seed in arguments.seeds for depth in DEPTHS for m in METHODS]
        list(pool.map(lambda job: run(*job), jobs))
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    lines = ["| method | hidden layers | validation error, % |", "|---|---|---|"]
    for method in METHODS:
        found = [validation_errors(folder(method, d, seed) for seed in arguments.seeds) for d in DEPTHS]
        for depth, errors in zip(DEPTHS, found, strict=True):
            lines.append(f"| {method} | {depth} | {spread(errors, 'diverged')} |")
        band(axes, DEPTHS, found, label=method)
    axes.set(xlabel=f"hidden layers of {WIDTH} units", ylabel="validation error, %")
    axes.legend()
    report(lines, arguments.out / "depth.md")
    figure.savefig(arguments.out / "depth.png", dpi=110)


if __name__ == "__main__":
    main()
