"""Semi-NMF: half-steps against the oracle, monotone objective, planted factors."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import oracle
import pytest
import torch
from torch import Tensor

from nmfdnn.errors import ConfigError
from nmfdnn.factorization import (
    Pair,
    Regularisation,
    Stopping,
    affine,
    exact_code_step,
    improved_weights,
    least_squares_weights,
    multiplicative_code_step,
    semi_nmf,
    semi_nmf_step,
)
from nmfdnn.factorization.semi_nmf import UPDATES
from nmfdnn.linalg import METHODS

# Z[G]₋ as Z[G]₊ − (ZW)Wᵀ is right to 1e-16 of Z[G]₊: below the root that is 1e-8 of a code that should be 0.
ROUNDING = 1e-6

SHAPES = [(20, 4, 9), (20, 9, 4), (15, 1, 6)]


def problem(rng: np.random.Generator, n: int, k: int, m: int, bias: bool) -> tuple[np.ndarray, ...]:
    """A of any sign, Z > 0 and free W."""
    return rng.standard_normal((n, m)), rng.random((n, k)) + 0.1, rng.standard_normal((k + bias, m))


@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_code_step_equals_oracle(shape, bias, damping, put, rng):
    A, Z, W = problem(rng, *shape, bias)
    found = multiplicative_code_step(put(A), put(Z), put(W), damping)
    assert oracle.error(found, oracle.ding(A, Z, W, damping)) < ROUNDING


@pytest.mark.parametrize("order", ["weights_first", "codes_first"])
@pytest.mark.parametrize("ridge", [0.0, 0.2])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_step_equals_oracle(method, bias, ridge, order, put, rng):
    A, Z, W = problem(rng, 20, 4, 9, bias)
    settings = oracle.Settings(
        bias=bias, weight_ridge=ridge, code_ridge=0.1, codes_first=order == "codes_first"
    )
    regularisation = Regularisation(method, 1e-12, ridge, 0.1)
    found = semi_nmf_step(put(A), Pair(put(Z), put(W)), bias, regularisation, order)
    expected = oracle.semi_nmf(A, Z, W, settings)
    assert oracle.error(found.Z, expected[0]) < ROUNDING
    assert oracle.error(found.W, expected[1]) < ROUNDING


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_no_half_step_raises_the_objective(method, bias, put, rng, dtype):
    A, Z, W = (put(M, dtype) for M in problem(rng, 40, 6, 12, bias))
    # The residual is rounded by ε‖A‖; Cholesky damps by (100 ε s₁)² or less.
    rounding = 50 * torch.finfo(dtype).eps * float(A.square().sum())

    def objective(Z: Tensor, W: Tensor) -> float:
        return 0.5 * float((A - affine(Z, W)).double().square().sum())

    values = [objective(Z, W)]
    for _ in range(40):
        W = least_squares_weights(A, Z, bias, Regularisation(method))
        values.append(objective(Z, W))
        Z = multiplicative_code_step(A, Z, W)
        values.append(objective(Z, W))
        assert torch.isfinite(Z).all()
        assert (Z >= 0).all()
    assert all(after <= before + rounding for before, after in pairwise(values))
    assert values[-1] < 0.8 * values[1]


def test_damping_slows_and_keeps_fixed_points(put, rng):
    A, Z, W = (put(M) for M in problem(rng, 30, 4, 10, False))
    free, damped = (multiplicative_code_step(A, Z, W, damping) for damping in (0.0, 50.0))
    assert (damped - Z).norm() < 0.5 * (free - Z).norm()
    assert ((damped - Z) * (free - Z) >= -1e-12).all()
    for _ in range(3000):
        Z = multiplicative_code_step(A, Z, W)
    assert oracle.error(multiplicative_code_step(A, Z, W, 50.0), Z) < 1e-5


@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_exact_code_step_equals_oracle(shape, bias, damping, put, rng):
    A, Z, W = problem(rng, *shape, bias)
    found = exact_code_step(put(A), put(Z), put(W), damping, 3)
    k = Z.shape[1]
    C, G = (A - W[k] if bias else A) @ W[:k].T, W[:k] @ W[:k].T
    level = damping * oracle.level(W[:k].T)
    expected = oracle.sweeps(Z.T, (C + level * Z).T, G + level * np.eye(k), 3).T
    assert oracle.error(found, expected) < 1e-10


@pytest.mark.parametrize("ridge", [0.0, 0.2])
@pytest.mark.parametrize("bias", [False, True])
def test_improved_weights_are_least_squares_from_anywhere(bias, ridge, put, rng):
    A, Z, W = problem(rng, 20, 4, 9, bias)
    found = improved_weights(put(A), Pair(put(Z), put(W)), bias, ridge)
    assert oracle.error(found, oracle.fit(A, Z, bias, ridge)) < 1e-9


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("conditioned", [True, False])
def test_no_exact_half_step_raises_the_objective(conditioned, bias, put, rng, dtype):
    A, Z, W = (put(M, dtype) for M in problem(rng, 40, 6, 12, bias))
    if not conditioned:
        Z[:, 1:3], Z[:, 4] = Z[:, :1] + 1e-4 * Z[:, 1:3], 0
        W = least_squares_weights(A, Z, bias, Regularisation())
    rounding = 50 * torch.finfo(dtype).eps * float(affine(Z.abs(), W.abs()).square().sum())

    def objective(Z: Tensor, W: Tensor) -> float:
        return 0.5 * float((A - affine(Z, W)).double().square().sum())

    values = [objective(Z, W)]
    for _ in range(40):
        W = improved_weights(A, Pair(Z, W), bias)
        values.append(objective(Z, W))
        Z = exact_code_step(A, Z, W, sweeps=1)
        values.append(objective(Z, W))
        assert (Z >= 0).all()
    assert all(after <= before + rounding for before, after in pairwise(values))
    assert values[-1] < 0.8 * values[0] or not conditioned


def test_weights_that_fit_stay_where_rounding_hides_them(put, rng):
    """Codes so alike that float32 sees one of them in their Gram matrix."""
    z, d, w = rng.random((40, 1)) + 0.5, rng.standard_normal((40, 1)), rng.standard_normal((1, 9))
    Z, W = np.hstack([z, z + 1e-4 * d]), np.vstack([-w, w])
    A, pair = put(Z @ W, torch.float32), Pair(put(Z, torch.float32), put(W, torch.float32))
    for _ in range(20):
        W = improved_weights(A, pair, False)
        pair = Pair(pair.Z, W)
    assert float((A - pair.Z @ W).norm() / A.norm()) < 0.3  # damped, nothing of A is left to fit: 1


def best_rank(A: np.ndarray, rank: int) -> float:
    return 0.5 * float(np.sum(np.linalg.svd(A, compute_uv=False)[rank:] ** 2))


@pytest.mark.parametrize("scale", [1e-20, 1, 1e20])
@pytest.mark.parametrize("shape", [(50, 20), (20, 50), (200, 90), (9, 4), (4, 9)])
@pytest.mark.parametrize("rank", [1, 3])
def test_the_closed_form_is_the_best_there_is(rank, shape, scale, put, rng, dtype):
    """For A ≥ 0, and with a bias for any A: no codes of any sign fit better."""
    A = rng.random(shape)
    A[1], A[:, 2] = 0, 0
    for B, bias in ((A, False), (-A, False), (A - 0.4, True)):
        data = put(scale * B, dtype)
        result = semi_nmf(data, rank, bias=bias, stopping=Stopping(5, 0))
        best = best_rank(B - B.mean(0) if bias else B, rank)
        assert (result.Z >= 0).all()
        rounding = 1e3 * torch.finfo(dtype).eps * np.sum(B**2)
        # The randomised SVD of the larger shape is as near as its values are apart.
        assert result.objective[0] / scale / scale < 1.02 * best + rounding
        assert min(result.objective) / scale / scale > best - rounding
        assert max(result.objective) <= result.objective[0] + rounding * scale * scale


@pytest.mark.parametrize("rank", [1, 4, 9, 15])
@pytest.mark.parametrize("bias", [False, True])
def test_the_closed_form_of_data_of_any_sign(rank, bias, put, rng, dtype):
    A = rng.standard_normal((40, 9))
    start = semi_nmf(put(A, dtype), rank, bias=bias, stopping=Stopping(0))
    assert (start.Z >= 0).all()
    assert start.Z.shape == (40, rank)
    assert start.W.shape == (rank + bias, 9)
    eps = 100 * torch.finfo(dtype).eps * np.sum(A**2)
    limit = best_rank(A - A.mean(0), rank) if bias else best_rank(A, rank - 1)
    if rank > 1:
        assert start.objective[0] <= limit + eps
    end = semi_nmf(put(A, dtype), rank, bias=bias, stopping=Stopping(60, 0))
    assert end.objective[-1] <= start.objective[0] + eps
    assert end.objective[-1] < limit or rank == 15 or bias


def test_a_row_that_hardly_counts_does_not_spoil_the_closed_form(put, rng, dtype):
    A = rng.random((40, 9))
    A[3] *= 1e-12
    A[5, 1:] = 0
    start = semi_nmf(put(A, dtype), 4, stopping=Stopping(0))
    assert start.objective[0] < 1.01 * best_rank(A, 3)
    assert torch.isfinite(start.W).all()


@pytest.mark.parametrize("bias", [False, True])
def test_exact_codes_fit_planted_factors(bias, put, rng, dtype):
    Z, W = rng.random((40, 3)) * (rng.random((40, 3)) < 0.7), rng.standard_normal((3 + bias, 12))
    A = put(oracle.hat(Z, bias) @ W, dtype)
    for seed in range(10):
        g = torch.Generator(A.device).manual_seed(seed)
        result = semi_nmf(A, 3, bias=bias, start="random", generator=g, stopping=Stopping(300, 0, 100))
        assert (result.Z >= 0).all()
        assert float((A - affine(result.Z, result.W)).norm() / A.norm()) < 2e-3


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_planted_factors_are_fitted(method, bias, put, rng, dtype):
    Z, W = rng.random((40, 3)), rng.standard_normal((3 + bias, 12))
    A = put(oracle.hat(Z, bias) @ W, dtype)
    result = semi_nmf(
        A,
        3,
        bias=bias,
        update="multiplicative",
        regularisation=Regularisation(method),
        stopping=Stopping(1500, 0, 500),
    )
    assert (result.Z >= 0).all()
    assert float((A - affine(result.Z, result.W)).norm() / A.norm()) < 2e-2


def test_missing_weights_are_fitted_first(put, rng):
    A, Z, _ = problem(rng, 20, 4, 9, True)
    result = semi_nmf(put(A), 4, bias=True, start=(put(Z), None), stopping=Stopping(0))
    assert oracle.error(result.W, oracle.fit(A, Z, True)) < 1e-10
    assert torch.equal(result.Z, put(Z))


def test_default_start_is_away_from_zero(put, rng, dtype):
    A = put(rng.standard_normal((500, 9)), dtype)
    Z = semi_nmf(A, 4, update="multiplicative", stopping=Stopping(0)).Z
    assert 0.2 <= float(Z.min()) < 0.21
    assert 1.19 < float(Z.max()) <= 1.2


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("bias", [False, True])
def test_order_of_samples_does_not_matter(bias, update, put, rng):
    A, Z, W = (put(M) for M in problem(rng, 20, 4, 9, bias))
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0)).to(A.device)
    stopping = Stopping(10, 0)
    plain = semi_nmf(A, 4, bias=bias, update=update, start=(Z, W), stopping=stopping)
    moved = semi_nmf(A[order], 4, bias=bias, update=update, start=(Z[order], W), stopping=stopping)
    assert oracle.error(moved.Z, plain.Z[order]) < ROUNDING
    assert oracle.error(moved.W, plain.W) < ROUNDING


def test_codes_of_a_sample_do_not_depend_on_the_others(put, rng):
    A, Z, W = (put(M) for M in problem(rng, 20, 4, 9, True))
    whole = multiplicative_code_step(A, Z, W, 0.1)
    pieces = [multiplicative_code_step(a, z, W, 0.1) for a, z in zip(A.split(6), Z.split(6), strict=True)]
    assert oracle.error(torch.cat(pieces), whole) < 1e-12


def test_weight_ridge_shrinks_the_weights(put, rng):
    A, Z, _ = (put(M) for M in problem(rng, 20, 4, 9, False))
    norms = [
        least_squares_weights(A, Z, False, Regularisation(weight_ridge=r)).norm() for r in (0, 0.1, 1, 10)
    ]
    assert norms == sorted(norms, reverse=True)


@pytest.mark.parametrize("scale", [1e-9, 300])
@pytest.mark.parametrize("order", ["weights_first", "codes_first"])
def test_ridges_have_no_unit(order, scale, put, rng):
    """(cA, cZ, W) gives (cZ, W) and (cA, Z, cW) gives (Z, cW), as without ridges."""
    A, Z, W = (put(M) for M in problem(rng, 20, 4, 9, False))
    for r in (Regularisation(weight_ridge=0.5), Regularisation(code_ridge=0.5)):
        plain = semi_nmf_step(A, Pair(Z, W), False, r, order)
        codes = semi_nmf_step(scale * A, Pair(scale * Z, W), False, r, order)
        weights = semi_nmf_step(scale * A, Pair(Z, scale * W), False, r, order)
        for found, z, w in ((codes, scale, 1), (weights, 1, scale)):
            assert oracle.error(found.Z, z * plain.Z) < ROUNDING
            assert oracle.error(found.W, w * plain.W) < ROUNDING


@pytest.mark.parametrize("key", ["weight_ridge", "code_ridge"])
@pytest.mark.parametrize("value", [-1, float("inf"), float("nan")])
def test_ridges_that_are_refused(key, value):
    with pytest.raises(ConfigError, match=f"{key} must be finite and ≥ 0, got {value}"):
        Regularisation(**{key: value})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"delta": 1.0}, r"delta must be in \[0, 1\)"),
        ({"method": "qr"}, "method must be one of svd"),
        ({"weight_ridge": -1.0}, "weight_ridge must be finite and ≥ 0"),
    ],
)
def test_bad_regularisation(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Regularisation(**arguments)
