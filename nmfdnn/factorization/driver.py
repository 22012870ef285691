"""The one loop behind every factorization, and what it returns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError, NotFiniteError, require


class Pair(NamedTuple):
    """Codes Z (n × k) and weights W (k × m), or (k + 1) × m with a bias row."""

    Z: Tensor
    W: Tensor


@dataclass(frozen=True)
class Result:
    """What a factorization returns.

    Attributes:
        Z: codes, n × k.
        W: weights, k × m; (k + 1) × m with the bias in the last row where a bias was asked for.
        objective: values of the objective at the start and at every check, oldest first.
        iterations: how many iterations the returned factors have seen.
        converged: whether the tolerance was met.
        ended: "converged", "max_iterations", "callback" or "diverged".
    """

    Z: Tensor
    W: Tensor
    objective: list[float]
    iterations: int
    converged: bool
    ended: str


@dataclass(frozen=True)
class Stopping:
    """When an iteration ends.

    Attributes:
        max_iterations: upper bound on the iterations, ≥ 0.
        tolerance: stop when the objective changes by no more than this fraction of its value at the start
            between two checks; 0 runs all iterations.
        check_every: iterations between two evaluations of the objective (each costs about one iteration and,
            on CUDA, one synchronisation), ≥ 1.
        callback: called as callback(iteration, Pair(Z, W), objective) at every check; returning True stops.
    """

    max_iterations: int = 200
    tolerance: float = 1e-4
    check_every: int = 10
    callback: Callable[[int, Pair, float], bool | None] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        require(self.max_iterations >= 0, "max_iterations", "≥ 0", self.max_iterations)
        require(0 <= self.tolerance < 1, "tolerance", "in [0, 1)", self.tolerance)
        require(self.check_every >= 1, "check_every", "≥ 1", self.check_every)


def iterate(
    start: Pair, step: Callable[[Pair], Pair], objective: Callable[[Pair], Tensor], stopping: Stopping
) -> Result:
    """Repeat `step` from `start` until `stopping` says so.

    An iteration whose objective is not finite ends the run as "diverged" with the last finite factors, so
    nothing that was computed is lost.
    """
    pair = good = start
    history = [float(objective(start))]
    if not math.isfinite(history[0]):
        raise ConfigError(
            "the objective is not finite at the start: A, Z or W holds NaN, infinity or huge values"
        )
    done = 0
    ended = "max_iterations"
    while done < stopping.max_iterations:
        block = min(stopping.check_every, stopping.max_iterations - done)
        try:
            for _ in range(block):
                pair = step(pair)
            value = float(objective(pair))
        except NotFiniteError:
            value = math.nan
        if not math.isfinite(value):
            ended = "diverged"
            break
        done += block
        good = pair
        history.append(value)
        if stopping.callback is not None and stopping.callback(done, pair, value):
            ended = "callback"
            break
        if stopping.tolerance > 0 and abs(history[-2] - value) <= stopping.tolerance * history[0]:
            ended = "converged"
            break
    return Result(good.Z, good.W, history, done, ended == "converged", ended)


def check_matrix(A: Tensor, name: str = "A", *, nonnegative: bool = False) -> None:
    """Raise a `ConfigError` unless A is a non-empty, finite floating-point matrix (nonnegative if asked)."""
    if A.ndim != 2 or A.numel() == 0:
        raise ConfigError(f"{name} must be a non-empty matrix (rows are samples), got shape {tuple(A.shape)}")
    if A.dtype not in (torch.float32, torch.float64):
        raise ConfigError(f"{name} must be float32 or float64, got {A.dtype}: convert it with {name}.float()")
    if not torch.isfinite(A).all():
        raise ConfigError(f"{name} holds NaN or infinite entries: remove or replace them first")
    if nonnegative and bool((A < 0).any()):
        raise ConfigError(
            f"{name} has negative entries: shift or clip it, or use semi_nmf, which allows them"
        )


def check_factor(F: Tensor, name: str, shape: tuple[int, int], like: Tensor) -> None:
    """Raise a `ConfigError` unless a given factor has the shape, type and device that A asks for."""
    check_matrix(F, name)
    if tuple(F.shape) != shape:
        raise ConfigError(f"{name} must have shape {shape}, got {tuple(F.shape)}")
    if F.dtype != like.dtype or F.device != like.device:
        raise ConfigError(f"{name} must be {like.dtype} on {like.device} like A, got {F.dtype} on {F.device}")


def half_square(R: Tensor) -> Tensor:
    """½‖R‖² (Frobenius), a 0-d tensor accumulated in float64."""
    return 0.5 * R.square().sum(dtype=torch.float64)
