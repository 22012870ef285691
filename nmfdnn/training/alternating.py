"""Layer-alternating training by semi-NMF and nonlinear semi-NMF (Sakurai et al. 2016, section 5).

For each mini-batch: a forward pass gives the codes Z₁ … Z_{d−1}; then, from the output down, semi-NMF of
(Y; Z_{d−1}, W_d), nonlinear semi-NMF of (Zᵢ₊₁; Zᵢ, Wᵢ₊₁) for i = d−2 … 1, and nonlinear least squares of W₁.
No gradient is computed, and each problem sees only its own layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .. import parallel
from ..errors import require
from ..factorization import (
    Alternation,
    Pair,
    Regularisation,
    augmented,
    counted,
    nonlinear_semi_nmf_step,
    semi_nmf_step,
    weight_step,
)
from ..factorization.alternation import ORDERS
from ..kernels import REFERENCE, Kernels
from ..linalg import METHODS, Factors, factor_parts, factor_unchecked
from ..network import Layer, Network, code_scales, rescaled
from ..source import Batch, Order, Source
from .common import (
    FIRST_ROWS,
    Epoch,
    Stopwatch,
    collect,
    half_square_per_sample,
    require_batch,
    require_finite,
)

INPUT_FACTORS = ("full", "batch")

ROWS_FACTORED = 20_000
"""Rows of the inputs that are factored at once, at most; more are taken in parts, which needs less memory."""


@dataclass
class SolverConfig:
    """The pseudo-inverse behind every least-squares step.

    Attributes:
        method: "svd" (the paper's), "eigh" or "cholesky".
        input_delta: relative cut-off δ_x for the input X, in [0, 1).
        hidden_delta: relative cut-off δ_h for hidden codes and weights, in [0, 1).
    """

    method: str = "svd"
    input_delta: float = 5e-3
    hidden_delta: float = 1e-14

    def __post_init__(self) -> None:
        require(self.method in METHODS, "solver.method", f"one of {', '.join(METHODS)}", self.method)
        for key in ("input_delta", "hidden_delta"):
            require(0 <= getattr(self, key) < 1, f"solver.{key}", "in [0, 1)", getattr(self, key))


@dataclass
class AlternatingConfig:
    """Parameters of the alternating trainer.

    Attributes:
        batch_size: samples in a mini-batch.
        output_iterations: semi-NMF iterations per batch.
        hidden_iterations: nonlinear semi-NMF iterations per hidden layer and batch.
        weight_steps: W steps in each of those, and for W₁.
        code_steps: Z steps in each of those.
        order: "weights_first" or "codes_first".
        omega: relaxation ω in (0, 2].
        weight_ridge: λ_W ≥ 0 (Arai 2018).
        code_ridge: λ_Z ≥ 0 (Arai 2018).
        input_factor: "full" factors all training inputs once; "batch" factors each batch.
        averaging: decay in [0, 1) of the exponential average of the weights that is evaluated and kept.
    """

    batch_size: int = 5000
    output_iterations: int = 1
    hidden_iterations: int = 1
    weight_steps: int = 10
    code_steps: int = 1
    order: str = "weights_first"
    omega: float = 1.0
    weight_ridge: float = 0.0
    code_ridge: float = 0.0
    input_factor: str = "full"
    averaging: float = 0.0

    def __post_init__(self) -> None:
        for key in ("batch_size", "output_iterations", "hidden_iterations", "weight_steps", "code_steps"):
            require(getattr(self, key) >= 1, f"nmf.{key}", "≥ 1", getattr(self, key))
        require(self.order in ORDERS, "nmf.order", f"one of {', '.join(ORDERS)}", self.order)
        require(0 < self.omega <= 2, "nmf.omega", "in (0, 2]", self.omega)
        for key in ("weight_ridge", "code_ridge"):
            require(getattr(self, key) >= 0, f"nmf.{key}", "≥ 0", getattr(self, key))
        choices = ", ".join(INPUT_FACTORS)
        require(
            self.input_factor in INPUT_FACTORS, "nmf.input_factor", f"one of {choices}", self.input_factor
        )
        require(0 <= self.averaging < 1, "nmf.averaging", "in [0, 1)", self.averaging)


@dataclass
class AlternatingTrainer:
    """Trains `start` on a `source` by alternating factorizations, epochs in `parts`."""

    start: Network
    source: Source
    config: AlternatingConfig
    solver: SolverConfig
    generator: torch.Generator
    kernels: Kernels = REFERENCE
    parts: int = 1
    updates: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        config, solver, source = self.config, self.solver, self.source
        require_batch(config.batch_size, source, "nmf.batch_size")
        self.order = Order(source, config.batch_size, self.generator, self.parts)
        # Inputs and codes in units of their root mean squares at the start: ridges, cut-offs and the column
        # of ones then mean the same whatever unit the data have.
        first = collect(source, source.sample(FIRST_ROWS))
        self.scales = code_scales(self.start, first.X, first.weights)
        self.weights = rescaled(self.start, self.scales).weights
        self.average = list(self.weights)
        self.regularisation = Regularisation(
            solver.method, solver.hidden_delta, config.weight_ridge, config.code_ridge
        )
        self.alternation = Alternation(config.weight_steps, config.code_steps, config.omega, config.order)
        self._input_factors: Factors | None = None

    @property
    def network(self) -> Network:
        if not self.updates:
            return self.start
        return rescaled(self._with(self.average), [1 / scale for scale in self.scales])

    def epoch(self) -> Epoch:
        watch = Stopwatch(self.source.device)
        if self.config.input_factor == "full" and self._input_factors is None:
            self._input_factors = self._factor_all()
        codes: list[Tensor] = []
        for batch in self.order.part():
            codes = self.update(batch)
        seconds = watch.seconds()
        residuals = self._residuals(codes)
        require_finite(self.weights, self.source, "lower nmf.omega or raise nmf.weight_ridge")
        return Epoch(seconds, self.config.omega, residuals)

    def update(self, batch: Batch) -> list[Tensor]:
        """Alternate once over all layers on a mini-batch; returns Z₀ … Z_{d−1} after it, and the targets."""
        bias, weights, layers = self.start.bias, self.weights, self.start.layers
        Y = self.source.targets.matrix(batch.labels, layers[-1].units, batch.X.dtype)
        roots = None if batch.weights is None else batch.weights.sqrt()
        codes = self._with(weights).codes(batch.X / self.scales[0])
        for _ in range(self.config.output_iterations):
            pair = Pair(layers[-1].rows(codes[-1]), weights[-1])
            pair = semi_nmf_step(
                *(Y, pair, bias, self.regularisation, self.config.order, self.kernels),
                _of_rows(layers[-1], roots),
            )
            codes[-1], weights[-1] = layers[-1].moved(codes[-1], pair.Z), pair.W
        for i in range(len(weights) - 2, 0, -1):
            B = codes[i + 1].reshape(-1, layers[i].units)
            for _ in range(self.config.hidden_iterations):
                pair = Pair(layers[i].rows(codes[i]), weights[i])
                pair = nonlinear_semi_nmf_step(
                    *(B, pair, bias, self.alternation, self.regularisation, self.kernels),
                    _of_rows(layers[i], roots),
                )
                codes[i], weights[i] = layers[i].moved(codes[i], pair.Z), pair.W
        inputs, roots = augmented(layers[0].rows(codes[0]), bias), _of_rows(layers[0], roots)
        ridge = self.config.weight_ridge
        if self._input_factors is None:
            method, delta = self.solver.method, self.solver.input_delta
            factors = factor_unchecked(counted(inputs, roots), method, delta, sharded=True)
        else:
            # A batch makes its share of the step that all samples would make, and so of the shrinking.
            factors = self._input_factors.on_rows(counted(inputs, roots))
            ridge = ridge * batch.samples / len(self.source)
        B = codes[1].reshape(-1, layers[0].units)
        for _ in range(self.config.weight_steps):
            weights[0] = weight_step(
                inputs, B, weights[0], factors, self.config.omega, ridge, self.kernels, roots
            )
        self.updates += 1
        # A plain mean while it is shorter than the exponential window, so that the start does not linger.
        share = max(1 - self.config.averaging, 1 / self.updates)
        self.average = [torch.lerp(a, w, share) for a, w in zip(self.average, weights, strict=True)]
        return [*codes, Y]

    def objective(self, outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
        """½‖Y − ZW‖² per sample."""
        Y = self.source.targets.matrix(labels, outputs.shape[1], outputs.dtype)
        return half_square_per_sample(Y - outputs, weights)

    def state(self) -> dict[str, Any]:
        return {
            "weights": list(self.weights),
            "average": list(self.average),
            "scales": list(self.scales),
            "updates": self.updates,
            "order": self.order.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        like = self.start.weights[0]
        self.weights = [W.to(like) for W in state["weights"]]
        self.average = [W.to(like) for W in state["average"]]
        self.scales = list(state["scales"])
        self.updates = state["updates"]
        self.order.load_state(state["order"])

    def _with(self, weights: list[Tensor]) -> Network:
        return Network(weights, self.start.bias, self.start.layers)

    def _factor_all(self) -> Factors:
        """Factors of all inputs, for the rows of any batch."""
        return factor_parts(self._input_rows(), self.solver.method, self.solver.input_delta)

    def _input_rows(self) -> Iterator[Tensor]:
        """The rows of all inputs, part by part, as least squares with the samples' weights needs them."""
        layer, unit = self.start.layers[0], self.scales[0]
        at_once = max(1, ROWS_FACTORED // layer.positions)
        for batch in self.source.passes():
            roots = None if batch.weights is None else batch.weights.sqrt()
            for first in range(0, len(batch.X), at_once):
                part = slice(first, first + at_once)
                inputs = augmented(layer.rows(batch.X[part]) / unit, self.start.bias)
                yield inputs if roots is None else layer.of_rows(roots[part]) * inputs

    def _residuals(self, codes: list[Tensor]) -> list[float]:
        """‖Zᵢ₊₁ − f(ẐᵢWᵢ₊₁)‖/‖Zᵢ₊₁‖ of each layer."""
        network, found = self._with(self.weights), []
        for i, (Z, B) in enumerate(pairwise(codes)):
            V = network.product(i, Z)
            R = B - (V.relu() if i < len(codes) - 2 else V)
            found.append(float(parallel.norm(R) / parallel.norm(B).clamp_min(torch.finfo(B.dtype).tiny)))
        return found


def _of_rows(layer: Layer, roots: Tensor | None) -> Tensor | None:
    return None if roots is None else layer.of_rows(roots)
