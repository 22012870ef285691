"""What enters a factorization: one place for all checks, and the unit in which the numbers are computed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import linalg, parallel
from ..errors import ConfigError, require
from ..linalg import check_dense


class Pair(NamedTuple):
    """Codes Z (n × k) and weights W (k × m), or (k + 1) × m with a bias row."""

    Z: Tensor
    W: Tensor

    @property
    def bias(self) -> bool:
        """Whether the last row of W is one."""
        return len(self.W) > self.Z.shape[1]


@dataclass(frozen=True)
class Units:
    """Exact powers of two that turn the numbers of a computation into the user's.

    Data, and a bias row, count in units of A; the codes of part j in units of Zⱼ, so its weights in A/Zⱼ.

    Attributes:
        A: of the data and the bias row.
        Z: of the codes: one number, or k of them in float64.
    """

    A: float = 1.0
    Z: Tensor | float = 1.0

    def inner(self, pair: Pair) -> Pair:
        """A user's pair in these units."""
        codes, weights = self._of(pair)
        return Pair(_times(pair.Z, 1 / codes), _times(pair.W, 1 / weights))

    def outer(self, pair: Pair) -> Pair:
        """A pair in these units as the user's.

        Raises:
            ConfigError: an entry is larger than its type can represent.
        """
        if self.A == 1 and isinstance(self.Z, float) and self.Z == 1:
            return pair
        codes, weights = self._of(pair)
        found = Pair(_times(pair.Z, codes), _times(pair.W, weights))
        for name, before, after in zip("ZW", pair, found, strict=True):
            if not _finite(after) and _finite(before):
                raise ConfigError(f"{name} is too large for {after.dtype}: scale the data, or use float64")
        return found

    def _of(self, pair: Pair) -> tuple[Tensor, Tensor]:
        """Units of the columns of Z (k) and of the rows of W (k × 1, or (k + 1) × 1)."""
        Z, W = pair
        codes = torch.as_tensor(self.Z, dtype=torch.float64, device=Z.device).expand(Z.shape[1])
        weights = codes.new_full((len(W), 1), self.A)
        weights[: len(codes), 0] /= codes
        return codes, weights


def _times(F: Tensor, units: Tensor) -> Tensor:
    """F times powers of two of any size, through float64, in which they and their products are exact."""
    return (F.double() * units).to(F.dtype)


def check_matrix(
    A: Tensor,
    name: str = "A",
    *,
    like: Tensor | None = None,
    shape: tuple[int, int] | None = None,
    negative: str | None = None,
    nan: str = "",
) -> None:
    """Raise a `ConfigError` unless A is a non-empty, finite, dense matrix in float32 or float64.

    Args:
        A: what was given.
        name: what to call it.
        like: a matrix whose type and device it must have.
        shape: the shape it must have.
        negative: the remedy for negative entries, where they are not allowed.
        nan: what else can be done about NaN.
    """
    check_dense(A, name)
    if shape is not None:
        require(tuple(A.shape) == shape, name, f"of shape {shape}", tuple(A.shape))
    if like is not None and (A.dtype, A.device) != (like.dtype, like.device):
        raise ConfigError(
            f"{name} must be {like.dtype} on {like.device} like A, got {A.dtype} on {A.device}: "
            f"convert it with {name}.to(A)"
        )
    low, high = _bounds(A)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigError(f"{name} holds NaN or infinite entries: remove or replace them first{nan}")
    if negative is not None and low < 0:
        raise ConfigError(f"{name} has negative entries: {negative}")


def unit(A: Tensor) -> float:
    """`linalg.unit` of A, whose rows may be shared out over ranks."""
    top = torch.maximum(*(bound.abs() for bound in A.aminmax()))
    return linalg.unit(parallel.largest(top).view(1, 1))


def in_units(A: Any, u: float) -> Any:
    """A/u; A itself for u = 1, which is not copied."""
    return A if u == 1 else A / u


def _bounds(A: Tensor) -> tuple[float, float]:
    """The least and the largest entry, NaN where any is: one pass that makes no matrix, and waits once."""
    low, high = torch.stack(A.aminmax()).tolist()
    return low, high


def _finite(A: Tensor) -> bool:
    return all(map(math.isfinite, _bounds(A)))


def two(start: Any) -> tuple[Any, Any]:
    """A given start as (Z, W).

    Raises:
        ConfigError: it is no pair.
    """
    pair = isinstance(start, (tuple, list)) and len(start) == 2
    require(pair, "start", "a pair (Z, W) of matrices, as (result.Z, result.W)", type(start).__name__)
    return start[0], start[1]


def source(generator: torch.Generator | None, device: torch.device) -> torch.Generator:
    """The given generator or a new one with seed 0 on `device`: calls without one are reproducible.

    Raises:
        ConfigError: it is none of PyTorch's, or belongs to another device.
    """
    if generator is None:
        return torch.Generator(device).manual_seed(0)
    what = "None or a generator of torch, as torch.Generator().manual_seed(0)"
    require(hasattr(generator, "device"), "generator", what, generator)
    require(generator.device.type == device.type, "generator", f"on {device} like A", generator.device)
    return generator
