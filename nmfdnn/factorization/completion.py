"""Entries that count less, or not at all: factorizations of A filled up with what the factors say.

Legend: A (n × m) data, rows are samples; Z (n × k) codes; W (k × m) weights, with a bias row (k + 1) × m; V
(n × m) in [0, 1], how much each entry counts.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .bias import affine
from .extrapolation import Extrapolated
from .inputs import Pair
from .objective import Objective


def completed(
    objective: Objective, advance: Callable[[Tensor, Pair], Pair], nonnegative: tuple[bool, bool]
) -> Extrapolated:
    """The steps of one run."""
    return Extrapolated(objective.A, Completion(objective, advance), nonnegative)


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
