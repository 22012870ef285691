"""Semi-NMF: min ½‖A − ZW‖² over Z ≥ 0, W free; weights of entries and penalties.

Legend: A (n × m) data of any sign, rows are samples; Z (n × k) codes; W (k × m) weights, with a bias row
(k + 1) × m; Ẑ = [Z 1] the codes with a column of ones where there is a bias, else Z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from .. import parallel
from ..errors import require, require_whole
from ..kernels import REFERENCE, Kernels
from ..kernels.coordinates import coordinate_descent
from ..linalg import check_method, cholesky, delta_floor, eigenvalue_bound, factor_unchecked, gram
from .bias import affine, augmented, split_bias
from .completion import completed
from .driver import Result, Stopping, iterate
from .entries import entries
from .inputs import Pair, Units, check_matrix, source, two, unit
from .objective import Objective, means, objective
from .penalty import NONE, Penalty, both
from .starts import semi_nonnegative, uniform

UPDATES = ("exact", "multiplicative")
STARTS = ("svd", "random")


@dataclass(frozen=True)
class Regularisation:
    """Arai's regularisation and the pseudo-inverse, shared by the updates of semi- and nonlinear semi-NMF.

    Attributes:
        method: pseudo-inverse, one of `nmfdnn.linalg.METHODS`.
        delta: its relative cut-off δ, in [0, 1).
        weight_ridge: λ_W ≥ 0: W ← (ẐᵀẐ + λ_W ḡI)⁻¹ẐᵀẐ W after each weight step.
        code_ridge: λ_Z ≥ 0: damps multiplicative code steps, shrinks least-squares code steps.

    The ridges have no unit: λ_W counts in mean diagonals ḡ of ẐᵀẐ, λ_Z in those of WWᵀ, less the bias row.
    """

    method: str = "svd"
    delta: float = 1e-14
    weight_ridge: float = 0.0
    code_ridge: float = 0.0

    def __post_init__(self) -> None:
        check_method(self.method, self.delta)
        for key in ("weight_ridge", "code_ridge"):
            require(0 <= getattr(self, key) < math.inf, key, "finite and ≥ 0", getattr(self, key))


@torch.no_grad()
def semi_nmf(
    A: Tensor,
    rank: int,
    *,
    bias: bool = False,
    update: str = "exact",
    regularisation: Regularisation | None = None,
    start: str | tuple[Tensor, Tensor | None] | None = None,
    stopping: Stopping | None = None,
    generator: torch.Generator | None = None,
    kernels: Kernels = REFERENCE,
    weights: Tensor | None = None,
    missing: str | None = None,
    penalty: Penalty | tuple[Penalty, Penalty] | None = None,
) -> Result:
    """Codes Z ≥ 0 (n × rank) and free weights W with A ≈ ẐW: W by least squares, then Z.

    Args:
        A: n × m, any sign, in any unit: cA gives the same codes and c times the weights. Dense, or sparse
            of torch or SciPy: never made dense, see `sparse`, but without weights and missing entries.
        rank: number of codes k ≥ 1.
        bias: append a row to W that a column of ones multiplies.
        update: of the codes: "exact", a coordinate at a time (`exact_code_step`), the weights by Cholesky; or
            "multiplicative" (Ding, Li & Jordan 2010), the weights by the chosen pseudo-inverse.
        regularisation: λ_W and λ_Z (Arai 2018) and, for "multiplicative", the pseudo-inverse; default none.
        start: "svd" (see `starts.semi_nonnegative`: for A ≥ 0, or with a bias, this is the least objective
            there is, but for what iterations add to the accuracy of the SVD), "random" (Z uniform in
            [0.2, 1.2], away from zero, which multiplicative updates cannot leave), or (Z, W) to continue
            from; W may be None, it is computed first. Default: "svd", "random" with "multiplicative".
        stopping: when to end; default `Stopping()`.
        generator: source of all randomness, on the device of A; default a new one with seed 0.
        kernels: element-wise backend of "multiplicative".
        weights: how much each entry of A counts, as in `nmf`; not with λ_W. A starts with means of columns
            where nothing counts.
        missing: "nan": entries that are NaN do not count.
        penalty: on both factors alike, or a pair (of Z, of W), which must both say something; on W, which has
            any sign, l2 only, and none on its bias. With "exact".

    With λ_W = 0 no half-step increases the objective, ½ΣV(A − ẐW)² and the penalties, by more than rounding
    (for the multiplicative one: Ding, Li & Jordan 2010, theorem 3); damping by λ_Z makes the code steps
    smaller without moving their fixed points.

    Rows of A may be shared out over ranks (`nmfdnn.parallel`): each then gets its rows of Z, and all get W.

    Raises:
        ConfigError: A or the start is not finite or of another shape, or an argument is outside its range.
    """
    A, V, weight = entries(A, weights, missing)
    require(update in UPDATES, "update", f"one of {', '.join(UPDATES)}", update)
    regularisation, penalties = regularisation or Regularisation(), both(penalty)
    require(penalties[1].l1 == 0, "penalty", "of W l2 alone, because W has any sign", penalties[1])
    require(update == "exact" or not any(penalties), "update", "'exact' with a penalty", update)
    if V is not None:
        ridge = regularisation.weight_ridge
        require(ridge == 0, "weight_ridge", "0 with weights of entries (a penalty shrinks, too)", ridge)
    remedy = "clip it at zero, because no step makes them nonnegative where they do not count"
    if start is None:
        start = "svd" if update == "exact" else "random"
    full = A if V is None else Objective(A, V).filled(means(A, V)[1])
    full, pair, units = starting_pair(full, rank, bias, regularisation, start, generator, negative=remedy)
    goal = objective(full if V is None else A / units.A, V, weight, 2, penalties, (0, 1))

    def advance(A: Tensor, pair: Pair) -> Pair:
        if update == "multiplicative":
            return semi_nmf_step(A, pair, bias, regularisation, kernels=kernels)
        codes, weights = goal.penalty
        W = improved_weights(A, pair, bias, regularisation.weight_ridge, weights)
        return Pair(exact_code_step(A, pair.Z, W, regularisation.code_ridge, penalty=codes), W)

    return iterate(
        goal.A,
        pair,
        partial(advance, goal.A) if V is None else completed(goal, advance, (True, False)),
        lambda pair: affine(pair.Z, pair.W),
        stopping or Stopping(),
        units,
        ridge=regularisation.weight_ridge > 0,
        objective=goal,
    )


@torch.no_grad()
def exact_code_step(
    A: Tensor, Z: Tensor, W: Tensor, damping: float = 0.0, sweeps: int = 4, penalty: Penalty = NONE
) -> Tensor:
    """Each code in turn minimises ½‖A − ẐW‖² + ½λ‖Z − Z₀‖² over Z ≥ 0, λ = `damping` · ḡ, `sweeps` times.

    Z₀ are the codes given, ḡ is the mean diagonal of WWᵀ; a penalty on Z (a level) is added.
    """
    C, G = penalty.normal(*products(A, *split_bias(W, Z.shape[1])))
    if damping > 0:
        level = damping * G.diagonal().mean()
        C, G = C + level * Z.T, G + level * torch.eye(len(G), dtype=G.dtype, device=G.device)
    return coordinate_descent(Z.T, C, G, sweeps).T


def products(A: Tensor, W: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor]:
    """W(A − b)ᵀ (k × n) and WWᵀ: all that codes need."""
    C = W @ A.T
    return C if b is None else C - (W @ b)[:, None], W @ W.T


@torch.no_grad()
def improved_weights(
    A: Tensor, pair: Pair, bias: bool, ridge: float = 0.0, penalty: Penalty = NONE
) -> Tensor:
    """W + (ẐᵀẐ + εI)⁻¹Ẑᵀ(A − ẐW), which never raises ½‖A − ẐW‖²; with λ_W = `ridge` > 0 the ridge solution.

    By Cholesky; ε is what rounding needs, and the fixed point is least squares all the same. A penalty on W
    (a level) is added to ½‖A − ẐW‖².
    """
    inputs = augmented(pair.Z, bias)
    C, G = parallel.totals(inputs.T @ A, gram(inputs))
    C, G = penalty.normal(C, G, pair.Z.shape[1])
    if ridge > 0:
        return torch.cholesky_solve(C, cholesky(G, ridge * G.diagonal().mean()))
    floor = delta_floor((len(G), len(G)), G.dtype, "cholesky")
    return pair.W + torch.cholesky_solve(C - G @ pair.W, cholesky(G, floor**2 * eigenvalue_bound(G)))


@torch.no_grad()
def semi_nmf_step(
    A: Tensor,
    pair: Pair,
    bias: bool,
    regularisation: Regularisation,
    order: str = "weights_first",
    kernels: Kernels = REFERENCE,
    roots: Tensor | None = None,
) -> Pair:
    """W by least squares for the present Z and one multiplicative step of Z, in either order.

    `roots` (n × 1) are the square roots of the samples' weights, None where all count alike.
    """
    Z, W = pair
    if order == "codes_first":
        Z = multiplicative_code_step(A, Z, W, regularisation.code_ridge, kernels)
    W = least_squares_weights(A, Z, bias, regularisation, roots)
    if order == "weights_first":
        Z = multiplicative_code_step(A, Z, W, regularisation.code_ridge, kernels)
    return Pair(Z, W)


@torch.no_grad()
def least_squares_weights(
    A: Tensor, Z: Tensor, bias: bool, regularisation: Regularisation, roots: Tensor | None = None
) -> Tensor:
    """W = (ẐᵀẐ + λ_W ḡI)⁻¹ẐᵀA, ḡ the mean diagonal of ẐᵀẐ, by the chosen pseudo-inverse.

    With `roots` (n × 1) rows of Ẑ and A count their squares times.
    """
    inputs = counted(augmented(Z, bias), roots)
    factors = factor_unchecked(inputs, regularisation.method, regularisation.delta, sharded=True)
    W = factors.solve(counted(A, roots))
    return factors.shrink(W, regularisation.weight_ridge) if regularisation.weight_ridge > 0 else W


@torch.no_grad()
def multiplicative_code_step(
    A: Tensor, Z: Tensor, W: Tensor, damping: float = 0.0, kernels: Kernels = REFERENCE
) -> Tensor:
    """Z ← Z ∘ √(([AWᵀ]₊ + Z[WWᵀ]₋ + λZ) / ([AWᵀ]₋ + Z[WWᵀ]₊ + λZ)), with A less the bias; 0/0 = 0.

    λ = `damping` · ḡ, ḡ the mean diagonal of WWᵀ.
    """
    W, b = split_bias(W, Z.shape[1])
    C = A @ W.T if b is None else (A - b) @ W.T
    G = W @ W.T
    positive = Z @ G.clamp_min(0)
    # Z[G]₋ = Z[G]₊ − ZG with G = WWᵀ, and ZG = (ZW)Wᵀ is cheap for few targets; rounding may leave it < 0.
    negative = (positive - (Z @ W) @ W.T).clamp_min_(0)
    return kernels.semi_multiplicative(Z, C, positive, negative, damping * G.diagonal().mean(), G.diagonal())


def starting_pair(
    A: Tensor,
    rank: int,
    bias: bool,
    regularisation: Regularisation,
    start: str | tuple[Tensor, Tensor | None],
    generator: torch.Generator | None,
    *,
    negative: str | None = None,
) -> tuple[Tensor, Pair, Units]:
    """A, starting codes and weights, all checked and in the unit of A, and that unit; see `semi_nmf`.

    `negative` is the remedy for negative codes, where they are not allowed.
    """
    rank = require_whole(rank, "rank", 1)
    units = Units(unit(A))
    if isinstance(start, str):
        require(start in STARTS, "start", f"a pair (Z, W) or one of {', '.join(STARTS)}", start)
        draws = source(generator, A.device)
        A = A / units.A
        if start == "svd":
            return A, semi_nonnegative(A, rank, bias, draws), units
        Z = uniform(A, rank, draws) + 0.2
        return A, Pair(Z, least_squares_weights(A, Z, bias, regularisation)), units
    Z, W = two(start)
    check_matrix(Z, "Z", like=A, shape=(len(A), rank), negative=negative)
    A = A / units.A
    if W is None:
        return A, Pair(Z, least_squares_weights(A, Z, bias, regularisation)), units
    check_matrix(W, "W", like=A, shape=(rank + bias, A.shape[1]))
    return A, units.inner(Pair(Z, W)), units


def counted(A: Tensor, roots: Tensor | None) -> Tensor:
    """Rows of A (n × k) times `roots` (n × 1), as least squares with weights needs them; None leaves them."""
    return A if roots is None else roots * A
