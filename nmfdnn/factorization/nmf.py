"""NMF: min ½‖A − ZW‖² over Z ≥ 0, W ≥ 0; other divergences, weights of entries and penalties.

Legend: A (n × m) nonnegative data, rows are samples; Z (n × k) codes; W (k × m) parts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import parallel
from ..errors import require_whole
from ..kernels import REFERENCE, Kernels
from ..kernels.coordinates import coordinate_descent
from .accelerated import Accelerated
from .driver import Result, Solver, Stopping, iterate, solver_of
from .entries import entries
from .hals import HALS
from .inputs import Pair, Units, check_matrix, in_units, source, two, unit
from .multiplicative import Multiplicative
from .objective import Objective, objective
from .penalty import Penalty, both
from .starts import sample, starting_pair

UPDATES = ("multiplicative", "hals")
"""Single steps, which have no memory."""

SOLVERS = ("accelerated", *UPDATES)
SWEEPS, FROM_ZERO = 4, 64
"""Over codes that follow W, and at most over codes that start from zero."""

FIRST = Stopping(max_iterations=100, tolerance=1e-4)
"""On a subsample: what it has left to gain by then is less than what all rows have."""


@torch.no_grad()
def nmf(
    A: Tensor,
    rank: int,
    *,
    update: str | Solver | None = None,
    start: str | tuple[Tensor, Tensor] = "nndsvda",
    subsample: int | None = None,
    stopping: Stopping | None = None,
    generator: torch.Generator | None = None,
    kernels: Kernels = REFERENCE,
    weights: Tensor | None = None,
    missing: str | None = None,
    beta: int = 2,
    penalty: Penalty | tuple[Penalty, Penalty] | None = None,
) -> Result:
    """Nonnegative factors Z (n × rank), W (rank × m) with A ≈ ZW.

    Args:
        A: n × m, nonnegative, in any unit: c²A gives the factors of A times c. Dense, or sparse of
            torch or SciPy (COO, CSR or CSC): never made dense, see `sparse`. Sparse A takes no weights,
            missing entries or β = 0, which cannot fit zeros.
        rank: number of parts k ≥ 1.
        update: "accelerated" (HALS with several sweeps on each product, extrapolated; Gillis & Glineur 2012,
            Ang & Gillis 2019), "hals" (Cichocki & Phan 2009) or "multiplicative" (Lee & Seung 2001; Févotte &
            Idier 2011), or a `Solver`. Default: "accelerated"; "multiplicative" for β < 2.
        start: "random" (uniform, scaled to the mean of A), "nndsvd" (zeros stay zero under multiplicative
            updates), "nndsvda" (zeros filled with the mean), "nndsvdar" (filled with small random values;
            Boutsidis & Gallopoulos 2008), or a given pair (Z, W). Means count in units of the largest entry.
            An NNDSVD has at most min(n, m) parts; parts beyond are drawn as in "random".
        subsample: with "accelerated", W is first fitted to this many random rows, where A has twice as many
            and no pair is given; 0: never; default 1,000, or twenty times the rank. The start is then theirs.
            It gains most where rows are alike in distribution; where they are not, the rest mends the start.
        stopping: when to end; default `Stopping()`. It counts iterations on all rows.
        generator: source of all randomness, on the device of A; default a new one with seed 0.
        kernels: element-wise backend of "multiplicative" on ½‖A − ZW‖², see `nmfdnn.kernels`.
        weights: how much each entry of A counts, n × m, each row, n × 1, or each column, 1 × m, ≥ 0, or a
            boolean mask of those that count. What A holds where nothing counts has no influence. Not with
            "hals". See `completion.Completion`.
        missing: "nan": entries that are NaN do not count.
        beta: the divergence that is minimised: 2 is ½‖A − ZW‖², 1 Kullback & Leibler's, 0 Itakura & Saito's,
            which needs A > 0 where it counts; see `objective.Objective`.
        penalty: on both factors alike, or a pair (of Z, of W), which must both say something.

    The objective is Σ V d_β(A | ZW) and the penalties; no update increases it by more than rounding. A row or
    column in which nothing counts says nothing about its factor. Not guaranteed: a global minimum.

    Rows of A may be shared out over ranks (`nmfdnn.parallel`): each then gets its rows of Z, and all get W.

    Raises:
        ConfigError: A is not a finite nonnegative matrix, or an argument is outside its range.
    """
    remedy = "shift or clip it, or use semi_nmf, which allows them"
    A, V, weight = entries(A, weights, missing, beta, negative=remedy)
    rank = require_whole(rank, "rank", 1)
    few = max(1000, 20 * rank) if subsample is None else require_whole(subsample, "subsample", 0)
    named: dict[str, Solver] = {
        "accelerated": Accelerated(),
        "hals": HALS(),
        "multiplicative": Multiplicative(kernels),
    }
    solver = solver_of("update", update or ("accelerated" if beta == 2 else "multiplicative"), named)
    u = unit(A)
    goal = objective(in_units(A, u), V, weight, beta, both(penalty))
    step = solver.steps(goal)
    if isinstance(start, str):
        few = few if isinstance(solver, Accelerated) else 0
        pair, units = _start(goal, rank, start, few, source(generator, A.device)), Units(u, math.sqrt(u))
    else:
        pair = _given_pair(A, rank, start)
        # A penalty tells (Z, W) from (Zd, W/d).
        units = Units(u, (1 if any(goal.penalty) else _balance(pair)) * math.sqrt(u))
        pair = units.inner(pair)
    return iterate(goal, pair, step, stopping or Stopping(), units)


def _start(goal: Objective, rank: int, start: str, few: int, generator: torch.Generator) -> Pair:
    """`starting_pair`, or where A has twice `few` rows, W fitted to `few` of them and codes for it."""
    A = goal.filled()
    rows = sample(torch.arange(len(A), device=A.device), few, generator)
    if rows is None:
        return starting_pair(A, rank, start, generator)
    W = fitted_weights(goal.rows(rows), starting_pair(A[rows], rank, start, generator), generator)
    C, G = goal.penalty[0].normal(W @ A.T, W @ W.T)
    # From zero codes take many sweeps: as many as cost what two products with A do.
    sweeps = min(FROM_ZERO, max(2 * SWEEPS, 2 * A.shape[1] // rank))
    return Pair(coordinate_descent(A.new_zeros(rank, len(A)), C, G, sweeps).T, W)


def fitted_weights(
    goal: Objective, pair: Pair, generator: torch.Generator, stopping: Stopping = FIRST
) -> Tensor:
    """W (k × m) fitted to some rows, which are of order one, from a pair; others can use all of it."""
    W = iterate(goal, pair, Accelerated().steps(goal), stopping).W
    # What these rows lack must not be lost to the others: zero codes and zero parts would keep each other.
    spread = torch.rand(W.shape, generator=generator, dtype=W.dtype, device=W.device)
    return torch.maximum(W, 0.02 * W.mean() * spread)


def _given_pair(A: Tensor, rank: int, start: tuple[Tensor, Tensor]) -> Pair:
    Z, W = two(start)
    remedy = "clip Z and W at zero, or use semi_nmf"
    check_matrix(Z, "Z", like=A, shape=(len(A), rank), negative=remedy)
    check_matrix(W, "W", like=A, shape=(rank, A.shape[1]), negative=remedy)
    return Pair(Z, W)


def _balance(pair: Pair) -> Tensor:
    """Powers of two d (k, float64) for which Z/d and dW have parts of one size, whatever size they came in.

    ZW stays as it is, and the updates do not depend on d, except where numbers leave the range of their type.
    """
    Z, W = (part.double().frexp() for part in (parallel.largest(pair.Z.amax(0)), pair.W.amax(1)))
    codes = torch.where(Z.mantissa > 0, Z.exponent, -W.exponent)
    weights = torch.where(W.mantissa > 0, W.exponent, -Z.exponent)
    return torch.ldexp(torch.ones_like(Z.mantissa), torch.div(codes - weights, 2, rounding_mode="floor"))
