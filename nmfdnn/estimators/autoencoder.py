"""The stacked NMF autoencoder that networks start from, as a transformer.

Legend: samples X (n × p), codes Zᵢ (n × kᵢ) with Z₀ = X, encoder weights Wᵢ (kᵢ₋₁ × kᵢ, with a bias one row
more), decoder parts Uᵢ (kᵢ × kᵢ₋₁): Zᵢ = f(Ẑᵢ₋₁Wᵢ), f = ReLU, and Zᵢ₋₁ ≈ ZᵢUᵢ.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from ..errors import require
from ..factorization import affine
from ..network import Dense
from ..source import Memory
from ..training import PretrainingConfig, SolverConfig, pretrain
from .base import Estimator, like
from .settings import widths


class NMFAutoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Estimator):
    """Codes of stacked NMF autoencoders (Sakurai et al. 2016, section 4), see `nmfdnn.training.pretraining`.

    Layer by layer A ≈ ZU by NMF and Z ≈ f(ÂW) by nonlinear least squares in turn, without labels. Codes of
    new samples are one pass through the encoders, no problem has to be solved. Samples may have both signs;
    what is proportionate, as by a `StandardScaler` or `MinMaxScaler` before it, learns best.

    Args:
        hidden_layer_sizes: numbers of codes k₁ … of the layers.
        bias: whether encoders have a bias.
        max_iter: alternations of NMF and least squares for each layer.
        nmf_iterations: NMF iterations in each.
        encoder_iterations: least-squares iterations in each.
        update: of the NMF, "multiplicative" (the paper's) or "hals".
        samples: that are used, at random; None uses all.
        random_state: of all that is random.
        device: where to compute, as "cuda"; None where the samples are: arrays on the CPU.
        dtype: "float32" or "float64"; None that of the samples.

    Attributes:
        encoders_: W₁ …, with a bias in the last row.
        decoders_: U₁ ….
        reconstruction_err_: for each layer ‖Zᵢ₋₁ − ZᵢUᵢ‖/‖Zᵢ₋₁‖ on the samples that were used.

    >>> import numpy as np
    >>> from nmfdnn.estimators import NMFAutoencoder
    >>> A = np.random.default_rng(0).random((100, 3)) @ np.random.default_rng(1).random((3, 20))
    >>> model = NMFAutoencoder([10, 5], random_state=0).fit(A)
    >>> Z = model.transform(A)
    >>> Z.shape, model.inverse_transform(Z).shape
    ((100, 5), (100, 20))
    """

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (100,),
        *,
        bias: bool = True,
        max_iter: int = 20,
        nmf_iterations: int = 25,
        encoder_iterations: int = 25,
        update: str = "multiplicative",
        samples: int | None = 5000,
        random_state: Any = None,
        device: str | torch.device | None = None,
        dtype: str | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.bias = bias
        self.max_iter = max_iter
        self.nmf_iterations = nmf_iterations
        self.encoder_iterations = encoder_iterations
        self.update = update
        self.samples = samples
        self.random_state = random_state
        self.device = device
        self.dtype = dtype

    def fit(self, X: Any, y: Any = None) -> NMFAutoencoder:
        """Train encoders and decoders on samples X (n × p).

        Raises:
            ValueError: samples or parameters outside their range.
        """
        A = self._samples(X, reset=True)
        config = PretrainingConfig(
            self.samples, self.max_iter, self.nmf_iterations, self.encoder_iterations, self.update
        )
        sizes = [A.shape[1], *widths(self.hidden_layer_sizes)]
        layers = [Dense(k, m) for k, m in pairwise(sizes)]
        source = Memory(A, torch.zeros(len(A), dtype=torch.int64, device=A.device))
        generator = torch.Generator().manual_seed(self._seed())
        trained = pretrain(source, layers, self.bias, config, SolverConfig(), generator)
        self.encoders_ = [like(layer.W, X) for layer in trained]
        self.decoders_ = [like(layer.U, X) for layer in trained]
        self.reconstruction_err_ = [layer.reconstruction[-1] for layer in trained]
        self.n_iter_ = self.max_iter
        return self

    def transform(self, X: Any) -> Any:
        """Codes (n × k) of the last layer for samples X (n × p)."""
        check_is_fitted(self)
        Z = self._samples(X)
        for W in self.encoders_:
            Z = affine(Z, torch.as_tensor(W).to(Z)).relu_()
        return like(Z, X)

    def inverse_transform(self, X: Any) -> Any:
        """Samples (n × p) for codes X (n × k) of the last layer."""
        check_is_fitted(self)
        Z = torch.as_tensor(X)
        Z = Z.to(self._device(Z), self._dtype(Z))
        expected = f"n × {self._n_features_out}"
        require(Z.ndim == 2 and Z.shape[1] == self._n_features_out, "X", expected, tuple(Z.shape))
        for U in reversed(self.decoders_):
            Z = Z @ torch.as_tensor(U).to(Z)
        return like(Z, X)

    @property
    def _n_features_out(self) -> int:
        return self.decoders_[-1].shape[0]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"] if self.dtype is None else []
        return tags
