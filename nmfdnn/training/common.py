"""What every training method shares: its interface, the order of the data, and a stopwatch."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import require
from ..network import Network

FIRST_ROWS = 5000
"""Samples from which units of inputs and codes, and the codes' statistics, start."""


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
    """A training method: one instance trains one network, in the `order` of its mini-batches."""

    @property
    def network(self) -> Network:
        """The weights to evaluate and to keep, for instance an average; never requires grad."""

    order: Order

    def epoch(self) -> Epoch:
        """Train on every sample once, or on the next part of an epoch if `order` has more than one."""

    def objective(self, outputs: Tensor, labels: Tensor) -> float:
        """The objective that the method minimises, per sample."""

    def state(self) -> dict[str, Any]:
        """A copy of everything that the next epoch depends on, as tensors and plain containers."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""


def batches(n: int, size: int, generator: torch.Generator, device: torch.device) -> Sequence[Tensor]:
    """Shuffled index batches of nearly equal length ≤ `size`; drawn on the CPU: equal on every device."""
    order = torch.randperm(n, generator=generator).to(device)
    return order.tensor_split(math.ceil(n / size))


class Order:
    """The mini-batches of one epoch after another, each shuffled anew, handed out in equal parts of an epoch.

    There are at most as many `parts` as mini-batches.
    """

    def __init__(
        self, n: int, size: int, generator: torch.Generator, device: torch.device, parts: int = 1
    ) -> None:
        self.n, self.size, self.generator, self.device = n, size, generator, device
        self.parts = min(parts, math.ceil(n / size))
        self._part = 0

    def part(self) -> Sequence[Tensor]:
        """Index batches of the next part."""
        if self._part == 0:
            self._draw()
        first, last = (len(self._batches) * part // self.parts for part in (self._part, self._part + 1))
        self._part = (self._part + 1) % self.parts
        return self._batches[first:last]

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
        self._batches = batches(self.n, self.size, self.generator, self.device)


def half_square_per_sample(R: Tensor) -> float:
    """½‖R‖² per sample, for residuals R of n samples (n × m)."""
    return float(0.5 * R.square().sum(dtype=torch.float64) / len(R))


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
