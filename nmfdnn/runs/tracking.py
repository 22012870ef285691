"""TensorBoard: curves, pictures, configuration, hyper-parameters of a run. Nothing else knows TensorBoard."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import torch
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor
from torch.utils.tensorboard import summary as summaries

from .. import parallel
from ..data import Dataset
from ..factorization import split_bias
from ..files import named
from ..network import Network
from ..records import MEASURES, PARTS, Record
from ..source import Source
from ..text import one_line
from ..training import Start
from ..views.figures import (
    is_image,
    mistakes,
    mistakes_figure,
    outcome_picture,
    parts_figure,
    pixels,
    reconstruction_figure,
    weights_figure,
)

log = logging.getLogger(__name__)

EVENTS = "tensorboard/events.out.tfevents.nmfdnn"
LARGEST = 2**30  # bytes of events that are read
ACTIVE = 1000  # test samples by which the parts are ordered
SAMPLES = 6  # reconstructed samples
MISTAKES = 36  # misclassified samples


FIRST = ("data", "epochs", "experiment", "method", "seed")
"""Columns of the HParams tab that come before all others. It ticks the first five."""

DESCRIPTIONS = {
    **{
        f"{measure.name}/{part}": f"{measure.what}, of the {samples} samples; {note}"
        for measure in MEASURES.values()
        for part, samples, note in (
            ("train", "training", "after each epoch, 0 is the start"),
            ("validation", "held-out", "the best epoch's weights are kept"),
            ("test", "test", "recorded, never used for a choice"),
        )
    },
    "objective/": "the method's own objective on the training part, per sample",
    "residual/": "‖Z' − f(ZW)‖ / ‖Z'‖ of this layer on the last batch: what its factorization leaves",
    "weight_norm/": "‖W‖ (Frobenius) of this layer",
    "time/": "seconds of training so far, without pre-training, loading and evaluation",
    "optimisation/": "ω, or the learning rate, at the end of the epoch",
    "pretraining/": "relative error of the layer's autoencoder after each alternation of pre-training",
    "images/nmf_parts": "rows of U, the parts that pre-training found for the first layer; white is 0",
    "images/reconstructions": "test samples above what the pre-trained first layer keeps of them",
    "images/confusion_matrix": "test samples by true and predicted class, of the kept weights",
    "images/predictions": "test samples by true and predicted value, of the kept weights",
    "images/first_layer_weights": "columns of W of the first layer, of the kept weights; white or grey is 0",
    "images/misclassified": "test samples that the kept weights get wrong: true → predicted class",
    "images/farthest": "test samples whose predictions are farthest off: true → predicted value",
    "result": "errors of the kept weights, and the command that repeats the run",
    "setup": "the resolved configuration",
    "hparam/": "a final value, of the kept weights",
}
"""Of tags, or of all tags that begin so."""

TYPES = {
    "bool": api_pb2.DATA_TYPE_BOOL,
    "number": api_pb2.DATA_TYPE_FLOAT64,
    "string": api_pb2.DATA_TYPE_STRING,
}

Hyperparameter = str | int | float | bool | None


def read_pictures(folder: Path) -> dict[str, bytes]:
    """The pictures, PNG, that the events of the run in `folder` hold: of each tag the last; none, no events.

    What follows a damaged event is left out. The bytes are as they were found: nothing says that they are a
    picture.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is larger than any run writes.
    """
    path = folder / EVENTS
    found: dict[str, bytes] = {}
    if not path.is_file():
        return found
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path.name} is larger than any run writes")
    try:
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "images" and len(value.tensor.string_val) > 2:
                    found[value.tag] = value.tensor.string_val[2]  # after width and height
    except Exception as error:
        log.warning("the rest of %s is left out: %s: %s", path, type(error).__name__, error)
    return found


def _taken(source: Source, rows: Tensor) -> Tensor:
    """The samples with these indices, on every rank."""
    batch = source.take(rows)
    return parallel.whole(batch.X, batch.mine, len(rows))


class Tracker:
    """Writes one run's events into one file in `folder`; a context manager.

    A run that is continued keeps the first `size` bytes of it, what there was at its checkpoint, and writes
    all that came later anew. So nothing is there twice, whenever the process before was killed.
    """

    def __init__(self, folder: Path, size: int = 0) -> None:
        self._path, self._epoch = folder / EVENTS, 0
        self._described: set[str] = set()
        self._file: BinaryIO
        if parallel.rank() == 0:
            self._path.parent.mkdir(exist_ok=True)
            self._path.touch()
            self._file = self._path.open("r+b")
        else:  # what is recorded comes from all ranks, and the first alone keeps it
            self._file = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115
        if self._file.seek(0, os.SEEK_END) < size:
            size = 0  # it was removed or cut: half an event would hide all that follows
        self._file.truncate(size)
        self._file.seek(size)
        self._records = RecordWriter(self._file)
        if size == 0:
            self._write(Event(file_version="brain.Event:2"))

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError as failure:
            if error is None:
                raise named(failure, self._path) from None

    def size(self) -> int:
        """Bytes recorded so far; they are on the disk when this returns."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise named(error, self._path) from None
        return self._file.tell()

    def start(self, config_text: str, dataset: Dataset, start: Start) -> None:
        """Record what there is before the first epoch.

        Args:
            config_text: the resolved configuration, YAML.
            dataset: where its rows are images, the first layer's parts and reconstructions become pictures.
            start: the network, and its pre-trained layers if there are any.
        """
        name = dataset.targets.measure
        chart = ["Multiline", [rf"{name}/(train|validation|test)$"]]  # one that overlays them
        self._add(summaries.custom_scalars({name: {"train, validation, test": chart}}))
        self._add(summaries.text("setup/configuration", f"```yaml\n{config_text.rstrip()}\n```"), 0)
        for number, pretrained in enumerate(start.layers, start=1):
            for alternation, error in enumerate(pretrained.reconstruction, start=1):
                self._scalar(f"pretraining/reconstruction_layer_{number}", error, alternation)
        if start.layers and is_image(dataset.image_shape):
            layer, W, U, test = start.network.layers[0], start.layers[0].W, start.layers[0].U, dataset.test

            def codes(X: Tensor) -> Tensor:
                return layer.product(X, *split_bias(W, layer.fan_in)).relu()

            # A factorization leaves the norm of a part open; that of what it contributes to samples is not.
            active = codes(_taken(test, torch.arange(min(ACTIVE, len(test)), device=test.device)))
            activity = active.reshape(-1, layer.units).norm(dim=0)
            parts = layer.pictures(activity[:, None] * U, dataset.image_shape)
            self._picture("images/nmf_parts", parts_figure, *parts)
            shown = torch.linspace(0, len(test) - 1, min(SAMPLES, len(test)), device=test.device).long()
            X = _taken(test, shown)
            fit = layer.back(codes(X), U)
            self._picture("images/reconstructions", reconstruction_figure, X, fit, dataset.image_shape)
        self.size()

    def epoch(self, record: Record) -> None:
        """Record the end of a whole epoch; it is on the disk when this returns."""
        values = {
            **{f"{record.measure}/{part}": getattr(record, f"{part}_error") for part in PARTS},
            "objective/train": record.objective,
            **{f"residual/layer_{i}": value for i, value in enumerate(record.residuals, start=1)},
            **{f"weight_norm/layer_{i}": value for i, value in enumerate(record.weight_norms, start=1)},
            "time/train_seconds": record.train_seconds,
            "optimisation/learning_rate": record.learning_rate,
        }
        for tag, value in values.items():
            if value is not None:
                self._scalar(tag, value, int(record.epoch))
        self.size()

    def end(
        self,
        network: Network,
        dataset: Dataset,
        outputs: Tensor,
        epoch: float,
        hparams: Mapping[str, Hyperparameter],
        metrics: dict[str, float],
        command: str | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        """Record the finished run.

        Args:
            network: the weights that are kept.
            dataset: its test part gives the mistakes, where the rows are images.
            outputs: for all of its test part (n × m).
            epoch: the last.
            hparams: one row of the HParams tab. To compare runs with different hyper-parameters, give each
                run the same keys: None leaves a cell empty.
            metrics: final values beside it, shown as `hparam/NAME`.
            command: what repeats the run; None if nothing on the command line does.
            warnings: what makes the result doubtful.
        """
        self._epoch = int(epoch)
        labels, outputs = dataset.test.labels.cpu(), outputs.cpu()
        self._picture(*outcome_picture(dataset.targets, labels, outputs))
        if is_image(dataset.image_shape):
            layer = network.layers[0]
            W, _ = split_bias(network.weights[0], layer.fan_in)
            kernels = layer.pictures(W.T, dataset.image_shape)
            self._picture("images/first_layer_weights", weights_figure, *kernels)
            tag, title, shown, pairs = mistakes(dataset.targets, labels, outputs, MISTAKES)
            if len(shown):
                X = _taken(dataset.test, shown.to(dataset.test.device))
                self._picture(tag, mistakes_figure, X, pairs, dataset.image_shape, title)
        metrics = dict(sorted(metrics.items()))  # the test error comes first
        self._hparams(hparams, {f"hparam/{name}": value for name, value in metrics.items()})
        self._add(summaries.text("result", _card(metrics, command, warnings)), self._epoch)
        self.size()

    def _hparams(self, hparams: Mapping[str, Hyperparameter], metrics: dict[str, float]) -> None:
        """One run, one row: `SummaryWriter.add_hparams` would open a second run for the same."""
        # TensorBoard takes the columns from whichever run it finds first, so each run announces all of them.
        # It sorts them by name, after those that are said to differ from run to run.
        columns = [
            api_pb2.HParamInfo(name=key, type=TYPES[_kind(value)], differs=key in FIRST)
            for key, value in hparams.items()
        ]
        results = [
            api_pb2.MetricInfo(
                name=api_pb2.MetricName(tag=tag),
                display_name=tag.partition("/")[2].replace("_", " "),
                description=_description(tag),
            )
            for tag in metrics
        ]
        start, end = SessionStartInfo(), SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
        for key, value in hparams.items():
            if value is not None:
                setattr(start.hparams[key], f"{_kind(value)}_value", value)
        experiment = api_pb2.Experiment(hparam_infos=columns, metric_infos=results)
        for tag, content in (
            (metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=experiment)),
            (metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start)),
            (metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end)),
        ):
            value = Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(content))
            self._add(Summary(value=[value]))
        for tag, value in metrics.items():
            self._scalar(tag, value, self._epoch)

    def _picture(self, tag: str, draw: Callable[..., Figure], *arguments: Any) -> None:
        """Draw and record a picture. One that cannot be drawn, for whatever reason, is not worth a run."""
        try:
            summary = summaries.image(tag, pixels(draw(*arguments)), dataformats="HWC")
        except Exception as error:
            log.warning("the picture %s is left out: %s: %s", tag, type(error).__name__, error)
        else:
            self._add(summary, self._epoch)

    def _scalar(self, tag: str, value: float, step: int) -> None:
        self._add(summaries.scalar(tag, value), step)

    def _add(self, summary: Summary, step: int = 0) -> None:
        for value in summary.value:
            if value.tag not in self._described and (text := _description(value.tag)):
                value.metadata.summary_description = text
                self._described.add(value.tag)
        self._write(Event(summary=summary, step=step))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        try:
            self._records.write(event.SerializeToString())
        except OSError as error:
            raise named(error, self._path) from None


def _description(tag: str) -> str:
    """Of a tag of ours; else empty."""
    return next((text for start, text in DESCRIPTIONS.items() if tag.startswith(start)), "")


def _kind(value: Hyperparameter) -> str:
    """TensorBoard's name of the value's type."""
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else "string"


def _card(metrics: Mapping[str, float], command: str | None, warnings: Sequence[str]) -> str:
    """A result as Markdown."""
    rows = [f"| {name.replace('_', ' ')} | {value:.4g} |" for name, value in metrics.items()]
    parts = ["\n".join(["| of the kept weights | |", "|---|---:|", *rows])]
    parts += [f"- **warning**: {one_line(warning)}" for warning in warnings]
    if command is not None:
        # Indented, for a fence could be in the command itself.
        parts += ["Repeat it with", "\n".join(f"    {line}" for line in command.splitlines())]
    return "\n\n".join(parts)
