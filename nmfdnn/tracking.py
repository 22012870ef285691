"""TensorBoard: curves, pictures, configuration and hyper-parameters of a run. Nothing else knows TensorBoard.

Every picture is a labelled figure, drawn off-screen by matplotlib's object interface: no global state.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor
from torch.utils.tensorboard import summary as summaries

from .data import Dataset
from .factorization import affine
from .files import named
from .network import Network
from .records import Record
from .training import PretrainedLayer

FOLDER = "tensorboard"
EVENTS = "events.out.tfevents.nmfdnn"
UNITS = 64  # hidden units in a picture
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
        path = folder / FOLDER / EVENTS
        path.parent.mkdir(exist_ok=True)
        path.touch()
        self._path, self._epoch = path, 0
        self._file = path.open("r+b")
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

    def start(self, config_text: str, dataset: Dataset, layers: Sequence[PretrainedLayer]) -> None:
        """Record what there is before the first epoch.

        Args:
            config_text: the resolved configuration, YAML.
            dataset: where its rows are images, the first layer's parts and reconstructions become pictures.
            layers: the pre-trained layers; may be empty.
        """
        self._add(summaries.text("config/resolved", f"```yaml\n{config_text.rstrip()}\n```"), 0)
        for number, layer in enumerate(layers, start=1):
            for alternation, error in enumerate(layer.reconstruction, start=1):
                self._scalar(f"pretraining/reconstruction_layer_{number}", error, alternation)
        if layers and is_image(dataset.image_shape):
            self._picture("images/nmf_parts", parts_figure, layers[0].U, dataset.image_shape)
            X = dataset.test.X
            X = X[torch.linspace(0, len(X) - 1, min(SAMPLES, len(X)), device=X.device).long()]
            fit = affine(X, layers[0].W).relu() @ layers[0].U
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
        predicted = network.predict(dataset.test.X).cpu()
        self._picture("images/confusion_matrix", confusion_figure, labels, predicted, dataset.classes)
        if is_image(dataset.image_shape):
            W = network.weights[0][: dataset.features]
            self._picture("images/first_layer_weights", weights_figure, W.T, dataset.image_shape)
            wrong = (predicted != labels).nonzero().flatten()
            if len(wrong):
                shown = wrong[:MISTAKES]
                pairs = [(dataset.classes[labels[i]], dataset.classes[predicted[i]]) for i in shown.tolist()]
                first = f"; the first {MISTAKES}" if len(wrong) > MISTAKES else ""
                title = (
                    f"{len(wrong)} of {len(labels)} test samples are misclassified{first}: true → predicted"
                )
                X = dataset.test.X[shown.to(dataset.test.X.device)]
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
        """Draw and record a picture. One that cannot be drawn is not worth a run."""
        try:
            canvas = FigureCanvasAgg(draw(*arguments))
            canvas.draw()
            pixels = np.asarray(canvas.buffer_rgba())[..., :3]
            summary = summaries.image(tag, pixels, dataformats="HWC")
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


def is_image(shape: tuple[int, ...] | None) -> bool:
    """Whether rows of this shape can be drawn: height × width, alone or after 1 or 3 channels."""
    return shape is not None and (len(shape) == 2 or (len(shape) == 3 and shape[0] in (1, 3)))


def images(rows: Tensor, shape: tuple[int, ...] | None) -> np.ndarray:
    """Rows n × features as images n × height × width, or n × height × width × 3."""
    assert shape is not None
    tiles = rows.detach().double().cpu().reshape(len(rows), *shape)
    if len(shape) == 3:
        tiles = tiles.movedim(1, 3) if shape[0] == 3 else tiles[:, 0]
    return tiles.numpy()


def strongest(rows: Tensor) -> list[int]:
    """Indices of the rows with the largest norms, at most `UNITS`, in their own order."""
    return sorted(rows.norm(dim=1).topk(min(UNITS, len(rows))).indices.tolist())


def parts_figure(U: Tensor, shape: tuple[int, ...] | None) -> Figure:
    """NMF parts (rows of U ≥ 0), each scaled to its own maximum: an NMF leaves their scale open."""
    units = strongest(U)
    tiles = images(U[units], shape)
    tiles = tiles / np.maximum(tiles.max(axis=tuple(range(1, tiles.ndim)), keepdims=True), 1e-300)
    title = _of("NMF parts U of the first layer", units, len(U))
    return _grid(
        tiles, [str(unit) for unit in units], f"{title}\neach scaled to its maximum", cmap="magma", high=1
    )


def weights_figure(rows: Tensor, shape: tuple[int, ...] | None) -> Figure:
    """First-layer weights, a row per unit; blue − 0 + red, or in colours around a medium grey."""
    units = strongest(rows)
    tiles = images(rows[units], shape)
    title = _of("First-layer weights", units, len(rows))
    names = [str(unit) for unit in units]
    if tiles.ndim == 4:
        tiles = 0.5 + 0.5 * tiles / np.maximum(np.abs(tiles).max(axis=(1, 2, 3), keepdims=True), 1e-300)
        return _grid(tiles, names, f"{title}\neach scaled to its largest magnitude; grey is 0")
    # A few huge weights at pixels that are almost always dark would leave the rest pale.
    limit = float(np.quantile(np.abs(tiles), 0.99)) or float(np.abs(tiles).max()) or 1.0
    return _grid(
        tiles, names, title, cmap="RdBu_r", low=-limit, high=limit, bar="weight (1 % are beyond the scale)"
    )


def reconstruction_figure(X: Tensor, fit: Tensor, shape: tuple[int, ...] | None) -> Figure:
    """Samples X above their reconstructions."""
    high = max(1.0, float(X.max()))
    tiles = images(torch.cat([X, fit]), shape)
    error = float((X - fit).norm() / X.norm().clamp_min(torch.finfo(X.dtype).tiny))
    title = f"Test samples and their reconstructions f(XW)U by the first layer: relative error {error:.3f}"
    rows = ["input", "reconstruction"]
    return _grid(tiles, [""] * len(tiles), title, cmap="gray", high=high, columns=len(X), rows=rows)


def mistakes_figure(
    X: Tensor, pairs: Sequence[tuple[str, str]], shape: tuple[int, ...] | None, title: str
) -> Figure:
    """Samples X, each with its pair (true class, predicted class)."""
    long = max(len(true) + len(predicted) for true, predicted in pairs) > 10
    names = [f"{true}\n→ {predicted}" if long else f"{true} → {predicted}" for true, predicted in pairs]
    return _grid(images(X, shape), names, title, cmap="gray", high=max(1.0, float(X.max())), columns=10)


def confusion_figure(labels: Tensor, predicted: Tensor, classes: Sequence[str]) -> Figure:
    """Counts of (true, predicted) classes, coloured by their share of the true class."""
    k = len(classes)
    counts = torch.bincount(labels * k + predicted, minlength=k * k).reshape(k, k).numpy()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(12.0, 2.5 + 0.37 * k)
    figure = Figure(figsize=(side + 0.6, side), dpi=140, layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))  # square root: mistakes are rare
    figure.colorbar(picture, ax=axes, label="share of the true class", shrink=0.8)
    long = max(map(len, classes)) > 3
    axes.set_xticks(range(k), classes, rotation=45 * long, ha="right" if long else "center")
    axes.set_yticks(range(k), classes)
    axes.set(xlabel="predicted class", ylabel="true class")
    error = 100 * float((labels != predicted).double().mean())
    axes.set_title(f"Confusion matrix of the {len(labels)} test samples: {error:.2f} % wrong")
    if k <= 20:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.3 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=9)
    return figure


def _of(what: str, units: Sequence[int], total: int) -> str:
    number = (
        f"the {len(units)} units with the largest norm, of {total}"
        if len(units) < total
        else f"all {total} units"
    )
    return f"{what}: {number}"


def _grid(
    tiles: np.ndarray,
    names: Sequence[str],
    title: str,
    *,
    cmap: str | None = None,
    low: float = 0.0,
    high: float = 1.0,
    columns: int = 8,
    rows: Sequence[str] = (),
    bar: str = "",
) -> Figure:
    """Tiles in a grid, each under its name, on the scale from `low` to `high` (colours: from 0)."""
    columns = min(columns, len(tiles))
    height, width = tiles.shape[1:3]
    gap_x, gap_y = 0.08 * width, 0.08 * height
    # Room above a tile for its name, in the tiles' own units: an inch holds a tile.
    if any(names):
        gap_y = (0.08 + 0.18 * max(name.count("\n") + 1 for name in names)) * width
    lines = math.ceil(len(tiles) / columns)
    size = (columns * (width + gap_x) / width, lines * (height + gap_y) / width)
    figure = Figure(
        figsize=(max(6.0, size[0]) + 1.2 * bool(bar), size[1] + 0.25 + 0.2 * len(title.splitlines())),
        dpi=110,
        layout="constrained",
    )
    axes = figure.add_subplot()
    axes.set_axis_off()
    if tiles.ndim == 4:
        tiles = np.clip(tiles / high, 0, 1)
    norm = Normalize(low, high)
    for index, (tile, name) in enumerate(zip(tiles, names, strict=True)):
        line, column = divmod(index, columns)
        x, y = column * (width + gap_x), line * (height + gap_y)
        axes.imshow(tile, cmap=cmap, norm=norm, extent=(x, x + width, y + height, y), interpolation="nearest")
        axes.text(
            x + width / 2, y - 0.02 * height, name, ha="center", va="bottom", fontsize=9, linespacing=1.0
        )
    for line, label in enumerate(rows):
        y = line * (height + gap_y) + height / 2
        axes.text(-gap_x, y, label, ha="right", va="center", fontsize=9, rotation=90)
    axes.set_xlim(-gap_x / 2, columns * (width + gap_x) - gap_x / 2)
    axes.set_ylim(lines * (height + gap_y) - gap_y, -gap_y)
    axes.set_title(title, fontsize=10)
    if bar:
        figure.colorbar(ScalarMappable(norm, cmap), ax=axes, label=bar, extend="both", shrink=0.6, aspect=30)
    return figure
