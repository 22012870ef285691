"""Weights of entries, missing values, divergences and penalties: oracles, identities, what is promised."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import oracle
import pytest
import scipy.optimize
import torch
from sklearn.decomposition import non_negative_factorization

from nmfdnn.errors import ConfigError
from nmfdnn.factorization import (
    Pair,
    Penalty,
    Regularisation,
    Result,
    Stopping,
    multiplicative_step,
    nmf,
    semi_nmf,
    transform,
)
from nmfdnn.factorization.completion import advanced
from nmfdnn.factorization.divergence import divergence_step
from nmfdnn.factorization.hals import hals_step
from nmfdnn.factorization.nmf import SWEEPS
from nmfdnn.factorization.objective import Objective, objective

FEW = Stopping(12, 0, 4)
BOTH = (Penalty(0.02, 0.01), Penalty(0.01, 0.03))
CODES = torch.tensor([[0.3, 1.0, 0.2], [0.1, 0.4, 0.9]], dtype=torch.float64)


def data(rng: np.random.Generator, n: int = 30, m: int = 12, k: int = 4) -> np.ndarray:
    """Positive, nearly of rank k."""
    return rng.random((n, k)) @ rng.random((k, m)) + 0.05 * rng.random((n, m)) + 0.01


def half(rng: np.random.Generator, A: np.ndarray) -> np.ndarray:
    """Weights of which a third are zero."""
    return rng.random(A.shape) * (rng.random(A.shape) < 0.7)


def start(rng: np.random.Generator, A: np.ndarray, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    return rng.random((len(A), k)) + 0.1, rng.random((k, A.shape[1])) + 0.1


WEIGHTED: dict[str, Callable[..., Result]] = {
    "nmf": nmf,
    "nmf random": partial(nmf, start="random"),
    "nmf subsample": partial(nmf, subsample=10),
    **{f"nmf multiplicative {beta}": partial(nmf, update="multiplicative", beta=beta) for beta in (0, 1, 2)},
    "nmf penalty": partial(nmf, penalty=BOTH),
    **{
        f"semi_nmf {update}{' bias' * bias}": partial(semi_nmf, update=update, bias=bias)
        for update in ("exact", "multiplicative")
        for bias in (False, True)
    },
    "semi_nmf penalty": partial(semi_nmf, penalty=(Penalty(0.02, 0.01), Penalty(l2=0.01))),
    "semi_nmf random": partial(semi_nmf, start="random"),
    **{
        f"transform {beta}": lambda A, rank, beta=beta, **settings: transform(
            A,
            (1 + torch.arange(rank * A.shape[1], device=A.device).to(A) % 5).view(rank, -1),
            beta=beta,
            **settings,
        )
        for beta in (0, 1, 2)
    },
}


def same(found: Result, expected: Result) -> bool:
    return torch.equal(found.Z, expected.Z) and torch.equal(found.W, expected.W)


@pytest.mark.parametrize("name", WEIGHTED)
def test_what_does_not_count_has_no_influence(name, put, rng, dtype):
    A = data(rng)
    mask = rng.random(A.shape) < 0.7
    mask[3], mask[:, 5] = False, False
    plain = WEIGHTED[name](put(A, dtype), 4, weights=torch.as_tensor(mask).to(put(A).device), stopping=FEW)
    for junk in (math.nan, math.inf, -5.0, 1e30, 0.0):
        B = put(np.where(mask, A, junk), dtype)
        before = B.clone()
        assert same(WEIGHTED[name](B, 4, weights=put(mask, dtype), stopping=FEW), plain)
        assert torch.equal(B.nan_to_num(), before.nan_to_num())
    missing = put(np.where(mask, A, math.nan), dtype)
    assert same(WEIGHTED[name](missing, 4, missing="nan", stopping=FEW), plain)
    assert same(WEIGHTED[name](missing, 4, missing="nan", weights=put(7 * mask, dtype), stopping=FEW), plain)
    for F in (plain.Z, plain.W, plain.Z @ plain.W[:4]):
        assert torch.isfinite(F).all()


@pytest.mark.parametrize("name", WEIGHTED)
def test_equal_weights_are_none(name, put, rng, dtype):
    A = put(data(rng), dtype)
    plain = WEIGHTED[name](A, 4, stopping=FEW)
    for weight in (1.0, 3.0, 1e-20):
        found = WEIGHTED[name](A, 4, weights=torch.full_like(A, weight), stopping=FEW)
        assert same(found, plain)
        assert found.objective == pytest.approx([weight * value for value in plain.objective], rel=1e-6)
    assert same(WEIGHTED[name](A, 4, weights=torch.ones_like(A, dtype=torch.bool), stopping=FEW), plain)
    assert same(WEIGHTED[name](A, 4, missing="nan", stopping=FEW), plain)


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize("side", [0, 1])
def test_weights_may_be_those_of_rows_or_of_columns(name, side, put, rng, dtype):
    A = put(data(rng), dtype)
    few = half(rng, data(rng)).max(1 - side, keepdims=True)
    found = WEIGHTED[name](A, 4, weights=put(few, dtype), stopping=FEW)
    full = WEIGHTED[name](A, 4, weights=put(np.broadcast_to(few, A.shape).copy(), dtype), stopping=FEW)
    assert found.objective == full.objective
    assert same(found, full)


@pytest.mark.parametrize("name", WEIGHTED)
def test_neither_the_unit_of_weights_nor_that_of_the_data_matters(name, put, rng, dtype):
    A, limit = data(rng), 2e-3 if dtype == torch.float32 else 1e-8
    V = half(rng, A)
    given = name.startswith("transform")
    beta = int(name[-1]) if name[-1].isdigit() else 2
    plain = WEIGHTED[name](put(A, dtype), 4, weights=put(V, dtype), stopping=FEW)
    for c, v in ((1e-15, 1.0), (1.0, 1e-15), (1e15, 1e10)):
        found = WEIGHTED[name](put(c * A, dtype), 4, weights=put(v * V, dtype), stopping=FEW)
        fits = [r.Z.double() @ r.W[:4].double() for r in (found, plain)]
        assert oracle.error(fits[0] / c, fits[1]) < limit, (c, v)
        assert found.objective == pytest.approx([v * c**beta * x for x in plain.objective], rel=1e-3)
        codes = c if given else 1 if name.startswith("semi") else c**0.5
        assert oracle.error(found.Z / codes, plain.Z) < limit


@pytest.mark.parametrize("name", WEIGHTED)
def test_no_iteration_raises_a_weighted_objective(name, put, rng, dtype):
    A = data(rng)
    V = half(rng, A)
    result = WEIGHTED[name](put(A, dtype), 4, weights=put(V, dtype), stopping=Stopping(60, 0, 1))
    beta = int(name[-1]) if name[-1].isdigit() else 2
    rounding = 20 * torch.finfo(dtype).eps * Objective(put(A, dtype), put(V, dtype), beta=beta).size()
    assert len(result.objective) == 61
    assert all(after <= before + rounding for before, after in pairwise(result.objective))
    assert (result.Z >= 0).all()
    expected = oracle.penalised(
        A,
        *map(oracle.array, (result.Z, result.W)),
        beta,
        V,
        oracle.levels(
            A, ((0.02, 0.01), (0.01, 0.03) if name.startswith("nmf") else (0.0, 0.01)), 2, V, "semi" in name
        )
        if "penalty" in name
        else oracle.FREE,
    )
    assert min(result.objective) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("penalty", [oracle.FREE, ((0.1, 0.2), (0.3, 0.4))])
def test_steps_on_a_completed_matrix_equal_the_oracle(penalty, put, rng):
    A = data(rng, 40, 30)
    V, (Z, W) = half(rng, A), start(rng, A)
    V /= V.max()
    levels = tuple(Penalty(*p) for p in penalty)
    goal = Objective(put(A * (V > 0)), put(V), penalty=levels)
    step = advanced(goal, partial(hals_step, penalty=levels, sweeps=SWEEPS), (True, True))
    pair = Pair(put(Z), put(W))
    expected = oracle.completed(A, Z, W, V, SWEEPS, 60, penalty)
    assert 0 < sum(not taken for _, _, taken in expected) < 20
    for Z, W, _ in expected:
        pair = step(pair)
        assert oracle.error(pair.Z, Z) < 1e-8
        assert oracle.error(pair.W, W) < 1e-8


@pytest.mark.parametrize("function", [nmf, semi_nmf])
def test_entries_that_are_missing_are_predicted(function, put, rng, dtype):
    A = rng.random((60, 3)) @ rng.random((3, 40))
    mask = rng.random(A.shape) < 0.4
    given = put(np.where(mask, A, math.nan), dtype)
    result = function(given, 3, missing="nan", stopping=Stopping(3000, 0, 500))
    error = np.linalg.norm((oracle.array(result.Z @ result.W) - A)[~mask]) / np.linalg.norm(A[~mask])
    assert error < 0.05


def test_weights_of_rows_are_counts_of_rows(put, rng):
    A = data(rng)
    Z, W = start(rng, A)
    counts = rng.integers(0, 4, len(A))
    counts[0] = 3
    V = put(np.repeat(counts[:, None], A.shape[1], 1))
    given = {"start": (put(Z), put(W)), "stopping": Stopping(0)}
    for settings in ({}, {"beta": 1}, {"beta": 0}, {"penalty": (Penalty(), Penalty())}):
        found = nmf(put(A), 4, weights=V, **given, **settings).objective[0]
        again = put(np.repeat(A, counts, 0))
        given_again = given | {"start": (put(np.repeat(Z, counts, 0)), put(W))}
        assert found == pytest.approx(nmf(again, 4, **given_again, **settings).objective[0], rel=1e-10)


def conditions(result: Result, A: np.ndarray, tolerance: float, **settings: object) -> None:
    """At a minimum the slope of an entry is zero where it is positive, and not negative where it is zero."""
    Z, W = oracle.array(result.Z), oracle.array(result.W)
    for F, slope in zip((Z, W), oracle.slopes(A, Z, W, **settings), strict=True):
        size = (
            np.abs(oracle.slopes(A, Z, W, **(settings | {"penalty": oracle.FREE}))[0]).max() + np.abs(A).max()
        )
        assert slope.min() > -tolerance * size
        assert np.abs(slope * F).max() < tolerance * size * F.max()


@pytest.mark.parametrize("penalty", [None, BOTH])
@pytest.mark.parametrize(
    ("update", "weighted"),
    [
        (u, w)
        for u in ("accelerated", "hals", "multiplicative")
        for w in (False, True)
        if u != "hals" or not w
    ],
)
def test_conditions_of_a_minimum_hold_in_the_end(update, weighted, penalty, put, rng):
    A = data(rng, 20, 10)
    V = half(rng, A) + 0.05 if weighted else None
    result = nmf(
        put(A),
        3,
        update=update,
        weights=None if V is None else put(V),
        penalty=penalty,
        stopping=Stopping(20000 if update == "multiplicative" else 4000, 0, 1000),
    )
    levels = oracle.levels(A, tuple((p.l1, p.l2) for p in penalty), V=V) if penalty else oracle.FREE
    conditions(result, A, 1e-3 if update == "multiplicative" else 1e-6, V=V, penalty=levels)


@pytest.mark.parametrize("beta", [0, 1])
def test_conditions_of_a_least_divergence_hold_in_the_end(beta, put, rng):
    A = data(rng, 20, 10)
    conditions(nmf(put(A), 3, beta=beta, stopping=Stopping(20000, 0, 1000)), A, 2e-3, beta=beta)


@pytest.mark.parametrize("penalised", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("beta", [0, 1, 2])
def test_a_divergence_step_equals_the_oracle(beta, weighted, penalised, put, rng):
    A = data(rng)
    V, (Z, W) = half(rng, A) if weighted else None, start(rng, A)
    for levels in (((0.1, 0.2), (0.3, 0.4)), ((0.1, 0.0), (0.3, 0.0))) if penalised else (oracle.FREE,):
        goal = Objective(
            put(A),
            None if V is None else put(V),
            beta=beta,
            penalty=tuple(Penalty(*level) for level in levels),
        )
        found = divergence_step(goal, Pair(put(Z), put(W)))
        expected = oracle.fevotte(A, Z, W, beta, V, levels)
        assert oracle.error(found.Z, expected[0]) < 1e-12
        assert oracle.error(found.W, expected[1]) < 1e-12
        value = float(goal.value(found))
        assert value == pytest.approx(oracle.penalised(A, *expected, beta, V, levels), rel=1e-9)
        assert value < float(goal.value(Pair(put(Z), put(W))))


def test_beta_2_is_the_multiplicative_step(put, rng):
    A = data(rng)
    pair = Pair(*map(put, start(rng, A)))
    found, expected = divergence_step(Objective(put(A)), pair), multiplicative_step(put(A), pair)
    assert oracle.error(found.Z, expected.Z) < 1e-12
    assert oracle.error(found.W, expected.W) < 1e-12


@pytest.mark.parametrize("penalty", [None, (Penalty(0.02), Penalty(0.03)), BOTH])
@pytest.mark.parametrize("beta", [0, 1, 2])
def test_no_multiplicative_update_raises_a_divergence(beta, penalty, put, rng, dtype):
    A = put(data(rng), dtype)
    result = nmf(A, 4, beta=beta, update="multiplicative", penalty=penalty, stopping=Stopping(100, 0, 1))
    rounding = 20 * torch.finfo(dtype).eps * Objective(A, beta=beta).size()
    assert all(after <= before + rounding for before, after in pairwise(result.objective))
    assert result.objective[-1] < 0.9 * result.objective[0]


@pytest.mark.parametrize("beta", [0, 1])
@pytest.mark.parametrize("iterations", [1, 50])
def test_scikit_learn_finds_the_same_factors_for_a_divergence(beta, iterations, put, rng):
    A = data(rng)
    Z, W = start(rng, A)
    expected = non_negative_factorization(
        A,
        Z.copy(),
        W.copy(),
        init="custom",
        n_components=4,
        solver="mu",
        beta_loss=beta,
        max_iter=iterations,
        tol=0,
    )
    found = nmf(put(A), 4, beta=beta, start=(put(Z), put(W)), stopping=Stopping(iterations, 0, 50))
    # It sets small factors to zero and adds ε to denominators.
    assert oracle.error(found.Z, expected[0]) < 1e-6
    assert oracle.error(found.W, expected[1]) < 1e-6


@pytest.mark.parametrize("beta", [1, 2])
def test_scikit_learn_minimises_the_same_penalised_objective(beta, put, rng):
    A = data(rng)
    A /= np.sqrt(np.mean(A**2))  # where the units of both penalties are the same
    Z, W = start(rng, A)
    alpha, ratio = 0.02, 0.5
    z, w, _ = non_negative_factorization(
        A,
        Z.copy(),
        W.copy(),
        init="custom",
        n_components=4,
        solver="cd" if beta == 2 else "mu",
        beta_loss=beta,
        alpha_W=alpha,
        alpha_H=alpha,
        l1_ratio=ratio,
        max_iter=4000,
        tol=0,  # its own rule does not see the penalty
    )
    penalty = Penalty(alpha * ratio, alpha * (1 - ratio))
    start_, few = (put(Z), put(W)), Stopping(4000, 0, 500)
    found = nmf(put(A), 4, beta=beta, penalty=penalty, start=start_, stopping=few)
    theirs = nmf(put(A), 4, beta=beta, penalty=penalty, start=(put(z), put(w)), stopping=Stopping(0))
    (n, m), l1, l2 = A.shape, alpha * ratio, alpha * (1 - ratio)
    formula = oracle.divergence(A, z @ w, beta)
    formula += m * (l1 * z.sum() + l2 * np.sum(z**2) / 2) + n * (l1 * w.sum() + l2 * np.sum(w**2) / 2)
    assert theirs.objective[0] == pytest.approx(formula, rel=1e-9)
    assert min(found.objective) == pytest.approx(formula, rel=1e-3)
    more = nmf(put(A), 4, beta=beta, penalty=penalty, start=(put(z), put(w)), stopping=Stopping(200, 0, 100))
    assert min(more.objective) == pytest.approx(formula, rel=1e-5)  # nothing is left to gain


@pytest.mark.parametrize("beta", [0, 1, 2])
def test_zeros_in_the_data(beta, put, rng, dtype):
    A = data(rng)
    A[rng.random(A.shape) < 0.3], A[4], A[:, 2] = 0, 0, 0
    if beta == 0:
        with pytest.raises(ConfigError, match="let them not count, with weights=A > 0, or use beta=1"):
            nmf(put(A, dtype), 4, beta=0)
    given = {"weights": put(A, dtype) > 0} if beta == 0 else {}
    result = nmf(put(A, dtype), 4, beta=beta, update="multiplicative", stopping=Stopping(60, 0, 20), **given)
    assert torch.isfinite(result.Z @ result.W).all()
    assert math.isfinite(result.objective[0])
    assert result.objective[-1] < 0.9 * result.objective[0]
    if beta:
        fit = result.Z @ result.W
        assert float(fit[4].max()) < 1e-6
        assert float(fit[:, 2].max()) < 1e-6


@pytest.mark.parametrize("beta", [0, 1, 2])
def test_what_decays_becomes_zero_before_it_is_a_denormal_number(beta, put):
    """Two blocks: what a part has of the other block goes to zero by a factor at each iteration."""
    A = put(np.kron(np.eye(2), np.ones((4, 3))) + 1e-30, torch.float32)
    weights = A > 0.5 if beta == 0 else torch.ones_like(A) + (A > 0.5)
    result = nmf(
        A,
        2,
        beta=beta,
        weights=weights,
        update="multiplicative",
        start="random",
        stopping=Stopping(3000, 0, 500),
    )
    for F in (result.Z, result.W):
        assert ((F == 0) | (F > 1e-25)).all()
    assert beta == 0 or (result.Z == 0).any()


@pytest.mark.parametrize("function", [nmf, semi_nmf])
def test_no_penalty_is_none_bit_for_bit(function, put, rng, dtype):
    A = put(data(rng), dtype)
    plain = function(A, 4, stopping=FEW)
    for none in (Penalty(), (Penalty(), Penalty(0.0, 0.0)), (None, None)):
        found = function(A, 4, penalty=none, stopping=FEW)
        assert same(found, plain)
        assert found.objective == plain.objective


@pytest.mark.parametrize("update", ["accelerated", "hals", "multiplicative", "exact"])
def test_penalties_do_not_depend_on_the_unit_of_the_data(update, put, rng, dtype):
    function, penalty = (semi_nmf, (BOTH[0], Penalty(l2=0.1))) if update == "exact" else (nmf, BOTH)
    A, limit = data(rng), 2e-3 if dtype == torch.float32 else 1e-8
    solve = partial(function, rank=4, update=update, penalty=penalty, stopping=FEW)
    plain = solve(put(A, dtype))
    values = oracle.penalised(
        A,
        *map(oracle.array, (plain.Z, plain.W)),
        penalty=oracle.levels(A, tuple((p.l1, p.l2) for p in penalty), semi=update == "exact"),
    )
    assert min(plain.objective) == pytest.approx(values, rel=1e-4)
    for c in (1e-20, 7.0, 1e20):
        found = solve(put(c * A, dtype))
        codes = 1 if update == "exact" else c**0.5
        assert oracle.error(found.Z / codes, plain.Z) < limit
        assert oracle.error(found.W / (c / codes), plain.W) < limit
        assert [value / c / c for value in found.objective] == pytest.approx(plain.objective, rel=1e-3)


def test_penalties_do_not_depend_on_copies_of_rows_or_on_the_side(put, rng):
    A = data(rng)
    Z, W = start(rng, A)

    def value(A: np.ndarray, Z: np.ndarray, W: np.ndarray, penalty: tuple[Penalty, Penalty]) -> float:
        return nmf(put(A), 4, penalty=penalty, start=(put(Z), put(W)), stopping=Stopping(0)).objective[0]

    plain = value(A, Z, W, BOTH)
    assert value(np.vstack([A, A]), np.vstack([Z, Z]), W, BOTH) == pytest.approx(2 * plain, rel=1e-12)
    assert value(A.T, W.T, Z.T, BOTH[::-1]) == pytest.approx(plain, rel=1e-12)


def test_a_part_of_the_rows_has_its_share_of_every_penalty(put, rng):
    A = data(rng)
    V, (Z, W) = half(rng, A), start(rng, A)
    twice = [put(np.vstack([F, F])) for F in (A, V, Z)]
    whole = objective(twice[0], twice[1], 1.0, 2, BOTH)
    part = whole.rows(torch.arange(len(A), device=twice[0].device))
    assert 2 * float(part.value(Pair(put(Z), put(W)))) == pytest.approx(
        float(whole.value(Pair(twice[2], put(W)))), rel=1e-12
    )


@pytest.mark.parametrize("subsample", [0, 50])
def test_l1_makes_zeros_and_l2_shrinks(subsample, put, rng):
    A = put(data(rng, 200, 30))
    solve = partial(nmf, A, 6, subsample=subsample, stopping=Stopping(500, 0, 100))
    plain, sparse, small = solve(), solve(penalty=Penalty(l1=0.1)), solve(penalty=Penalty(l2=0.1))
    assert (sparse.Z == 0).sum() > (plain.Z == 0).sum() + 10
    assert (sparse.W == 0).sum() > (plain.W == 0).sum() + 10
    assert (small.Z @ small.W).norm() < (plain.Z @ plain.W).norm()


def test_a_part_that_fits_nothing_is_made_zero_by_l1(put, rng):
    A = data(rng)
    Z, W = start(rng, A)
    W[1] = 0
    for update in ("accelerated", "hals"):
        found = nmf(
            put(A),
            4,
            update=update,
            start=(put(Z), put(W)),
            penalty=Penalty(l1=0.01),
            stopping=Stopping(1, 0, 1),
        )
        assert (found.Z[:, 1] == 0).all()


@pytest.mark.parametrize("bias", [False, True])
def test_penalised_weights_of_semi_nmf_are_ridge_weights(bias, put, rng):
    A = data(rng) - 0.7
    penalties = ((0.01, 0.02), (0.0, 0.05))
    result = semi_nmf(
        put(A),
        3,
        bias=bias,
        penalty=tuple(Penalty(*p) for p in penalties),
        stopping=Stopping(3000, 0, 1000),
    )
    Z, W = oracle.array(result.Z), oracle.array(result.W)
    (z1, z2), (_, w2) = oracle.levels(A, penalties, semi=True)
    inputs = oracle.hat(Z, bias)
    ridge = np.diag([w2] * 3 + [0.0] * bias)
    assert oracle.error(W, np.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ A)) < 1e-4
    slope = (inputs @ W - A) @ W[:3].T + z1 + z2 * Z
    assert slope.min() > -1e-4
    assert np.abs(slope * Z).max() < 1e-4


@pytest.mark.parametrize(
    ("block", "kept"), [(2**22, 16), (200, 16), (50, 2)]
)  # 1 block, 2, 5 of which 2 stay
@pytest.mark.parametrize("bias", [False, True])
def test_codes_of_weighted_rows_are_nonnegative_least_squares(
    bias, block, kept, put, rng, dtype, monkeypatch
):
    monkeypatch.setitem(transform.__wrapped__.__globals__, "BLOCK", block)
    monkeypatch.setitem(transform.__wrapped__.__globals__, "KEPT", kept)
    A, W = rng.random((15, 12)), rng.standard_normal((4 + bias, 12))
    V = half(rng, A)
    V[3] = 0
    found = transform(
        put(A, dtype), put(W, dtype), bias=bias, weights=put(V, dtype), stopping=Stopping(1000, 0, 100)
    )
    rest, root = A - W[4] if bias else A, np.sqrt(V)
    rows = zip(rest, root, strict=True)
    expected = np.stack([scipy.optimize.nnls((W[:4] * v).T, row * v)[0] for row, v in rows])
    assert oracle.error(found.Z, expected) < (1e-3 if dtype == torch.float32 else 1e-8)
    alone = transform(put(A[:1], dtype), put(W, dtype), bias=bias, weights=put(V[:1], dtype), stopping=FEW)
    among = transform(put(A, dtype), put(W, dtype), bias=bias, weights=put(V, dtype), stopping=FEW)
    assert oracle.error(among.Z[:1], alone.Z) < 1e-5


@pytest.mark.parametrize("beta", [0, 1])
def test_codes_of_least_divergence(beta, put, rng):
    A, W = data(rng, 15, 12), rng.random((3, 12)) + 0.1
    found = transform(put(A), put(W), beta=beta, stopping=Stopping(20000, 0, 1000))
    Z = oracle.array(found.Z)
    slope = oracle.slopes(A, Z, W, beta)[0]
    assert slope.min() > -1e-3
    assert np.abs(slope * Z).max() < 1e-3
    alone = transform(put(A[:1]), put(W), beta=beta, stopping=Stopping(20000, 0, 1000))
    assert oracle.error(found.Z[:1], alone.Z) < 1e-6


def test_a_fitted_divergence_gives_its_codes_back(put, rng):
    A = put(rng.random((40, 3)) @ rng.random((3, 15)) + 0.01)
    for beta in (0, 1):
        fitted = nmf(A[:30], 3, beta=beta, stopping=Stopping(3000, 0, 500))
        found = transform(A[30:], fitted.W, beta=beta, stopping=Stopping(2000, 0, 500))
        assert float((A[30:] - found.Z @ found.W).norm() / A[30:].norm()) < 0.02


@pytest.mark.parametrize("penalty", [Penalty(l1=0.1), Penalty(l2=0.1), BOTH[0]])
@pytest.mark.parametrize(("beta", "weighted"), [(0, False), (1, True), (2, False), (2, True)])
def test_penalised_codes_meet_the_conditions_of_their_minimum(beta, weighted, penalty, put, rng):
    A, W = data(rng, 15, 12), rng.random((3, 12)) + 0.1
    V = half(rng, A) + 0.05 if weighted else None
    found = transform(
        put(A),
        put(W),
        beta=beta,
        weights=None if V is None else put(V),
        penalty=penalty,
        stopping=Stopping(20000 if beta < 2 else 1000, 0, 1000),
    )
    levels = oracle.levels(A, ((penalty.l1, penalty.l2), (0, 0)), beta, V)
    Z = oracle.array(found.Z)
    slope = oracle.slopes(A, Z, W, beta, V, levels)[0]
    limit = 1e-3 if beta < 2 else 1e-6
    assert slope.min() > -limit
    assert np.abs(slope * Z).max() < limit
    assert min(found.objective) == pytest.approx(oracle.penalised(A, Z, W, beta, V, levels))


@pytest.mark.parametrize("c", [1e-20, 1, 1e20])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_penalised_minimum_gives_its_codes_back(weighted, c, put, rng):
    A = c * data(rng)
    V = put(half(rng, A) + 0.05) if weighted else None
    long = Stopping(4000, 0, 1000)
    fitted = nmf(put(A), 3, penalty=BOTH, weights=V, stopping=long)
    found = transform(put(A), fitted.W, penalty=BOTH[0], weights=V, stopping=long)
    assert oracle.error(found.Z, fitted.Z) < 1e-6
    unpenalised = transform(put(A), fitted.W, weights=V, stopping=long)
    assert oracle.error(unpenalised.Z, fitted.Z) > 1e-3
    # Of some of the rows, brighter than most, as the docstring says.
    bright = np.flatnonzero(A.sum(1) > np.median(A.sum(1)))
    (s, count), (s_, count_) = (
        (float((v * A[rows] ** 2).sum() / v.sum()) ** 0.5, v.sum() / len(v))
        for rows in (slice(None), bright)
        for v in [np.ones_like(A[rows]) if V is None else oracle.array(V)[rows]]
    )
    penalty = BOTH[0].level(count * s**2 / (count_ * s_**2), (s / s_) ** 0.5)
    some = None if V is None else V[bright]
    for given, close in ((penalty, True), (BOTH[0], False)):
        found = transform(put(A[bright]), fitted.W, penalty=given, weights=some, stopping=long)
        assert (oracle.error(found.Z, fitted.Z[bright]) < 1e-6) == close


@pytest.mark.parametrize("bias", [False, True])
def test_a_penalised_semi_nmf_gives_its_codes_back(bias, put, rng):
    A, long = data(rng) - 0.7, Stopping(4000, 0, 1000)
    penalty = Penalty(0.01, 0.02)
    fitted = semi_nmf(put(A), 3, bias=bias, penalty=(penalty, Penalty(l2=0.05)), stopping=long)
    s = float(np.square(A).mean()) ** 0.5
    found = transform(put(A), fitted.W, bias=bias, penalty=penalty.level(1, s**-0.5), stopping=long)
    assert oracle.error(found.Z, fitted.Z) < 1e-4


ONES = torch.ones(6, 4)
NANS = ONES.clone()
NANS[2, 1] = math.nan


def codes_for_ones(A, rank, **given):
    return transform(A, ONES[:rank], **given)


@pytest.mark.parametrize("function", [nmf, semi_nmf, codes_for_ones])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": -ONES}, "weights has negative entries: clip them at zero"),
        ({"weights": 0 * ONES}, "no entry of A counts"),
        ({"weights": NANS}, "weights holds NaN"),
        ({"weights": torch.ones(4, 6)}, r"weights must be of shape \(6, 4\)"),
        ({"weights": ONES.double()}, r"weights must be torch.float32 .* weights.to\(A\)"),
        ({"weights": np.ones((6, 4))}, "weights must be a torch tensor"),
        ({"missing": "drop"}, "missing must be None or one of nan, got 'drop'"),
    ],
)
def test_weights_that_are_refused(function, settings, message):
    with pytest.raises(ConfigError, match=message):
        function(ONES, 2, **settings)


@pytest.mark.parametrize("function", [nmf, semi_nmf])
def test_the_remedy_for_nan_works(function):
    with pytest.raises(ConfigError, match=r"A holds NaN.*missing='nan'"):
        function(NANS, 2)
    function(NANS, 2, missing="nan", stopping=FEW)
    with pytest.raises(ConfigError, match="A holds NaN"):
        function(NANS, 2, weights=ONES)


def test_sparse_data_has_no_weights():
    with pytest.raises(ConfigError, match=r"A must be dense for weights, got .*A.to_dense\(\)"):
        nmf(ONES.to_sparse(), 2, weights=ONES)


@pytest.mark.parametrize(
    ("function", "settings", "message"),
    [
        (nmf, {"beta": 1, "update": "accelerated"}, "update must be 'multiplicative' for beta < 2"),
        (nmf, {"beta": 1.5}, "beta must be 0, 1 or 2, got 1.5"),
        (nmf, {"beta": 1.0}, "beta must be 0, 1 or 2, got 1.0"),
        (nmf, {"weights": ONES + ONES.triu(), "update": "hals"}, "update must be another one with weights"),
        (nmf, {"penalty": (Penalty(l1=1), None)}, "a penalty on Z alone is void.*give W one too"),
        (nmf, {"penalty": (Penalty(), Penalty(l2=1))}, "a penalty on W alone is void.*give Z one too"),
        (nmf, {"penalty": 0.1}, "penalty must be a Penalty for both factors or a pair"),
        (semi_nmf, {"penalty": Penalty(1, 1)}, "penalty must be of W l2 alone"),
        (codes_for_ones, {"penalty": BOTH}, "penalty must be None or a Penalty, on the codes"),
        (
            semi_nmf,
            {"penalty": Penalty(l2=1), "update": "multiplicative"},
            "update must be 'exact' with a penalty",
        ),
        (
            semi_nmf,
            {"weights": ONES + ONES.triu(), "regularisation": Regularisation(weight_ridge=1)},
            "weight_ridge must be 0 with weights of entries",
        ),
    ],
)
def test_combinations_that_are_refused(function, settings, message):
    with pytest.raises(ConfigError, match=message):
        function(ONES, 2, **settings)


def test_the_remedy_for_a_penalty_on_one_factor_works():
    nmf(ONES, 2, penalty=(Penalty(l1=0.01), Penalty(l2=0.01)), stopping=FEW)


@pytest.mark.parametrize("settings", [{"l1": -1}, {"l2": math.inf}, {"l1": math.nan}, {"l1": "a"}])
def test_penalties_that_are_refused(settings):
    with pytest.raises(ConfigError, match=r"l[12] must be finite and ≥ 0"):
        Penalty(**settings)


def test_codes_of_a_divergence_are_refused_where_it_has_none():
    with pytest.raises(ConfigError, match="W has negative entries: use beta=2"):
        transform(ONES, -ONES[:2], beta=1)
    with pytest.raises(ConfigError, match="bias must be False for beta < 2"):
        transform(ONES, ONES[:3], beta=1, bias=True)
