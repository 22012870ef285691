"""Diagnostics of the board's rows, pass or fail: depth, width, batches, few samples, noise, ill-scaled data.

`python benchmarks/diagnostics.py OUT` trains every row under each of CHECKS, with what the board's record
chose for it and nothing tuned anew, as the runs of the board are made: one thread, CPU seconds, a record that
is continued (benchmarks/diagnostics.jsonl). Choose with `--data`, `--rows` and `--checks`. `--report` runs
nothing and writes docs/pages/diagnostics.md.

Samples are those that tuning saw: the training part is altered, errors are of the part that is held out, and
no test data are read. A run passes if it ends within LIMIT CPU seconds, with finite weights and an error of
at most MARGIN points above that of a linear classifier of the same samples and labels. MARGIN was
fixed before the first run, and both are the same for every row.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import board
import numpy as np
from board_rows import BP, DATA, ROWS, Data, Row
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

RECORD = board.HERE / "diagnostics.jsonl"
MARGIN = 3.0
LIMIT = 90.0
LINEAR = "linear"
"""The name of the reference in the record."""

Samples = tuple[np.ndarray, np.ndarray, np.ndarray]
"""X (n × features) and y (n) for training, X_test (m × features)."""


def few(number: int, samples: Samples, rng: np.random.Generator) -> Samples:
    """So many training samples, of every class as large a share as before."""
    X, y, X_test = samples
    X, _, y, _ = train_test_split(X, y, train_size=number, stratify=y, random_state=1)
    return X, y, X_test


def noise(samples: Samples, rng: np.random.Generator) -> Samples:
    """A fifth of the training labels is another class's."""
    X, y, X_test = samples
    wrong = rng.random(len(y)) < 0.2
    classes = y.max() + 1
    return X, np.where(wrong, (y + rng.integers(1, classes, len(y))) % classes, y), X_test


def scales(samples: Samples, rng: np.random.Generator) -> Samples:
    """Every feature times a power of ten between 1e-3 and 1e3."""
    X, y, X_test = samples
    unit = 10.0 ** rng.integers(-3, 4, X.shape[1])
    return X * unit, y, X_test * unit


def offset(samples: Samples, rng: np.random.Generator) -> Samples:
    """Every feature plus ten times its largest possible value, 1."""
    X, y, X_test = samples
    return X + 10, y, X_test + 10


ALTERED: dict[str, Callable[[Samples, np.random.Generator], Samples]] = {
    "plain": lambda samples, rng: samples,
    "few-100": partial(few, 100),
    "few-300": partial(few, 300),
    "few-1000": partial(few, 1000),
    "noise": noise,
    "scales": scales,
    "offset": offset,
}


@dataclass(frozen=True)
class Check:
    """What a run differs in from the row's own.

    Attributes:
        name: in tables.
        hidden: widths of hidden layers.
        data: what is done to the samples, a key of ALTERED.
        batch: samples in a mini-batch; None for the row's own number, or all samples where these are fewer.
        times: epochs, as a multiple of the data's; at least one epoch.
    """

    name: str
    hidden: tuple[int, ...] = (1000, 500)
    data: str = "plain"
    batch: float | None = None
    times: float = 1.0


CHECKS = (
    Check("plain"),
    *(Check(f"depth-{depth}", hidden=(100,) * depth) for depth in (2, 4, 6, 10)),
    *(Check(f"width-{width}", hidden=(width, width)) for width in (16, 2000)),
    Check("batch-1", data="few-1000", batch=1, times=0),
    Check("batch-30", batch=30, times=0.25),
    Check("batch-all", batch=math.inf, times=2),
    Check("few-100", data="few-100", times=5),
    Check("few-300", data="few-300", times=5),
    Check("noise", data="noise"),
    Check("scales", data="scales"),
    Check("offset", data="offset"),
)


@dataclass(frozen=True)
class Set:
    """Data of the board, and how they are used here.

    Attributes:
        data: of the board.
        overrides: that choose the samples.
        samples: for training.
        epochs: of every row.
        places: data of the board by whose tuning a row has its settings, the first that there is.
        rows: names; the others wait.
    """

    data: Data
    overrides: str
    samples: int
    epochs: int
    places: tuple[str, ...]
    rows: tuple[str, ...]


def named(name: str) -> Data:
    """Data of the board."""
    return next(data for data in DATA if data.name == name)


SETS = (
    Set(
        named("digits"),
        "data=digits data.validation=0.25",
        1078,
        20,
        ("digits",),
        tuple(row.name for row in ROWS),
    ),
    Set(
        named("fashion_mnist"),
        "data=fashion_mnist data.train_samples=10000 data.validation=0.5",
        5000,
        10,
        ("fashion_mnist", "mnist_5k", "digits"),
        ("jacobi", "seidel", "nmf", "adam", "muon", "monoforward", "ff"),
    ),
)


def chosen(record: board.Record, some: Set, row: Row) -> tuple[Data, board.Job] | None:
    """The row's setting, and the data that it was chosen on; None before any choice."""
    found = ((data, board.choose(record, data, row)) for data in map(named, some.places))
    return next(((data, job) for data, job in found if job is not None), None)


def job_of(choices: board.Record, some: Set, row: Row, check: Check) -> board.Job | None:
    """The run of a row under a check; None where it has no setting yet, or no batches to choose."""
    choice = chosen(choices, some, row)
    if choice is None:
        return None
    data, best = choice
    own = [part for part in best.overrides.split() if not part.startswith(("data=", "epochs="))]
    batch = board.batch_of(data, row, best.overrides)
    if batch == 0 and check.batch is not None:
        return None
    if batch > 0:
        samples = int(check.data.removeprefix("few-")) if check.data.startswith("few-") else some.samples
        size = min(samples, batch if check.batch is None else check.batch)
        own.append(f"{'bp' if row.base.startswith(f'{BP} bp.') else row.name}.batch_size={size}")
    own.append(f"network.hidden=[{','.join(map(str, check.hidden))}]")
    own.append(f"epochs={max(1, round(check.times * some.epochs))}")
    return board.Job(some.data.name, row.name, check.name, " ".join(own), 1)


def file_of(out: Path, name: str, data: str) -> Path:
    """Where altered samples are."""
    return out / "altered" / f"{name}_{data}.npz"


def prepare(out: Path, some: Set) -> None:
    """Write the samples of every alteration, as a network sees those of the board."""
    import torch
    from hydra import compose, initialize_config_module

    from nmfdnn.cli import to_config
    from nmfdnn.data import load

    with initialize_config_module("nmfdnn.configs", version_base="1.3"):
        config = to_config(compose("config", some.overrides.split())).data
    dataset = load(config, seed=1, device=torch.device("cpu"), dtype=torch.float32)
    sources = [source for source in (dataset.train, dataset.validation) if source is not None]
    parts = [source.take(torch.arange(len(source))) for source in sources]
    (X, y), (X_test, y_test) = ((part.X.numpy(), part.labels.numpy()) for part in parts)
    assert len(X) == some.samples
    for name, alter in ALTERED.items():
        new_X, new_y, new_test = alter((X, y, X_test), np.random.default_rng(1))
        file = file_of(out, some.data.name, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        small = np.float32
        np.savez(file, X=new_X.astype(small), y=new_y, X_test=new_test.astype(small), y_test=y_test)


def linear(job: board.Job, out: Path) -> board.Done:
    """The reference: logistic regression behind a StandardScaler."""
    arrays = np.load(file_of(out, job.data, job.stage))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(arrays["X"].astype(float), arrays["y"])
    error = 100 * (1 - model.score(arrays["X_test"].astype(float), arrays["y_test"]))
    return board.Done(job, (round(error, 4),), (0.0,), None, model[-1].coef_.size)


class TooLongError(RuntimeError):
    """A run has had its time."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise `TooLongError` in what runs longer; Windows has no such clock and sets no limit."""
    if sys.platform == "win32":
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLongError(f"more than {seconds:g} CPU seconds")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds, 5)  # once more if something swallowed the first
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def run(job: board.Job, data: Data, out: Path) -> board.Done:
    """Train, in this process, for as long as a run may take."""
    if job.row == LINEAR:
        return linear(job, out)

    check = next(check for check in CHECKS if check.name == job.stage)
    own = [*job.overrides.split(), f"seed={job.seed}", "data.validation=0", "threads=1"]
    own += ["data=arrays", "data.standardize=none", f"data.path={file_of(out, job.data, check.data)}"]
    with limited(LIMIT):
        return board.train(job, own, out)


def reference(some: Set, check: Check) -> board.Job:
    """The linear classifier of a check's samples."""
    return board.Job(some.data.name, LINEAR, check.data, "", 1)


def passed(record: board.Record, some: Set, check: Check, done: board.Done) -> bool:
    """Whether a run is no more than MARGIN points above the reference."""
    return done.error <= record.done[reference(some, check)].error + MARGIN


def _cell(record: board.Record, some: Set, check: Check, job: board.Job | None) -> str:
    if job is None:
        return "–"
    done = record.done.get(job)
    if done is None or reference(some, check) not in record.done:
        return board.MISSING
    if done.failed:
        return f"**{'too long' if TooLongError.__name__ in done.failed else 'failed'}**"
    error = board._number(done.error)
    return error if passed(record, some, check, done) else f"**{error}**"


def table(record: board.Record, choices: board.Record, some: Set) -> list[str]:
    """Markdown: a line for the reference and for each row that has any run."""
    heads = ["method", "passed", *(check.name for check in CHECKS)]
    known = [record.done.get(reference(some, check)) for check in CHECKS]
    first = [board.MISSING if done is None else board._number(done.error) for done in known]
    lines = [board._line(heads), "|---" * len(heads) + "|", board._line([f"{LINEAR} classifier", "", *first])]
    for row in ROWS:
        jobs = [job_of(choices, some, row, check) for check in CHECKS]
        cells = [_cell(record, some, check, job) for check, job in zip(CHECKS, jobs, strict=True)]
        there = [cell for cell in cells if cell not in ("–", board.MISSING)]
        if there:
            good = sum(not cell.startswith("**") for cell in there)
            lines.append(board._line([f"`{row.name}`", f"{good} of {len(there)}", *cells]))
    return lines


def page(record: board.Record, choices: board.Record) -> str:
    """The page of the documentation."""
    lines = [(board.HERE / "diagnostics.md").read_text(encoding="utf-8").rstrip()]
    for some in SETS:
        lines += ["", f"## {some.data.name}", ""]
        lines.append(f"{some.samples} training samples, {some.epochs} epochs.")
        jobs = [job for row in ROWS for check in CHECKS if (job := job_of(choices, some, row, check))]
        done = [record.done[job] for job in jobs if job in record.done]
        there = {one.job.row for one in done}
        if done:
            lines += ["", *table(record, choices, some)]
        if lost := [one for one in done if one.failed and TooLongError.__name__ not in one.failed]:
            lines += ["", "What failed and how:", ""]
            lines += [f"- `{one.job.row}`, {one.job.stage}: {one.failed}" for one in lost]
        elsewhere: dict[str, list[str]] = {}
        for row in ROWS:
            choice = chosen(choices, some, row)
            if choice and choice[0] != some.data and row.name in there:
                elsewhere.setdefault(choice[0].name, []).append(f"`{row.name}`")
        for place, rows in elsewhere.items():
            lines += ["", f"With the settings that were chosen on {place}: {', '.join(rows)}."]
        if waiting := [f"`{row.name}`" for row in ROWS if row.name not in there]:
            lines += ["", f"Not run yet: {', '.join(waiting)}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is missing; or tabulate."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    names = board.names(CHECKS)
    parser.add_argument("out", type=Path, nargs="?", help="folder for the runs, outside the repository")
    parser.add_argument("--data", nargs="+", choices=[some.data.name for some in SETS], default=None)
    parser.add_argument("--rows", nargs="+", choices=board.names(ROWS), help="default: those of the data")
    parser.add_argument("--checks", nargs="+", choices=names, default=names)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--board", type=Path, default=board.RECORD, help="the record that chose the settings")
    parser.add_argument("--report", action="store_true", help="run nothing: write the page")
    arguments = parser.parse_args()
    record, choices = board.Record(arguments.record), board.Record(arguments.board)
    if arguments.report:
        (board.PAGES / "diagnostics.md").write_text(page(record, choices), encoding="utf-8")
        return
    if arguments.out is None:
        parser.error("a folder for the runs is needed")
    out = arguments.out.resolve()
    todo: list[tuple[board.Job, Data]] = []
    for some in SETS:
        if arguments.data is not None and some.data.name not in arguments.data:
            continue
        checks = [check for check in CHECKS if check.name in arguments.checks]
        rows = [row for row in ROWS if row.name in (arguments.rows or some.rows)]
        wanted: list[Any] = [reference(some, check) for check in checks]
        wanted += [job_of(choices, some, row, check) for row in rows for check in checks]
        missing = [job for job in dict.fromkeys(wanted) if job is not None and job not in record.done]
        if missing:
            prepare(out, some)
        todo += [(job, some.data) for job in missing]
    if todo:
        board.make(record, todo, out, arguments.jobs, run=run)


if __name__ == "__main__":
    main()
