"""ReLU networks trained by alternating nonnegative matrix factorizations, without backpropagation.

`nmfdnn.load(path)` is the model that a run has left; see `nmfdnn.model`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .model import Model, load

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name in ("Model", "load"):  # PyTorch takes seconds to load: not before it is needed
        from . import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
