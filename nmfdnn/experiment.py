"""One run: configuration in, a folder with records, curves, checkpoint and summary out."""

from __future__ import annotations

import logging
import platform
import resource
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from . import __version__, checkpoint
from .config import METHODS, Config
from .data import Dataset, load
from .kernels import kernels
from .network import Network
from .records import Record, write_metrics, write_summary
from .tracking import Hyperparameter, Tracker
from .training import AlternatingTrainer, BackpropTrainer, JacobiTrainer, Start, Trainer, starting_network

log = logging.getLogger(__name__)

START, ORDER = 0, 1


@dataclass
class Progress:
    """What a run has so far, besides the trainer's own state."""

    records: list[Record] = field(default_factory=list)
    pretrain_seconds: float = 0.0
    best: list[Tensor] = field(default_factory=list)
    best_epoch: float = 0

    def state(self) -> dict[str, Any]:
        """As plain containers and tensors."""
        return {**vars(self), "records": [asdict(record) for record in self.records]}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Progress:
        """The inverse of `state`."""
        return cls(**{**state, "records": [Record(**record) for record in state["records"]]})


def run(config: Config, folder: Path, config_text: str = "", overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Train as `config` says, write everything into `folder`, and return the summary.

    Args:
        config: the run.
        folder: an existing folder; with `config.resume` it may hold a checkpoint to continue from.
        config_text: the resolved configuration, for the record.
        overrides: what was asked for explicitly, for the record and for `Config.fit_batches`.

    Raises:
        NmfdnnError: bad data, an impossible configuration, or a run that diverged; what was computed stays.
    """
    device = prepare(config)
    data = load(config.data, seed=config.seed, device=device, dtype=getattr(torch, config.dtype))
    fitted = config.fit_batches(len(data.train), overrides)
    for name in METHODS:
        if getattr(fitted, name) != getattr(config, name) and config.method == name:
            asked, size = getattr(config, name).batch_size, getattr(fitted, name).batch_size
            log.info("%s.batch_size lowered from %d to all %d training samples", name, asked, size)
    config = fitted
    log.info("%s on %s (%s, %s)", config.method, data.name, device, config.dtype)

    saved = checkpoint.load(folder, device) if config.resume else None
    progress = Progress.from_state(saved["progress"]) if saved else Progress()
    with Tracker(folder, resumed_at=int(progress.records[-1].epoch) if saved else None) as tracker:
        if saved:
            log.info("continuing after epoch %g", progress.records[-1].epoch)
            start = Start(Network(progress.best, config.network.bias), 0.0)
        else:
            start = _start(config, data, _generator(config.seed, START))
            progress.pretrain_seconds = start.seconds
            tracker.start(config_text, data, start.layers)
        trainer = _trainer(config, start.network, data, _generator(config.seed, ORDER))
        if saved:
            trainer.load_state(saved["trainer"])
        else:
            _record(trainer, data, progress, learning_rate=0.0)
            _keep(folder, tracker, trainer, progress)
        _train(config, data, trainer, progress, folder, tracker)
        kept = Network(progress.best, config.network.bias)
        summary = _summary(config, data, kept, progress, device, overrides)
        write_summary(folder, summary)
        torch.save({"weights": kept.weights, "bias": kept.bias}, folder / "network.pt")
        metrics = {key: summary[key] for key in ("train_error", "test_error", "train_seconds")}
        if data.validation is not None:
            metrics["validation_error"] = summary["validation_error"]
        tracker.end(kept, data, _hyperparameters(config), metrics)
    return summary


def prepare(config: Config) -> torch.device:
    """Set what is global to the process for this run: threads, precision, seed, memory counters."""
    device = config.torch_device()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.set_float32_matmul_precision(config.matmul_precision)
    torch.manual_seed(config.seed)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        _reset_peak_memory()
    return device


def _generator(seed: int, stream: int) -> torch.Generator:
    """An independent stream of random numbers for each purpose, so that one does not shift the other."""
    word = np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(word) >> 1)


def _start(config: Config, data: Dataset, generator: torch.Generator) -> Start:
    return starting_network(
        data.train.X,
        data.train.labels,
        data.n_classes,
        config.network,
        config.pretraining,
        config.solver,
        generator,
        kernels(config.kernels),
    )


def _trainer(config: Config, start: Network, data: Dataset, order: torch.Generator) -> Trainer:
    X, labels, parts = data.train.X, data.train.labels, config.records_per_epoch
    if config.method == "bp":
        return BackpropTrainer(start, X, labels, config.bp, config.epochs, order, parts)
    if config.method == "jacobi":
        return JacobiTrainer(start, X, labels, config.jacobi, config.epochs, order, parts)
    element_wise = kernels(config.kernels)
    return AlternatingTrainer(start, X, labels, config.nmf, config.solver, order, element_wise, parts)


def _train(
    config: Config, data: Dataset, trainer: Trainer, progress: Progress, folder: Path, tracker: Tracker
) -> None:
    done = progress.records[-1].epoch
    # disable=None: a bar on a terminal, nothing elsewhere; the log lines are there in both cases.
    with logging_redirect_tqdm(), tqdm(total=config.epochs, initial=done, unit="epoch", disable=None) as bar:
        while progress.records[-1].epoch < config.epochs:
            last = progress.records[-1].epoch
            if config.patience is not None and last - progress.best_epoch >= config.patience:
                log.info("stopped early: no better validation error for %d epochs", config.patience)
                break
            epoch = trainer.epoch()
            _record(trainer, data, progress, epoch.learning_rate, epoch.seconds, epoch.residuals)
            _keep(folder, tracker, trainer, progress)
            bar.update(progress.records[-1].epoch - last)
            bar.set_postfix_str(f"test error {progress.records[-1].test_error:.2f} %")


def _record(
    trainer: Trainer,
    data: Dataset,
    progress: Progress,
    learning_rate: float,
    seconds: float = 0.0,
    residuals: Sequence[float] = (),
) -> None:
    """Evaluate the trainer's network, append the record, and keep the weights if they are the best so far."""
    network = trainer.network
    outputs = network.outputs(data.train.X)
    before = progress.records[-1] if progress.records else None
    record = Record(
        epoch=_next_epoch(before.epoch, trainer.order.parts) if before else 0,
        train_error=_error(outputs.argmax(dim=1), data.train.labels),
        validation_error=(
            _error(network.predict(data.validation.X), data.validation.labels) if data.validation else None
        ),
        test_error=_error(network.predict(data.test.X), data.test.labels),
        objective=trainer.objective(outputs, data.train.labels),
        train_seconds=(before.train_seconds if before else 0.0) + seconds,
        learning_rate=learning_rate,
        residuals=list(residuals),
        weight_norms=[float(W.norm()) for W in network.weights],
    )
    errors = [r.validation_error for r in progress.records if r.validation_error is not None]
    if record.validation_error is None or not errors or record.validation_error < min(errors):
        progress.best, progress.best_epoch = network.weights, record.epoch
    progress.records.append(record)
    log.info("%s", _line(record))


def _next_epoch(epoch: float, parts: int) -> float:
    """One part of an epoch later; a whole number is an int."""
    done = round(epoch * parts) + 1
    return done / parts if done % parts else done // parts


def _error(predicted: Tensor, labels: Tensor) -> float:
    return 100 * float((predicted != labels).double().mean())


def _line(record: Record) -> str:
    parts = [f"epoch {record.epoch:3g}", f"train {record.train_error:6.2f} %"]
    if record.validation_error is not None:
        parts.append(f"validation {record.validation_error:6.2f} %")
    parts += [f"test {record.test_error:6.2f} %", f"objective {record.objective:.4g}"]
    return "  ".join([*parts, f"{record.train_seconds:.1f} s"])


def _keep(folder: Path, tracker: Tracker, trainer: Trainer, progress: Progress) -> None:
    write_metrics(folder, progress.records)
    if progress.records[-1].epoch % 1 == 0:
        tracker.epoch(progress.records[-1])
    checkpoint.save(folder, {"trainer": trainer.state(), "progress": progress.state()})


def _summary(
    config: Config,
    data: Dataset,
    kept: Network,
    progress: Progress,
    device: torch.device,
    overrides: Sequence[str],
) -> dict[str, Any]:
    best = next(record for record in progress.records if record.epoch == progress.best_epoch)
    return {
        "method": config.method,
        "experiment": config.experiment,
        "data": data.name,
        "layers": kept.widths,
        "seed": config.seed,
        "device": str(device),
        "dtype": config.dtype,
        "epochs": config.epochs,
        "epochs_trained": progress.records[-1].epoch,
        "train_error": best.train_error,
        "validation_error": best.validation_error,
        "test_error": best.test_error,
        "best_validation_epoch": best.epoch if data.validation is not None else None,
        "train_seconds": progress.records[-1].train_seconds,
        "pretrain_seconds": progress.pretrain_seconds,
        "peak_memory_mb": peak_memory_mb(device),
        "parameters": kept.parameters,
        "train_samples": len(data.train),
        "threads": torch.get_num_threads(),
        "versions": {
            "nmfdnn": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "git_commit": git_commit(),
        "overrides": [o for o in overrides if not o.startswith("resume=")],
    }


def _hyperparameters(config: Config) -> dict[str, Hyperparameter]:
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


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory of this run in MB: allocated on CUDA, resident in the process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        status = Path("/proc/self/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    except (OSError, StopIteration):
        unit = 1 if platform.system() == "Darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _reset_peak_memory() -> None:
    """Restart the high-water mark, so that each job of a sweep reports its own (Linux only)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        log.debug("the peak memory covers the whole process: /proc/self/clear_refs cannot be written")


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
