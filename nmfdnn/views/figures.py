"""Pictures of parts, weights, samples and mistakes, each a labelled figure.

Drawn by matplotlib's object interface: no global state. Whatever the number of features, units or classes and
whatever the values, a picture has at most 2,500 × 2,500 pixels and takes little more memory than these.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ..targets import Classes, RealValues, Targets
from ..text import label

UNITS = 36  # hidden units in a picture
COLUMNS = 6  # of tiles
CLASSES = 100  # classes in a confusion matrix
POINTS = 2000  # samples in a picture of predictions
# A tile is one inch wide. Its height is the image's, but an image of a single row or column remains visible.
DPI = 110
LOWEST, TALLEST = 0.25, 2.0
# Points. TensorBoard shows a picture at half its size, a telephone at less: its texts are large, and few.
FONT = 13.0


def pixels(figure: Figure) -> np.ndarray:
    """The drawn figure, height × width × 3 bytes."""
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # boxes stand for letters that the font lacks
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def is_image(shape: tuple[int, ...] | None) -> bool:
    """Whether rows of this shape can be drawn: height × width, alone or after 1 or 3 channels."""
    return shape is not None and (len(shape) == 2 or (len(shape) == 3 and shape[0] in (1, 3)))


def images(rows: Sequence[Tensor] | Tensor, shape: tuple[int, ...] | None) -> tuple[np.ndarray, float]:
    """Rows as images n × height × width, or n × height × width × 3, and the unit that these are given in.

    The unit is the largest magnitude in the rows, so that the images are in [-1, 1]. They have no more pixels
    than a tile: larger ones are averaged over blocks.
    """
    assert shape is not None
    height, width = shape[-2:]
    unit = _magnitude(rows)
    size = min(height, round(_inches(height, width) * DPI)), min(width, DPI)
    tiles = torch.empty(len(rows), math.prod(shape[:-2]), *size, dtype=torch.float64)
    for tile, row in zip(tiles, rows, strict=True):
        image = row.detach().cpu().double().reshape(-1, height, width) / unit
        tile.copy_(torch.nn.functional.adaptive_avg_pool2d(image, size))
    return (tiles.movedim(1, 3) if tiles.shape[1] == 3 else tiles[:, 0]).numpy(), unit


def _inches(height: int, width: int) -> float:
    """The height of a tile."""
    return min(max(height / width, LOWEST), TALLEST)


def _magnitude(blocks: Iterable[Tensor]) -> float:
    """The largest magnitude; 1 if there is none, or none that is finite."""
    largest = max((abs(float(end)) for block in blocks for end in block.detach().aminmax()), default=0.0)
    return largest if 0 < largest < math.inf else 1.0


def strongest(rows: Tensor) -> list[int]:
    """Indices of the rows with the largest norms, at most `UNITS`: the largest first, equal ones in order."""
    blocks = rows.detach().split(max(1, 2**22 // len(rows)), dim=1)  # in double precision one after the other
    unit = _magnitude(blocks)
    squares = torch.stack([(block.cpu().double() / unit).square().sum(dim=1) for block in blocks]).sum(dim=0)
    return squares.argsort(descending=True, stable=True)[:UNITS].tolist()


def parts_figure(U: Tensor, shape: tuple[int, ...] | None) -> Figure:
    """Parts (rows of U), the strongest first, each on a scale of its own from 0, white, to its maximum.

    Of the values it shows the square roots: a part is a few bright pixels, and many faint ones around them.
    """
    units = strongest(U)
    tiles = _to_own_magnitude(images([U[unit] for unit in units], shape)[0])
    tiles = np.sign(tiles) * np.sqrt(np.abs(tiles))
    low, cmap = (-1, "RdBu_r") if (tiles < 0).any() else (0, "Purples")
    return _grid(tiles, _names(units), _of("NMF parts", units, len(U)), cmap=cmap, low=low, high=1)


def weights_figure(rows: Tensor, shape: tuple[int, ...] | None) -> Figure:
    """First-layer weights, a row per unit; blue − 0 + red, or in colours around a medium grey."""
    units = strongest(rows)
    tiles, unit = images([rows[unit] for unit in units], shape)
    title = _of("Weights of the first layer", units, len(rows))
    if tiles.ndim == 4:
        title += "\neach on a scale of its own; grey is 0"
        return _grid(_to_own_magnitude(tiles), _names(units), title, low=-1, high=1)
    # A few huge weights at pixels that are almost always dark would leave the rest pale.
    magnitudes = np.abs(tiles[np.isfinite(tiles)])
    limit = (float(np.quantile(magnitudes, 0.99)) or float(magnitudes.max())) if magnitudes.size else 0.0
    limit = limit or 1.0
    bar = "weight; 1 % are beyond"
    return _grid(tiles, _names(units), title, cmap="RdBu_r", low=-limit, high=limit, bar=bar, unit=unit)


def reconstruction_figure(X: Tensor, fit: Tensor, shape: tuple[int, ...] | None) -> Figure:
    """Samples X above their reconstructions, on the scale of the samples."""
    tiles, unit = images([*X, *fit], shape)
    low, high = _range(tiles[: len(X)])
    pairs = [(x.detach().double() / unit, f.detach().double() / unit) for x, f in zip(X, fit, strict=True)]
    size = math.hypot(*(float(x.norm()) for x, _ in pairs))
    error = math.hypot(*(float((x - f).norm()) for x, f in pairs)) / size if size else math.nan
    title = f"Test samples, and f(XW)U of the first layer\nrelative error {error:.3f}"
    rows = ["sample", "f(XW)U"]
    names = [""] * len(tiles)
    return _grid(tiles, names, title, cmap="gray", low=low, high=high, columns=len(X), rows=rows)


def mistakes_figure(
    X: Tensor, pairs: Sequence[tuple[str, str]], shape: tuple[int, ...] | None, title: str
) -> Figure:
    """Samples X, each with its pair (true class, predicted class), on one scale."""
    short = [(label(true, 11), label(predicted, 9)) for true, predicted in pairs]
    long = any(len(true) + len(predicted) > 10 for true, predicted in short)
    names = [f"{true}\n→ {predicted}" if long else f"{true} → {predicted}" for true, predicted in short]
    tiles, _ = images(X, shape)
    low, high = _range(tiles)
    return _grid(tiles, names, title, cmap="gray", low=low, high=high)


@singledispatch
def outcome_picture(
    targets: Targets, labels: Tensor, outputs: Tensor
) -> tuple[str, Callable[..., Figure], Any]:
    """How outputs (n × m) compare with labels as one picture: its tag, and what draws it from what else."""
    raise NotImplementedError(type(targets).__name__)


@outcome_picture.register
def _(targets: Classes, labels: Tensor, outputs: Tensor) -> tuple[Any, ...]:
    return "images/confusion_matrix", confusion_figure, labels, outputs.argmax(dim=1), targets.names


@outcome_picture.register
def _(targets: RealValues, labels: Tensor, outputs: Tensor) -> tuple[Any, ...]:
    answers = (targets.answers(T).reshape(len(T), -1) for T in (labels, outputs))
    return "images/predictions", predictions_figure, *answers, targets.names


@singledispatch
def mistakes(
    targets: Targets, labels: Tensor, outputs: Tensor, count: int
) -> tuple[str, str, Tensor, list[tuple[str, str]]]:
    """The worst of n samples, at most `count`: tag and title of a picture, indices, (true, predicted)."""
    raise NotImplementedError(type(targets).__name__)


@mistakes.register
def _(targets: Classes, labels: Tensor, outputs: Tensor, count: int) -> tuple[Any, ...]:
    predicted = outputs.argmax(dim=1)
    wrong = (predicted != labels).nonzero().flatten()
    first = f", of which the first {count}" if len(wrong) > count else ""
    title = f"{len(wrong)} of {len(labels)} test samples are wrong{first}\ntrue → predicted class"
    shown = wrong[:count]
    pairs = [(targets.names[labels[i]], targets.names[predicted[i]]) for i in shown.tolist()]
    return "images/misclassified", title, shown, pairs


@mistakes.register
def _(targets: RealValues, labels: Tensor, outputs: Tensor, count: int) -> tuple[Any, ...]:
    shown = (outputs - labels).norm(dim=1).argsort(descending=True, stable=True)[:count]
    true, found = (targets.answers(T[shown]).reshape(len(shown), -1)[:, 0] for T in (labels, outputs))
    pairs = [(f"{a:.3g}", f"{b:.3g}") for a, b in zip(true, found, strict=True)]
    title = f"The {len(shown)} test samples that are farthest off\ntrue → predicted {targets.names[0]}"
    return "images/farthest", title, shown, pairs


def predictions_figure(true: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> Figure:
    """Predicted against true values (n × m), a panel for each of the first `COLUMNS` outputs."""
    count = min(len(names), COLUMNS)
    columns = min(count, 3)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(5.5 * columns, 5.2 * rows), dpi=DPI, layout="constrained")
    for i in range(count):
        axes = figure.add_subplot(rows, columns, i + 1)
        x, y = true[:POINTS, i], predicted[:POINTS, i]
        axes.scatter(x, y, s=12, alpha=0.5, linewidths=0)
        ends = [min(x.min(), y.min()), max(x.max(), y.max())]
        axes.plot(ends, ends, color="0.5", linewidth=1)
        axes.set_xlabel(f"true {label(names[i], 30)}", fontsize=FONT)
        axes.set_ylabel("predicted", fontsize=FONT)
        axes.tick_params(labelsize=FONT)
    of = f" (the first {POINTS})" if len(true) > POINTS else ""
    figure.suptitle(f"Test samples{of}; on the line, predictions are true", fontsize=FONT)
    return figure


def confusion_figure(labels: Tensor, predicted: Tensor, classes: Sequence[str]) -> Figure:
    """Counts of (true, predicted) classes, coloured by their share of the true class.

    Of more than `CLASSES` classes it shows those that take part in the most mistakes, true or predicted.
    """
    n, k = len(classes), min(len(classes), CLASSES)
    wrong = labels != predicted
    mistakes = torch.bincount(torch.cat([labels[wrong], predicted[wrong]]), minlength=n)
    shown = mistakes.argsort(descending=True, stable=True)[:k].sort().values
    place = torch.full((n,), -1).scatter(0, shown, torch.arange(k))
    rows, columns = place[labels], place[predicted]
    both = (rows >= 0) & (columns >= 0)
    counts = torch.bincount(rows[both] * k + columns[both], minlength=k * k).reshape(k, k).numpy()
    totals = torch.bincount(labels, minlength=n)[shown].numpy()
    shares = counts / np.maximum(totals, 1)[:, None]

    side = min(14.0, max(5.0, 2.5 + 0.37 * k))
    figure = Figure(figsize=(side + 0.6, side), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))  # square root: mistakes are rare
    bar = figure.colorbar(picture, ax=axes, shrink=0.8)
    bar.set_label("share of the true class", fontsize=FONT)
    names = [label(classes[index], 20) for index in shown.tolist()]
    long = max(map(len, names)) > 3
    font = min(FONT, 0.75 * 72 * (side - 2.5) / k)
    axes.set_xticks(range(k), names, rotation=45 * long, ha="right" if long else "center", fontsize=font)
    if long:
        for tick in axes.get_xticklabels():
            tick.set_rotation_mode("anchor")
    axes.set_yticks(range(k), names, fontsize=font)
    axes.set_xlabel("predicted class", fontsize=FONT)
    axes.set_ylabel("true class", fontsize=FONT)
    error = 100 * float(wrong.double().mean())
    title = f"{error:.2f} % of {len(labels)} test samples are wrong"
    if k < n:
        title += f"\nthe {k} of {n} classes that take part in the most mistakes"
    figure.suptitle(title, fontsize=FONT)
    if k <= 20:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.3 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=font)
    return figure


def _of(what: str, units: Sequence[int], total: int) -> str:
    number = f"the {len(units)} strongest of {total}" if len(units) < total else f"all {total}"
    return f"{what}: {number} units"


def _names(units: Sequence[int]) -> list[str]:
    return [str(unit) for unit in units]


def _to_own_magnitude(tiles: np.ndarray) -> np.ndarray:
    largest = np.abs(tiles).max(axis=tuple(range(1, tiles.ndim)), keepdims=True)
    return tiles / np.where(largest > 0, largest, 1)


def _range(tiles: np.ndarray) -> tuple[float, float]:
    """The ends of a scale for the tiles: all but the last half per cent at either side are within."""
    values = tiles[np.isfinite(tiles)]
    if not values.size:
        return 0.0, 1.0
    for low, high in (np.quantile(values, (0.005, 0.995)), (values.min(), values.max())):
        if low < high:
            return float(low), float(high)
    return float(low) - 1, float(high) + 1


def _grid(
    tiles: np.ndarray,
    names: Sequence[str],
    title: str,
    *,
    low: float,
    high: float,
    cmap: str | None = None,
    columns: int = COLUMNS,
    rows: Sequence[str] = (),
    bar: str = "",
    unit: float = 1.0,
) -> Figure:
    """Tiles in a grid, each under its name, on the scale from `low` to `high`. Lengths are inches.

    With a text `bar`, the scale is shown in multiples of `unit`.
    """
    columns = max(1, min(columns, len(tiles)))
    lines = max(1, math.ceil(len(tiles) / columns))
    height = _inches(*tiles.shape[1:3])
    gap_x = gap_y = 0.08
    if any(names):  # room above a tile for its name
        gap_y += 0.23 * max(name.count("\n") + 1 for name in names)
    size = columns * (1 + gap_x), lines * (height + gap_y)
    figure = Figure(
        figsize=(max(6.0, size[0]) + 1.2 * bool(bar), size[1] + 0.25 + 0.25 * len(title.splitlines())),
        dpi=DPI,
        layout="constrained",
    )
    axes = figure.add_subplot()
    axes.set_axis_off()
    if tiles.ndim == 4:  # colours are their own scale
        tiles = np.clip((np.nan_to_num(tiles) - low) / (high - low), 0, 1)
    norm = Normalize(low, high)
    for index, (tile, name) in enumerate(zip(tiles, names, strict=True)):
        line, column = divmod(index, columns)
        x, y = column * (1 + gap_x), line * (height + gap_y)
        axes.imshow(tile, cmap=cmap, norm=norm, extent=(x, x + 1, y + height, y), interpolation="nearest")
        frame = Rectangle((x, y), 1, height, fill=False, edgecolor="0.8", linewidth=0.8)
        axes.add_patch(frame)  # a tile may be as white as the page
        axes.text(x + 0.5, y - 0.02, name, ha="center", va="bottom", fontsize=FONT, linespacing=1.0)
    for line, text in enumerate(rows):
        y, turned = line * (height + gap_y) + height / 2, 90 if height > 0.9 else 0
        axes.text(-gap_x, y, text, ha="right", va="center", fontsize=FONT, rotation=turned)
    axes.set_xlim(-gap_x / 2, size[0] - gap_x / 2)
    axes.set_ylim(size[1] - gap_y, -gap_y)
    axes.set_title(title, fontsize=FONT)
    if bar:
        scale = ScalarMappable(norm, cmap)
        ticks = np.linspace(low, high, 5).tolist()
        colours = figure.colorbar(scale, ax=axes, extend="both", shrink=0.6, aspect=30)
        colours.set_ticks(ticks, labels=[f"{tick * unit:.3g}" for tick in ticks], fontsize=FONT)
        colours.set_label(bar, fontsize=FONT)
    return figure
