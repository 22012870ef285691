"""Entries that count less, or not at all: factorizations of A filled up with what the factors say.

Legend: A (n × m) data, rows are samples; Z (n × k) codes; W (k × m) weights, with a bias row (k + 1) × m; V
(n × m) in [0, 1], how much each entry counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from .bias import affine
from .extrapolation import Extrapolated
from .inputs import Pair
from .objective import Objective


def advanced(
    goal: Objective, advance: Callable[[Tensor, Pair], Pair], nonnegative: tuple[bool, bool] = (True, False)
) -> Callable[[Pair], Pair]:
    """`advance(A, pair)`, which does not raise ½‖A − ẐW‖², as the steps of a run for any weights of entries.

    Where these differ the steps go on along their move, (Z, W) projected if they are `nonnegative`.
    """
    if goal.V is None:
        return partial(advance, goal.A)
    return Extrapolated(goal.A, Completion(goal, advance), nonnegative)


class Completion:
    """Steps of an unweighted factorization towards T = VA + (1 − V)ẐW, to be `Extrapolated`.

    ½‖T − ẐW‖² and a constant bound ½ΣV(A − ẐW)² from above and touch it at the present factors, so what
    lowers the one lowers the other (the EM algorithm for V in {0, 1}; Srebro & Jaakkola 2003). Alone this is
    slow where little is known.
    """

    def __init__(self, objective: Objective, advance: Callable[[Tensor, Pair], Pair]) -> None:
        self.objective, self.advance = objective, advance

    def end(self, pair: Pair, plain: Tensor) -> Pair:
        """A step towards what the pair makes of A."""
        return self.advance(self.objective.filled(affine(*pair)), pair)

    def value(self, pair: Pair) -> Tensor:
        """The objective."""
        return self.objective.value(pair)
