"""All layers from one forward pass: the alternation in Jacobi form, at about the cost of backpropagation.

Legend: mini-batch codes Z₀ = X, Z₁ … Z_{d−1} (n × kᵢ), weights Wᵢ (kᵢ₋₁ × kᵢ), biases bᵢ, Vᵢ = Zᵢ₋₁Wᵢ + bᵢ.

`AlternatingTrainer` solves each layer's problem after the layers above have moved (Gauss–Seidel). Here every
problem is linearised at the same forward pass, which has computed every residual already (Jacobi), and takes
one relaxed step. For each mini-batch, from the output down:

================  ======================================================================================
output residual   R_d = Y − V_d
output codes      R_{d−1} = B − Z_{d−1}, B by multiplicative semi-NMF steps on (Y; Z_{d−1}, W_d)
hidden codes      R_{i−1} = ρ RᵢWᵢ⁺ where Z_{i−1} > 0, else 0: like a multiplicative step it keeps zeros
weights           Wᵢ ← Wᵢ + ω (C + (δ + γ)c̄ I)⁻¹ (Zᵢ₋₁ᵀRᵢ/n − γ c̄ Wᵢ) diag(1/hᵢ), likewise bᵢ
================  ======================================================================================

- C is the covariance of the layer's input, c̄ the mean of its diagonal. For X it is taken over all training
  samples and factored once, and X is kept in the basis that whitens it; for codes it is a running mean over
  batches. So the damping δ and the ridge γ (Arai's λ_W) have no unit. γ = λk/n.
- hᵢ (kᵢ) makes ω = 1 about the largest safe step. A unit that is active on a fraction a of the samples has
  its residual on those only, so the Gram matrix of its own problem is a C; that of a batch of n samples has
  eigenvalues up to h = (√a + √(k̂/n))² times those of C (Marchenko & Pastur 1967), for the effective
  dimension k̂ = tr C(C + (δ + γ)c̄ I)⁻¹. The output has a = 1.
- The output has no ridge (γ = 0): with one, its codes have to grow to make up for the shrinking weights.
- No layer's codes are asked to move by a larger fraction ‖R‖/‖Z‖ than those of the layer above, and those of
  the last hidden layer by at most a fifth.
- W⁺ = (1 + μ)(WᵀW + μ w̄ I)⁻¹Wᵀ, w̄ the mean diagonal of WᵀW: μ damps directions that W barely passes on.
- The d − 1 hidden layers correct the same residual at the same time, so they share ω in equal parts; and no
  step goes further than its share of that residual: ω/h ≤ 1/(d − 1), over ρ(1 + μ) below the last of them.
- ω falls linearly to zero over all epochs, and the weights that are kept are an exponential average.

No gradient of the whole objective is computed, and no derivative of f.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, require
from ..factorization import multiplicative_code_step, split_bias
from ..kernels import REFERENCE, Kernels
from ..linalg import EighFactors, cholesky, factor, gram
from ..network import Network, one_hot
from .common import Epoch, Stopwatch, batches, half_square_per_sample

FIRST_ROWS = 5000
"""Samples from which the codes' statistics start."""

TRUST = 0.2
"""Largest fraction ‖R‖/‖Z‖ by which the output's codes are asked to move in one step."""

REMEDY = "lower jacobi.omega or jacobi.code_omega, or raise jacobi.batch_size, jacobi.damping or jacobi.ridge"

LISTS = ("weights", "biases", "average", "average_biases", "activity", "code_inverses")


@dataclass
class JacobiConfig:
    """Parameters of the one-pass trainer; none has a unit.

    Attributes:
        batch_size: samples in a mini-batch.
        omega: relaxation of the hidden layers' weights, in (0, 2], which they share in equal parts; falls
            linearly to zero.
        output_omega: the same for the output's weights; small, to leave something to the hidden layers.
        output_iterations: multiplicative steps on the output's codes per batch, ≥ 1.
        code_omega: relaxation ρ > 0 of the hidden codes.
        code_damping: μ > 0, relative to the mean diagonal of WᵀW.
        damping: δ > 0, relative to the mean variance c̄ of a layer's inputs.
        ridge: λ ≥ 0 of the hidden layers but the first: γ = λk/n for k inputs of a layer and n training
            samples, because the noise that a least-squares fit takes up grows as k/n. The output has none.
        input_ridge: the same for the first layer.
        gram_every: batches between two updates of the codes' covariances and their inverses.
        gram_memory: share in [0, 1) of the past in a running covariance.
        averaging: decay in [0, 1) of the exponential average of the weights that is evaluated and kept.
    """

    batch_size: int = 250
    omega: float = 1.6
    output_omega: float = 0.05
    output_iterations: int = 3
    code_omega: float = 3.0
    code_damping: float = 0.3
    damping: float = 1e-2
    ridge: float = 0.015
    input_ridge: float = 0.4
    gram_every: int = 5
    gram_memory: float = 0.95
    averaging: float = 0.99

    def __post_init__(self) -> None:
        for key in ("batch_size", "output_iterations", "gram_every"):
            require(getattr(self, key) >= 1, f"jacobi.{key}", "≥ 1", getattr(self, key))
        for key in ("omega", "output_omega"):
            require(0 < getattr(self, key) <= 2, f"jacobi.{key}", "in (0, 2]", getattr(self, key))
        for key in ("code_omega", "code_damping", "damping"):
            require(0 < getattr(self, key) < math.inf, f"jacobi.{key}", "> 0", getattr(self, key))
        for key in ("ridge", "input_ridge"):
            require(0 <= getattr(self, key) < math.inf, f"jacobi.{key}", "≥ 0", getattr(self, key))
        for key in ("gram_memory", "averaging"):
            require(0 <= getattr(self, key) < 1, f"jacobi.{key}", "in [0, 1)", getattr(self, key))


class WhitenedInput:
    """X in the basis in which its damped covariance is the identity: there a step needs no solve.

    With the eigenvectors Q and eigenvalues s² of the covariance, X̃ = (X − x̄)Q diag(s² + (δ + γ)c̄)^(−1/2), and
    weights W̃ on X̃ stand for W = Q diag(…)^(−1/2) W̃ on X − x̄. Directions with s ≤ δ_x s₁ are left out.
    """

    def __init__(self, X: Tensor, bias: bool, config: JacobiConfig, input_delta: float) -> None:
        self.mean = X.mean(dim=0) if bias else X.new_zeros(X.shape[1])
        centred = X - self.mean
        kept = factor(centred, "eigh", input_delta)
        assert isinstance(kept, EighFactors)
        variances = kept.s.square() / len(X)
        level = centred.square().mean()
        ridge = config.input_ridge * X.shape[1] / len(X)
        self.scales = (variances + (config.damping + ridge) * level).rsqrt()
        self.basis = kept.Q * self.scales
        self.X = centred @ self.basis
        self.dimension = float((variances * self.scales.square()).sum())
        self.shrinkage = (ridge * level * self.scales.square())[:, None]
        self.Q = kept.Q

    def enter(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """(W̃, b̃) for weights W (p × k) and biases b (k) on X."""
        return (self.Q.T @ W) / self.scales[:, None], b + self.mean @ W

    def leave(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of `enter`, without what lies in the directions left out."""
        W = self.basis @ W
        return W, b - self.mean @ W

    def step(self, C: Tensor, W: Tensor, mean_residual: Tensor) -> tuple[Tensor, Tensor]:
        """Steps of weights and biases for C = X̃ᵀR/n."""
        return torch.addcmul(C, self.shrinkage, W, value=-1), mean_residual


class CodeMetric:
    """Running mean (k) and covariance (k × k) of a layer's input codes, and its damped inverse."""

    def __init__(self, Z: Tensor, config: JacobiConfig, ridge: float, bias: bool) -> None:
        self.config, self.ridge, self.bias = config, ridge, bias
        self.mean, self.covariance = self._moments(Z)
        self._invert()

    def refresh(self, Z: Tensor) -> None:
        """Mix the codes Z (n × k) of a batch in."""
        mean, covariance = self._moments(Z)
        self.mean = mean.lerp_(self.mean, self.config.gram_memory)
        self.covariance = covariance.lerp_(self.covariance, self.config.gram_memory)
        self._invert()

    def step(self, C: Tensor, W: Tensor, mean_residual: Tensor) -> tuple[Tensor, Tensor]:
        """Steps of weights and biases for C = ZᵀR/n, which is overwritten."""
        C.addr_(self.mean, mean_residual, alpha=-1).add_(W, alpha=-self.ridge * self.level)
        S = self.inverse @ C
        return S, mean_residual - self.mean @ S

    def state(self) -> dict[str, Any]:
        """Copies of what `refresh` changes."""
        return {"mean": self.mean.clone(), "covariance": self.covariance.clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        self.mean, self.covariance = state["mean"].to(self.mean), state["covariance"].to(self.mean)
        self._invert()

    def _moments(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        mean = Z.mean(dim=0) if self.bias else Z.new_zeros(Z.shape[1])
        return mean, gram(Z).div_(len(Z)).addr_(mean, mean, alpha=-1)

    def _invert(self) -> None:
        self.level = float(self.covariance.diagonal().mean())
        damping = (self.config.damping + self.ridge) * self.level
        self.inverse = torch.cholesky_inverse(cholesky(self.covariance, damping))
        self.dimension = len(self.mean) - damping * float(self.inverse.trace())


def damped_code_inverse(W: Tensor, damping: float) -> Tensor:
    """(1 + μ)(WᵀW + μ w̄ I)⁻¹Wᵀ (m × k) for weights W (k × m), w̄ the mean diagonal of WᵀW, μ = `damping`.

    For W with orthogonal columns of one length it is the pseudo-inverse, whatever μ.
    """
    G = W.T @ W
    L = cholesky(G, damping * float(G.diagonal().mean()))
    return torch.cholesky_solve(W.T.contiguous(), L).mul_(1 + damping)


@dataclass
class JacobiTrainer:
    """Trains `start` on X (n × p) and labels (n, int64) for `epochs` epochs, as this module says."""

    start: Network
    X: Tensor
    labels: Tensor
    config: JacobiConfig
    input_delta: float
    epochs: int
    generator: torch.Generator
    kernels: Kernels = REFERENCE
    updates: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        size = self.config.batch_size
        require(size <= len(self.X), "jacobi.batch_size", f"at most the {len(self.X)} training samples", size)
        self.Y = one_hot(self.labels, self.start.widths[-1], self.X.dtype)
        self.total_updates = max(1, self.epochs * math.ceil(len(self.X) / size))
        self._input: WhitenedInput | None = None

    @property
    def network(self) -> Network:
        if self._input is None:
            return self.start
        W, b = self._input.leave(self.average[0], self.average_biases[0])
        pairs = [(W, b), *zip(self.average[1:], self.average_biases[1:], strict=True)]
        if not self.start.bias:
            return Network([W.clone() for W, _ in pairs])
        return Network([torch.cat([W, b[None]]) for W, b in pairs], bias=True)

    def epoch(self) -> Epoch:
        watch = Stopwatch(self.X.device)
        whitened = self._input or self._prepare()
        residuals: list[Tensor] = []
        for rows in batches(len(self.X), self.config.batch_size, self.generator, self.X.device):
            residuals = self.update(whitened.X[rows], self.Y[rows])
        seconds = watch.seconds()
        if not all(torch.isfinite(W).all() for W in self.weights):
            raise ConfigError(f"the weights are no longer finite: {REMEDY}")
        return Epoch(seconds, self.config.omega * self._decay(), [float(r) for r in residuals])

    def update(self, X: Tensor, Y: Tensor) -> list[Tensor]:
        """One step of all layers on a mini-batch of whitened inputs and targets.

        Returns:
            For each layer ‖Rᵢ‖/‖Zᵢ‖, 0-d, with the targets in place of the codes for the output.
        """
        codes = [X]
        for W, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            codes.append(torch.addmm(b, codes[-1], W).relu_())
        if self.updates % self.config.gram_every == 0:
            self._refresh(codes)
        decay = self._decay()
        R = Y - torch.addmm(self.biases[-1], codes[-1], self.weights[-1])
        sizes: list[Tensor] = []
        tiny = torch.finfo(R.dtype).tiny
        for i in range(len(self.weights) - 1, -1, -1):
            Z, W, b = codes[i], self.weights[i], self.biases[i]
            output = i == len(self.weights) - 1
            sizes.append(R.norm() / (Y if output else codes[i + 1]).norm().clamp_min(tiny))
            below = self._code_residual(i, Z, R, Y) if i > 0 else R
            if i > 0:
                allowed = (TRUST if output else sizes[-1]) * Z.norm()
                below.mul_((allowed / below.norm().clamp_min(tiny)).clamp_max(1.0))
            metric = self.metrics[i]
            step, bias_step = metric.step((Z.T @ R).div_(len(Z)), W, R.mean(dim=0))
            rate = decay * self._rate(i, metric.dimension / len(Z))
            W.addcmul_(step, rate.expand_as(step))
            if self.start.bias:
                b.addcmul_(bias_step, rate.expand_as(b))
            R = below
        self.updates += 1
        # A plain mean while it is shorter than the exponential window, so that the start does not linger.
        newest = max(1 - self.config.averaging, 1 / self.updates)
        for mean, new in zip(
            [*self.average, *self.average_biases], [*self.weights, *self.biases], strict=True
        ):
            mean.lerp_(new, newest)
        return sizes[::-1]

    def _rate(self, i: int, dimension: float) -> Tensor:
        """ω/h of each unit that layer i's weights lead to; `dimension` is k̂/n."""
        hidden = len(self.weights) - 1
        if i == hidden:
            return torch.full((), self.config.output_omega / (1 + math.sqrt(dimension)) ** 2).to(self.X)
        amplified = 1.0 if i == hidden - 1 else self.config.code_omega * (1 + self.config.code_damping)
        rate = self.config.omega / hidden / (self.activity[i].sqrt() + math.sqrt(dimension)).square()
        return rate.clamp_max(1 / (hidden * amplified))

    def _code_residual(self, i: int, Z: Tensor, R: Tensor, Y: Tensor) -> Tensor:
        """By how much the codes Z = Zᵢ would have to change for the layer above to lose its residual R."""
        W, b = self.weights[i], self.biases[i]
        if i < len(self.weights) - 1:
            return (R @ self.code_inverses[i - 1]).mul_(self.config.code_omega).mul_(Z > 0)
        B = Z
        for _ in range(self.config.output_iterations):
            B = multiplicative_code_step(Y - b, B, W, kernels=self.kernels)
        return B - Z

    def _prepare(self) -> WhitenedInput:
        """Whiten the inputs, start the weights in that basis, and the codes' statistics."""
        bias = self.start.bias
        whitened = WhitenedInput(self.X, bias, self.config, self.input_delta)
        split = [split_bias(W, len(W) - bias) for W in self.start.weights]
        self.weights = [W.clone() for W, _ in split]
        self.biases = [W.new_zeros(W.shape[1]) if b is None else b.clone() for W, b in split]
        self.weights[0], self.biases[0] = whitened.enter(self.weights[0], self.biases[0])
        self.average = [W.clone() for W in self.weights]
        self.average_biases = [b.clone() for b in self.biases]
        codes = [whitened.X[:FIRST_ROWS]]
        for W, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            codes.append(torch.addmm(b, codes[-1], W).relu_())
        self.metrics: list[WhitenedInput | CodeMetric]
        ridges = [*(self.config.ridge * len(W) / len(self.X) for W in self.weights[1:-1]), 0.0]
        self.code_metrics = [
            CodeMetric(Z, self.config, ridge, bias) for Z, ridge in zip(codes[1:], ridges, strict=True)
        ]
        self.metrics = [whitened, *self.code_metrics]
        self.activity = [_activity(Z) for Z in codes[1:]]
        self.code_inverses = [damped_code_inverse(W, self.config.code_damping) for W in self.weights[1:-1]]
        self._input = whitened
        return whitened

    def _refresh(self, codes: list[Tensor]) -> None:
        """Take a batch's codes into their statistics."""
        for metric, Z in zip(self.code_metrics, codes[1:], strict=True):
            metric.refresh(Z)
        for share, Z in zip(self.activity, codes[1:], strict=True):
            share.lerp_(_activity(Z), 1 - self.config.gram_memory)
        self.code_inverses = [damped_code_inverse(W, self.config.code_damping) for W in self.weights[1:-1]]

    def _decay(self) -> float:
        return max(0.0, 1 - self.updates / self.total_updates)

    def objective(self, outputs: Tensor, labels: Tensor) -> float:
        """½‖Y − V_d‖² per sample."""
        return half_square_per_sample(outputs, labels)

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"updates": self.updates, "generator": self.generator.get_state()}
        if self._input is not None:
            for name in LISTS:
                state[name] = [T.clone() for T in getattr(self, name)]
            state["metrics"] = [metric.state() for metric in self.code_metrics]
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        self.generator.set_state(state["generator"].cpu())
        if "metrics" in state:
            self._prepare()
            for name in LISTS:
                setattr(self, name, [T.to(self.X, copy=True) for T in state[name]])
            for metric, saved in zip(self.code_metrics, state["metrics"], strict=True):
                metric.load_state(saved)


def _activity(Z: Tensor) -> Tensor:
    """For codes Z (n × k) the share of samples on which each unit is active: k."""
    return (Z > 0).to(Z).mean(dim=0)
