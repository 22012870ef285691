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
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nmfdnn.errors import ConfigError
from nmfdnn.factorization import (
    OnlineNMF,
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
from nmfdnn.factorization.inputs import unit
from nmfdnn.factorization.nmf import SOLVERS
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
        *(partial(nmf, update=update) for update in ("accelerated", "hals")),
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
        (nmf, {"beta": 1}, "beta < 2"),
        (semi_nmf, {"missing": "nan"}, "missing"),
        (lambda A, k, **settings: transform(A, W, **settings), {"beta": 1}, "beta < 2"),
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


def test_multiplicative_updates_with_penalties_are_for_dense_data(rng):
    A = torch.from_numpy(data(rng)).to_sparse_csr()
    message = "update must be another one with penalties and sparse A, got 'multiplicative'"
    with pytest.raises(ConfigError, match=message):
        nmf(A, 2, update="multiplicative", penalty=PENALTY)


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
    codes = [transform(X, found.W).Z for X in (torch.from_numpy(A), B)]
    assert oracle.error(codes[1], codes[0]) < 1e-10
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
    assert oracle.error(S.sum(0), D.sum(0)) < eps
    assert float(S.sum()) == pytest.approx(float(D.sum()), rel=eps)
    assert (S.max(), (S / -1.0).max(), (S / -1.0).aminmax()[0]) == (D.max(), 0, -D.max())
    assert float(S.square().sum()) == pytest.approx(float(D.square().sum()), rel=eps)


def test_entries_given_twice_are_added(rng):
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
    plain = nmf(torch.from_numpy(A), 3, stopping=Stopping(4, 0))
    for B in given_twice:
        found = nmf(B, 3, stopping=Stopping(4, 0))
        assert found.objective == pytest.approx(plain.objective, rel=1e-12)
    assert np.array_equal(given_twice[3].data, before)


@pytest.mark.parametrize("update", SOLVERS)
@pytest.mark.parametrize("scale", [1e-15, 1, 1e15])
def test_objective_never_rises_in_any_unit(update, scale, put, rng, dtype):
    A = put(scale * data(rng), dtype).to_sparse_csr()
    result = nmf(A, 6, update=update, stopping=Stopping(40, 0, 1))
    size = float(A.values().double().square().sum())
    rounding = 10 * torch.finfo(dtype).eps * size
    assert all(after <= before + rounding for before, after in pairwise(result.objective))
    plain = nmf(A.to_dense(), 6, update=update, stopping=Stopping(40, 0, 1))
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
        partial(semi_nmf, penalty=PENALTY),
        partial(nmf, start="random", subsample=0),
        semi_nmf,
        partial(semi_nmf, bias=True),
        lambda A, k, **s: transform(A, torch.ones(k, A.shape[1]), **s),
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


def test_nothing_but_zeros(device, dtype):
    A = torch.zeros(20, 10, dtype=dtype, device=device).to_sparse_csr()
    for function in (nmf, semi_nmf, partial(semi_nmf, bias=True), partial(nmf, start="random")):
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
