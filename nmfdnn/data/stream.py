"""Samples that stay in their files: read ahead in the background, in blocks, with bounded memory.

Legend: a block is `block` neighbouring samples; a slot is room for one block in memory. An epoch draws its
batches from a window of whole blocks before it goes on (`source.blockwise`), so that a block is read when its
window begins and its slot is free when the window ends. With room for two windows the next is read meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from threading import Condition, Thread

import numpy as np
import torch
from torch import Tensor

from .. import parallel
from ..source import Batch, batch_of, share
from ..targets import CLASSES, Targets
from .folder import Stored
from .preprocessing import Preprocessing

BLOCKS = 1024
"""Blocks in a window: so many that each may hold one class alone."""

AT_ONCE = 1 << 22
"""Bytes in blocks, or one block, that are read together."""

PARTS = 16
"""Parts of a pass for each window."""


@dataclass(frozen=True, eq=False)
class Stream:
    """The samples `rows` (increasing) of `stored` as `preprocessing` makes them, their labels and weights.

    About `memory` bytes of samples, at most, are held at a time, besides the batches handed out. Over several
    ranks each reads an equal part of the samples, in order.
    """

    stored: Stored
    rows: np.ndarray
    labels: Tensor
    preprocessing: Preprocessing
    dtype: torch.dtype
    memory: float
    targets: Targets = CLASSES
    weights: Tensor | None = None

    @property
    def features(self) -> int:
        return math.prod(self.stored.shape[1:])

    @property
    def device(self) -> torch.device:
        return self.labels.device

    @property
    def block(self) -> int:
        return max(1, self._half // BLOCKS)

    @property
    def window(self) -> int:
        return self.block * max(1, self._half // self.block)

    @property
    def _half(self) -> int:
        """Samples in half of the memory."""
        return int(self.memory / 2 / (self.features * self.dtype.itemsize))

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> Batch:
        here, mine = self._here(rows)
        sorted_, places = np.unique(here, return_inverse=True)
        X = self._read(sorted_)[torch.from_numpy(places)]
        return self._batch(X, rows, mine)

    def batches(self, order: Sequence[Tensor]) -> Iterator[Batch]:
        """`take` for each of these in turn, ahead of time where they come from one window after another."""
        places = [self._here(rows) for rows in order]
        ends = np.cumsum([len(here) for here, _ in places])
        needs = _Needs(np.concatenate([np.arange(0), *(here for here, _ in places)]) // self.block, ends)
        slots = min(len(needs.blocks), 2 * (self.window // self.block))
        if needs.most > slots:
            yield from map(self.take, order)
            return
        pool = torch.empty(slots, self.block, self.features, dtype=self.dtype)
        flat = pool.view(-1, self.features)
        slot_of = np.zeros(math.ceil(len(self) / self.block), np.int64)

        def read(blocks: np.ndarray, slots: np.ndarray) -> None:
            own = share(len(self))
            samples = (np.sort(blocks)[:, None] * self.block + np.arange(self.block)).ravel()
            samples = samples[(samples >= own.start) & (samples < own.stop)]
            slot_of[blocks] = slots
            flat[self._places(samples, slot_of)] = self._read(samples)

        at_once = max(1, AT_ONCE // (self.block * self.features * self.dtype.itemsize))
        with _Reader(read, needs.blocks, slots, at_once) as reader:
            freed = 0
            for rows, (here, mine), need, done in zip(order, places, needs.needed, needs.done, strict=True):
                reader.wait(need)
                X = flat[self._places(here, slot_of)]
                reader.release(slot_of[needs.by_end[freed:done]])
                freed = done
                yield self._batch(X, rows, mine)

    def passes(self) -> Iterator[Batch]:
        # Each part has some samples of every rank: all have equally much to do, and equally many parts.
        shares = [share(len(self), rank) for rank in range(parallel.ranks())]
        count = math.ceil(len(self) / len(shares) / max(1, self.window // PARTS))
        edges = [np.linspace(own.start, own.stop, count + 1).astype(np.int64) for own in shares]
        parts = zip(*(pairwise(edge) for edge in edges), strict=True)
        return self.batches([torch.cat([torch.arange(*piece) for piece in part]) for part in parts])

    def sample(self, count: int) -> Tensor:
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(0))
        return order[:count].to(self.device)

    def _places(self, samples: np.ndarray, slot_of: np.ndarray) -> Tensor:
        """Where samples are among those of all slots, for the slot of each block."""
        blocks, rest = np.divmod(samples, self.block)
        return torch.from_numpy(slot_of[blocks] * self.block + rest)

    def _here(self, rows: Tensor) -> tuple[np.ndarray, Tensor | None]:
        """Those of these samples that this rank reads, and their places; None for all."""
        if parallel.ranks() == 1:
            return rows.cpu().numpy(), None
        own = share(len(self))
        mine = ((rows >= own.start) & (rows < own.stop)).nonzero().flatten()
        return rows[mine].cpu().numpy(), mine

    def _read(self, samples: np.ndarray) -> Tensor:
        """These samples (increasing) in memory of the host."""
        return self.preprocessing.apply(self.stored[self.rows[samples]], dtype=self.dtype)

    def _batch(self, X: Tensor, rows: Tensor, mine: Tensor | None) -> Batch:
        rows = rows.to(self.device)
        return batch_of(self, X.to(self.device), rows, None if mine is None else mine.to(self.device))


class _Needs:
    """Which blocks a sequence of batches needs, and when; from the block of each sample (N) in their order.

    Attributes:
        blocks: those needed, in the order in which they first are.
        by_end: the same in the order in which they last are.
        needed, done: for each batch, how many blocks it or one before needs first, and how many last.
        most: blocks, at most, between their first and last need at the same time.
    """

    def __init__(self, blocks: np.ndarray, ends: np.ndarray) -> None:
        places = np.arange(len(blocks))
        first = np.full(blocks.max(initial=-1) + 1, -1)
        last = first.copy()
        first[blocks[::-1]] = places[::-1]  # of equal indices the last assignment counts
        last[blocks] = places
        found = np.flatnonzero(last >= 0)
        self.blocks = found[np.argsort(first[found])]
        self.by_end = found[np.argsort(last[found])]
        self.needed = np.searchsorted(first[self.blocks], ends)
        self.done = np.searchsorted(last[self.by_end], ends)
        self.most = int(max(self.needed - np.concatenate([[0], self.done[:-1]]), default=0))


class _Reader:
    """A thread that reads `blocks` in turn into free slots, and ends with the context.

    `read` gets the numbers of some blocks, at most `at_once`, and of as many slots.
    """

    def __init__(
        self,
        read: Callable[[np.ndarray, np.ndarray], None],
        blocks: np.ndarray,
        slots: int,
        at_once: int,
    ) -> None:
        self._changed = Condition()
        self._free, self._done, self._ended = list(range(slots)), 0, False
        self._error: BaseException | None = None

        def run() -> None:
            done = 0
            try:
                while done < len(blocks):
                    with self._changed:
                        self._changed.wait_for(lambda: self._free or self._ended)
                        if self._ended:
                            return
                        taken = self._free[-min(at_once, len(blocks) - done) :]
                        del self._free[-len(taken) :]
                    read(blocks[done : done + len(taken)], np.array(taken))
                    done += len(taken)
                    with self._changed:
                        self._done = done
                        self._changed.notify()
            except BaseException as error:  # whatever it is, those who wait must know
                with self._changed:
                    self._error = error
                    self._changed.notify()

        self._thread = Thread(target=run, daemon=True)

    def wait(self, number: int) -> None:
        """Return when this number of blocks has been read; raises what went wrong with them."""
        with self._changed:
            self._changed.wait_for(lambda: self._done >= number or self._error)
            if self._done < number:
                assert self._error is not None  # for the type checker
                raise self._error

    def release(self, slots: np.ndarray) -> None:
        """Give slots back, whose blocks are needed no longer."""
        if len(slots):
            with self._changed:
                self._free.extend(slots.tolist())
                self._changed.notify()

    def __enter__(self) -> _Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()
