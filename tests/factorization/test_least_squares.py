"""Nonlinear least squares: weight and code steps against the oracle, planted solutions."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import torch

from nmfdnn.errors import ConfigError
from nmfdnn.factorization import (
    Regularisation,
    Stopping,
    augmented,
    code_step,
    nonlinear_least_squares,
    weight_factors,
    weight_step,
)
from nmfdnn.linalg import METHODS, factor


def problem(rng: np.random.Generator, n: int, k: int, m: int, bias: bool) -> tuple[np.ndarray, ...]:
    """Inputs or codes (n × k, nonnegative), targets (n × m, nonnegative) and weights."""
    return rng.random((n, k)), oracle.relu(rng.standard_normal((n, m))), rng.standard_normal((k + bias, m))


@pytest.mark.parametrize("omega", [1.0, 0.4, 1.7])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_weight_steps_equal_oracle(method, bias, ridge, omega, put, rng):
    A, B, W = problem(rng, 30, 6, 5, bias)
    inputs = augmented(put(A), bias)
    factors = factor(inputs, method, 1e-12)
    found, expected = put(W), W
    for _ in range(3):
        found = weight_step(inputs, put(B), found, factors, omega, ridge)
        expected = oracle.weights(oracle.hat(A, bias), B, expected, omega, ridge)
        assert oracle.error(found, expected) < 1e-10


@pytest.mark.parametrize("delta", [5e-3, 0.2])
@pytest.mark.parametrize("method", ["svd", "eigh"])
def test_weight_step_with_truncated_inputs(method, delta, put, rng):
    A = oracle.with_spectrum(30, 6, np.array([9, 3, 1, 0.1, 1e-2, 1e-3]))
    _, B, W = problem(rng, 30, 6, 5, False)
    kept = oracle.truncated(A, delta)
    found = weight_step(put(A), put(B), put(W), factor(put(A), method, delta), 0.8, 0.1)
    # kept⁺(keptᵀ)⁺Aᵀ = kept⁺: the dropped directions are orthogonal to the kept ones.
    expected = oracle.weights(A, B, W, 0.8, 0.1, kept)
    # The Gram form loses (s₁/s)² ε, here at most 10⁶ ε with δ = 5e-3.
    assert oracle.error(found, expected) < (1e-10 if method == "svd" else 1e-8)


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("omega", [1.0, 0.4, 1.7])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(20, 4, 9), (20, 9, 4)])
def test_code_steps_equal_oracle(shape, bias, ridge, omega, free, put, rng):
    Z, B, W = problem(rng, *shape, bias)
    factors = weight_factors(put(W), shape[1], Regularisation(delta=1e-12))
    found, expected = put(Z), Z
    for _ in range(3):
        found = code_step(put(B), found, put(W), factors, omega, ridge, nonnegative=not free)
        expected = oracle.codes(B, expected, W, omega, ridge, free)
        assert oracle.error(found, expected) < 1e-10
    assert free == bool((found < 0).any())


@pytest.mark.parametrize("method", METHODS)
def test_code_step_with_every_pseudo_inverse(method, put, rng, dtype):
    Z, B, W = problem(rng, 20, 4, 9, True)
    factors = weight_factors(put(W, dtype), 4, Regularisation(method))
    found = code_step(put(B, dtype), put(Z, dtype), put(W, dtype), factors, 1.0)
    # κ(W) is below 5.
    assert oracle.error(found, oracle.codes(B, Z, W, 1.0)) < 300 * torch.finfo(dtype).eps


def test_full_weight_step_fits_the_latent_target(put, rng):
    A, B, W = problem(rng, 30, 6, 5, False)
    latent = B + np.minimum(0, A @ W)
    found = weight_step(put(A), put(B), put(W), factor(put(A)), 1.0)
    assert oracle.error(found, np.linalg.lstsq(A, latent, rcond=None)[0]) < 1e-10
    found = weight_step(put(A), put(B), put(W), factor(put(A)), 1.0, 0.7)
    assert oracle.error(found, oracle.ridge(A, latent, 0.7)) < 1e-10


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("unknown", ["weights", "codes"])
def test_function_repeats_the_step_from_zero(unknown, bias, put, rng):
    Z, B, W = problem(rng, 30, 6, 5, bias)
    settings = {"omega": 0.9, "bias": bias, "regularisation": Regularisation("svd", 1e-12, 0.01, 0.02)}
    given = put(Z if unknown == "weights" else W)
    result = nonlinear_least_squares(given, put(B), unknown=unknown, stopping=Stopping(4, 0, 1), **settings)
    Z, W = (Z, 0 * W) if unknown == "weights" else (0 * Z, W)
    history, pairs = [], []
    for _ in range(5):
        history.append(0.5 * np.linalg.norm(B - oracle.relu(oracle.hat(Z, bias) @ W)) ** 2)
        pairs.append((Z, W))
        if unknown == "weights":
            W = oracle.weights(oracle.hat(Z, bias), B, W, 0.9, 0.01)
        else:
            Z = oracle.codes(B, Z, W, 0.9, 0.02)
    best = 1 + int(np.argmin(history[1:]))
    assert result.iterations == best
    assert oracle.error(result.Z, pairs[best][0]) < 1e-10
    assert oracle.error(result.W, pairs[best][1]) < 1e-10
    assert result.objective == pytest.approx(history, rel=1e-10)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_planted_weights_are_recovered(method, bias, put, rng, dtype):
    A, W = rng.random((200, 6)), rng.standard_normal((6 + bias, 5))
    B = oracle.relu(oracle.hat(A, bias) @ W)
    result = nonlinear_least_squares(
        put(A, dtype),
        put(B, dtype),
        bias=bias,
        regularisation=Regularisation(method),
        stopping=Stopping(3000, 0, 1000),
    )
    alive = (B > 0).sum(axis=0) > 20  # a column that is (almost) never active determines nothing
    assert alive.sum() >= 3
    assert oracle.error(oracle.array(result.W)[:, alive], W[:, alive]) < 2e-3
    assert result.objective[-1] < 1e-4 * result.objective[0]


@pytest.mark.parametrize("bias", [False, True])
def test_planted_codes_are_recovered(bias, put, rng, dtype):
    Z, W = rng.random((50, 4)), rng.standard_normal((4 + bias, 30))
    B = oracle.relu(oracle.hat(Z, bias) @ W)
    result = nonlinear_least_squares(
        put(W, dtype), put(B, dtype), unknown="codes", bias=bias, stopping=Stopping(1000, 0, 500)
    )
    assert (result.Z >= 0).all()
    assert oracle.error(result.Z, Z) < 1e-4


def test_codes_of_a_sample_do_not_depend_on_the_others(put, rng):
    Z, B, W = (put(M) for M in problem(rng, 20, 4, 9, True))
    factors = weight_factors(W, 4, Regularisation())
    whole = code_step(B, Z, W, factors, 0.7, 0.1)
    pieces = [code_step(b, z, W, factors, 0.7, 0.1) for b, z in zip(B.split(6), Z.split(6), strict=True)]
    assert oracle.error(torch.cat(pieces), whole) < 1e-12


@pytest.mark.parametrize("unknown", ["weights", "codes"])
def test_a_given_start_is_continued(unknown, put, rng):
    Z, B, W = (put(M) for M in problem(rng, 30, 6, 5, False))
    given, start = (Z, W) if unknown == "weights" else (W, Z)

    def run(start: torch.Tensor, iterations: int) -> torch.Tensor:
        result = nonlinear_least_squares(
            given, B, unknown=unknown, start=start, stopping=Stopping(iterations, 0)
        )
        return result.W if unknown == "weights" else result.Z

    assert torch.equal(run(run(start, 3), 4), run(start, 7))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unknown": "biases"}, "unknown must be one of weights, codes, got 'biases'"),
        ({"omega": 0.0}, r"omega must be in \(0, 2\], got 0.0"),
        ({"omega": 2.1}, r"omega must be in \(0, 2\], got 2.1"),
        ({"B": torch.ones(6, 4).double()}, r"B must be torch.float32 .* convert it with B.to\(A\)"),
        ({"B": torch.ones(5, 4)}, "A must be of as many rows as B, 5"),
        ({"unknown": "codes"}, "A must be of as many columns as B, 4"),
        ({"start": torch.ones(3, 5)}, r"start must be of shape \(3, 4\)"),
        ({"start": torch.ones(3, 4), "bias": True}, r"start must be of shape \(4, 4\)"),
        ({"A": torch.ones(1, 4), "unknown": "codes", "bias": True}, "at least one row besides the bias"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        nonlinear_least_squares(**({"A": torch.rand(6, 3), "B": torch.rand(6, 4)} | arguments))
