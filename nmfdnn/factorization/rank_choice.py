"""How many parts: the rank that predicts best the entries that were held out.

Legend: A (n × m) data, rows are samples; k the rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, require, require_whole
from ..linalg import check_dense
from .bias import affine
from .driver import Result, Stopping
from .entries import entries
from .inputs import in_units, source, unit
from .nmf import nmf
from .objective import Objective
from .starts import uniform

STOPPING = Stopping(max_iterations=500, tolerance=1e-5)


@dataclass(frozen=True)
class RankChoice:
    """Errors of ranks on entries that were held out, and the rank that they speak for.

    Attributes:
        ranks: those that were tried, ascending.
        errors: ranks × folds, float64: Σ V d_β(A | ẐW) over the entries of a fold that was held out, as a
            share of what fitting nothing leaves there (of ΣVA for β = 1, of ΣV for β = 0).
        rank: the smallest whose mean error is within one standard error of the least (Breiman et al. 1984).
    """

    ranks: tuple[int, ...]
    errors: Tensor
    rank: int


@torch.no_grad()
def choose_rank(
    A: Tensor,
    ranks: Iterable[int],
    *,
    function: Callable[..., Result] = nmf,
    folds: int = 5,
    starts: int = 1,
    weights: Tensor | None = None,
    missing: str | None = None,
    generator: torch.Generator | None = None,
    stopping: Stopping | None = None,
    **settings: Any,
) -> RankChoice:
    """Choose the rank of a factorization of A by cross-validation over its entries (Wold 1978).

    Every entry belongs to one of the folds, at random. For every fold and rank the others are fitted from
    some starts, of which the one with the least objective predicts it. An entry, unlike a row, cannot be
    fitted without its factors having been learned from others, so errors rise where parts fit noise.

    Args:
        A: n × m, dense, as `function` takes it.
        ranks: to be tried, each ≥ 1.
        function: `nmf` or `semi_nmf`.
        folds: ≥ 2; each holds a fraction 1/folds of the entries, and costs a factorization per rank and
            start.
        starts: of each, ≥ 1; more than one need a start that draws, as `start="random"`.
        weights: how much each entry of A counts, see `nmf`.
        missing: "nan": entries that are NaN do not count, nor are they predicted.
        generator: source of all randomness, on the device of A; default a new one with seed 0.
        stopping: of every factorization; default `STOPPING`.
        settings: other arguments of `function`.

    Raises:
        ConfigError: what `function` raises, or an argument is outside its range, or a fold is left without
            entries that say anything.
    """
    check_dense(A)
    A, V, _ = entries(A, weights, missing)
    given = list(ranks) if isinstance(ranks, Iterable) else []
    require(len(given) > 0, "ranks", "one or more, as range(1, 9)", ranks)
    tried = tuple(sorted({require_whole(rank, "ranks", 1) for rank in given}))
    require_whole(folds, "folds", 2)
    require_whole(starts, "starts", 1)
    draws = source(generator, A.device)
    fold = (uniform(A, A.shape[1], draws).double() * folds).long()
    beta = settings.get("beta", 2)
    V = torch.ones_like(A) if V is None else V
    errors = torch.zeros(len(tried), folds, dtype=torch.float64)

    def test(j: int) -> Objective:
        return Objective(in_units(A, unit(A)), V.where(fold == j, 0.0), beta=beta)

    sizes = [test(j).size() for j in range(folds)]
    if min(sizes) == 0:
        raise ConfigError(
            f"fold {sizes.index(0) + 1} of {folds} holds no entry of A that counts and is not zero: "
            "take fewer folds, or hand over more such entries"
        )
    for j in range(folds):
        learned, held = V.where(fold != j, 0.0), test(j)
        for i, rank in enumerate(tried):
            found = [
                function(A, rank, weights=learned, generator=draws, stopping=stopping or STOPPING, **settings)
                for _ in range(starts)
            ]
            best = min(found, key=lambda result: min(result.objective))
            errors[i, j] = float(held.divergence(affine(best.Z, best.W) / unit(A))) / sizes[j]
    means = errors.mean(1)
    least = int(means.argmin())
    limit = means[least] + errors[least].std() / folds**0.5
    return RankChoice(tried, errors, tried[int((means <= limit).nonzero()[0])])
