"""NMF, semi-NMF and nonlinear semi-NMF as transformers: samples to codes and back.

Legend: samples A (n × p), codes Z (n × k), components W (k × p), intercept b (p) where there is a bias.
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from typing import Any

import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ..errors import DataError, require, require_whole
from ..factorization import (
    Penalty,
    Result,
    Stopping,
    affine,
    nmf,
    nonlinear_semi_nmf,
    nonlinear_transform,
    semi_nmf,
    transform,
)
from .base import Estimator, like, stored

SETTLED = Stopping(max_iterations=100, tolerance=1e-12, check_every=5)
"""For codes of given components: a sample's must not depend on those of others that end the iteration."""

STEADY = Stopping(max_iterations=500, tolerance=0, check_every=500)
"""For those of multiplicative updates, which take much longer to settle."""


class Factorization(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Estimator):
    """What the three share. A subclass factors and has an `__init__`, whose signature scikit-learn reads."""

    n_components: int | None
    max_iter: int
    tol: float
    bias = False

    components_: Any
    intercept_: Any

    @abstractmethod
    def _factor(self, A: Tensor, rank: int, stopping: Stopping, generator: torch.Generator) -> Result:
        """A ≈ ZW for a number of components."""

    def _codes(self, A: Tensor, W: Tensor) -> Tensor:
        """The codes of samples A for components W, with a bias row where there is a bias."""
        return transform(A, W, bias=self.bias, stopping=SETTLED).Z

    def _divergence(self, result: Result) -> float:
        """What the fit has minimised, without penalties."""
        return min(result.objective)

    def fit(self, X: Any, y: Any = None) -> Any:
        """Find components for samples X (n × p).

        Raises:
            ValueError: samples or parameters outside their range.
        """
        A = self._samples(X, reset=True)
        rank = self.n_components
        rank = A.shape[1] if rank is None else require_whole(rank, "n_components", 1)
        require_whole(self.max_iter, "max_iter", 1)
        require(0 <= self.tol < 1, "tol", "in [0, 1)", self.tol)
        stopping = Stopping(self.max_iter, self.tol)
        result = self._factor(A, rank, stopping, torch.Generator(A.device).manual_seed(self._seed()))
        if result.ended == "max_iterations" and self.tol > 0:
            warnings.warn(
                f"{type(self).__name__} has not settled after max_iter={self.max_iter} iterations: raise "
                "max_iter or tol",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.components_ = like(result.W[:rank], X)
        if self.bias:
            self.intercept_ = like(result.W[rank], X)
        self.n_components_ = rank
        self.n_iter_ = min(self.max_iter, (len(result.objective) - 1) * stopping.check_every)
        self.reconstruction_err_ = (2 * self._divergence(result)) ** 0.5
        return self

    def transform(self, X: Any) -> Any:
        """Codes Z (n × k) of samples X (n × p) for the components that were found."""
        check_is_fitted(self)
        A = self._samples(X)
        return like(self._codes(A, self._weights(A)), X)

    def inverse_transform(self, X: Any) -> Any:
        """Samples (n × p) for codes X (n × k)."""
        check_is_fitted(self)
        Z = torch.as_tensor(X)
        Z = Z.to(self._device(Z), self._dtype(Z))
        fits = Z.ndim == 2 and Z.shape[1] == self.n_components_
        require(fits, "X", f"n × {self.n_components_}", tuple(Z.shape))
        return like(self._reconstruct(Z, self._weights(Z)), X)

    def _reconstruct(self, Z: Tensor, W: Tensor) -> Tensor:
        return affine(Z, W)

    def _weights(self, values: Tensor) -> Tensor:
        """Components, with the intercept below them where there is one, where these values are."""
        W = torch.as_tensor(self.components_).to(values)
        return torch.cat([W, torch.as_tensor(self.intercept_).to(values)[None]]) if self.bias else W

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"] if self.dtype is None else []
        return tags


class NMF(Factorization):
    """Nonnegative factors: min ½‖A − ZW‖² over Z ≥ 0 and W ≥ 0, see `nmfdnn.factorization.nmf`.

    Args:
        n_components: k; None takes as many as there are features.
        beta: the divergence: 2 is ½‖A − ZW‖², 1 Kullback & Leibler's, 0 Itakura & Saito's, which needs A > 0.
        l1: makes entries of both factors exactly zero, or for β < 2 small; counts in the unit of the
            samples, see `nmfdnn.factorization.Penalty`.
        l2: makes large entries of both smaller.
        missing: "nan": entries that are NaN do not count, in `transform` neither; None refuses them.
        update: "accelerated" (HALS with several sweeps, extrapolated), "hals" or "multiplicative"; None is
            the first, for β < 2 the last.
        start: "nndsvda", "nndsvd", "nndsvdar" or "random".
        subsample: rows to which components are fitted first; None chooses, 0 never does.
        max_iter: iterations at most.
        tol: stop when ten iterations lower the objective by at most this fraction of ½‖A‖².
        random_state: of all that is random.
        device: where to compute, as "cuda"; None where the samples are: arrays on the CPU.
        dtype: "float32" or "float64"; None that of the samples.

    Attributes:
        components_: W, k × p.
        reconstruction_err_: ‖A − ZW‖ at the end of the fit, of what counts; for β < 2 √(2d_β(A | ZW)).
        n_components_: k.
        n_iter_: iterations that the fit has taken.

    `transform` solves the problem in Z with W as it is, for the samples of the fit too; a penalty is the one
    that it was in the fit. For β < 2 it takes 500 multiplicative updates. Samples may be sparse, of SciPy or
    torch, with β > 0 and nothing missing: they are never made dense, components and codes are.

    >>> import numpy as np
    >>> from nmfdnn.estimators import NMF
    >>> rng = np.random.default_rng(0)
    >>> A = rng.random((100, 3)) @ rng.random((3, 20))
    >>> model = NMF(n_components=3, random_state=0, tol=1e-9, max_iter=1000)
    >>> Z = model.fit_transform(A)
    >>> Z.shape, bool(np.abs(A - model.inverse_transform(Z)).max() < 0.01)
    ((100, 3), True)
    """

    @property
    def sparse(self) -> bool:
        return self.beta > 0 and self.missing is None

    @property
    def gaps(self) -> bool:
        return self.missing == "nan"

    def __init__(
        self,
        n_components: int | None = None,
        *,
        beta: int = 2,
        l1: float = 0.0,
        l2: float = 0.0,
        missing: str | None = None,
        update: str | None = None,
        start: str = "nndsvda",
        subsample: int | None = None,
        max_iter: int = 200,
        tol: float = 1e-4,
        random_state: Any = None,
        device: str | torch.device | None = None,
        dtype: str | None = None,
    ) -> None:
        self.n_components = n_components
        self.beta = beta
        self.l1 = l1
        self.l2 = l2
        self.missing = missing
        self.update = update
        self.start = start
        self.subsample = subsample
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.device = device
        self.dtype = dtype

    def _samples(self, X: Any, *, reset: bool = False) -> Tensor:
        A = super()._samples(X, reset=reset)
        if self.beta == 0 and bool((A == 0).any()):
            raise DataError(
                "X has zeros, which beta=0 cannot fit: use beta=1, or NaN in their place and missing='nan'"
            )
        return A

    def _factor(self, A: Tensor, rank: int, stopping: Stopping, generator: torch.Generator) -> Result:
        if bool((stored(A) < 0).any()):
            raise DataError(
                "Negative values in data passed to NMF: shift or clip X, or use SemiNMF, which allows them"
            )
        self._scale = scale(A)
        return nmf(
            A,
            rank,
            update=self.update,
            start=self.start,
            subsample=self.subsample,
            stopping=stopping,
            generator=generator,
            missing=self.missing,
            beta=self.beta,
            penalty=Penalty(self.l1, self.l2),
        )

    def _codes(self, A: Tensor, W: Tensor) -> Tensor:
        (c, s), (count, size) = self._scale, scale(A)
        if count == 0:
            return A.new_zeros(len(A), len(W))
        penalty = Penalty(self.l1, self.l2)
        if s > 0 and size > 0:  # what it was in the fit, relative to these samples
            penalty = penalty.level(c * s**self.beta / (count * size**self.beta), math.sqrt(s / size))
        stopping = SETTLED if self.beta == 2 else STEADY
        return transform(A, W, stopping=stopping, missing=self.missing, beta=self.beta, penalty=penalty).Z

    def _divergence(self, result: Result) -> float:
        c, s = self._scale
        n, m = len(result.Z), result.W.shape[1]
        penalty = Penalty(self.l1, self.l2)
        parts = zip((c, n * c / m), (result.Z, result.W), strict=True)
        costs = [float(penalty.level(size * s**self.beta, math.sqrt(s)).value(F)) for size, F in parts]
        return max(0.0, min(result.objective) - sum(costs))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        return tags


def scale(A: Tensor) -> tuple[float, float]:
    """How many entries of a sample are known, on average, and their root mean square: see `Penalty`."""
    values = stored(A).double()
    missing = values.isnan()
    count = len(A) * A.shape[1] - int(missing.sum())
    square = float(values.where(~missing, 0.0).square().sum())
    return count / len(A), math.sqrt(square / max(count, 1))


class SemiNMF(Factorization):
    """Nonnegative codes, free components: min ½‖A − ẐW‖² over Z ≥ 0, see `nmfdnn.factorization.semi_nmf`.

    Args:
        n_components: k; None takes as many as there are features.
        bias: whether there is an intercept b: A ≈ ZW + b.
        update: of the codes, "exact" (a coordinate at a time) or "multiplicative".
        start: "svd" or "random"; None is the one that suits `update`.
        max_iter: iterations at most.
        tol: stop when ten iterations lower the objective by at most this fraction of ½‖A‖².
        random_state: of all that is random.
        device: where to compute, as "cuda"; None where the samples are: arrays on the CPU.
        dtype: "float32" or "float64"; None that of the samples.

    Attributes:
        components_: W, k × p.
        intercept_: b (p), with `bias` alone.
        reconstruction_err_: ‖A − ẐW‖ at the end of the fit.
        n_components_: k.
        n_iter_: iterations that the fit has taken.

    `transform` solves the problem in Z with the components as they are. Samples may be sparse, as for `NMF`.

    >>> import numpy as np
    >>> from nmfdnn.estimators import SemiNMF
    >>> A = np.random.default_rng(0).standard_normal((50, 8))
    >>> Z = SemiNMF(n_components=4, tol=1e-3, random_state=0).fit_transform(A)
    >>> Z.shape, bool((Z >= 0).all())
    ((50, 4), True)
    """

    sparse = True

    def __init__(
        self,
        n_components: int | None = None,
        *,
        bias: bool = False,
        update: str = "exact",
        start: str | None = None,
        max_iter: int = 200,
        tol: float = 1e-4,
        random_state: Any = None,
        device: str | torch.device | None = None,
        dtype: str | None = None,
    ) -> None:
        self.n_components = n_components
        self.bias = bias
        self.update = update
        self.start = start
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.device = device
        self.dtype = dtype

    def _factor(self, A: Tensor, rank: int, stopping: Stopping, generator: torch.Generator) -> Result:
        return semi_nmf(
            A,
            rank,
            bias=self.bias,
            update=self.update,
            start=self.start,
            stopping=stopping,
            generator=generator,
        )


class NonlinearSemiNMF(Factorization):
    """Codes behind a ReLU: min ½‖A − f(ẐW)‖² over Z ≥ 0, see `nmfdnn.factorization.nonlinear_semi_nmf`.

    Fits sparse nonnegative samples with fewer components than NMF: zeros cost nothing. Entries below zero
    cannot be met.

    Args:
        n_components: k; None takes as many as there are features.
        bias: whether there is an intercept b: A ≈ f(ZW + b).
        start: "random" or "svd".
        max_iter: iterations at most.
        tol: stop when ten iterations lower the objective by at most this fraction of ½‖A‖².
        random_state: of all that is random.
        device: where to compute, as "cuda"; None where the samples are: arrays on the CPU.
        dtype: "float32" or "float64"; None that of the samples.

    Attributes:
        components_: W, k × p.
        intercept_: b (p), with `bias` alone.
        reconstruction_err_: ‖A − f(ẐW)‖ at the end of the fit.
        n_components_: k.
        n_iter_: iterations that the fit has taken.

    `transform` lowers ½‖A − f(ẐW)‖² over Z ≥ 0 with the components as they are, from zero codes. That problem
    is not convex: what it finds for the samples of the fit need not be the codes that the fit had.

    >>> import numpy as np
    >>> from nmfdnn.estimators import NonlinearSemiNMF
    >>> A = np.eye(8)
    >>> model = NonlinearSemiNMF(n_components=3, bias=True, random_state=0, max_iter=2000, tol=1e-9).fit(A)
    >>> model.reconstruction_err_ < 0.5
    True
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        bias: bool = False,
        start: str = "random",
        max_iter: int = 200,
        tol: float = 1e-4,
        random_state: Any = None,
        device: str | torch.device | None = None,
        dtype: str | None = None,
    ) -> None:
        self.n_components = n_components
        self.bias = bias
        self.start = start
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.device = device
        self.dtype = dtype

    def _factor(self, A: Tensor, rank: int, stopping: Stopping, generator: torch.Generator) -> Result:
        return nonlinear_semi_nmf(
            A, rank, bias=self.bias, start=self.start, stopping=stopping, generator=generator
        )

    def _codes(self, A: Tensor, W: Tensor) -> Tensor:
        return nonlinear_transform(A, W, bias=self.bias).Z

    def _reconstruct(self, Z: Tensor, W: Tensor) -> Tensor:
        return affine(Z, W).relu_()
