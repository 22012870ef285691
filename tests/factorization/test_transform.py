"""Codes of new rows: the solution of nonnegative least squares, row by row."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import scipy.optimize
import torch

from nmfdnn.errors import ConfigError
from nmfdnn.factorization import Stopping, nmf, semi_nmf, transform

LONG = Stopping(2000, 0, 100)


@pytest.mark.parametrize("scale", [1e-20, 1, 1e20])
@pytest.mark.parametrize("bias", [False, True])
def test_codes_are_nonnegative_least_squares(bias, scale, put, rng, dtype):
    A, W = rng.random((15, 12)), rng.standard_normal((4 + bias, 12))
    A[2], W[1] = 0, 0
    data, given = put(scale * A, dtype), put(scale * W, dtype)
    before = (data.clone(), given.clone())
    found = transform(data, given, bias=bias, stopping=LONG)
    rest = A - W[4] if bias else A
    expected = np.stack([scipy.optimize.nnls(W[:4].T, row)[0] for row in rest])
    assert oracle.error(found.Z, expected) < (1e-3 if dtype == torch.float32 else 1e-8)
    assert torch.equal(found.W, given)
    assert torch.equal(data, before[0])
    assert torch.equal(given, before[1])


def test_the_rows_a_factorization_was_fitted_to_get_its_codes_back(put, rng, dtype):
    Z, W = rng.random((60, 4)), rng.random((4, 20))
    A = put(Z @ W, dtype)
    for function in (nmf, semi_nmf):
        fitted = function(A[:40], 4, stopping=Stopping(500, 0, 100))
        found = transform(A[40:], fitted.W, stopping=LONG)
        assert float((A[40:] - found.Z @ found.W).norm() / A[40:].norm()) < 1e-2


def test_a_rows_codes_do_not_depend_on_the_others(put, rng):
    A, W = put(rng.random((20, 9))), put(rng.random((4, 9)))
    whole = transform(A, W, stopping=LONG).Z
    pieces = [transform(part, W, stopping=LONG).Z for part in A.split(7)]
    assert oracle.error(torch.cat(pieces), whole) < 1e-9


@pytest.mark.parametrize(
    ("A", "W", "bias", "message"),
    [
        (torch.ones(5, 4), torch.ones(2, 3), False, "W must be of as many columns as A, 4"),
        (torch.ones(5, 4), torch.ones(1, 4), True, "W must be of at least one row besides the bias"),
        (torch.ones(5, 4), torch.ones(2, 4).double(), False, r"W must be torch.float32 .* W.to\(A\)"),
        (torch.full((5, 4), torch.nan), torch.ones(2, 4), False, "A holds NaN"),
    ],
)
def test_what_is_refused(A, W, bias, message):
    with pytest.raises(ConfigError, match=message):
        transform(A, W, bias=bias)
