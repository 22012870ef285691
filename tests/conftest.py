"""Fixtures of the numerical tests: every device present, both precisions, one source of random arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

# The matrices here are small: threads would cost more than they give, and very much more on a busy machine.
torch.set_num_threads(1)

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def put(device: torch.device) -> Callable[..., Tensor]:
    """Arrays as tensors on the device under test, float64 unless asked otherwise."""

    def put(array: np.ndarray, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.as_tensor(array, dtype=dtype, device=device)

    return put


@pytest.fixture
def no_graph():
    """Fails the test if anything is saved for a backward pass."""

    def fail(_tensor: Tensor) -> None:
        raise AssertionError("a tensor was saved for a backward pass")

    with torch.autograd.graph.saved_tensors_hooks(fail, fail):
        yield
