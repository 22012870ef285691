"""Stacked NMF autoencoder: greedy start of the hidden layers without labels (Sakurai et al. 2016, section 4).

For each hidden layer with input A (X, then the previous codes): A ≈ ZU by NMF and Z ≈ f(ÂW) by nonlinear
least squares in turn; W is kept as the layer's weights and f(ÂW) is the next layer's input. Inputs of both
signs are split for the NMF: [A₊ A₋] ≈ Z[U₊ U₋] with nonnegative factors, so that A ≈ Z(U₊ − U₋).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import require
from ..factorization import Pair, augmented, hals_step, multiplicative_step, split_bias
from ..factorization.nmf import UPDATES
from ..kernels import REFERENCE, Kernels
from ..linalg import factor
from ..network import Layer, root_mean_square
from ..source import Source
from .alternating import SolverConfig
from .common import collect

log = logging.getLogger(__name__)

DTYPES = ("float32", "float64")

PATCHES_AT_ONCE = 100_000
"""That are there at a time where few of many are used, about."""


@dataclass
class PretrainingConfig:
    """Stacked NMF autoencoders.

    Attributes:
        samples: size of the one random mini-batch that is used, and number of its patches where a layer sees
            patches; null uses all.
        outer_iterations: alternations of NMF and least squares per layer.
        nmf_iterations: NMF iterations in each alternation.
        lsq_iterations: nonlinear least-squares iterations in each alternation.
        update: NMF update, "multiplicative" (the paper's) or "hals".
        dtype: precision of the iterations, "float32" or "float64"; null takes that of the run. The inputs are
            factored, and the weights come out, in the precision of the run.
    """

    samples: int | None = 5000
    outer_iterations: int = 20
    nmf_iterations: int = 25
    lsq_iterations: int = 25
    update: str = "multiplicative"
    dtype: str | None = None

    def __post_init__(self) -> None:
        require(self.samples is None or self.samples >= 1, "pretraining.samples", "null or ≥ 1", self.samples)
        for key in ("outer_iterations", "nmf_iterations", "lsq_iterations"):
            require(getattr(self, key) >= 1, f"pretraining.{key}", "≥ 1", getattr(self, key))
        key = "pretraining.dtype"
        require(self.dtype in (None, *DTYPES), key, f"null or one of {', '.join(DTYPES)}", self.dtype)
        require(self.update in UPDATES, "pretraining.update", f"one of {', '.join(UPDATES)}", self.update)


@dataclass(frozen=True)
class PretrainedLayer:
    """One hidden layer's start.

    Attributes:
        W: encoder weights, fan-in (+ 1) × fan-out.
        U: NMF parts, fan-out × fan-in: the decoder; of both signs where the inputs are. W and U are scaled
            such that the codes f(ÂW) have root mean square one on the samples used, which leaves the product
            f(ÂW)U as it is.
        reconstruction: after each alternation ‖A − f(ÂW)U‖/‖A‖, the autoencoder's relative error.
    """

    W: Tensor
    U: Tensor
    reconstruction: list[float]


def steps(config: PretrainingConfig, layers: Sequence[Layer]) -> int:
    """Iterations of the pre-training of these hidden layers, of both kinds."""
    return len(layers) * config.outer_iterations * (config.nmf_iterations + config.lsq_iterations)


def _silent() -> None:
    pass


@torch.no_grad()
def pretrain(
    source: Source,
    layers: Sequence[Layer],
    bias: bool,
    config: PretrainingConfig,
    solver: SolverConfig,
    generator: torch.Generator,
    kernels: Kernels = REFERENCE,
    tick: Callable[[], object] | None = None,
) -> list[PretrainedLayer]:
    """Start the hidden `layers` from samples of a `source`, with a CPU `generator`; equal on every rank.

    `tick` is called after each of the `steps`.
    """
    rows = torch.arange(len(source))
    if config.samples is not None and config.samples < len(rows):
        rows = torch.randperm(len(rows), generator=generator)[: config.samples]
    Z = collect(source, rows.to(source.device)).X
    trained: list[PretrainedLayer] = []
    for index, layer in enumerate(layers):
        delta = solver.input_delta if index == 0 else solver.hidden_delta
        patches = len(Z) * layer.positions
        if config.samples is not None and layer.positions > 1 and config.samples < patches:
            A = _some_rows(layer, Z, torch.randperm(patches, generator=generator)[: config.samples])
        else:
            A = layer.rows(Z)
        trained.append(
            _autoencoder(
                A, layer.units, bias, config, solver.method, delta, generator, kernels, tick or _silent
            )
        )
        Z = layer.product(Z, *split_bias(trained[-1].W, layer.fan_in)).relu_()
    return trained


def _some_rows(layer: Layer, Z: Tensor, rows: Tensor) -> Tensor:
    """Of the rows that the layer makes of codes Z (n × inputs) those with these numbers, ascending."""
    left, found = rows.sort().values.to(Z.device), []
    for part in Z.split(max(1, PATCHES_AT_ONCE // layer.positions)):
        made = layer.rows(part)
        found.append(made[left[(left >= 0) & (left < len(made))]])
        left = left - len(made)
    return torch.cat(found)


def _autoencoder(
    A: Tensor,
    width: int,
    bias: bool,
    config: PretrainingConfig,
    method: str,
    delta: float,
    generator: torch.Generator,
    kernels: Kernels,
    tick: Callable[[], object],
) -> PretrainedLayer:
    step = multiplicative_step if config.update == "multiplicative" else hals_step
    unit = root_mean_square(A)
    A = A / unit
    factors = factor(augmented(A, bias), method, delta)
    # A step of W by A⁺ is one of C by Pᵀ, for W = BC: smaller products, and well conditioned ones.
    P, B = factors.whitened()
    dtype = getattr(torch, config.dtype) if config.dtype else A.dtype
    A, P = A.to(dtype), P.to(dtype)
    signed = bool((A < 0).any())
    target = torch.cat([A.clamp_min(0), (-A).clamp_min(0)], dim=1) if signed else A
    Z = torch.rand((len(A), width), generator=generator, dtype=B.dtype).to(A)
    U = torch.rand((width, target.shape[1]), generator=generator, dtype=B.dtype).to(A)
    C = P.new_zeros(P.shape[1], width)
    norm = A.norm().clamp_min(torch.finfo(dtype).tiny)
    reconstruction = []
    for _ in range(config.outer_iterations):
        for _ in range(config.nmf_iterations):
            Z, U = step(target, Pair(Z, U), kernels)
            tick()
        for _ in range(config.lsq_iterations):
            C = C + P.T @ kernels.relu_residual(Z, P @ C)
            tick()
        Z = (P @ C).relu_()
        decoder = U[:, : A.shape[1]] - U[:, A.shape[1] :] if signed else U
        reconstruction.append(float((A - Z @ decoder).norm() / norm))
        log.info(
            "pre-training %d units: alternation %d of %d, relative reconstruction error %.3f",
            width,
            len(reconstruction),
            config.outer_iterations,
            reconstruction[-1],
        )
    # f(ÂW)U does not change with a positive scale that moves from U to W. NMF leaves codes of any size, often
    # tiny, beside which a bias would be huge: give them a root mean square of one.
    scale = root_mean_square(Z)
    W = B @ C.to(B) / scale
    W[: A.shape[1]] /= unit
    return PretrainedLayer(W, decoder.to(B) * (scale * unit), reconstruction)
