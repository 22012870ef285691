"""What holds for every factorization and any data: sizes, signs, units, rounding, repetition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from nmfdnn.factorization import (
    Alternation,
    Latent,
    OnlineNMF,
    Penalty,
    Regularisation,
    Result,
    Stopping,
    affine,
    nmf,
    nonlinear_least_squares,
    nonlinear_semi_nmf,
    nonlinear_transform,
    semi_nmf,
    transform,
)
from nmfdnn.factorization.objective import Objective

STOPPING = Stopping(5, 0, 1)
SIDE = 6


@dataclass(frozen=True)
class Problem:
    """A (n × m) as it is given, how much its entries count, a rank, and the power of 4 that its unit is."""

    A: Tensor
    V: Tensor
    rank: int
    power: int


@st.composite
def problems(draw: st.DrawFn, signed: bool) -> Problem:
    n, m = draw(st.integers(1, SIDE)), draw(st.integers(1, SIDE))
    entry = st.floats(-1 if signed else 0, 1, width=16, allow_subnormal=False)
    A = draw(arrays(np.float64, (n, m), elements=entry))
    V = draw(arrays(np.float64, (n, m), elements=st.sampled_from([0.0, 0.25, 1.0, 1.0])))
    V[draw(st.integers(0, n - 1)), draw(st.integers(0, m - 1))] = 1
    for line in (A, A.T):
        i, j = draw(st.integers(0, len(line) - 1)), draw(st.integers(0, len(line) - 1))
        line[i] = draw(st.sampled_from([line[i], 0 * line[i], line[j]]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    given_ = torch.tensor(A, dtype=dtype)
    match draw(st.sampled_from(["plain", "transposed", "strided"])):
        case "transposed":
            given_ = given_.T.contiguous().T
        case "strided":
            wide = torch.full((2 * n, 3 * m), torch.nan, dtype=dtype)
            wide[::2, ::3] = given_
            given_ = wide[::2, ::3]
    rank, power = draw(st.integers(1, SIDE + 2)), draw(st.integers(-33, 33))  # 1e-20 to 1e20
    return Problem(given_, torch.tensor(V, dtype=dtype), rank, power)


def pattern(A: Tensor, n: int, m: int) -> Tensor:
    """Numbers n × m from 0 to 6/8, of the type of A."""
    return (torch.arange(1.0, n * m + 1).view(n, m) % 7 / 8).to(A)


def given_weights(A: Tensor, rank: int, share: float = 1) -> Tensor:
    """W, of which the unit is that of A, or its power `share`."""
    return A.abs().max() ** share * pattern(A, rank, A.shape[1])


def given_pair(A: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Z and W, of which Z has no unit."""
    return pattern(A, len(A), rank), given_weights(A, rank)


def online(A: Tensor, rank: int, V: Tensor) -> Result:
    """Codes for the W of a stream, which must not be all zeros."""
    W = OnlineNMF(rank).fit(A.split(2), 2).W if A.any() else given_weights(A, rank)
    return transform(A, W, stopping=STOPPING)


@dataclass(frozen=True)
class Case:
    """A factorization: its objective, and the share that its codes have in the unit of A."""

    run: Callable[[Tensor, int, Tensor], Result]
    signed: bool = False
    share: float = 0.5
    beta: int = 2
    weighted: bool = False
    relu: bool = False
    monotone: bool = True
    penalised: bool = False
    ridge: bool = False


def case(function: Callable[..., Result], signed: bool = False, **more: object) -> Case:
    """A function of A and a rank, or with `weighted` of weights, too."""
    if more.get("weighted"):
        return Case(lambda A, rank, V: function(A, rank, weights=V, stopping=STOPPING), signed, **more)
    return Case(lambda A, rank, V: function(A, rank, stopping=STOPPING), signed, **more)


BOTH, RIDGE = Penalty(0.05, 0.05), (Penalty(0.05, 0.05), Penalty(l2=0.05))
RIDGES = Regularisation(weight_ridge=0.05, code_ridge=0.05)
SEMI = {"signed": True, "share": 0}
CASES = {
    **{
        f"nmf {update} {start}": case(partial(nmf, update=update, start=start))
        for update, start in (
            ("accelerated", "nndsvda"),
            ("accelerated", "random"),
            ("hals", "nndsvd"),
            ("multiplicative", "nndsvdar"),
        )
    },
    "nmf subsample": case(partial(nmf, subsample=2)),
    "nmf penalty": case(partial(nmf, penalty=BOTH), penalised=True),
    "nmf weights": case(nmf, weighted=True),
    "nmf weights, penalty": case(partial(nmf, penalty=BOTH), weighted=True, penalised=True),
    "nmf Kullback & Leibler": case(partial(nmf, beta=1), beta=1),
    "nmf Kullback & Leibler, penalty": case(partial(nmf, beta=1, penalty=BOTH), beta=1, penalised=True),
    "nmf Itakura & Saito": case(partial(nmf, beta=0), beta=0, weighted=True),
    "nmf multiplicative weights": case(partial(nmf, update="multiplicative"), weighted=True),
    "semi": case(semi_nmf, **SEMI),
    "semi bias": case(partial(semi_nmf, bias=True), **SEMI),
    "semi multiplicative": case(partial(semi_nmf, update="multiplicative"), **SEMI),
    "semi penalty": case(partial(semi_nmf, penalty=RIDGE), penalised=True, **SEMI),
    "semi weights": case(semi_nmf, weighted=True, **SEMI),
    "semi weights, bias": case(partial(semi_nmf, bias=True), weighted=True, **SEMI),
    "semi ridges": case(partial(semi_nmf, regularisation=RIDGES), ridge=True, monotone=False, **SEMI),
    "nmf given": case(lambda A, k, **s: nmf(A, k, start=given_pair(A, k), **s), share=0),
    "semi given": case(lambda A, k, **s: semi_nmf(A, k, start=given_pair(A, k), **s), **SEMI),
    "semi given codes": case(
        lambda A, k, **s: semi_nmf(A, k, start=(given_pair(A, k)[0], None), **s), **SEMI
    ),
    "nmf coordinates": case(lambda A, k, **s: nmf(A.to_sparse(), k, **s)),
    "nmf compressed rows": case(
        lambda A, k, **s: nmf(A.to_sparse_csr(), k, penalty=BOTH, **s), penalised=True
    ),
    "semi coordinates, bias": case(lambda A, k, **s: semi_nmf(A.to_sparse(), k, bias=True, **s), **SEMI),
    "online": Case(online),
    "latent": case(nonlinear_semi_nmf, relu=True, share=0),
    "latent, any sign": case(nonlinear_semi_nmf, relu=True, monotone=False, **SEMI),
    "latent free": case(
        partial(nonlinear_semi_nmf, alternation=Latent(nonnegative=False), bias=True), relu=True, share=0
    ),
    "alternation": case(
        partial(nonlinear_semi_nmf, alternation=Alternation()), relu=True, monotone=False, **SEMI
    ),
    "transform": Case(
        lambda A, rank, V: transform(A, given_weights(A, rank), stopping=STOPPING), True, share=0
    ),
    "transform weights": Case(
        lambda A, rank, V: transform(A, given_weights(A, rank), weights=V, stopping=STOPPING),
        True,
        share=0,
        weighted=True,
    ),
    "transform Kullback & Leibler": Case(
        lambda A, rank, V: transform(A, given_weights(A, rank), beta=1, stopping=STOPPING), share=0, beta=1
    ),
    "transform weights, penalty": Case(
        lambda A, rank, V: transform(
            A, given_weights(A, rank, 0.5), weights=V, penalty=BOTH, stopping=STOPPING
        ),
        True,
        weighted=True,
        penalised=True,
    ),
    "nonlinear transform": Case(
        lambda A, rank, V: nonlinear_transform(A, given_weights(A, rank), stopping=STOPPING),
        True,
        share=0,
        relu=True,
    ),
    "least squares": Case(
        lambda A, rank, V: nonlinear_least_squares(given_weights(A.T, rank).T, A, stopping=STOPPING),
        share=1,
        relu=True,
        monotone=False,
    ),
}


def counted(name: str, problem: Problem) -> Tensor:
    """How much the entries count, where that is asked for."""
    V = problem.V if CASES[name].weighted else torch.ones_like(problem.A)
    if CASES[name].beta == 0:
        V = V * (problem.A != 0)
        V[0, 0] = 1
    return V


def value(name: str, result: Result, A: Tensor, V: Tensor) -> float:
    """The objective less penalties, in float64."""
    fit = affine(result.Z.double(), result.W.double())
    fit = fit.relu_() if CASES[name].relu else fit
    return float(Objective(A.double(), V.double(), beta=CASES[name].beta).divergence(fit))


@pytest.mark.filterwarnings("ignore:Sparse")  # PyTorch calls compressed rows a beta feature
@pytest.mark.parametrize("name", CASES)
def test_what_holds_for_any_data(name):
    case = CASES[name]

    @settings(max_examples=20, derandomize=True, deadline=None, database=None)
    @given(problems(case.signed))
    def holds(problem: Problem) -> None:
        A = problem.A.clone(memory_format=torch.preserve_format)
        V = counted(name, problem)
        if case.beta == 0:
            A[0, 0] = A[0, 0].clamp_min(0.5)
        before = A.clone(), V.clone()
        result = case.run(A, problem.rank, V)
        assert torch.equal(A, before[0])
        assert torch.equal(V, before[1])

        assert result.Z.shape == (len(A), problem.rank)
        assert result.W.shape[1] == A.shape[1]
        for F in (result.Z, result.W):
            assert F.dtype == A.dtype
            assert torch.isfinite(F).all()
        assert "free" in name or (result.Z >= 0).all()
        assert not name.startswith("nmf") or (result.W >= 0).all()
        assert result.ended == "max_iterations"
        assert len(result.objective) == 6

        # The residual is rounded by ε of what is added up to make it.
        parts = affine(result.Z.abs().double(), result.W.abs().double())
        size = max(Objective(F, V.double(), beta=case.beta).size() for F in (A.double(), parts))
        rounding = 50 * torch.finfo(A.dtype).eps * size
        if case.monotone:
            values = result.objective[1:] if case.penalised else result.objective
            assert all(new <= old + rounding for old, new in pairwise(values))
        found = value(name, result, A, V)
        least = min(result.objective[1:] if case.ridge else result.objective)  # no ridge has shrunk the start
        assert found <= least + rounding
        if not case.penalised:
            assert found >= least - rounding

        again = case.run(A, problem.rank, V)
        assert torch.equal(again.Z, result.Z)
        assert torch.equal(again.W, result.W)
        assert again.objective == result.objective

        unit = 4.0**problem.power
        moved = case.run(unit * A, problem.rank, V)
        for F, G, scale in (
            (moved.Z, result.Z, unit**case.share),
            (moved.W, result.W, unit ** (1 - case.share)),
        ):
            # To the last bit, but for entries that have no room below.
            assert ((F.double() - scale * G.double()).abs() <= torch.finfo(A.dtype).tiny).all()
        assert moved.objective == [unit**case.beta * value for value in result.objective]

    holds()
