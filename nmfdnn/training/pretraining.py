"""Stacked NMF autoencoder: greedy start of the hidden layers without labels (Sakurai et al. 2016, section 4).

For each hidden layer with input A (X, then the previous codes): A ≈ ZU by NMF and Z ≈ f(ÂW) by nonlinear
least squares in turn; W is kept as the layer's weights and f(ÂW) is the next layer's input.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import DataError, require
from ..factorization import Pair, affine, augmented, hals_step, multiplicative_step, weight_step
from ..factorization.nmf import UPDATES
from ..kernels import REFERENCE, Kernels
from ..linalg import factor
from .alternating import SolverConfig

log = logging.getLogger(__name__)


@dataclass
class PretrainingConfig:
    """Stacked NMF autoencoders.

    Attributes:
        samples: size of the one random mini-batch that is used; null uses all training samples.
        outer_iterations: alternations of NMF and least squares per layer.
        nmf_iterations: NMF iterations in each alternation.
        lsq_iterations: nonlinear least-squares iterations in each alternation.
        update: NMF update, "multiplicative" (the paper's) or "hals".
    """

    samples: int | None = 5000
    outer_iterations: int = 20
    nmf_iterations: int = 25
    lsq_iterations: int = 25
    update: str = "multiplicative"

    def __post_init__(self) -> None:
        require(self.samples is None or self.samples >= 1, "pretraining.samples", "null or ≥ 1", self.samples)
        for key in ("outer_iterations", "nmf_iterations", "lsq_iterations"):
            require(getattr(self, key) >= 1, f"pretraining.{key}", "≥ 1", getattr(self, key))
        require(self.update in UPDATES, "pretraining.update", f"one of {', '.join(UPDATES)}", self.update)


@dataclass(frozen=True)
class PretrainedLayer:
    """One hidden layer's start.

    Attributes:
        W: encoder weights, fan-in (+ 1) × fan-out.
        U: NMF parts, fan-out × fan-in: the decoder. W and U are scaled such that the codes f(ÂW) have
            root mean square one on the samples used, which leaves the product f(ÂW)U as it is.
        reconstruction: after each alternation ‖A − f(ÂW)U‖/‖A‖, the autoencoder's relative error.
    """

    W: Tensor
    U: Tensor
    reconstruction: list[float]


def pretrain(
    X: Tensor,
    hidden: list[int],
    bias: bool,
    config: PretrainingConfig,
    solver: SolverConfig,
    generator: torch.Generator,
    kernels: Kernels = REFERENCE,
) -> list[PretrainedLayer]:
    """Start the hidden layers of widths `hidden` from X (n × p, nonnegative), with a CPU `generator`.

    Raises:
        DataError: X has negative entries.
    """
    if bool((X < 0).any()):
        raise DataError(
            "NMF pre-training needs nonnegative inputs: scale the data to [0, 1] or set network.start=he"
        )
    if config.samples is not None and config.samples < len(X):
        X = X[torch.randperm(len(X), generator=generator)[: config.samples].to(X.device)]
    layers: list[PretrainedLayer] = []
    A = X
    for index, width in enumerate(hidden):
        delta = solver.input_delta if index == 0 else solver.hidden_delta
        layers.append(_autoencoder(A, width, bias, config, solver.method, delta, generator, kernels))
        A = affine(A, layers[-1].W).relu_()
    return layers


def _autoencoder(
    A: Tensor,
    width: int,
    bias: bool,
    config: PretrainingConfig,
    method: str,
    delta: float,
    generator: torch.Generator,
    kernels: Kernels,
) -> PretrainedLayer:
    step = multiplicative_step if config.update == "multiplicative" else hals_step
    inputs = augmented(A, bias)
    factors = factor(inputs, method, delta)
    Z = torch.rand((len(A), width), generator=generator, dtype=A.dtype).to(A.device)
    U = torch.rand((width, A.shape[1]), generator=generator, dtype=A.dtype).to(A.device)
    W = A.new_zeros(inputs.shape[1], width)
    norm = A.norm()
    reconstruction = []
    for _ in range(config.outer_iterations):
        for _ in range(config.nmf_iterations):
            Z, U = step(A, Pair(Z, U), kernels)
        for _ in range(config.lsq_iterations):
            W = weight_step(inputs, Z, W, factors, omega=1.0, kernels=kernels)
        Z = (inputs @ W).relu_()
        reconstruction.append(float((A - Z @ U).norm() / norm))
        log.info(
            "pre-training %d units: alternation %d of %d, relative reconstruction error %.3f",
            width,
            len(reconstruction),
            config.outer_iterations,
            reconstruction[-1],
        )
    # f(ÂW)U does not change with a positive scale that moves from U to W. NMF leaves codes of any size, often
    # tiny, beside which a bias or an absolute ridge would be huge: give them a root mean square of one.
    scale = float(Z.square().mean().sqrt()) or 1.0
    return PretrainedLayer(W / scale, U * scale, reconstruction)
