"""Nonlinear semi-NMF as Sakurai et al. 2016 alternate: weight steps and code steps.

Legend: A (n × m) data, rows are samples; Z (n × k) codes; W (k × m) weights, with a bias row (k + 1) × m.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import require, require_whole
from ..kernels import REFERENCE, Kernels
from ..linalg import factor_unchecked
from .bias import augmented
from .driver import Step
from .inputs import Pair
from .least_squares import code_step, weight_factors, weight_step
from .objective import Objective
from .regularisation import NO_REGULARISATION, Regularisation, counted

ORDERS = ("weights_first", "codes_first")


@dataclass(frozen=True)
class Alternation:
    """How one iteration alternates in the form of Sakurai et al. 2016, section 3.

    Attributes:
        weight_steps: W steps with the pseudo-inverse of the present codes, ≥ 0.
        code_steps: Z steps with the pseudo-inverse of the present weights, ≥ 0.
        omega: relaxation ω of both, in (0, 2].
        order: which come first, one of `ORDERS`.
        nonnegative: project codes onto Z ≥ 0.
    """

    weight_steps: int = 1
    code_steps: int = 1
    omega: float = 1.0
    order: str = "weights_first"
    nonnegative: bool = True

    def __post_init__(self) -> None:
        require_whole(self.weight_steps, "weight_steps", 0)
        require_whole(self.code_steps, "code_steps", 0)
        require(0 < self.omega <= 2, "omega", "in (0, 2]", self.omega)
        require(self.order in ORDERS, "order", f"one of {', '.join(ORDERS)}", self.order)

    def steps(
        self,
        goal: Objective,
        regularisation: Regularisation = NO_REGULARISATION,
        kernels: Kernels = REFERENCE,
    ) -> Step:
        """See `Solver`: for ½‖A − f(ẐW)‖², with what its steps need besides."""
        goal.require("nonlinear_semi_nmf", self)
        return lambda pair: nonlinear_semi_nmf_step(goal.A, pair, pair.bias, self, regularisation, kernels)


@torch.no_grad()
def nonlinear_semi_nmf_step(
    A: Tensor,
    pair: Pair,
    bias: bool,
    alternation: Alternation,
    regularisation: Regularisation,
    kernels: Kernels = REFERENCE,
    roots: Tensor | None = None,
) -> Pair:
    """One iteration: some weight steps and some code steps, each kind with one factorization.

    `roots` (n × 1) are the square roots of the samples' weights, None where all count alike.
    """
    if alternation.order == "weights_first":
        pair = _weight_steps(A, pair, bias, alternation, regularisation, kernels, roots)
        return _code_steps(A, pair, alternation, regularisation, kernels)
    pair = _code_steps(A, pair, alternation, regularisation, kernels)
    return _weight_steps(A, pair, bias, alternation, regularisation, kernels, roots)


def _weight_steps(
    A: Tensor,
    pair: Pair,
    bias: bool,
    how: Alternation,
    regularisation: Regularisation,
    kernels: Kernels,
    roots: Tensor | None,
) -> Pair:
    Z, W = pair
    if how.weight_steps:
        inputs = augmented(Z, bias)
        method, delta = regularisation.method, regularisation.delta
        factors = factor_unchecked(counted(inputs, roots), method, delta, sharded=True)
        for _ in range(how.weight_steps):
            W = weight_step(inputs, A, W, factors, how.omega, regularisation.weight_ridge, kernels, roots)
    return Pair(Z, W)


def _code_steps(
    A: Tensor, pair: Pair, how: Alternation, regularisation: Regularisation, kernels: Kernels
) -> Pair:
    Z, W = pair
    if how.code_steps:
        factors = weight_factors(W, Z.shape[1], regularisation)
        for _ in range(how.code_steps):
            Z = code_step(A, Z, W, factors, how.omega, regularisation.code_ridge, how.nonnegative, kernels)
    return Pair(Z, W)
