"""Element-wise chains of the updates: a plain tensor reference and a fused version, equal to rounding.

`kernels("reference")` and `kernels("compiled")` return the same `Kernels` interface. The compiled one goes
through `torch.compile` (Triton on CUDA, C++ on CPU) and falls back to the reference, with one warning, where
no compiler is found.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache

import torch
from torch import Tensor

from ..errors import require
from . import reference

BACKENDS = ("reference", "compiled")


@dataclass(frozen=True)
class Kernels:
    """The fused element-wise operations; equations and shapes are in `nmfdnn.kernels.reference`."""

    multiplicative: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = reference.multiplicative
    semi_multiplicative: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor | float, Tensor], Tensor] = (
        reference.semi_multiplicative
    )
    relu_residual: Callable[[Tensor, Tensor], Tensor] = reference.relu_residual
    step_and_project: Callable[[Tensor, Tensor, float], Tensor] = reference.step_and_project


REFERENCE = Kernels()


@cache
def kernels(backend: str = "reference") -> Kernels:
    """The kernels of a backend, one of `BACKENDS`.

    Raises:
        ConfigError: for another name.
    """
    require(backend in BACKENDS, "kernels", f"one of {', '.join(BACKENDS)}", backend)
    if backend == "reference":
        return REFERENCE
    return Kernels(**{f.name: _Compiled(getattr(reference, f.name)) for f in fields(Kernels)})


class _Compiled:
    """A function compiled at its first call; the reference from then on where compilation fails."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self.compiled: Callable[..., Tensor] | None = torch.compile(function, dynamic=True)

    def __call__(self, *arguments: Tensor | float) -> Tensor:
        if self.compiled is not None:
            try:
                return self.compiled(*arguments)
            except Exception as error:
                self.function(*arguments)  # bad arguments raise here, as they would without a compiler
                self.compiled = None
                warnings.warn(
                    f"kernels=compiled: {self.function.__name__} could not be compiled "
                    f"({type(error).__name__}), the plain version is used; install a C++ compiler "
                    "(CPU) or triton (CUDA), or set kernels=reference",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return self.function(*arguments)
