"""One run: configuration in, a folder with records, curves, checkpoint and summary out."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from .. import parallel
from ..data import Dataset, augmented, load
from ..errors import CheckpointError, ParallelError
from ..kernels import kernels
from ..model import FORMER, MODEL
from ..network import Layer, Network, build_layers
from ..records import MEASURES, command, write_metrics, write_summary
from ..source import Source
from ..training import METHODS, Epoch, RelaxationConfig, Start, Trainer, starting_network
from ..training.pretraining import steps
from . import checkpoint
from .config import Config
from .initial import Initial
from .memory import require_memory, reset_peak_memory
from .progress import Progress
from .results import evaluate, finished, hyperparameters, line, outcome, summarise, trained_model
from .tracking import Tracker

log = logging.getLogger(__name__)

START, ORDER = 0, 1
FORMAT = 2
"""Of checkpoints; another number is refused."""

MAY_CHANGE = ("epochs", "threads", "data.path", "data.root", "data.download")
"""Keys that may have other values when a run is continued; a digest guards the data, wherever they lie."""


def run(config: Config, folder: Path, config_text: str = "", overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Train as `config` says, write everything into `folder`, and return the summary.

    `model.safetensors` and then `summary.json` are written last: a summary marks a finished run.

    Args:
        config: the run.
        folder: an existing folder that no other process uses; with `config.resume` it may hold a checkpoint
            to continue from.
        config_text: the resolved configuration, for the record.
        overrides: what was asked for explicitly, for the record and for `Config.fit_batches`.

    Raises:
        CheckpointError: the checkpoint belongs to another configuration or to other data.
        NmfdnnError: bad data, an impossible configuration, or a run that diverged; what was computed stays.
        OSError: `folder` cannot be written; what was written before stays good.
    """
    summary = _run(config, folder, config_text, overrides)
    for warning in summary["warnings"]:
        log.warning("%s", warning)
    return summary


def _run(config: Config, folder: Path, config_text: str, overrides: Sequence[str]) -> dict[str, Any]:
    device = prepare(config)
    if not parallel.agree(config_text):
        raise ParallelError("the processes of this run have different settings: start all with one command")
    saved = checkpoint.load(folder, device) if config.resume else None
    if saved:
        _require_same_config(config, saved, folder)
    initial = _initial(config, saved)
    taken = (initial.preprocessing, initial.targets) if initial else None
    dtype = getattr(torch, config.dtype)
    data = load(config.data, seed=config.seed, device=device, dtype=dtype, taken=taken)
    if not parallel.agree(data.digest):
        raise ParallelError("the processes of this run find different data: give all of them the same files")
    if saved and saved["data"] != data.digest:
        raise CheckpointError(
            f"the data are not those that the run in {folder} was trained on: bring those back to continue "
            "it, or start a run in another hydra.run.dir"
        )
    fitted = config.fit_batches(len(data.train), overrides)
    asked, size = (getattr(getattr(c, c.method), "batch_size", 0) for c in (config, fitted))
    if size < asked:
        log.info("%s.batch_size lowered from %d to all %d training samples", config.method, asked, size)
    layers = build_layers(config.network, data.features, data.image_shape, data.outputs)
    require_memory(config, layers, len(data.train), device)
    source = augmented(data.train, config.data.augment, data.image_shape)

    progress = Progress.from_state(saved["progress"]) if saved else Progress()
    if saved:
        summary = finished(folder, config, progress)
        if summary is not None:
            log.info("this run has ended, after epoch %g: there is nothing to continue", progress.last.epoch)
            return summary
        _tell_continuation(config, saved["config"]["epochs"], progress, folder)
    log.info("%s on %s (%s, %s)", config.method, data.name, device, config.dtype)
    with Tracker(folder, saved["events"] if saved else 0) as tracker:
        if saved:
            start = Start(Network(progress.weights, config.network.bias, layers), 0.0)
        else:
            start = _start(config, source, layers, _generator(config.seed, START), initial)
            progress.pretrain_seconds = start.seconds
            tracker.start(config_text, data, start)
        order = _generator(config.seed, ORDER)
        trainer = METHODS[config.method].make(fitted, start.network, source, order)
        running = _Running(config, data, trainer, progress, folder, tracker, initial)
        if saved:
            trainer.load_state(saved["trainer"])
        else:
            running.record(Epoch(seconds=0.0, learning_rate=0.0))
        running.train()
        kept = Network(progress.weights, config.network.bias, layers)
        parts = {"validation": data.validation, "test": data.test}
        outcomes = {part: outcome(kept, source) for part, source in parts.items() if source is not None}
        temperature = None
        if data.validation is not None:
            held_out = outcomes["validation"]
            temperature = data.targets.temperature(held_out.outputs, held_out.labels, data.validation.weights)
        summary = summarise(
            config, data, progress, kept, outcomes, temperature, device=device, overrides=overrides
        )
        model = trained_model(config, data, progress, kept, temperature, config_text)
        for name in (FORMER, MODEL):
            model.save(folder / name)
        names = (*progress.kept.errors(), "train_seconds")
        metrics = {name: summary[name] for name in names if summary[name] is not None}
        described = command(overrides) if config_text else None
        tracker.end(
            kept,
            data,
            outcomes["test"].outputs,
            progress.last.epoch,
            hyperparameters(fitted),
            metrics,
            described,
            summary["warnings"],
        )
    write_summary(folder, summary)
    return summary


def prepare(config: Config) -> torch.device:
    """Set what is global to the process for this run: threads, precision, seed, memory counters."""
    device = config.torch_device()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.set_float32_matmul_precision(config.matmul_precision)
    torch.manual_seed(config.seed)
    reset_peak_memory(device)
    return device


def _require_same_config(config: Config, saved: dict[str, Any], folder: Path) -> None:
    if saved.get("format") != FORMAT:
        raise CheckpointError(
            f"the checkpoint in {folder} is not of this version of nmfdnn: continue it with the version that "
            "wrote it, or start a run in another hydra.run.dir"
        )
    before, now = saved["config"], config.flat()
    for key in sorted((before.keys() | now.keys()) - {"resume", *MAY_CHANGE}):
        if before.get(key, now.get(key)) != now.get(key):  # an older version may not have had the key
            raise CheckpointError(
                f"the checkpoint in {folder} was written with {key}={before.get(key)}, the configuration "
                f"there says {now.get(key)}: bring its own configuration back to continue it, or start a run "
                "in another hydra.run.dir"
            )


def _tell_continuation(config: Config, epochs: int, progress: Progress, folder: Path) -> None:
    """Say where a run goes on, and what another number of epochs than before means.

    Raises:
        CheckpointError: it has gone farther already.
    """
    done = progress.last.epoch
    if config.epochs < done:
        raise CheckpointError(
            f"the run in {folder} has trained {done:g} epochs, which epochs={config.epochs} cannot undo: "
            f"set epochs={math.ceil(done)} or more, or start a run in another hydra.run.dir"
        )
    log.info("continuing after epoch %g", done)
    if config.epochs == epochs:
        return
    schedule = getattr(getattr(config, config.method), "schedule", "constant")
    if isinstance(getattr(config, config.method), RelaxationConfig) or schedule != "constant":
        log.warning(
            "epochs was %d, now %d: from here on the learning rate is what a run of %d epochs has, which is "
            "not what it has had so far; so the result is not that of a run of %d epochs from the start",
            *(epochs, config.epochs, config.epochs, config.epochs),
        )
    else:
        log.info(
            "epochs was %d, now %d: the learning rate does not depend on it, so the result is that of a run "
            "of %d epochs from the start",
            *(epochs, config.epochs, config.epochs),
        )


def _generator(seed: int, stream: int) -> torch.Generator:
    """An independent stream of random numbers for each purpose, so that one does not shift the other."""
    word = np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(word) >> 1)


def _initial(config: Config, saved: dict[str, Any] | None) -> Initial | None:
    if saved:
        return Initial.from_state(saved["initial"]) if saved.get("initial") else None
    return Initial.read(config.init_from) if config.init_from is not None else None


def _start(
    config: Config,
    source: Source,
    layers: Sequence[Layer],
    generator: torch.Generator,
    initial: Initial | None,
) -> Start:
    if initial:
        like = torch.empty((), dtype=source.dtype, device=source.device)
        return Start(initial.network_for(layers, config.network.bias, like), 0.0)
    how, pretraining = config.network, config.pretraining
    with _bar(steps(pretraining, layers[:-1]) * (how.start == "pretrained"), "pre-training", "step") as bar:
        tick = None if bar.disable else bar.update
        return starting_network(
            source, layers, how, pretraining, config.solver, generator, kernels(config.kernels), tick
        )


@contextmanager
def _bar(total: float, what: str, unit: str, done: float = 0) -> Iterator[tqdm]:
    """A bar with the remaining time on a terminal, nothing elsewhere; log lines are there in both cases."""
    layout = "{desc} {percentage:3.0f}%|{bar}| {n:.4g}/{total} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
    disable = None if total > done and parallel.rank() == 0 else True
    bar = tqdm(desc=what, total=total, initial=done, unit=unit, bar_format=layout, disable=disable)
    with logging_redirect_tqdm(), bar:
        yield bar


@dataclass
class _Running:
    """A run between its start and its end."""

    config: Config
    data: Dataset
    trainer: Trainer
    progress: Progress
    folder: Path
    tracker: Tracker
    initial: Initial | None

    def train(self) -> None:
        """Train all epochs that are left, or until `patience` is spent."""
        progress, epochs, patience = self.progress, self.config.epochs, self.config.patience
        with _bar(epochs, "training", "epoch", progress.last.epoch) as bar:
            if not bar.disable:
                self.trainer.order.tick = bar.update
            while progress.last.epoch < epochs:
                if patience is not None and progress.stale_epochs >= patience:
                    title = MEASURES[progress.last.measure].title
                    log.info("stopped early: no better validation %s for %d epochs", title, patience)
                    break
                self.record(self.trainer.epoch())
                bar.n = progress.last.epoch
                measure = MEASURES[progress.last.measure]
                bar.set_postfix_str(f"test {measure.title} {measure.text(progress.last.test_error)}")

    def record(self, epoch: Epoch) -> None:
        """Evaluate the network as it is after `epoch`, and bring everything on the disk up to date."""
        progress, network = self.progress, self.trainer.network
        if not parallel.agree(str([float(W.double().sum()) for W in network.weights])):
            raise ParallelError(
                "the weights differ from process to process: run them on machines of one kind, with one "
                "version of PyTorch"
            )
        before = progress.last if progress.records else None
        progress.add(evaluate(network, self.trainer, self.data, before, epoch), network.weights)
        log.info("%s", line(progress.last))
        write_metrics(self.folder, progress.records)
        if progress.last.epoch % 1 == 0:
            self.tracker.epoch(progress.last)
        state = {
            "format": FORMAT,
            "config": self.config.flat(),
            "data": self.data.digest,
            "events": self.tracker.size(),
            "trainer": self.trainer.state(),
            "progress": progress.state(),
            "initial": self.initial and self.initial.state(),
        }
        checkpoint.save(self.folder, state)
