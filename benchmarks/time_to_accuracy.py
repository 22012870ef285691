"""Seconds of training to a given test error, the alternation against backpropagation, alternated in one run.

`python benchmarks/time_to_accuracy.py OUT` trains the experiments `fast` and `fast_bp` on Fashion-MNIST for
three seeds, each run in a process of its own and the methods in turn, so that a change of the machine's load
meets both. It prints the table of `nmfdnn-compare`, writes it with a picture into OUT, and for each error, in
OUT/ratios.md, the medians and the ratio of the first experiment's seconds to those of each other, seed by
seed. They are those at the first record whose test error is low enough, four in an epoch, with the start of
the network, without loading and evaluation. A run that is there already is not repeated. Let nothing else
run meanwhile.

`--experiments best best_bp` compares the lowest errors in the same way; KEY=VALUE arguments go to every run.
"""

from __future__ import annotations

from launch import report, spread, study_parser, train

from nmfdnn.views.compare import Run, load_runs
from nmfdnn.views.compare import main as compare


def ratios(runs: dict[str, list[Run]], errors: list[float]) -> list[str]:
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
            pairs = [None if a is None or b is None else a / b for a, b in zip(own, found, strict=True)]
            cells = [spread(found, "not reached", ".1f")]
            cells += [spread(pairs, "not reached") if name != first else ""]
            lines.append(f"| {error:g} | {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Train, tabulate, draw."""
    parser = study_parser(__doc__)
    parser.add_argument("--experiments", nargs="+", default=["fast", "fast_bp"])
    parser.add_argument("--errors", nargs="+", default=["12", "11", "10.5"], help="test errors in %%")
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
    report(ratios(runs, [float(error) for error in arguments.errors]), arguments.out / "ratios.md")


if __name__ == "__main__":
    main()
