"""The compiled kernels equal the plain ones, and are not needed."""

from __future__ import annotations

import os
import shutil
import warnings

import pytest
import torch
from torch import Tensor

from nmfdnn.errors import ConfigError
from nmfdnn.kernels import BACKENDS, REFERENCE, _Compiled, kernels, reference

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
