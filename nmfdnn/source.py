"""Where samples come from: a source hands out rows, by index in batches, or all of them in order in passes.

Training, whitening, statistics and evaluation ask a source and nothing else, so it alone decides where the
rows lie. Over several ranks (`parallel`) a source holds some of the rows and hands out those; indices,
labels, weights and the number of samples are always those of all.

Samples may have weights: one of weight 2 counts as two of weight 1. Then sums over samples are weighted, and
the sum of the weights is in the place of the number of samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from . import parallel
from .errors import require
from .targets import CLASSES, Targets


class Batch(NamedTuple):
    """A mini-batch, or a part of a pass.

    Attributes:
        X: the samples that are here, b × p.
        labels: theirs: numbers of classes, b, or what `Targets` makes of values, b × m.
        samples: size of the batch over all ranks.
        mine: places in the batch of the samples that are here; None where these are all.
        weights: of those that are here, b × 1; None where all count once.
        mass: sum of the weights over all ranks, 0-d; None without weights.
    """

    X: Tensor
    labels: Tensor
    samples: int
    mine: Tensor | None = None
    weights: Tensor | None = None
    mass: Tensor | None = None

    @property
    def number(self) -> Tensor | int:
        """How often the samples of all ranks count together."""
        return self.samples if self.mass is None else self.mass


class Source(Protocol):
    """n samples with p features each, and what the output is asked for."""

    @property
    def features(self) -> int:
        """Features p of a sample."""

    @property
    def targets(self) -> Targets:
        """What the labels are."""

    @property
    def labels(self) -> Tensor:
        """Labels of all n samples, on the device."""

    @property
    def weights(self) -> Tensor | None:
        """Weights of all n samples, n × 1 of type `dtype`, on the device; None where all count once."""

    @property
    def device(self) -> torch.device:
        """Where batches come."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of X."""

    @property
    def block(self) -> int:
        """Samples that lie side by side and are cheap to read together; 1 where any order costs the same."""

    @property
    def window(self) -> int:
        """Samples, a multiple of `block`, from which an epoch takes its batches before it goes on."""

    def __len__(self) -> int:
        """Number n of samples, over all ranks."""

    def take(self, rows: Tensor) -> Batch:
        """The samples with these indices (int64, in any order, on the device)."""

    def batches(self, order: Sequence[Tensor]) -> Iterator[Batch]:
        """`take` for each of these in turn; a source that has to read reads ahead."""

    def passes(self) -> Iterator[Batch]:
        """All samples in order, in parts that fit in memory."""

    def sample(self, count: int) -> Tensor:
        """Indices of `count` samples (all if they are fewer) that stand for all: for units and statistics."""


@dataclass(frozen=True, eq=False)
class Memory:
    """Samples that lie on the device: X (n × p, floating), their labels (n, or n × m) and weights (n × 1).

    Over several ranks `X` are the rows from `first` on of all, see `share`.
    """

    X: Tensor
    labels: Tensor
    first: int = 0
    targets: Targets = CLASSES
    weights: Tensor | None = None

    @property
    def block(self) -> int:
        return 1

    @property
    def window(self) -> int:
        return 1

    @property
    def features(self) -> int:
        return self.X.shape[1]

    @property
    def device(self) -> torch.device:
        return self.X.device

    @property
    def dtype(self) -> torch.dtype:
        return self.X.dtype

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> Batch:
        if len(self.X) == len(self):
            return batch_of(self, self.X[rows], rows)
        mine = ((rows >= self.first) & (rows < self.first + len(self.X))).nonzero().flatten()
        return batch_of(self, self.X[rows[mine] - self.first], rows, mine)

    def batches(self, order: Sequence[Tensor]) -> Iterator[Batch]:
        return map(self.take, order)

    def passes(self) -> Iterator[Batch]:
        rows = torch.arange(self.first, self.first + len(self.X), device=self.device)
        whole = len(self.X) == len(self)
        yield batch_of(self, self.X, torch.arange(len(self), device=self.device), None if whole else rows)

    def sample(self, count: int) -> Tensor:
        return torch.arange(min(count, len(self)), device=self.device)  # the split has shuffled them


def batch_of(source: Source, X: Tensor, rows: Tensor, mine: Tensor | None = None) -> Batch:
    """The samples with these indices; X are those that are here, at the places `mine`, None for all."""
    here = rows if mine is None else rows[mine]
    if source.weights is None:
        return Batch(X, source.labels[here], len(rows), mine)
    weights = source.weights[rows]
    local = weights if mine is None else weights[mine]
    return Batch(X, source.labels[here], len(rows), mine, local, weights.sum())


def mass(source: Source) -> float:
    """How often all samples count together: their number, or the sum of their weights."""
    return len(source) if source.weights is None else float(source.weights.sum(dtype=torch.float64))


def share(n: int, rank: int | None = None) -> slice:
    """Which of n samples a rank, by default this one, holds: nearly equal numbers, in order."""
    rank = parallel.rank() if rank is None else rank
    return slice(n * rank // parallel.ranks(), n * (rank + 1) // parallel.ranks())


def batches(n: int, size: int, generator: torch.Generator, device: torch.device) -> Sequence[Tensor]:
    """Shuffled index batches of nearly equal length ≤ `size`; drawn on the CPU: equal on every device."""
    return torch.randperm(n, generator=generator).to(device).tensor_split(math.ceil(n / size))


def blockwise(n: int, block: int, window: int, generator: torch.Generator) -> Tensor:
    """A random order of 0 … n−1 in which every `window` neighbours are whole blocks of `block`, but the last.

    Blocks come in random order, and so do the samples of a window: as good as any order as long as a window
    has many blocks, each of which may hold one class alone.
    """
    starts = torch.randperm(math.ceil(n / block), generator=generator) * block
    order = (starts[:, None] + torch.arange(block)).flatten()
    order = order[order < n]
    parts = [part[torch.randperm(len(part), generator=generator)] for part in order.split(window)]
    return torch.cat(parts)


class Order:
    """The mini-batches of one epoch after another, each shuffled anew, handed out in equal parts of an epoch.

    There are at most as many `parts` as mini-batches. After each mini-batch `tick`, unless it is None, gets
    the share of an epoch that this was.
    """

    def __init__(self, source: Source, size: int, generator: torch.Generator, parts: int = 1) -> None:
        self.source, self.size, self.generator = source, size, generator
        self.parts = min(parts, math.ceil(len(source) / size))
        self.tick: Callable[[float], object] | None = None
        self._part = 0

    def part(self) -> Iterator[Batch]:
        """Mini-batches of the next part."""
        if self._part == 0:
            self._draw()
        first, last = (len(self._batches) * part // self.parts for part in (self._part, self._part + 1))
        self._part = (self._part + 1) % self.parts
        found = self.source.batches(self._batches[first:last])
        return found if self.tick is None else self._told(found, self.tick)

    def _told(self, found: Iterator[Batch], tick: Callable[[float], object]) -> Iterator[Batch]:
        for batch in found:
            yield batch
            tick(batch.samples / len(self.source))

    def state(self) -> dict[str, Any]:
        """A copy of what the next parts depend on."""
        start = self._start if self._part > 0 else self.generator.get_state()
        return {"generator": start, "part": self._part, "parts": self.parts}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a `state`.

        Raises:
            ConfigError: it is from the middle of an epoch with another number of parts.
        """
        self._part = state["part"]
        if self._part > 0:
            before = f"{state['parts']} as before, in the middle of an epoch"
            require(self.parts == state["parts"], "records_per_epoch", before, self.parts)
        self.generator.set_state(state["generator"].cpu())
        if self._part > 0:
            self._draw()

    def _draw(self) -> None:
        self._start = self.generator.get_state()
        source, n = self.source, len(self.source)
        if source.block == 1:
            self._batches = batches(n, self.size, self.generator, source.device)
        else:
            order = blockwise(n, source.block, source.window, self.generator)
            self._batches = order.tensor_split(math.ceil(n / self.size))
