"""What every training method shares: its interface, the order of the data, and a stopwatch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ..network import Network, one_hot


@dataclass(frozen=True)
class Epoch:
    """What one epoch of training reports.

    Attributes:
        seconds: time spent in training alone.
        learning_rate: the relaxation ω or the learning rate at the end of the epoch.
        residuals: for each layer ‖Zᵢ₊₁ − f(ẐᵢWᵢ₊₁)‖/‖Zᵢ₊₁‖ on the last batch, where the method has codes.
    """

    seconds: float
    learning_rate: float
    residuals: list[float] = field(default_factory=list)


class Trainer(Protocol):
    """A training method: one instance trains one network."""

    @property
    def network(self) -> Network:
        """The weights to evaluate and to keep, for instance an average; never requires grad."""

    def epoch(self) -> Epoch:
        """Train on every sample once."""

    def objective(self, outputs: Tensor, labels: Tensor) -> float:
        """The objective that the method minimises, per sample."""

    def state(self) -> dict[str, Any]:
        """A copy of everything that the next epoch depends on, as tensors and plain containers."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""


def batches(n: int, size: int, generator: torch.Generator, device: torch.device) -> Iterator[Tensor]:
    """Shuffled index batches of nearly equal length ≤ `size`; drawn on the CPU: equal on every device."""
    order = torch.randperm(n, generator=generator).to(device)
    yield from order.tensor_split(math.ceil(n / size))


def half_square_per_sample(outputs: Tensor, labels: Tensor) -> float:
    """½‖Y − outputs‖² per sample, for one-hot Y and outputs n × classes."""
    Y = one_hot(labels, outputs.shape[1], outputs.dtype)
    return float(0.5 * (Y - outputs).square().sum(dtype=torch.float64) / len(labels))


class Stopwatch:
    """Seconds on the wall clock, after the device has finished its queue."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.start = self._now()

    def seconds(self) -> float:
        """Seconds since the start."""
        return self._now() - self.start

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
