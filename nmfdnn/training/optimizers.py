"""Optimizers of backpropagation: torch's, and two of pytorch-optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..network import Layer

OPTIMIZERS = ("adam", "sgd", "muon", "soap", "shampoo", "foof", "kfac", "isaac")


def optimizer_of(
    name: str,
    weights: Sequence[Tensor],
    layers: Sequence[Layer],
    *,
    rate: float,
    momentum: float,
    weight_decay: float,
    every: int,
) -> torch.optim.Optimizer | MuonAndAdam:
    """What moves the weights of `layers` by their gradients, for one of `OPTIMIZERS`.

    `every` steps SOAP and Shampoo compute their bases anew.

    Raises:
        ConfigError: it needs what is not installed.
    """
    if name == "adam":
        return torch.optim.AdamW(weights, lr=rate, weight_decay=weight_decay, fused=True)
    if name == "muon":
        return MuonAndAdam(weights, layers, rate=rate, momentum=momentum, weight_decay=weight_decay)
    if name in ("soap", "shampoo"):
        try:
            import pytorch_optimizer
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"bp.optimizer={name} needs {error.name}: pip install 'nmfdnn[optimizers]', "
                "or choose bp.optimizer=adam"
            ) from error
        if name == "soap":
            return pytorch_optimizer.SOAP(
                weights, lr=rate, weight_decay=weight_decay, precondition_frequency=every
            )
        return pytorch_optimizer.Shampoo(
            weights,
            lr=rate,
            weight_decay=weight_decay,
            weight_decouple=True,
            preconditioning_compute_steps=every,
        )
    return torch.optim.SGD(weights, lr=rate, momentum=momentum, weight_decay=weight_decay, fused=True)


class MuonAndAdam:
    """Muon (Jordan 2024) for the matrices of the hidden layers, Adam for biases and the output.

    Muon's steps are scaled to the size of Adam's (Liu et al. 2025, "Muon is scalable for LLM training"), so
    that one rate and one weight decay serve both.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        layers: Sequence[Layer],
        *,
        rate: float,
        momentum: float,
        weight_decay: float,
    ) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise ConfigError(
                f"bp.optimizer=muon needs PyTorch 2.9 or newer, this is {torch.__version__}: "
                "pip install --upgrade torch torchvision, or choose bp.optimizer=adam"
            )
        self.weights = weights
        self.splits = [
            [layer.fan_in, len(W) - layer.fan_in] for W, layer in zip(weights, layers, strict=True)
        ]
        # Parts share the memory of the weights that they are parts of.
        parts = self._parts([W.detach() for W in weights])
        self.parts = parts
        matrices, rest = parts[: len(weights) - 1], [P for P in parts[len(weights) - 1 :] if len(P)]
        self.muon = torch.optim.Muon(
            matrices, lr=rate, momentum=momentum, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        self.adam = torch.optim.AdamW(rest, lr=rate, weight_decay=weight_decay, fused=True)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups of both."""
        return [*self.muon.param_groups, *self.adam.param_groups]

    @property
    def state(self) -> dict[Tensor, Any]:
        """Moments of both."""
        return {**self.muon.state, **self.adam.state}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of the weights."""
        for W in self.weights:
            W.grad = None

    def step(self) -> None:
        """Move the weights by their gradients."""
        for P, G in zip(self.parts, self._parts([W.grad for W in self.weights]), strict=True):
            P.grad = G
        self.muon.step()
        self.adam.step()

    def state_dict(self) -> dict[str, Any]:
        """As torch's optimizers have it."""
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])

    def _parts(self, weights: Sequence[Any]) -> list[Tensor]:
        """Matrices without biases, then the biases, which may have no rows; all of the weights' memory."""
        pairs = [W.split(sizes) for W, sizes in zip(weights, self.splits, strict=True)]
        return [*(matrix for matrix, _ in pairs), *(bias for _, bias in pairs)]
