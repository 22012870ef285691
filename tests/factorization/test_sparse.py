"""Sparse data: what dense data give, without ever being dense."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import oracle
import pytest
import scipy.sparse
import torch
from sklearn.decomposition import non_negative_factorization
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nmfdnn.errors import ConfigError
from nmfdnn.factorization import (
    OnlineNMF,
    Pair,
    Penalty,
    Result,
    Stopping,
    affine,
    choose_rank,
    nmf,
    nonlinear_semi_nmf,
    semi_nmf,
    transform,
)
from nmfdnn.factorization.divergence import divergence_step
from nmfdnn.factorization.inputs import unit
from nmfdnn.factorization.nmf import SOLVERS
from nmfdnn.factorization.objective import Objective, SparseObjective, smallest_fit
from nmfdnn.factorization.sparse import STRIP, Sparse, given

W = torch.ones(2, 50, dtype=torch.float64) + torch.eye(2, 50, dtype=torch.float64)

pytestmark = pytest.mark.filterwarnings("ignore:Sparse")

FUNCTIONS: dict[str, Callable[..., Result]] = {
    **{
        f"{u} {s}": partial(nmf, update=u, start=s) for u in SOLVERS for s in ("random", "nndsvd", "nndsvdar")
    },
    "on a subsample": partial(nmf, subsample=20),
    **{
        f"semi_nmf {u}{' bias' * bias}": partial(semi_nmf, update=u, bias=bias)
        for u in ("exact", "multiplicative")
        for bias in (False, True)
    },
}
FORMS: dict[str, Callable[[np.ndarray], object]] = {
    **{
        str(layout): lambda A, layout=layout: torch.from_numpy(A).to_sparse(layout=layout)
        for layout in (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)
    },
    **{
        name: getattr(scipy.sparse, name)
        for name in ("csr_array", "coo_array", "csc_matrix", "lil_array", "dok_array")
    },
}


def data(
    rng: np.random.Generator, n: int = 90, m: int = 50, dtype: torch.dtype = torch.float64
) -> np.ndarray:
    """Nonnegative; some rows and columns are zero."""
    A = rng.random((n, m)) * (rng.random((n, m)) < 0.2)
    A[3], A[:, 7] = 0, 0
    return A.astype(str(dtype).removeprefix("torch."))


def fit(result: Result) -> Tensor:
    return affine(result.Z.double(), result.W.double())


@pytest.mark.parametrize("shape", [(90, 50), (30, 120)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_sparse_data_give_what_dense_data_give(name, shape, put, rng, dtype):
    A = put(data(rng, *shape), dtype)
    stopping = Stopping(10, 0, 5)
    plain, found = (FUNCTIONS[name](B, 4, stopping=stopping) for B in (A, A.to_sparse_csr()))
    assert (found.Z.dtype, found.Z.device, found.Z.layout) == (dtype, A.device, torch.strided)
    assert oracle.error(fit(found), fit(plain)) < (1e-3 if dtype == torch.float32 else 1e-9)
    assert found.objective == pytest.approx(plain.objective, rel=1e-5 if dtype == torch.float32 else 1e-12)
    # What is returned belongs to its objective.
    R = A.double() - fit(found)
    assert min(found.objective) == pytest.approx(0.5 * float(R.square().sum()), rel=1e-6)


PENALTY = (Penalty(0.02, 0.01), Penalty(0.0, 0.03))


@pytest.mark.parametrize(
    "function",
    [
        *(partial(nmf, update=update) for update in SOLVERS),
        partial(nmf, subsample=20),
        *(partial(semi_nmf, bias=bias) for bias in (False, True)),
    ],
)
def test_penalties_of_sparse_data_are_those_of_dense_data(function, put, rng, dtype):
    A = put(data(rng), dtype)
    stopping = Stopping(10, 0, 5)
    plain, found = (function(B, 4, penalty=PENALTY, stopping=stopping) for B in (A, A.to_sparse_csr()))
    assert oracle.error(fit(found), fit(plain)) < (1e-3 if dtype == torch.float32 else 1e-9)
    assert found.objective == pytest.approx(plain.objective, rel=1e-5 if dtype == torch.float32 else 1e-12)
    free = function(A.to_sparse_csr(), 4, stopping=stopping)
    assert min(found.objective) > min(free.objective)


@pytest.mark.parametrize("penalty", [None, PENALTY])
@pytest.mark.parametrize("start", ["random", "nndsvda", "nndsvdar"])
@pytest.mark.parametrize("shape", [(90, 50), (30, 120)])
def test_a_divergence_of_sparse_data_is_that_of_dense_data(shape, start, penalty, put, rng, dtype):
    A = put(data(rng, *shape), dtype)
    settings = {"beta": 1, "start": start, "penalty": penalty, "stopping": Stopping(10, 0, 5)}
    plain, found = (nmf(B, 4, **settings) for B in (A, A.to_sparse_csr()))
    assert (found.Z.dtype, found.Z.device, found.Z.layout) == (dtype, A.device, torch.strided)
    limit = 1e-4 if dtype == torch.float32 else 1e-9
    assert oracle.error(found.Z, plain.Z) < limit
    assert oracle.error(found.W, plain.W) < limit
    assert found.objective == pytest.approx(plain.objective, rel=1e-5 if dtype == torch.float32 else 1e-12)
    codes = [transform(B, plain.W, beta=1, stopping=Stopping(10, 0, 5)) for B in (A, A.to_sparse_csr())]
    assert oracle.error(codes[1].Z, codes[0].Z) < limit
    assert codes[1].objective == pytest.approx(codes[0].objective, rel=1e-5)


def some_zero(rng: np.random.Generator, A: np.ndarray, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Factors of which the product is zero at a row, though A is not."""
    Z, W = rng.random((len(A), k)), rng.random((k, A.shape[1]))
    Z[5] = 0
    return Z, W


@pytest.mark.parametrize("levels", [((0.1, 0.2), (0.3, 0.4)), ((0.1, 0.0), (0.3, 0.0)), oracle.FREE])
@pytest.mark.parametrize("beta", [1, 2])
def test_a_step_equals_the_oracle_and_that_of_dense_data(beta, levels, put, rng):
    A = data(rng)
    A[3, 2] = 1  # the oracle divides by the product, which would be zero at a row of zeros
    penalty = tuple(Penalty(*level) for level in levels)
    sparse = SparseObjective(given(put(A).to_sparse_csr()), beta=beta, penalty=penalty)
    Z, W = some_zero(rng, A)
    dense, pair = Objective(put(A), beta=beta, penalty=penalty), Pair(put(Z), put(W))
    assert float(sparse.value(pair)) == pytest.approx(float(dense.value(pair)), rel=1e-13)
    assert sparse.size() == pytest.approx(dense.size(), rel=1e-14)
    found, plain = divergence_step(sparse, pair), divergence_step(dense, pair)
    Z[5] = 1
    positive = Pair(put(Z), put(W))
    expected, there = oracle.fevotte(A, Z, W, beta, penalty=levels), divergence_step(sparse, positive)
    for F, G, H, known in zip(found, plain, there, expected, strict=True):
        assert oracle.error(F, G) < 1e-13
        assert oracle.error(H, known) < 1e-13
    value = oracle.penalised(A, Z, W, beta, penalty=levels)
    assert float(sparse.value(positive)) == pytest.approx(value, rel=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scikit_learn_finds_the_same_factors_of_counts(dtype, rng):
    A = scipy.sparse.csr_array(rng.poisson(3 * data(rng)).astype(dtype))
    Z, W = ((rng.random(shape) + 0.1).astype(dtype) for shape in ((90, 4), (4, 50)))
    settings = {"init": "custom", "n_components": 4, "solver": "mu", "beta_loss": 1, "max_iter": 30, "tol": 0}
    expected = non_negative_factorization(A, Z.copy(), W.copy(), **settings)
    pair = torch.from_numpy(Z), torch.from_numpy(W)
    found = nmf(A, 4, beta=1, start=pair, stopping=Stopping(30, 0, 30))
    limit = 1e-3 if dtype == np.float32 else 1e-6  # it sets small factors to zero and adds ε to denominators
    assert oracle.error(found.Z, expected[0]) < limit
    assert oracle.error(found.W, expected[1]) < limit


def test_zeros_may_be_stored(rng):
    A, stored = data(rng), rng.random((90, 50)) < 0.4
    places = np.nonzero((A > 0) | stored)
    B = scipy.sparse.coo_array((A[places], places), A.shape).tocsr()
    assert B.nnz > np.count_nonzero(A)
    for settings in ({"beta": 1}, {"beta": 1, "penalty": PENALTY}, {"beta": 2}):
        plain, found = (nmf(X, 4, stopping=Stopping(10, 0, 5), **settings) for X in (torch.from_numpy(A), B))
        assert oracle.error(fit(found), fit(plain)) < 1e-9
        assert found.objective == pytest.approx(plain.objective, rel=1e-12)


def test_a_stream_takes_what_it_is_given(put, rng):
    A = put(data(rng))
    few = {"batch": 40, "start": "nndsvd"}
    plain, found = (OnlineNMF(4, **few).fit([B, B]) for B in (A, A.to_sparse_csr()))
    assert oracle.error(found.W, plain.W) < 1e-9
    assert found.objective == pytest.approx(plain.objective, rel=1e-9)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("function", "settings", "what"),
    [
        (nmf, {"weights": torch.ones(90, 50, dtype=torch.float64)}, "weights"),
        (nmf, {"missing": "nan"}, "missing"),
        (semi_nmf, {"missing": "nan"}, "missing"),
        (lambda A, k, **settings: transform(A, W, **settings), {"missing": "nan"}, "missing"),
    ],
)
def test_the_remedy_works_where_sparse_data_will_not_do(form, function, settings, what, rng):
    A = FORMS[form](data(rng))
    with pytest.raises(ConfigError, match=f"A must be dense for {what}, got .*: convert it with ") as error:
        function(A, 2, **settings)
    remedy = re.search("convert it with (.*)$", str(error.value)).group(1)
    converted = eval(remedy, {"A": A, "torch": torch})
    result = function(converted, 2, stopping=Stopping(3, 0, 3), **settings)
    assert result.objective[-1] < result.objective[0]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("function", [nmf, lambda A, k, **settings: transform(A, W, **settings)])
def test_relative_errors_of_zeros_have_a_remedy(form, function, rng):
    A = FORMS[form](data(rng))
    few = Stopping(3, 0, 3)
    with pytest.raises(
        ConfigError, match=r"A has zeros where nothing is stored, .*: use beta=1, or"
    ) as error:
        function(A, 2, beta=0)
    function(A, 2, beta=1, stopping=few)
    dense, weights = re.search(
        "convert it with (.*) and let .* with weights=(.*)$", str(error.value)
    ).groups()
    A = eval(dense, {"A": A, "torch": torch})
    result = function(A, 2, beta=0, weights=eval(weights, {"A": A}), stopping=few)
    assert result.objective[-1] < result.objective[0]


@pytest.mark.parametrize("form", ["torch.sparse_csr", "csr_array"])
def test_ranks_are_chosen_on_dense_data(form, rng):
    A = FORMS[form](data(rng))
    with pytest.raises(ConfigError, match=r"A must be .*, got .*: convert it with ") as error:
        choose_rank(A, [1, 2])
    remedy = re.search("convert it with (.*)$", str(error.value)).group(1)
    A = eval(remedy, {"A": A, "torch": torch, "numpy": np})
    assert choose_rank(A, [1, 2], folds=2, stopping=Stopping(5, 0)).rank in (1, 2)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_taken_and_left_alone(form, rng):
    A = data(rng)
    B = FORMS[form](A)
    plain = nmf(torch.from_numpy(A), 4, stopping=Stopping(5, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = nmf(B, 4, stopping=Stopping(5, 0))
    assert oracle.error(fit(found), fit(plain)) < 1e-10
    assert np.array_equal(B.to_dense().numpy() if isinstance(B, Tensor) else B.toarray(), A)
    for beta in (1, 2):
        codes = [transform(X, found.W, beta=beta).Z for X in (torch.from_numpy(A), B)]
        assert oracle.error(codes[1], codes[0]) < 1e-10
    counted = [nmf(X, 4, beta=1, stopping=Stopping(5, 0)) for X in (torch.from_numpy(A), B)]
    assert oracle.error(fit(counted[1]), fit(counted[0])) < 1e-10
    assert oracle.error(fit(semi_nmf(B, 4)), fit(semi_nmf(torch.from_numpy(A), 4))) < 1e-8


@pytest.mark.parametrize("bias", [False, True])
def test_the_seam_equals_the_dense_matrix(bias, put, rng, dtype):
    A = put(data(rng), dtype)
    b = put(rng.random(50), dtype)
    S = given(A.to_sparse_csr())
    D, S = (A - b, S - b) if bias else (A, S)
    X, Y = put(rng.standard_normal((50, 3)), dtype), put(rng.standard_normal((3, 90)), dtype)
    eps = 1e-5 if dtype == torch.float32 else 1e-13
    for found, expected in ((S @ X, D @ X), (Y @ S, Y @ D), (S.T @ Y.T, D.T @ Y.T), (X.T @ S.T, X.T @ D.T)):
        assert oracle.error(found, expected) < eps
    assert (S.shape, S.T.shape, len(S), len(S.T)) == ((90, 50), (50, 90), 90, 50)
    if bias:
        return
    rows = torch.tensor([5, 3, 88, 5], device=A.device)
    for part in (rows, slice(2)):
        assert torch.equal(S[part] @ torch.eye(50, dtype=dtype, device=A.device), D[part])
        assert torch.equal(S[part].T @ torch.eye(len(D[part]), dtype=dtype, device=A.device), D[part].T)
    for dim in (0, 1):
        assert oracle.error(S.sum(dim), D.sum(dim)) < eps
        assert oracle.error(S.T.sum(dim), D.T.sum(dim)) < eps
    Z, V = (put(rng.random(shape), dtype) for shape in ((90, 3), (3, 50)))
    expected = D / (Z @ V).clamp_min(0.7)
    assert oracle.error(S.ratio(Z, V, 0.7) @ X, expected @ X) < eps
    assert oracle.error(S.T.ratio(V.T, Z.T, 0.7) @ Y.T, expected.T @ Y.T) < eps
    assert float(S.sum()) == pytest.approx(float(D.sum()), rel=eps)
    assert (S.max(), (S / -1.0).max(), (S / -1.0).aminmax()[0]) == (D.max(), 0, -D.max())
    assert float(S.square().sum()) == pytest.approx(float(D.square().sum()), rel=eps)


@pytest.mark.parametrize("beta", [1, 2])
def test_entries_given_twice_are_added(beta, rng):
    A = data(rng)
    half = scipy.sparse.coo_array(A / 2)
    row, column = (np.concatenate([part, part[::-1]]) for part in half.coords)
    values = np.concatenate([half.data, half.data[::-1]])
    order = np.argsort(row, kind="stable")
    crow = np.searchsorted(row[order], np.arange(len(A) + 1))
    indices = torch.from_numpy(np.stack([row, column]))
    given_twice = [
        torch.sparse_coo_tensor(indices, torch.from_numpy(values), A.shape),
        torch.sparse_csr_tensor(
            torch.from_numpy(crow), torch.from_numpy(column[order]), torch.from_numpy(values[order]), A.shape
        ),
        scipy.sparse.coo_array((values, (row, column)), A.shape),
        scipy.sparse.csr_array((values[order], column[order], crow), A.shape),
    ]
    before = given_twice[3].data.copy()
    plain = nmf(torch.from_numpy(A), 3, beta=beta, stopping=Stopping(4, 0))
    for B in given_twice:
        found = nmf(B, 3, beta=beta, stopping=Stopping(4, 0))
        assert found.objective == pytest.approx(plain.objective, rel=1e-12)
    assert np.array_equal(given_twice[3].data, before)


@pytest.mark.parametrize(
    "settings",
    [
        *({"update": update} for update in SOLVERS),
        {"update": "multiplicative", "penalty": PENALTY},
        {"beta": 1},
        {"beta": 1, "penalty": PENALTY},
    ],
)
@pytest.mark.parametrize("scale", [1e-15, 1, 1e15])
def test_objective_never_rises_in_any_unit(settings, scale, put, rng, dtype):
    A = put(scale * data(rng), dtype).to_sparse_csr()
    result = nmf(A, 6, stopping=Stopping(40, 0, 1), **settings)
    size = float((A.values().double() ** settings.get("beta", 2)).sum())
    rounding = 10 * torch.finfo(dtype).eps * size
    assert all(after <= before + rounding for before, after in pairwise(result.objective))
    plain = nmf(A.to_dense(), 6, stopping=Stopping(40, 0, 1), **settings)
    assert result.objective == pytest.approx(plain.objective, rel=1e-3)


def test_an_exact_fit_is_seen_to_the_precision_that_is_promised(put, rng, dtype):
    """½‖A − ZW‖² is known to 1e-15‖A‖², in both types: no cancellation in float32."""
    Z, W = (rng.random(s) * (rng.random(s) < 0.3) for s in ((300, 4), (4, 60)))
    A = put(Z @ W, dtype)
    S, size = given(A.to_sparse_csr()), float(A.double().square().sum())
    for far in (1.0, 1 + 1e-4, 1 - 1e-4):
        near = put(far * Z, dtype)
        expected = 0.5 * float((A.double() - near.double() @ put(W, dtype).double()).square().sum())
        assert abs(float(S.half_distance(near, put(W, dtype))) - expected) < S.rounding * size
    result = nmf(A.to_sparse_csr(), 4, start=(put(Z, dtype), put(W, dtype)), stopping=Stopping(100, 1e-9, 1))
    # In float32 the data themselves are rounded: Z, W and each entry by ε/2.
    limit = 1e-13 if dtype == torch.float32 else 1e-15
    assert 0 <= result.objective[0] < limit * size
    assert (result.ended, result.iterations < 100) == ("converged", True)


def test_a_divergence_is_seen_to_the_precision_that_is_promised(put, rng, dtype):
    Z, W = (rng.random(s) * (rng.random(s) < 0.3) for s in ((300, 4), (4, 60)))
    A = put(Z @ W, dtype)
    S, size, least = given(A.to_sparse_csr()), float(A.double().sum()), smallest_fit(dtype, 1)
    for far in (1.0, 1 + 1e-4, 1 - 1e-4):
        near = put(far * Z, dtype)
        B = near.double() @ put(W, dtype).double()
        D = torch.xlogy(A.double(), A / B.clamp_min(least)) - A + B  # entry by entry: nothing else cancels
        assert abs(float(S.divergence(near, put(W, dtype), least)) - float(D.sum())) < S.rounding * size


def test_rounding_of_the_objective_is_no_rise(monkeypatch, rng):
    A = torch.from_numpy(data(rng)).to_sparse_csr()
    half = 0.5 * A.values().square().sum()
    values = iter([1e-3, 1e-16, 3e-16, 5e-16, 7e-16, 9e-16])
    # The unit is a power of two, and this is in it.
    scale = half / unit(A.to_dense()) ** 2
    monkeypatch.setattr(Sparse, "half_distance", lambda self, Z, W: scale * next(values))
    result = nmf(A, 2, start="random", stopping=Stopping(5, 1e-9, 1))
    assert (result.ended, len(result.objective)) == ("converged", 3)


def test_the_objective_of_more_rows_than_a_strip(put, rng):
    n = STRIP + 100
    A = scipy.sparse.random_array((n, 30), density=0.05, rng=rng, format="csr")
    Z, W = rng.random((n, 3)), rng.standard_normal((4, 30))
    found = given(A).half_distance(torch.from_numpy(Z), torch.from_numpy(W))
    expected = 0.5 * np.sum((A.toarray() - oracle.hat(Z, True) @ W) ** 2)
    assert float(found) == pytest.approx(expected, rel=1e-12)
    W = rng.random((3, 30))
    found = given(A).divergence(torch.from_numpy(Z), torch.from_numpy(W), smallest_fit(torch.float64, 1))
    assert float(found) == pytest.approx(oracle.divergence(A.toarray(), Z @ W, 1), rel=1e-12)


class Large(TorchDispatchMode):
    """Notes the most entries that any dense tensor has, and functions that make sparse ones dense."""

    most = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        assert "to_dense" not in str(function)
        found = function(*arguments, **(keywords or {}))
        sizes = [T.numel() for T in tree_leaves(found) if isinstance(T, Tensor) and T.layout == torch.strided]
        self.most = max(self.most, *sizes, 0)
        return found


@pytest.mark.parametrize(
    "function",
    [
        nmf,
        partial(nmf, update="multiplicative"),
        partial(nmf, penalty=PENALTY),
        partial(nmf, update="multiplicative", penalty=PENALTY),
        partial(nmf, beta=1),
        partial(nmf, beta=1, start="random", penalty=PENALTY),
        partial(semi_nmf, penalty=PENALTY),
        partial(nmf, start="random", subsample=0),
        semi_nmf,
        partial(semi_nmf, bias=True),
        lambda A, k, **s: transform(A, torch.ones(k, A.shape[1]), **s),
        lambda A, k, **s: transform(A, 1 + torch.eye(k, A.shape[1]), beta=1, **s),
    ],
)
def test_data_are_never_dense(function):
    """Dense, these would be 80 GB; factors of rank 3, and the SVD's 13 vectors, have 2.6 million entries."""
    n, m = 200_000, 100_000
    g = torch.Generator().manual_seed(0)
    places = torch.stack([torch.randint(size, (50_000,), generator=g) for size in (n, m)])
    A = torch.sparse_coo_tensor(places, torch.rand(50_000, generator=g), (n, m))
    with Large() as large:
        result = function(A, 3, stopping=Stopping(2, 0, 1))
    assert 3 * n <= large.most <= 20 * n
    assert result.objective[-1] <= result.objective[0]


def test_a_step_makes_nothing_larger_than_what_is_stored(put, rng):
    A = put(data(rng, 400, 300))
    goal = SparseObjective(given(A.to_sparse_csr()), beta=1)
    pair = Pair(put(rng.random((400, 20))), put(rng.random((20, 300))))
    with Large() as large:
        goal.value(divergence_step(goal, pair))
    assert large.most == torch.count_nonzero(A) < A.numel() / 3


def test_nothing_but_zeros(device, dtype):
    A = torch.zeros(20, 10, dtype=dtype, device=device).to_sparse_csr()
    start = partial(nmf, start="random")
    for function in (
        *(nmf, semi_nmf, partial(semi_nmf, bias=True), start),
        *(partial(start, beta=1), partial(start, update="multiplicative", penalty=PENALTY)),
    ):
        result = function(A, 3)
        assert torch.isfinite(result.Z).all()
        assert float(fit(result).norm()) < 1e-6


def with_entry(value: float) -> Tensor:
    A = torch.eye(5, 4)
    A[2, 1] = value
    return A


@pytest.mark.parametrize(
    ("A", "message"),
    [
        (with_entry(float("nan")).to_sparse_csr(), "A holds NaN or infinite"),
        (scipy.sparse.csr_array(with_entry(float("inf")).numpy()), "A holds NaN or infinite"),
        (with_entry(-1).to_sparse_coo(), "A has negative entries: .*semi_nmf"),
        (torch.zeros(0, 4).to_sparse_coo(), r"A must be a non-empty matrix .*\(0, 4\)"),
        (torch.zeros(2, 3, 4).to_sparse_coo(), r"A must be a non-empty matrix .*\(2, 3, 4\)"),
    ],
)
def test_what_is_refused(A, message):
    with pytest.raises(ConfigError, match=message):
        nmf(A, 2)


@pytest.mark.parametrize(
    ("function", "A"),
    [
        (nonlinear_semi_nmf, torch.eye(5).to_sparse_csr()),
        (nonlinear_semi_nmf, torch.eye(5).to_sparse_coo()),
        (nonlinear_semi_nmf, scipy.sparse.eye_array(5)),
        (nmf, scipy.sparse.eye_array(5, dtype="int64")),
        (nmf, scipy.sparse.eye_array(5, dtype="bool")),
        (nmf, torch.eye(5).half().to_sparse_csr()),
        (nmf, torch.eye(5).long().to_sparse_csr()),
        (nmf, torch.eye(5).bool().to_sparse_coo()),
        (nmf, torch.eye(6).to_sparse_bsr((2, 2))),
    ],
)
def test_remedies_work(function, A):
    with pytest.raises(ConfigError, match=r"^A must be .*, got .*: convert it with ") as error:
        function(A, 2)
    remedy = re.search("convert it with (.*)$", str(error.value)).group(1)
    converted = eval(remedy, {"A": A, "torch": torch, "numpy": np})
    assert function(converted, 2).objective[-1] > 0
