"""What every training method shares: its interface and a stopwatch."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from .. import parallel
from ..errors import ConfigError, DataError, require
from ..network import Network, root_mean_square
from ..source import Batch, Order, Source, batch_of

SCHEDULES = ("constant", "linear", "cosine")
"""Of learning rates; all but the first fall to zero over all epochs, from step to step."""

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

    def objective(self, outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
        """The objective that the method minimises, per sample of those given."""

    def state(self) -> dict[str, Any]:
        """A copy of everything that the next epoch depends on, as tensors and plain containers."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""


def half_square_per_sample(R: Tensor, weights: Tensor | None = None) -> float:
    """½‖R‖² per sample, for residuals R (n × m) of samples that count `weights` (n × 1) times."""
    if weights is None:
        return float(0.5 * R.square().sum(dtype=torch.float64) / len(R))
    mass = weights.sum(dtype=torch.float64).clamp_min(torch.finfo(weights.dtype).tiny)
    return float(0.5 * (weights * R.square()).sum(dtype=torch.float64) / mass)


def loss_per_sample(
    source: Source,
    outputs: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    loss: str = "auto",
    smoothing: float = 0.0,
) -> float:
    """One of `targets.LOSSES` per sample, of samples that count `weights` (n × 1) times."""
    mass = len(labels) if weights is None else weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
    return float(source.targets.loss(loss, outputs, labels, weights, smoothing) / mass)


def decay(schedule: str, step: int, steps: int) -> float:
    """The share of the initial rate that one of `SCHEDULES` leaves at a step, from 0, of so many."""
    step = min(step, steps)
    if schedule == "linear":
        return 1 - step / steps
    return 1.0 if schedule == "constant" else 0.5 * (1 + math.cos(math.pi * step / steps))


def require_batch(size: int, source: Source, key: str) -> None:
    """Raise a `ConfigError` if mini-batches of this size, the value of `key`, are more than there is."""
    require(size <= len(source), key, f"at most the {len(source)} training samples", size)


def require_finite(weights: Sequence[Tensor], source: Source, remedy: str) -> None:
    """Raise an error, with the remedy or about the data if these are the cause, unless weights are finite."""
    if all(torch.isfinite(W).all() for W in weights):
        return
    bad = sum((~torch.isfinite(batch.X)).sum() for batch in source.passes())
    if parallel.total(torch.as_tensor(bad)) > 0:
        raise DataError("the inputs X hold NaN or infinity: fill them in or leave those samples out")
    raise ConfigError(f"the weights are no longer finite: {remedy}")


def input_unit(source: Source) -> float:
    """The power of four in which the root mean square of the inputs is in [0.29, 1.15).

    It is 1 for pixels from 0 to 1 and for standardized features. A division by it is exact.
    """
    first = collect(source, source.sample(FIRST_ROWS))
    return 4.0 ** math.floor(math.log(root_mean_square(first.X, first.weights), 4) + 0.9)


def collect(source: Source, rows: Tensor) -> Batch:
    """The samples with these indices, on every rank all of them."""
    batch = source.take(rows)
    if batch.mine is None:
        return batch
    return batch_of(source, parallel.whole(batch.X, batch.mine, len(rows)), rows)


def where_active(D: Tensor, Z: Tensor) -> Tensor:
    """D where Z > 0, else 0, in one pass: D ∘ f'(V) for codes Z = f(V)."""
    return torch.ops.aten.threshold_backward(D, Z, 0)


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
