"""What every factorization takes: data in any unit and form; what it refuses, with a remedy that works."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial

import numpy as np
import oracle
import pytest
import scipy.sparse
import torch
from torch import Tensor

from nmfdnn.errors import ConfigError, NmfdnnError
from nmfdnn.factorization import (
    Alternation,
    Latent,
    Pair,
    Regularisation,
    Result,
    Stopping,
    affine,
    augmented,
    code_step,
    hals_step,
    least_squares_weights,
    multiplicative_code_step,
    multiplicative_step,
    nmf,
    nonlinear_least_squares,
    nonlinear_semi_nmf,
    nonlinear_semi_nmf_step,
    semi_nmf,
    semi_nmf_step,
    weight_factors,
    weight_step,
)
from nmfdnn.factorization.nmf import SOLVERS
from nmfdnn.factorization.starts import leading_svd
from nmfdnn.linalg import METHODS, factor

FUNCTIONS = [nmf, semi_nmf, nonlinear_semi_nmf]
FEW = Stopping(6, 0, 3)
STARTS = ["random", "nndsvd", "nndsvda", "nndsvdar"]
VARIANTS: dict[str, Callable[..., Result]] = {
    **{f"{u} {s}": partial(nmf, update=u, start=s) for u in SOLVERS for s in STARTS},
    "accelerated on a subsample": partial(nmf, subsample=10),
    **{
        f"semi_nmf {s}{' ridge' * ridge}{' bias' * bias}": partial(
            semi_nmf,
            bias=bias,
            start=s,
            regularisation=Regularisation(weight_ridge=1e-3 * ridge, code_ridge=1e-3 * ridge),
        )
        for s in ("svd", "random")
        for ridge in (False, True)
        for bias in (False, True)
    },
    **{
        f"latent {s}{' free' * free}{' bias' * bias}": partial(
            nonlinear_semi_nmf, bias=bias, start=s, alternation=Latent(nonnegative=not free)
        )
        for s in ("svd", "random")
        for free in (False, True)
        for bias in (False, True)
    },
    **{
        f"{f.func.__name__} {method}{' bias' * bias}": partial(
            f, bias=bias, regularisation=Regularisation(method, weight_ridge=1e-3, code_ridge=1e-3)
        )
        for f in (
            partial(semi_nmf, update="multiplicative"),
            partial(nonlinear_semi_nmf, alternation=Alternation()),
        )
        for method in METHODS
        for bias in (False, True)
    },
}
SCALES = {torch.float32: [1e-20, 1e-7, 3.0, 1e10, 1e20], torch.float64: [1e-120, 1e-7, 3.0, 1e120]}


def data(dtype: torch.dtype, device: torch.device, n: int = 30, m: int = 12) -> Tensor:
    """Nonnegative, of rank 5 and a little noise."""
    g = torch.Generator().manual_seed(1)
    A = torch.rand(n, 5, generator=g, dtype=dtype) @ torch.rand(5, m, generator=g, dtype=dtype)
    return (A + 0.1 * torch.rand(n, m, generator=g, dtype=dtype)).to(device)


def fit(result: Result | Pair) -> Tensor:
    """ẐW in float64."""
    return affine(result.Z.double(), result.W.double())


def close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Equal but for rounding, which a few iterations multiply."""
    return oracle.error(found, expected) < (2e-3 if dtype == torch.float32 else 1e-8)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_unit_of_the_data_does_not_matter(name, device, dtype):
    A = data(dtype, device)
    plain = VARIANTS[name](A, 4, stopping=FEW)
    for scale in SCALES[dtype]:
        result = VARIANTS[name](scale * A, 4, stopping=FEW)
        assert close(fit(result) / scale, fit(plain), dtype), scale
        assert result.ended == plain.ended
        values = [value / scale / scale for value in result.objective]
        assert values == pytest.approx(plain.objective, rel=1e-3)
        # Both factors of NMF take their share; elsewhere the codes have no unit.
        codes = math.sqrt(scale) if name.startswith(SOLVERS) else 1
        assert close(result.Z / codes, plain.Z, dtype), scale


@pytest.mark.parametrize("name", VARIANTS)
def test_default_stopping_ends_alike_in_any_unit(name, device):
    A = data(torch.float64, device)
    results = [VARIANTS[name](scale * A, 4) for scale in (1, 4.0**-30, 4.0**30)]
    assert len({(r.ended, r.iterations, len(r.objective)) for r in results}) == 1


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("unknown", ["weights", "codes"])
def test_inputs_and_targets_of_least_squares_have_units_of_their_own(unknown, method, bias, device, dtype):
    B = data(dtype, device)
    A = data(dtype, device, 30, 4) if unknown == "weights" else data(dtype, device, 4 + bias, 12)
    solve = partial(
        nonlinear_least_squares,
        unknown=unknown,
        bias=bias,
        stopping=FEW,
        regularisation=Regularisation(method),
    )
    plain = solve(A, B)

    def scaled(a: float, b: float) -> Tensor:
        given = a * A
        if unknown == "codes" and bias:
            given[-1] *= b / a  # the bias of given weights has the unit of the targets
        result = solve(given, b * B)
        assert torch.equal(result.Z if unknown == "weights" else result.W, given)
        return fit(result)

    for a, b in ((1e-15, 1), (1, 1e-15), (1e15, 1e-15), (1e-9, 1e9), (1e17, 1e18)):
        assert close(scaled(a, b) / b, fit(plain), dtype), (a, b)


@pytest.mark.parametrize("update", SOLVERS)
def test_a_start_may_be_badly_balanced(update, put, rng, dtype):
    """(ZD, W/D) is the same start; parts count by their product."""
    A, Z, W = (
        put(rng.random((30, 12)), dtype),
        put(rng.random((30, 5)), dtype),
        put(rng.random((5, 12)), dtype),
    )
    D = torch.tensor([1e-25, 1e-3, 1, 1e3, 1e25], dtype=dtype, device=A.device)
    plain = nmf(A, 5, update=update, start=(Z, W), stopping=FEW)
    moved = nmf(A, 5, update=update, start=(Z * D, W / D[:, None]), stopping=FEW)
    assert moved.objective == pytest.approx(plain.objective, rel=1e-4)
    assert close(moved.Z / D, plain.Z, dtype)
    assert close(moved.W * D[:, None], plain.W, dtype)


@pytest.mark.parametrize("power", [-50, -33, 25, 50])
@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    "function",
    [
        semi_nmf,
        partial(semi_nmf, update="multiplicative"),
        nonlinear_semi_nmf,
        partial(nonlinear_semi_nmf, alternation=Alternation()),
    ],
)
def test_codes_to_start_from_have_a_unit_of_their_own(function, bias, weights, power, put, rng, dtype):
    """(cZ, W/c) is the same start, to the last bit where c is a power of four."""
    A, Z, W = (put(rng.random(shape), dtype) for shape in ((30, 12), (30, 5), (5 + bias, 12)))
    ends = []
    for c in (1.0, 4.0**power):
        W_c = torch.cat((W[:5] / c, W[5:]))
        start = (Z * c, W_c if weights else None)
        result = function(A, 5, bias=bias, start=start, stopping=FEW)
        assert result.iterations > 0
        ends.append((result.Z / c, torch.cat((result.W[:5] * c, result.W[5:])), result.objective))
    plain, moved = ends
    assert torch.equal(moved[0], plain[0])
    assert torch.equal(moved[1], plain[1])
    assert moved[2] == plain[2]


@pytest.mark.parametrize("step", [multiplicative_step, hals_step])
def test_single_steps_do_not_see_units_or_balance(step, put, rng, dtype):
    A, Z, W = (
        put(rng.random((30, 12)), dtype),
        put(rng.random((30, 5)), dtype),
        put(rng.random((5, 12)), dtype),
    )
    plain = step(A, Pair(Z, W))
    D = torch.tensor([1e-5, 1e-3, 1, 1e3, 1e5], dtype=dtype, device=A.device)
    for scale in (1e-8, 1, 1e8):
        found = step(scale * A, Pair(Z * D, scale * W / D[:, None]))
        assert close(found.Z / D, plain.Z, dtype)
        assert close(found.W * D[:, None] / scale, plain.W, dtype)


@pytest.mark.parametrize("update", SOLVERS)
@pytest.mark.parametrize("size", [1e-6, 100, 1e6])
def test_the_size_of_a_start_does_not_make_the_tolerance_coarse(update, size, put, rng):
    A, Z, W = (put(rng.random(shape)) for shape in ((50, 20), (50, 5), (5, 20)))
    near, far = (nmf(A, 5, update=update, start=(c * Z, c * W)) for c in (1, size))
    assert far.converged
    assert far.objective[-1] < 1.05 * near.objective[-1]


@pytest.mark.parametrize("key", ["weight_ridge", "code_ridge"])
@pytest.mark.parametrize("check_every", [1, 3])
def test_a_start_that_fits_is_not_returned_where_a_ridge_is_on(key, check_every, put, rng):
    Z, W = put(rng.random((30, 4))), put(rng.random((4, 9)))
    settings = {"regularisation": Regularisation(**{key: 0.1}), "stopping": Stopping(3, 0, check_every)}
    old = partial(nonlinear_semi_nmf, alternation=Alternation())
    results = {f: f(Z @ W, 4, start=(Z, W), **settings) for f in (semi_nmf, old)}
    results[nonlinear_least_squares] = nonlinear_least_squares(
        *((Z, Z @ W) if key == "weight_ridge" else (W, Z @ W)),
        unknown="weights" if key == "weight_ridge" else "codes",
        start=W if key == "weight_ridge" else Z,
        **settings,
    )
    if key == "code_ridge":
        del results[semi_nmf]  # where it damps and does not shrink
    for result in results.values():
        assert result.objective[0] < 1e-20 < result.objective[1]
        assert result.iterations > 0


@pytest.mark.parametrize("rank", [13, 20])
@pytest.mark.parametrize("name", VARIANTS)
def test_more_parts_than_rows_or_columns(name, rank, device, dtype):
    A = data(dtype, device)
    for B in (A, A.T):
        first, again = (VARIANTS[name](B, rank, stopping=Stopping(30)) for _ in range(2))
        assert first.Z.shape == (len(B), rank)
        assert torch.equal(first.Z, again.Z)
        assert float((B - fit(first)).norm() / B.norm()) < 0.1


@pytest.mark.parametrize("name", VARIANTS)
def test_degenerate_data(name, device, dtype):
    A = data(dtype, device)
    ragged = A.clone()
    ragged[3], ragged[:, 5] = 0, 0
    ragged[7:10], ragged[:, 8] = ragged[0], ragged[:, 1]
    for B in (ragged, torch.zeros_like(A), torch.ones_like(A), A[:1], A[:, :1], torch.diag(A[0])):
        result = VARIANTS[name](B, 4, stopping=Stopping(30))
        assert torch.isfinite(result.Z).all()
        assert torch.isfinite(result.W).all()
        rounding = float((torch.finfo(dtype).eps * B).square().sum())
        first = result.objective["ridge" in name]  # no ridge has shrunk the start
        assert result.objective[-1] <= first * (1 + 1e-3) + 1e4 * rounding
        assert float((B - fit(result).relu()).norm()) <= 0.75 * float(B.norm())


@pytest.mark.parametrize("name", VARIANTS)
def test_memory_layout_does_not_matter_and_inputs_stay_as_they_are(name, device):
    A = data(torch.float64, device)
    wide = torch.zeros(60, 24, dtype=A.dtype, device=device)
    wide[::2, ::2] = A
    plain = VARIANTS[name](A, 4, stopping=FEW)
    for B in (wide[::2, ::2], A.T.contiguous().T, A.flip(0).flip(0)):
        before = B.clone()
        found = VARIANTS[name](B, 4, stopping=FEW)
        assert close(fit(found), fit(plain), A.dtype)
        assert torch.equal(B, before)
    start = (plain.Z.clone(), plain.W.clone())
    VARIANTS[name](A, 4, start=start, stopping=FEW)
    assert torch.equal(start[0], plain.Z)
    assert torch.equal(start[1], plain.W)


@pytest.mark.parametrize("name", VARIANTS)
def test_tensors_that_require_grad_are_taken_as_their_values(name, device, no_graph):
    A = data(torch.float32, device)
    plain = VARIANTS[name](A, 4, stopping=FEW)
    for B in (A.clone().requires_grad_(), torch.nn.Parameter(A), 1 * A.clone().requires_grad_()):
        found = VARIANTS[name](B, 4, stopping=FEW)
        assert torch.equal(found.Z, plain.Z)
        for result in (found, VARIANTS[name](B, 4, stopping=Stopping(0))):
            assert not result.Z.requires_grad
            assert not result.W.requires_grad
    with torch.inference_mode():
        inside = VARIANTS[name](A, 4, stopping=FEW)
    assert torch.equal(inside.W, plain.W)


def test_steps_and_factors_build_no_graph(device, no_graph):
    g = torch.Generator().manual_seed(0)

    def leaf(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g).to(device).requires_grad_()

    A, Z, W = leaf(9, 6), leaf(9, 3), leaf(3, 6)
    pair, regularisation = Pair(Z, W), Regularisation(weight_ridge=0.1, code_ridge=0.1)
    factors = factor(Z)
    found = [
        *multiplicative_step(A, pair),
        *hals_step(A, pair),
        *semi_nmf_step(A, pair, False, regularisation),
        *nonlinear_semi_nmf_step(A, pair, False, Alternation(), regularisation),
        multiplicative_code_step(A, Z, W, 0.1),
        least_squares_weights(A, Z, False, regularisation),
        weight_step(Z, A, W, factors, 1.0, 0.1),
        code_step(A, Z, W, weight_factors(W, 3, regularisation), 1.0, 0.1),
        *nonlinear_least_squares(Z, A, start=W, stopping=Stopping(0)).__dict__.values(),
    ]
    for method in METHODS:
        f = factor(Z, method)
        found += [f.solve(A), f.solve_gram(W), f.shrink(W, 0.1), f.on_rows(Z).solve(A)]
    assert not any(F.requires_grad for F in found if isinstance(F, Tensor))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        assert affine(augmented(Z, False), W).requires_grad  # backpropagation passes through these


@pytest.mark.parametrize("function", FUNCTIONS)
def test_whole_numbers_of_numpy_are_ranks(function, device):
    A = data(torch.float32, device)
    for rank in (np.int64(3), np.uint8(3)):
        assert torch.equal(function(A, rank, stopping=FEW).Z, function(A, 3, stopping=FEW).Z)
    for rank in (0, -1, 1.5, 3.0, True, np.True_, np.float64(3), "3", None):
        with pytest.raises(ConfigError, match="rank must be an integer ≥ 1, got"):
            function(A, rank)


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
        (torch.ones(4, 0), "A must be a non-empty matrix"),
        (torch.ones(2, 3, 4), r"A must be a non-empty matrix .*\(2, 3, 4\)"),
        (bad(math.nan), "A holds NaN or infinite"),
        (bad(math.inf), "A holds NaN or infinite"),
    ],
)
def test_data_that_is_refused(function, A, message):
    with pytest.raises(ConfigError, match=message):
        function(A, 2)


ONES = np.ones((6, 4))
FORMS = {
    "array": ONES,
    "list": ONES.tolist(),
    "ints": ONES.astype(np.int64).tolist(),
    "bools": ONES.astype(bool),
    "matrix of scipy": scipy.sparse.csr_matrix(ONES),
    "array of scipy": scipy.sparse.coo_array(ONES),
    "integers": torch.ones(6, 4, dtype=torch.uint8),
    "booleans": torch.ones(6, 4, dtype=torch.bool),
    "half": torch.ones(6, 4).half(),
    "bfloat16": torch.ones(6, 4).bfloat16(),
    **{str(layout): layout for layout in (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)},
}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("form", FORMS)
def test_the_remedy_for_every_other_form_works(form):
    A = FORMS[form]
    A = torch.ones(6, 4).to_sparse(layout=A) if isinstance(A, torch.layout) else A
    plain = nmf(torch.ones(6, 4), 2, stopping=FEW)
    # Where products are all that is needed, sparse matrices are taken (test_sparse.py).
    linear = [] if "sparse" in form or "scipy" in form else [nmf, semi_nmf]
    rest = [nonlinear_semi_nmf, lambda A, rank: factor(A), lambda A, rank: nonlinear_least_squares(A, A)]
    for function in (*linear, *rest):
        with pytest.raises(ConfigError, match=r"^A must be .*, got .*: convert it with ") as error:
            function(A, 2)
    remedy = re.search("convert it with (.*)$", str(error.value)).group(1)
    converted = eval(remedy, {"A": A, "torch": torch, "numpy": np})
    assert close(fit(nmf(converted, 2, stopping=FEW)), fit(plain), torch.float32)
    for name, start in (("Z", (A, torch.ones(2, 4))), ("W", (torch.ones(6, 2), A))):
        with pytest.raises(ConfigError, match=f"^{name} must be .*, got .*: convert it with .*{name}"):
            nmf(torch.ones(6, 4), 2, start=start)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("start", "message"),
    [
        ((torch.ones(5, 3), torch.ones(2, 4)), r"Z must be of shape \(5, 2\), got \(5, 3\)"),
        ((torch.ones(5, 2), torch.ones(3, 4)), r"W must be of shape \(2, 4\), got \(3, 4\)"),
        ((torch.ones(5, 2).double(), torch.ones(2, 4)), r"Z must be torch.float32 .* with Z.to\(A\)"),
        ((torch.full((5, 2), math.nan), torch.ones(2, 4)), "Z holds NaN"),
        ((torch.ones(5, 2), torch.full((2, 4), -math.inf)), "W holds NaN or infinite"),
        ((torch.full((5, 2), 1e30), torch.full((2, 4), 1e30)), "objective is not finite at the start"),
        ((torch.ones(5, 2),), r"start must be a pair \(Z, W\)"),
        ((torch.ones(5, 2), torch.ones(2, 4), None), r"start must be a pair \(Z, W\)"),
        (torch.ones(2, 5, 2), r"start must be a pair \(Z, W\)"),
        (7, r"start must be a pair \(Z, W\)"),
    ],
)
def test_start_that_is_refused(function, start, message):
    with pytest.raises(ConfigError, match=message):
        function(torch.ones(5, 4), 2, start=start)


@pytest.mark.parametrize("function", [nmf, semi_nmf])
def test_negative_codes_are_no_start(function):
    Z, W = torch.ones(5, 2), torch.ones(2, 4)
    Z[3, 1] = -0.5
    with pytest.raises(ConfigError, match="Z has negative entries: clip"):
        function(torch.ones(5, 4), 2, start=(Z, W))


def test_a_solution_beyond_the_type_is_refused():
    A = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ConfigError, match=r"W is too large for torch.float32: .* use float64"):
        nonlinear_least_squares(1e-25 * A, 1e25 * A)
    result = nonlinear_least_squares(1e-25 * A.double(), 1e25 * A.double())
    assert oracle.error(result.W, 1e50 * np.eye(3)) < 1e-6


def no_svd(*_arguments: object, **_options: object) -> None:
    raise torch.linalg.LinAlgError("linalg.svd: the algorithm failed to converge")


@pytest.mark.parametrize("shape", [(30, 8), (8, 30), (12, 12)])
def test_an_svd_that_does_not_converge_is_replaced(shape, put, rng, dtype, monkeypatch):
    A = put(oracle.with_spectrum(*shape, np.array([3, 2, 1, 0.5])), dtype)
    R = put(rng.standard_normal((shape[0], 2)), dtype)
    expected, start = factor(A), nmf(A.abs(), 3, stopping=Stopping(0))
    eigh, sizes = torch.linalg.eigh, []

    def spy(G: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(len(G))
        return eigh(G)

    monkeypatch.setattr(torch.linalg, "svd", no_svd)
    monkeypatch.setattr(torch.linalg, "eigh", spy)
    found = factor(A)
    assert close(found.solve(R), expected.solve(R), dtype)
    assert close(found.s, expected.s, dtype)
    assert close(fit(nmf(A.abs(), 3, stopping=Stopping(0))), fit(start), dtype)
    assert max(sizes) == min(shape)
    A[0, 0] = math.nan
    with pytest.raises(NmfdnnError, match="1 NaN or infinite"):
        factor(A)


def test_if_nothing_converges_the_message_does_not_speak_of_nan(monkeypatch):
    monkeypatch.setattr(torch.linalg, "svd", no_svd)
    monkeypatch.setattr(torch.linalg, "eigh", no_svd)
    A = torch.rand(20, 5, generator=torch.Generator().manual_seed(0))
    for function in (factor, partial(nmf, rank=2)):
        with pytest.raises(NmfdnnError, match=r"converged: use the cholesky solver, .*start='random'"):
            function(A)
    factor(A, "cholesky")
    nmf(A, 2, start="random", stopping=FEW)


@pytest.mark.parametrize("shape", [(200, 90), (90, 200)])
def test_leading_svd_costs_the_rank_and_is_accurate(shape, put, device, dtype, monkeypatch):
    spectrum = 0.9 ** np.arange(90)
    A, rank = put(oracle.with_spectrum(*shape, spectrum), dtype), 6
    sizes = []
    eigh = torch.linalg.eigh

    def spy(G: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(len(G))
        return eigh(G)

    monkeypatch.setattr(torch.linalg, "eigh", spy)
    draws = [torch.Generator(device).manual_seed(seed) for seed in (0, 0, 1)]
    (P, s, Qh), again, other = (leading_svd(A, rank, g) for g in draws)
    assert max(sizes) <= rank + 10
    assert torch.equal(again[0], P)
    assert not torch.equal(other[0], P)
    assert oracle.error(s, spectrum[:rank]) < 1e-3
    best = np.linalg.norm(spectrum[rank:])
    assert (
        np.linalg.norm(oracle.array(A) - (oracle.array(P) * oracle.array(s)) @ oracle.array(Qh))
        < 1.001 * best
    )


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_generator_of_another_device_is_refused(function):
    class Elsewhere:
        device = torch.device("cuda" if not torch.cuda.is_available() else "meta")

    with pytest.raises(ConfigError, match="generator must be on cpu like A"):
        function(
            torch.ones(5, 4), 2, generator=Elsewhere(), **({"start": "random"} if function is nmf else {})
        )


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stopping": 10}, "stopping must be None or a Stopping, as"),
        ({"generator": 0, "start": "random"}, "generator must be None or a generator of torch"),
        (
            {"start": nmf(torch.ones(5, 4), 2)},
            r"start must be a pair \(Z, W\) of matrices, as \(result.Z, result.W\)",
        ),
    ],
)
def test_what_is_of_another_kind_is_refused(function, settings, message):
    with pytest.raises(ConfigError, match=message):
        function(torch.ones(5, 4), 2, **settings)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("place", [0, 7, 33, 999])
def test_one_entry_that_is_not_finite_is_found_wherever_it_lies(bad, place, dtype):
    A = torch.ones(20, 50, dtype=dtype)
    A.view(-1)[place] = bad
    for B in (A, A.T, A.repeat(2, 2)[:20, :50]):
        with pytest.raises(ConfigError, match="A holds NaN or infinite entries"):
            nmf(B, 2)


def test_a_mask_of_numpy_is_not_forgotten():
    A = np.ma.masked_greater(np.arange(12.0).reshape(4, 3) / 12, 0.8)
    with pytest.raises(ConfigError, match=r"filled\(0\).*what is masked with torch.tensor\(~A.mask\)"):
        nmf(A, 2)
    weights = torch.tensor(~A.mask)
    A = torch.tensor(np.asarray(A.filled(0)), dtype=torch.float32)
    assert nmf(A, 2, weights=weights).iterations > 0


def test_a_masked_array_without_masked_entries_needs_no_mask():
    A = np.ma.masked_array(np.arange(1.0, 13.0).reshape(4, 3))
    with pytest.raises(ConfigError, match=r"torch.tensor\(numpy.asarray\(A\), dtype=torch.float32\)$"):
        nmf(A, 2)
    assert nmf(torch.tensor(np.asarray(A), dtype=torch.float32), 2).iterations > 0
