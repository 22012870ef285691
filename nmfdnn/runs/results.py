"""From a network to what is reported of it: a record, warnings, `summary.json` and the model.

What an error is, the targets say. Test errors are recorded; nothing is chosen by them.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import parallel
from ..data import Dataset
from ..errors import CheckpointError
from ..model import Model, load
from ..network import Network
from ..records import MEASURES, PARTS, Record, read_summary
from ..source import Source, mass
from ..training import METHODS, Epoch, Trainer
from ..version import __version__
from .config import Config
from .memory import peak_memory_mb
from .progress import Progress


def evaluate(
    network: Network, trainer: Trainer, data: Dataset, before: Record | None, epoch: Epoch
) -> Record:
    """The record of the trainer's `network` after `epoch`; `before` is the record before that, if any."""
    train_error, objective = measure(network, data.train, trainer.objective)
    return Record(
        epoch=next_epoch(before.epoch, trainer.order.parts) if before else 0,
        train_error=train_error,
        validation_error=measure(network, data.validation, weighted=True)[0] if data.validation else None,
        test_error=measure(network, data.test)[0],
        objective=objective,
        train_seconds=(before.train_seconds if before else 0.0) + epoch.seconds,
        learning_rate=epoch.learning_rate,
        residuals=list(epoch.residuals),
        weight_norms=[float(W.norm()) for W in network.weights],
        measure=data.targets.measure,
    )


def next_epoch(epoch: float, parts: int) -> float:
    """One part of an epoch later; a whole number is an int."""
    done = round(epoch * parts) + 1
    return done / parts if done % parts else done // parts


def measure(
    network: Network,
    source: Source,
    objective: Callable[..., float] | None = None,
    *,
    weighted: bool = False,
) -> tuple[float, float]:
    """Error of the network on a source, and the mean of an objective there (0 if None).

    In the objective samples count as often as their weights say; in the error, where it is not to be
    `weighted`, once.
    """
    targets, every = source.targets, mass(source)
    misses: list[Tensor] = []
    mean, seen = 0.0, 0.0
    for batch in source.passes():
        outputs = network.outputs(batch.X)
        misses.append(targets.misses(outputs, batch.labels, batch.weights if weighted else None))
        here = len(outputs) if batch.weights is None else float(batch.weights.sum(dtype=torch.float64))
        seen += here
        if objective is not None and here > 0:
            mean += (objective(outputs, batch.labels, batch.weights) - mean) * (here / seen)
    share = torch.tensor(mean * (seen / every), dtype=torch.float64, device=source.device)
    total, value = parallel.totals(torch.stack(misses).sum(dim=0), share)
    return targets.error(total, every if weighted else len(source)), float(value)


@dataclass(frozen=True)
class Outcome:
    """What the kept weights make of a part of the data, on every rank: outputs (n × m) and labels."""

    outputs: Tensor
    labels: Tensor


def outcome(network: Network, source: Source) -> Outcome:
    """Outputs for all samples of a source."""
    here = torch.cat([network.outputs(part.X) for part in source.passes()])
    return Outcome(parallel.joined(here), source.labels)


def line(record: Record) -> str:
    """A record for the log."""
    measure = MEASURES[record.measure]
    errors = zip(PARTS, (getattr(record, f"{part}_error") for part in PARTS), strict=True)
    parts = [f"{part} {measure.text(error):>8}" for part, error in errors if error is not None]
    title = [] if measure.unit else [measure.title]
    parts = [f"epoch {record.epoch:3g}", *title, *parts, f"objective {record.objective:.4g}"]
    return "  ".join([*parts, f"{record.train_seconds:.1f} s"])


def warnings(method: str, progress: Progress, train: Source, held_out: int) -> list[str]:
    """What makes a result doubtful, each with a remedy.

    Args:
        method: of training.
        progress: of the finished run.
        train: the training part, for the error of answering always the same.
        held_out: samples of the validation part.
    """
    kept, last, slower = progress.kept, progress.last, METHODS[method].slower
    targets, shown = train.targets, MEASURES[kept.measure]
    found = []
    if kept.epoch == 0 < last.epoch:
        found.append(
            f"the kept weights are those before any training, because no epoch has as low a validation "
            f"{shown.title}: "
            f"{slower}; or raise data.validation, if it is a small part"
        )
    if kept.validation_error is not None and last.validation_error is not None:
        risen = last.validation_error - kept.validation_error
        if risen > max(kept.validation_error / 2, targets.slack(held_out)):
            found.append(
                f"the validation {shown.title} rose from {shown.text(kept.validation_error)} at epoch "
                f"{kept.epoch:g}, which is kept, to {shown.text(last.validation_error)} at the end: {slower}"
            )
    guess = targets.guess_error(train.labels)
    name, error = (
        ("training", kept.train_error)
        if kept.validation_error is None
        else ("validation", kept.validation_error)
    )
    plain = train.weights is None  # where samples weigh differently, more errors may be what was asked for
    if plain and last.epoch > 0 and error >= targets.hardly * guess:
        found.append(
            f"the {name} {shown.title} of {shown.text(error)} is hardly below {shown.text(guess)}, that of "
            f"always answering with {targets.guess}: check that X and y belong together and that no column "
            f"of X dwarfs the others, train for more epochs, or {slower}"
        )
    return found


def summarise(
    config: Config,
    data: Dataset,
    progress: Progress,
    network: Network,
    outcomes: Mapping[str, Outcome],
    temperature: float | None,
    device: torch.device,
    overrides: Sequence[str],
) -> dict[str, Any]:
    """The contents of `summary.json`: errors of the kept weights, and under "last" those of the last.

    `outcomes` are those of the kept weights, from which more measures are computed.
    """
    kept, last = progress.kept, progress.last
    held_out = 0 if data.validation is None else len(data.validation)
    return {
        "method": config.method,
        "experiment": config.experiment,
        "data": data.name,
        "layers": network.widths,
        "seed": config.seed,
        "device": str(device),
        "ranks": parallel.ranks(),
        "dtype": config.dtype,
        "epochs": config.epochs,
        "epochs_trained": last.epoch,
        "measure": kept.measure,
        **kept.errors(),
        **{
            f"{part}_{name}": value
            for part, of in outcomes.items()
            for name, value in data.targets.measures(of.outputs, of.labels, temperature).items()
        },
        "best_validation_epoch": kept.epoch if data.validation is not None else None,
        "last": {"epoch": last.epoch, **last.errors()},
        "warnings": warnings(config.method, progress, data.train, held_out),
        "train_seconds": last.train_seconds,
        "pretrain_seconds": progress.pretrain_seconds,
        "peak_memory_mb": peak_memory_mb(device),
        "parameters": network.parameters,
        "train_samples": len(data.train),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "git_commit": git_commit(),
        "overrides": list(overrides),
    }


def trained_model(
    config: Config,
    data: Dataset,
    progress: Progress,
    network: Network,
    temperature: float | None,
    config_text: str,
) -> Model:
    """The kept weights and all that predicting with them needs."""
    kept = progress.kept
    information = {
        "method": config.method,
        "data": data.name,
        "epoch": kept.epoch,
        **kept.errors(),
        "configuration": config_text,
        "versions": versions(),
    }
    image_shape = data.image_shape
    return Model(network, data.targets, data.preprocessing, image_shape, temperature, information)


def versions() -> dict[str, str]:
    """Of what a result depends on."""
    return {
        "nmfdnn": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # of a class of its own
        "numpy": np.__version__,
    }


def finished(folder: Path, config: Config, progress: Progress) -> dict[str, Any] | None:
    """The summary of `folder` if it is that of this run with nothing left to do, else None."""
    try:
        summary = read_summary(folder)
        load(folder)
    except (OSError, ValueError, CheckpointError):
        return None
    same = (summary.get("epochs"), summary.get("epochs_trained")) == (config.epochs, progress.last.epoch)
    return summary if same else None


def hyperparameters(config: Config) -> dict[str, str | int | float | bool | None]:
    """The part of the configuration that can matter for the result, flat, for TensorBoard's HParams tab.

    Every run has the same keys, those of the other method being empty, because TensorBoard takes the table's
    columns from the first run that it finds.
    """
    values: dict[str, Any] = {
        "data": config.data.name,
        **{key: getattr(config, key) for key in ("experiment", "method", "epochs", "seed", "dtype")},
    }
    for name in ("network", "solver", *METHODS):
        for key, value in asdict(getattr(config, name)).items():
            values[f"{name}.{key}"] = None if name in METHODS and name != config.method else value
    plain = (str, int, float, bool, type(None))
    return {key: value if isinstance(value, plain) else str(value) for key, value in values.items()}


def git_commit() -> str | None:
    """Commit of the source tree that this package runs from, None where it is not a tracked checkout."""
    source = Path(__file__)
    try:
        subprocess.run(
            ["git", "ls-files", "--error-unmatch", source.name],
            cwd=source.parent,
            capture_output=True,
            check=True,
        )
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=source.parent, capture_output=True, check=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
