"""Nonlinear semi-NMF: whole iterations against the oracle, planted relu(ZW)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import oracle
import pytest
import torch
from torch import Tensor

from nmfdnn.errors import ConfigError
from nmfdnn.factorization import (
    Alternation,
    Latent,
    Objective,
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
    result = nonlinear_semi_nmf(
        A,
        12,
        alternation=Alternation(),
        regularisation=Regularisation(method),
        stopping=Stopping(30, 0),
    )
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
@pytest.mark.parametrize("how", [Latent(), Alternation()])
def test_order_of_samples_does_not_matter(how, bias, put, rng):
    A, Z, W = (put(M) for M in problem(rng, 20, 4, 9, bias))
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0)).to(A.device)
    stopping = Stopping(5, 0)
    plain = nonlinear_semi_nmf(A, 4, bias=bias, alternation=how, start=(Z, W), stopping=stopping)
    start = (Z[order], W)
    moved = nonlinear_semi_nmf(A[order], 4, bias=bias, alternation=how, start=start, stopping=stopping)
    assert oracle.error(moved.Z, plain.Z[order]) < 1e-9
    assert oracle.error(moved.W, plain.W) < 1e-9


def test_missing_weights_are_fitted_first(put, rng):
    A, Z, _ = problem(rng, 20, 4, 9, True)
    result = nonlinear_semi_nmf(put(A), 4, bias=True, start=(put(Z), None), stopping=Stopping(0))
    assert oracle.error(result.W, oracle.fit(A, Z, True)) < 1e-10


def test_a_given_start_is_continued(put, rng):
    A, Z, W = (put(M) for M in problem(rng, 20, 4, 9, False))
    how = Alternation()
    half = nonlinear_semi_nmf(A, 4, start=(Z, W), alternation=how, stopping=Stopping(3, 0))
    rest = nonlinear_semi_nmf(A, 4, start=(half.Z, half.W), alternation=how, stopping=Stopping(4, 0))
    whole = nonlinear_semi_nmf(A, 4, start=(Z, W), alternation=how, stopping=Stopping(7, 0))
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


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_latent_steps_equal_the_oracle(bias, free, put, rng):
    A, Z, W = problem(rng, 40, 4, 20, bias)
    A[3:5] -= 0.1  # entries below zero count as zero
    step, pair = Latent(not free, 3).steps(Objective(put(A), nonlinear=True)), Pair(put(Z), put(W))
    expected = oracle.latent(A, Z, W, bias, 0 if free else 3, 30)
    assert any(taken for _, _, taken in expected)
    for Z, W, _ in expected:
        pair = step(pair)
        assert oracle.error(pair.Z, Z) < 1e-6
        assert oracle.error(pair.W, W) < 1e-6


def test_a_move_that_goes_too_far_is_taken_back(put, rng):
    A, Z, W = problem(rng, 40, 4, 20, False)
    expected = oracle.latent(A, Z, W, False, 4, 80)
    assert not all(taken for _, _, taken in expected)
    result = nonlinear_semi_nmf(put(A), 4, start=(put(Z), put(W)), stopping=Stopping(80, 0, 1))
    values = [0.5 * np.sum((A - oracle.relu(Z @ W)) ** 2) for Z, W, _ in expected]
    assert result.objective[1:] == pytest.approx(values, rel=1e-5)


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_latent_targets_never_raise_the_objective(bias, free, put, rng, dtype):
    A = put(problem(rng, 60, 1, 30, False)[0], dtype)
    for start in ("svd", "random"):
        result = nonlinear_semi_nmf(
            A, 8, bias=bias, start=start, alternation=Latent(not free), stopping=Stopping(150, 0, 1)
        )
        rounding = 10 * torch.finfo(dtype).eps * float(A.square().sum())
        assert all(after <= before + rounding for before, after in pairwise(result.objective))
        assert result.objective[-1] < 0.85 * result.objective[1]


@pytest.mark.parametrize("free", [False, True])
def test_the_identity_is_of_low_rank_below_relu(free, put, device):
    """From every start, as nomad's small problem asks (Saul 2022): rank 6 for 11 × 11."""
    identity = put(np.eye(11))
    for seed in range(10):
        result = nonlinear_semi_nmf(
            identity,
            6,
            alternation=Latent(not free),
            generator=torch.Generator(device).manual_seed(seed),
            stopping=Stopping(2000, 0, 100),
        )
        assert float((identity - (result.Z @ result.W).relu()).abs().max()) < 1e-5


def test_planted_latent_factors_are_recovered_from_every_start(put, rng, device, dtype):
    Z, W = rng.random((200, 4)), rng.standard_normal((4, 30))
    A = put(oracle.relu(Z @ W), dtype)
    for seed in range(10):
        g = torch.Generator(device).manual_seed(seed)
        result = nonlinear_semi_nmf(A, 4, generator=g, stopping=Stopping(400, 0, 50))
        assert relative_residual(A, result.Z, result.W) < 2e-2


@pytest.mark.parametrize(("name", "alternation"), [("latent", Latent()), ("sakurai2016", Alternation())])
def test_alternations_have_names(name, alternation, put, rng):
    A, stopping = put(rng.standard_normal((20, 6))), Stopping(5, 0, 1)
    found, expected = (
        nonlinear_semi_nmf(A, 3, alternation=how, stopping=stopping) for how in (name, alternation)
    )
    assert found.objective == expected.objective
    assert torch.equal(found.W, expected.W)


def test_what_belongs_to_an_alternation_is_refused_without_one():
    remedy = r"regularisation must be None, or given with alternation=Alternation\(\)"
    with pytest.raises(ConfigError, match=remedy):
        nonlinear_semi_nmf(torch.ones(5, 4), 2, regularisation=Regularisation())
    nonlinear_semi_nmf(torch.ones(5, 4), 2, regularisation=Regularisation(), alternation=Alternation())


def test_negative_codes_are_no_start_unless_codes_are_free():
    start = (-torch.ones(5, 2), torch.ones(2, 4))
    with pytest.raises(ConfigError, match=r"Z has negative entries: clip .*Latent\(nonnegative=False\)"):
        nonlinear_semi_nmf(torch.ones(5, 4), 2, start=start)
    nonlinear_semi_nmf(torch.ones(5, 4), 2, start=start, alternation=Latent(nonnegative=False))


def test_bad_latent():
    with pytest.raises(ConfigError, match="sweeps must be an integer ≥ 1, got 0"):
        Latent(sweeps=0)
