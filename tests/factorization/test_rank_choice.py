"""The choice of a rank by entries that are held out: planted ranks, reproducible curves."""

from __future__ import annotations

import math

import numpy as np
import oracle
import pytest
import torch
from torch import Tensor

from nmfdnn.errors import ConfigError
from nmfdnn.factorization import Stopping, affine, choose_rank, nmf, semi_nmf

QUICK = Stopping(5, 0, 5)


def planted(seed: int, rank: int, noise: float = 0.1) -> np.ndarray:
    """Sparse nonnegative factors' product, and noise in units of its spread."""
    rng = np.random.default_rng(seed)
    Z, W = (rng.random(shape) * (rng.random(shape) < 0.6) for shape in ((60, rank), (rank, 30)))
    A = Z @ W
    return np.maximum(A + noise * A.std() * rng.standard_normal(A.shape), 0)


@pytest.mark.parametrize("rank", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_a_planted_rank_is_found(seed, rank, put, device):
    g = torch.Generator(device).manual_seed(seed)
    found = choose_rank(put(planted(seed, rank)), range(1, 7), generator=g)
    assert found.rank == rank
    assert found.ranks == (1, 2, 3, 4, 5, 6)
    assert found.errors.shape == (6, 5)
    means = found.errors.mean(1)
    assert (means[: rank - 1] > 2 * means[rank - 1]).all()


def test_a_planted_rank_is_found_for_any_sign_and_for_entries_that_are_missing(put, rng, device):
    A = planted(0, 3)
    assert choose_rank(put(A - A.mean()), range(1, 6), function=semi_nmf, bias=True).rank == 3
    mask = rng.random(A.shape) < 0.8
    holes = put(np.where(mask, A, math.nan))
    found = choose_rank(holes, range(1, 6), missing="nan")
    assert found.rank == 3
    again = choose_rank(put(A), range(1, 6), weights=put(mask))
    assert torch.equal(again.errors, found.errors)


@pytest.mark.parametrize("beta", [0, 1])
def test_a_planted_rank_is_found_by_divergences(beta, put, rng):
    B = rng.random((60, 2)) @ rng.random((2, 30)) + 0.02
    A = B * rng.gamma(50, 1 / 50, B.shape) if beta == 0 else rng.poisson(300 * B) + 0.0
    assert choose_rank(put(A), (1, 2, 3), beta=beta, folds=3, stopping=Stopping(300, 1e-6)).rank == 2


def test_errors_are_those_of_entries_that_were_not_seen(put):
    seen: list[tuple[Tensor, Tensor]] = []

    def spy(A: Tensor, rank: int, **settings: object):
        result = nmf(A, rank, **settings)
        seen.append((settings["weights"] == 0, affine(result.Z, result.W)))
        return result

    A = planted(0, 3)
    found = choose_rank(put(100 * A), (3, 2), function=spy, folds=4, stopping=QUICK)
    assert found.ranks == (2, 3)
    assert len(seen) == 8
    held = [oracle.array(mask).astype(bool) for mask, _ in seen]
    assert (sum(held[::2]) == 1).all()  # each entry in one fold
    for (i, j), value in np.ndenumerate(found.errors.numpy()):
        mask, fit = held[2 * j + i], oracle.array(seen[2 * j + i][1])
        expected = np.sum((100 * A - fit)[mask] ** 2) / np.sum((100 * A)[mask] ** 2)
        assert value == pytest.approx(expected, rel=1e-9)


def test_of_several_starts_the_one_that_fits_best_predicts(put):
    seen = []

    def spy(A: Tensor, rank: int, **settings: object):
        seen.append(nmf(A, rank, start="random", **settings))
        return seen[-1]

    A = put(planted(0, 3))
    found = choose_rank(A, [3], function=spy, folds=2, starts=3, stopping=QUICK)
    assert len({min(result.objective) for result in seen}) == 6
    best = min(seen[:3], key=lambda result: min(result.objective))
    first = choose_rank(A, [3], function=lambda A, rank, **_: best, folds=2)
    assert first.errors[0, 0] == found.errors[0, 0]


def test_a_curve_is_reproducible_from_its_generator(put, device):
    A = put(planted(0, 3))

    def curve(seed: int | None) -> Tensor:
        g = None if seed is None else torch.Generator(device).manual_seed(seed)
        return choose_rank(A, (2, 3), generator=g, start="random", stopping=QUICK).errors

    assert torch.equal(curve(0), curve(0))
    g = torch.Generator(device).manual_seed(0)
    ranks = (rank for rank in (2, 3))
    assert torch.equal(choose_rank(A, ranks, generator=g, start="random", stopping=QUICK).errors, curve(0))
    assert torch.equal(curve(0), curve(None))
    assert not torch.equal(curve(0), curve(1))


@pytest.mark.parametrize("scale", [1e-18, 1e18])
def test_the_unit_of_the_data_does_not_matter(scale, put):
    A = planted(0, 3)
    plain, found = (
        choose_rank(put(c * A, torch.float32), (2, 3), stopping=Stopping(60, 0)) for c in (1, scale)
    )
    assert oracle.error(found.errors, plain.errors) < 1e-3
    assert found.rank == plain.rank


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ranks": ()}, "ranks must be one or more"),
        ({"ranks": (1, 0)}, "ranks must be an integer ≥ 1, got 0"),
        ({"folds": 1}, "folds must be an integer ≥ 2"),
        ({"starts": 0}, "starts must be an integer ≥ 1"),
        ({"A": -torch.ones(6, 4)}, "A has negative entries"),
        ({"A": torch.full((6, 4), math.nan)}, "A holds NaN.*missing='nan'"),
        ({"A": torch.full((6, 4), math.nan), "missing": "nan"}, "no entry of A counts"),
    ],
)
def test_what_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        choose_rank(**({"A": torch.ones(6, 4), "ranks": (1, 2)} | settings))


@pytest.mark.parametrize(
    ("A", "settings"),
    [
        (torch.zeros(20, 8), {}),
        (torch.ones(1, 1), {}),
        (torch.ones(3, 3), {"folds": 50}),
        (torch.ones(20, 8), {"weights": torch.arange(160).view(20, 8) < 2}),
    ],
)
def test_folds_that_say_nothing_are_refused_before_anything_is_fitted(A, settings):
    def never(*_: object, **__: object) -> None:
        raise AssertionError

    with pytest.raises(ConfigError, match="holds no entry of A that counts and is not zero: take fewer"):
        choose_rank(A, [1, 2], function=never, **settings)


def test_one_rank_is_no_range_of_ranks():
    with pytest.raises(ConfigError, match="ranks must be one or more, as"):
        choose_rank(torch.ones(6, 4), 3)
