"""From FOOF to `method=jacobi` one change at a time, and each part taken out of `jacobi`.

`python benchmarks/ablation.py OUT` trains every variant below for seeds 1 to 3 on 3,000 digits (mnist_5k, a
quarter held out), or on other `--data` of the board, as its runs are made: one thread, CPU seconds, a record
that is continued (benchmarks/ablation.jsonl); `--variants` chooses those with one of these texts in their
name. It prints a Markdown table of validation errors, without OUT of what the record has; the page of the
board has these tables too. What is no parameter of a run is changed in the trainer for as long as a variant
runs.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import board
from board_rows import DATA, ROWS, Data
from launch import spread

RECORD = board.HERE / "ablation.jsonl"
JACOBI = "experiment=best"
SEIDEL = f"{JACOBI} method=seidel"
FOOF = (
    "experiment=best_bp bp.optimizer=foof bp.batch_size=250 bp.schedule=linear bp.dropout=0 bp.momentum=0 "
    "bp.learning_rate=0.3"
)


@dataclass(frozen=True)
class Variant:
    """A form of training, its settings, and a change of the trainer that no setting makes."""

    name: str
    overrides: str
    change: str = ""


VARIANTS = (
    Variant("FOOF: cross-entropy, momentum 0.9", f"{FOOF} bp.momentum=0.9 bp.learning_rate=0.1"),
    Variant("… no momentum", f"{FOOF} bp.learning_rate=0.3"),
    Variant("… latent targets", f"{FOOF} bp.loss=latent"),
    Variant("… averaged weights", f"{FOOF} bp.loss=latent bp.averaging=0.98"),
    Variant(
        "… code steps Rᵢ₋₁ = RᵢWᵢ⁺ and rates by h, no searches (`jacobi` without ridges)",
        f"{JACOBI} jacobi.ridge=0 jacobi.input_ridge=0",
        "no searches",
    ),
    Variant("… line searches", f"{JACOBI} jacobi.ridge=0 jacobi.input_ridge=0"),
    Variant("`jacobi`: … ridges", JACOBI),
    Variant("without latent targets: plain squares", JACOBI, "squares"),
    Variant("without latent targets: cross-entropy's residual", JACOBI, "softmax"),
    Variant("Wᵀ in the place of W⁺", f"{JACOBI} jacobi.code_damping=1e4"),
    Variant("without both searches: tᵢ = 1, s = 1/(d − 1)", JACOBI, "no searches"),
    Variant("without the search of s: s = 1/(d − 1)", JACOBI, "share"),
    Variant("without h: every rate is s", f"{JACOBI} jacobi.omega=1e9"),
    Variant("the output at full rate", f"{JACOBI} jacobi.output_omega=3"),
    Variant("without the bound of residuals", JACOBI, "trust"),
    Variant("without ridges", f"{JACOBI} jacobi.ridge=0 jacobi.input_ridge=0"),
    Variant("without the hidden layers' ridge", f"{JACOBI} jacobi.ridge=0"),
    Variant("without the inputs' ridge", f"{JACOBI} jacobi.input_ridge=0"),
    Variant("without the inputs' cut-off", f"{JACOBI} jacobi.input_delta=0"),
    Variant("without averaged weights", f"{JACOBI} jacobi.averaging=0"),
    Variant("without decay of the rates", JACOBI, "constant"),
    Variant("covariances of one batch", f"{JACOBI} jacobi.gram_memory=0"),
    Variant("`seidel`: one layer after another", SEIDEL),
    Variant("the same, a sample's own part not given back", SEIDEL, "own"),
)


@contextmanager
def changed(what: str) -> Iterator[None]:
    """Change the trainer or the targets for a while."""
    import torch

    from nmfdnn import targets
    from nmfdnn.training import jacobi, relaxation, seidel

    trainer: Any = relaxation.RelaxationTrainer
    step = trainer._step

    def at_equal_shares(self: Any, *arguments: Any) -> Any:
        found = step(self, *arguments)
        self.share.fill_(1 / max(1, len(self.weights) - 1))
        return found

    owner: Any = targets.Classes
    replaced: dict[str, list[tuple[Any, str, Callable[..., Any] | float]]] = {
        "": [],
        "no searches": [
            (relaxation, "search", lambda P, R, w: R.new_ones(())),
            (trainer, "_step", at_equal_shares),
        ],
        "share": [(trainer, "_step", at_equal_shares)],
        "squares": [
            (owner, "residual", lambda self, Y, V: Y - V),
            (owner, "felt", lambda self, P, Y, V: P),
        ],
        "softmax": [
            (owner, "residual", lambda self, Y, V: Y - torch.softmax(V, dim=1)),
            (owner, "felt", lambda self, P, Y, V: P),
        ],
        "trust": [(jacobi, "TRUST", 1e6)],
        "constant": [(trainer, "_decay", lambda self: 1.0)],
        "own": [(seidel, "OWN", 0.0)],
    }
    kept = [(place, name, getattr(place, name)) for place, name, _ in replaced[what]]
    try:
        for place, name, value in replaced[what]:
            setattr(place, name, value)
        yield
    finally:
        for place, name, value in kept:
            setattr(place, name, value)


def run(job: board.Job, data: Data, out: Path) -> board.Done:
    """Train a variant."""
    variant = next(variant for variant in VARIANTS if variant.name == job.row)
    with changed(variant.change):
        return board.run(job, data, out)


def job_of(variant: Variant, data: Data, seed: int) -> board.Job:
    """The run of a seed."""
    text = f"{variant.overrides} {data.overrides} epochs={ROWS[0].epochs_on(data.large)}"
    return board.Job(data.name, variant.name, "tune", text, seed)


def table(record: board.Record, data: Data, seeds: list[int]) -> list[str]:
    """Markdown: median, range and mean of the validation errors, and of the differences from `jacobi`."""
    plain = next(variant for variant in VARIANTS if variant.overrides == JACOBI and not variant.change)
    lines = ["| variant | validation error, % | mean beside `jacobi`'s | CPU s |", "|---|---|---|---|"]
    for variant in VARIANTS:
        found, own_runs = (
            [record.done.get(job_of(v, data, seed)) for seed in seeds] for v in (variant, plain)
        )
        both = [(one, own) for one, own in zip(found, own_runs, strict=True) if one and own]
        if not both:
            lines.append(f"| {variant.name} | {board.MISSING} | | |")
            continue
        differences = [one.error - own.error for one, own in both if not one.failed]
        mean = f"{statistics.fmean(differences):+.2f}" if len(differences) == len(both) else ""
        seconds = [one.seconds[-1] for one, _ in both if not one.failed]
        text = spread([one.error for one, _ in both], "diverged")
        lines.append(f"| {variant.name} | {text} | {mean} | {spread(seconds, 'diverged', '.1f')} |")
    return lines


ABOUT = """## What the factorization adds

From FOOF to `jacobi` one change at a time, then each part taken out of `jacobi` by itself; settings as they
are, nothing is tuned anew. Errors are of a validation part; "beside `jacobi`'s" is the mean of the
differences seed by seed. By `python benchmarks/ablation.py OUT --data NAME`."""


def sections(record: board.Record) -> list[str]:
    """Of the board's page: a table for each data set that the record knows."""
    lines = ["", *ABOUT.splitlines()]
    for data in DATA:
        seeds = sorted({job.seed for job in record.done if job.data == data.name})
        if seeds:
            lines += ["", f"### {data.name}, {len(seeds)} seeds", "", *table(record, data, seeds)]
    return lines


def main() -> None:
    """Run what is missing, tabulate."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--data", default="mnist_5k", choices=[data.name for data in DATA])
    parser.add_argument("--variants", nargs="+", default=[""])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--record", type=Path, default=RECORD)
    arguments = parser.parse_args()
    data = next(data for data in DATA if data.name == arguments.data)
    record = board.Record(arguments.record)
    chosen = [variant for variant in VARIANTS if any(text in variant.name for text in arguments.variants)]
    jobs = [job_of(variant, data, seed) for seed in arguments.seeds for variant in chosen]
    todo = [(job, data) for job in dict.fromkeys(jobs) if job not in record.done]
    if arguments.out is not None and todo:
        board.make(record, todo, arguments.out.resolve(), arguments.jobs, run=run)
    print("\n".join(table(record, data, arguments.seeds)))


if __name__ == "__main__":
    main()
