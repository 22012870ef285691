"""What the two relaxations of a network share: `jacobi`, all layers at once, and `seidel`, one after another.

Legend: mini-batch codes Z₀ = X, Z₁ … Z_{d−1} (n × kᵢ), weights Wᵢ (kᵢ₋₁ × kᵢ), biases bᵢ, Vᵢ = Zᵢ₋₁Wᵢ + bᵢ.
(In a convolutional layer Zᵢ₋₁ stands for its patches, n for their number, and the residuals of patches are
averaged where they overlap: `network.layers`.)

Every layer is a nonlinear semi-NMF, the output included: Y ≈ f(V_d). One forward pass for each mini-batch
linearises all of them, and each takes one relaxed step. With f(V) = max(0, V) and ∘ the element-wise product:

================  ======================================================================================
output residual   R_d = Y − V_d where Y > 0 or V_d > 0, else 0: latent targets (Saul 2022), see `targets`
code residuals    D = (RᵢWᵢ⁺) ∘ [Zᵢ₋₁ > 0] and Rᵢ₋₁ = tᵢD: like a multiplicative step it keeps zeros
line search       tᵢ = ⟨DWᵢ, Rᵢ⟩ / ‖DWᵢ ∘ [Vᵢ active]‖²: the tᵢ for which DWᵢ removes most of Rᵢ
weights           Wᵢ ← Wᵢ + ρᵢ (C + (δ + γ)c̄ I)⁻¹ (Zᵢ₋₁ᵀRᵢ/n − γ c̄ Wᵢ) with rates ρᵢ, likewise bᵢ
================  ======================================================================================

- C is the covariance of the layer's input, c̄ the mean of its diagonal. For X it is taken over the training
  samples and factored once, and X is kept in the basis that whitens it; for codes it is a running mean over
  batches. So the damping δ and the ridge γ (Arai's λ_W) have no unit. γ = λk/n for k inputs and n training
  samples, because the noise that a least-squares fit takes up grows as k/n; the output has none, since with
  one its codes would have to grow to make up for the shrinking weights.
- Rates ρ = min(ω/h, 1), one for each unit. h makes ω = 1 about the largest step that is safe for any data.
  A unit that is active on a fraction a of the samples has its residual on those only, so the Gram matrix of
  its own problem is a C; that of a batch of n samples has eigenvalues up to h = (√a + √(k̂/n))² times those of
  C (Marchenko & Pastur 1967), for the effective dimension k̂ = tr C(C + (δ + γ)c̄ I)⁻¹. The output has a = 1.
  Patches are so many that h is near to a, and 1/h the full step of a unit's own problem: there up to 2.
- W⁺ = (WᵀW + μ w̄ I)⁻¹Wᵀ, w̄ the mean diagonal of WᵀW: μ damps directions that W barely passes on. (For
  μ → ∞ it would be a multiple of Wᵀ, and the code residuals, up to a factor for each layer, gradients.)
- ‖Rᵢ‖ is at most half of ‖Zᵢ‖, that of the output half of ‖Y‖.
- Covariances, inverses and tᵢ are brought up to date every few batches, more often at the start; then the
  ridge of the hidden codes acts, for as many batches at once.
- The rates fall linearly to zero over all epochs, and the weights that are kept are an exponential average.

No gradient of the whole objective is computed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from .. import parallel
from ..errors import require
from ..factorization import split_bias
from ..network import Network, code_scales, first_at_once, rescaled
from ..source import Batch, Order, Source, mass
from .common import (
    FIRST_ROWS,
    Epoch,
    Stopwatch,
    collect,
    decay,
    half_square_per_sample,
    require_batch,
    require_finite,
    where_active,
)
from .graphs import Replayed
from .statistics import (
    CodeMetric,
    Metric,
    PatchInput,
    WhitenedInput,
    damped_code_inverse,
    marchenko_pastur,
    moments,
    refresh_period,
    sums,
)

TRUST = 0.5
"""Largest fraction ‖R‖/‖Z‖ by which codes are asked to move in one step; ‖R‖/‖Y‖ for the outputs."""

PATCHES_MOST = 2.0
"""Largest rate where rows are patches."""

CODE_ROWS = 20_000
"""Rows of codes, about, from which their statistics start where a sample has many."""

TENSORS = ("weights", "biases", "average", "average_biases", "activity", "code_inverses", "searches")


@dataclass
class RelaxationConfig:
    """Parameters of both relaxations; none has a unit.

    Attributes:
        batch_size: samples in a mini-batch.
        omega: relaxation ω > 0 of the hidden layers' weights; however large it is, no rate exceeds 1, in
            convolutions 2.
        output_omega: the same for the output's weights; small, to leave something to the hidden layers.
        code_damping: μ > 0, relative to the mean diagonal of WᵀW.
        damping: δ > 0, relative to the mean variance c̄ of a layer's inputs.
        ridge: λ ≥ 0 of the hidden layers but the first, γ = λk/n. The output has none.
        input_ridge: the same for the first layer.
        input_delta: relative cut-off δ_x in [0, 1): directions of X with a singular value below δ_x times the
            largest are left out; of patches none is.
        gram_every: batches, at most, between two updates of covariances, inverses and line searches.
        gram_memory: share in [0, 1) of the past in a running covariance.
        averaging: decay in [0, 1) of the exponential average of the weights that is evaluated and kept.
    """

    name: ClassVar[str] = ""
    """Of the method, for messages."""

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
            require(getattr(self, key) >= 1, f"{self.name}.{key}", "≥ 1", getattr(self, key))
        for key in ("omega", "output_omega", "code_damping", "damping"):
            require(0 < getattr(self, key) < math.inf, f"{self.name}.{key}", "> 0", getattr(self, key))
        for key in ("ridge", "input_ridge"):
            require(0 <= getattr(self, key) < math.inf, f"{self.name}.{key}", "≥ 0", getattr(self, key))
        for key in ("input_delta", "gram_memory", "averaging"):
            require(0 <= getattr(self, key) < 1, f"{self.name}.{key}", "in [0, 1)", getattr(self, key))

    @classmethod
    def slower(cls) -> str:
        """What makes steps more careful."""
        return f"lower {cls.name}.omega, or raise {cls.name}.batch_size or {cls.name}.damping"


class Pass(NamedTuple):
    """What the forward pass of a mini-batch has found.

    Attributes:
        batch: its samples.
        Y: their targets.
        codes: X in the basis of the first layer, Z₁, …, Z_{d−1}.
        V: outputs.
        R: their residual R_d.
        counts: rows of each layer, or the sums of their weights.
        rates: ρ of each layer.
        period: for how many updates statistics and line searches are brought up to date; 0 if they are not.
    """

    batch: Batch
    Y: Tensor
    codes: list[Tensor]
    V: Tensor
    R: Tensor
    counts: list[Tensor | int]
    rates: list[Tensor]
    period: int


@dataclass
class RelaxationTrainer(ABC):
    """Trains `start` on a `source` for `epochs` epochs, each in `parts`; a form gives `_relax`."""

    start: Network
    source: Source
    config: RelaxationConfig
    epochs: int
    generator: torch.Generator
    parts: int = 1
    updates: int = field(default=0, init=False)
    due: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        size = self.config.batch_size
        require_batch(size, self.source, f"{self.config.name}.batch_size")
        self.total_updates = max(1, self.epochs * math.ceil(len(self.source) / size))
        self.order = Order(self.source, size, self.generator, self.parts)
        self.share = self.start.weights[0].new_ones(())
        self.decay, self.newest = self.share.new_ones(()), self.share.new_ones(())
        self.scales: list[float] = []
        self._input: WhitenedInput | PatchInput | None = None
        self._plain = Replayed(self._step)

    @property
    def network(self) -> Network:
        if self._input is None:
            return self.start
        W, b = self._input.leave(self.average[0], self.average_biases[0])
        pairs = [(W, b), *zip(self.average[1:], self.average_biases[1:], strict=True)]
        bias = self.start.bias
        weights = [torch.cat([W, b[None]]) if bias else W for W, b in pairs]
        return rescaled(Network(weights, bias, self.start.layers), [1 / scale for scale in self.scales])

    def epoch(self) -> Epoch:
        watch = Stopwatch(self.source.device)
        if self._input is None:
            self._prepare()
        for batch in self.order.part():
            residuals = self.update(batch)
        seconds = watch.seconds()
        require_finite(self.weights, self.source, self.config.slower())
        return Epoch(seconds, self.config.omega * float(self.share) * self._decay(), residuals.tolist())

    def update(self, batch: Batch) -> Tensor:
        """One step of all layers on a mini-batch: for each ‖Rᵢ‖/‖Zᵢ‖, the output's ‖R_d‖/‖Y‖ (d)."""
        self.decay.fill_(self._decay())
        # A plain mean while it is shorter than the exponential window, so that the start does not linger.
        self.newest.fill_(max(1 - self.config.averaging, 1 / (self.updates + 1)))
        period = 0
        if self.updates == self.due:
            period = refresh_period(self.updates, self.config.gram_every)
            self.due += period
        if period or self.updates + 1 == self.due:
            residuals = self._step(batch, period)
        else:
            residuals = self._plain(batch)
        self.updates += 1
        return residuals

    def _step(self, batch: Batch, period: int = 0) -> Tensor:
        """`update` by the samples that are here; statistics are refreshed for `period` updates, if not 0."""
        assert self._input is not None  # for the type checker: the first epoch prepares it
        X = self._input.whiten(batch.X)
        Y = self.source.targets.matrix(batch.labels, self.layers[-1].units, X.dtype)
        counts = [batch.number * layer.positions for layer in self.layers]
        codes, V = self._forward(X)
        if period:
            self._refresh(codes, counts, batch.weights)
        rates = [self._rate(i, count) for i, count in enumerate(counts)]
        R = self.source.targets.residual(Y, V)
        residuals = self._relax(Pass(batch, Y, codes, V, R, counts, rates, period))
        self._shrink(rates, period)
        for mean, new in zip(
            [*self.average, *self.average_biases], [*self.weights, *self.biases], strict=True
        ):
            mean.lerp_(new, self.newest)
        return torch.stack(residuals[::-1])

    @abstractmethod
    def _relax(self, found: Pass) -> list[Tensor]:
        """Move all weights, leaving `found` as it is; ‖Rᵢ‖/‖Zᵢ‖ of each layer, from the output down."""

    def _sums(self, found: Pass, i: int, R: Tensor, above: Tensor) -> parallel.Pending:
        """Sums over ranks that move the weights of layer i, for its residual R and its outputs `above`.

        They are those of `Metric.cross`, of R, and of the squares of R and of `above`.
        """
        layer, batch, w = self.layers[i], found.batch, found.batch.weights
        weighted = R if w is None else w * R
        C = self.metrics[i].cross(layer, found.codes[i], weighted, batch.samples * layer.positions)
        sizes = torch.stack([_square(T, w) for T in (R, above)])
        return parallel.begin(C, weighted.reshape(-1, layer.units).sum(dim=0), sizes)

    def _weight_step(self, found: Pass, i: int, C: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        """The steps of weights and biases for the first two of `_sums`, which are used up."""
        rows, count = found.batch.samples * self.layers[i].positions, found.counts[i]
        return self.metrics[i].step(C.div_(count), r.div_(count), rows)

    def _code_step(self, found: Pass, i: int, R: Tensor) -> Tensor:
        """tD, by which the codes that enter layer i are to move to remove its residual R; t is new if due."""
        layer, Z = self.layers[i], found.codes[i]
        D = where_active(layer.back(R, self.code_inverses[i - 1]), Z)
        if found.period:
            P = self._felt(found, i, layer.product(D, self.weights[i], None))
            self.searches[i - 1].copy_(search(P, R, found.batch.weights))
        return D.mul_(self.searches[i - 1])

    def _felt(self, found: Pass, i: int, P: Tensor) -> Tensor:
        """The part of changes P of Vᵢ that changes layer i's residual."""
        if i == len(self.weights) - 1:
            return self.source.targets.felt(P, found.Y, found.V)
        return where_active(P, found.codes[i + 1])

    def _forward(self, X: Tensor) -> tuple[list[Tensor], Tensor]:
        """X, Z₁, …, Z_{d−1} and V_d for whitened inputs X."""
        codes = [X]
        for layer, W, b in zip(self.layers[:-1], self.weights[:-1], self.biases[:-1], strict=True):
            codes.append(layer.product(codes[-1], W, b).relu_())
        return codes, self.layers[-1].product(codes[-1], self.weights[-1], self.biases[-1])

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

    def _rate(self, i: int, rows: Tensor | int) -> Tensor:
        """ρ of each unit that layer i's weights lead to, for a batch that gives so many rows."""
        hidden = i < len(self.weights) - 1
        omega = self.config.omega if hidden else self.config.output_omega
        root = self.activity[i].sqrt() if hidden else torch.ones_like(self.share)
        h = marchenko_pastur(root, self.metrics[i].dimension, rows)
        most = PATCHES_MOST if self.layers[i].positions > 1 else 1.0
        return (omega / h).clamp_max(most) * self.share * self.decay

    def _prepare(self) -> None:
        """Whiten the inputs, start the weights in that basis, and the codes' statistics.

        Inputs and codes are taken in units of about their root mean squares at the start, so that no square
        overflows; powers of two, because a division by them is exact.
        """
        config, start, bias = self.config, self.start, self.start.bias
        first = collect(self.source, self.source.sample(FIRST_ROWS))
        if not self.scales:
            sizes = code_scales(start, first.X, first.weights)
            self.scales = [2.0 ** round(math.log2(size)) for size in sizes]
        layer, unit, damping, ridge = start.layers[0], self.scales[0], config.damping, config.input_ridge
        whitened: WhitenedInput | PatchInput
        if layer.positions > 1:
            whitened = PatchInput(self.source, layer, unit, bias, damping=damping, ridge=ridge)
        else:
            delta = config.input_delta
            whitened = WhitenedInput(
                self.source, layer, unit, bias, damping=damping, ridge=ridge, delta=delta
            )
        self.layers = (whitened.layer, *start.layers[1:])
        pairs = zip(rescaled(start, self.scales).weights, start.layers, strict=True)
        split = [split_bias(W, layer.fan_in) for W, layer in pairs]
        self.weights = [W.clone() for W, _ in split]
        self.biases = [W.new_zeros(W.shape[1]) if b is None else b.clone() for W, b in split]
        self.weights[0], self.biases[0] = whitened.enter(self.weights[0], self.biases[0])
        self.average = [W.clone() for W in self.weights]
        self.average_biases = [b.clone() for b in self.biases]
        totals = self._first_sums(whitened, first)
        self.code_metrics, self.activity = [], []
        for below, layer in pairwise(self.layers):
            total, squares, count, active = (next(totals) for _ in range(4))
            hidden = layer is not self.layers[-1]
            ridge = config.ridge * layer.fan_in / (mass(self.source) * layer.positions) if hidden else 0.0
            memory = config.gram_memory
            start_ = moments(total, squares, count)
            self.code_metrics.append(CodeMetric(*start_, damping=config.damping, ridge=ridge, memory=memory))
            self.activity.append(active.div_(first.number * below.positions))
        self.metrics: list[Metric] = [whitened, *self.code_metrics]
        self.code_inverses = [damped_code_inverse(W, config.code_damping) for W in self.weights[1:]]
        self.searches = [first.X.new_ones(()) for _ in self.weights[1:]]
        self._plain = Replayed(self._step)  # what was recorded before is about other tensors
        self._input = whitened

    def _first_sums(self, whitened: WhitenedInput | PatchInput, first: Batch) -> Iterator[Tensor]:
        """Of each layer but the first: `sums` of its rows, their number, and `_activity` of what enters it.

        A bounded number of samples at a time. Where a sample has many rows, some samples give them.
        """
        n, w = len(first.X), first.weights
        size = first_at_once(self.start.layers, n)
        totals: list[Tensor] = []
        for begin in range(0, n, size):
            part = slice(begin, begin + size)
            codes, _ = self._forward(whitened.whiten(first.X[part]))
            found = []
            for (below, layer), Z in zip(pairwise(self.layers), codes[1:], strict=True):
                every = max(1, n * layer.positions // CODE_ROWS)
                A = layer.rows(Z[-begin % every :: every])
                v = None if w is None else layer.of_rows(w[part][-begin % every :: every])
                count = A.new_tensor(len(A)) if v is None else v.sum()
                found += [*sums(A, self.start.bias, v), count]
                found.append(_activity(Z, below.units, None if w is None else w[part]))
            totals = [a.add_(b) for a, b in zip(totals, found, strict=True)] if totals else found
        return iter(totals)

    def _refresh(self, codes: list[Tensor], counts: Sequence[Tensor | int], w: Tensor | None) -> None:
        """Take a batch's codes into their statistics; its samples have weights w (b × 1) or None."""
        local: list[Tensor] = []
        for i in range(1, len(self.layers)):
            layer = self.layers[i]
            local += sums(layer.rows(codes[i]), self.start.bias, None if w is None else layer.of_rows(w))
            local.append(_activity(codes[i], self.layers[i - 1].units, w))
        totals = parallel.totals(*local)
        for i, metric in enumerate(self.code_metrics):
            total, squares, active = totals[3 * i : 3 * i + 3]
            metric.refresh(*moments(total, squares, counts[i + 1]))
            self.activity[i].lerp_(active.div_(counts[i]), 1 - self.config.gram_memory)
        for inverse, W in zip(self.code_inverses, self.weights[1:], strict=True):
            inverse.copy_(damped_code_inverse(W, self.config.code_damping))

    def _decay(self) -> float:
        return decay("linear", self.updates, self.total_updates)

    def objective(self, outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
        """½‖R_d‖² per sample: for classes the distance of Y from f(V_d), for a label's own from V_d."""
        targets = self.source.targets
        Y = targets.matrix(labels, outputs.shape[1], outputs.dtype)
        return half_square_per_sample(targets.residual(Y, outputs), weights)

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
        like = self.start.weights[0]
        self.updates, self.due = state["updates"], state["due"]
        self.share.copy_(state["share"])
        self.order.load_state(state["order"])
        if "metrics" in state:
            self.scales = list(state["scales"])
            self._prepare()
            for name in TENSORS:
                setattr(self, name, [T.to(like, copy=True) for T in state[name]])
            for metric, saved in zip(self.code_metrics, state["metrics"], strict=True):
                metric.load_state(saved)


def _square(T: Tensor, w: Tensor | None) -> Tensor:
    """‖T‖², to which samples contribute w (n × 1) times each; 0-d."""
    return T.norm().square() if w is None else (w * T.square()).sum()


def search(P: Tensor, R: Tensor, w: Tensor | None) -> Tensor:
    """The t ≥ 0 that minimises ‖R − tP‖, a norm as in `_square`; 0-d."""
    weighted = P if w is None else w * P
    return ratio(*parallel.totals((weighted * R).sum(), (weighted * P).sum())).clamp_min(0)


def ratio(a: Tensor, b: Tensor) -> Tensor:
    return a / b.clamp_min(torch.finfo(b.dtype).tiny)


def _activity(Z: Tensor, units: int, w: Tensor | None) -> Tensor:
    """For codes Z (n × …) of so many units the number of rows in which each is active, w times."""
    active = (Z > 0).to(Z)
    return (active if w is None else w * active).reshape(-1, units).sum(dim=0)
