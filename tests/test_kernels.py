"""The compiled kernels equal the plain ones, and are not needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings

import numpy as np
import oracle
import pytest
import torch
from torch import Tensor

from nmfdnn.errors import ConfigError
from nmfdnn.kernels import BACKENDS, REFERENCE, _Compiled, kernels, native, reference
from nmfdnn.kernels.coordinates import coordinate_descent

COMPILER = shutil.which(os.environ.get("CXX", "g++")) is not None
NAMES = ["multiplicative", "semi_multiplicative", "relu_residual", "step_and_project"]


def arguments(name: str, shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    any_sign = [torch.randn(shape, generator=g, dtype=dtype).to(device) for _ in range(3)]
    positive = [torch.rand(shape, generator=g, dtype=dtype).to(device) for _ in range(4)]
    return {
        "multiplicative": [*positive[:3], positive[3][0]],
        "semi_multiplicative": [positive[0], any_sign[0], *positive[1:3], positive[3].mean(), positive[3][0]],
        "relu_residual": any_sign[:2],
        "step_and_project": [positive[0], any_sign[0], 0.7],
    }[name]


@pytest.mark.skipif(not COMPILER, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("name", NAMES)
def test_compiled_equals_reference(name, device):
    function = getattr(kernels("compiled"), name)
    for dtype in (torch.float32, torch.float64):
        for shape in ((5, 3), (64, 33)):
            values = arguments(name, shape, dtype, device)
            expected = getattr(REFERENCE, name)(*values)
            # A few roundings: fused multiply-add and division by a reciprocal.
            eps = torch.finfo(dtype).eps
            torch.testing.assert_close(function(*values), expected, rtol=8 * eps, atol=8 * eps)
    assert function.compiled is not None, "fell back to the reference, so nothing was compared"


def test_reference_values_by_hand(device, dtype):
    def t(*values: float) -> Tensor:
        return torch.tensor([values], dtype=dtype, device=device)

    assert torch.equal(REFERENCE.relu_residual(t(1, 1, 0), t(3, -3, -0.5)), t(-2, 1, 0))
    assert torch.equal(REFERENCE.step_and_project(t(1, 1), t(2, -4), 0.5), t(2, 0))
    own = t(1, 1, 1)
    # 0/0 is 0: a part that is zero, or a sample that is.
    found = REFERENCE.multiplicative(t(2, 7, 0), t(6, 0, 5), t(3, 0, 0), t(1, 0, 1))
    torch.testing.assert_close(found, t(4, 0, 0))
    found = REFERENCE.semi_multiplicative(t(1, 1), t(3, -3), t(1, 6), t(1, 1), 0.0, own[:, :2])
    torch.testing.assert_close(found, t(2, 1 / 3))
    found = REFERENCE.semi_multiplicative(t(1, 2), t(3, -3), t(1, 5), t(1, 1), 2.0, own[:, :2])
    torch.testing.assert_close(found, t(2**0.5, 2 * (5 / 12) ** 0.5))
    found = REFERENCE.semi_multiplicative(t(7, 0, 0), t(0, 5, -5), t(0, 0, 0), t(0, 0, 0), 2.0, t(0, 1, 1))
    torch.testing.assert_close(found, t(0, 0, 0))


@pytest.mark.parametrize("scale", [1e-18, 1, 1e18])
@pytest.mark.parametrize("backend", BACKENDS)
def test_multiplicative_updates_flush_decayed_entries_in_any_unit_and_keep_nan(backend, scale, device):
    """NaN must survive to be reported. The unit may be one of Z, of a part, or of all."""
    Z = torch.tensor([[1e-15, 1e-17, 1e-18, float("nan")]], device=device)
    one, zero, ones = torch.ones_like(Z), torch.zeros_like(Z), torch.ones(4, device=device)
    expected = torch.tensor([[1e-15, 0, 0, float("nan")]], device=device)
    for z, own in ((1, scale), (scale, 1), (scale, 1 / scale)):
        for found in (
            kernels(backend).multiplicative(z * Z, one, z * own * one, own * ones) * (z * own),
            kernels(backend).semi_multiplicative(z * Z, zero, z * own * one, z * own * one, 0.0, own * ones),
        ):
            torch.testing.assert_close(found / z, expected, equal_nan=True, rtol=1e-5, atol=0)


def test_backends():
    assert kernels("reference") is REFERENCE
    assert kernels() is REFERENCE
    assert kernels("compiled") is kernels("compiled")  # compiled once
    assert BACKENDS == ("reference", "compiled")


def test_unknown_backend():
    with pytest.raises(ConfigError, match="kernels must be one of reference, compiled, got 'triton'"):
        kernels("triton")


def test_without_a_compiler_the_reference_is_used_with_one_warning():
    function = _Compiled(reference.relu_residual)

    def no_compiler(*_arguments: Tensor) -> Tensor:
        raise FileNotFoundError("g++")

    function.compiled = no_compiler
    B, V = torch.rand(3, 2), torch.randn(3, 2)
    with pytest.warns(RuntimeWarning, match=r"relu_residual.*FileNotFoundError.*kernels=reference"):
        found = function(B, V)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = function(B, V)
    assert torch.equal(found, REFERENCE.relu_residual(B, V))
    assert torch.equal(again, found)


def test_bad_arguments_do_not_count_as_a_missing_compiler():
    function = _Compiled(reference.relu_residual)
    function.compiled = reference.relu_residual
    with pytest.raises(RuntimeError, match="size"):
        function(torch.rand(3, 2), torch.rand(4, 5))
    assert function.compiled is not None


def problems(
    k: int, n: int, dtype: torch.dtype, scale: float = 1.0, own: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """X ≥ 0, C and a positive definite G, or n, in units of their own: C in `scale`, G in its square."""
    g = torch.Generator().manual_seed(k + n)
    W, A = (torch.randn(rows, k + 5, generator=g, dtype=torch.float64) for rows in (k, n))
    X = torch.rand(k, n, generator=g, dtype=torch.float64) * (torch.rand(k, n, generator=g) < 0.5)
    V = torch.rand(n, 1, k + 5, generator=g, dtype=torch.float64) + 0.1 if own else 1
    return tuple(T.to(dtype) for T in (X / scale, scale * (W @ A.T), scale**2 * ((V * W) @ W.T)))


def swept(X: Tensor, C: Tensor, G: Tensor, times: int) -> np.ndarray:
    """By the oracle; where each column has its own G, a column at a time."""
    X, C, G = map(oracle.array, (X, C, G))
    if G.ndim == 2:
        return oracle.sweeps(X, C, G, times)
    columns = zip(X.T, C.T, G, strict=True)
    return np.stack([oracle.sweeps(x[:, None], c[:, None], g, times)[:, 0] for x, c, g in columns], 1)


@pytest.mark.parametrize("scale", [1e-9, 1, 1e9])
@pytest.mark.parametrize(("k", "n"), [(1, 1), (3, 63), (7, 64), (20, 131), (70, 40)])
@pytest.mark.parametrize("own", [False, True])
def test_coordinate_descent_equals_its_equation(own, k, n, scale, device, dtype):
    X, C, G = (T.to(device) for T in problems(k, n, dtype, scale, own))
    expected = swept(X, C, G, 3)
    before = [T.clone() for T in (X, C, G)]
    for fused in (True, False):
        found = coordinate_descent(X, C, G, 3, fused=fused)
        assert oracle.error(found, expected) < 500 * torch.finfo(dtype).eps
        assert (found >= 0).all()
        assert torch.equal(found, coordinate_descent(X, C, G, 3, fused=fused))
        turned = [T.mT.contiguous().mT for T in (X, C, G)]
        assert torch.equal(found, coordinate_descent(*turned, 3, fused=fused))
    assert all(torch.equal(a, b) for a, b in zip((X, C, G), before, strict=True))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("own", [False, True])
def test_threads_do_not_change_a_bit(own, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    X, C, G = problems(11, 700, torch.float32, own=own)
    monkeypatch.setattr(native, "PARALLEL", 0)
    found = coordinate_descent(X, C, G, 2)
    monkeypatch.setattr(native, "PARALLEL", float("inf"))
    assert torch.equal(found, coordinate_descent(X, C, G, 2))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("own", [False, True])
def test_coordinate_descent_keeps_rows_that_nothing_is_known_of_and_nan(own, fused, device, dtype):
    X, C, G = (T.to(device) for T in problems(4, 70, dtype, own=own))
    G[..., 2, :], G[..., 2], C[2] = 0, 0, 0
    found = coordinate_descent(X, C, G, 2, fused=fused)
    assert torch.equal(found[2], X[2])
    assert torch.isfinite(found).all()
    C[1, 5] = torch.nan
    found = coordinate_descent(X, C, G, 2, fused=fused)
    assert torch.isnan(found[1, 5])
    assert torch.isfinite(found[:, :5]).all()
    assert torch.isfinite(found[:, 6:]).all()


@pytest.mark.parametrize("own", [False, True])
def test_no_sweep_raises_the_objective(own, device, dtype):
    X, C, G = (T.to(device) for T in problems(30, 50, dtype, own=own))

    def fit(X: Tensor) -> Tensor:
        return (G @ X.T[..., None])[..., 0].T if own else G @ X

    def value(X: Tensor) -> Tensor:
        return (0.5 * X * fit(X) - C * X).sum(0)

    for _ in range(10):
        Y = coordinate_descent(X, C, G)
        assert (value(Y) <= value(X) + 1e3 * torch.finfo(dtype).eps * value(X).abs()).all()
        X = Y
    gradient = fit(coordinate_descent(X, C, G, 2000)) - C
    assert float(gradient.min()) > -1e-2 * float(C.abs().max())


def test_without_a_c_compiler_plain_tensors_serve_with_one_warning(monkeypatch):
    X, C, G = problems(5, 9, torch.float64)
    native.descend.cache_clear()
    monkeypatch.setenv("CC", "no-such-compiler -O9")
    try:
        with pytest.warns(RuntimeWarning, match="FileNotFoundError.*install a C compiler .* CC"):
            found = coordinate_descent(X, C, G, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again = coordinate_descent(X, C, G, 2)
    finally:
        native.descend.cache_clear()
    assert torch.equal(found, coordinate_descent(X, C, G, 2, fused=False))
    assert torch.equal(again, found)


@pytest.mark.skipif(not COMPILER, reason="needs a C compiler")
def test_a_compiler_that_does_not_take_the_source_is_no_compiler(monkeypatch):
    native.descend.cache_clear()
    monkeypatch.setenv("CC", "false")
    try:
        with pytest.warns(RuntimeWarning, match="CalledProcessError"):
            assert native.descend(torch.float32) is None
    finally:
        native.descend.cache_clear()


@pytest.mark.skipif(not COMPILER, reason="needs a C compiler")
def test_a_compiler_without_openmp_serves_one_thread(monkeypatch, tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\ncase "$*" in *openmp*) exit 1;; esac\nexec cc "$@"\n')
    compiler.chmod(0o755)
    X, C, G = problems(20, 131, torch.float32)
    expected = coordinate_descent(X, C, G, 3)
    native.descend.cache_clear()
    monkeypatch.setenv("CC", str(compiler))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert native.descend(torch.float32) is not None
            assert torch.equal(coordinate_descent(X, C, G, 3), expected)
    finally:
        native.descend.cache_clear()


TRITON = """
import torch
from nmfdnn.kernels import coordinates, coordinates_triton
g = torch.Generator().manual_seed(0)
for dtype in (torch.float32, torch.float64):
    for k, n in ((1, 1), (3, 70), (33, 20)):
        W, A = (torch.randn(rows, k + 5, generator=g, dtype=dtype) for rows in (k, n))
        X, C, G = torch.rand(k, n, generator=g, dtype=dtype), W @ A.T, W @ W.T
        C[0, 0] = torch.nan
        if k > 2:
            G[2], G[:, 2] = 0, 0
        found, expected = X.clone(), X.clone()
        coordinates_triton.descend(found, C, G, 2)
        coordinates.plain(expected, C, G, 2)
        eps = 200 * torch.finfo(dtype).eps
        torch.testing.assert_close(found, expected, rtol=eps, atol=eps, equal_nan=True)
"""


def test_the_triton_kernel_equals_plain_tensors():
    """In Triton's interpreter, which must be asked for before Triton is imported; on CUDA see above."""
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error::UserWarning", "-c", TRITON]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
