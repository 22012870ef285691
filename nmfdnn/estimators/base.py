"""What all estimators share: which samples they take, on which device, and how they are pickled."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import validate_data
from torch import Tensor

from ..errors import ConfigError, DataError, require
from ..version import __version__

DTYPES = ("float32", "float64")


class Estimator(BaseEstimator):
    """Samples in, as arrays or tensors; draws from `random_state`; pickles that know their version."""

    device: str | torch.device | None
    dtype: str | None
    random_state: Any

    @property
    def sparse(self) -> bool:
        """Whether samples may be sparse; they stay so."""
        return False

    @property
    def gaps(self) -> bool:
        """Whether samples may have NaN where nothing is known."""
        return False

    def _samples(self, X: Any, *, reset: bool = False) -> Tensor:
        """Samples X (n × p, an array, data frame or tensor) on the device, in the type of the computation.

        Where they are `sparse`, a sparse matrix of SciPy or torch becomes coordinates, each of them once.
        `reset` in `fit`, which finds out the number of features and their names.

        Raises:
            ValueError: X is not what scikit-learn asks of samples, or masked.
        """
        check_unmasked(X)
        if isinstance(X, Tensor):
            X = X.detach()
            require(X.ndim == 2 and min(X.shape) > 0, "X", "n × features", tuple(X.shape))
            dense = X.layout == torch.strided
            require(dense or self.sparse, "X", "dense: X.to_dense() is", X.layout)
            require(not X.is_complex(), "X", "a tensor of real numbers", X.dtype)
            X = X if dense else X.to_sparse_coo().coalesce()
            bad = stored(X).isinf() if self.gaps else ~stored(X).isfinite()
            if bad.any():
                what = "infinity" if self.gaps else "NaN or infinity"
                raise DataError(f"X holds {what}: fill them in or leave those samples out")
            validate_data(self, X, skip_check_array=True, reset=reset)
        else:
            accepted = ["csr", "csc", "coo"] if self.sparse else False
            X = validate_data(
                self,
                X,
                reset=reset,
                accept_sparse=accepted,
                dtype=[np.float64, np.float32],
                ensure_all_finite="allow-nan" if self.gaps else True,
            )
            if hasattr(X, "tocoo"):
                X = X.tocoo()
                places = torch.from_numpy(np.stack([X.row, X.col]))
                values = torch.from_numpy(X.data)
                X = torch.sparse_coo_tensor(places, values, X.shape, check_invariants=False).coalesce()
            else:
                X = torch.from_numpy(np.require(X, requirements=["C", "W"]))  # copies what torch cannot share
        return X.to(self._device(X), self._dtype(X))

    def _dtype(self, X: Tensor | np.ndarray) -> torch.dtype:
        """Of the computation: `dtype`, else that of X where it has one of these, else float32."""
        require(self.dtype in (None, *DTYPES), "dtype", f"None or one of {', '.join(DTYPES)}", self.dtype)
        name = self.dtype or str(X.dtype).removeprefix("torch.")
        return getattr(torch, name) if name in DTYPES else torch.float32

    def _device(self, X: Any) -> torch.device:
        """Where to compute: `device`, else where X is.

        Raises:
            ConfigError: there is no such device.
        """
        if self.device is None:
            return X.device if isinstance(X, Tensor) else torch.device("cpu")
        try:
            return torch.empty(0, device=self.device).device
        except Exception as error:  # whatever PyTorch says of a device that it cannot use
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"PyTorch cannot use device={self.device} here: {reason}; leave it out to compute where X is"
            ) from error

    def _seed(self) -> int:
        """One draw of `random_state`, for all that is random in a fit."""
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self.sparse
        tags.input_tags.allow_nan = self.gaps
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = {name: on_cpu(value) for name, value in super().__getstate__().items()}
        return {**state, "_nmfdnn_version": __version__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        version = state.pop("_nmfdnn_version", "unknown")
        if version != __version__:
            warnings.warn(
                f"this {type(self).__name__} was pickled by nmfdnn {version}, this is {__version__}: it may "
                "not work; what is to last is a network's model_.save(path), or a transformer's arrays",
                stacklevel=2,
            )
        super().__setstate__(state)


def check_unmasked(X: Any) -> None:
    """Raise a `DataError` where X is an array of NumPy with masked entries: scikit-learn drops the mask."""
    if np.ma.is_masked(X):
        raise DataError(
            "X is a masked array, whose mask would be lost: X.filled(value) fills it in, and NMF with "
            "missing='nan' takes X.filled(np.nan)"
        )


def stored(X: Tensor) -> Tensor:
    """The entries that a tensor holds: of coordinates, each of them once, those that are not left out."""
    return X if X.layout == torch.strided else X.values()


def on_cpu(value: Any) -> Any:
    """A fitted attribute with its tensors on the CPU, for a pickle that is read where no other device is."""
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, list):
        return [on_cpu(item) for item in value]
    return value.to("cpu") if hasattr(value, "to") else value


def like(result: Tensor, X: Any) -> Any:
    """A result of the kind of the samples X: a tensor where they were, else an array."""
    return result.to(X.device) if isinstance(X, Tensor) else result.cpu().numpy()


def host(values: Any) -> Any:
    """A tensor as an array, anything else as it is."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values
