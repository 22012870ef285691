"""Pseudo-inverses: every method on every kind of matrix, with known singular values."""

from __future__ import annotations

import math

import numpy as np
import oracle
import pytest
import torch
from torch import Tensor

from nmfdnn.errors import ConfigError, SingularMatrixError
from nmfdnn.linalg import (
    METHODS,
    cholesky,
    delta_floor,
    eigenvalue_bound,
    factor,
    factor_unchecked,
    gram,
    unit,
)

SPECTRAL = ("svd", "eigh")
CONDITION = 10.0
FULL, SHORT = np.geomspace(1, 1 / CONDITION, 12), np.geomspace(1, 1 / CONDITION, 7)
FULL_RANK = {"tall": (30, 12), "square": (12, 12), "large": (30, 12), "small": (30, 12)}
SCALE = {"large": 1e4, "small": 1e-4}
PROBLEMS = [*FULL_RANK, "wide", "deficient", "wide_deficient", "zero_columns", "equal_columns"]


def problem(name: str) -> np.ndarray:
    """A named matrix whose nonzero singular values have the ratio CONDITION (within a factor of 3)."""
    if name in FULL_RANK:
        return SCALE.get(name, 1.0) * oracle.with_spectrum(*FULL_RANK[name], FULL)
    if name == "wide":
        return oracle.with_spectrum(12, 30, FULL)
    if name == "deficient":
        return oracle.with_spectrum(30, 12, SHORT)
    if name == "wide_deficient":
        return oracle.with_spectrum(12, 30, SHORT)
    A = oracle.with_spectrum(30, 12, FULL)
    A[:, [0, 4, 11]] = 0 if name == "zero_columns" else A[:, [1, 1, 1]]
    return A


def tolerance(dtype: torch.dtype, condition: float = 3 * CONDITION) -> float:
    """A least-squares solution with a large residual is known to some κ² ε."""
    return 10 * condition**2 * torch.finfo(dtype).eps


@pytest.fixture
def R(put, rng, dtype) -> Tensor:  # noqa: N802
    return put(rng.standard_normal((30, 5)), dtype)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("method", SPECTRAL)
def test_solve_is_the_pseudo_inverse(method, name, put, dtype, R):
    A = put(problem(name), dtype)
    expected = np.linalg.pinv(oracle.array(A), rcond=1e-5) @ oracle.array(R[: len(A)])
    assert oracle.error(factor(A, method).solve(R[: len(A)]), expected) < tolerance(dtype)


@pytest.mark.parametrize("name", FULL_RANK)
@pytest.mark.parametrize("method", METHODS)
def test_methods_agree_on_well_conditioned_matrices(method, name, put, dtype, R):
    A = put(problem(name), dtype)
    expected = np.linalg.lstsq(oracle.array(A), oracle.array(R[: len(A)]), rcond=None)[0]
    assert oracle.error(factor(A, method).solve(R[: len(A)]), expected) < tolerance(dtype)


@pytest.mark.parametrize("name", PROBLEMS)
def test_cholesky_damps_by_delta(name, put, dtype, R):
    delta = 2e-2
    A = put(problem(name), dtype)
    exact = oracle.array(A)
    top = np.sum(np.linalg.svd(exact)[1] ** 16) ** (1 / 16)
    expected = oracle.ridge(exact, oracle.array(R[: len(A)]), (delta * top) ** 2 / oracle.level(exact))
    # Damping moves the solution by at most (δ κ)² ≈ 0.04; without it: 0.02 off.
    assert oracle.error(factor(A, "cholesky", delta).solve(R[: len(A)]), expected) < 2e-3


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("method", METHODS)
def test_smallest_delta_still_gives_a_least_squares_fit(method, name, put, dtype, R):
    A = put(problem(name), dtype)
    b = R[: len(A)]
    X = factor(A, method, 0.0).solve(b)
    exact = oracle.array(A)
    best = np.linalg.norm(oracle.array(b) - exact @ np.linalg.pinv(exact, rcond=1e-5) @ oracle.array(b))
    assert torch.isfinite(X).all()
    # Damping at √(k ε) s₁ costs at most k ε κ² of ‖R‖ in the residual: 0.02 in float32.
    assert float((b - A @ X).norm()) <= best + 0.02 * float(b.norm())


@pytest.mark.parametrize("method", SPECTRAL)
@pytest.mark.parametrize(("delta", "kept"), [(0.3, 1), (5e-2, 2), (5e-3, 3), (5e-4, 4)])
def test_delta_cuts_off_relative_to_the_largest_singular_value(method, delta, kept, put, dtype, R):
    s = 7 * np.array([1, 1e-1, 1e-2, 1e-3])
    A = put(oracle.with_spectrum(30, 4, s), dtype)
    expected = np.linalg.pinv(oracle.array(A), rcond=delta) @ oracle.array(R)
    factors = factor(A, method, delta)
    assert factors.s.shape == (kept,)
    # An error of ε s₁² in an eigenvalue of the Gram matrix is one of ε s₁²/s in s: at most 10³ ε s₁.
    assert oracle.error(factors.s, s[:kept]) < 1e3 * torch.finfo(dtype).eps
    # Rounding of A turns the singular vectors by about ε s₁/gap: 10³ ε, times the condition number kept.
    assert oracle.error(factors.solve(R), expected) < 1e3 * 10**kept * torch.finfo(dtype).eps


@pytest.mark.parametrize("method", SPECTRAL)
def test_ill_conditioned_in_double_precision(method, put, rng):
    A, x = oracle.with_spectrum(40, 10, np.geomspace(1, 1e-6, 10)), rng.standard_normal((10, 3))
    # A consistent system: κ ε for the SVD, κ² ε for the Gram form (κ = 10⁶).
    limit = 1e-8 if method == "svd" else 1e-2
    assert oracle.error(factor(put(A), method).solve(put(A @ x)), x) < limit


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("method", METHODS)
def test_gram_form_equals_solve(method, name, put, dtype, R):
    A = put(problem(name), dtype)
    b = R[: len(A)]
    factors = factor(A, method, 3e-2)
    assert oracle.error(factors.solve_gram(A.T @ b), factors.solve(b)) < tolerance(dtype)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("method", SPECTRAL)
def test_on_rows_keeps_the_inverse_and_changes_the_samples(method, name, put, dtype, R):
    A = put(problem(name), dtype)
    rows, b = A[::2], R[: len(A)][::2]
    inverse = np.linalg.pinv(oracle.array(A), rcond=1e-5)
    expected = inverse @ inverse.T @ oracle.array(rows).T @ oracle.array(b)
    factors = factor(A, method)
    assert oracle.error(factors.on_rows(rows).solve(b), expected) < tolerance(dtype)
    assert oracle.error(factors.on_rows(A).solve(R[: len(A)]), factors.solve(R[: len(A)])) < tolerance(dtype)


def test_batches_of_rows_add_up_to_the_whole(put, dtype, R):
    A = put(problem("tall"), dtype)
    for method in METHODS:
        factors = factor(A, method)
        pieces = zip(A.split(7), R.split(7), strict=True)
        total = sum(factors.on_rows(rows).solve(b) for rows, b in pieces)
        assert oracle.error(total, factors.solve(R)) < tolerance(dtype)


@pytest.mark.parametrize("penalty", [1e-3, 1.0])
@pytest.mark.parametrize("name", ["tall", "square", "wide", "deficient", "zero_columns"])
@pytest.mark.parametrize("method", METHODS)
def test_shrink_gives_the_ridge_solution(method, name, penalty, put, dtype, R):
    A = put(problem(name), dtype)
    b = R[: len(A)]
    # Cholesky damps instead of cutting off: s²/(s² + δ²s₁²) is then a second, smaller shrinkage.
    delta, limit = (1e-2, 2e-2) if method == "cholesky" else (0.0, tolerance(dtype))
    factors = factor(A, method, delta)
    expected = oracle.ridge(oracle.array(A), oracle.array(b), penalty)
    assert oracle.error(factors.shrink(factors.solve(b), penalty), expected) < limit


@pytest.mark.parametrize("scale", [1e-4, 1, 300])
@pytest.mark.parametrize("method", METHODS)
def test_the_ridge_has_no_unit_and_belongs_to_the_factored_matrix(method, scale, put, dtype, R):
    A = put(problem("tall"), dtype)
    W = R[: A.shape[1]]
    expected = factor(A, method).shrink(W, 0.3)
    scaled = factor(scale * A, method)
    assert 0.1 < float(expected.norm() / W.norm()) < 0.9
    for factors in (scaled, scaled.on_rows(scale * A[:5])):
        assert oracle.error(factors.shrink(W, 0.3), expected) < tolerance(dtype)


@pytest.mark.parametrize("name", ["tall", "wide", "deficient"])
@pytest.mark.parametrize("method", METHODS)
def test_factors_have_the_unit_of_the_matrix(method, name, put, dtype, R):
    A = put(problem(name), dtype)
    b, delta = R[: len(A)], 3e-2
    plain = factor(A, method, delta)
    for scale in (1e-22, 1e17) if dtype == torch.float32 else (1e-150, 1e150):
        factors = factor(scale * A, method, delta)
        for found in (
            factors.solve(b),
            factors.on_rows(scale * A).solve(b),
            factors.solve_gram(scale * A.T @ b),
        ):
            assert oracle.error(found * scale, plain.solve(b)) < tolerance(dtype)
        assert oracle.error(factors.shrink(A.T @ b, 0.3), plain.shrink(A.T @ b, 0.3)) < tolerance(dtype)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, 1.99, 2.0, 255.0, 1e-20, 3e37, 1e-44])
def test_unit_is_the_power_of_four_next_to_the_largest_entry(value, device, dtype):
    A = torch.tensor([[value / 3, -value], [0.0, value / 2]], dtype=dtype, device=device)
    u = unit(A)
    assert math.log2(u) % 2 == 0
    assert torch.equal(A / u * u, A)
    if 1e-36 < value < 1e36:
        assert 0.5 <= float((A / u).abs().max()) < 2
    elif value == 0:
        assert u == 1


@pytest.mark.parametrize("name", ["tall", "wide", "deficient"])
@pytest.mark.parametrize("method", METHODS)
def test_a_tiny_ridge_does_not_break_shrink(method, name, put, dtype, R):
    A = put(problem(name), dtype)
    factors = factor(A, method, 1e-2)
    W = factors.solve(R[: len(A)])
    # Within the damping of Cholesky, (δ κ)², a solution is already in the range of Aᵀ and stays as it is.
    assert oracle.error(factors.shrink(W, 1e-12), W) < 5e-2


@pytest.mark.parametrize("shape", [(8, 5), (5, 8)])
@pytest.mark.parametrize("method", METHODS)
def test_zero_matrix_has_the_zero_inverse(method, shape, device, dtype):
    A = torch.zeros(shape, dtype=dtype, device=device)
    factors = factor(A, method)
    ones = torch.ones(shape[0], 2, dtype=dtype, device=device)
    assert torch.equal(factors.solve(ones), torch.zeros(shape[1], 2, dtype=dtype, device=device))
    assert torch.equal(factors.shrink(ones.new_ones(shape[1], 2), 0.1), ones.new_zeros(shape[1], 2))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("method", METHODS)
def test_input_that_is_not_finite_is_refused(method, bad, device, dtype):
    A = torch.rand(6, 4, dtype=dtype, device=device)
    A[1, 2] = bad
    with pytest.raises(SingularMatrixError, match="NaN or infinite"):
        factor(A, method)


def test_indefinite_gram_matrix_gives_nan_and_is_refused_when_checked(device, dtype, monkeypatch):
    G = torch.diag(torch.tensor([1.0, -1.0], dtype=dtype, device=device))
    assert torch.isnan(cholesky(G, G.new_tensor(0.5))).any()
    monkeypatch.setattr("nmfdnn.linalg.gram", lambda A: G)
    with pytest.raises(SingularMatrixError, match=r"not positive definite.*raise delta"):
        factor(torch.eye(2, dtype=dtype, device=device), "cholesky")


@pytest.mark.parametrize("method", METHODS)
def test_unchecked_factors_are_the_same_with_nothing_left_out(method, put, dtype, R):
    for name in PROBLEMS:
        A = put(problem(name), dtype)
        b = R[: len(A)]
        plain, unchecked = factor(A, method, 3e-2), factor_unchecked(A, method, 3e-2)
        assert oracle.error(unchecked.solve(b), oracle.array(plain.solve(b))) < tolerance(dtype)
        W = plain.solve(b)
        assert oracle.error(unchecked.shrink(W, 0.3), oracle.array(plain.shrink(W, 0.3))) < tolerance(dtype)
        P, B = unchecked.whitened()
        assert oracle.error(B @ (P.T @ b), oracle.array(W)) < tolerance(dtype)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "qr"}, "method must be one of svd, eigh, cholesky, got 'qr'"),
        ({"delta": 1.0}, r"delta must be in \[0, 1\), got 1.0"),
        ({"delta": -0.1}, r"delta must be in \[0, 1\)"),
        ({"delta": float("nan")}, r"delta must be in \[0, 1\)"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        factor(torch.eye(3), **arguments)


def test_a_vector_is_not_a_matrix():
    with pytest.raises(ConfigError, match="two dimensions"):
        factor(torch.ones(3))


def test_floor_is_rounding_times_the_rank(dtype):
    assert delta_floor((7, 3), dtype) == 3 * torch.finfo(dtype).eps


@pytest.mark.parametrize("name", PROBLEMS)
def test_eigenvalue_bound_is_above_by_the_eighth_root_of_the_size_at_most(name, put, dtype):
    A = put(problem(name), dtype)
    exact = np.linalg.norm(oracle.array(A), 2) ** 2
    slack = 1 + 100 * torch.finfo(dtype).eps
    found = float(eigenvalue_bound(gram(A)))
    assert exact / slack <= found <= exact * A.shape[1] ** 0.125 * slack
    assert found == pytest.approx(np.sum(np.linalg.svd(oracle.array(A))[1] ** 16) ** 0.125, rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_whitened_factors_give_the_pseudo_inverse(method, shape, put, rng):
    """A⁺R = B(PᵀR) with P = AB, the columns of P orthonormal where nothing is damped."""
    A, R = put(rng.standard_normal(shape)), put(rng.standard_normal((shape[0], 4)))
    factors = factor(A, method, 1e-3)
    P, B = factors.whitened()
    assert oracle.error(A @ B, oracle.array(P)) < 1e-9
    assert oracle.error(B @ (P.T @ R), oracle.array(factors.solve(R))) < 1e-9
