"""Seconds of training to a given test error, the alternation against backpropagation, alternated in one run.

`python benchmarks/time_to_accuracy.py OUT` trains the experiments `fast` and `fast_bp` on Fashion-MNIST for
three seeds, each run in a process of its own and the methods in turn, so that a change of the machine's load
meets both. It prints the table of `nmfdnn-compare`, writes it with a picture into OUT, and prints for each
error the medians and the ratio of the first experiment's seconds to those of each other, seed by seed. They
are those at the first record whose test error is low enough, four in an epoch, with the start of the network,
without loading and evaluation. A run that is there already is not repeated. Let nothing else run meanwhile.

`--experiments best best_bp` compares the lowest errors in the same way; KEY=VALUE arguments go to every run.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from launch import train

from nmfdnn.compare import Run, load_runs
from nmfdnn.compare import main as compare


def ratios(runs: dict[str, list[Run]], errors: list[float]) -> str:
    """Markdown: median seconds to each error, and the first experiment's seconds over the others'."""
    first, *others = runs
    lines = [
        "| test error, % | experiment | seconds, median (range) | ratio, median (range) |",
        "|---|---|---|---|",
    ]
    for error in errors:
        own = [run.seconds_to(error) for run in runs[first]]
        for name in (first, *others):
            found = [run.seconds_to(error) for run in runs[name]]
            pairs = [a / b for a, b in zip(own, found, strict=True) if a is not None and b is not None]
            cells = [spread([s for s in found if s is not None], len(found), ".1f")]
            cells += [spread(pairs, len(found), ".2f") if name != first else ""]
            lines.append(f"| {error:g} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float], of: int, form: str) -> str:
    """Median (range), and how many of how many there are where some are missing."""
    if not values:
        return f"not reached by any of {of}"
    text = f"{statistics.median(values):{form}} ({min(values):{form}} – {max(values):{form}})"
    return text if len(values) == of else f"{text}, {len(values)} of {of}"


def main() -> None:
    """Train, tabulate, draw."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("out", type=Path, help="folder for the runs, the table and the picture")
    parser.add_argument("--experiments", nargs="+", default=["fast", "fast_bp"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--errors", nargs="+", default=["12", "11", "10.5"], help="test errors in %%")
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE for every run, for instance data=mnist_5k")
    arguments = parser.parse_intermixed_args()
    folders = {
        name: [arguments.out / "runs" / f"{name}_{seed}" for seed in arguments.seeds]
        for name in arguments.experiments
    }
    for index, seed in enumerate(arguments.seeds):
        for experiment in arguments.experiments:
            folder = folders[experiment][index]
            fixed = [f"experiment={experiment}", f"seed={seed}", "data.validation=0"]
            train(folder, [*fixed, *arguments.overrides])
    written = [f"--output={arguments.out / 'compare.png'}", f"--csv={arguments.out / 'table.csv'}"]
    compare([str(arguments.out / "runs"), *written, "--errors", *arguments.errors])
    runs = {name: [run for folder in own for run in load_runs([folder])] for name, own in folders.items()}
    print(f"\n{ratios(runs, [float(error) for error in arguments.errors])}")


if __name__ == "__main__":
    main()
