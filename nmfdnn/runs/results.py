"""From a network to what is reported of it: a record, warnings, `summary.json` and the model.

Errors are percentages of misclassified samples. Test errors are recorded; nothing is chosen by them.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import parallel
from ..data import Dataset
from ..errors import CheckpointError
from ..model import Model, calibrated, load
from ..network import Network
from ..records import Record, read_summary
from ..source import Source
from ..training import METHODS, Epoch, Trainer
from ..version import __version__
from .config import Config
from .memory import peak_memory_mb
from .progress import Progress

FAR = 5.0
"""Points, at least, by which the last validation error is above the kept one where that gets a warning."""


def evaluate(
    network: Network, trainer: Trainer, data: Dataset, before: Record | None, epoch: Epoch
) -> Record:
    """The record of the trainer's `network` after `epoch`; `before` is the record before that, if any."""
    train_error, objective = measure(network, data.train, trainer.objective)
    return Record(
        epoch=next_epoch(before.epoch, trainer.order.parts) if before else 0,
        train_error=train_error,
        validation_error=measure(network, data.validation)[0] if data.validation else None,
        test_error=measure(network, data.test)[0],
        objective=objective,
        train_seconds=(before.train_seconds if before else 0.0) + epoch.seconds,
        learning_rate=epoch.learning_rate,
        residuals=list(epoch.residuals),
        weight_norms=[float(W.norm()) for W in network.weights],
    )


def next_epoch(epoch: float, parts: int) -> float:
    """One part of an epoch later; a whole number is an int."""
    done = round(epoch * parts) + 1
    return done / parts if done % parts else done // parts


def measure(
    network: Network, source: Source, objective: Callable[[Tensor, Tensor], float] | None = None
) -> tuple[float, float]:
    """Error in % of the network on a source, and the mean of an objective there (0 if None)."""
    wrong = torch.zeros((), dtype=torch.int64, device=source.device)
    mean, seen = 0.0, 0
    for batch in source.passes():
        outputs = network.outputs(batch.X)
        wrong += (outputs.argmax(dim=1) != batch.labels).sum()
        seen += len(outputs)
        if objective is not None and len(outputs):
            mean += (objective(outputs, batch.labels) - mean) * (len(outputs) / seen)
    share = torch.tensor(mean * (seen / len(source)), dtype=torch.float64, device=source.device)
    errors, value = parallel.totals(wrong, share)
    return 100 * (int(errors) / len(source)), float(value)


def line(record: Record) -> str:
    """A record for the log."""
    parts = [f"epoch {record.epoch:3g}", f"train {record.train_error:6.2f} %"]
    if record.validation_error is not None:
        parts.append(f"validation {record.validation_error:6.2f} %")
    parts += [f"test {record.test_error:6.2f} %", f"objective {record.objective:.4g}"]
    return "  ".join([*parts, f"{record.train_seconds:.1f} s"])


def warnings(method: str, progress: Progress, labels: Tensor, held_out: int) -> list[str]:
    """What makes a result doubtful, each with a remedy.

    Args:
        method: of training.
        progress: of the finished run.
        labels: of the training part, for the error of always answering with its most frequent class.
        held_out: samples of the validation part, two of which do not make a rise.
    """
    kept, last, slower = progress.kept, progress.last, METHODS[method].slower
    found = []
    if kept.epoch == 0 < last.epoch:
        found.append(
            "the kept weights are those before any training, because no epoch has as low a validation error: "
            f"{slower}; or raise data.validation, if it is a small part"
        )
    if kept.validation_error is not None and last.validation_error is not None:
        risen = last.validation_error - kept.validation_error
        if risen > max(FAR, kept.validation_error / 2, 200.5 / held_out):
            found.append(
                f"the validation error rose from {kept.validation_error:.2f} % at epoch {kept.epoch:g}, "
                f"which is kept, to {last.validation_error:.2f} % at the end: {slower}"
            )
    majority = 100 * (1 - int(labels.bincount().max()) / len(labels))
    name, error = (
        ("training", kept.train_error)
        if kept.validation_error is None
        else ("validation", kept.validation_error)
    )
    if last.epoch > 0 and error >= 0.9 * majority:
        found.append(
            f"the {name} error of {error:.2f} % is hardly below {majority:.2f} %, that of always answering "
            "with the most frequent class: check that X and y belong together and that no column of X dwarfs "
            f"the others, train for more epochs, or {slower}"
        )
    return found


def summarise(
    config: Config,
    data: Dataset,
    progress: Progress,
    network: Network,
    device: torch.device,
    overrides: Sequence[str],
) -> dict[str, Any]:
    """The contents of `summary.json`: errors of the kept weights, and under "last" those of the last."""
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
        "train_error": kept.train_error,
        "validation_error": kept.validation_error,
        "test_error": kept.test_error,
        "best_validation_epoch": kept.epoch if data.validation is not None else None,
        "last": {
            key: getattr(last, key) for key in ("epoch", "train_error", "validation_error", "test_error")
        },
        "warnings": warnings(config.method, progress, data.train.labels, held_out),
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
    config: Config, data: Dataset, progress: Progress, network: Network, config_text: str
) -> Model:
    """The kept weights and all that predicting with them needs; probabilities by the validation part."""
    temperature = None
    if data.validation is not None:
        outputs = torch.cat([network.outputs(part.X) for part in data.validation.passes()])
        temperature = calibrated(parallel.joined(outputs), data.validation.labels)
    kept = progress.kept
    information = {
        "method": config.method,
        "data": data.name,
        "epoch": kept.epoch,
        **{name: getattr(kept, name) for name in ("train_error", "validation_error", "test_error")},
        "configuration": config_text,
        "versions": versions(),
    }
    image_shape = data.image_shape
    return Model(network, data.classes, data.preprocessing, image_shape, temperature, information)


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
