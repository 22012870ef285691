"""What users of scikit-learn's NMF may count on, of `nmf`: properties by start, update and penalty."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import oracle
import pytest
import torch
from sklearn.decomposition import non_negative_factorization

from nmfdnn.factorization import Penalty, Stopping, nmf, transform
from nmfdnn.factorization.nmf import SOLVERS

DIVERGENCES = [*((update, 2) for update in SOLVERS), ("multiplicative", 0), ("multiplicative", 1)]
STARTS = ["random", "nndsvd", "nndsvda", "nndsvdar"]
PENALTIES = {
    "none": None,
    "l1": Penalty(l1=0.1),
    "l2": Penalty(l2=0.1),
    "both": (Penalty(0.1, 0.1), Penalty(0.05, 0.05)),
}
LONG = Stopping(1000, 0, 200)


def relative(A: torch.Tensor, fit: torch.Tensor) -> float:
    return float((A - fit).norm() / A.norm())


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("update", SOLVERS)
def test_no_factor_has_a_negative_entry(update, start, penalty, put, dtype):
    falling, rising = 5.0 - np.arange(1, 6), 5.0 + np.arange(1, 6)
    A = put(np.c_[falling, rising], dtype)
    result = nmf(A, 2, update=update, start=start, penalty=PENALTIES[penalty])
    for F in (result.Z, result.W):
        assert torch.isfinite(F).all()
        assert (F >= 0).all()


@pytest.mark.parametrize("start", STARTS)
def test_no_start_has_a_negative_entry(start, put, rng):
    result = nmf(put(np.abs(rng.standard_normal((10, 10)))), 10, start=start, stopping=Stopping(0))
    assert (result.Z >= 0).all()
    assert (result.W >= 0).all()


def test_a_start_by_singular_vectors_is_near_the_data(put, rng):
    A = put(np.abs(rng.standard_normal((10, 10))))
    result = nmf(A, 10, start="nndsvd", stopping=Stopping(0))
    assert float((A - result.Z @ result.W).square().sum().sqrt()) < A.std() * 10


@pytest.mark.parametrize("start", ["nndsvda", "nndsvdar"])
def test_filled_starts_differ_only_where_there_were_zeros(start, put, rng):
    A = put(np.abs(rng.standard_normal((10, 10))))
    plain, filled = (nmf(A, 10, start=s, stopping=Stopping(0)) for s in ("nndsvd", start))
    for F, G in ((plain.Z, filled.Z), (plain.W, filled.W)):
        assert torch.equal(F[F != 0], G[F != 0])
        assert (G[F == 0] > 0).all()


@pytest.mark.parametrize("update", SOLVERS)
def test_few_parts_of_a_small_matrix_come_near(update, put, rng, dtype):
    A = put(np.abs(rng.standard_normal((6, 5))), dtype)
    result = nmf(A, 5, update=update, start="nndsvdar", stopping=LONG)
    assert relative(A, result.Z @ result.W) < 0.05


@pytest.mark.parametrize(("update", "beta"), DIVERGENCES)
def test_what_was_made_of_parts_is_made_of_them_again(update, beta, put, rng, dtype):
    """Blocks of equal rows, each from one part."""
    k, n, m = 5, 15, 10
    parts = rng.random((k, m)) * (rng.random((k, m)) < 0.7) + 1e-2
    A = put(np.repeat(parts, n // k, 0), dtype)
    result = nmf(A, k, update=update, beta=beta, stopping=Stopping(2000, 0, 500))
    assert relative(A, result.Z @ result.W) < 0.02


@pytest.mark.parametrize("update", SOLVERS)
def test_codes_of_the_rows_fitted_are_their_codes(update, put, rng):
    A = put(np.abs(rng.standard_normal((6, 5))))
    many = 20000 if update == "multiplicative" else 2000
    fitted = nmf(A, 3, update=update, stopping=Stopping(many, 0, 1000))
    found = transform(A, fitted.W, stopping=LONG)
    assert oracle.error(found.Z, fitted.Z) < 1e-2
    # With fewer parts than rows or columns they make the data that they were made of.
    again = transform(fitted.Z @ fitted.W, fitted.W, stopping=LONG)
    assert oracle.error(again.Z @ again.W, fitted.Z @ fitted.W) < 1e-3


@pytest.mark.parametrize("update", SOLVERS)
def test_more_parts_than_columns(update, put, rng):
    A = put(np.abs(rng.standard_normal((30, 10))))
    assert nmf(A, 15, update=update).Z.shape == (30, 15)


@pytest.mark.parametrize("update", SOLVERS)
def test_l1_makes_more_zeros_or_smaller_entries(update, put, rng):
    A = put(np.abs(rng.standard_normal((6, 5))))
    solve = [nmf(A, 3, update=update, penalty=p, stopping=LONG) for p in (None, Penalty(l1=0.2))]
    small = [sum(int((F < 1e-3 * F.max()).sum()) for F in (r.Z, r.W)) for r in solve]
    assert small[1] > small[0]


@pytest.mark.parametrize("update", SOLVERS)
def test_l2_makes_the_squares_of_both_factors_smaller(update, put, rng):
    A = put(np.abs(rng.standard_normal((6, 5))))
    solve = [nmf(A, 3, update=update, penalty=p, stopping=LONG) for p in (Penalty(l2=1e-3), Penalty(l2=0.2))]
    sizes = [float(r.Z.square().sum() + r.W.square().sum()) for r in solve]
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize(("update", "beta"), DIVERGENCES)
def test_the_objective_falls_at_every_iteration(update, penalty, beta, put, rng):
    A = put(np.abs(rng.standard_normal((20, 15))) + 0.1)
    settings = {"update": update, "beta": beta, "penalty": PENALTIES[penalty], "start": "random"}
    values = nmf(A, 10, stopping=Stopping(30, 0, 1), **settings).objective
    assert all(new <= old * (1 + 1e-12) for old, new in pairwise(values))
    assert values[-1] < values[0]


@pytest.mark.parametrize("beta", [0, 1])
def test_tiny_and_huge_ratios_neither_overflow_nor_make_nan(beta, put, rng, dtype):
    """A start of which a part of the product is far below what there is to fit, and another far above."""
    A = put(10 * np.abs(rng.standard_normal((10, 2))) + 1e-3, dtype)
    Z, W = put(rng.random((10, 2)), dtype), put(rng.random((2, 2)), dtype)
    Z[0], W[0] = 1e-15, 1e-15
    Z[1] = 1e10
    result = nmf(A, 2, beta=beta, start=(Z, W), stopping=Stopping(300, 0, 50))
    assert torch.isfinite(result.Z).all()
    assert torch.isfinite(result.W).all()
    assert result.objective[-1] < result.objective[0]
    assert np.isfinite(result.objective).all()


def test_both_precisions_agree(put, rng):
    A = np.abs(rng.standard_normal((50, 7)))
    for settings in (*({"update": update} for update in SOLVERS), {"beta": 0}, {"beta": 1}):
        single, double = (
            nmf(put(A, dtype), 3, stopping=Stopping(20, 0), **settings)
            for dtype in (torch.float32, torch.float64)
        )
        assert (single.Z.dtype, double.Z.dtype) == (torch.float32, torch.float64)
        assert oracle.error(single.Z @ single.W, double.Z @ double.W) < 1e-3


@pytest.mark.parametrize("beta", [1, 2])
def test_it_does_no_worse_than_scikit_learn(beta, put, rng):
    A = np.abs(rng.standard_normal((30, 20))) + 0.1
    Z, W = rng.random((30, 5)) + 0.1, rng.random((5, 20)) + 0.1
    z, w, _ = non_negative_factorization(
        A, Z.copy(), W.copy(), init="custom", n_components=5, solver="mu", beta_loss=beta, max_iter=200, tol=0
    )
    found = nmf(put(A), 5, beta=beta, start=(put(Z), put(W)), stopping=Stopping(200, 0))
    assert found.objective[-1] <= oracle.divergence(A, z @ w, beta) * 1.001
