"""The loop behind every factorization: when it ends, what it returns, what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nmfdnn.errors import ConfigError
from nmfdnn.factorization import Pair, Regularisation, Result, Stopping, nmf, nonlinear_semi_nmf, semi_nmf
from nmfdnn.factorization.driver import iterate

FUNCTIONS = [nmf, semi_nmf, nonlinear_semi_nmf]


def halving(*, until: int = 10**9) -> tuple[Pair, object, object]:
    """A pair whose Z halves at every step, with the objective Z; NaN after `until` steps."""

    def step(pair: Pair) -> Pair:
        count = pair.W + 1
        return Pair(torch.where(count > until, math.nan, pair.Z / 2), count)

    return Pair(torch.tensor(1.0), torch.tensor(0.0)), step, lambda pair: pair.Z


@pytest.mark.parametrize(
    ("stopping", "ended", "iterations"),
    [
        (Stopping(7, 0, 3), "max_iterations", 7),
        (Stopping(0, 0, 3), "max_iterations", 0),
        (Stopping(100, 0.1, 1), "converged", 4),  # 1/8 − 1/16 is the first change ≤ 0.1 × the start
        (Stopping(100, 0.1, 3), "converged", 9),  # 1/8 − 1/64 is still more
        (Stopping(100, 0, 2, lambda iteration, pair, value: iteration >= 5), "callback", 6),
        (Stopping(100, 0.9, 1, lambda iteration, pair, value: True), "callback", 1),
    ],
)
def test_endings(stopping, ended, iterations):
    result = iterate(*halving(), stopping)
    assert (result.ended, result.iterations) == (ended, iterations)
    assert result.converged == (ended == "converged")
    assert result.Z == 2.0**-iterations
    assert result.objective[-1] == result.Z


def test_history_holds_the_start_and_every_check():
    assert iterate(*halving(), Stopping(7, 0, 3)).objective == [1, 1 / 8, 1 / 64, 1 / 128]


def test_callback_sees_each_check():
    seen = []
    iterate(*halving(), Stopping(5, 0, 2, lambda iteration, pair, value: seen.append((iteration, value))))
    assert seen == [(2, 1 / 4), (4, 1 / 16), (5, 1 / 32)]


def test_divergence_returns_the_last_finite_factors():
    result = iterate(*halving(until=7), Stopping(100, 0, 3))
    assert (result.ended, result.iterations, result.converged) == ("diverged", 6, False)
    assert result.Z == 2.0**-6
    assert result.objective == [1, 1 / 8, 1 / 64]


@pytest.mark.parametrize("check_every", [1, 10])
@pytest.mark.parametrize("function", [semi_nmf])
def test_divergence_inside_a_block_loses_nothing(function, check_every, device):
    g = torch.Generator().manual_seed(0)
    A, Z = torch.rand(20, 8, generator=g).to(device), torch.rand(20, 3, generator=g).to(device)
    # The fitted W is of order 10²⁵: ZW is not, but WWᵀ overflows float32.
    result = function(
        A,
        3,
        start=(1e-25 * Z, None),
        regularisation=Regularisation(code_ridge=0.1),
        stopping=Stopping(20, 0, check_every),
    )
    assert (result.ended, result.iterations) == ("diverged", 0)
    assert torch.equal(result.Z, 1e-25 * Z)
    assert torch.isfinite(result.W).all()
    assert len(result.objective) == 1


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_history_belongs_to_the_factors(function, device, dtype):
    A = torch.rand(20, 9, generator=torch.Generator().manual_seed(1), dtype=dtype).to(device)
    result: Result = function(A, 4, stopping=Stopping(13, 0, 5))
    fit = result.Z @ result.W
    fit = fit.relu() if function is nonlinear_semi_nmf else fit
    assert len(result.objective) == 4
    assert result.iterations == 13
    value = 0.5 * float((A - fit).double().square().sum())
    # ½‖A‖² is about 30; the residual is known to ε‖A‖.
    assert result.objective[-1] == pytest.approx(value, rel=1e-6, abs=100 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_seeds_and_precision(function, device, dtype):
    A = torch.rand(20, 9, generator=torch.Generator().manual_seed(1), dtype=dtype).to(device)

    def run(seed: int | None) -> Result:
        generator = None if seed is None else torch.Generator(device).manual_seed(seed)
        extra = {"start": "random"} if function is nmf else {}
        return function(A, 4, generator=generator, stopping=Stopping(5, 0), **extra)

    first, again, other, default = run(0), run(0), run(1), run(None)
    assert torch.equal(first.Z, again.Z)
    assert torch.equal(first.W, again.W)
    assert torch.equal(first.Z, default.Z)
    assert not torch.allclose(first.Z, other.Z)
    for F in (first.Z, first.W):
        assert (F.dtype, F.device, F.requires_grad) == (dtype, A.device, False)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_graph_is_built(function, device, no_graph):
    A = torch.rand(20, 9, generator=torch.Generator().manual_seed(1)).to(device)
    with torch.inference_mode():
        inside = function(A, 4, stopping=Stopping(5, 0))
    outside = function(A, 4, stopping=Stopping(5, 0))
    assert torch.equal(inside.W, outside.W)
    assert not outside.Z.requires_grad
    assert not outside.W.requires_grad


def bad(value: float) -> Tensor:
    A = torch.ones(5, 4)
    A[2, 1] = value
    return A


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("A", "message"),
    [
        (torch.ones(3), "A must be a non-empty matrix"),
        (torch.ones(0, 4), "A must be a non-empty matrix"),
        (torch.ones(3, 4, dtype=torch.int64), "A must be float32 or float64"),
        (bad(math.nan), "A holds NaN or infinite"),
        (bad(math.inf), "A holds NaN or infinite"),
    ],
)
def test_data_that_is_refused(function, A, message):
    with pytest.raises(ConfigError, match=message):
        function(A, 2)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("rank", [0, -1, 1.5])
def test_rank_that_is_refused(function, rank):
    with pytest.raises(ConfigError, match="rank must be an integer ≥ 1"):
        function(torch.ones(5, 4), rank)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("start", "message"),
    [
        ((torch.ones(5, 3), torch.ones(2, 4)), r"Z must have shape \(5, 2\)"),
        ((torch.ones(5, 2), torch.ones(3, 4)), r"W must have shape \(2, 4\)"),
        ((torch.ones(5, 2).double(), torch.ones(2, 4)), "Z must be torch.float32"),
        ((torch.full((5, 2), math.nan), torch.ones(2, 4)), "Z holds NaN"),
        ((torch.full((5, 2), 1e30), torch.full((2, 4), 1e30)), "objective is not finite at the start"),
    ],
)
def test_start_that_is_refused(function, start, message):
    with pytest.raises(ConfigError, match=message):
        function(torch.ones(5, 4), 2, start=start)


@pytest.mark.parametrize("function", [nmf, semi_nmf])
def test_negative_codes_are_no_start(function):
    Z, W = torch.ones(5, 2), torch.ones(2, 4)
    Z[3, 1] = -0.5
    with pytest.raises(ConfigError, match="nonnegative"):
        function(torch.ones(5, 4), 2, start=(Z, W))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_iterations": -1}, "max_iterations must be ≥ 0, got -1"),
        ({"tolerance": -1e-3}, r"tolerance must be in \[0, 1\)"),
        ({"tolerance": 1.0}, r"tolerance must be in \[0, 1\), got 1.0"),
        ({"check_every": 0}, "check_every must be ≥ 1, got 0"),
    ],
)
def test_bad_stopping(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Stopping(**arguments)
