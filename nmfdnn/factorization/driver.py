"""The one loop behind every factorization, and what it returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import ConfigError, NotFiniteError, require, require_whole
from .inputs import Pair, Units
from .objective import Objective


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
            check, to the least so far; elsewhere than with squares see `Objective.size`. A rise stops
            nothing, unless it is rounding: ½ε‖A‖(‖R‖ + ε‖A‖) for the residual R. 0 runs all iterations.
        check_every: iterations between two evaluations of the objective (each costs about one iteration and,
            on CUDA, one synchronisation), ≥ 1.
        callback: called as callback(iteration, Pair(Z, W), objective) at every check, with a pair of its own,
            into which it may write; returning True stops.
    """

    max_iterations: int = 200
    tolerance: float = 1e-4
    check_every: int = 10
    callback: Callable[[int, Pair, float], bool | None] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        require_whole(self.max_iterations, "max_iterations", 0)
        require(0 <= self.tolerance < 1, "tolerance", "in [0, 1)", self.tolerance)
        require_whole(self.check_every, "check_every", 1)


Step = Callable[[Pair], Pair]


class Solver(Protocol):
    """An algorithm for one of the problems: a small frozen object that makes the steps of a run."""

    def steps(self, goal: Objective) -> Step:
        """What leads from a pair to the next one, anew for each run: steps may remember.

        Where W has more rows than Z has columns, the last one is a bias (`Pair.bias`). `goal.require` refuses
        another's problem; what else a solver cannot minimise (`goal.V`, `beta`, `penalty`) it refuses itself.

        Raises:
            ConfigError: it cannot minimise this.
        """


def solver_of(key: str, given: str | Solver, named: Mapping[str, Solver]) -> Solver:
    """The solver of this name, or the one that is given.

    Raises:
        ConfigError: it is neither.
    """
    found: Any = named.get(given) if isinstance(given, str) else given
    what = f"one of {', '.join(named)}, or a solver: an object with a method steps(goal)"
    require(callable(getattr(found, "steps", None)), key, what, given)
    solver: Solver = found
    return solver


def iterate(
    goal: Objective,
    start: Pair,
    step: Step,
    stopping: Stopping,
    units: Units | None = None,
    *,
    ridge: bool = False,
) -> Result:
    """Repeat `step` from `start` until `stopping` says so, for an objective.

    It and the start are in `units`, what is returned or handed to a callback is in the user's. An iteration
    whose objective is not finite ends the run as "diverged", so nothing that was computed is lost.

    Raises:
        ConfigError: the objective is not finite at the start, or a factor is too large for its type.
    """
    what = "None or a Stopping, as Stopping(max_iterations=500)"
    require(isinstance(stopping, Stopping), "stopping", what, stopping)
    units = units or Units()

    def user(value: float) -> float:
        return math.prod([value, *[units.A] * goal.beta, goal.weight])

    values = [float(goal.value(start))]
    if not math.isfinite(values[0]):
        raise ConfigError(
            "the objective is not finite at the start: Z or W is too large for the data, scale it down"
        )
    size, eps = goal.size(), torch.finfo(start.W.dtype).eps
    floor = goal.floor * size
    least, best, seen = math.inf if ridge else values[0], start, 0
    pair, done, ended = start, 0, "max_iterations"
    known = getattr(step, "value", None)
    while done < stopping.max_iterations:
        block = min(stopping.check_every, stopping.max_iterations - done)
        try:
            for _ in range(block):
                pair = step(pair)
            value = float(known() if known else goal.value(pair))
        except NotFiniteError:
            value = math.nan
        if not math.isfinite(value):
            ended = "diverged"
            break
        done += block
        values.append(value)
        near = math.sqrt(size * value) + eps * size if goal.beta == 2 else size
        rounding = max(floor, eps * near)
        settled = value <= least + rounding and -rounding <= values[-2] - value <= stopping.tolerance * size
        if value <= least:
            least, best, seen = value, pair, done
        if stopping.callback is not None:
            mine = units.outer(Pair(pair.Z.clone(), pair.W.clone()))
            if stopping.callback(done, mine, user(value)):
                ended = "callback"
                break
        if stopping.tolerance > 0 and settled:
            ended = "converged"
            break
    Z, W = units.outer(best)
    return Result(Z, W, [user(value) for value in values], seen, ended == "converged", ended)
