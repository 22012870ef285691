"""Nonlinear semi-NMF: whole iterations against the oracle, planted relu(ZW)."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import torch
from torch import Tensor

from nmfdnn.errors import ConfigError
from nmfdnn.factorization import (
    Alternation,
    Pair,
    Regularisation,
    Stopping,
    affine,
    nonlinear_semi_nmf,
    nonlinear_semi_nmf_step,
)
from nmfdnn.linalg import METHODS


def problem(rng: np.random.Generator, n: int, k: int, m: int, bias: bool) -> tuple[np.ndarray, ...]:
    return (
        oracle.relu(rng.standard_normal((n, m))),
        rng.random((n, k)) + 0.1,
        rng.standard_normal((k + bias, m)),
    )


def relative_residual(A: Tensor, Z: Tensor, W: Tensor) -> float:
    return float((A - affine(Z, W).relu()).norm() / A.norm())


@pytest.mark.parametrize("order", ["weights_first", "codes_first"])
@pytest.mark.parametrize("counts", [(1, 1), (4, 1), (1, 4), (3, 2), (0, 2), (2, 0)])
@pytest.mark.parametrize("bias", [False, True])
def test_iteration_equals_oracle(bias, counts, order, put, rng):
    A, Z, W = problem(rng, 30, 4, 9, bias)
    alternation = Alternation(*counts, omega=0.9, order=order)
    regularisation = Regularisation("svd", 1e-12, 0.05, 0.02)
    settings = oracle.Settings(
        bias=bias,
        weight_steps=counts[0],
        code_steps=counts[1],
        codes_first=order == "codes_first",
        omega=0.9,
        weight_ridge=0.05,
        code_ridge=0.02,
    )
    pair, expected = Pair(put(Z), put(W)), (Z, W)
    for _ in range(2):
        pair = nonlinear_semi_nmf_step(put(A), pair, bias, alternation, regularisation)
        expected = oracle.nonlinear_semi_nmf(A, *expected, settings)
    assert oracle.error(pair.Z, expected[0]) < 1e-10
    assert oracle.error(pair.W, expected[1]) < 1e-10


@pytest.mark.parametrize("method", METHODS)
def test_iteration_with_every_pseudo_inverse(method, put, rng):
    A, Z, W = problem(rng, 30, 4, 9, True)
    expected = oracle.nonlinear_semi_nmf(A, Z, W, oracle.Settings(bias=True))
    regularisation = Regularisation(method, 1e-12)
    found = nonlinear_semi_nmf_step(put(A), Pair(put(Z), put(W)), True, Alternation(), regularisation)
    assert oracle.error(found.Z, expected[0]) < 1e-10
    assert oracle.error(found.W, expected[1]) < 1e-10


@pytest.mark.parametrize("method", ["svd", "eigh"])
def test_delta_truncates_codes_and_weights(method, put, rng):
    """One of four directions is below δ s₁, in Z for the weight step and in W for the code step."""
    spectrum, delta = np.array([4, 2, 1, 1e-3]), 1e-2
    A, Z, W = problem(rng, 30, 4, 9, False)
    Z, W = np.abs(oracle.with_spectrum(30, 4, spectrum)), oracle.with_spectrum(4, 9, spectrum)
    regularisation = Regularisation(method, delta)
    found = nonlinear_semi_nmf_step(put(A), Pair(put(Z), put(W)), False, Alternation(0, 2), regularisation)
    expected = oracle.codes(A, oracle.codes(A, Z, W, 1.0, delta=delta), W, 1.0, delta=delta)
    assert oracle.error(found.Z, expected) < 1e-10
    Z = oracle.with_spectrum(30, 4, spectrum)
    found = nonlinear_semi_nmf_step(put(A), Pair(put(Z), put(W)), False, Alternation(1, 0), regularisation)
    expected = oracle.weights(Z, A, W, 1.0, full=oracle.truncated(Z, delta))
    assert oracle.error(found.W, expected) < 1e-10


@pytest.mark.parametrize("order", ["weights_first", "codes_first"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_planted_factors_are_fitted(method, bias, order, put, rng, dtype):
    Z, W = rng.random((100, 4)), rng.standard_normal((4 + bias, 20))
    A = put(oracle.relu(oracle.hat(Z, bias) @ W), dtype)
    result = nonlinear_semi_nmf(
        A,
        4,
        bias=bias,
        alternation=Alternation(2, 2, order=order),
        regularisation=Regularisation(method),
        stopping=Stopping(400, 0, 100),
    )
    assert (result.Z >= 0).all()
    assert torch.isfinite(result.W).all()
    assert relative_residual(A, result.Z, result.W) < 2e-2


@pytest.mark.parametrize("method", METHODS)
def test_more_codes_than_columns(method, put, rng, dtype):
    """Narrowing layers: W has more rows than columns, so WWᵀ is singular."""
    A = put(oracle.relu(rng.standard_normal((60, 5))), dtype)
    result = nonlinear_semi_nmf(A, 12, regularisation=Regularisation(method), stopping=Stopping(30, 0))
    assert torch.isfinite(result.Z).all()
    assert relative_residual(A, result.Z, result.W) < 0.2


def test_free_codes_fit_better_and_turn_negative(put, rng):
    A, Z, W = (put(M) for M in problem(rng, 40, 4, 9, False))
    bound, free = (
        nonlinear_semi_nmf(
            A, 4, start=(Z, W), alternation=Alternation(nonnegative=sign), stopping=Stopping(50, 0)
        )
        for sign in (True, False)
    )
    assert (bound.Z >= 0).all()
    assert (free.Z < 0).any()
    assert free.objective[-1] < bound.objective[-1]


@pytest.mark.parametrize("bias", [False, True])
def test_order_of_samples_does_not_matter(bias, put, rng):
    A, Z, W = (put(M) for M in problem(rng, 20, 4, 9, bias))
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0)).to(A.device)
    stopping = Stopping(5, 0)
    plain = nonlinear_semi_nmf(A, 4, bias=bias, start=(Z, W), stopping=stopping)
    moved = nonlinear_semi_nmf(A[order], 4, bias=bias, start=(Z[order], W), stopping=stopping)
    assert oracle.error(moved.Z, plain.Z[order]) < 1e-9
    assert oracle.error(moved.W, plain.W) < 1e-9


def test_missing_weights_are_fitted_first(put, rng):
    A, Z, _ = problem(rng, 20, 4, 9, True)
    result = nonlinear_semi_nmf(put(A), 4, bias=True, start=(put(Z), None), stopping=Stopping(0))
    assert oracle.error(result.W, oracle.fit(A, Z, True)) < 1e-10


def test_a_given_start_is_continued(put, rng):
    A, Z, W = (put(M) for M in problem(rng, 20, 4, 9, False))
    half = nonlinear_semi_nmf(A, 4, start=(Z, W), stopping=Stopping(3, 0))
    rest = nonlinear_semi_nmf(A, 4, start=(half.Z, half.W), stopping=Stopping(4, 0))
    whole = nonlinear_semi_nmf(A, 4, start=(Z, W), stopping=Stopping(7, 0))
    assert torch.equal(rest.Z, whole.Z)
    assert torch.equal(rest.W, whole.W)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight_steps": -1}, "weight_steps must be an integer ≥ 0, got -1"),
        ({"code_steps": -1}, "code_steps must be an integer ≥ 0, got -1"),
        ({"omega": 0.0}, r"omega must be in \(0, 2\], got 0.0"),
        ({"omega": 2.1}, r"omega must be in \(0, 2\], got 2.1"),
        ({"order": "both"}, "order must be one of weights_first, codes_first, got 'both'"),
    ],
)
def test_bad_alternation(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Alternation(**arguments)
