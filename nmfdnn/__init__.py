"""ReLU networks trained by alternating nonnegative matrix factorizations, without backpropagation.

`nmfdnn.train("experiment=best", "data=digits")` trains as the command line does, see `nmfdnn.api`;
`nmfdnn.load(path)` is the model that a run has left, see `nmfdnn.model`;
`nmfdnn.estimators` has the methods for scikit-learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .api import Trained, train
    from .model import Model, load

__all__ = ["Model", "Trained", "__version__", "load", "train"]


def __getattr__(name: str) -> Any:
    # PyTorch takes seconds to load: not before it is needed.
    if name in ("Model", "load"):
        from . import model

        return getattr(model, name)
    if name in ("Trained", "train"):
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
