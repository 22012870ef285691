"""What crosses samples is a sum, and sums cross processes here: the identity in one process.

A run over N ranks (processes that `torchrun` starts, on one machine or many) shares its samples out: each
rank holds some rows of every matrix whose rows are samples, and all of every other. Gram matrices, cross
products, means, norms and counts are sums over samples, so `total` makes them whole, alike to the last bit on
every rank; small problems are then solved on each rank alike, and rows never leave theirs. Nothing else knows
about ranks.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from .errors import ParallelError

TIMEOUT = timedelta(seconds=50)
"""Of one sum: a rank that neither answers nor ends is given up after this time."""


@dataclass
class Traffic:
    """What this rank has put into sums since the start."""

    messages: int = 0
    bytes: int = 0


traffic = Traffic()


def ranks() -> int:
    """Number of processes that train together; 1 outside `group`."""
    return dist.get_world_size() if _joined() else 1


def rank() -> int:
    """Number of this process, from 0; rank 0 writes what a run leaves."""
    return dist.get_rank() if _joined() else 0


def launched() -> bool:
    """Whether `torchrun`, or something that sets its variables, started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def group() -> Iterator[None]:
    """Join the processes that `torchrun` started together, for the time of the context; alone, do nothing.

    Where there are CUDA devices each process takes that of its number on its machine.

    Raises:
        ParallelError: they do not find each other.
    """
    if not launched():
        yield
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    with _told():
        store, rank, size = next(dist.rendezvous("env://", timeout=TIMEOUT))
        # Processes that torchrun starts again must not find the addresses of those before them.
        store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()


@dataclass(frozen=True)
class Pending:
    """Sums on their way, so that other work can go on meanwhile."""

    tensors: Sequence[Tensor]
    messages: list[tuple[dist.Work, Tensor, list[int]]] = field(default_factory=list)

    def wait(self) -> Sequence[Tensor]:
        """The sums, in the order in which they were asked for."""
        if not self.messages:
            return self.tensors
        found = list(self.tensors)
        for work, flat, places in self.messages:
            with _told():
                work.wait()
            sizes = [self.tensors[place].numel() for place in places]
            for place, part in zip(places, flat.split(sizes), strict=True):
                found[place] = part.view(self.tensors[place].shape)
        return found


def begin(*tensors: Tensor) -> Pending:
    """Start the sums of `tensors` over all ranks, a message for each type; they must not change meanwhile."""
    if ranks() == 1:
        return Pending(tensors)
    messages = []
    for dtype in dict.fromkeys(T.dtype for T in tensors):
        places = [place for place, T in enumerate(tensors) if T.dtype == dtype]
        flat = torch.cat([tensors[place].reshape(-1) for place in places])
        traffic.messages += 1
        traffic.bytes += flat.numel() * flat.element_size()
        with _told():
            work = dist.all_reduce(flat, async_op=True)
        messages.append((work, flat, places))
    return Pending(tensors, messages)


def totals(*tensors: Tensor) -> Sequence[Tensor]:
    """The sum of each of `tensors` over all ranks."""
    return begin(*tensors).wait()


def total(T: Tensor) -> Tensor:
    """The sum of T over all ranks."""
    return begin(T).wait()[0]


def largest(T: Tensor) -> Tensor:
    """The element-wise maximum of T over all ranks; NaN where any is."""
    if ranks() == 1:
        return T
    bad = total(torch.isnan(T).to(T))
    found = torch.where(torch.isnan(T), -torch.inf, T).contiguous()
    with _told():
        dist.all_reduce(found, dist.ReduceOp.MAX)
    return torch.where(bad > 0, torch.nan, found)


def whole(X: Tensor, mine: Tensor | None, samples: int) -> Tensor:
    """All rows (samples × …) of a matrix on every rank, for X, the rows that are here, and their places."""
    if mine is None:
        return X
    found = X.new_zeros(samples, *X.shape[1:])
    return total(found.index_copy_(0, mine, X))


def joined(T: Tensor) -> Tensor:
    """The rows (nᵢ × …) that the ranks have, one rank's after another's, on every rank."""
    if ranks() == 1:
        return T
    counts = torch.zeros(ranks(), dtype=torch.int64, device=T.device)
    counts[rank()] = len(T)
    counts = total(counts)
    first = int(counts[: rank()].sum())
    return whole(T, torch.arange(first, first + len(T), device=T.device), int(counts.sum()))


def from_first(make: Callable[[], str]) -> str:
    """What `make` gives on rank 0, on every rank."""
    if ranks() == 1:
        return make()
    found = [make() if rank() == 0 else None]
    with _told():
        dist.broadcast_object_list(found)
    return str(found[0])


def agree(text: str) -> bool:
    """Whether all ranks give the same text."""
    if ranks() == 1:
        return True
    word = int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
    here = torch.tensor([word, -word], dtype=torch.float64)
    return torch.equal(largest(here), here)


def norm(R: Tensor) -> Tensor:
    """‖R‖ (Frobenius) of a matrix whose rows are shared out; 0-d."""
    return total(R.norm().square()).sqrt()


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # connections that close, and time-outs
        raise ParallelError(
            "another process of this run has ended or cannot be reached: "
            "start all of them again; training goes on with resume=true and the folder of its run"
        ) from error
