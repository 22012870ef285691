"""The backpropagation baseline: the only place that uses autograd."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import parallel
from ..errors import require
from ..factorization import split_bias
from ..network import Network, rescaled
from ..source import Batch, Order, Source
from ..targets import LOSSES
from .common import Epoch, Stopwatch, input_unit, require_batch, require_finite

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("constant", "cosine")

FORGOTTEN = 1e-34
"""Moments of gradients smaller than this become zero, every so many steps."""
FORGET_EVERY = 50


@dataclass
class BackpropConfig:
    """Parameters of backpropagation.

    Attributes:
        batch_size: samples in a mini-batch.
        optimizer: "adam" or "sgd".
        learning_rate: initial rate > 0.
        schedule: "constant" or "cosine" (to zero over all epochs, per step).
        loss: "auto" ("cross_entropy" for classes, "squared" for real values), or one of these; "squared" is
            ½‖Y − output‖² per sample.
        dropout: probability in [0, 1) of dropping a hidden unit.
        weight_decay: ≥ 0, decoupled (AdamW) for adam, L2 for sgd.
        momentum: in [0, 1), for sgd.
    """

    batch_size: int = 128
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    loss: str = "auto"
    dropout: float = 0.0
    weight_decay: float = 0.0
    momentum: float = 0.9

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, "bp.batch_size", "≥ 1", self.batch_size)
        require(
            self.optimizer in OPTIMIZERS, "bp.optimizer", f"one of {', '.join(OPTIMIZERS)}", self.optimizer
        )
        require(self.learning_rate > 0, "bp.learning_rate", "> 0", self.learning_rate)
        require(self.schedule in SCHEDULES, "bp.schedule", f"one of {', '.join(SCHEDULES)}", self.schedule)
        require(self.loss in LOSSES, "bp.loss", f"one of {', '.join(LOSSES)}", self.loss)
        require(0 <= self.dropout < 1, "bp.dropout", "in [0, 1)", self.dropout)
        require(self.weight_decay >= 0, "bp.weight_decay", "≥ 0", self.weight_decay)
        require(0 <= self.momentum < 1, "bp.momentum", "in [0, 1)", self.momentum)


class BackpropTrainer:
    """Trains `start` on a `source` for `epochs` epochs, each in `parts`."""

    def __init__(
        self,
        start: Network,
        source: Source,
        config: BackpropConfig,
        epochs: int,
        generator: torch.Generator,
        parts: int = 1,
    ) -> None:
        require_batch(config.batch_size, source, "bp.batch_size")
        source.targets.require_loss(config.loss)
        self.source, self.config, self.bias, self.layers = source, config, start.bias, start.layers
        self.order = Order(source, config.batch_size, generator, parts)
        # In this unit of the inputs, rates mean the same whatever unit they have.
        self.scales = [input_unit(source), *[1.0] * (len(start.weights) - 1)]
        self.weights = [W.clone().requires_grad_() for W in rescaled(start, self.scales).weights]
        self._sums: dict[int, parallel.Pending] = {}
        for i, W in enumerate(self.weights):
            # Sums over ranks begin while the gradients of the layers below are computed.
            W.register_post_accumulate_grad_hook(lambda W, i=i: self._begin(i, W))
        self.steps = 0
        self.total_steps = epochs * math.ceil(len(source) / config.batch_size)
        self.optimizer: torch.optim.Optimizer
        if config.optimizer == "adam":
            self.optimizer = torch.optim.AdamW(
                self.weights, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
            )
        else:
            self.optimizer = torch.optim.SGD(
                self.weights,
                lr=config.learning_rate,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
                fused=True,
            )
        # Dropout draws on the device, from a stream of its own that leaves the order of the data as it is.
        self.mask_generator = torch.Generator(source.device).manual_seed(generator.initial_seed() ^ 1)

    @property
    def network(self) -> Network:
        network = Network([W.detach().clone() for W in self.weights], self.bias, self.layers)
        return rescaled(network, [1 / scale for scale in self.scales])

    def epoch(self) -> Epoch:
        watch = Stopwatch(self.source.device)
        rate = self.config.learning_rate
        for batch in self.order.part():
            rate = self.update(batch)
        seconds = watch.seconds()
        require_finite(self.weights, self.source, "lower bp.learning_rate")
        return Epoch(seconds, rate)

    def update(self, batch: Batch) -> float:
        """One step on a mini-batch; returns the learning rate."""
        rate = self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.source.targets.loss(self.config.loss, self._forward(batch), batch.labels, batch.weights)
        (loss / batch.number).backward()
        for i, sums in self._sums.items():
            self.weights[i].grad = sums.wait()[0]
        self.optimizer.step()
        self.steps += 1
        if self.steps % FORGET_EVERY == 0:
            self._forget()
        return rate

    def objective(self, outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
        """The loss per sample, without dropout and decay."""
        mass = len(labels) if weights is None else weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
        return float(self.source.targets.loss(self.config.loss, outputs, labels, weights) / mass)

    def state(self) -> dict[str, Any]:
        return {
            "weights": [W.detach().clone() for W in self.weights],
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "steps": self.steps,
            "order": self.order.state(),
            "mask_generator": self.mask_generator.get_state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for W, saved in zip(self.weights, state["weights"], strict=True):
                W.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]
        self.order.load_state(state["order"])
        self.mask_generator.set_state(state["mask_generator"].cpu())

    def _forget(self) -> None:
        """Set moments to zero that are too small to move a weight.

        Where a weight has no gradients, as that of a pixel that is dark nearly everywhere, its moments shrink
        with every step. After some 750 they are denormal numbers, with which processors are ten times slower.
        """
        for moments in self.optimizer.state.values():
            for T in moments.values():
                if isinstance(T, Tensor) and T.ndim:
                    T.masked_fill_(T.abs() < FORGOTTEN, 0)

    def _begin(self, i: int, W: Tensor) -> None:
        assert W.grad is not None  # for the type checker
        self._sums[i] = parallel.begin(W.grad)

    def _rate(self) -> float:
        if self.config.schedule == "constant":
            return self.config.learning_rate
        return self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * self.steps / self.total_steps))

    def _forward(self, batch: Batch) -> Tensor:
        keep, Z = 1 - self.config.dropout, batch.X / self.scales[0]
        for layer, W in zip(self.layers[:-1], self.weights[:-1], strict=True):
            Z = layer.product(Z, *split_bias(W, layer.fan_in)).relu()
            if keep < 1:
                shape = (batch.samples, layer.outputs)  # of all ranks, so that their number changes nothing
                uniform = torch.rand(shape, generator=self.mask_generator, dtype=Z.dtype, device=Z.device)
                Z = Z * ((uniform if batch.mine is None else uniform[batch.mine]) < keep) / keep
        layer = self.layers[-1]
        return layer.product(Z, *split_bias(self.weights[-1], layer.fan_in))
