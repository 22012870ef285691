"""Statistics of a layer's input rows, and the steps of its weights that they make.

Legend: rows A (n × k) of a batch, residuals R (n × m), weights W (k × m), biases b (m); x̄ and C the mean
(k) and the covariance (k × k) of rows, c̄ the mean diagonal of C; damping δ and ridge γ, both in units of c̄.
The step of W is (C + (δ + γ)c̄ I)⁻¹ (A − x̄)ᵀR/n, that of b moves the mean of AW + b by that of R. Sums over
rows are sums over ranks.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from .. import parallel
from ..errors import DataError
from ..linalg import cholesky, gram
from ..network import Dense, Layer
from ..source import Source, mass

INPUT_ROWS = 20_000
"""Samples that give the covariance of the inputs; all if they are fewer."""

FRESH = 4
"""Statistics are at most 1/FRESH of all updates so far old."""


class Metric(Protocol):
    """What makes steps of a layer's weights.

    Attributes:
        ridge: γ.
        dimension: effective dimension tr C(C + (δ + γ)c̄ I)⁻¹ of the rows, 0-d.
    """

    ridge: float
    dimension: Tensor

    def cross(self, layer: Layer, Z: Tensor, R: Tensor, rows: int) -> Tensor:
        """The part of a step (k × m) that is a sum over samples: for codes and residuals that are here.

        `rows` is the number of rows over all ranks.
        """

    def step(self, C: Tensor, r: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """Steps of weights and biases for the means of `cross` and of R (m), the ridge left aside."""

    def shrink(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """The ridge's part of the steps."""


class WhitenedInput:
    """The basis in which the damped covariance of the inputs' rows is the identity: no step needs a solve.

    With the eigenvectors Q and eigenvalues s² of the covariance, Ã = (A − x̄)Q diag(s² + (δ + γ)c̄)^(−1/2), and
    weights W̃ on Ã stand for W = Q diag(…)^(−1/2) W̃ on A − x̄. Directions with s ≤ δ_x s₁ are left out. Inputs
    are given raw and meant in multiples of `unit`.
    """

    def __init__(
        self,
        source: Source,
        layer: Layer,
        unit: float,
        bias: bool,
        *,
        damping: float,
        ridge: float,
        delta: float,
    ) -> None:
        self.source_layer, self.unit = layer, unit
        self.shift, covariance, rows = input_moments(source, layer, unit, bias)
        self.mean = self.shift[0] + self.shift[1]
        level = covariance.diagonal().mean()
        variances, Q = torch.linalg.eigh(covariance)
        kept = variances > delta**2 * variances[-1]
        variances, self.Q = variances[kept], Q[:, kept]
        self.ridge = ridge * layer.fan_in / rows
        self.scales = (variances + (damping + self.ridge) * level).rsqrt()
        self.basis = self.Q * self.scales
        self.dimension = (variances * self.scales.square()).sum().double()
        self.shrinkage = self.ridge * level * self.scales.square()[:, None]
        self.layer: Layer = Dense(len(variances), layer.units)

    def whiten(self, X: Tensor) -> Tensor:
        """Ã for inputs X (n × p), as codes of `layer`."""
        first, rest = self.shift
        return (self.source_layer.rows(X) / self.unit - first - rest) @ self.basis

    def enter(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """(W̃, b̃) for weights W (k × m) and biases b (m) on A."""
        return (self.Q.T @ W) / self.scales[:, None], b + self.mean @ W

    def leave(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of `enter`, without what lies in the directions left out."""
        W = self.basis @ W
        return W, b - self.mean @ W

    def cross(self, layer: Layer, Z: Tensor, R: Tensor, rows: int) -> Tensor:
        return layer.cross(Z, R)

    def step(self, C: Tensor, r: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        return C, r

    def shrink(self, W: Tensor) -> tuple[Tensor, Tensor]:
        return self.shrinkage * W, W.new_zeros(W.shape[1])


class CodeMetric:
    """Running mean (k) and covariance (k × k) of the rows of codes, and its damped inverse."""

    def __init__(
        self, mean: Tensor, covariance: Tensor, *, damping: float, ridge: float, memory: float
    ) -> None:
        self.mean, self.covariance = mean, covariance
        self.damping, self.ridge, self.memory = damping, ridge, memory
        self.level, self.inverse, self.solved_mean, self.dimension = self._invert()

    def refresh(self, mean: Tensor, covariance: Tensor) -> None:
        """Mix those of a batch in."""
        self.mean.copy_(mean.lerp_(self.mean, self.memory))
        self.covariance.copy_(covariance.lerp_(self.covariance, self.memory))
        for held, new in zip(self._derived(), self._invert(), strict=True):
            held.copy_(new)

    def cross(self, layer: Layer, Z: Tensor, R: Tensor, rows: int) -> Tensor:
        if rows < layer.units:  # cheaper to solve for each row than for each column of R
            return (layer.rows(Z) @ self.inverse).T @ R.reshape(-1, layer.units)
        return layer.cross(Z, R)

    def step(self, C: Tensor, r: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        if rows < C.shape[1]:
            S = C.addr_(self.solved_mean, r, alpha=-1)
        else:
            S = self.inverse @ C.addr_(self.mean, r, alpha=-1)
        return S, r - self.mean @ S

    def shrink(self, W: Tensor) -> tuple[Tensor, Tensor]:
        S = (self.inverse @ W).mul_(self.ridge * self.level)
        return S, -(self.mean @ S)

    def state(self) -> dict[str, Any]:
        """Copies of what `refresh` changes."""
        return {"mean": self.mean.clone(), "covariance": self.covariance.clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        self.mean, self.covariance = state["mean"].to(self.mean), state["covariance"].to(self.mean)
        self.level, self.inverse, self.solved_mean, self.dimension = self._invert()

    def _derived(self) -> tuple[Tensor, ...]:
        return self.level, self.inverse, self.solved_mean, self.dimension

    def _invert(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What `_derived` is to be: c̄, the damped inverse, its product with the mean, and the dimension."""
        level = self.covariance.diagonal().mean().double()
        damping = (self.damping + self.ridge) * level
        inverse = torch.cholesky_inverse(cholesky(self.covariance, damping.to(self.covariance)))
        # Of codes that do not vary rounding alone would be left, of either sign.
        dimension = (len(self.mean) - damping * inverse.trace().double()).clamp_min(0)
        return level, inverse, inverse @ self.mean, dimension


class PatchInput(CodeMetric):
    """What `WhitenedInput` is to samples, to the patches of a convolution: the same steps, each by a solve.

    Whitened patches would be many times the numbers of X, which overlapping ones share, and no product with
    them a convolution. No direction is left out: a patch has few.
    """

    def __init__(
        self, source: Source, layer: Layer, unit: float, bias: bool, *, damping: float, ridge: float
    ) -> None:
        (first, rest), covariance, rows = input_moments(source, layer, unit, bias)
        ridge = ridge * layer.fan_in / rows
        super().__init__(first + rest, covariance, damping=damping, ridge=ridge, memory=1.0)
        self.layer, self.unit = layer, unit

    def whiten(self, X: Tensor) -> Tensor:
        """Inputs X (n × p) as codes of `layer`."""
        return X / self.unit

    def enter(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Weights W (k × m) and biases b (m), as they are."""
        return W, b

    leave = enter


def input_moments(
    source: Source, layer: Layer, unit: float, bias: bool
) -> tuple[tuple[Tensor, Tensor], Tensor, float]:
    """Mean, in two parts to be taken off in turn, and covariance of the inputs' rows in multiples of `unit`.

    And the number of rows of all samples, or the sum of weights. Without a bias the mean counts as zero.

    Raises:
        DataError: inputs are not finite, or do not vary.
    """
    rows = source.sample(INPUT_ROWS)
    first: Tensor | None = None
    count: Tensor | int = 0
    for batch in source.batches(rows.split(max(1, 2 * INPUT_ROWS // layer.positions))):
        A = layer.rows(batch.X) / unit
        w = None if batch.weights is None else layer.of_rows(batch.weights)
        number = batch.number * layer.positions
        if first is None:  # taken off before anything is squared: features far from zero keep their digits
            local = (A if w is None else w * A).sum(dim=0)
            first = parallel.total(local).div_(number) if bias else A.new_zeros(A.shape[1])
            total, squares = A.new_zeros(A.shape[1]), A.new_zeros(A.shape[1], A.shape[1])
        A -= first
        for sum_, part in zip((total, squares), parallel.totals(*sums(A, bias, w)), strict=True):
            sum_ += part
        count = count + number
    assert first is not None  # for the type checker: there are samples
    rest, covariance = moments(total, squares, count)
    if not torch.isfinite(covariance).all():
        raise DataError("the inputs X hold NaN or infinity: fill them in or leave those samples out")
    if not covariance.diagonal().mean() > 0:
        raise DataError(
            "every feature of the training inputs X is constant: there is nothing to learn from; "
            "check that X holds the data that you meant"
        )
    return (first, rest), covariance, mass(source) * layer.positions


def sums(A: Tensor, bias: bool, w: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Sum (k) and Gram matrix (k × k) of the rows of A (n × k), which count w (n × 1) times each.

    Without a bias the sum counts as zero.
    """
    squares = gram(A if w is None else w.sqrt() * A)
    return (A if w is None else w * A).sum(dim=0) if bias else A.new_zeros(A.shape[1]), squares


def moments(total: Tensor, squares: Tensor, count: Tensor | int) -> tuple[Tensor, Tensor]:
    """Mean and covariance of `count` rows for their `sums`, which are used up."""
    mean = total.div_(count)
    return mean, squares.div_(count).addr_(mean, mean, alpha=-1)


def refresh_period(updates: int, most: int) -> int:
    """After how many more updates, at most so many, to bring statistics up to date again."""
    return min(most, max(1, updates // FRESH))


def damped_code_inverse(W: Tensor, damping: float) -> Tensor:
    """(WᵀW + μ w̄ I)⁻¹Wᵀ (m × k) for weights W (k × m), w̄ the mean diagonal of WᵀW, μ = `damping`."""
    G = W.T @ W
    L = cholesky(G, (damping * G.diagonal().mean().double()).to(G))
    return torch.cholesky_solve(W.T.contiguous(), L)


def marchenko_pastur(root: Tensor, dimension: Tensor, rows: Tensor | int) -> Tensor:
    """(√a + √(k̂/n))² for `root` = √a: a batch's eigenvalues are at most so many times the population's."""
    return (root + (dimension / rows).sqrt().to(root)).square()
