"""Methods that keep codes of all samples from epoch to epoch: splittings of the problem into blocks.

Legend: layers i = 1 … d, weights Wᵢ, codes Zᵢ (n × kᵢ) of all n samples and Pᵢ (n × kᵢ) in the place of what
enters f; Z₀ = X, Ẑ with a column of ones where there is a bias. Both are variables beside the weights, so
memory grows with the number of samples: 2Σkᵢ numbers for each. Only X may lie in files; it is read in passes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from ... import parallel
from ...factorization import affine, augmented, counted
from ...network import Network, rescaled
from ...source import Order, Source
from ..common import Epoch, Stopwatch, half_square_per_sample, input_unit, require_finite
from .common import FamilyConfig, require_dense


class SplitConfig(FamilyConfig):
    """What configurations of these methods share."""

    careful: ClassVar[str] = ""
    """The parameter that makes steps smaller where it is larger."""

    @classmethod
    def slower(cls) -> str:
        """What makes steps more careful."""
        return f"raise {cls.name}.{cls.careful}"


class WholeTrainer(ABC):
    """Trains `start` on all samples of a `source` at once: an epoch is one round over all blocks."""

    def __init__(
        self,
        start: Network,
        source: Source,
        config: Any,
        epochs: int,
        generator: torch.Generator,
        parts: int = 1,
    ) -> None:
        require_dense(start.layers, config.name)
        self.source, self.config, self.bias, self.layers = source, config, start.bias, start.layers
        self.order = Order(source, len(source), generator)
        self.scales = [input_unit(source), *[1.0] * (len(start.weights) - 1)]
        self.weights = [W.detach().clone() for W in rescaled(start, self.scales).weights]
        self.P: list[Tensor] = []
        self.Z: list[Tensor] = []

    @abstractmethod
    def round(self) -> None:
        """One update of every block."""

    def begin(self) -> None:
        """Set codes to those of a forward pass."""
        self.P, self.Z = [self.product(0)], []
        for i in range(1, len(self.weights)):
            self.Z.append(self.P[-1].relu())
            self.P.append(self.product(i))

    @property
    def network(self) -> Network:
        return rescaled(self._plain(), [1 / scale for scale in self.scales])

    @torch.no_grad()
    def epoch(self) -> Epoch:
        watch = Stopwatch(self.source.device)
        if not self.P:
            self.begin()
        self.round()
        seconds = watch.seconds()
        require_finite(self.weights, self.source, self.config.slower())
        return Epoch(seconds, 1.0)

    def objective(self, outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
        """½‖Y − output‖² per sample."""
        Y = self.source.targets.matrix(labels, outputs.shape[1], outputs.dtype)
        return half_square_per_sample(Y - outputs, weights)

    def state(self) -> dict[str, Any]:
        tensors = {name: [T.clone() for T in getattr(self, name)] for name in ("weights", "P", "Z")}
        return {**tensors, "order": self.order.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        for name in ("weights", "P", "Z"):
            setattr(self, name, [T.to(self.weights[0], copy=True) for T in state[name]])
        self.order.load_state(state["order"])

    def targets(self) -> Tensor:
        """Y for the samples that are here."""
        labels = torch.cat([batch.labels for batch in self.source.passes()])
        return self.source.targets.matrix(labels, self.layers[-1].units, self.source.dtype)

    def sample_weights(self) -> Tensor | None:
        """Of the samples that are here, n × 1."""
        if self.source.weights is None:
            return None
        return torch.cat([batch.weights for batch in self.source.passes() if batch.weights is not None])

    def product(self, i: int, W: Tensor | None = None) -> Tensor:
        """ẐᵢW (n × kᵢ₊₁), i from 0; by default for the weights of the layer."""
        W = self.weights[i] if W is None else W
        return torch.cat([affine(A, W) for A in self._inputs(i)])

    def cross(self, i: int, R: Tensor) -> Tensor:
        """ẐᵢᵀR over all samples, as often as they count, for R (n × m)."""
        R = counted(R, self.sample_weights())
        first, found = 0, R.new_zeros(self.weights[i].shape[0], R.shape[1])
        for A in self._inputs(i):
            found += self._hat(A).T @ R[first : first + len(A)]
            first += len(A)
        return parallel.total(found)

    def gram(self, i: int) -> Tensor:
        """ẐᵢᵀẐᵢ over all samples, as often as they count."""
        w, first, k = self.sample_weights(), 0, len(self.weights[i])
        found = self.weights[i].new_zeros(k, k)
        for A in self._inputs(i):
            A = self._hat(A)
            found += A.T @ counted(A, None if w is None else w[first : first + len(A)])
            first += len(A)
        return parallel.total(found)

    def _hat(self, A: Tensor) -> Tensor:
        return augmented(A, self.bias)

    def _inputs(self, i: int) -> Iterator[Tensor]:
        """Codes Zᵢ, in parts."""
        if i > 0:
            yield self.Z[i - 1]
            return
        for batch in self.source.passes():
            yield batch.X / self.scales[0]

    def _plain(self) -> Network:
        return Network(self.weights, self.bias, self.layers)


def nearest_before_relu(Z: Tensor, C: Tensor, gamma: float, rho: float) -> Tensor:
    """The P of least γ‖Z − f(P)‖² + ρ‖P − C‖², in closed form for each entry."""
    active = ((gamma * Z + rho * C) / (gamma + rho)).relu_()
    idle = C.clamp(max=0)
    cost = gamma * (Z - active).square() + rho * (active - C).square()
    return torch.where(cost <= gamma * Z.square() + rho * (idle - C).square(), active, idle)
