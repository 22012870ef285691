"""What takes the inputs of layers into their gradients, for SGD to follow: FOOF, K-FAC and ISAAC.

Legend: rows A (N × k) that enter a layer in a mini-batch, N = n · positions for n samples; weights W, with a
bias its last row; G the gradient by W of the loss per sample; V the network's outputs. Sums over samples are
sums over ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from .. import parallel
from ..factorization import augmented, split_bias
from ..linalg import cholesky, gram
from ..network import Layer
from ..source import Batch
from .statistics import CodeMetric, moments, refresh_period, sums


class Preconditioner(Protocol):
    """What takes the inputs of layers into their gradients, for SGD to follow."""

    def __call__(self, weights: Sequence[Tensor], codes: Sequence[Tensor], V: Tensor, batch: Batch) -> None:
        """Replace the gradients of weights, for the codes that entered each layer and the outputs V."""

    def state(self) -> dict[str, Any]:
        """A copy of everything that the next call depends on."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""


def preconditioner_of(
    name: str,
    layers: Sequence[Layer],
    bias: bool,
    *,
    damping: float,
    memory: float,
    every: int,
    keep: float,
    categorical: bool,
    generator: torch.Generator,
) -> Preconditioner | None:
    """That of one of `OPTIMIZERS`, None where it has none.

    For K-FAC: the probability to keep a hidden unit, whether outputs are a softmax's, and what to draw from.
    """
    if name == "foof":
        return Foof(layers, bias, damping=damping, memory=memory, every=every)
    if name == "kfac":
        return Kfac(
            layers,
            bias,
            damping=damping,
            memory=memory,
            every=every,
            keep=keep,
            categorical=categorical,
            generator=generator,
        )
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
    def __call__(self, weights: Sequence[Tensor], codes: Sequence[Tensor], V: Tensor, batch: Batch) -> None:
        if self.updates == self.due:
            self._refresh(codes, V, batch)
            self.due += refresh_period(self.updates, self.every)
        self.updates += 1
        for layer, metric, W, G in zip(self.layers, self.metrics, weights, _gradients(weights), strict=True):
            C, r = split_bias(G / layer.positions, layer.fan_in)
            S, s = metric.step(C, r if r is not None else C.new_zeros(layer.units), layer.units)
            W.grad = torch.cat([S, s[None]]) if self.bias else S

    def _refresh(self, codes: Sequence[Tensor], V: Tensor, batch: Batch) -> None:
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


class Kfac(Foof):
    """FOOF's step times (Γ + λI)⁻¹, Γ running means of SᵀS/N (Martens & Grosse 2015; 2016 for convolutions).

    Rows S (N × m) are slopes by a layer's outputs, before ReLU, of the loss with labels, or values, that are
    drawn from what the network predicts, so that the Kronecker product of both factors stands for its Fisher
    matrix. λ is the damping times the mean diagonal of Γ: for a damping δ and mean diagonals ω̄ and γ̄ of the
    factors this is the papers' factored damping of the whole matrix by δ²ω̄γ̄. Steps whose natural norm
    √⟨step, G⟩ is above 1 are shortened to 1 (a trust region, as of Ba et al. 2017), so that a step at rate η
    changes predictions by a divergence of about η²/2 at most.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        bias: bool,
        *,
        damping: float,
        memory: float,
        every: int,
        keep: float,
        categorical: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__(layers, bias, damping=damping, memory=memory, every=every)
        self.keep, self.categorical, self.generator = keep, categorical, generator
        self.slopes: list[Tensor] = []
        self.inverses: list[Tensor] = []

    def __call__(self, weights: Sequence[Tensor], codes: Sequence[Tensor], V: Tensor, batch: Batch) -> None:
        gradients = _gradients(weights)
        super().__call__(weights, codes, V, batch)
        steps = [S @ inverse for S, inverse in zip(_gradients(weights), self.inverses, strict=True)]
        squared = torch.stack([(S * G).sum() for S, G in zip(steps, gradients, strict=True)]).sum()
        for W, S in zip(weights, steps, strict=True):
            W.grad = S / squared.sqrt().clamp_min(1)

    def _refresh(self, codes: Sequence[Tensor], V: Tensor, batch: Batch) -> None:
        super()._refresh(codes, V, batch)
        slopes = [self._drawn(V, batch)]
        if hidden := codes[1:]:
            by_codes = torch.autograd.grad(V, hidden, slopes[0])
            slopes = [S * (Z > 0) / self.keep for S, Z in zip(by_codes, hidden, strict=True)] + slopes
        local = []
        for layer, S in zip(self.layers, slopes, strict=True):
            S = S.reshape(-1, layer.units)
            local.append(gram(S if batch.weights is None else layer.of_rows(batch.weights).sqrt() * S))
        new = [
            total / (batch.number * layer.positions)
            for total, layer in zip(parallel.totals(*local), self.layers, strict=True)
        ]
        self.slopes = [T.lerp(old, self.memory) for T, old in zip(new, self.slopes or new, strict=True)]
        self._invert()

    def _drawn(self, V: Tensor, batch: Batch) -> Tensor:
        """Slopes of the loss by outputs V (n × m), for labels or values drawn from the prediction."""
        shape = (batch.samples, 1 if self.categorical else V.shape[1])  # of all ranks, so that all draw alike
        draw = torch.rand if self.categorical else torch.randn
        drawn = draw(shape, generator=self.generator, dtype=V.dtype, device=V.device)
        drawn = drawn if batch.mine is None else drawn[batch.mine]
        if not self.categorical:
            return drawn
        P = V.softmax(dim=1)
        labels = (P.cumsum(dim=1) < drawn).sum(dim=1, keepdim=True).clamp_max_(V.shape[1] - 1)
        return P.scatter_add_(1, labels, -torch.ones_like(drawn))

    def _invert(self) -> None:
        self.inverses = [
            torch.cholesky_inverse(cholesky(T, self.damping * T.diagonal().mean())) for T in self.slopes
        ]

    def state(self) -> dict[str, Any]:
        slopes = [T.clone() for T in self.slopes]
        return super().state() | {"slopes": slopes, "generator": self.generator.get_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.slopes = [T.clone() for T in state["slopes"]]
        self._invert()
        self.generator.set_state(state["generator"].cpu())


class Isaac:
    """λ(AᵀA/N + λI)⁻¹G with the mini-batch's own A (Petersen et al. 2023, "ISAAC Newton").

    λ is the damping times the mean square of A, which with a bias has a column of ones; for λ → ∞ this is the
    gradient. On one rank the smaller of AᵀA and AAᵀ is factored: the step is G − Aᵀ(AAᵀ + NλI)⁻¹AG as well.
    """

    def __init__(self, layers: Sequence[Layer], bias: bool, *, damping: float) -> None:
        self.layers, self.bias, self.damping = layers, bias, damping

    @torch.no_grad()
    def __call__(self, weights: Sequence[Tensor], codes: Sequence[Tensor], V: Tensor, batch: Batch) -> None:
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


def _gradients(weights: Sequence[Tensor]) -> list[Tensor]:
    return [W.grad for W in weights if W.grad is not None]
