"""All layers from one forward pass: the alternation in Jacobi form, at about the cost of backpropagation.

Legend: mini-batch codes Z₀ = X, Z₁ … Z_{d−1} (n × kᵢ), weights Wᵢ (kᵢ₋₁ × kᵢ), biases bᵢ, Vᵢ = Zᵢ₋₁Wᵢ + bᵢ.

`AlternatingTrainer` solves each layer's problem after the layers above have moved (Gauss–Seidel). Here every
problem is linearised at the same forward pass, which has computed every residual already (Jacobi), and takes
one relaxed step. Every layer is a nonlinear semi-NMF, the output included: Y ≈ f(V_d). For each mini-batch,
from the output down, with f(V) = max(0, V) and ∘ the element-wise product:

================  ======================================================================================
output residual   R_d = Y − V_d where Y > 0 or V_d > 0, else 0: latent targets (Saul 2022)
code residuals    D = (RᵢWᵢ⁺) ∘ [Zᵢ₋₁ > 0] and Rᵢ₋₁ = tᵢD: like a multiplicative step it keeps zeros
line search       tᵢ = ⟨DWᵢ, Rᵢ⟩ / ‖DWᵢ ∘ [Vᵢ active]‖²: the tᵢ for which DWᵢ removes most of Rᵢ
weights           Wᵢ ← Wᵢ + ρᵢ (C + (δ + γ)c̄ I)⁻¹ (Zᵢ₋₁ᵀRᵢ/n − γ c̄ Wᵢ) with rates ρᵢ, likewise bᵢ
================  ======================================================================================

- C is the covariance of the layer's input, c̄ the mean of its diagonal. For X it is taken over the training
  samples and factored once, and X is kept in the basis that whitens it; for codes it is a running mean over
  batches. So the damping δ and the ridge γ (Arai's λ_W) have no unit. γ = λk/n for k inputs and n training
  samples, because the noise that a least-squares fit takes up grows as k/n; the output has none, since with
  one its codes would have to grow to make up for the shrinking weights.
- Rates ρ = s min(ω/h, 1), one for each unit. h makes ω = 1 about the largest step that is safe for any data.
  A unit that is active on a fraction a of the samples has its residual on those only, so the Gram matrix of
  its own problem is a C; that of a batch of n samples has eigenvalues up to h = (√a + √(k̂/n))² times those of
  C (Marchenko & Pastur 1967), for the effective dimension k̂ = tr C(C + (δ + γ)c̄ I)⁻¹. The output has a = 1.
- All layers correct the same residual at once, so their corrections overlap. The share s ≤ 1 that each takes
  is found by a line search along their joint step: with R_d and R̂_d before and after it and P = R_d − R̂_d,
  s ← s⟨P, R_d⟩/‖P‖², changed at most by a factor of two. It starts at 1/(d − 1), in equal parts.
- W⁺ = (WᵀW + μ w̄ I)⁻¹Wᵀ, w̄ the mean diagonal of WᵀW: μ damps directions that W barely passes on. (For
  μ → ∞ it would be a multiple of Wᵀ, and the code residuals, up to a factor for each layer, gradients.)
- ‖Rᵢ‖ is at most half of ‖Zᵢ‖, that of the output half of ‖Y‖.
- Covariances, inverses and tᵢ are brought up to date every few batches, more often at the start; then the
  ridge of the hidden codes acts, for as many batches at once. s is searched on the last batch before, which
  sees the oldest of them.
- The rates fall linearly to zero over all epochs, and the weights that are kept are an exponential average.

No gradient of the whole objective is computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, DataError, SingularMatrixError, require
from ..factorization import split_bias
from ..linalg import cholesky, gram
from ..network import ROWS_AT_ONCE, Network, code_scales, one_hot, rescaled
from .common import FIRST_ROWS, Epoch, Order, Stopwatch, half_square_per_sample

INPUT_ROWS = 20_000
"""Evenly spaced samples, at least, that give the covariance of the inputs; all if they are fewer."""

TRUST = 0.5
"""Largest fraction ‖R‖/‖Z‖ by which codes are asked to move in one step; ‖R‖/‖Y‖ for the outputs."""

FRESH = 4
"""Statistics are at most 1/FRESH of all updates so far old."""

REMEDY = "lower jacobi.omega, or raise jacobi.batch_size or jacobi.damping"

TENSORS = ("weights", "biases", "average", "average_biases", "activity", "code_inverses", "searches")


@dataclass
class JacobiConfig:
    """Parameters of the one-pass trainer; none has a unit.

    Attributes:
        batch_size: samples in a mini-batch.
        omega: relaxation ω > 0 of the hidden layers' weights; however large it is, no rate exceeds 1.
        output_omega: the same for the output's weights; small, to leave something to the hidden layers.
        code_damping: μ > 0, relative to the mean diagonal of WᵀW.
        damping: δ > 0, relative to the mean variance c̄ of a layer's inputs.
        ridge: λ ≥ 0 of the hidden layers but the first, γ = λk/n. The output has none.
        input_ridge: the same for the first layer.
        input_delta: relative cut-off δ_x in [0, 1): directions of X with a singular value below δ_x times the
            largest are left out.
        gram_every: batches, at most, between two updates of covariances, inverses and line searches.
        gram_memory: share in [0, 1) of the past in a running covariance.
        averaging: decay in [0, 1) of the exponential average of the weights that is evaluated and kept.
    """

    batch_size: int = 250
    omega: float = 3.0
    output_omega: float = 0.1
    code_damping: float = 0.3
    damping: float = 0.5
    ridge: float = 0.06
    input_ridge: float = 0.3
    input_delta: float = 2e-2
    gram_every: int = 10
    gram_memory: float = 0.9
    averaging: float = 0.98

    def __post_init__(self) -> None:
        for key in ("batch_size", "gram_every"):
            require(getattr(self, key) >= 1, f"jacobi.{key}", "≥ 1", getattr(self, key))
        for key in ("omega", "output_omega", "code_damping", "damping"):
            require(0 < getattr(self, key) < math.inf, f"jacobi.{key}", "> 0", getattr(self, key))
        for key in ("ridge", "input_ridge"):
            require(0 <= getattr(self, key) < math.inf, f"jacobi.{key}", "≥ 0", getattr(self, key))
        for key in ("input_delta", "gram_memory", "averaging"):
            require(0 <= getattr(self, key) < 1, f"jacobi.{key}", "in [0, 1)", getattr(self, key))


class WhitenedInput:
    """X in the basis in which its damped covariance is the identity: there a step needs no solve.

    With the eigenvectors Q and eigenvalues s² of the covariance, X̃ = (X − x̄)Q diag(s² + (δ + γ)c̄)^(−1/2), and
    weights W̃ on X̃ stand for W = Q diag(…)^(−1/2) W̃ on X − x̄. Directions with s ≤ δ_x s₁ are left out. X is
    given in the raw `unit` and meant in multiples of it.
    """

    def __init__(self, X: Tensor, unit: float, bias: bool, config: JacobiConfig) -> None:
        rows = X[:: max(1, len(X) // INPUT_ROWS)] / unit
        first = rows.mean(dim=0) if bias else rows.new_zeros(rows.shape[1])
        rows -= first  # before anything is squared, so that features far from zero keep their digits
        rest, covariance = moments(rows, bias)
        self.mean = first + rest
        self._check(covariance)
        level = covariance.diagonal().mean()
        if not level > 0:
            raise DataError(
                "every feature of the training inputs X is constant: there is nothing to learn from; "
                "check that X holds the data that you meant"
            )
        variances, Q = torch.linalg.eigh(covariance)
        kept = variances > config.input_delta**2 * variances[-1]
        variances, self.Q = variances[kept], Q[:, kept]
        self.ridge = config.input_ridge * X.shape[1] / len(X)
        self.scales = (variances + (config.damping + self.ridge) * level).rsqrt()
        self.basis = self.Q * self.scales
        self.X = X.new_empty(len(X), len(variances))
        for part, whitened in zip(X.split(ROWS_AT_ONCE), self.X.split(ROWS_AT_ONCE), strict=True):
            torch.mm(part / unit - first - rest, self.basis, out=whitened)
        self._check(self.X)
        self.dimension = float((variances * self.scales.square()).sum())
        self.shrinkage = self.ridge * level * self.scales.square()[:, None]

    @staticmethod
    def _check(found: Tensor) -> None:
        if not torch.isfinite(found).all():
            raise DataError("the inputs X hold NaN or infinity: fill them in or leave those samples out")

    def enter(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """(W̃, b̃) for weights W (p × k) and biases b (k) on X."""
        return (self.Q.T @ W) / self.scales[:, None], b + self.mean @ W

    def leave(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of `enter`, without what lies in the directions left out."""
        W = self.basis @ W
        return W, b - self.mean @ W

    def step(self, Z: Tensor, R: Tensor) -> tuple[Tensor, Tensor]:
        """Steps of weights and biases for the codes and residuals of n samples, the ridge left aside."""
        return (Z.T @ R).div_(len(Z)), R.mean(dim=0)

    def shrink(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """The ridge's part of the steps."""
        return self.shrinkage * W, W.new_zeros(W.shape[1])


class CodeMetric:
    """Running mean (k) and covariance (k × k) of a layer's input codes, and its damped inverse."""

    def __init__(self, Z: Tensor, config: JacobiConfig, ridge: float, bias: bool) -> None:
        self.config, self.ridge, self.bias = config, ridge, bias
        self.mean, self.covariance = moments(Z, bias)
        self._invert()

    def refresh(self, Z: Tensor) -> None:
        """Mix the codes Z (n × k) of a batch in."""
        mean, covariance = moments(Z, self.bias)
        self.mean = mean.lerp_(self.mean, self.config.gram_memory)
        self.covariance = covariance.lerp_(self.covariance, self.config.gram_memory)
        self._invert()

    def step(self, Z: Tensor, R: Tensor) -> tuple[Tensor, Tensor]:
        """Steps of weights and biases for the codes and residuals of n samples, the ridge left aside."""
        mean_residual = R.mean(dim=0)
        if len(R) < R.shape[1]:  # few samples: cheaper to solve for each of them than for each column of R
            S = ((Z @ self.inverse).T @ R).div_(len(R))
            S.addr_(self.solved_mean, mean_residual, alpha=-1)
        else:
            S = self.inverse @ (Z.T @ R).div_(len(R)).addr_(self.mean, mean_residual, alpha=-1)
        return S, mean_residual - self.mean @ S

    def shrink(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """The ridge's part of the steps."""
        S = (self.inverse @ W).mul_(self.ridge * self.level)
        return S, -(self.mean @ S)

    def state(self) -> dict[str, Any]:
        """Copies of what `refresh` changes."""
        return {"mean": self.mean.clone(), "covariance": self.covariance.clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        self.mean, self.covariance = state["mean"].to(self.mean), state["covariance"].to(self.mean)
        self._invert()

    def _invert(self) -> None:
        self.level = float(self.covariance.diagonal().mean())
        damping = (self.config.damping + self.ridge) * self.level
        self.inverse = torch.cholesky_inverse(cholesky(self.covariance, self.covariance.new_tensor(damping)))
        self.solved_mean = self.inverse @ self.mean
        # Of codes that do not vary rounding alone would be left, of either sign.
        self.dimension = max(0.0, len(self.mean) - damping * float(self.inverse.trace()))


def moments(Z: Tensor, bias: bool) -> tuple[Tensor, Tensor]:
    """Mean (k) and covariance (k × k) of the rows of Z (n × k); without a bias zero and second moments."""
    mean = Z.mean(dim=0) if bias else Z.new_zeros(Z.shape[1])
    return mean, gram(Z).div_(len(Z)).addr_(mean, mean, alpha=-1)


def damped_code_inverse(W: Tensor, damping: float) -> Tensor:
    """(WᵀW + μ w̄ I)⁻¹Wᵀ (m × k) for weights W (k × m), w̄ the mean diagonal of WᵀW, μ = `damping`."""
    G = W.T @ W
    L = cholesky(G, G.new_tensor(damping * float(G.diagonal().mean())))
    return torch.cholesky_solve(W.T.contiguous(), L)


@dataclass
class JacobiTrainer:
    """Trains `start` on X (n × p) and labels (n, int64) for `epochs` epochs, each in `parts`, as above."""

    start: Network
    X: Tensor
    labels: Tensor
    config: JacobiConfig
    epochs: int
    generator: torch.Generator
    parts: int = 1
    updates: int = field(default=0, init=False)
    due: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        size = self.config.batch_size
        require(size <= len(self.X), "jacobi.batch_size", f"at most the {len(self.X)} training samples", size)
        self.Y = one_hot(self.labels, self.start.widths[-1], self.X.dtype)
        self.total_updates = max(1, self.epochs * math.ceil(len(self.X) / size))
        self.order = Order(len(self.X), size, self.generator, self.X.device, self.parts)
        self.share = self.X.new_tensor(1 / max(1, len(self.start.weights) - 1))
        self.scales: list[float] = []
        self._input: WhitenedInput | None = None

    @property
    def network(self) -> Network:
        if self._input is None:
            return self.start
        W, b = self._input.leave(self.average[0], self.average_biases[0])
        pairs = [(W, b), *zip(self.average[1:], self.average_biases[1:], strict=True)]
        bias = self.start.bias
        network = Network([torch.cat([W, b[None]]) if bias else W for W, b in pairs], bias)
        return rescaled(network, [1 / scale for scale in self.scales])

    def epoch(self) -> Epoch:
        watch = Stopwatch(self.X.device)
        residuals: list[Tensor] = []
        try:
            whitened = self._input or self._prepare()
            for rows in self.order.part():
                residuals = self.update(whitened.X[rows], self.Y[rows])
        except SingularMatrixError as error:  # a solver's own advice names keys that are not read here
            raise ConfigError(f"the statistics of codes or weights cannot be inverted: {REMEDY}") from error
        seconds = watch.seconds()
        if not all(torch.isfinite(W).all() for W in self.weights):
            raise ConfigError(f"the weights are no longer finite: {REMEDY}")
        return Epoch(
            seconds, self.config.omega * float(self.share) * self._decay(), [float(r) for r in residuals]
        )

    def update(self, X: Tensor, Y: Tensor) -> list[Tensor]:
        """One step of all layers on a mini-batch of whitened inputs and targets.

        Returns:
            For each layer ‖Rᵢ‖/‖Zᵢ‖, 0-d, with the targets in place of the codes for the output.
        """
        codes, V = self._forward(X)
        refresh = self.updates == self.due
        if refresh:
            self.due += min(self.config.gram_every, max(1, self.updates // FRESH))
            self._refresh(codes)
        wanted = latent_residual(Y, V)
        R = _trusted(wanted, Y)
        active = [*(Z > 0 for Z in codes[1:]), (Y > 0) | (V > 0)]
        rates = [self._rate(i, len(X)) for i in range(len(self.weights))]
        sizes: list[Tensor] = []
        for i in range(len(self.weights) - 1, -1, -1):
            Z, W = codes[i], self.weights[i]
            sizes.append(_ratio(R.norm(), (Y if i == len(self.weights) - 1 else codes[i + 1]).norm()))
            below = R
            if i > 0:
                D = (R @ self.code_inverses[i - 1]).mul_(active[i - 1])
                if refresh:
                    self.searches[i - 1] = _search((D @ W).mul_(active[i]), R)
                below = _trusted(D.mul_(self.searches[i - 1]), Z)
            self._move(i, self.metrics[i].step(Z, R), rates[i])
            R = below
        if self.updates + 1 == self.due:
            best = _search(wanted - latent_residual(Y, self._forward(X)[1]), wanted)
            self.share = (self.share * best.clamp(0.5, 2.0)).clamp_max(1.0)
        self._shrink(rates, self.due - self.updates if refresh else 0)
        self.updates += 1
        # A plain mean while it is shorter than the exponential window, so that the start does not linger.
        newest = max(1 - self.config.averaging, 1 / self.updates)
        for mean, new in zip(
            [*self.average, *self.average_biases], [*self.weights, *self.biases], strict=True
        ):
            mean.lerp_(new, newest)
        return sizes[::-1]

    def _forward(self, X: Tensor) -> tuple[list[Tensor], Tensor]:
        """X, Z₁, …, Z_{d−1} and V_d for whitened inputs X."""
        codes = [X]
        for W, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            codes.append(torch.addmm(b, codes[-1], W).relu_())
        return codes, torch.addmm(self.biases[-1], codes[-1], self.weights[-1])

    def _shrink(self, rates: list[Tensor], period: int) -> None:
        """The ridges' part of a step: the first layer's for this batch, the others' for `period` batches."""
        for i, (metric, rate) in enumerate(zip(self.metrics, rates, strict=True)):
            batches = 1 if i == 0 else period
            if metric.ridge > 0 and batches > 0:
                most = metric.ridge / (metric.ridge + self.config.damping)  # what shrink() takes
                self._move(i, metric.shrink(self.weights[i]), -(batches * rate).clamp_max(1 / most))

    def _move(self, i: int, steps: tuple[Tensor, Tensor], rate: Tensor) -> None:
        step, bias_step = steps
        self.weights[i].addcmul_(step, rate.expand_as(step))
        if self.start.bias:
            self.biases[i].addcmul_(bias_step, rate.expand_as(bias_step))

    def _rate(self, i: int, samples: int) -> Tensor:
        """ρ of each unit that layer i's weights lead to, for a batch of `samples`."""
        hidden = i < len(self.weights) - 1
        omega = self.config.omega if hidden else self.config.output_omega
        root = self.activity[i].sqrt() if hidden else torch.ones_like(self.share)
        h = (root + math.sqrt(self.metrics[i].dimension / samples)).square()
        return (omega / h).clamp_max(1.0) * self.share * self._decay()

    def _prepare(self) -> WhitenedInput:
        """Whiten the inputs, start the weights in that basis, and the codes' statistics.

        Inputs and codes are taken in units of about their root mean squares at the start, so that no square
        overflows; powers of two, because a division by them is exact.
        """
        bias = self.start.bias
        if not self.scales:
            sizes = code_scales(self.start, self.X[:FIRST_ROWS])
            self.scales = [2.0 ** round(math.log2(size)) for size in sizes]
        whitened = WhitenedInput(self.X, self.scales[0], bias, self.config)
        split = [split_bias(W, len(W) - bias) for W in rescaled(self.start, self.scales).weights]
        self.weights = [W.clone() for W, _ in split]
        self.biases = [W.new_zeros(W.shape[1]) if b is None else b.clone() for W, b in split]
        self.weights[0], self.biases[0] = whitened.enter(self.weights[0], self.biases[0])
        self.average = [W.clone() for W in self.weights]
        self.average_biases = [b.clone() for b in self.biases]
        codes = self._forward(whitened.X[:FIRST_ROWS])[0]
        ridges = [*(self.config.ridge * len(W) / len(self.X) for W in self.weights[1:-1]), 0.0]
        self.code_metrics = [
            CodeMetric(Z, self.config, ridge, bias) for Z, ridge in zip(codes[1:], ridges, strict=True)
        ]
        self.metrics: list[WhitenedInput | CodeMetric] = [whitened, *self.code_metrics]
        self.activity = [_activity(Z) for Z in codes[1:]]
        self.code_inverses = [damped_code_inverse(W, self.config.code_damping) for W in self.weights[1:]]
        self.searches = [self.X.new_ones(()) for _ in self.weights[1:]]
        self._input = whitened
        return whitened

    def _refresh(self, codes: list[Tensor]) -> None:
        """Take a batch's codes into their statistics."""
        for metric, Z in zip(self.code_metrics, codes[1:], strict=True):
            metric.refresh(Z)
        for share, Z in zip(self.activity, codes[1:], strict=True):
            share.lerp_(_activity(Z), 1 - self.config.gram_memory)
        self.code_inverses = [damped_code_inverse(W, self.config.code_damping) for W in self.weights[1:]]

    def _decay(self) -> float:
        return max(0.0, 1 - self.updates / self.total_updates)

    def objective(self, outputs: Tensor, labels: Tensor) -> float:
        """½‖R_d‖² per sample: the distance of Y from f(V_d), for a label's own output from V_d."""
        Y = one_hot(labels, outputs.shape[1], outputs.dtype)
        return half_square_per_sample(latent_residual(Y, outputs))

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"updates": self.updates, "due": self.due, "share": self.share.clone()}
        state["order"] = self.order.state()
        if self._input is not None:
            for name in TENSORS:
                state[name] = [T.clone() for T in getattr(self, name)]
            state["scales"] = list(self.scales)
            state["metrics"] = [metric.state() for metric in self.code_metrics]
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        self.updates, self.due = state["updates"], state["due"]
        self.share = state["share"].to(self.X, copy=True)
        self.order.load_state(state["order"])
        if "metrics" in state:
            self.scales = list(state["scales"])
            self._prepare()
            for name in TENSORS:
                setattr(self, name, [T.to(self.X, copy=True) for T in state[name]])
            for metric, saved in zip(self.code_metrics, state["metrics"], strict=True):
                metric.load_state(saved)


def latent_residual(Y: Tensor, V: Tensor) -> Tensor:
    """Y − V where Y > 0 or V > 0, else 0 (n × m): Y is to be f(V), and where Y = 0 any V ≤ 0 will do."""
    return Y - torch.where(Y > 0, V, V.relu())


def _trusted(R: Tensor, Z: Tensor) -> Tensor:
    """R, shortened to ‖R‖ ≤ TRUST ‖Z‖."""
    return R * _ratio(TRUST * Z.norm(), R.norm()).clamp_max(1.0)


def _search(P: Tensor, R: Tensor) -> Tensor:
    """The t ≥ 0 that minimises ‖R − tP‖; 0-d."""
    return _ratio((P * R).sum(), P.square().sum()).clamp_min(0)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    return a / b.clamp_min(torch.finfo(b.dtype).tiny)


def _activity(Z: Tensor) -> Tensor:
    """For codes Z (n × k) the share of samples on which each unit is active: k."""
    return (Z > 0).to(Z).mean(dim=0)
