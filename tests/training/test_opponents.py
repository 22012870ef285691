"""The other families without backpropagation: steps against their equations, and what each claims."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from oracle import Array, hat
from planted import batch, error_rate, planted
from test_copies import Reads
from test_trainers import same, through_a_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nmfdnn.errors import ConfigError
from nmfdnn.network import ConvolutionConfig, Network, NetworkConfig, build_layers, dense, random_weights
from nmfdnn.source import Memory
from nmfdnn.targets import RealValues
from nmfdnn.training.opponents import OPPONENTS
from nmfdnn.training.opponents.common import StepTrainer
from nmfdnn.training.opponents.whole import nearest_before_relu

N, M = 60, 3
LOCAL = ["monoforward", "localloss", "ff"]
"""Where a layer's step does not depend on the layers above it."""
SIMPLE = ["dfa", "signsymmetry"]


def make(
    method: str,
    bias: bool = True,
    n: int = N,
    seed: int = 0,
    device: Any = "cpu",
    dtype: torch.dtype = torch.float64,
    epochs: int = 10,
    parts: int = 1,
    targets: str = "classes",
    weights: Tensor | None = None,
    start: Network | None = None,
    **values: Any,
) -> Any:
    X, labels, random = planted(n, bias, torch.device(device), dtype)
    config, kind = OPPONENTS[method]
    options = {"batch_size": 20, "learning_rate": 0.02} | values if issubclass(kind, StepTrainer) else values
    source = Memory(X, labels, weights=weights)
    if targets == "real":
        values_ = np.stack([np.sin(oracle.array(X).sum(1)), oracle.array(X)[:, 0] ** 2, np.ones(n)], 1)
        values_[:, 2] = values_[:, 0] * values_[:, 1]
        fitted = RealValues().fitted(values_)
        source = Memory(X, fitted.labels(values_, dtype).to(X.device), targets=fitted, weights=weights)
    generator = torch.Generator().manual_seed(seed)
    return kind(start or random, source, config(**options), epochs, generator, parts)


def whole(trainer: Any) -> Any:
    return trainer.source.take(torch.arange(len(trainer.source), device=trainer.source.device))


def numbers(trainer: Any) -> tuple[Array, Array, list[Array]]:
    """X, one-hot Y and the weights."""
    Y = np.eye(M)[trainer.source.labels.cpu()]
    return oracle.array(trainer.source.X), Y, [oracle.array(W) for W in trainer.weights]


def softmax(V: Array) -> Array:
    P = np.exp(V - V.max(axis=1, keepdims=True))
    return P / P.sum(axis=1, keepdims=True)


def compare(found: list[Tensor], expected: list[Array], within: float = 1e-10) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert oracle.error(a, b) < within


# What one step is


@pytest.mark.parametrize("bias", [False, True])
def test_dfa_slopes_by_hand(bias, device):
    trainer = make("dfa", bias, device=device)
    X, Y, W = numbers(trainer)
    B = [oracle.array(b) for b in trainer.fixed]
    assert [b.shape for b in B] == [(3, 12), (3, 6)]
    (_, Z1, Z2), V = oracle.forward(X, W, bias)
    E = softmax(V) - Y
    D1, D2 = (E @ B[0]) * (Z1 > 0), (E @ B[1]) * (Z2 > 0)
    expected = [hat(X, bias).T @ D1, hat(Z1, bias).T @ D2, hat(Z2, bias).T @ E]
    compare(trainer.slopes(whole(trainer)), expected)


@pytest.mark.parametrize("bias", [False, True])
def test_sign_symmetric_slopes_by_hand(bias, device):
    trainer = make("signsymmetry", bias, device=device)
    X, Y, W = numbers(trainer)
    (_, Z1, Z2), V = oracle.forward(X, W, bias)
    E = softmax(V) - Y
    W2, W3 = W[1][:12], W[2][:6]
    D2 = (E @ np.sign(W3).T) * np.abs(W3).mean() * (Z2 > 0)
    D1 = (D2 @ np.sign(W2).T) * np.abs(W2).mean() * (Z1 > 0)
    compare(trainer.slopes(whole(trainer)), [hat(X, bias).T @ D1, hat(Z1, bias).T @ D2, hat(Z2, bias).T @ E])


@pytest.mark.parametrize("bias", [False, True])
def test_monoforward_slopes_by_hand(bias, device):
    trainer = make("monoforward", bias, device=device)
    X, Y, W = numbers(trainer)
    M1, M2 = oracle.array(trainer.trained[0]), W[2]
    (_, Z1, Z2), _ = oracle.forward(X, W, bias)
    E1, E2 = softmax(hat(Z1, bias) @ M1) - Y, softmax(hat(Z2, bias) @ M2) - Y
    D1, D2 = (E1 @ M1[:12].T) * (Z1 > 0), (E2 @ M2[:6].T) * (Z2 > 0)
    expected = [hat(X, bias).T @ D1, hat(Z1, bias).T @ D2, hat(Z2, bias).T @ E2, hat(Z1, bias).T @ E1]
    compare(trainer.slopes(whole(trainer)), expected)


def local_loss(trainer: Any, i: int, bias: bool, beta: float) -> float:
    """Lᵢ₊₁ of predsim, summed over samples."""
    X, Y, W = numbers(trainer)
    Z = oracle.forward(X, W, bias)[0][i + 1]
    C, P = oracle.array(trainer.trained[i]), oracle.array(trainer.trained[2 + i])
    predictions = -np.sum(Y * np.log(softmax(hat(Z, bias) @ C)))

    def cosines(A: Array) -> Array:
        A = A - A.mean(axis=1, keepdims=True)
        return np.array([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in A] for a in A])

    similarity = len(X) * np.mean((cosines(Z @ P) - cosines(Y)) ** 2)
    return (1 - beta) * predictions + beta * similarity


@pytest.mark.parametrize("bias", [False, True])
def test_local_loss_slopes_are_differences_of_the_losses(bias):
    """The derivative in a random direction of every matrix of a layer, by central differences."""
    beta, h = 0.7, 1e-6
    trainer = make("localloss", bias, similarity=beta)
    slopes = trainer.slopes(whole(trainer))
    g = torch.Generator().manual_seed(4)
    for i in range(2):
        for place, T in (
            (i, trainer.weights[i]),
            (3 + i, trainer.trained[i]),
            (5 + i, trainer.trained[2 + i]),
        ):
            direction = torch.randn(T.shape, generator=g, dtype=T.dtype)
            around = []
            for step in (h, -h):
                T += step * direction
                around.append(local_loss(trainer, i, bias, beta))
                T -= step * direction
            found = float((slopes[place] * direction).sum())
            assert found == pytest.approx((around[0] - around[1]) / (2 * h), rel=1e-6)
    X, Y, W = numbers(trainer)
    Z, V = oracle.forward(X, W, bias)
    assert oracle.error(slopes[2], hat(Z[2], bias).T @ (softmax(V) - Y)) < 1e-10


@pytest.mark.parametrize("method", [*SIMPLE, "monoforward", "localloss", "pc"])
def test_steps_are_those_of_adam_along_mean_slopes(method):
    trainer = make(method, weight_decay=0.1, schedule="constant")
    matrices = [*trainer.weights, *trainer.trained]
    before = [P.clone() for P in matrices]
    some = whole(trainer)
    slopes = [S / N for S in trainer.slopes(some)]
    trainer.update(some)
    for P, old, S in zip(matrices, before, slopes, strict=True):
        assert oracle.error(P, old * (1 - 0.002) - 0.02 * S / (S.abs() + 1e-8)) < 1e-9


@pytest.mark.parametrize("bias", [False, True])
def test_target_propagation_slopes_by_hand(bias, device):
    trainer = make("dtp", bias, device=device, target_step=0.3)
    X, Y, W = numbers(trainer)
    U = oracle.array(trainer.trained[0])
    assert U.shape == (6 + bias, 12)
    (_, Z1, Z2), V = oracle.forward(X, W, bias)
    E = softmax(V) - Y

    def inverse(Z: Array) -> Array:
        return oracle.relu(hat(Z, bias) @ U)

    T2 = Z2 - 0.3 * E @ W[2][:6].T
    T1 = Z1 + inverse(T2) - inverse(Z2)
    expected = [
        hat(X, bias).T @ ((Z1 - T1) * (Z1 > 0)),
        hat(Z1, bias).T @ ((Z2 - T2) * (Z2 > 0)),
        hat(Z2, bias).T @ E,
    ]
    noise = torch.Generator(device).set_state(trainer.noise.get_state())
    drawn = torch.randn(Z1.shape, generator=noise, dtype=torch.float64, device=device)
    C = Z1 + 0.1 * np.sqrt(np.mean(Z1**2)) * oracle.array(drawn)
    above = oracle.relu(hat(C, bias) @ W[1])
    expected.append(hat(above, bias).T @ ((inverse(above) - C) * (inverse(above) > 0)))
    compare(trainer.slopes(whole(trainer)), expected)


@pytest.mark.parametrize("bias", [False, True])
def test_predictive_coding_by_hand(bias, device):
    trainer = make("pc", bias, device=device, inference_steps=3, inference_rate=0.2)
    X, Y, W = numbers(trainer)
    P1 = hat(X, bias) @ W[0]
    first, P2 = P1, hat(oracle.relu(P1), bias) @ W[1]

    def errors() -> tuple[Array, Array, Array]:
        output = hat(oracle.relu(P2), bias) @ W[2]
        return P1 - first, P2 - hat(oracle.relu(P1), bias) @ W[1], Y - softmax(output)

    for _ in range(3):
        R1, R2, R3 = errors()
        step1, step2 = R1 - (R2 @ W[1][:12].T) * (P1 > 0), R2 - (R3 @ W[2][:6].T) * (P2 > 0)
        P1, P2 = P1 - 0.2 * step1, P2 - 0.2 * step2
    codes = X, oracle.relu(P1), oracle.relu(P2)
    expected = [-hat(Z, bias).T @ R for Z, R in zip(codes, errors(), strict=True)]
    compare(trainer.slopes(whole(trainer)), expected)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("loss", ["threshold", "symmetric"])
def test_forward_forward_slopes_are_differences_of_its_losses(bias, loss):
    """The derivative in a random direction of each layer's weights and of the labels', by differences."""
    h = 1e-6
    trainer = make("ff", bias, loss=loss, threshold=0.7, sharpness=3.0)
    noise = trainer.noise.get_state()
    X, Y, _ = numbers(trainer)
    offsets = torch.randint(1, M, (N,), generator=torch.Generator().set_state(noise)).numpy()
    wrong = np.eye(M)[(Y.argmax(axis=1) + offsets) % M]
    assert not np.any((wrong > 0) & (Y > 0))

    def losses() -> list[float]:
        W, U = numbers(trainer)[2], oracle.array(trainer.trained[0])
        found, inputs = [], [hat(X, bias) @ W[0] + (labels - 1 / M) @ U for labels in (Y, wrong)]
        for above in (W[1][:12], None):
            Z = [oracle.relu(V) for V in inputs]
            good, bad = (np.mean(z**2, axis=1) for z in Z)
            if loss == "threshold":
                terms = np.log1p(np.exp(-3 * (good - 0.7))) + np.log1p(np.exp(3 * (bad - 0.7)))
            else:
                terms = np.log1p(np.exp(-3 * (good - bad)))
            found.append(float(terms.sum()))
            if above is not None:
                inputs = [z / np.sqrt(np.mean(z**2, axis=1, keepdims=True)) @ above for z in Z]
        return found

    slopes = trainer.slopes(whole(trainer))
    g = torch.Generator().manual_seed(4)
    for place, T, layer in (
        (0, trainer.weights[0], 0),
        (3, trainer.trained[0], 0),
        (1, trainer.weights[1], 1),
    ):
        direction = torch.randn(T.shape, generator=g, dtype=T.dtype)
        around = []
        for step in (h, -h):
            T += step * direction
            around.append(losses()[layer])
            T -= step * direction
        found = float((slopes[place] * direction).sum())
        assert found == pytest.approx((around[0] - around[1]) / (2 * h), rel=1e-6)
    X, Y, W = numbers(trainer)
    Z, V = oracle.forward(X, W, bias)
    assert oracle.error(slopes[2], hat(Z[2], bias).T @ (softmax(V) - Y)) < 1e-10


def best_before_relu(Z: Array, C: Array, gamma: float, rho: float) -> Array:
    """The P of least γ(z − f(p))² + ρ(p − c)², by comparing the best of each branch, entry by entry."""

    def cost(z: float, c: float, p: float) -> float:
        return gamma * (z - max(p, 0)) ** 2 + rho * (p - c) ** 2

    found = np.empty_like(Z)
    for place in np.ndindex(Z.shape):
        z, c = Z[place], C[place]
        choices = [max(0.0, (gamma * z + rho * c) / (gamma + rho)), min(0.0, c)]
        found[place] = min(choices, key=lambda p, z=z, c=c: cost(z, c, p))
    return found


def test_the_best_argument_of_relu_is_the_best_of_a_grid(rng):
    Z, C = rng.standard_normal((2, 40))
    grid = np.linspace(-4, 4, 4001)
    cost = 0.7 * (Z[:, None] - np.maximum(grid, 0)) ** 2 + 0.4 * (grid - C[:, None]) ** 2
    found = oracle.array(nearest_before_relu(torch.from_numpy(Z), torch.from_numpy(C), 0.7, 0.4))
    assert np.abs(found - grid[cost.argmin(axis=1)]).max() < 2e-3
    np.testing.assert_allclose(found, best_before_relu(Z[None], C[None], 0.7, 0.4)[0], atol=1e-12)


@pytest.mark.parametrize("bias", [False, True])
def test_block_coordinate_descent_by_hand(bias, device):
    g, r, a = 0.7, 0.4, 0.3
    trainer = make("bcd", bias, device=device, gamma=g, rho=r, alpha=a)
    X, Y, W = numbers(trainer)
    (_, Z1, Z2), V = oracle.forward(X, W, bias)
    Z, P = [X, Z1, Z2, V], [X, hat(X, bias) @ W[0], hat(Z1, bias) @ W[1], V]
    for _ in range(2):
        Z[3] = (Y + g * P[3] + a * Z[3]) / (1 + g + a)
        P[3] = (g * Z[3] + r * hat(Z[2], bias) @ W[2]) / (g + r)
        for i in (3, 2, 1):
            if i < 3:
                k = Z[i].shape[1]
                above, w = P[i + 1] - (W[i][k] if bias else 0), W[i][:k]
                inverse = np.linalg.inv(g * np.eye(k) + r * w @ w.T)
                Z[i] = (g * oracle.relu(P[i]) + r * above @ w.T) @ inverse
                near = (r * hat(Z[i - 1], bias) @ W[i - 1] + a * P[i]) / (r + a)
                P[i] = best_before_relu(Z[i], near, g, r + a)
            A = hat(Z[i - 1], bias)
            W[i - 1] = np.linalg.solve(r * A.T @ A + a * np.eye(A.shape[1]), r * A.T @ P[i] + a * W[i - 1])
        trainer.epoch()
    compare(trainer.network.weights, W)
    compare([*trainer.Z, *trainer.P], [*Z[1:], *P[1:]])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("targets", ["classes", "real"])
def test_multipliers_by_hand(bias, targets, device):
    nu, rho = 0.6, 0.3
    trainer = make("admm", bias, device=device, nu=nu, rho=rho, output_steps=2000, targets=targets)
    X, W = oracle.array(trainer.source.X), [oracle.array(w).copy() for w in trainer.weights]
    Y = oracle.array(trainer.source.labels) if targets == "real" else np.eye(M)[trainer.source.labels.cpu()]
    (_, Z1, Z2), V = oracle.forward(X, W, bias)
    Z, P, U = [X, Z1, Z2], [X, hat(X, bias) @ W[0], hat(Z1, bias) @ W[1], V], 0 * V

    def residual(i: int) -> Array:
        return P[i] - hat(Z[i - 1], bias) @ W[i - 1] + (U / rho if i == 3 else 0)

    def codes(i: int) -> None:
        w, c = W[i][: Z[i].shape[1]], rho if i == 2 else nu
        for n, d in enumerate(nu * (Z[i] - oracle.relu(P[i])) - c * residual(i + 1) @ w.T):
            Z[i][n] -= d * (d @ d) / (nu * d @ d + c * (d @ w) @ (d @ w))

    def products(i: int) -> None:
        V = hat(Z[i - 1], bias) @ W[i - 1]
        if i < 3:
            P[i] = best_before_relu(Z[i], V, 1, 1)
        elif targets == "real":
            P[3] = (Y + rho * V - U) / (1 + rho)
        else:
            for _ in range(20000):
                P[3] = P[3] - (softmax(P[3]) - Y + rho * (P[3] - V) + U)

    def matrices(i: int) -> None:
        if bias:
            W[i - 1][-1] += residual(i).mean(axis=0)
        A = hat(Z[i - 1], bias)
        S = A.T @ residual(i)
        W[i - 1] = W[i - 1] + S * np.sum(S**2) / np.sum((A @ S) ** 2)

    for i in (3, 2, 1):
        if i < 3:
            codes(i)
        products(i)
        matrices(i)
    for i in (1, 2, 3):
        matrices(i)
        products(i)
        if i < 3:
            codes(i)
    U = U + rho * (P[3] - hat(Z[2], bias) @ W[2])
    trainer.epoch()
    compare([*trainer.network.weights, *trainer.Z, *trainer.P], [*W, *Z[1:], *P[1:]], within=1e-8)
    assert oracle.error(trainer.multipliers, U) < 1e-8


# What each family claims


def test_direct_feedback_through_the_transposed_output_is_backpropagation():
    X = planted(N, True, torch.device("cpu"), torch.float64)[0]
    start = Network(random_weights(dense(8, 12, 3), True, "he", torch.Generator().manual_seed(0), X), True)
    trainer = make("dfa", start=start)
    trainer.fixed[0].copy_(trainer.matrix(1).T)
    expected = oracle.gradients(*numbers(trainer), True, "cross_entropy")
    compare([S / N for S in trainer.slopes(whole(trainer))], expected)


def test_random_feedback_comes_to_agree_with_the_gradient():
    """The angle between DFA's steps and the gradient falls below 90°: the weights align with the feedback."""

    def cosine() -> float:
        expected = oracle.gradients(*numbers(trainer), True, "cross_entropy")[0]
        S = oracle.array(trainer.slopes(whole(trainer))[0])
        return float((S * expected).sum() / np.linalg.norm(S) / np.linalg.norm(expected))

    X = planted(N, True, torch.device("cpu"), torch.float64)[0]
    drawn = random_weights(dense(8, 100, 50, 3), True, "he", torch.Generator().manual_seed(0), X)
    trainer = make("dfa", n=300, start=Network([W / 10 for W in drawn], True), learning_rate=2e-3)
    assert cosine() < 0.2
    for _ in range(3):
        trainer.epoch()
    assert cosine() > 0.4


def test_signs_of_weights_of_one_size_are_backpropagation():
    trainer = make("signsymmetry")
    for W in trainer.weights:
        W.copy_(W.sign() * 0.3)
    expected = oracle.gradients(*numbers(trainer), True, "cross_entropy")
    compare([S / N for S in trainer.slopes(whole(trainer))], expected)


@pytest.mark.parametrize("method", LOCAL)
def test_a_layers_step_does_not_depend_on_the_layers_above(method):
    trainer, other = make(method), make(method)
    g = torch.Generator().manual_seed(7)
    other.weights[-1].copy_(torch.randn(other.weights[-1].shape, generator=g, dtype=torch.float64))
    other.weights[1].mul_(-2)
    for _ in range(3):
        trainer.epoch()
        other.epoch()
    assert torch.equal(trainer.weights[0], other.weights[0])
    assert not torch.equal(trainer.weights[1], other.weights[1])


def test_targets_that_are_met_at_the_top_are_met_below():
    trainer = make("dtp")
    Z, V = trainer.forward(trainer.source.X)
    for code, T in zip(Z[1:], trainer.targets(Z, 0 * V), strict=True):
        torch.testing.assert_close(T, code)


def test_inverses_learn_to_reconstruct_codes():
    def distance() -> float:
        Z = trainer.forward(trainer.source.X)[0]
        return float((trainer.inverse(1, Z[2]) - Z[1]).norm() / Z[1].norm())

    trainer = make("dtp", epochs=30)
    before = distance()
    for _ in range(30):
        trainer.epoch()
    assert distance() < 0.75 * before


@pytest.mark.parametrize("steps", [2, 6])
def test_predictive_coding_of_small_steps_follows_the_gradient(steps):
    """As (steps over d − i) (−γ)^(d−i) times the gradient of layer i, for γ towards 0."""
    rate = 1e-6
    trainer = make("pc", inference_steps=steps, inference_rate=rate)
    expected = oracle.gradients(*numbers(trainer), True, "cross_entropy")
    for i, (S, slope) in enumerate(zip(trainer.slopes(whole(trainer)), expected, strict=True)):
        factor = math.comb(steps, 2 - i) * rate ** (2 - i) * N
        assert oracle.error(S, factor * slope) < 1e-3


def test_inference_lowers_the_energy():
    def energy(steps: int) -> float:
        trainer = make("pc", inference_steps=steps, inference_rate=0.05)
        P, R = trainer.inferred(whole(trainer))
        output = oracle.array(P[-1].relu() @ trainer.matrix(2) + trainer.weights[2][-1])
        misfit = -np.sum(numbers(trainer)[1] * np.log(softmax(output)))
        return float(misfit + 0.5 * sum(float(r.square().sum()) for r in R[:-1]))

    values = [energy(steps) for steps in (2, 4, 8, 16, 32)]
    assert values == sorted(values, reverse=True)


def test_predictive_coding_needs_a_step_for_each_hidden_layer():
    with pytest.raises(
        ConfigError, match=r"pc.inference_steps must be at least 2, one a hidden layer, got 1"
    ):
        make("pc", inference_steps=1)


@pytest.mark.parametrize("bias", [False, True])
def test_forward_forward_predicts_as_with_normalised_codes(bias):
    """What its layers learn from differs from the network's codes by a factor for each sample."""
    trainer = make("ff", bias)
    for _ in range(3):
        trainer.epoch()
    X, _, W = numbers(trainer)
    Z1 = oracle.relu(hat(X, bias) @ W[0])
    inputs = Z1 / np.sqrt(np.mean(Z1**2, axis=1, keepdims=True))
    Z2 = oracle.relu(inputs @ W[1][:12])
    found = oracle.array(trainer.network.codes(trainer.source.X)[2])
    assert (
        oracle.error(found / np.linalg.norm(found, axis=1)[:, None], Z2 / np.linalg.norm(Z2, axis=1)[:, None])
        < 1e-10
    )


@pytest.mark.parametrize("loss", ["threshold", "symmetric"])
def test_true_labels_come_to_have_more_goodness_than_wrong_ones(loss):
    trainer = make("ff", n=300, epochs=20, loss=loss)

    def goodness(shift: int) -> Tensor:
        labels = (trainer.source.labels + shift) % M
        Y = torch.eye(M, dtype=torch.float64)[labels] - 1 / M
        X = torch.cat([trainer.source.X, trainer.source.X.new_ones(300, 1)], dim=1)
        return (X @ trainer.weights[0] + Y @ trainer.trained[0]).relu().square().mean(dim=1)

    for _ in range(20):
        trainer.epoch()
    for shift in (1, 2):
        assert (goodness(0) > goodness(shift)).double().mean() > 0.8


def test_no_round_of_block_coordinate_descent_raises_its_objective():
    trainer = make("bcd", alpha=0.5)
    values = []
    for _ in range(20):
        trainer.epoch()
        values.append(float(trainer.splitting()))
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.5 * values[0]


@pytest.mark.parametrize("targets", ["classes", "real"])
def test_blocks_lower_the_lagrangian_and_multipliers_close_the_constraint(targets):
    trainer = make("admm", targets=targets)

    def gap() -> float:
        return float((trainer.P[-1] - trainer.product(2)).norm() / trainer.P[-1].norm())

    trainer.epoch()
    first = gap()
    for _ in range(100):
        before = float(trainer.lagrangian())
        trainer.blocks()
        assert float(trainer.lagrangian()) <= before + 1e-9 * abs(before)
        trainer.round()
    assert gap() < 0.5 * first


def test_similarity_alone_ignores_the_size_of_codes():
    """Cosines do not change with it."""
    trainer = make("localloss", False, similarity=1.0)
    slope = trainer.slopes(whole(trainer))[0]
    assert abs(float((slope * trainer.weights[0]).sum())) < 1e-9 * float(
        slope.norm() * trainer.weights[0].norm()
    )


# What all share


class Graphless(TorchFunctionMode):
    """Fails where a result of an operation belongs to a graph, and counts operations."""

    operations = 0

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        result = function(*arguments, **(named or {}))
        self.operations += 1
        for T in result if isinstance(result, tuple | list) else [result]:
            assert not (isinstance(T, Tensor) and T.requires_grad), f"{function} made a graph"
        return result


@pytest.mark.parametrize("method", OPPONENTS)
def test_no_graph_is_built_even_where_everything_asks_for_one(method, no_graph, device):
    trainer = make(method, device=device)
    trainer.source.X.requires_grad_()
    with torch.enable_grad(), Graphless() as mode:
        trainer.epoch()
        network = trainer.network
    assert mode.operations > 20
    assert not any(W.requires_grad for W in network.weights)


def test_a_graph_is_found(no_graph):
    X = torch.ones(2, requires_grad=True)
    with pytest.raises(AssertionError), Graphless():
        X * X
    with pytest.raises(AssertionError, match="backward"):
        X.square()


@pytest.mark.parametrize("method", OPPONENTS)
def test_updates_read_nothing(method, device):
    trainer = make(method, device=device)
    trainer.epoch()
    batches = list(trainer.order.part())
    with torch.no_grad(), Reads() as reads:
        for some in batches:
            if isinstance(trainer, StepTrainer):
                trainer.update(some)
            else:
                trainer.round()
    assert reads.operations > 20 * len(batches)
    assert reads.found == {}


@pytest.mark.parametrize("method", OPPONENTS)
@pytest.mark.parametrize("bias", [False, True])
def test_every_family_learns_a_planted_problem(method, bias, dtype, device):
    trainer = make(method, bias, n=300, dtype=dtype, device=device, epochs=40)
    X, labels = trainer.source.X, trainer.source.labels
    before = error_rate(trainer.network, X, labels)
    for _ in range(40):
        trainer.epoch()
    assert error_rate(trainer.network, X, labels) < (0.65 if method in SPLIT else 0.5) * before


@pytest.mark.parametrize("method", OPPONENTS)
def test_a_loaded_state_continues_bit_for_bit(method, device):
    trainer = make(method, device=device)
    for _ in range(2):
        trainer.epoch()
    state = through_a_file(trainer.state())
    resumed = make(method, seed=99, device=device)
    resumed.epoch()
    resumed.load_state(state)
    assert same(resumed.state(), trainer.state())
    before = through_a_file(state)
    for _ in range(2):
        assert resumed.epoch().learning_rate == trainer.epoch().learning_rate
    assert same(resumed.state(), trainer.state())
    assert same(state, before)


@pytest.mark.parametrize(
    "method", [name for name, (_, kind) in OPPONENTS.items() if issubclass(kind, StepTrainer)]
)
def test_parts_make_up_an_epoch(method):
    complete, parted = make(method), make(method, parts=3)
    complete.epoch()
    for _ in range(3):
        parted.epoch()
    for a, b in zip(complete.network.weights, parted.network.weights, strict=True):
        assert torch.equal(a, b)


WEIGHTED = [*SIMPLE, "monoforward", "pc"]
"""Where it is exact in each batch; `dtp` and `ff` draw numbers for each sample."""
DRAWING = ["dtp", "ff"]
SPLIT = ["bcd", "admm"]
"""They keep codes of all samples."""


@pytest.mark.parametrize("method", WEIGHTED)
def test_a_weight_of_two_is_a_sample_twice(method):
    w = torch.from_numpy(np.random.default_rng(0).integers(0, 3, N)).double()
    weighted = make(method, weights=w[:, None])
    plain = make(method)
    rows = torch.arange(N).repeat_interleave(w.long())
    twice = batch(plain.source.X[rows], plain.source.labels[rows])
    for a, b in zip(weighted.slopes(whole(weighted)), plain.slopes(twice), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("method", DRAWING)
def test_samples_of_weight_zero_are_absent_and_a_common_factor_multiplies(method):
    w = torch.arange(N, dtype=torch.float64)[:, None] % 2
    weighted, doubled, moved = (make(method, weights=weights) for weights in (w, 2 * w, w))
    moved.source.X[::2] = torch.rand((N // 2, 8), dtype=torch.float64)
    if method == "dtp":  # whose noise has the size of all codes
        moved.config.noise = weighted.config.noise = doubled.config.noise = 1e-12
    slopes = weighted.slopes(whole(weighted))
    for a, b, c in zip(slopes, doubled.slopes(whole(doubled)), moved.slopes(whole(moved)), strict=True):
        torch.testing.assert_close(b, 2 * a)
        torch.testing.assert_close(c, a, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", SPLIT)
def test_a_weight_of_two_is_a_sample_twice_for_all_samples_at_once(method):
    X, labels, start = planted(N, True, torch.device("cpu"), torch.float64)
    w = torch.from_numpy(np.random.default_rng(0).integers(0, 3, N)).double()
    rows = torch.arange(N).repeat_interleave(w.long())
    config, kind = OPPONENTS[method]
    found = []
    for source in (Memory(X, labels, weights=w[:, None]), Memory(X[rows], labels[rows])):
        trainer = kind(start, source, config(), 3, torch.Generator())
        for _ in range(3):
            trainer.epoch()
        found.append(trainer.network.weights)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("method", SPLIT)
def test_passes_in_parts_change_nothing(method):
    """As a source gives them that reads files."""

    class Parts(Memory):
        def passes(self):
            return self.batches(torch.arange(len(self)).split(17))

    X, labels, start = planted(N, True, torch.device("cpu"), torch.float64)
    config, kind = OPPONENTS[method]
    found = []
    for source in (Memory(X, labels), Parts(X, labels)):
        trainer = kind(start, source, config(), 2, torch.Generator())
        trainer.epoch()
        trainer.epoch()
        found.append(trainer.network.weights)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("method", [name for name in OPPONENTS if name not in [*WEIGHTED, *DRAWING, *SPLIT]])
def test_weights_of_samples_are_refused_where_they_mean_nothing(method):
    with pytest.raises(ConfigError, match=rf"method={method} is not defined for samples with weights: leave"):
        make(method, weights=torch.ones(N, 1, dtype=torch.float64))


REAL = [*SIMPLE, "dtp", "pc", "bcd", "admm"]


@pytest.mark.parametrize("method", REAL)
def test_real_values_are_learnt(method):
    trainer = make(method, n=300, targets="real", epochs=40)
    source = trainer.source
    before = trainer.objective(trainer.network.outputs(source.X), source.labels)
    for _ in range(40):
        trainer.epoch()
    assert trainer.objective(trainer.network.outputs(source.X), source.labels) < 0.6 * before


@pytest.mark.parametrize("method", [name for name in OPPONENTS if name not in REAL])
def test_real_values_are_refused_where_there_must_be_classes(method):
    with pytest.raises(
        ConfigError, match=rf"method={method} is for classes.*choose method=jacobi, seidel, nmf or bp"
    ):
        make(method, targets="real")


CONVOLUTION = ["dfa", "monoforward"]


def pictures(method: str) -> Any:
    X, labels, _ = planted(N, True, torch.device("cpu"), torch.float64)
    X = torch.cat([X, X.flip(1)], dim=1)
    layers = build_layers(NetworkConfig([6], True, convolution=[ConvolutionConfig(4, 3)]), 16, (4, 4), 3)
    weights = random_weights(layers, True, "he", torch.Generator().manual_seed(1), X)
    config, kind = OPPONENTS[method]
    return kind(Network(weights, True, layers), Memory(X, labels), config(20), 10, torch.Generator())


@pytest.mark.parametrize("method", OPPONENTS)
def test_convolutions_are_trained_or_refused(method):
    if method not in CONVOLUTION:
        with pytest.raises(
            ConfigError,
            match=rf"method={method} is for fully connected layers: .*, {' or '.join(CONVOLUTION)}$",
        ):
            pictures(method)
        return
    trainer = pictures(method)
    before = trainer.network.weights
    trainer.epoch()
    assert all(not torch.equal(a, b) for a, b in zip(before, trainer.network.weights, strict=True))


@pytest.mark.parametrize("method", OPPONENTS)
def test_rates_fall_along_a_cosine(method):
    trainer = make(method, epochs=4)
    if isinstance(trainer, StepTrainer):
        rates = [trainer.epoch().learning_rate for _ in range(4)]
        assert rates == pytest.approx([0.01 * (1 + math.cos(math.pi * t / 12)) for t in (2, 5, 8, 11)])
