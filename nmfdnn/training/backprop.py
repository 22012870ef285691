"""The backpropagation baseline: the only place that uses autograd."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import parallel
from ..errors import ConfigError, require
from ..factorization import split_bias
from ..network import Network, rescaled
from ..source import Batch, Order, Source
from ..targets import LOSSES, Classes
from .common import (
    SCHEDULES,
    Epoch,
    Stopwatch,
    decay,
    input_unit,
    loss_per_sample,
    require_batch,
    require_finite,
)
from .optimizers import OPTIMIZERS, optimizer_of
from .preconditioners import preconditioner_of
from .statistics import WhitenedInput

FORGOTTEN = 1e-34
"""Moments of gradients smaller than this become zero, every so many steps."""
FORGET_EVERY = 50


@dataclass
class BackpropConfig:
    """Parameters of backpropagation.

    Attributes:
        batch_size: samples in a mini-batch.
        optimizer: "adam"; "sgd"; "muon" (hidden layers' matrices; biases and the output by Adam); "soap" and
            "shampoo" (of pytorch-optimizer: `pip install 'nmfdnn[optimizers]'`); "foof" and "isaac" (SGD, the
            gradient times the damped inverse of a layer's Gram matrix of inputs, running or of the batch);
            "kfac" (foof's, and times that of slopes by the layer's outputs: K-FAC).
        learning_rate: initial rate > 0.
        schedule: "constant", "linear" or "cosine" (to zero over all epochs, per step).
        loss: "auto" ("cross_entropy" for classes, "squared" for real values), or one of these; "squared" is
            ½‖Y − output‖² per sample; "latent" is ½‖R‖² for the residual R of `method=jacobi`: as "squared",
            but where Y is 0 any output ≤ 0 will do.
        dropout: probability in [0, 1) of dropping a hidden unit.
        weight_decay: ≥ 0, decoupled (AdamW), but L2 for sgd, and for foof, kfac and isaac after the inverse.
        momentum: in [0, 1), for sgd, muon, foof, kfac and isaac.
        averaging: decay in [0, 1) of the exponential average of the weights that is evaluated and kept.
        label_smoothing: in [0, 1), ε of cross_entropy: targets (1 − ε)Y + ε/m for m classes.
        whiten: train on inputs in the basis that whitens them, damped as below; for fully connected networks.
        damping: > 0, relative to the mean variance (isaac: mean square) of a layer's inputs, for foof, kfac,
            isaac and whiten; kfac's other factor is damped likewise.
        gram_every: steps ≥ 1, at most, between two inverses of foof and kfac; between two bases of soap and
            shampoo.
        gram_memory: share in [0, 1) of the past in the running means of foof and kfac.
    """

    batch_size: int = 128
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    loss: str = "auto"
    dropout: float = 0.0
    weight_decay: float = 0.0
    momentum: float = 0.9
    averaging: float = 0.0
    label_smoothing: float = 0.0
    whiten: bool = False
    damping: float = 0.5
    gram_every: int = 10
    gram_memory: float = 0.9

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, "bp.batch_size", "≥ 1", self.batch_size)
        require(
            self.optimizer in OPTIMIZERS, "bp.optimizer", f"one of {', '.join(OPTIMIZERS)}", self.optimizer
        )
        require(self.learning_rate > 0, "bp.learning_rate", "> 0", self.learning_rate)
        require(self.schedule in SCHEDULES, "bp.schedule", f"one of {', '.join(SCHEDULES)}", self.schedule)
        require(self.loss in LOSSES, "bp.loss", f"one of {', '.join(LOSSES)}", self.loss)
        require(self.weight_decay >= 0, "bp.weight_decay", "≥ 0", self.weight_decay)
        require(0 < self.damping < math.inf, "bp.damping", "> 0", self.damping)
        require(self.gram_every >= 1, "bp.gram_every", "≥ 1", self.gram_every)
        for key in ("dropout", "momentum", "averaging", "label_smoothing", "gram_memory"):
            require(0 <= getattr(self, key) < 1, f"bp.{key}", "in [0, 1)", getattr(self, key))


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
        source.targets.require_loss(config.loss, config.label_smoothing)
        self.source, self.config, self.bias, self.layers = source, config, start.bias, start.layers
        self.start_layers = start.layers
        self.order = Order(source, config.batch_size, generator, parts)
        # In this unit of the inputs, rates mean the same whatever unit they have.
        self.scales = [input_unit(source), *[1.0] * (len(start.weights) - 1)]
        self.weights = [W.clone() for W in rescaled(start, self.scales).weights]
        watch = Stopwatch(source.device)
        self.whitened: WhitenedInput | None = None
        if config.whiten:
            self._whiten()
        self.preparation = watch.seconds()  # what the first epoch reports besides its own
        self.average = [W.clone() for W in self.weights] if config.averaging > 0 else self.weights
        self._sums: dict[int, parallel.Pending] = {}
        for i, W in enumerate(self.weights):
            W.requires_grad_()
            # Sums over ranks begin while the gradients of the layers below are computed.
            W.register_post_accumulate_grad_hook(lambda W, i=i: self._begin(i, W))
        self.steps = 0
        self.total_steps = max(1, epochs * math.ceil(len(source) / config.batch_size))
        self.optimizer = optimizer_of(
            config.optimizer,
            self.weights,
            self.layers,
            rate=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            every=config.gram_every,
        )
        self.preconditioner = preconditioner_of(
            config.optimizer,
            self.layers,
            self.bias,
            damping=config.damping,
            memory=config.gram_memory,
            every=config.gram_every,
            keep=1 - config.dropout,
            categorical=source.targets.kind == Classes.kind and config.loss in ("auto", "cross_entropy"),
            generator=torch.Generator(source.device).manual_seed(generator.initial_seed() ^ 2),
        )
        # Dropout draws on the device, from a stream of its own that leaves the order of the data as it is.
        self.mask_generator = torch.Generator(source.device).manual_seed(generator.initial_seed() ^ 1)

    @property
    def network(self) -> Network:
        weights = [W.detach().clone() for W in self.average]
        if self.whitened is not None:
            weights[0] = self._changed(weights[0], self.whitened.leave)
        network = Network(weights, self.bias, self.start_layers)
        return rescaled(network, [1 / scale for scale in self.scales])

    def epoch(self) -> Epoch:
        watch = Stopwatch(self.source.device)
        rate = self.config.learning_rate
        for batch in self.order.part():
            rate = self.update(batch)
        seconds, self.preparation = self.preparation + watch.seconds(), 0.0
        require_finite(self.weights, self.source, "lower bp.learning_rate")
        return Epoch(seconds, rate)

    def update(self, batch: Batch) -> float:
        """One step on a mini-batch; returns the learning rate."""
        config = self.config
        rate = config.learning_rate * decay(config.schedule, self.steps, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        codes, V = self._forward(batch)
        loss = self.source.targets.loss(
            config.loss, V, batch.labels, batch.weights, smoothing=config.label_smoothing
        )
        (loss / batch.number).backward(retain_graph=config.optimizer == "kfac")
        for i, sums in self._sums.items():
            self.weights[i].grad = sums.wait()[0]
        if self.preconditioner is not None:
            self.preconditioner(self.weights, codes, V, batch)
        self.optimizer.step()
        self.steps += 1
        if config.averaging > 0:
            # A plain mean while it is shorter than the exponential window, so that the start does not linger.
            newest = max(1 - config.averaging, 1 / self.steps)
            for mean, W in zip(self.average, self.weights, strict=True):
                mean.lerp_(W.detach(), newest)
        if self.steps % FORGET_EVERY == 0:
            self._forget()
        return rate

    def objective(self, outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
        """The loss per sample, without dropout and decay."""
        config = self.config
        return loss_per_sample(
            self.source, outputs, labels, weights, config.loss, smoothing=config.label_smoothing
        )

    def state(self) -> dict[str, Any]:
        state = {
            "weights": [W.detach().clone() for W in self.weights],
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "steps": self.steps,
            "order": self.order.state(),
            "mask_generator": self.mask_generator.get_state(),
        }
        if self.config.averaging > 0:
            state["average"] = [W.clone() for W in self.average]
        if self.preconditioner is not None:
            state["preconditioner"] = self.preconditioner.state()
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for W, saved in zip(self.weights, state["weights"], strict=True):
                W.copy_(saved)
            if self.config.averaging > 0:
                for W, saved in zip(self.average, state["average"], strict=True):
                    W.copy_(saved)
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        if self.preconditioner is not None:
            self.preconditioner.load_state(state["preconditioner"])
        self.preparation = 0.0
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

    def _whiten(self) -> None:
        """Take the first layer into the basis that whitens the inputs."""
        layer = self.layers[0]
        if layer.positions > 1:
            raise ConfigError(
                "bp.whiten is for fully connected networks: set bp.whiten=false, or leave "
                "network.convolution empty"
            )
        whitened = WhitenedInput(
            self.source, layer, self.scales[0], self.bias, damping=self.config.damping, ridge=0.0, delta=0.0
        )
        self.weights[0] = self._changed(self.weights[0], whitened.enter)
        self.layers, self.whitened = (whitened.layer, *self.layers[1:]), whitened

    def _changed(self, W: Tensor, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        """Weights W of the first layer after a `change` of matrix and biases."""
        M, b = split_bias(W, self.layers[0].fan_in)
        M, b = change(M, M.new_zeros(M.shape[1]) if b is None else b)
        return torch.cat([M, b[None]]) if self.bias else M

    def _forward(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """The codes that enter each layer, and the outputs."""
        keep, Z = 1 - self.config.dropout, batch.X
        Z = Z / self.scales[0] if self.whitened is None else self.whitened.whiten(Z)
        codes = [Z]
        for layer, W in zip(self.layers[:-1], self.weights[:-1], strict=True):
            Z = layer.product(Z, *split_bias(W, layer.fan_in)).relu()
            if keep < 1:
                shape = (batch.samples, layer.outputs)  # of all ranks, so that their number changes nothing
                uniform = torch.rand(shape, generator=self.mask_generator, dtype=Z.dtype, device=Z.device)
                Z = Z * ((uniform if batch.mine is None else uniform[batch.mine]) < keep) / keep
            codes.append(Z)
        layer = self.layers[-1]
        return codes, layer.product(Z, *split_bias(self.weights[-1], layer.fan_in))
