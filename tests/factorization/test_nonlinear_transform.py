"""Codes of new rows for the weights of a nonlinear semi-NMF: never worse than none, and row by row."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import torch

from nmfdnn.errors import ConfigError
from nmfdnn.factorization import Stopping, nonlinear_semi_nmf, nonlinear_transform


def latent(A, W, bias, iterations):
    """The best codes of each row on the way, and their objectives, row by row in plain NumPy."""
    rank = len(W) - bias
    b = W[rank] if bias else np.zeros(W.shape[1])
    W = W[:rank]
    codes, objectives = [], []
    for a in A:
        goal = oracle.relu(a)

        def target(v, a=a, goal=goal):
            return np.where((a <= 0) & (v <= 0), v, goal)

        z = y = best = np.zeros(rank)
        least, bound, steps = ((oracle.relu(b) - a) ** 2).sum(), ((target(b) - b) ** 2).sum(), 0
        for _ in range(iterations):
            new = oracle.sweeps(y[:, None], W @ (target(y @ W + b) - b)[:, None], W @ W.T, 4)[:, 0]
            v = new @ W + b
            if ((target(v) - v) ** 2).sum() > bound:
                steps = 0
            else:
                steps += 1
            bound, value = ((target(v) - v) ** 2).sum(), ((oracle.relu(v) - a) ** 2).sum()
            y, z = oracle.relu(new + steps / (steps + 3) * (new - z)), new
            if value < least:
                best, least = new, value
        codes.append(best)
        objectives.append(least)
    return np.array(codes), np.array(objectives)


@pytest.mark.parametrize("scale", [1e-20, 1, 1e20])
@pytest.mark.parametrize("bias", [False, True])
def test_codes_are_those_of_the_equations(bias, scale, put, rng, dtype):
    A, W = oracle.relu(rng.standard_normal((15, 12))), rng.standard_normal((4 + bias, 12))
    A[3, 4], A[2] = -0.5, 0
    found = nonlinear_transform(
        put(scale * A, dtype), put(scale * W, dtype), bias=bias, stopping=Stopping(20, 0, 1)
    )
    expected, least = latent(A, W, bias, 20)
    assert oracle.error(found.Z, expected) < (1e-2 if dtype == torch.float32 else 1e-8)
    # A float32 objective of tiny data has no exponent left for its square.
    assert found.objective[-1] / scale**2 == pytest.approx(0.5 * least.sum(), rel=1e-4)
    assert (np.diff(found.objective) <= 0).all()


def test_planted_codes_are_found_again(put, rng):
    Z, W = rng.random((60, 3)), rng.standard_normal((3, 40))
    A = oracle.relu(Z @ W)
    found = nonlinear_transform(put(A), put(W), stopping=Stopping(3000, 0, 100))
    assert oracle.error(found.Z, Z) < 1e-4


def test_rows_of_a_fit_come_near_its_objective(put, rng, device):
    """Of the best of some fits; where codes of a fit are large and nearly cancel, they are not found."""
    A, ratios = put(oracle.relu(rng.standard_normal((50, 10)))), []
    for seed in range(8):
        g = torch.Generator(device).manual_seed(seed)
        fitted = nonlinear_semi_nmf(A, 4, generator=g, stopping=Stopping(500, 0, 50))
        ratios.append(nonlinear_transform(A, fitted.W).objective[-1] / min(fitted.objective))
    assert min(ratios) < 1.02
    assert sorted(ratios)[3] < 1.5


def test_a_rows_codes_do_not_depend_on_the_others(put, rng):
    A, W = put(rng.random((20, 9))), put(rng.standard_normal((4, 9)))
    long = Stopping(50, 0, 10)
    whole = nonlinear_transform(A, W, stopping=long).Z
    pieces = [nonlinear_transform(part, W, stopping=long).Z for part in A.split(7)]
    assert oracle.error(torch.cat(pieces), whole) < 1e-9


@pytest.mark.parametrize(
    ("A", "W", "bias", "message"),
    [
        (torch.ones(5, 4), torch.ones(2, 3), False, "W must be of as many columns as A, 4"),
        (torch.ones(5, 4), torch.ones(1, 4), True, "W must be of at least one row besides the bias"),
        (torch.full((5, 4), torch.nan), torch.ones(2, 4), False, "A holds NaN"),
    ],
)
def test_what_is_refused(A, W, bias, message):
    with pytest.raises(ConfigError, match=message):
        nonlinear_transform(A, W, bias=bias)
