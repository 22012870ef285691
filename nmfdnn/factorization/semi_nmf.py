"""Semi-NMF: min ½‖A − ZW‖² over Z ≥ 0, W free; weights of entries and penalties.

Legend: A (n × m) data of any sign, rows are samples; Z (n × k) codes; W (k × m) weights, with a bias row
(k + 1) × m; Ẑ = [Z 1] the codes with a column of ones where there is a bias, else Z.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import require, require_whole
from ..kernels import REFERENCE, Kernels
from .driver import Result, Solver, Stopping, iterate, solver_of
from .entries import entries
from .exact import Exact
from .inputs import Pair, Units, check_matrix, in_units, source, two, unit
from .objective import Objective, means, objective
from .penalty import Penalty, both
from .regularisation import Regularisation, least_squares_weights
from .semi_multiplicative import SemiMultiplicative
from .starts import semi_nonnegative, uniform

UPDATES = ("exact", "multiplicative")
STARTS = ("svd", "random")


@torch.no_grad()
def semi_nmf(
    A: Tensor,
    rank: int,
    *,
    bias: bool = False,
    update: str | Solver = "exact",
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
            "multiplicative" (Ding, Li & Jordan 2010), the weights by the chosen pseudo-inverse; or a
            `Solver`.
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
    penalties, own = both(penalty), regularisation
    regularisation = regularisation or Regularisation()
    named: dict[str, Solver] = {
        "exact": Exact(regularisation),
        "multiplicative": SemiMultiplicative(regularisation, kernels),
    }
    solver = solver_of("update", update, named)
    require(own is None or solver in named.values(), "regularisation", "None with a solver of your own", own)
    require(penalties[1].l1 == 0, "penalty", "of W l2 alone, because W has any sign", penalties[1])
    if V is not None:
        ridge = regularisation.weight_ridge
        require(ridge == 0, "weight_ridge", "0 with weights of entries (a penalty shrinks, too)", ridge)
    remedy = "clip it at zero, because no step makes them nonnegative where they do not count"
    if start is None:
        start = "random" if update == "multiplicative" else "svd"
    full = A if V is None else Objective(A, V).filled(means(A, V)[1])
    full, pair, units = starting_pair(
        full, rank, bias, regularisation, start, generator, negative=remedy, penalised=any(penalties)
    )
    goal = objective(full if V is None else in_units(A, units.A), V, weight, 2, penalties, signed=True)
    ridge = regularisation.weight_ridge > 0
    return iterate(goal, pair, solver.steps(goal), stopping or Stopping(), units, ridge=ridge)


def starting_pair(
    A: Tensor,
    rank: int,
    bias: bool,
    regularisation: Regularisation,
    start: str | tuple[Tensor, Tensor | None],
    generator: torch.Generator | None,
    *,
    negative: str | None = None,
    penalised: bool = False,
) -> tuple[Tensor, Pair, Units]:
    """A, starting codes and weights, all checked and in units of their own, and these; see `semi_nmf`.

    `negative` is the remedy for negative codes, where they are not allowed. A penalty, and a ridge where
    there is a bias, tell codes of one unit from those of another: these stay in the user's.
    """
    rank = require_whole(rank, "rank", 1)
    if isinstance(start, str):
        units = Units(unit(A))
        require(start in STARTS, "start", f"a pair (Z, W) or one of {', '.join(STARTS)}", start)
        draws = source(generator, A.device)
        A = in_units(A, units.A)
        if start == "svd":
            return A, semi_nonnegative(A, rank, bias, draws), units
        Z = uniform(A, rank, draws) + 0.2
        return A, Pair(Z, least_squares_weights(A, Z, bias, regularisation)), units
    Z, W = two(start)
    check_matrix(Z, "Z", like=A, shape=(len(A), rank), negative=negative)
    told = penalised or (bias and regularisation.weight_ridge > 0)
    units = Units(unit(A), 1.0 if told else unit(Z))
    A = in_units(A, units.A)
    if W is None:
        Z = in_units(Z, float(units.Z))
        return A, Pair(Z, least_squares_weights(A, Z, bias, regularisation)), units
    check_matrix(W, "W", like=A, shape=(rank + bias, A.shape[1]))
    return A, units.inner(Pair(Z, W)), units
