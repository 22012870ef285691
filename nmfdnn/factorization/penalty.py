"""Penalties on factors: what they add to an objective and to its normal equations.

Legend: F a factor, Z (n × k) or W (k × m).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, require


@dataclass(frozen=True)
class Penalty:
    """λ₁‖F‖₁ + ½λ₂‖F‖², added to the objective for one of the factors F.

    λ₁ = l1 · c s^β/u and λ₂ = l2 · c s^β/u², where s is the root mean square of the entries of A that count,
    u the unit of F (√s for both factors of an NMF; 1 for the codes of a semi-NMF, s for its weights), and c
    how many entries of A one entry of F meets: for Z the columns of A, for W its rows (with weights of
    entries: the mean of their sums). So neither the unit of A nor copies of its rows change what l1 and l2
    mean; where s = 1 they are scikit-learn's alpha · l1_ratio and alpha · (1 − l1_ratio).

    Attributes:
        l1: ≥ 0, makes entries exactly zero (but for multiplicative updates, which make them small).
        l2: ≥ 0, makes large entries smaller.
    """

    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        for key in ("l1", "l2"):
            value = getattr(self, key)
            good = isinstance(value, Real) and 0 <= float(value) < math.inf
            require(good, key, "finite and ≥ 0", value)

    def __bool__(self) -> bool:
        """Whether it says anything."""
        return bool(self.l1 > 0 or self.l2 > 0)  # of NumPy's numbers, too

    def level(self, size: float, unit: float) -> Penalty:
        """(λ₁, λ₂) for c s^β = `size` and u = `unit`."""
        return Penalty(self.l1 * size / unit, self.l2 * size / unit / unit) if self and unit > 0 else NONE

    def value(self, F: Tensor) -> Tensor:
        """What it adds; 0-d, float64."""
        F = F.double()
        return self.l1 * F.abs().sum() + 0.5 * self.l2 * F.square().sum()

    def normal(self, C: Tensor, G: Tensor, rank: int | None = None) -> tuple[Tensor, Tensor]:
        """(C − λ₁, G + λ₂I) for C (k × n) and a G or n of them, in the first `rank` rows: a bias has none."""
        if not self:
            return C, G
        C, G = C.clone(), G.clone()
        diagonal = G.diagonal(dim1=-2, dim2=-1)[..., :rank]
        diagonal += self.l2
        # Where its partner is zero a part fits nothing: any curvature leads it to zero, where it costs least.
        diagonal.copy_(diagonal.where(diagonal >= torch.finfo(G.dtype).tiny, 1.0))
        C[:rank] -= self.l1
        return C, G


NONE = Penalty()


def both(penalty: Any) -> tuple[Penalty, Penalty]:
    """The penalties of Z and of W, from one for both or a pair.

    Raises:
        ConfigError: it is neither, or one factor has a penalty and the other none.
    """
    pair = penalty if isinstance(penalty, (tuple, list)) else (penalty, penalty)
    good = len(pair) == 2 and all(p is None or isinstance(p, Penalty) for p in pair)
    require(good, "penalty", "a Penalty for both factors or a pair of them, of Z and of W", penalty)
    Z, W = (p or NONE for p in pair)
    if bool(Z) != bool(W):
        given, free = ("Z", "W") if Z else ("W", "Z")
        raise ConfigError(
            f"a penalty on {given} alone is void, because {given} can shrink and {free} grow without end: "
            f"give {free} one too, as in penalty=(Penalty(l1=0.01), Penalty(l2=0.01))"
        )
    return Z, W
