"""The method in plain NumPy float64, written from its equations and not from the code under test.

Legend: rows are samples; A, X data, Z codes, W weights, B, Y targets; `hat` appends the column of ones that a
bias row multiplies. Everything is written for clarity: inverses are formed, sums are loops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """One alternating update: bias, counts, ω, λ_W, λ_Z, δ_x, δ_h and which factor comes first.

    The ridges count in mean diagonals of the Gram matrix that they are added to.
    """

    bias: bool = False
    output_iterations: int = 1
    hidden_iterations: int = 1
    weight_steps: int = 1
    code_steps: int = 1
    codes_first: bool = False
    omega: float = 1.0
    weight_ridge: float = 0.0
    code_ridge: float = 0.0
    input_delta: float = 1e-12
    hidden_delta: float = 1e-12


def array(value: object) -> Array:
    """A tensor of any device, or anything array-like, as float64."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value, dtype=np.float64)


def error(found: object, expected: object) -> float:
    """‖found − expected‖/‖expected‖."""
    found, expected = array(found), array(expected)
    assert found.shape == expected.shape
    assert np.isfinite(found).all()
    return float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), np.finfo(float).tiny))


def with_spectrum(n: int, k: int, s: Array, seed: int = 0) -> Array:
    """An n × k matrix with the given nonzero singular values."""
    rng = np.random.default_rng(seed)
    P, Q = (np.linalg.qr(rng.standard_normal((size, len(s))))[0] for size in (n, k))
    return (P * s) @ Q.T


def relu(V: Array) -> Array:
    return np.where(V > 0, V, 0.0)


def hat(Z: Array, bias: bool) -> Array:
    return np.column_stack([Z, np.ones(len(Z))]) if bias else Z


def truncated(A: Array, delta: float) -> Array:
    """A without its singular values ≤ δ s₁."""
    P, s, Qt = np.linalg.svd(A, full_matrices=False)
    return sum((s[i] * np.outer(P[:, i], Qt[i]) for i in range(len(s)) if s[i] > delta * s[0]), 0 * A)


def level(A: Array) -> float:
    """‖A‖²/k: the mean diagonal of AᵀA for A (n × k)."""
    return float(np.sum(A**2) / A.shape[1])


def ridge(A: Array, R: Array, penalty: float) -> Array:
    """(AᵀA + λḡI)⁻¹AᵀR, ḡ the mean diagonal of AᵀA."""
    return np.linalg.solve(A.T @ A + penalty * level(A) * np.eye(A.shape[1]), A.T @ R)


def unfolding(
    height: int,
    width: int,
    channels: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    planar: bool = False,
) -> Array:
    """The matrix that takes a picture to its patches, one after the other: positions · fan-in × inputs."""
    found = []
    for top in range(-padding, height + padding - kernel + 1, stride):
        for left in range(-padding, width + padding - kernel + 1, stride):
            for y in range(top, top + kernel):
                for x in range(left, left + kernel):
                    for channel in range(channels):
                        row = np.zeros((channels, height, width) if planar else (height, width, channels))
                        if 0 <= y < height and 0 <= x < width:
                            row[(channel, y, x) if planar else (y, x, channel)] = 1
                        found.append(row.ravel())
    return np.array(found)


def means(height: int, width: int, channels: int, size: int) -> Array:
    """The matrix that takes a picture, channels last, to the means of its whole squares of pixels."""
    found = []
    for top in range(0, height - size + 1, size):
        for left in range(0, width - size + 1, size):
            for channel in range(channels):
                row = np.zeros((height, width, channels))
                row[top : top + size, left : left + size, channel] = 1 / size**2
                found.append(row.ravel())
    return np.array(found)


Maps = list[Array] | None
"""For each layer the matrix that takes a sample's codes to its rows, one after the other; None: all dense."""


def rows(Z: Array, maps: Maps, i: int, W: Array, bias: bool) -> Array:
    """What W, with or without the row of its bias, multiplies in layer i."""
    return Z if maps is None else (Z @ maps[i].T).reshape(-1, len(W) - bias)


def fold(A: Array, maps: Maps, i: int) -> Array:
    """The codes of least norm whose rows are nearest to A."""
    return A if maps is None else A.reshape(-1, len(maps[i])) @ np.linalg.pinv(maps[i]).T


def forward(X: Array, weights: list[Array], bias: bool, maps: Maps = None) -> tuple[list[Array], Array]:
    """Codes Z₀ = X … Z_{d−1} and the linear output."""
    Z = [X]
    for i, W in enumerate(weights):
        Z.append(relu(hat(rows(Z[-1], maps, i, W, bias), bias) @ W).reshape(len(X), -1))
    return Z[:-1], hat(rows(Z[-2], maps, len(weights) - 1, W, bias), bias) @ W


def quotient(above: Array, below: Array) -> Array:
    """Above / below, 0 where below is."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def lee_seung(A: Array, Z: Array, W: Array) -> tuple[Array, Array]:
    Z = Z * quotient(A @ W.T, Z @ W @ W.T)
    W = W * quotient(Z.T @ A, Z.T @ Z @ W)
    return Z, W


def hals(A: Array, Z: Array, W: Array) -> tuple[Array, Array]:
    """Each column of Z, then each row of W, against the residual of all the other parts.

    A part that is zero on one side leaves the other side as it is.
    """
    Z, W = Z.copy(), W.copy()
    parts = range(Z.shape[1])
    for j in parts:
        rest = A - sum(np.outer(Z[:, i], W[i]) for i in parts if i != j)
        if W[j].any():
            Z[:, j] = relu(rest @ W[j] / (W[j] @ W[j]))
    for j in parts:
        rest = A - sum(np.outer(Z[:, i], W[i]) for i in parts if i != j)
        if Z[:, j].any():
            W[j] = relu(Z[:, j] @ rest / (Z[:, j] @ Z[:, j]))
    return Z, W


def sweeps(X: Array, C: Array, G: Array, times: int) -> Array:
    """Each row of X ≥ 0 in turn minimises ½⟨X, GX⟩ − ⟨C, X⟩, `times` times."""
    X = X.copy()
    for _ in range(times):
        for j in range(len(X)):
            rest = C[j] - sum(G[j, i] * X[i] for i in range(len(X)) if i != j)
            X[j] = relu(rest / G[j, j])
    return X


@dataclass
class Restarts:
    """β of an extrapolation with restart (Ang & Gillis 2019): `takes` says whether a step is taken."""

    later: float
    beta: float = 0.0
    ceiling: float = 1.0
    value: float = np.inf

    def __post_init__(self) -> None:
        self.good = self.later

    def takes(self, value: float) -> bool:
        if value > self.value and self.beta > 0:
            self.later, self.ceiling, self.beta = self.beta / 1.5, self.good, 0.0
            return False
        self.value = value
        if self.beta == 0:
            self.beta = self.later
        else:
            self.good = self.beta
            self.beta, self.ceiling = min(1.05 * self.beta, self.ceiling), min(1.0, 1.01 * self.ceiling)
        return True


def accelerated_hals(A: Array, Z: Array, W: Array, times: int, iterations: int) -> list[tuple]:
    """(Z, W, whether the step was taken) after each iteration (Ang & Gillis 2019, algorithm 3)."""
    k, found, restarts = len(W), [], Restarts(0.5)
    for_codes, for_weights = (max(1, min(times, size // k)) for size in (A.shape[1], len(A)))
    last = ends = beyond = (Z, W)
    for _ in range(iterations):
        y, w = beyond
        end_Z = sweeps(y.T, w @ A.T, w @ w.T, for_codes).T
        y = relu(end_Z + restarts.beta * (end_Z - ends[0]))
        end_W = sweeps(w, y.T @ A, y.T @ y, for_weights)
        w = relu(end_W + restarts.beta * (end_W - ends[1]))
        taken = restarts.takes(0.5 * np.sum((A - y @ end_W) ** 2))
        if taken:
            last, ends, beyond = (y, end_W), (end_Z, end_W), (y, w)
        else:
            ends = beyond = last
        found.append((*last, taken))
    return found


def divergence(A: Array, B: Array, beta: int, V: Array | None = None) -> float:
    """Σ V d_β(A | B), entry by entry; β = 2, 1 (0 log 0 = 0) or 0."""
    total = 0.0
    for index, a in np.ndenumerate(A):
        b, v = B[index], 1.0 if V is None else V[index]
        if v == 0:
            continue
        if beta == 2:
            total += v * (a - b) ** 2 / 2
        elif beta == 1:
            total += v * ((a * np.log(a / b) if a > 0 else 0.0) - a + b)
        else:
            total += v * (a / b - np.log(a / b) - 1)
    return float(total)


Levels = tuple[tuple[float, float], tuple[float, float]]
"""(λ₁, λ₂) of Z and of W."""
FREE: Levels = ((0.0, 0.0), (0.0, 0.0))


def levels(A: Array, penalties: Levels, beta: int = 2, V: Array | None = None, semi: bool = False) -> Levels:
    """λ₁ and λ₂ of Z and W for (l1, l2) of both, in the unit of the data."""
    V = np.ones_like(A) if V is None else V
    s = np.sqrt(np.sum(V * A**2) / np.sum(V))
    units = (1.0, s) if semi else (np.sqrt(s), np.sqrt(s))
    count = V.sum(1).mean(), V.sum(0).mean()
    (z1, z2), (w1, w2) = penalties
    size = count[0] * s**beta, count[1] * s**beta
    return (
        (z1 * size[0] / units[0], z2 * size[0] / units[0] ** 2),
        (w1 * size[1] / units[1], w2 * size[1] / units[1] ** 2),
    )


def penalised(
    A: Array, Z: Array, W: Array, beta: int = 2, V: Array | None = None, penalty: Levels = FREE
) -> float:
    """Σ V d_β(A | ẐW) + λ₁‖Z‖₁ + ½λ₂‖Z‖² + λ₁‖W‖₁ + ½λ₂‖W‖²; a bias is not penalised."""
    k = Z.shape[1]
    value = divergence(A, hat(Z, len(W) > k) @ W, beta, V)
    return value + sum(
        l1 * np.abs(F).sum() + l2 * np.sum(F**2) / 2 for F, (l1, l2) in zip((Z, W[:k]), penalty, strict=True)
    )


def slopes(
    A: Array, Z: Array, W: Array, beta: int = 2, V: Array | None = None, penalty: Levels = FREE
) -> tuple[Array, Array]:
    """The gradient of `penalised` for nonnegative factors: by Z and by W."""
    V = np.ones_like(A) if V is None else V
    B = Z @ W
    D = np.where(V > 0, V * (B - A) / np.where(V > 0, B, 1.0) ** (2 - beta), 0.0)
    (z1, z2), (w1, w2) = penalty
    return D @ W.T + z1 + z2 * Z, Z.T @ D + w1 + w2 * W


def fevotte(
    A: Array, Z: Array, W: Array, beta: int, V: Array | None = None, penalty: Levels = FREE
) -> tuple[Array, Array]:
    """Z, then W times (descent/ascent part of the gradient)^γ (Févotte & Idier 2011; Tan & Févotte 2013)."""
    V = np.ones_like(A) if V is None else V
    power = [1 / (3 - beta) if l2 > 0 else {0: 0.5, 1: 1, 2: 1}[beta] for _, l2 in penalty]
    (z1, z2), (w1, w2) = penalty
    B = Z @ W
    up, down = (V * B ** (beta - 1)) @ W.T, (V * A * B ** (beta - 2)) @ W.T
    Z = Z * quotient(down, up + z1 + z2 * Z) ** power[0]
    B = Z @ W
    up, down = Z.T @ (V * B ** (beta - 1)), Z.T @ (V * A * B ** (beta - 2))
    return Z, W * quotient(down, up + w1 + w2 * W) ** power[1]


def completed(
    A: Array, Z: Array, W: Array, V: Array, times: int, iterations: int, penalty: Levels = FREE
) -> list[tuple]:
    """(Z, W, whether the step was taken) after each NMF step towards VA + (1 − V)ZW."""
    found, restarts, eye = [], Restarts(0.5), np.eye(len(W))
    (z1, z2), (w1, w2) = penalty
    last = beyond = (Z, W)
    for _ in range(iterations):
        z, w = beyond
        T = V * A + (1 - V) * (z @ w)
        z = sweeps(z.T, w @ T.T - z1, w @ w.T + z2 * eye, times).T
        w = sweeps(w, z.T @ T - w1, z.T @ z + w2 * eye, times)
        taken, before = restarts.takes(penalised(A, z, w, 2, V, penalty)), last
        if taken:
            beyond = tuple(relu(F + restarts.beta * (F - G)) for F, G in zip((z, w), before, strict=True))
            last = (z, w)
        else:
            beyond = last
        found.append((*last, taken))
    return found


def latent(A: Array, Z: Array, W: Array, bias: bool, times: int, iterations: int) -> list[tuple]:
    """(Z, W, whether the step was taken) after each iteration towards latent targets; no sweeps: free."""
    k, found, restarts = Z.shape[1], [], Restarts(0.8)
    last = beyond = (Z, W)
    for _ in range(iterations):
        z, w = beyond
        V = hat(z, bias) @ w
        T = np.where((V <= 0) & ((A <= 0) | (restarts.beta == 0)), V, np.maximum(A, 0))
        w = np.linalg.lstsq(hat(z, bias), T, rcond=None)[0]
        rest = T - w[k] if bias else T
        if times:
            z = sweeps(z.T, w[:k] @ rest.T, w[:k] @ w[:k].T, times).T
        else:
            z = np.linalg.lstsq(w[:k].T, rest.T, rcond=None)[0].T
        before = last
        taken = restarts.takes(0.5 * np.sum((A - relu(hat(z, bias) @ w)) ** 2))
        if taken:
            further = z + restarts.beta * (z - before[0])
            beyond = (relu(further) if times else further, w + restarts.beta * (w - before[1]))
            last = (z, w)
        else:
            beyond = last
        found.append((*last, taken))
    return found


def fit(A: Array, Z: Array, bias: bool, penalty: float = 0.0, delta: float = 1e-12) -> Array:
    """Weights of the linear fit A ≈ ẐW, ridge-penalised."""
    inputs = truncated(hat(Z, bias), delta)
    return ridge(inputs, A, penalty) if penalty else np.linalg.lstsq(inputs, A, rcond=delta)[0]


def ding(A: Array, Z: Array, W: Array, damping: float = 0.0) -> Array:
    """The multiplicative code step of semi-NMF, the bias row of W (if it has one) moved to A."""
    k = Z.shape[1]
    if len(W) > k:
        A, W = A - W[k], W[:k]

    def positive(M: Array) -> Array:
        return (np.abs(M) + M) / 2

    def negative(M: Array) -> Array:
        return (np.abs(M) - M) / 2

    C, G = A @ W.T, W @ W.T
    damping = damping * level(W.T)
    above = positive(C) + Z @ negative(G) + damping * Z
    below = negative(C) + Z @ positive(G) + damping * Z
    return Z * np.sqrt(quotient(above, below))


def semi_nmf(A: Array, Z: Array, W: Array, s: Settings) -> tuple[Array, Array]:
    if s.codes_first:
        Z = ding(A, Z, W, s.code_ridge)
        return Z, fit(A, Z, s.bias, s.weight_ridge, s.hidden_delta)
    W = fit(A, Z, s.bias, s.weight_ridge, s.hidden_delta)
    return ding(A, Z, W, s.code_ridge), W


def weights(
    inputs: Array, B: Array, W: Array, omega: float, penalty: float = 0.0, full: Array | None = None
) -> Array:
    """One nonlinear least-squares step of W; `full` holds all samples if `inputs` are a batch of them.

    A batch takes its share of the step and of the ridge.
    """
    full = inputs if full is None else full
    penalty *= len(inputs) / len(full)
    inverse = np.linalg.pinv(full, rcond=1e-12)  # what must be truncated has been
    W = W + omega * inverse @ inverse.T @ inputs.T @ (B - relu(inputs @ W))
    return ridge(full, full @ W, penalty) if penalty else W


def codes(
    B: Array, Z: Array, W: Array, omega: float, penalty: float = 0.0, free: bool = False, delta: float = 1e-12
) -> Array:
    """One nonlinear least-squares step of Z, projected."""
    k = Z.shape[1]
    residual = B - relu(hat(Z, len(W) > k) @ W)
    W = W[:k]
    Z = Z + omega * residual @ np.linalg.pinv(W, rcond=delta)
    if penalty:  # (I + λḡ(WWᵀ)⁻¹)⁻¹ = WWᵀ(WWᵀ + λḡI)⁻¹
        Z = Z @ W @ W.T @ np.linalg.inv(W @ W.T + penalty * level(W.T) * np.eye(k))
    return Z if free else relu(Z)


def nonlinear_semi_nmf(A: Array, Z: Array, W: Array, s: Settings) -> tuple[Array, Array]:
    def move_weights(W: Array) -> Array:
        for _ in range(s.weight_steps):
            W = weights(hat(Z, s.bias), A, W, s.omega, s.weight_ridge)
        return W

    if not s.codes_first:
        W = move_weights(W)
    for _ in range(s.code_steps):
        Z = codes(A, Z, W, s.omega, s.code_ridge)
    return Z, move_weights(W) if s.codes_first else W


def pretrained_layer(
    A: Array,
    Z: Array,
    U: Array,
    outer: int,
    nmf: int,
    lsq: int,
    bias: bool,
    delta: float,
    update: str = "multiplicative",
) -> tuple[Array, Array, list[float]]:
    """Encoder W, decoder U, relative reconstruction errors, from the random start (Z, U); unit code size.

    A is taken in units of its root mean square; of both signs it is split into two nonnegative halves.
    """
    unit = np.sqrt(np.mean(A**2))
    features = A.shape[1]
    A = A / unit
    inputs = hat(A, bias)
    signed = bool((A < 0).any())
    split = np.hstack([np.maximum(A, 0), np.maximum(-A, 0)]) if signed else A
    kept = truncated(inputs, delta)
    W = np.zeros((inputs.shape[1], Z.shape[1]))
    errors = []
    for _ in range(outer):
        for _ in range(nmf):
            Z, U = lee_seung(split, Z, U) if update == "multiplicative" else hals(split, Z, U)
        for _ in range(lsq):
            W = W + np.linalg.pinv(kept, rcond=1e-12) @ (Z - relu(inputs @ W))
        Z = relu(inputs @ W)
        decoder = U[:, :features] - U[:, features:] if signed else U
        errors.append(float(np.linalg.norm(A - Z @ decoder) / np.linalg.norm(A)))
    size = np.sqrt(np.mean(Z**2))
    W[:features] /= unit
    return W / size, size * unit * decoder, errors


def alternating_update(
    X: Array, Y: Array, W: list[Array], s: Settings, full: Array | None = None, maps: Maps = None
) -> tuple[list[Array], list[Array]]:
    """All layers once on a mini-batch, from the output down; new weights and codes.

    `full` holds all training inputs where the first layer uses their pseudo-inverse.
    """
    W = list(W)
    Z, _ = forward(X, W, s.bias, maps)
    for i in reversed(range(1, len(W))):
        if i == len(W) - 1:
            step, iterations, B = semi_nmf, s.output_iterations, Y
        else:
            step, iterations, B = nonlinear_semi_nmf, s.hidden_iterations, Z[i + 1].reshape(-1, W[i].shape[1])
        for _ in range(iterations):
            before = rows(Z[i], maps, i, W[i], s.bias)
            A, W[i] = step(B, before, W[i], s)
            Z[i] = relu(Z[i] + fold(A - before, maps, i))
    inputs = hat(rows(X, maps, 0, W[0], s.bias), s.bias)
    full = inputs if full is None else hat(rows(full, maps, 0, W[0], s.bias), s.bias)
    kept = truncated(full, s.input_delta)
    for _ in range(s.weight_steps):
        B = Z[1].reshape(len(inputs), -1)
        W[0] = weights(inputs, B, W[0], s.omega, s.weight_ridge, kept)
    return W, Z


class Relaxation:
    """Both relaxations, one batch after another from their equations, every linear system as it stands."""

    def __init__(
        self, X: Array, W: list[Array], config: Any, bias: bool, total: int, maps: Maps = None
    ) -> None:
        self.config, self.bias, self.total, self.maps, self.t = config, bias, total, maps, 0
        self.W = [w[:-1] if bias else w for w in W]
        self.b = [w[-1] if bias else np.zeros(w.shape[1]) for w in W]
        codes = self.forward(X)[0]
        self.n = [len(self.rows(i, Z)) for i, Z in enumerate(codes)]
        self.moments = [self.moment(self.rows(i, Z)) for i, Z in enumerate(codes)]
        self.activity = [self.active(i, Z) for i, Z in enumerate(codes[1:])]
        self.searches: list[float] = [0 for _ in codes]
        self.due, self.share = 0, 1.0
        self.history: list[list[Array]] = []

    def rows(self, i: int, Z: Array) -> Array:
        return rows(Z, self.maps, i, self.W[i], False)

    def product(self, i: int, Z: Array) -> Array:
        return (self.rows(i, Z) @ self.W[i]).reshape(len(Z), -1)

    def forward(self, X: Array) -> tuple[list[Array], Array]:
        Z = [X]
        for i, b in enumerate(self.b):
            V = (self.rows(i, Z[-1]) @ self.W[i] + b).reshape(len(X), -1)
            Z.append(relu(V))
        return Z[:-1], V

    def moment(self, A: Array) -> tuple[Array, Array]:
        mean = A.mean(0) * self.bias
        return mean, A.T @ A / len(A) - np.outer(mean, mean)

    def active(self, i: int, Z: Array) -> Array:
        return (Z.reshape(-1, len(self.b[i])) > 0).mean(0)

    def refresh(self, codes: list[Array]) -> None:
        keep = self.config.gram_memory
        for i in range(1, len(codes)):
            old, new = self.moments[i], self.moment(self.rows(i, codes[i]))
            self.moments[i] = tuple(keep * a + (1 - keep) * b for a, b in zip(old, new, strict=True))
            active = self.active(i - 1, codes[i])
            self.activity[i - 1] = keep * self.activity[i - 1] + (1 - keep) * active
        self.inverses = [self.code_inverse(W) for W in self.W]

    def residual(self, Y: Array, V: Array) -> Array:
        return np.where(Y > 0, Y, np.minimum(V, 0)) - V

    def code_inverse(self, W: Array) -> Array:
        G = W.T @ W
        return np.linalg.solve(G + self.config.code_damping * np.trace(G) / len(G) * np.eye(len(G)), W.T)

    def update(self, X: Array, Y: Array) -> None:
        c, (Z, V) = self.config, self.forward(X)
        due = self.t == self.due
        if due:
            self.refresh(Z)
            self.due = self.t + min(c.gram_every, max(1, self.t // 4))
        active = [*(z > 0 for z in Z[1:]), (Y > 0) | (V > 0)]
        problems = [self.problem(i, Z[i]) for i in range(len(Z))]
        self.relax(Z, Y, self.residual(Y, V), active, problems, due)
        for i, (metric, ridge, rate) in enumerate(problems):
            mean, C = self.moments[i]
            if ridge > 0 and (due or i == 0):
                shrink = np.linalg.solve(metric, ridge * np.trace(C) / len(C) * self.W[i])
                rate = np.minimum(1 + c.damping / ridge, rate * (1 if i == 0 else self.due - self.t))
                self.W[i] = self.W[i] - rate * shrink
                self.b[i] = self.b[i] + self.bias * rate * (mean @ shrink)
        self.t += 1
        both = zip(self.W, self.b, strict=True)
        self.history.append([np.vstack([W, b]) if self.bias else W for W, b in both])

    def problem(self, i: int, Z: Array) -> tuple[Array, float, Any]:
        """Metric, ridge and rates of a layer."""
        c, n, last, (_, C) = self.config, len(self.rows(i, Z)), i == len(self.W) - 1, self.moments[i]
        ridge = (c.input_ridge if i == 0 else 0.0 if last else c.ridge) * len(C) / self.n[i]
        metric = C + (c.damping + ridge) * np.trace(C) / len(C) * np.eye(len(C))
        dimension = np.trace(np.linalg.solve(metric, C))
        h = (np.sqrt(1.0 if last else self.activity[i]) + np.sqrt(dimension / n)) ** 2
        most = 2 if n > len(Z) else 1
        rate = np.minimum((c.output_omega if last else c.omega) / h, most)
        return metric, ridge, rate * self.share * (1 - self.t / self.total)

    def move(self, i: int, Z: Array, R: Array, metric: Array, rate: Any) -> None:
        W, b = self.step(i, Z, R, metric, rate)
        self.W[i], self.b[i] = self.W[i] + W, self.b[i] + b

    def step(self, i: int, Z: Array, R: Array, metric: Array, rate: Any) -> tuple[Array, Array]:
        """Steps of weights and biases for a residual."""
        A, (mean, _) = self.rows(i, Z), self.moments[i]
        R = R.reshape(len(A), -1) / len(A)
        step = np.linalg.solve(metric, (A - mean).T @ R)
        return rate * step, self.bias * rate * (R.sum(0) - mean @ step)

    def asked(self, i: int, Z: Array, R: Array, active: Array, due: bool) -> Array:
        """The step of codes Z."""
        D = fold(R.reshape(-1, len(self.b[i])) @ self.inverses[i], self.maps, i) * (Z > 0)
        if due:
            P = self.product(i, D)[active]
            self.searches[i] = max(0, P @ R[active] / (P @ P))
        return D * self.searches[i]

    def relax(
        self, Z: list[Array], Y: Array, R: Array, active: list[Array], problems: Any, due: bool
    ) -> None:
        raise NotImplementedError


def limited(R: Array, Z: Array) -> Array:
    return R * min(1, 0.5 * np.linalg.norm(Z) / np.linalg.norm(R))


class Jacobi(Relaxation):
    """All layers from one forward pass."""

    def __init__(self, X: Array, W: list[Array], *arguments: Any, **options: Any) -> None:
        super().__init__(X, W, *arguments, **options)
        self.share = 1 / max(1, len(W) - 1)

    def relax(
        self, Z: list[Array], Y: Array, R: Array, active: list[Array], problems: Any, due: bool
    ) -> None:
        wanted, residuals = R, [limited(R, Y)]
        for i in range(len(self.W) - 1, 0, -1):
            step = self.asked(i, Z[i], residuals[0], active[i], due)
            residuals.insert(0, limited(step, Z[i]))
        for i, (metric, _, rate) in enumerate(problems):
            self.move(i, Z[i], residuals[i], metric, rate)
        if self.t + 1 == self.due:
            P = wanted - self.residual(Y, self.forward(Z[0])[1])
            self.share = min(1, self.share * np.clip((P * wanted).sum() / (P * P).sum(), 0.5, 2))


class Seidel(Relaxation):
    """From the output down, each layer for what is left on samples that had no part in the step above."""

    def relax(
        self, Z: list[Array], Y: Array, R: Array, active: list[Array], problems: Any, due: bool
    ) -> None:
        R = limited(R, Y)
        for i in range(len(self.W) - 1, -1, -1):
            metric, _, rate = problems[i]
            if i == 0:
                self.move(i, Z[i], R, metric, rate)
                return
            A, (_, C) = self.rows(i, Z[i]), self.moments[i]
            before = A @ self.W[i] + self.b[i]
            W, b = self.step(i, Z[i], R, metric, rate)
            P = (A @ W + b).reshape(R.shape) * active[i]
            t = min(1, max(0, (P * R).sum() / (P * P).sum()))
            self.W[i], self.b[i] = self.W[i] + t * W, self.b[i] + t * b
            change = A @ self.W[i] + self.b[i] - before
            leverage = np.trace(np.linalg.solve(metric, C)) / len(A)
            change = change - 2 * t * rate * leverage * R.reshape(len(A), -1)
            R = R - change.reshape(R.shape) * active[i]
            R = limited(self.asked(i, Z[i], R, active[i], due), Z[i])


def average(history: list[Array], averaging: float) -> Array:
    """The evaluated weights after the updates in `history`, oldest first."""
    mean = np.zeros_like(history[0])
    for t, W in enumerate(history, start=1):
        share = max(1 - averaging, 1 / t)
        mean = (1 - share) * mean + share * W
    return mean


def gradients(X: Array, Y: Array, W: list[Array], bias: bool, loss: str) -> list[Array]:
    """Gradients of the mean loss per sample by the chain rule: the backpropagation baseline only."""
    Z, output = forward(X, W, bias)
    if loss == "cross_entropy":
        output = np.exp(output - output.max(axis=1, keepdims=True))
        output /= output.sum(axis=1, keepdims=True)
    D = (output - Y) / len(X)
    found = []
    for i in reversed(range(len(W))):
        found.insert(0, hat(Z[i], bias).T @ D)
        D = (D @ W[i][: Z[i].shape[1]].T) * (Z[i] > 0)
    return found


def units(X: Array, W: list[Array], bias: bool, maps: Maps = None) -> list[float]:
    """Root mean squares of X and of the hidden codes."""
    codes, _ = forward(X, W, bias, maps)
    return [float(np.sqrt(np.mean(Z**2))) for Z in codes]


def in_units(W: list[Array], scales: list[float], bias: bool) -> list[Array]:
    """The weights that do to X/s₀, and to codes Zᵢ/sᵢ, what W does to X and Zᵢ."""
    found = []
    for i, w in enumerate(W):
        after = scales[i + 1] if i + 1 < len(W) else 1.0
        rows = np.full(len(w), scales[i] / after)
        if bias:
            rows[-1] = 1 / after
        found.append(rows[:, None] * w)
    return found


def online_nmf(
    blocks: list[Array], W: Array, forgetting: float, times: tuple[int, int]
) -> tuple[Array, Array, Array]:
    """W, S and C after all blocks; `times` are the sweeps over codes and over W."""
    rows, codes = 0, []
    for A in blocks:
        rows += len(A)
        codes.append((rows, A, sweeps(np.zeros((len(W), len(A))), W @ A.T, W @ W.T, times[0]).T))
        # The row that was the s-th counts (s/n)^forgetting, s and n at the ends of blocks.
        weights = [(seen / rows) ** forgetting for seen, _, _ in codes]
        S = sum(w * Z.T @ Z for w, (_, _, Z) in zip(weights, codes, strict=True))
        C = sum(w * Z.T @ B for w, (_, B, Z) in zip(weights, codes, strict=True))
        W = sweeps(W, C, S, times[1])
    return W, S, C
