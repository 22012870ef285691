"""Nonlinear semi-NMF: min ½‖A − f(ZW)‖² over Z ≥ 0 (or free), W free, f = ReLU.

Legend: A (n × m) data, rows are samples; Z (n × k) codes; W (k × m) weights, with a bias row (k + 1) × m.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import require
from ..kernels import REFERENCE, Kernels
from .alternation import Alternation
from .driver import Result, Solver, Stopping, iterate, solver_of
from .inputs import check_matrix
from .latent import Latent
from .objective import Objective
from .regularisation import Regularisation
from .semi_nmf import starting_pair


@torch.no_grad()
def nonlinear_semi_nmf(
    A: Tensor,
    rank: int,
    *,
    bias: bool = False,
    alternation: str | Solver = "latent",
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
        alternation: how one iteration goes: "latent", which is `Latent()` (Saul 2022, extrapolated),
            "sakurai2016", which is `Alternation()`, their weight and code steps, or a `Solver`.
        regularisation: pseudo-inverse, λ_W and λ_Z (Arai 2018) of an `Alternation`.
        start: "random" (Z uniform in [0.2, 1.2], W by least squares on A), "svd" (a semi-NMF of A, see
            `starts.semi_nonnegative`), or (Z, W) to continue from, where W may be None: least squares on A.
        stopping: when to end; default `Stopping()`.
        generator: source of all randomness, on the device of A; default a new one with seed 0.
        kernels: element-wise backend of an `Alternation`.

    For A ≥ 0 a `Latent` iteration never raises the objective by more than rounding; an `Alternation`'s can
    rise (see `nonlinear_least_squares`), and λ_W and λ_Z shrink at every step. What is returned is the best
    of all checks, so for an `Alternation` a small `check_every` finds a better one.

    Rows of A may be shared out over ranks (`nmfdnn.parallel`): each then gets its rows of Z, and all get W.

    Raises:
        ConfigError: A or the start is not finite or of another shape, or an argument is outside its range.
    """
    check_matrix(A)
    named: dict[str, Solver] = {"latent": Latent(), "sakurai2016": Alternation()}
    how = solver_of("alternation", alternation, named)
    what = "None, or given with alternation=Alternation()"
    require(isinstance(how, Alternation) or regularisation is None, "regularisation", what, regularisation)
    regularisation = regularisation or Regularisation()
    nonnegative = isinstance(how, Latent) and how.nonnegative
    remedy = "clip it at zero, or leave codes free with Latent(nonnegative=False)" if nonnegative else None
    A, pair, units = starting_pair(A, rank, bias, regularisation, start, generator, negative=remedy)
    goal = Objective(A, nonlinear=True)
    ridge = regularisation.weight_ridge > 0 or regularisation.code_ridge > 0
    steps = how.steps(goal, regularisation, kernels) if isinstance(how, Alternation) else how.steps(goal)
    return iterate(goal, pair, steps, stopping or Stopping(), units, ridge=ridge)
