"""Updates as CUDA graphs: what many small kernels do is recorded once, and then launched as one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .. import parallel
from ..source import Batch

Moved = list[tuple[Tensor, Tensor]]


class Recording(NamedTuple):
    """A recorded call: the tensors that it reads, what starts it, and what it returns, in place each time."""

    inputs: list[Tensor]
    replay: Callable[[], None]
    result: Moved


class Replayed:
    """A function of a mini-batch that on CUDA is recorded, once for each number of samples, and replayed.

    It must keep its state in place: a recording reads and writes the same memory each time. Elsewhere than on
    CUDA, over several ranks, and where recording fails (with one warning), it is called as it stands.
    """

    def __init__(self, function: Callable[..., Moved]) -> None:
        self.function = function
        self.recordings: dict[int, Recording | None] = {}

    def __call__(self, batch: Batch) -> Moved:
        if not recordable(batch.X.device):
            return self.function(batch)
        if batch.samples not in self.recordings:
            self.recordings[batch.samples] = self._record(batch)
        recording = self.recordings[batch.samples]
        if recording is None:
            return self.function(batch)
        for held, T in zip(recording.inputs, _tensors(batch), strict=True):
            held.copy_(T)
        recording.replay()
        return recording.result

    def _record(self, batch: Batch) -> Recording | None:
        held = Batch(batch.X.clone(), batch.labels.clone(), batch.samples)
        if batch.weights is not None and batch.mass is not None:
            held = held._replace(weights=batch.weights.clone(), mass=batch.mass.clone())
        try:
            return record(lambda *_: self.function(held), _tensors(held))
        except RuntimeError as error:
            warnings.warn(
                f"the update could not be recorded as a CUDA graph ({error}): it runs kernel by kernel",
                RuntimeWarning,
                stacklevel=3,
            )
            return None


def _tensors(batch: Batch) -> list[Tensor]:
    return [value for value in batch if isinstance(value, Tensor)]


def recordable(device: torch.device) -> bool:
    """Whether calls on this device are worth recording."""
    return device.type == "cuda" and parallel.ranks() == 1


def record(function: Callable[..., Moved], inputs: list[Tensor]) -> Recording:
    """Record a call on CUDA, which computes nothing yet. What it uses must have run before."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function(*inputs)
    return Recording(inputs, graph.replay, result)
