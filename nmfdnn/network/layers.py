"""Layers: how the codes of samples become the rows that a weight matrix multiplies.

Legend: n samples; codes Z (n × inputs) that come in; rows A (n · positions × fan_in); weights W (fan_in ×
units), biases b (units); V = AW + b (n · positions × units), which read as n × outputs is what leaves.

Whatever its kind, a layer's problem is one of a matrix, B ≈ f(AW + b), so training methods, statistics and
factorizations see matrices only. A layer rearranges numbers and owns none. A kind of layer needs `rows` and
`fold`; the products are built from these two, and may be replaced by faster ones.

Codes of pictures lie channels last: n × (height · width · channels).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional, grad

from ..errors import ConfigError

Shape = tuple[int, ...] | None
"""Of the samples as pictures, such as (28, 28) or (3, 32, 32); None for plain vectors."""

KINDS: dict[str, type[Layer]] = {}
"""Every kind of layer by its name."""

SMALLER = "choose smaller kernels, strides or pools, or fewer convolutions"


class Layer(ABC):
    """Applies `units` weight vectors of length `fan_in` at `positions` places of a sample's codes."""

    inputs: int
    fan_in: int
    positions: int
    units: int

    def __init_subclass__(cls) -> None:
        KINDS[cls.__name__.lower()] = cls

    @property
    def outputs(self) -> int:
        """Numbers in a sample's codes that leave."""
        return self.positions * self.units

    @abstractmethod
    def rows(self, Z: Tensor) -> Tensor:
        """A (n · positions × fan_in) for codes Z (n × inputs)."""

    @abstractmethod
    def fold(self, A: Tensor) -> Tensor:
        """Codes (n × inputs) of least norm whose `rows` are nearest to A (n · positions × fan_in)."""

    def moved(self, Z: Tensor, A: Tensor) -> Tensor:
        """Codes ≥ 0 (n × inputs) near to codes Z, whose `rows` are near to A (n · positions × fan_in), A ≥ 0.

        What `rows` leave out, as pixels in no patch or differences within pools, stays as it is in Z.
        """
        return (Z + self.fold(A - self.rows(Z))).relu_()

    def of_rows(self, values: Tensor) -> Tensor:
        """For numbers of samples (n × 1) those of their rows (n · positions × 1)."""
        return values.repeat_interleave(self.positions, dim=0)

    def product(self, Z: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
        """AW + b as n × outputs, for A = rows(Z)."""
        A = self.rows(Z)
        return (A @ W if b is None else torch.addmm(b, A, W)).view(len(Z), self.outputs)

    def cross(self, Z: Tensor, R: Tensor) -> Tensor:
        """AᵀR (fan_in × units) for A = rows(Z) and residuals R (n × outputs)."""
        return self.rows(Z).T @ R.reshape(-1, self.units)

    def back(self, R: Tensor, M: Tensor) -> Tensor:
        """fold(RM) (n × inputs) for residuals R (n × outputs) and M (units × fan_in)."""
        return self.fold(R.reshape(-1, self.units) @ M)

    def pictures(self, M: Tensor, shape: Shape) -> tuple[Tensor, Shape]:
        """M (m × fan_in) as m pictures, channels first, with their shape, for samples of this `shape`."""
        return M, shape

    def state(self) -> dict[str, Any]:
        """The layer as plain containers, see `from_state`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        values = {key: value.state() if isinstance(value, Layer) else value for key, value in values.items()}
        return {"kind": type(self).__name__.lower(), **values}


@dataclass(frozen=True)
class Dense(Layer):
    """The codes of a sample are its only row."""

    fan_in: int
    units: int
    positions: ClassVar[int] = 1  # type: ignore[misc]

    @property
    def inputs(self) -> int:  # type: ignore[override]
        return self.fan_in

    def rows(self, Z: Tensor) -> Tensor:
        return Z

    def fold(self, A: Tensor) -> Tensor:
        return A

    def moved(self, Z: Tensor, A: Tensor) -> Tensor:
        return A


@dataclass(frozen=True)
class Convolution(Layer):
    """Patches of `kernel` × `kernel` pixels are rows, in the order row, column, channel.

    Attributes:
        height: of the pictures that come in.
        width: theirs.
        channels: theirs.
        units: channels of those that leave.
        kernel: side of a patch.
        stride: pixels from one patch to the next.
        padding: pixels of zeros around the pictures.
        planar: whether their channels lie first, as the pixels of data do.
    """

    height: int
    width: int
    channels: int
    units: int
    kernel: int
    stride: int = 1
    padding: int = 0
    planar: bool = False

    def __post_init__(self) -> None:
        if min(self.places) < 1:
            raise ConfigError(
                f"a kernel of {self.kernel} does not fit into pictures of {self.height} × {self.width} with "
                f"padding {self.padding}: {SMALLER}"
            )

    @property
    def places(self) -> tuple[int, int]:
        """Rows and columns of places where the kernel lies."""
        high, wide = (side + 2 * self.padding - self.kernel for side in (self.height, self.width))
        return high // self.stride + 1, wide // self.stride + 1

    @property
    def inputs(self) -> int:  # type: ignore[override]
        return self.height * self.width * self.channels

    @property
    def fan_in(self) -> int:  # type: ignore[override]
        return self.kernel**2 * self.channels

    @property
    def positions(self) -> int:  # type: ignore[override]
        return math.prod(self.places)

    def rows(self, Z: Tensor) -> Tensor:
        pad = (self.padding,) * 4
        picture = functional.pad(self._picture(Z), pad).contiguous(memory_format=torch.channels_last)
        patches = picture.permute(0, 2, 3, 1).unfold(1, self.kernel, self.stride)
        return patches.unfold(2, self.kernel, self.stride).permute(0, 1, 2, 4, 5, 3).reshape(-1, self.fan_in)

    def fold(self, A: Tensor) -> Tensor:
        kernels = A.view(-1, *self.places, self.kernel, self.kernel, self.channels)
        sides = (side + 2 * self.padding for side in (self.height, self.width))
        padded = A.new_zeros(len(kernels), *sides, self.channels)
        high, wide = (self.stride * (places - 1) + 1 for places in self.places)
        for y in range(self.kernel):
            for x in range(self.kernel):
                place = padded[:, y : y + high : self.stride, x : x + wide : self.stride]
                place += kernels[:, :, :, y, x]
        inside = padded.narrow(1, self.padding, self.height).narrow(2, self.padding, self.width)
        return self._shared(inside.permute(0, 3, 1, 2))

    def product(self, Z: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
        V = functional.conv2d(self._picture(Z), self._kernels(W.T), b, self.stride, self.padding)
        return V.permute(0, 2, 3, 1).reshape(len(Z), self.outputs)

    def cross(self, Z: Tensor, R: Tensor) -> Tensor:
        shape = (self.units, self.channels, self.kernel, self.kernel)
        C = grad.conv2d_weight(self._picture(Z), shape, self._places(R), self.stride, self.padding)
        return C.permute(2, 3, 1, 0).reshape(self.fan_in, self.units)

    def back(self, R: Tensor, M: Tensor) -> Tensor:
        return self._shared(self._spread(self._places(R), self._kernels(M)))

    def pictures(self, M: Tensor, shape: Shape) -> tuple[Tensor, Shape]:
        return self._kernels(M).reshape(len(M), -1), (self.channels, self.kernel, self.kernel)

    def _picture(self, Z: Tensor) -> Tensor:
        """Codes as n × channels × height × width."""
        if self.planar and self.channels > 1:  # with one, products take their order from how it is named
            return Z.reshape(-1, self.channels, self.height, self.width)
        return Z.reshape(-1, self.height, self.width, self.channels).permute(0, 3, 1, 2)

    def _places(self, R: Tensor) -> Tensor:
        """Residuals as n × units × rows of places × columns of places."""
        return R.reshape(-1, *self.places, self.units).permute(0, 3, 1, 2)

    def _kernels(self, M: Tensor) -> Tensor:
        """M (units × fan_in) as units × channels × kernel × kernel."""
        return M.reshape(-1, self.kernel, self.kernel, self.channels).permute(0, 3, 1, 2)

    def _spread(self, R: Tensor, kernels: Tensor) -> Tensor:
        rest = [(side + 2 * self.padding - self.kernel) % self.stride for side in (self.height, self.width)]
        return functional.conv_transpose2d(R, kernels, None, self.stride, self.padding, rest)

    def _shared(self, sums: Tensor) -> Tensor:
        """Sums over patches (n × channels × height × width) as means, n × inputs."""
        means = sums / _coverage(self, sums.device, sums.dtype)
        return (means if self.planar else means.permute(0, 2, 3, 1)).reshape(-1, self.inputs)


@lru_cache
def _coverage(layer: Convolution, device: torch.device, dtype: torch.dtype) -> Tensor:
    """In how many patches each pixel lies, 1 × 1 × height × width; at least 1."""
    ones = torch.ones(1, 1, *layer.places, device=device, dtype=dtype)
    return layer._spread(ones, ones.new_ones(1, 1, layer.kernel, layer.kernel)).clamp_min(1)


@dataclass(frozen=True)
class Pooled(Layer):
    """Another layer, `then`, behind means over squares of pixels; pixels beyond whole squares are left out.

    Attributes:
        height: of the pictures that come in.
        width: theirs.
        channels: theirs.
        size: side of a square of pixels.
        then: the layer that gets the means.
    """

    height: int
    width: int
    channels: int
    size: int
    then: Layer

    @property
    def inputs(self) -> int:  # type: ignore[override]
        return self.height * self.width * self.channels

    @property
    def fan_in(self) -> int:  # type: ignore[override]
        return self.then.fan_in

    @property
    def positions(self) -> int:  # type: ignore[override]
        return self.then.positions

    @property
    def units(self) -> int:  # type: ignore[override]
        return self.then.units

    def rows(self, Z: Tensor) -> Tensor:
        return self.then.rows(self._means(Z))

    def fold(self, A: Tensor) -> Tensor:
        return self._repeated(self.then.fold(A))

    def product(self, Z: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
        return self.then.product(self._means(Z), W, b)

    def cross(self, Z: Tensor, R: Tensor) -> Tensor:
        return self.then.cross(self._means(Z), R)

    def back(self, R: Tensor, M: Tensor) -> Tensor:
        return self._repeated(self.then.back(R, M))

    def _means(self, Z: Tensor) -> Tensor:
        picture = Z.reshape(-1, self.height, self.width, self.channels).permute(0, 3, 1, 2)
        return functional.avg_pool2d(picture, self.size).permute(0, 2, 3, 1).reshape(len(Z), self.then.inputs)

    def _repeated(self, means: Tensor) -> Tensor:
        high, wide = self.height // self.size, self.width // self.size
        squares = means.reshape(-1, high, 1, wide, 1, self.channels)
        squares = squares.expand(-1, -1, self.size, -1, self.size, -1)
        whole = squares.reshape(-1, high * self.size, wide * self.size, self.channels)
        rest = (0, 0, 0, self.width - wide * self.size, 0, self.height - high * self.size)
        if any(rest):  # else a padding by nothing would be a copy
            whole = functional.pad(whole, rest)
        return whole.reshape(-1, self.inputs)


def from_state(state: dict[str, Any]) -> Layer:
    """The layer of which `state` is the `Layer.state`."""
    values = {key: from_state(value) if isinstance(value, dict) else value for key, value in state.items()}
    return KINDS[str(values.pop("kind"))](**values)


def dense(*widths: int) -> tuple[Layer, ...]:
    """Fully connected layers of these widths, from the inputs to the outputs."""
    return tuple(Dense(before, after) for before, after in pairwise(widths))
