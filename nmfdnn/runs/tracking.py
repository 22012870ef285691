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
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary as summaries

from .. import parallel
from ..data import Dataset
from ..factorization import split_bias
from ..views.figures import (
    confusion_figure,
    is_image,
    mistakes_figure,
    parts_figure,
    pixels,
    reconstruction_figure,
    weights_figure,
)
from ..files import named
from ..network import Network
from ..records import Record
from ..training import Start

log = logging.getLogger(__name__)

FOLDER = "tensorboard"
EVENTS = "events.out.tfevents.nmfdnn"
SAMPLES = 12  # reconstructed samples
MISTAKES = 40  # misclassified samples

log = logging.getLogger(__name__)

Hyperparameter = str | int | float | bool | None


class Tracker:
    """Writes one run's events into one file in `folder`/tensorboard; a context manager.

    A run that is continued keeps the first `size` bytes of it, what there was at its checkpoint, and writes
    all that came later anew. So nothing is there twice, whenever the process before was killed.
    """

    def __init__(self, folder: Path, size: int = 0) -> None:
        self._path, self._epoch = folder / FOLDER / EVENTS, 0
        self._file: BinaryIO
        if parallel.rank() == 0:
            self._path.parent.mkdir(exist_ok=True)
            self._path.touch()
            self._file = self._path.open("r+b")
        else:  # what is recorded comes from all ranks, and the first alone keeps it
            self._file = cast(BinaryIO, tempfile.TemporaryFile())
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
        self._add(summaries.text("config/resolved", f"```yaml\n{config_text.rstrip()}\n```"), 0)
        for number, pretrained in enumerate(start.layers, start=1):
            for alternation, error in enumerate(pretrained.reconstruction, start=1):
                self._scalar(f"pretraining/reconstruction_layer_{number}", error, alternation)
        if start.layers and is_image(dataset.image_shape):
            layer, W, U = start.network.layers[0], start.layers[0].W, start.layers[0].U
            self._picture("images/nmf_parts", parts_figure, *layer.pictures(U, dataset.image_shape))
            test = dataset.test
            shown = torch.linspace(0, len(test) - 1, min(SAMPLES, len(test)), device=test.device).long()
            batch = test.take(shown)
            X = parallel.whole(batch.X, batch.mine, len(shown))
            fit = layer.back(layer.product(X, *split_bias(W, layer.fan_in)).relu(), U)
            self._picture("images/reconstructions", reconstruction_figure, X, fit, dataset.image_shape)
        self.size()

    def epoch(self, record: Record) -> None:
        """Record the end of a whole epoch; it is on the disk when this returns."""
        values = {
            "error/train": record.train_error,
            "error/validation": record.validation_error,
            "error/test": record.test_error,
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
        epoch: float,
        hparams: Mapping[str, Hyperparameter],
        metrics: dict[str, float],
    ) -> None:
        """Record the finished run.

        Args:
            network: the weights that are kept.
            dataset: its test part gives the confusion matrix and, where the rows are images, the mistakes.
            epoch: the last.
            hparams: one row of the HParams tab. To compare runs with different hyper-parameters, give each
                run the same keys: None leaves a cell empty.
            metrics: final values beside it, shown as `hparam/NAME`.
        """
        self._epoch = int(epoch)
        labels = dataset.test.labels.cpu()
        here = torch.cat([network.predict(part.X) for part in dataset.test.passes()])
        predicted = parallel.joined(here).cpu()
        self._picture("images/confusion_matrix", confusion_figure, labels, predicted, dataset.classes)
        if is_image(dataset.image_shape):
            layer = network.layers[0]
            W, _ = split_bias(network.weights[0], layer.fan_in)
            kernels = layer.pictures(W.T, dataset.image_shape)
            self._picture("images/first_layer_weights", weights_figure, *kernels)
            wrong = (predicted != labels).nonzero().flatten()
            if len(wrong):
                shown = wrong[:MISTAKES]
                pairs = [(dataset.classes[labels[i]], dataset.classes[predicted[i]]) for i in shown.tolist()]
                first = f"; the first {MISTAKES}" if len(wrong) > MISTAKES else ""
                title = (
                    f"{len(wrong)} of {len(labels)} test samples are misclassified{first}: true → predicted"
                )
                batch = dataset.test.take(shown.to(dataset.test.device))
                X = parallel.whole(batch.X, batch.mine, len(shown))
                self._picture("images/misclassified", mistakes_figure, X, pairs, dataset.image_shape, title)
        self._hparams(hparams, {f"hparam/{name}": value for name, value in metrics.items()})
        self.size()

    def _hparams(self, hparams: Mapping[str, Hyperparameter], metrics: dict[str, float]) -> None:
        """One run, one row: `SummaryWriter.add_hparams` would open a second run for the same."""
        # torch would turn True into 1.0.
        columns = {key: str(v).lower() if isinstance(v, bool) else v for key, v in hparams.items()}
        values = {key: v for key, v in columns.items() if v is not None}
        # TensorBoard takes the columns from whichever run it finds first, so each run announces all of them.
        announced = {key: "" if v is None else v for key, v in columns.items()}
        experiment, _, _ = summaries.hparams(announced, metrics)
        _, session_start, session_end = summaries.hparams(values, metrics)
        for summary in (experiment, session_start, session_end):
            self._add(summary)
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
        self._write(Event(summary=summary, step=step))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        try:
            self._records.write(event.SerializeToString())
        except OSError as error:
            raise named(error, self._path) from None
