"""The one loop behind every factorization, and what it returns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import parallel
from ..errors import ConfigError, NotFiniteError, require, require_whole
from .inputs import Pair, Units
from .sparse import Sparse


@dataclass(frozen=True)
class Result:
    """What a factorization returns: of all pairs at which the objective was taken, the one where it is least.

    With a ridge the start counts only if it is all there is: no ridge has shrunk it.

    Attributes:
        Z: codes, n × k.
        W: weights, k × m; (k + 1) × m with the bias in the last row where a bias was asked for.
        objective: values of the objective at the start and at every check, oldest first, in the unit of the
            data: infinite or zero where its square is beyond float64.
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
        tolerance: stop when the objective has fallen by no more than this fraction of ½‖A‖² since the last
            check, to the least so far. A rise stops nothing, unless it is rounding: ½ε‖A‖‖R‖ for the residual
            R. 0 runs all iterations.
        check_every: iterations between two evaluations of the objective (each costs about one iteration and,
            on CUDA, one synchronisation), ≥ 1.
        callback: called as callback(iteration, Pair(Z, W), objective) at every check; returning True stops.
    """

    max_iterations: int = 200
    tolerance: float = 1e-4
    check_every: int = 10
    callback: Callable[[int, Pair, float], bool | None] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        require_whole(self.max_iterations, "max_iterations", 0)
        require(0 <= self.tolerance < 1, "tolerance", "in [0, 1)", self.tolerance)
        require_whole(self.check_every, "check_every", 1)


def iterate(
    A: Tensor | Sparse,
    start: Pair,
    step: Callable[[Pair], Pair],
    fit: Callable[[Pair], Tensor],
    stopping: Stopping,
    units: Units | None = None,
    *,
    ridge: bool = False,
) -> Result:
    """Repeat `step` from `start` until `stopping` says so, for the objective ½‖A − fit(Z, W)‖².

    What `fit` returns is overwritten. For a `Sparse` A it is not asked: the fit is ZW, or ẐW with a bias.

    A and the start are in `units`, what is returned or handed to a callback is in the user's. An iteration
    whose objective is not finite ends the run as "diverged", so nothing that was computed is lost.

    Raises:
        ConfigError: the objective is not finite at the start, or a factor is too large for its type.
    """
    units = units or Units()

    def objective(pair: Pair) -> float:
        if isinstance(A, Sparse):
            return float(A.half_distance(pair.Z, pair.W))
        return float(half_square(fit(pair).sub_(A)))

    def user(value: float) -> float:
        return value * units.A * units.A

    values = [objective(start)]
    if not math.isfinite(values[0]):
        raise ConfigError(
            "the objective is not finite at the start: Z or W is too large for the data, scale it down"
        )
    size = float(A.half_square() if isinstance(A, Sparse) else half_square(A))
    eps, floor = torch.finfo(A.dtype).eps, A.rounding * size if isinstance(A, Sparse) else 0.0
    least, best, seen = math.inf if ridge else values[0], start, 0
    pair, done, ended = start, 0, "max_iterations"
    while done < stopping.max_iterations:
        block = min(stopping.check_every, stopping.max_iterations - done)
        try:
            for _ in range(block):
                pair = step(pair)
            value = objective(pair)
        except NotFiniteError:
            value = math.nan
        if not math.isfinite(value):
            ended = "diverged"
            break
        done += block
        values.append(value)
        rounding = max(floor, eps * math.sqrt(size * value))
        settled = value <= least + rounding and -rounding <= values[-2] - value <= stopping.tolerance * size
        if value <= least:
            least, best, seen = value, pair, done
        if stopping.callback is not None and stopping.callback(done, units.outer(pair), user(value)):
            ended = "callback"
            break
        if stopping.tolerance > 0 and settled:
            ended = "converged"
            break
    Z, W = units.outer(best)
    return Result(Z, W, [user(value) for value in values], seen, ended == "converged", ended)


def half_square(R: Tensor) -> Tensor:
    """½‖R‖² (Frobenius) of an R whose rows may be shared out; a 0-d tensor accumulated in float64."""
    return 0.5 * parallel.total(torch.linalg.vector_norm(R, dim=1).double().square().sum())
