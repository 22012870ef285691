"""The backpropagation baseline: gradients, optimizers, rates, dropout."""

from __future__ import annotations

import math

import numpy as np
import oracle
import pytest
import torch
from planted import planted
from torch import Tensor
from torch.nn import functional

from nmfdnn.errors import ConfigError
from nmfdnn.network import Network
from nmfdnn.source import Memory
from nmfdnn.training import BackpropConfig, BackpropTrainer


def make(
    bias: bool = False,
    epochs: int = 5,
    n: int = 60,
    seed: int = 3,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    **config: object,
) -> BackpropTrainer:
    X, labels, start = planted(n, bias, torch.device(device), dtype)
    settings = BackpropConfig(**({"batch_size": n, "schedule": "constant"} | config))
    return BackpropTrainer(start, Memory(X, labels), settings, epochs, torch.Generator().manual_seed(seed))


def weights(trainer: BackpropTrainer) -> list[np.ndarray]:
    return [oracle.array(W) for W in trainer.network.weights]


@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
@pytest.mark.parametrize("bias", [False, True])
def test_sgd_steps_follow_the_gradient_by_hand(bias, loss, device):
    config = {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.9, "weight_decay": 0.01}
    trainer = make(bias, loss=loss, device=device, **config)
    X, Y = oracle.array(trainer.source.X), np.eye(3)[trainer.source.labels.cpu()]
    W = weights(trainer)
    velocity = [0 * w for w in W]
    for _ in range(3):
        trainer.epoch()
        slopes = oracle.gradients(X, Y, W, bias, loss)
        velocity = [0.9 * v + g + 0.01 * w for v, g, w in zip(velocity, slopes, W, strict=True)]
        W = [w - 0.05 * v for w, v in zip(W, velocity, strict=True)]
    for found, expected in zip(weights(trainer), W, strict=True):
        assert oracle.error(found, expected) < 1e-10


def reference(
    weights: list[Tensor], bias: bool, X: Tensor, labels: Tensor, loss: str, optimizer: torch.optim.Optimizer
) -> None:
    """One step of a torch optimizer on a plainly written network."""
    Z = X
    for i, W in enumerate(weights):
        Z = Z @ W[:-1] + W[-1] if bias else Z @ W
        Z = torch.relu(Z) if i < len(weights) - 1 else Z
    Y = functional.one_hot(labels, Z.shape[1]).to(Z)
    value = ((Z - Y) ** 2 / 2).sum(1).mean() if loss == "squared" else -(Z.log_softmax(1) * Y).sum(1).mean()
    optimizer.zero_grad()
    value.backward()
    optimizer.step()


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
@pytest.mark.parametrize("bias", [False, True])
def test_epochs_equal_torch_optim(bias, loss, optimizer, device):
    trainer = make(
        bias,
        batch_size=20,
        loss=loss,
        optimizer=optimizer,
        learning_rate=0.02,
        weight_decay=0.03,
        device=device,
    )
    state = trainer.order.generator.get_state()
    W = [w.clone().requires_grad_() for w in trainer.network.weights]
    adam = torch.optim.AdamW(W, lr=0.02, weight_decay=0.03, foreach=False, fused=False)
    sgd = torch.optim.SGD(W, lr=0.02, weight_decay=0.03, momentum=0.9, foreach=False, fused=False)
    order = torch.Generator()
    order.set_state(state)
    for _ in range(2):
        trainer.epoch()
        for rows in torch.randperm(60, generator=order).reshape(3, 20).to(device):
            step = adam if optimizer == "adam" else sgd
            reference(W, bias, trainer.source.X[rows], trainer.source.labels[rows], loss, step)
    for found, expected in zip(trainer.network.weights, W, strict=True):
        # Adam divides by √v, which magnifies rounding where gradients almost cancel.
        assert oracle.error(found, expected) < 1e-8


def test_adam_decay_is_decoupled():
    """Without a gradient (zero inputs, no bias) Adam only decays: W₁ ← (1 − ηλ) W₁."""
    trainer = make(weight_decay=0.5, learning_rate=0.1)
    trainer.source.X.zero_()
    before = trainer.network.weights[0]
    trainer.epoch()
    assert oracle.error(trainer.network.weights[0], 0.95 * before) < 1e-12


def test_cosine_rate():
    trainer = make(epochs=4, batch_size=20, schedule="cosine", learning_rate=0.1)
    rates = [trainer.epoch().learning_rate for _ in range(4)]
    assert trainer.total_steps == trainer.steps == 12
    last = [2, 5, 8, 11]  # the rate reported is the one of the epoch's last step
    assert rates == pytest.approx([0.05 * (1 + math.cos(math.pi * t / 12)) for t in last])
    assert [group["lr"] for group in trainer.optimizer.param_groups] == [rates[-1]]


def test_cosine_rate_starts_at_the_full_rate_and_weights_follow_it():
    """A rate of η/2 in the middle: SGD without momentum moves half as far for the same gradient."""
    trainer = make(epochs=2, schedule="cosine", optimizer="sgd", momentum=0.0, learning_rate=0.1)
    X, Y = oracle.array(trainer.source.X), np.eye(3)[trainer.source.labels]
    for rate in (0.1, 0.05):
        before = weights(trainer)
        assert trainer.epoch().learning_rate == pytest.approx(rate)
        slopes = oracle.gradients(X, Y, before, False, "cross_entropy")
        for W, old, slope in zip(weights(trainer), before, slopes, strict=True):
            assert oracle.error(old - W, rate * slope) < 1e-9


def test_constant_rate():
    trainer = make(epochs=3, batch_size=20, learning_rate=0.1)
    assert [trainer.epoch().learning_rate for _ in range(3)] == [0.1, 0.1, 0.1]


def test_without_dropout_training_is_deterministic_and_with_it_seeded(device):
    def train(seed: int, dropout: float) -> list[np.ndarray]:
        trainer = make(seed=seed, dropout=dropout, device=device)  # one batch: the order hardly matters
        trainer.epoch()
        trainer.epoch()
        return weights(trainer)

    plain, other = train(0, 0.0), train(1, 0.0)
    assert all(oracle.error(a, b) < 1e-9 for a, b in zip(plain, other, strict=True))
    masked, again, different = train(0, 0.4), train(0, 0.4), train(1, 0.4)
    assert all(np.array_equal(a, b) for a, b in zip(masked, again, strict=True))
    assert not np.allclose(masked[0], plain[0], rtol=1e-6)
    assert not np.allclose(masked[0], different[0], rtol=1e-6)


def test_dropout_keeps_the_right_share_and_the_mean(device):
    """With W₂ = 0 one step of SGD writes the masked, rescaled codes into the column of the label."""
    X, labels = torch.ones(1, 1, device=device), torch.zeros(1, dtype=torch.int64, device=device)
    start = Network([torch.ones(1, 5000, device=device), torch.zeros(5000, 2, device=device)])
    config = BackpropConfig(1, "sgd", 1.0, "constant", "squared", dropout=0.3, momentum=0.0)
    trainer = BackpropTrainer(start, Memory(X, labels), config, 1, torch.Generator().manual_seed(0))
    trainer.epoch()
    codes = trainer.network.weights[1][:, 0]
    kept = codes > 0
    assert float(kept.double().mean()) == pytest.approx(0.7, abs=0.03)  # standard error 0.0065
    torch.testing.assert_close(codes[kept], torch.full_like(codes[kept], 1 / 0.7))


@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
def test_objective_is_the_loss_per_sample(loss, put, rng):
    outputs, labels = rng.standard_normal((7, 3)), rng.integers(0, 3, 7)
    if loss == "squared":
        expected = np.mean(
            [0.5 * np.sum((np.eye(3)[y] - v) ** 2) for v, y in zip(outputs, labels, strict=True)]
        )
    else:
        shares = [np.exp(v[y]) / np.exp(v).sum() for v, y in zip(outputs, labels, strict=True)]
        expected = -np.mean(np.log(shares))
    trainer = make(loss=loss, dropout=0.5, weight_decay=1.0)
    assert trainer.objective(put(outputs), put(labels, torch.int64)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("bias", [False, True])
def test_network_never_requires_grad_and_is_a_copy(bias, device, dtype):
    trainer = make(bias, device=device, dtype=dtype)
    trainer.epoch()
    network = trainer.network
    before = [W.clone() for W in network.weights]
    trainer.epoch()
    for W, old, start in zip(network.weights, before, trainer.weights, strict=True):
        assert not W.requires_grad
        assert W.grad_fn is None
        assert (W.dtype, W.device) == (dtype, trainer.source.X.device)
        assert torch.equal(W, old)
        assert W.data_ptr() != start.data_ptr()
    assert not network.outputs(trainer.source.X).requires_grad


def test_the_start_is_not_changed(device):
    X, labels, start = planted(60, False, device, torch.float64)
    before = [W.clone() for W in start.weights]
    BackpropTrainer(start, Memory(X, labels), BackpropConfig(60), 1, torch.Generator()).epoch()
    assert all(torch.equal(W, old) for W, old in zip(start.weights, before, strict=True))
    assert not any(W.requires_grad for W in start.weights)


def test_weights_that_are_not_finite_are_reported(device):
    trainer = make(optimizer="sgd", loss="squared", learning_rate=1e30, device=device, dtype=torch.float32)
    trainer.epoch()  # weights of order 10³⁰: finite, but the next outputs are not
    with pytest.raises(ConfigError, match=r"no longer finite: lower bp\.learning_rate"):
        trainer.epoch()


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_moments_of_weights_without_gradients_end_at_zero(optimizer):
    """As denormal numbers, to which they shrink, they make each step ten times slower."""

    def moments(trainer: BackpropTrainer) -> Tensor:
        kept = trainer.optimizer.state_dict()["state"].values()
        found = [T.flatten() for state in kept for T in state.values() if isinstance(T, Tensor) and T.ndim]
        return torch.cat(found).abs()

    trainers = [make(batch_size=30, epochs=600, optimizer=optimizer, dtype=torch.float32) for _ in range(2)]
    forgetful, other = trainers
    other._forget = lambda: None  # type: ignore[method-assign]
    for trainer in trainers:
        trainer.epoch()
        trainer.source.X[:, 0] = 0  # the first input is dark from here on
        for _ in range(599):
            trainer.epoch()
    tiny = torch.finfo(torch.float32).tiny
    assert ((moments(other) > 0) & (moments(other) < tiny)).any()
    assert not ((moments(forgetful) > 0) & (moments(forgetful) < tiny)).any()
    for one, same in zip(*(trainer.network.weights for trainer in trainers), strict=True):
        assert torch.equal(one, same)
