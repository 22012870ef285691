"""What the other families share: steps by Adam along gradients that are written by hand, and their frame.

Legend: layers i = 1 … d, codes Zᵢ₋₁ (n × kᵢ₋₁, Z₀ = X) that enter layer i, Ẑ with a column of ones where
there is a bias, weights Wᵢ, Vᵢ = Ẑᵢ₋₁Wᵢ, Zᵢ = f(Vᵢ), f(V) = max(0, V), f' = [V > 0]; outputs V_d; Y one-hot.
E = ∂L/∂V_d is softmax(V_d) − Y for classes (cross-entropy) and V_d − Y for real values (half squares).
A slope is the gradient of a layer's own loss, summed over samples; everything runs without autograd.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ... import parallel
from ...errors import ConfigError, require
from ...factorization import split_bias
from ...network import Dense, Layer, Network, rescaled
from ...source import Batch, Order, Source
from ..common import (
    SCHEDULES,
    Epoch,
    Stopwatch,
    decay,
    input_unit,
    loss_per_sample,
    require_batch,
    require_finite,
)


class FamilyConfig:
    """What the configurations of all families share."""

    name: ClassVar[str] = ""
    """Of the method, for messages."""

    def positive(self, *keys: str) -> None:
        """Raise a `ConfigError` unless the values of these keys are > 0."""
        for key in keys:
            value = getattr(self, key)
            require(0 < value < math.inf, f"{self.name}.{key}", "> 0", value)


@dataclass
class StepConfig(FamilyConfig):
    """What every method that takes gradient steps has.

    Attributes:
        batch_size: samples in a mini-batch.
        learning_rate: initial rate > 0 of Adam.
        schedule: "constant", "linear" or "cosine" (to zero over all epochs, per step).
        weight_decay: ≥ 0, decoupled.
    """

    batch_size: int = 128
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.positive("learning_rate")
        require(self.batch_size >= 1, f"{self.name}.batch_size", "≥ 1", self.batch_size)
        choices = ", ".join(SCHEDULES)
        require(self.schedule in SCHEDULES, f"{self.name}.schedule", f"one of {choices}", self.schedule)
        require(0 <= self.weight_decay < math.inf, f"{self.name}.weight_decay", "≥ 0", self.weight_decay)

    @classmethod
    def slower(cls) -> str:
        """What makes steps more careful."""
        return f"lower {cls.name}.learning_rate"


class StepTrainer(ABC):
    """Trains `start` on a `source` for `epochs` epochs, each in `parts`, by the `slopes` of its layers.

    A method gives `slopes`, and, where it trains or draws more matrices than the weights, `helpers`.
    """

    def __init__(
        self,
        start: Network,
        source: Source,
        config: StepConfig,
        epochs: int,
        generator: torch.Generator,
        parts: int = 1,
    ) -> None:
        require_batch(config.batch_size, source, f"{config.name}.batch_size")
        self.source, self.config, self.bias, self.layers = source, config, start.bias, start.layers
        self.order = Order(source, config.batch_size, generator, parts)
        # In this unit of the inputs, rates mean the same whatever unit they have.
        self.scales = [input_unit(source), *[1.0] * (len(start.weights) - 1)]
        self.weights = [W.detach().clone() for W in rescaled(start, self.scales).weights]
        # Streams of their own, which leave the order of the data as it is; helpers are equal on every device.
        seed = generator.initial_seed() ^ 1
        self.fixed, self.trained = self.helpers(torch.Generator().manual_seed(seed))
        self.noise = torch.Generator(source.device).manual_seed(seed)
        self.steps = 0
        self.total_steps = max(1, epochs * math.ceil(len(source) / config.batch_size))
        # Adam reads `grad`, which is set by hand: nothing here requires a gradient.
        self.optimizer = torch.optim.AdamW(
            [*self.weights, *self.trained],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )

    @abstractmethod
    def slopes(self, batch: Batch) -> list[Tensor]:
        """Sums over the samples that are here: one for each of the weights, then for each trained helper."""

    def helpers(self, generator: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
        """Matrices beside the weights, drawn with a CPU `generator`: fixed ones, and trained ones."""
        return [], []

    @property
    def network(self) -> Network:
        network = Network([W.clone() for W in self.weights], self.bias, self.layers)
        return rescaled(network, [1 / scale for scale in self.scales])

    @torch.no_grad()
    def epoch(self) -> Epoch:
        watch = Stopwatch(self.source.device)
        rate = self.config.learning_rate
        for batch in self.order.part():
            rate = self.update(batch)
        seconds = watch.seconds()
        require_finite(self.weights, self.source, self.config.slower())
        return Epoch(seconds, rate)

    @torch.no_grad()
    def update(self, batch: Batch) -> float:
        """One step on a mini-batch; returns the learning rate."""
        rate = self.config.learning_rate * decay(self.config.schedule, self.steps, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        sums = parallel.totals(*self.slopes(batch._replace(X=batch.X / self.scales[0])))
        for P, S in zip([*self.weights, *self.trained], sums, strict=True):
            P.grad = S / batch.number
        self.optimizer.step()
        self.steps += 1
        return rate

    def objective(self, outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
        """The output's loss per sample: cross-entropy for classes, half squares for real values."""
        return loss_per_sample(self.source, outputs, labels, weights)

    def state(self) -> dict[str, Any]:
        return {
            "weights": [W.clone() for W in self.weights],
            "fixed": [P.clone() for P in self.fixed],
            "trained": [P.clone() for P in self.trained],
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "steps": self.steps,
            "order": self.order.state(),
            "noise": self.noise.get_state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        for name in ("weights", "fixed", "trained"):
            for P, saved in zip(getattr(self, name), state[name], strict=True):
                P.copy_(saved)
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.steps = state["steps"]
        self.order.load_state(state["order"])
        self.noise.set_state(state["noise"].cpu())

    def forward(self, X: Tensor) -> tuple[list[Tensor], Tensor]:
        """Codes Z₀ = X … Z_{d−1} and outputs V_d."""
        network = Network(self.weights, self.bias, self.layers)
        Z = network.codes(X)
        return Z, network.product(len(Z) - 1, Z[-1])

    def error(self, V: Tensor, batch: Batch) -> Tensor:
        """E, the slope of the loss by outputs V (n × m) of the whole network or of a local classifier."""
        return self.source.targets.slope(V, batch.labels, batch.weights)

    def cross(self, i: int, Z: Tensor, D: Tensor) -> Tensor:
        """The slope ẐᵀD of layer i's weights, i from 0, for codes Z that enter it and slopes D of Vᵢ₊₁."""
        layer = self.layers[i]
        C = layer.cross(Z, D)
        return torch.cat([C, D.reshape(-1, layer.units).sum(dim=0)[None]]) if self.bias else C

    def matrix(self, i: int) -> Tensor:
        """Weights of layer i, from 0, without the bias."""
        return split_bias(self.weights[i], self.layers[i].fan_in)[0]


def drawn(rows: int, columns: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """A rows × columns matrix, normal with variance 1/rows, with the dtype and device of `like`."""
    M = torch.randn((rows, columns), generator=generator, dtype=torch.float64) / math.sqrt(rows)
    return M.to(like)


def require_dense(layers: Sequence[Layer], name: str) -> None:
    """Raise a `ConfigError` if a method that is defined for fully connected layers gets others."""
    if not all(isinstance(layer, Dense) for layer in layers):
        raise ConfigError(
            f"method={name} is for fully connected layers: leave network.convolution empty, "
            "or choose method=jacobi, seidel, nmf, bp, dfa or monoforward"
        )


def require_classes(source: Source, name: str) -> None:
    """Raise a `ConfigError` if a method that tells classes apart gets real values."""
    if source.targets.kind != "classes":
        raise ConfigError(
            f"method={name} is for classes, and the targets are real values: "
            "choose method=jacobi, seidel, nmf or bp"
        )


def require_unweighted(source: Source, name: str) -> None:
    """Raise a `ConfigError` if samples have weights of which a method knows nothing."""
    if source.weights is not None:
        raise ConfigError(
            f"method={name} is not defined for samples with weights: leave these and class_weight away, "
            "or choose method=jacobi, seidel, nmf or bp"
        )
