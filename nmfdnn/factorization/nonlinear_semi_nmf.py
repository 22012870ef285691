"""Nonlinear semi-NMF: min ½‖A − f(ZW)‖² over Z ≥ 0 (or free), W free, f = ReLU.

Legend: A (n × m) data, rows are samples; Z (n × k) codes; W (k × m) weights, with a bias row (k + 1) × m.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import require, require_whole
from ..kernels import REFERENCE, Kernels
from ..linalg import factor_unchecked
from .driver import Result, Stopping, iterate
from .inputs import Pair, check_matrix
from .latent import Latent, LatentStep
from .least_squares import code_step, weight_factors, weight_step
from .semi_nmf import Regularisation, affine, augmented, counted, starting_pair

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


@torch.no_grad()
def nonlinear_semi_nmf(
    A: Tensor,
    rank: int,
    *,
    bias: bool = False,
    alternation: Latent | Alternation | None = None,
    regularisation: Regularisation | None = None,
    start: str | tuple[Tensor, Tensor | None] = "random",
    stopping: Stopping | None = None,
    generator: torch.Generator | None = None,
    kernels: Kernels = REFERENCE,
) -> Result:
    """Codes Z (n × rank) and weights W with A ≈ f(ẐW).

    Args:
        A: n × m, in any unit: cA gives the same codes and c times the weights. Entries below zero cannot be
            met.
        rank: number of codes k ≥ 1.
        bias: append a row to W that a column of ones multiplies.
        alternation: how one iteration goes: `Latent` (Saul 2022, extrapolated), the default, or
            `Alternation`, the weight and code steps of Sakurai et al. 2016.
        regularisation: pseudo-inverse, λ_W and λ_Z (Arai 2018) of an `Alternation`.
        start: "random" (Z uniform in [0.2, 1.2], W by least squares on A), "svd" (a semi-NMF of A, see
            `starts.semi_nonnegative`), or (Z, W) to continue from, where W may be None: least squares on A.
        stopping: when to end; default `Stopping()`.
        generator: source of all randomness, on the device of A; default a new one with seed 0.
        kernels: element-wise backend of an `Alternation`.

    A `Latent` iteration never raises the objective by more than rounding; an `Alternation`'s can rise (see
    `nonlinear_least_squares`), and λ_W and λ_Z shrink at every step. What is returned is the best of all
    checks, so for an `Alternation` a small `check_every` finds a better one.

    Rows of A may be shared out over ranks (`nmfdnn.parallel`): each then gets its rows of Z, and all get W.

    Raises:
        ConfigError: A or the start is not finite or of another shape, or an argument is outside its range.
    """
    check_matrix(A)
    how = alternation or Latent()
    latent = isinstance(how, Latent)
    require(
        not (latent and regularisation),
        "regularisation",
        "None, or given with alternation=Alternation()",
        regularisation,
    )
    regularisation = regularisation or Regularisation()
    remedy = "clip it at zero, or leave codes free with Latent(nonnegative=False)" if latent else None
    if latent and not how.nonnegative:
        remedy = None
    A, pair, units = starting_pair(A, rank, bias, regularisation, start, generator, negative=remedy)
    return iterate(
        A,
        pair,
        _step(A, bias, how, regularisation, kernels),
        lambda pair: affine(pair.Z, pair.W).relu_(),
        stopping or Stopping(),
        units,
        ridge=regularisation.weight_ridge > 0 or regularisation.code_ridge > 0,
    )


def _step(
    A: Tensor, bias: bool, how: Latent | Alternation, regularisation: Regularisation, kernels: Kernels
) -> Callable[[Pair], Pair]:
    if isinstance(how, Latent):
        return LatentStep(A, bias, how)
    return lambda pair: nonlinear_semi_nmf_step(A, pair, bias, how, regularisation, kernels)


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
