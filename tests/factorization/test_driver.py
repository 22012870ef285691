"""The loop behind every factorization: when it ends, and what it returns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import oracle
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nmfdnn.errors import ConfigError
from nmfdnn.factorization import (
    HALS,
    Accelerated,
    Alternation,
    Exact,
    Latent,
    Multiplicative,
    Objective,
    OnlineNMF,
    Pair,
    Penalty,
    Regularisation,
    Result,
    SemiMultiplicative,
    Stopping,
    affine,
    augmented,
    extrapolation,
    nmf,
    nonlinear_semi_nmf,
    objective,
    semi_nmf,
    transform,
)
from nmfdnn.factorization.driver import iterate
from nmfdnn.factorization.nmf import SOLVERS
from nmfdnn.kernels import native

FUNCTIONS = [nmf, semi_nmf, nonlinear_semi_nmf]
ONE = torch.ones(1, 1, dtype=torch.float64)
HALF = torch.eye(30)[:, :12] + torch.rand(30, 12, generator=torch.Generator().manual_seed(0)).round()


class Residual(Objective):
    """½r² for the residual r(Z), in the place of a fit to A = 1."""

    def __init__(self, r) -> None:
        super().__init__(ONE)
        object.__setattr__(self, "r", r)

    def error(self, pair: Pair) -> torch.Tensor:
        return 0.5 * self.r(pair.Z).squeeze() ** 2


def halving(*, until: int = 10**9) -> tuple:
    """A residual Z that halves at every step; NaN after `until` steps."""

    def step(pair: Pair) -> Pair:
        count = pair.W + 1
        return Pair(torch.where(count > until, math.nan, pair.Z / 2), count)

    return Residual(lambda Z: Z), Pair(ONE, 0 * ONE), step


def scripted(*residuals: float) -> tuple:
    """These residuals, the start's first."""
    given = torch.tensor(residuals, dtype=torch.float64)
    return Residual(lambda Z: given[Z.long()]), Pair(0 * ONE, ONE), lambda pair: Pair(pair.Z + 1, ONE)


@pytest.mark.parametrize(
    ("stopping", "ended", "iterations"),
    [
        (Stopping(7, 0, 3), "max_iterations", 7),
        (Stopping(0, 0, 3), "max_iterations", 0),
        (Stopping(100, 0.1, 1), "converged", 3),  # (4⁻² − 4⁻³)/2 is the first fall ≤ 0.1 × ½‖A‖²
        (Stopping(100, 0.1, 3), "converged", 6),  # (1 − 4⁻³)/2 is more, (4⁻³ − 4⁻⁶)/2 less
        (Stopping(100, 0, 2, lambda iteration, pair, value: iteration >= 5), "callback", 6),
        (Stopping(100, 0.9, 1, lambda iteration, pair, value: True), "callback", 1),
        (Stopping(np.int64(7), 0, np.int32(3)), "max_iterations", 7),
    ],
)
def test_endings(stopping, ended, iterations):
    result = iterate(*halving(), stopping)
    assert (result.ended, result.iterations) == (ended, iterations)
    assert result.converged == (ended == "converged")
    assert result.Z == 2.0**-iterations


def test_history_holds_the_start_and_every_check():
    assert iterate(*halving(), Stopping(7, 0, 3)).objective == [4.0**-i / 2 for i in (0, 3, 6, 7)]


def test_callback_sees_each_check():
    seen = []
    iterate(*halving(), Stopping(5, 0, 2, lambda iteration, pair, value: seen.append((iteration, value))))
    assert seen == [(i, 4.0**-i / 2) for i in (2, 4, 5)]


@pytest.mark.parametrize(
    ("residuals", "iterations", "ended"),
    [
        ((5, 3, 1, 2, 2, 2), 2, "max_iterations"),  # the best is returned, not the last
        ((1, 2, 2, 2, 2, 2), 0, "max_iterations"),  # the start, if nothing is better
        ((5, 1, 1.0001, 0.5, 0.4999, 2), 4, "converged"),  # a small rise is no convergence, a small fall is
        ((5, 1, 1, 0, 0, 0), 2, "converged"),
        ((5, 1, 1 + 1e-17, 0, 0, 0), 2, "converged"),  # rounding is no rise
        (
            (1e4, 9e3, 8.99e3, 1, 0.9999, 0),
            4,
            "converged",
        ),  # a large start does not make the tolerance coarse
    ],
)
def test_the_best_is_returned_and_a_rise_is_no_convergence(residuals, iterations, ended):
    result = iterate(*scripted(*residuals), Stopping(5, 1e-3, 1))
    assert (result.iterations, result.ended) == (iterations, ended)
    assert result.Z == iterations
    assert min(result.objective) == residuals[iterations] ** 2 / 2


def test_a_start_that_no_ridge_has_shrunk_is_returned_only_if_it_is_all_there_is():
    assert iterate(*scripted(1, 3, 2, 4), Stopping(3, 0, 1), ridge=True).iterations == 2
    assert iterate(*scripted(1, 3, 2, 4), Stopping(0, 0, 1), ridge=True).iterations == 0
    assert iterate(*scripted(1, 1.001, 0.5, 0.2), Stopping(3, 0.1, 1), ridge=True).iterations == 3


def test_nonlinear_semi_nmf_returns_the_best_of_an_iteration_that_rises(put, rng):
    A = put(rng.random((60, 30)) * (rng.random((60, 30)) < 0.5), torch.float32)
    seen = []
    stopping = Stopping(callback=lambda iteration, pair, value: seen.append(value))
    result = nonlinear_semi_nmf(A, 20, alternation=Alternation(), stopping=stopping)
    assert result.objective[1:] == seen
    assert min(seen) < 0.5 * max(seen)
    value = 0.5 * float((A - (result.Z @ result.W).relu()).square().sum())
    assert value == pytest.approx(min(result.objective), rel=1e-4)


@pytest.mark.parametrize("scale", [1e-10, 1, 1e10])
def test_callbacks_get_the_factors_and_the_objective_in_the_unit_of_the_data(scale, put, rng, dtype):
    A = put(scale * rng.random((20, 8)), dtype)

    def check(iteration: int, pair: Pair, value: float) -> None:
        R = (A.double() - pair.Z.double() @ pair.W.double()) / scale
        assert value == pytest.approx(0.5 * scale**2 * float(R.square().sum()), rel=1e-4)

    for function in (nmf, semi_nmf):
        function(A, 3, stopping=Stopping(4, 0, 2, check))


def test_divergence_returns_the_best_finite_factors():
    result = iterate(*halving(until=7), Stopping(100, 0, 3))
    assert (result.ended, result.iterations, result.converged) == ("diverged", 6, False)
    assert result.Z == 2.0**-6
    assert result.objective == [4.0**-i / 2 for i in (0, 3, 6)]


@pytest.mark.parametrize("check_every", [1, 10])
def test_divergence_inside_a_block_loses_nothing(check_every, device):
    g = torch.Generator().manual_seed(0)
    A, Z, W = (torch.rand(shape, generator=g).to(device) for shape in ((20, 8), (20, 3), (3, 8)))
    # ZW is not large, but WWᵀ overflows float32.
    Z[:, 0], W[0] = 1e-25 * Z[:, 0], 1e25 * W[0]
    result = semi_nmf(A, 3, start=(Z, W), stopping=Stopping(20, 0, check_every))
    assert (result.ended, result.iterations) == ("diverged", 0)
    assert torch.equal(result.Z, Z)
    assert torch.isfinite(result.W).all()
    assert len(result.objective) == 1


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_callback_may_write_into_its_pair(function):
    def write(iteration, pair, value):
        pair.Z.zero_()
        pair.W.zero_()

    A = HALF / 2  # whose unit is 1, so that nothing is converted for the callback
    plain = function(A, 4, stopping=Stopping(20, 0, 5))
    written = function(A, 4, stopping=Stopping(20, 0, 5, write))
    assert written.objective == plain.objective
    assert torch.equal(written.Z, plain.Z)
    assert torch.equal(written.W, plain.W)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_history_belongs_to_the_factors(function, device, dtype):
    A = torch.rand(20, 9, generator=torch.Generator().manual_seed(1), dtype=dtype).to(device)
    extra = {} if function is nonlinear_semi_nmf else {"start": "random"}
    result: Result = function(A, 4, stopping=Stopping(13, 0, 5), **extra)
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
        extra = {} if function is nonlinear_semi_nmf else {"start": "random"}
        return function(A, 4, generator=generator, stopping=Stopping(5, 0), **extra)

    first, again, other, default = run(0), run(0), run(1), run(None)
    assert torch.equal(first.Z, again.Z)
    assert torch.equal(first.W, again.W)
    assert torch.equal(first.Z, default.Z)
    assert not torch.allclose(first.Z, other.Z)
    for F in (first.Z, first.W):
        assert (F.dtype, F.device, F.requires_grad) == (dtype, A.device, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_iterations": -1}, "max_iterations must be an integer ≥ 0, got -1"),
        ({"max_iterations": 10.0}, "max_iterations must be an integer ≥ 0, got 10.0"),
        ({"max_iterations": True}, "max_iterations must be an integer ≥ 0, got True"),
        ({"tolerance": -1e-3}, r"tolerance must be in \[0, 1\)"),
        ({"tolerance": 1.0}, r"tolerance must be in \[0, 1\), got 1.0"),
        ({"check_every": 0}, "check_every must be an integer ≥ 1, got 0"),
    ],
)
def test_bad_stopping(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Stopping(**arguments)


class Waits(TorchDispatchMode):
    """Counts values that are brought to the host."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize(
    "function",
    [
        *(partial(nmf, update=update, start="random") for update in SOLVERS),
        *(partial(nmf, penalty=Penalty(0.1, 0.1), update=update, start="random") for update in SOLVERS),
        *(partial(nmf, weights=HALF, beta=beta, start="random") for beta in (0, 1, 2)),
        partial(semi_nmf, weights=HALF, start="random"),
        *(partial(semi_nmf, bias=bias, start="random") for bias in (False, True)),
        *(partial(nonlinear_semi_nmf, alternation=Latent(sign)) for sign in (True, False)),
    ],
)
def test_iterations_do_not_wait_for_the_device(function, monkeypatch):
    monkeypatch.setattr(extrapolation, "on_host", lambda like: False)  # as on CUDA
    A = torch.rand(30, 12, generator=torch.Generator().manual_seed(0))
    counts = []
    for iterations in (10, 20):
        with Waits() as waits:
            function(A, 4, stopping=Stopping(iterations, 0, 20))
        counts.append(waits.count)
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("function", [partial(nmf, start="random"), nonlinear_semi_nmf])
def test_numbers_on_the_host_and_on_the_device_are_the_same(function, monkeypatch):
    A = torch.rand(30, 12, generator=torch.Generator().manual_seed(0))
    here = function(A, 4, stopping=Stopping(40, 0))
    monkeypatch.setattr(extrapolation, "on_host", lambda like: False)
    there = function(A, 4, stopping=Stopping(40, 0))
    assert torch.equal(here.Z, there.Z)
    assert torch.equal(here.W, there.W)


class Launches(TorchDispatchMode):
    """Counts functions that write memory: on CUDA each is a kernel. Views and the fused sweeps are none."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.count += not function.is_view and "empty" not in str(function)
        return function(*arguments, **(keywords or {}))


def launches(function, rank: int) -> float:
    """In one iteration."""
    A = torch.rand(150, 120, generator=torch.Generator().manual_seed(0))
    counts = []
    for iterations in (10, 30):
        with Launches() as launched:
            function(A, rank, stopping=Stopping(iterations, 0, 100))
        counts.append(launched.count)
    return (counts[1] - counts[0]) / 20


@pytest.mark.skipif(native.descend(torch.float32) is None, reason="needs a C compiler for the fused sweeps")
@pytest.mark.parametrize(
    ("function", "most"),
    [
        (partial(nmf, start="random"), 50),
        (partial(nmf, start="random", update="hals"), 6),
        (partial(nmf, start="random", update="multiplicative"), 20),
        (partial(semi_nmf, start="random"), 28),
        (nonlinear_semi_nmf, 76),
        (lambda A, rank, stopping: transform(A, A[:rank], stopping=stopping), 1),
        (lambda A, rank, stopping: transform(A, A[:rank], weights=A > 0.5, stopping=stopping), 1),
        (lambda A, rank, stopping: [OnlineNMF(rank, start=A[:rank]).fit([A], stopping.max_iterations)], 42),
    ],
)
def test_launches_of_an_iteration_are_few_whatever_the_rank(function, most, monkeypatch):
    monkeypatch.setattr(extrapolation, "on_host", lambda like: False)  # as on CUDA
    few, many = (launches(function, rank) for rank in (5, 40))
    assert 0 < few <= most
    # A step may be taken or not, and sweeps are fewer where the rank is near the number of columns.
    assert many <= few


@dataclass(frozen=True)
class Halved:
    """W by least squares, codes on their way to half of what they are: a solver for any of the problems."""

    def steps(self, goal):
        def step(pair):
            Z = pair.Z / 2
            inputs = augmented(Z, len(pair.W) > Z.shape[1])
            return Pair(Z, torch.linalg.lstsq(inputs, goal.A).solution)

        return step


@pytest.mark.parametrize("scale", [1e-10, 1, 1e10])
@pytest.mark.parametrize(
    ("function", "key"), [(nmf, "update"), (semi_nmf, "update"), (nonlinear_semi_nmf, "alternation")]
)
def test_a_solver_of_ones_own_is_iterated(function, key, scale, put, rng):
    Z, W = rng.random((30, 3)), rng.random((3, 8))
    A = put(scale * Z @ W)
    start = (put(Z) * scale**0.5, put(W) * scale**0.5)
    result = function(A, 3, start=start, stopping=Stopping(4, 0, 1), **{key: Halved()})
    assert oracle.error(result.Z @ result.W, scale * Z @ W) < 1e-10
    assert len(result.objective) == 5
    if result.iterations:  # the first of equals, or what rounding prefers
        assert oracle.error(result.Z * 2.0**result.iterations, Z * scale**0.5) < 1e-10


OWN = {
    nmf: (Accelerated(), HALS(), Multiplicative()),
    semi_nmf: (Exact(), SemiMultiplicative()),
    nonlinear_semi_nmf: (Latent(), Alternation()),
}


@pytest.mark.parametrize("function", OWN)
@pytest.mark.parametrize(
    "solver", [solver for own in OWN.values() for solver in own], ids=lambda s: type(s).__name__
)
def test_a_solver_keeps_to_its_problem(function, solver, put, rng):
    """What it would do elsewhere is to leave the constraints, silently."""
    key = "alternation" if function is nonlinear_semi_nmf else "update"
    A = put(rng.random((20, 6)))
    if solver in OWN[function]:
        result = function(A, 3, stopping=Stopping(5, 0, 5), **{key: solver})
        assert result.iterations > 0
        assert float(result.Z.min()) >= 0
        assert function is not nmf or float(result.W.min()) >= 0
        return
    with pytest.raises(ConfigError, match=f"{key} must be .*a solver"):
        function(A, 3, **{key: solver})


def test_what_is_no_solver_is_refused():
    A = torch.ones(4, 3)
    for function, key in ((nmf, "update"), (semi_nmf, "update"), (nonlinear_semi_nmf, "alternation")):
        with pytest.raises(ConfigError, match=rf"{key} must be .*a solver: an object with a method steps"):
            function(A, 2, **{key: object()})
    with pytest.raises(ConfigError, match="regularisation must be None with a solver"):
        semi_nmf(A, 2, update=Halved(), regularisation=Regularisation(code_ridge=1))


def test_the_objective_in_strips_is_that_of_all_rows(monkeypatch, put, rng, dtype):
    A, pair = (
        put(rng.random((50, 7)), dtype),
        Pair(put(rng.random((50, 3)), dtype), put(rng.random((4, 7)), dtype)),
    )
    V = put(rng.random((50, 7)), dtype)
    goals = [
        Objective(A),
        Objective(A, nonlinear=True),
        Objective(A, V),
        *(Objective(A, V, beta=b) for b in (0, 1)),
    ]
    whole = [float(goal.value(pair)) for goal in goals]
    assert whole == pytest.approx([float(goal.divergence(affine(*pair))) for goal in goals], rel=1e-6)
    for name in ("CACHED", "PIECE"):
        monkeypatch.setattr(objective, name, 100)  # 14 rows at a time
    assert [float(goal.value(pair)) for goal in goals] == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_strips_do_not_change_a_factorization(function, monkeypatch, put, rng):
    A, stopping = put(rng.random((50, 12))), Stopping(30, 0, 30)
    whole = function(A, 3, stopping=stopping)
    for name in ("CACHED", "PIECE"):
        monkeypatch.setattr(objective, name, 100)
    strips = function(A, 3, stopping=stopping)
    assert oracle.error(strips.Z, whole.Z) < 1e-8
    assert oracle.error(strips.W, whole.W) < 1e-8
