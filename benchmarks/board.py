"""The board: every method on the same network, data, order and clock, tuned by the same number of runs.

`python benchmarks/board.py OUT` makes the runs of `board_rows.py` that the record, benchmarks/board.jsonl,
does not have yet, and appends each as it ends; a run that was killed goes on from its checkpoint in OUT.
Choose with `--data`, `--rows`, `--stages` and `--seeds`. `--jobs 2` runs two at a time, and `--part 1/4`
takes every fourth run: four machines make four records, whose lines are put together in any order before the
next stage. `--report` runs nothing and writes the tables of the record and a picture into docs/pages.
`--experiments` runs nothing and writes configurations: what was chosen for each row into
configs/experiment/board, what is tried into configs/search/board.

- `tune`: what is tried for a row, seed 1, with a part of the training data held out. Of these runs the record
  has validation errors only, so no choice can see a test error. The lowest after the last epoch wins.
- `final`: the winner on all training data, once for every seed; test errors.
- `clock`: the winner for three epochs in a process of its own, row after row: seconds an epoch, peak memory.

All runs have one thread, and their seconds are the CPU's, so that a busy machine changes them little. They
include what comes before the first epoch (whitening), not the start of the network or evaluation.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

from board_configs import EXPERIMENTS, SWEEPS, experiment, replace, settings, sweep
from board_rows import BP, DATA, ROWS, SMALL_EPOCHS, VALIDATION, Data, Row
from matplotlib.figure import Figure

HERE = Path(__file__).parent
RECORD = HERE / "board.jsonl"
PAGES = HERE.parent / "docs" / "pages"
STAGES = ("tune", "final", "clock")
SEEDS = {False: (1, 2, 3, 4, 5), True: (1, 2, 3)}
"""Of final runs, for data that are large or not."""
CLOCK_EPOCHS = 3
PLACES = ("fashion_mnist", "mnist_5k")
"""Data whose choices become experiments."""
MISSING = "not run"


@dataclass(frozen=True)
class Job:
    """A run, and what identifies it in the record."""

    data: str
    row: str
    stage: str
    overrides: str
    seed: int

    def folder(self, out: Path) -> Path:
        """Where it runs."""
        digest = sha256(f"{self.row} {self.overrides}".encode()).hexdigest()[:12]
        return out / self.stage / f"{self.data}_{self.seed}_{digest}"


@dataclass(frozen=True)
class Done:
    """A line of the record.

    Attributes:
        job: the run.
        errors: %, after every epoch, the start first: of the validation part where there is one, else of the
            test data; empty for a run that failed.
        seconds: of training until then.
        memory: peak of its process, MB, where that had no other run.
        parameters: numbers that are trained.
        failed: why, or "".
        start: seconds of the start of the network before that, of runs for the clock.
    """

    job: Job
    errors: tuple[float, ...]
    seconds: tuple[float, ...]
    memory: float | None
    parameters: int
    failed: str = ""
    start: float | None = None

    @property
    def error(self) -> float:
        """After the last epoch; infinite for a run that failed."""
        return math.inf if self.failed or math.isnan(self.errors[-1]) else self.errors[-1]

    def seconds_to(self, error: float) -> float | None:
        """CPU seconds to the first epoch with at most this error."""
        pairs = zip(self.errors, self.seconds, strict=True)
        return next((seconds for found, seconds in pairs if found <= error), None)


class Record:
    """Finished runs, one a line of a text file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.done: dict[Job, Done] = {}
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
            values = json.loads(line)
            job = Job(**values.pop("job"))
            self.done[job] = Done(job, tuple(values.pop("errors")), tuple(values.pop("seconds")), **values)

    def add(self, done: Done) -> None:
        """Append a run."""
        self.done[done.job] = done
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(done)) + "\n")


def candidates(data: Data, row: Row) -> list[Job]:
    """The runs that a row's settings are chosen by."""
    tried = row.large if data.large else row.small
    texts = [
        f"{row.base} {data.overrides} epochs={row.epochs_on(data.large)} {text}".strip() for text in tried
    ]
    return [Job(data.name, row.name, "tune", text, 1) for text in texts]


def choose(record: Record, data: Data, row: Row) -> Job | None:
    """The candidate with the lowest validation error, the first of equals; None while one has not run."""
    jobs = candidates(data, row)
    if not all(job in record.done for job in jobs):
        return None
    best = min(jobs, key=lambda job: record.done[job].error)
    return best if record.done[best].error < math.inf else None


def jobs(record: Record, data: Data, row: Row, stage: str, seeds: Sequence[int] | None) -> list[Job]:
    """The runs of a stage, whether they are done or not."""
    if stage == "tune":
        return candidates(data, row)
    best = choose(record, data, row)
    if best is None:
        return []
    if stage == "clock":
        return [Job(data.name, row.name, stage, best.overrides, 1)]
    chosen = SEEDS[data.large] if seeds is None else seeds
    return [Job(data.name, row.name, stage, best.overrides, seed) for seed in chosen]


def arguments_of(job: Job, data: Data, out: Path) -> list[str]:
    """The command line of a run."""
    held = VALIDATION[data.large] if job.stage == "tune" else 0
    own = [*job.overrides.split(), f"seed={job.seed}", f"data.validation={held}", "threads=1"]
    if job.stage == "clock":
        own = [text for text in own if not text.startswith("epochs=")] + [f"epochs={CLOCK_EPOCHS}"]
    if data.table:
        own.append(f"data.path={out / 'tables' / f'{data.table}_{job.seed}.npz'}")
    if data.name == "cifar10":
        own.append(f"data.path={Path(os.environ['NMFDNN_DATA'], 'cifar10.npz')}")
    return own


def run(job: Job, data: Data, out: Path) -> Done:
    """Train, in this process."""
    if data.table:
        from tables import split

        split(out / "tables" / f"{data.table}_{job.seed}.npz", data.table, job.seed)
    return train(job, arguments_of(job, data, out), out)


def train(job: Job, arguments: Sequence[str], out: Path) -> Done:
    """The run of a job by a command line, in this process, with one thread and the CPU's seconds."""
    import torch

    import nmfdnn
    from nmfdnn.errors import NmfdnnError
    from nmfdnn.records import read_metrics
    from nmfdnn.training.common import Stopwatch

    torch.set_num_threads(1)
    Stopwatch._now = lambda self: time.process_time()  # type: ignore[method-assign]
    folder = job.folder(out)
    try:
        trained = nmfdnn.train("resume=true", *arguments, folder=folder)
    except (NmfdnnError, RuntimeError) as error:  # it diverged
        shutil.rmtree(folder, ignore_errors=True)
        return Done(job, (), (), None, 0, failed=f"{type(error).__name__}: {error}"[:200])
    rows = read_metrics(folder)
    part = "validation_error" if job.stage == "tune" else "test_error"
    alone = job.stage == "clock"
    done = Done(
        job,
        tuple(round(row[part] or 0.0, 4) for row in rows),
        tuple(round(row["train_seconds"] or 0.0, 3) for row in rows),
        trained.summary["peak_memory_mb"] if alone else None,
        trained.summary["parameters"],
        start=round(trained.summary["pretrain_seconds"], 3) if alone else None,
    )
    shutil.rmtree(folder)  # its checkpoints are large
    return done


def make(
    record: Record,
    todo: Sequence[tuple[Job, Data]],
    out: Path,
    workers: int,
    *,
    alone: bool = False,
    run: Callable[[Job, Data, Path], Done] = run,
) -> None:
    """Run what is to do, so many at a time; `alone`: each in a process of its own."""
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, max_tasks_per_child=1 if alone else None) as pool:
        futures = [pool.submit(run, job, data, out) for job, data in todo]
        for number, future in enumerate(as_completed(futures), start=1):
            if future.exception() is not None:  # a defect: the others go on, and the run is tried again
                print(f"{number}/{len(todo)} {future.exception()!r}", flush=True)
                continue
            done = future.result()
            record.add(done)
            job = done.job
            print(
                f"{number}/{len(todo)} {job.data} {job.row} {job.stage} {job.seed}: "
                f"{done.failed or f'{done.error:.2f} % after {done.seconds[-1]:.1f} s'}  {job.overrides}",
                flush=True,
            )


def final_runs(record: Record, data: Data, row: Row) -> list[Done]:
    """Those of the seeds that are there."""
    found = [record.done.get(job) for job in jobs(record, data, row, "final", None)]
    return [done for done in found if done is not None]


def tuned(data: Data, row: Row) -> list[str]:
    """The keys in which candidates differ."""
    all_settings = [settings(job.overrides) for job in candidates(data, row)]
    keys = {key for one in all_settings for key in one}
    return sorted(key for key in keys if len({one.get(key) for one in all_settings}) > 1)


def sensitivity(record: Record, data: Data, row: Row) -> str:
    """The chosen settings, and validation errors of runs that differ from them in one key."""
    best = choose(record, data, row)
    if best is None:
        return MISSING
    own, keys = settings(best.overrides), tuned(data, row)
    texts = []
    for key in keys:
        found = [f"**{own.get(key, 'default')}** {_number(record.done[best].error)}"]
        for job in candidates(data, row):
            other = settings(job.overrides)
            if [k for k in keys if own.get(k) != other.get(k)] == [key]:
                found.append(f"{other.get(key, 'default')} {_number(record.done[job].error)}")
        texts.append(f"`{key.rpartition('.')[2]}` {', '.join(found)}")
    return "; ".join(texts)


def table(record: Record, data: Data) -> list[str]:
    """Markdown: a line for each row, in the order of their errors."""
    seconds = [f"CPU s to {error:g} %" for error in data.errors]
    heads = ["method", "test error, %", "seeds", "epochs", "CPU s", *seconds, "per epoch", "start", "peak MB"]
    heads += ["held, MB", "tuned"]
    lines = [_line(heads), "|---" * len(heads) + "|"]
    found = [(row, final_runs(record, data, row)) for row in ROWS]
    for row, runs in sorted(found, key=lambda pair: _middle([done.error for done in pair[1]])):
        if not runs:
            if (reason := _reason(record, data, row)) != MISSING:
                lines.append(_line([f"`{row.name}`", reason, *[""] * (len(heads) - 2)]))
            continue
        clock = next(iter(jobs(record, data, row, "clock", None)))
        timed = record.done.get(clock)
        per_epoch = None if timed is None or timed.failed else statistics.median(_steps(timed.seconds))
        cells = [
            f"`{row.name}`",
            _spread([done.error for done in runs], without="diverged"),
            str(len(runs)),
            settings(runs[0].job.overrides)["epochs"],
            _spread([None if done.failed else done.seconds[-1] for done in runs], ".1f"),
            *(_spread([done.seconds_to(error) for done in runs], ".1f") for error in data.errors),
            MISSING if per_epoch is None else f"{per_epoch:.2f}",
            MISSING if timed is None or timed.start is None else f"{timed.start:.2f}",
            MISSING if timed is None or timed.memory is None else f"{timed.memory:.0f}",
            _held(data, row, runs[0].job),
            str(len(tuned(data, row))),
        ]
        lines.append(_line(cells))
    return lines


def batch_of(data: Data, row: Row, overrides: str) -> int:
    """Samples in a mini-batch; 0 for all."""
    own = settings(overrides)
    return next((int(own[key]) for key in own if key.endswith("batch_size")), row.batch[data.large])


def _held(data: Data, row: Row, job: Job) -> str:
    """4 bytes for each number that waits for an update, in MB."""
    inputs, samples, classes = data.shape
    batch = batch_of(data, row, job.overrides)
    return f"{4 * row.held([inputs, 1000, 500, classes], min(batch, samples), samples) / 1e6:.1f}"


def _reason(record: Record, data: Data, row: Row) -> str:
    tries = [record.done.get(job) for job in candidates(data, row)]
    if all(done is not None and done.failed for done in tries):
        return "diverged in all of its tuning"
    return "tuned, not run" if choose(record, data, row) else MISSING


def _steps(seconds: Sequence[float]) -> list[float]:
    return [after - before for before, after in pairwise(seconds[1:])]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(error: float) -> str:
    return f"{error:.2f}" if error < math.inf else "diverged"


def _middle(values: Sequence[float]) -> float:
    return statistics.median(values) if values else math.inf


def _spread(values: Sequence[float | None], form: str = ".2f", without: str = "never") -> str:
    """Median (range); infinite is None, in words `without`."""
    found = sorted(math.inf if value is None else value for value in values)
    texts = [f"{value:{form}}" if value < math.inf else without for value in found]
    if texts[0] == without:
        return without
    middle = statistics.median(found)
    median = f"{middle:{form}}" if middle < math.inf else without
    return f"{median} ({texts[0]} – {texts[-1]})"


def draw(record: Record) -> Figure:
    """A panel for each data set: median and range of the test error against CPU seconds of training."""
    shown = [data for data in DATA if any(final_runs(record, data, row) for row in ROWS)]
    columns = max(1, min(3, len(shown)))
    lines = max(1, -(-len(shown) // columns))
    figure = Figure(figsize=(6.5 * columns, 6 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes[len(shown) :]:
        axis.axis("off")
    for axis, data in zip(axes, shown, strict=False):
        for row in ROWS:
            runs = [done for done in final_runs(record, data, row) if done.error < math.inf]
            if not runs:
                continue
            errors = [done.error for done in runs]
            x, y = statistics.median(done.seconds[-1] for done in runs), statistics.median(errors)
            own = row.name in ("jacobi", "seidel", "nmf")
            color = "C3" if own else "C0" if row.base.startswith(f"{BP} bp.") else "C7"
            axis.errorbar(x, y, [[y - min(errors)], [max(errors) - y]], fmt="o", color=color, capsize=2)
            lost = len(final_runs(record, data, row)) - len(runs)
            name = f"{row.name} ({lost} diverged)" if lost else row.name
            weight = "bold" if own else "normal"
            axis.annotate(name, (x, y), (4, 3), textcoords="offset points", weight=weight, rotation=35)
        axis.set(xscale="log", yscale="log", title=data.name, xlabel="CPU seconds of training")
        for one in (axis.xaxis, axis.yaxis):
            one.set_major_formatter("{x:g}")
            one.set_minor_formatter("{x:g}")
        axis.grid(alpha=0.3, which="both")
    figure.supylabel("test error, %")
    return figure


def page(record: Record) -> str:
    """The page of the documentation."""
    lines = [(HERE / "board.md").read_text(encoding="utf-8").rstrip()]
    for data in DATA:
        epochs = "each row its own epochs" if data.large else f"{SMALL_EPOCHS} epochs"
        lines += ["", f"## {data.name}", ""]
        if not any(job in record.done for row in ROWS for job in candidates(data, row)):
            lines.append("Not run yet.")
            continue
        budget = len(ROWS[0].large if data.large else ROWS[0].small)
        lines.append(f"{budget} runs of tuning for every row; {epochs}. {data.shape[1]} training samples.")
        lines += ["", *table(record, data), "", "What was tried, validation error in %:", ""]
        lines += ["| method | settings |", "|---|---|"]
        known = [row for row in ROWS if _reason(record, data, row) != MISSING]
        lines += [_line([f"`{row.name}`", sensitivity(record, data, row)]) for row in known]
        if others := [f"`{row.name}`" for row in ROWS if row not in known]:
            lines += ["", f"Not run yet: {', '.join(others)}."]
    return "\n".join(lines) + "\n"


def experiments(record: Record) -> dict[str, str]:
    """The configuration of every row that has a setting, chosen on the first of PLACES that there is."""
    found = {}
    places = [data for place in PLACES for data in DATA if data.name == place]
    for row in ROWS:
        chosen = [(data, best) for data in places if (best := choose(record, data, row)) is not None]
        for data, best in chosen[:1]:
            error = f"{record.done[best].error:.2f} %"
            about = (
                f"The board's `{row.name}` as chosen on {data.name}, with {error} of the validation part.\n"
                "For all training data add data.validation=0. By `python benchmarks/board.py --experiments`."
            )
            found[row.name] = experiment(row.name, best.overrides, about)
    return found


def sweeps() -> dict[str, str]:
    """The configurations of what is tried."""
    return {f"{row.name}{'_large' * large}": sweep(row, large) for row in ROWS for large in (False, True)}


def names(values: Iterable[Any]) -> list[str]:
    """Of rows or data."""
    return [value.name for value in values]


def waiting(record: Record, arguments: argparse.Namespace, stage: str) -> Iterator[tuple[Job, Data]]:
    """The runs that the record does not have, those of the first seed first."""
    rows = [row for row in ROWS if row.name in arguments.rows]
    found = [
        (job, data)
        for data in DATA
        if data.name in arguments.data
        for row in rows
        for job in jobs(record, data, row, stage, arguments.seeds)
    ]
    part, parts = (int(number) for number in arguments.part.split("/"))
    for index, (job, data) in enumerate(sorted(found, key=lambda pair: pair[0].seed)):
        if index % parts == part - 1 and job not in record.done:
            yield job, data


def main() -> None:
    """Run what is missing; or tabulate and draw."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("out", type=Path, nargs="?", help="folder for the runs, outside the repository")
    parser.add_argument("--data", nargs="+", choices=names(DATA), default=names(DATA))
    parser.add_argument("--rows", nargs="+", choices=names(ROWS), default=names(ROWS))
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--seeds", nargs="+", type=int, help="of final runs; default: all of them")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, but for the clock")
    parser.add_argument("--part", default="1/1", help="1/4 for the first of four machines")
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--report", action="store_true", help="run nothing: write the page and the picture")
    parser.add_argument("--experiments", action="store_true", help="run nothing: write the configurations")
    arguments = parser.parse_args()
    record = Record(arguments.record)
    if arguments.experiments:
        replace(EXPERIMENTS, experiments(record))
        replace(SWEEPS, sweeps())
        return
    if arguments.report:
        import ablation  # which imports this module, and compares runs by the classes of its copy

        parts = ablation.sections(ablation.board.Record(ablation.RECORD))
        (PAGES / "board.md").write_text(page(record) + "\n".join(parts) + "\n", encoding="utf-8")
        draw(record).savefig(PAGES / "board.png", dpi=80)
        return
    if arguments.out is None:
        parser.error("a folder for the runs is needed")
    for stage in arguments.stages:
        alone = stage == "clock"
        todo = list(waiting(record, arguments, stage))
        if todo:
            make(record, todo, arguments.out.resolve(), 1 if alone else arguments.jobs, alone=alone)


if __name__ == "__main__":
    main()
