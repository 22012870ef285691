"""Optimizers of backpropagation: torch's, two of pytorch-optimizer, and two that look at layers' inputs.

Legend: rows A (N × k) that enter a layer in a mini-batch, N = n · positions for n samples; weights W, with a
bias its last row; G the gradient by W of the loss per sample. Sums over samples are sums over ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from .. import parallel
from ..errors import ConfigError
from ..factorization import augmented, split_bias
from ..linalg import cholesky, gram
from ..network import Layer
from ..source import Batch
from .statistics import CodeMetric, moments, refresh_period, sums

OPTIMIZERS = ("adam", "sgd", "muon", "soap", "shampoo", "foof", "isaac")


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


class Preconditioner(Protocol):
    """What takes the inputs of layers into their gradients, for SGD to follow."""

    def __call__(self, weights: Sequence[Tensor], codes: Sequence[Tensor], batch: Batch) -> None:
        """Replace the gradients of weights, for the codes that entered each layer."""

    def state(self) -> dict[str, Any]:
        """A copy of everything that the next call depends on."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""


def preconditioner_of(
    name: str, layers: Sequence[Layer], bias: bool, *, damping: float, memory: float, every: int
) -> Preconditioner | None:
    """That of one of `OPTIMIZERS`, None where it has none."""
    if name == "foof":
        return Foof(layers, bias, damping=damping, memory=memory, every=every)
    return Isaac(layers, bias, damping=damping) if name == "isaac" else None


class Foof:
    """(AᵀA/N + λI)⁻¹G with running means of AᵀA/N (Benzing 2022, "Gradient descent on neurons").

    λ is the damping times the mean variance of the inputs. With a bias A has a column of ones, which is not
    damped: the means of the inputs drop out, and what is inverted is their covariance. G is divided by the
    positions of a convolution, whose rows it is a sum of.
    """

    def __init__(
        self, layers: Sequence[Layer], bias: bool, *, damping: float, memory: float, every: int
    ) -> None:
        self.layers, self.bias, self.every = layers, bias, every
        self.damping, self.memory = damping, memory
        self.metrics: list[CodeMetric] = []
        self.updates = self.due = 0

    @torch.no_grad()
    def __call__(self, weights: Sequence[Tensor], codes: Sequence[Tensor], batch: Batch) -> None:
        if self.updates == self.due:
            self._refresh(codes, batch)
            self.due += refresh_period(self.updates, self.every)
        self.updates += 1
        for layer, metric, W in zip(self.layers, self.metrics, weights, strict=True):
            assert W.grad is not None  # for the type checker
            C, r = split_bias(W.grad / layer.positions, layer.fan_in)
            S, s = metric.step(C, r if r is not None else C.new_zeros(layer.units), layer.units)
            W.grad = torch.cat([S, s[None]]) if self.bias else S

    def _refresh(self, codes: Sequence[Tensor], batch: Batch) -> None:
        local: list[Tensor] = []
        for layer, Z in zip(self.layers, codes, strict=True):
            w = None if batch.weights is None else layer.of_rows(batch.weights)
            local += sums(layer.rows(Z), self.bias, w)
        totals = parallel.totals(*local)
        found = [
            moments(total, squares, batch.number * layer.positions)
            for layer, total, squares in zip(self.layers, totals[::2], totals[1::2], strict=True)
        ]
        if not self.metrics:
            self.metrics = [self._metric(mean, covariance) for mean, covariance in found]
        else:
            for metric, (mean, covariance) in zip(self.metrics, found, strict=True):
                metric.refresh(mean, covariance)

    def _metric(self, mean: Tensor, covariance: Tensor) -> CodeMetric:
        return CodeMetric(mean, covariance, damping=self.damping, ridge=0.0, memory=self.memory)

    def state(self) -> dict[str, Any]:
        metrics = [metric.state() for metric in self.metrics]
        return {"updates": self.updates, "due": self.due, "metrics": metrics}

    def load_state(self, state: dict[str, Any]) -> None:
        self.updates, self.due = state["updates"], state["due"]
        self.metrics = [
            self._metric(saved["mean"].clone(), saved["covariance"].clone()) for saved in state["metrics"]
        ]


class Isaac:
    """λ(AᵀA/N + λI)⁻¹G with the mini-batch's own A (Petersen et al. 2023, "ISAAC Newton").

    λ is the damping times the mean square of A, which with a bias has a column of ones; for λ → ∞ this is the
    gradient. On one rank the smaller of AᵀA and AAᵀ is factored: the step is G − Aᵀ(AAᵀ + NλI)⁻¹AG as well.
    """

    def __init__(self, layers: Sequence[Layer], bias: bool, *, damping: float) -> None:
        self.layers, self.bias, self.damping = layers, bias, damping

    @torch.no_grad()
    def __call__(self, weights: Sequence[Tensor], codes: Sequence[Tensor], batch: Batch) -> None:
        for layer, W, Z in zip(self.layers, weights, codes, strict=True):
            assert W.grad is not None  # for the type checker
            A = augmented(layer.rows(Z), self.bias)
            if batch.weights is not None:
                A = layer.of_rows(batch.weights).sqrt() * A
            if parallel.ranks() == 1 and len(A) < A.shape[1]:
                K = A @ A.T
                L = cholesky(K, self.damping * K.trace() / A.shape[1])
                W.grad = W.grad - A.T @ torch.cholesky_solve(A @ W.grad, L)
            else:
                C = parallel.total(gram(A))
                level = self.damping * C.diagonal().mean()
                step = level * torch.cholesky_solve(W.grad, cholesky(C, level))
                W.grad = step.contiguous()  # fused optimizers take memory as it lies

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass
