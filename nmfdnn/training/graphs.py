"""Updates as CUDA graphs: what many small kernels do is recorded once, and then launched as one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .. import parallel


class Recording(NamedTuple):
    """A recorded call: the tensors that it reads, what starts it, and what it returns, in place each time."""

    inputs: list[Tensor]
    replay: Callable[[], None]
    result: Tensor


class Replayed:
    """A function of a mini-batch that on CUDA is recorded, once for each number of samples, and replayed.

    It must keep its state in place: a recording reads and writes the same memory each time. Elsewhere than on
    CUDA, over several ranks, and where recording fails (with one warning), it is called as it stands.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self.recordings: dict[int, Recording | None] = {}

    def __call__(self, X: Tensor, labels: Tensor, samples: int) -> Tensor:
        if not recordable(X.device):
            return self.function(X, labels, samples)
        if samples not in self.recordings:
            self.recordings[samples] = self._record(X, labels, samples)
        recording = self.recordings[samples]
        if recording is None:
            return self.function(X, labels, samples)
        for held, T in zip(recording.inputs, (X, labels), strict=True):
            held.copy_(T)
        recording.replay()
        return recording.result

    def _record(self, X: Tensor, labels: Tensor, samples: int) -> Recording | None:
        try:
            return record(partial(self.function, samples=samples), [X.clone(), labels.clone()])
        except RuntimeError as error:
            warnings.warn(
                f"the update could not be recorded as a CUDA graph ({error}): it runs kernel by kernel",
                RuntimeWarning,
                stacklevel=3,
            )
            return None


def recordable(device: torch.device) -> bool:
    """Whether calls on this device are worth recording."""
    return device.type == "cuda" and parallel.ranks() == 1


def record(function: Callable[..., Tensor], inputs: list[Tensor]) -> Recording:
    """Record a call on CUDA, which computes nothing yet. What it uses must have run before."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function(*inputs)
    return Recording(inputs, graph.replay, result)
