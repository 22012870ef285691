"""NMF: single steps against the oracle and scikit-learn, and what the updates promise."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import oracle
import pytest
import torch
from sklearn.decomposition import non_negative_factorization
from sklearn.decomposition._nmf import _initialize_nmf
from torch import Tensor

from nmfdnn.errors import ConfigError
from nmfdnn.factorization import Accelerated, Objective, Pair, Stopping, hals_step, multiplicative_step, nmf
from nmfdnn.factorization.nmf import SOLVERS

STEPS = {"multiplicative": (multiplicative_step, oracle.lee_seung), "hals": (hals_step, oracle.hals)}
STARTS = ["random", "nndsvd", "nndsvda", "nndsvdar"]


def factors(rng: np.random.Generator, n: int, k: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.random((n, k)), rng.random((k, m))


def relative_residual(A: Tensor, Z: Tensor, W: Tensor) -> float:
    return float((A - Z @ W).norm() / A.norm())


def laurberg(alpha: float) -> np.ndarray:
    """W (3 × 6) of A = WᵀW, whose NMF is unique for α = 0.1 and 0.3 (Laurberg et al. 2008, eq. 9)."""
    a = alpha
    return np.array([[a, 1, 1, a, 0, 0], [1, a, 0, 0, a, 1], [0, 0, a, 1, 1, a]])


@pytest.mark.parametrize("shape", [(12, 3, 7), (7, 3, 12), (9, 1, 5), (6, 6, 6), (4, 7, 5)])
@pytest.mark.parametrize("update", STEPS)
def test_step_equals_oracle(update, shape, put, rng):
    step, expected_step = STEPS[update]
    A = rng.random((shape[0], shape[2]))
    Z, W = factors(rng, *shape)
    found = step(put(A), Pair(put(Z), put(W)))
    expected = expected_step(A, Z, W)
    assert oracle.error(found.Z, expected[0]) < 1e-10
    assert oracle.error(found.W, expected[1]) < 1e-10


@pytest.mark.parametrize("update", STEPS)
def test_a_step_leaves_its_arguments_alone(update, put, rng):
    A, (Z, W) = put(rng.random((8, 5))), factors(rng, 8, 3, 5)
    pair = Pair(put(Z), put(W))
    STEPS[update][0](A, pair)
    assert torch.equal(pair.Z, put(Z))
    assert torch.equal(pair.W, put(W))


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("update", SOLVERS)
def test_objective_never_rises_and_factors_stay_nonnegative(update, start, put, rng, dtype):
    A = put(rng.random((30, 20)) * (rng.random((30, 20)) < 0.7), dtype)
    result = nmf(A, 6, update=update, start=start, stopping=Stopping(60, 0, 1))
    # The residual is rounded by ε‖A‖, so the objective by ε‖A‖‖A − ZW‖.
    rounding = 10 * torch.finfo(dtype).eps * float(A.square().sum())
    assert len(result.objective) == 61
    assert all(after <= before + rounding for before, after in pairwise(result.objective))
    assert result.objective[-1] < 0.9 * result.objective[0]
    for F in (result.Z, result.W):
        assert torch.isfinite(F).all()
        assert (F >= 0).all()


@pytest.mark.parametrize(
    ("update", "iterations", "limit"),
    [("accelerated", 300, 1e-3), ("hals", 1500, 1e-3), ("multiplicative", 1500, 2e-2)],
)
@pytest.mark.parametrize("start", ["random", "nndsvda"])
def test_planted_factors_are_fitted(update, iterations, limit, start, put, rng, dtype):
    Z, W = factors(rng, 30, 4, 20)
    A = put(Z @ W, dtype)
    result = nmf(A, 4, update=update, start=start, stopping=Stopping(iterations, 0, 100))
    assert relative_residual(A, result.Z, result.W) < limit


@pytest.mark.parametrize("alpha", [0.1, 0.3])
@pytest.mark.parametrize("update", ["accelerated", "hals"])
@pytest.mark.parametrize("seed", range(4))
def test_unique_factors_of_laurbergs_problem_are_found(alpha, seed, update, put, device, dtype):
    planted = laurberg(alpha)
    A = put(planted.T @ planted, dtype)
    result = nmf(
        A,
        3,
        update=update,
        start="random",
        generator=torch.Generator(device).manual_seed(seed),
        stopping=Stopping(800, 0, 100),
    )
    Z, W = oracle.array(result.Z), oracle.array(result.W)
    scale = np.linalg.norm(W, axis=1)
    W, Z = W / scale[:, None], Z * scale
    norm = np.linalg.norm(planted, axis=1)
    order = (W @ planted.T / norm).argmax(axis=0)
    assert sorted(order) == [0, 1, 2]
    # The residual falls linearly, to rounding; a factor error is at most about √ε-free: κ(W) ε.
    limit = 1e-4 if dtype == torch.float32 else 1e-8
    assert np.abs(W[order] - planted / norm[:, None]).max() < limit
    assert np.abs(Z[:, order] - planted.T * norm).max() < limit


@pytest.mark.parametrize(("update", "solver"), [("multiplicative", "mu"), ("hals", "cd")])
@pytest.mark.parametrize("iterations", [1, 50])
def test_scikit_learn_finds_the_same_factors(update, solver, iterations, put, rng):
    A = rng.random((25, 15)) + 0.01
    Z, W = factors(rng, 25, 4, 15)
    expected = non_negative_factorization(
        A, Z.copy(), W.copy(), init="custom", n_components=4, solver=solver, max_iter=iterations, tol=0
    )
    start = (put(Z), put(W))
    result = nmf(put(A), 4, update=update, start=start, stopping=Stopping(iterations, 0, iterations))
    # Same updates in the same order, so only rounding, and ε in the denominators, grows over 50 iterations.
    assert oracle.error(result.Z, expected[0]) < 1e-8
    assert oracle.error(result.W, expected[1]) < 1e-8


@pytest.mark.parametrize("start", ["nndsvd", "nndsvda"])
@pytest.mark.parametrize("sparse", [False, True])
def test_nndsvd_equals_scikit_learn(start, sparse, put, rng):
    A = rng.random((12, 9)) * (rng.random((12, 9)) < 0.5 if sparse else 1)
    # Ten extra samples in the randomised SVD make it exact for nine columns. Its fill is the mean in the unit
    # of A, ours in that of the factors: they are the same where the largest entry is one.
    A /= A.max()
    expected = _initialize_nmf(A, 5, init=start, random_state=0)
    for scale in (1, 700):
        found = nmf(put(scale * A), 5, start=start, stopping=Stopping(0))
        assert oracle.error(found.Z, scale**0.5 * expected[0]) < 1e-6
        assert oracle.error(found.W, scale**0.5 * expected[1]) < 1e-6
    if start == "nndsvd":
        assert (oracle.array(found.Z) == 0).sum() == (expected[0] == 0).sum() > 0
    else:
        assert (found.Z > 0).all()


def test_nndsvdar_fills_the_zeros_of_nndsvd_with_small_values(put, rng, dtype):
    A = put(rng.random((12, 9)), dtype)
    plain, filled = (nmf(A, 5, start=start, stopping=Stopping(0)) for start in ("nndsvd", "nndsvdar"))
    zeros = plain.Z == 0
    assert zeros.any()
    assert torch.equal(plain.Z[~zeros], filled.Z[~zeros])
    assert filled.Z[zeros].max() < A.mean() / 100
    assert filled.Z[zeros].unique().numel() > 1


def test_random_start_has_the_mean_of_the_data(put, rng, dtype):
    A = put(5 * rng.random((200, 100)), dtype)
    result = nmf(A, 10, start="random", stopping=Stopping(0))
    assert float((result.Z @ result.W).mean()) == pytest.approx(float(A.mean()), rel=0.1)


@pytest.mark.parametrize("update", SOLVERS)
def test_order_of_samples_does_not_matter(update, put, rng):
    A, (Z, W) = put(rng.random((20, 8))), factors(rng, 20, 3, 8)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0)).to(A.device)
    stopping = Stopping(20, 0)
    plain = nmf(A, 3, update=update, start=(put(Z), put(W)), stopping=stopping)
    moved = nmf(A[order], 3, update=update, start=(put(Z)[order], put(W)), stopping=stopping)
    assert oracle.error(moved.Z, plain.Z[order]) < 1e-10
    assert oracle.error(moved.W, plain.W) < 1e-10


@pytest.mark.parametrize("update", STEPS)
def test_a_given_start_is_continued(update, put, rng):
    A, (Z, W) = put(rng.random((20, 8))), factors(rng, 20, 3, 8)
    half = nmf(A, 3, update=update, start=(put(Z), put(W)), stopping=Stopping(4, 0))
    rest = nmf(A, 3, update=update, start=(half.Z, half.W), stopping=Stopping(6, 0))
    whole = nmf(A, 3, update=update, start=(put(Z), put(W)), stopping=Stopping(10, 0))
    assert torch.equal(rest.Z, whole.Z)
    assert torch.equal(rest.W, whole.W)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("update", SOLVERS)
def test_empty_rows_columns_and_zero_data(update, start, put, rng, dtype):
    A = rng.random((10, 8))
    A[2], A[:, 5] = 0, 0
    for data in (A, np.zeros((10, 8))):
        result = nmf(put(data, dtype), 3, update=update, start=start, stopping=Stopping(30, 0))
        fit = result.Z @ result.W
        assert torch.isfinite(fit).all()
        assert float(fit[2].abs().max()) < 1e-3
        assert float(fit[:, 5].abs().max()) < 1e-3


@pytest.mark.parametrize("update", ["accelerated", "hals"])
def test_a_dead_part_stays_finite(update, put, rng, dtype):
    A, (Z, W) = put(rng.random((10, 8)), dtype), factors(rng, 10, 3, 8)
    Z[:, 1], W[1] = 0, 0
    result = nmf(A, 3, update=update, start=(put(Z, dtype), put(W, dtype)), stopping=Stopping(20, 0))
    assert torch.isfinite(result.Z).all()
    assert torch.isfinite(result.W).all()
    assert result.objective[-1] < result.objective[0]


def test_the_accelerated_steps_equal_the_oracle(put, rng):
    A, (Z, W) = rng.random((40, 30)), factors(rng, 40, 5, 30)
    step, pair = Accelerated(4).steps(Objective(put(A))), Pair(put(Z), put(W))
    expected = oracle.accelerated_hals(A, Z, W, 4, 60)
    assert 0 < sum(not taken for _, _, taken in expected) < 20
    for Z, W, _ in expected:
        pair = step(pair)
        assert oracle.error(pair.Z, Z) < 1e-8
        assert oracle.error(pair.W, W) < 1e-8


def test_the_accelerated_update_falls_faster_than_hals(put, rng):
    A = put(rng.random((60, 40)))
    values = {
        update: nmf(A, 10, update=update, start="random", stopping=Stopping(30, 0, 1)).objective
        for update in ("accelerated", "hals")
    }
    assert values["accelerated"][15] < values["hals"][30]


def test_a_subsample_starts_near_the_end(put, rng, dtype):
    Z, W = factors(rng, 400, 4, 20)
    A = put(Z @ W + 0.01 * rng.random((400, 20)), dtype)
    whole, few = (nmf(A, 4, start="random", subsample=s, stopping=Stopping(0)).objective[0] for s in (0, 50))
    assert few < 0.05 * whole
    again = nmf(A, 4, start="random", subsample=50, stopping=Stopping(0)).objective[0]
    assert again == few
    for other in (201, 1000):  # needs twice as many rows
        assert nmf(A, 4, start="random", subsample=other, stopping=Stopping(0)).objective[0] == whole


def test_a_subsample_that_misses_features_is_mended(put):
    """Rows of the second kind, which are rare, are in no subsample of four."""
    A = torch.zeros(200, 6)
    A[:198, :3], A[198:, 3:] = 1, 5
    A = put(A.numpy())
    result = nmf(A, 2, start="random", subsample=2, stopping=Stopping(200, 0))
    assert relative_residual(A, result.Z, result.W) < 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subsample": -1}, "subsample must be an integer ≥ 0"),
        (
            {"update": "als"},
            r"update must be one of accelerated, hals, multiplicative, or a solver: .*, got 'als'",
        ),
        ({"update": 3}, r"update must be one of .*, or a solver: .* steps\(goal\), got 3"),
        ({"start": "zeros"}, r"start must be a pair \(Z, W\) or one of random, nndsvd"),
        ({"A": -torch.ones(6, 4)}, "A has negative entries.*semi_nmf"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        nmf(**({"A": torch.ones(6, 4), "rank": 2} | arguments))
