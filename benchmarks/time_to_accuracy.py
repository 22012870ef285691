"""Seconds of training to a given test error, the alternation against backpropagation, alternated in one run.

`python benchmarks/time_to_accuracy.py OUT` trains the experiments `fast` and `fast_bp` on Fashion-MNIST for
three seeds, each run in a process of its own and the methods in turn, so that a change of the machine's load
meets both. It prints the table of `nmfdnn-compare` and writes it with a picture into OUT. A run that is there
already is not repeated. Let nothing else run meanwhile.

`--experiments best best_bp` compares the lowest errors in the same way; KEY=VALUE arguments go to every run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from launch import train

from nmfdnn.compare import main as compare


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
    for seed in arguments.seeds:
        for experiment in arguments.experiments:
            folder = arguments.out / "runs" / f"{experiment}_{seed}"
            fixed = [f"experiment={experiment}", f"seed={seed}", "data.validation=0"]
            train(folder, [*fixed, *arguments.overrides])
    written = [f"--output={arguments.out / 'compare.png'}", f"--csv={arguments.out / 'table.csv'}"]
    compare([str(arguments.out / "runs"), *written, "--errors", *arguments.errors])


if __name__ == "__main__":
    main()
