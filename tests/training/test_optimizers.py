"""Optimizers of backpropagation, and its averages, labels and inputs, against plain formulas."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from planted import error_rate, planted
from torch import Tensor
from torch.nn import functional

from nmfdnn.errors import ConfigError
from nmfdnn.network import ConvolutionConfig, Network, NetworkConfig, build_layers, random_weights
from nmfdnn.source import Batch, Memory
from nmfdnn.targets import Classes, RealValues
from nmfdnn.training import BackpropConfig, BackpropTrainer
from nmfdnn.training.backprop import FORGET_EVERY
from nmfdnn.training.optimizers import OPTIMIZERS

DAMPING = 0.3
KINDS = ["plain", "bias", "weighted", "real", "convolution"]


def make(kind: str = "bias", n: int = 60, epochs: int = 5, **config: Any) -> BackpropTrainer:
    """On a problem of one of KINDS, by default with all samples in a batch."""
    X, labels, start = planted(n, kind != "plain", torch.device("cpu"), torch.float64)
    source, g = Memory(X, labels), torch.Generator().manual_seed(0)
    if kind == "weighted":
        source = Memory(X, labels, weights=torch.randint(0, 4, (n, 1), generator=g).to(X))
    if kind == "real":
        values = (X @ torch.rand((8, 3), generator=g, dtype=X.dtype)).numpy()
        targets = RealValues().fitted(values)
        source = Memory(X, targets.labels(values, X.dtype), targets=targets)
    if kind == "convolution":
        source = Memory(torch.rand((n, 36), generator=g, dtype=X.dtype), labels)
        layers = build_layers(
            NetworkConfig([6], True, convolution=[ConvolutionConfig(4, 3, pool=2)]), 36, (6, 6), 3
        )
        start = Network(random_weights(layers, True, "he", g, like=X), True, layers)
    settings = BackpropConfig(**({"batch_size": n, "schedule": "constant"} | config))
    return BackpropTrainer(start, source, settings, epochs, torch.Generator().manual_seed(3))


def moved(trainer: BackpropTrainer, times: int = 1) -> list[np.ndarray]:
    """What the weights lose in so many epochs."""
    before = [oracle.array(W) for W in trainer.network.weights]
    for _ in range(times):
        trainer.epoch()
    return [a - oracle.array(b) for a, b in zip(before, trainer.network.weights, strict=True)]


def inputs(trainer: BackpropTrainer) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Of each layer the rows that enter it, how often they count, and their number in a sample."""
    network, source, found = trainer.network, trainer.source, []
    for layer, Z in zip(network.layers, network.codes(source.X), strict=True):
        w = torch.ones(len(Z), 1, dtype=Z.dtype) if source.weights is None else source.weights
        found.append((oracle.array(layer.rows(Z)), oracle.array(layer.of_rows(w)), layer.positions))
    return found


PLAIN = {"optimizer": "sgd", "learning_rate": 1.0, "momentum": 0.0}


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_foof_is_the_gradient_times_the_inverse_gram_matrix(kind):
    """That of [A 1], in which all but the column of ones is damped, by a share of the mean variance."""
    trainer = make(kind, **PLAIN | {"optimizer": "foof", "damping": DAMPING})
    bias, gradients = kind != "plain", moved(make(kind, **PLAIN))
    rows = inputs(trainer)
    for (A, w, positions), G, S in zip(rows, gradients, moved(trainer), strict=True):
        mean = bias * (w * A).sum(0) / w.sum()
        variance = np.mean((w * (A - mean) ** 2).sum(0) / w.sum())
        hat = np.hstack([A, np.ones((len(A), 1))]) if bias else A
        damped = DAMPING * variance * np.diag([1.0] * A.shape[1] + [0.0] * bias)
        expected = np.linalg.solve(hat.T @ (w * hat) / w.sum() + damped, G / positions)
        assert oracle.error(S, expected) < 1e-9


def test_foof_mixes_means_and_follows_the_momentum():
    config = {"optimizer": "foof", "learning_rate": 0.1, "damping": DAMPING, "momentum": 0.8}
    trainer = make(gram_every=1, gram_memory=0.7, **config)
    mean = covariance = velocity = None
    for _ in range(3):
        start = [W.clone() for W in trainer.network.weights]
        A = inputs(trainer)[1][0]
        plain = make(**PLAIN)
        with torch.no_grad():
            for W, here in zip(plain.weights, start, strict=True):
                W.copy_(here)
        G = moved(plain)[1]
        new = A.mean(0), np.cov(A.T, bias=True)
        if mean is None:
            mean, covariance = new
        else:
            mean, covariance = 0.7 * mean + 0.3 * new[0], 0.7 * covariance + 0.3 * new[1]
        metric = covariance + DAMPING * np.trace(covariance) / len(mean) * np.eye(len(mean))
        S = np.linalg.solve(metric, G[:-1] - np.outer(mean, G[-1]))
        step = np.vstack([S, G[-1] - mean @ S])
        velocity = step if velocity is None else 0.8 * velocity + step
        assert oracle.error(moved(trainer)[1], 0.1 * velocity) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damping", [DAMPING, 100.0], ids=["shortened", "as it is"])
def test_a_step_of_kfac_is_foofs_times_the_inverse_of_a_second_factor(kind, damping):
    """It is shortened where its product with the gradient is above 1."""
    options = PLAIN | {"damping": damping}
    foof, trainer = (make(kind, **options | {"optimizer": name}) for name in ("foof", "kfac"))
    gradients, steps, found = moved(make(kind, **PLAIN)), [], moved(trainer)
    for F, factor in zip(moved(foof), map(oracle.array, trainer.preconditioner.slopes), strict=True):
        damped = factor + damping * np.trace(factor) / len(factor) * np.eye(len(factor))
        steps.append(F @ np.linalg.inv(damped))
    squared = sum((S * G).sum() for S, G in zip(steps, gradients, strict=True))
    assert (squared > 1) == (damping == DAMPING)
    for S, K in zip(steps, found, strict=True):
        assert oracle.error(K, S / max(1, squared**0.5)) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_the_second_factor_of_kfac_is_the_mean_square_of_slopes(kind, monkeypatch):
    """By products before ReLU and dropout, through the units that dropout has left; mixed into older ones."""
    trainer = make(kind, optimizer="kfac", dropout=0.4, gram_memory=0.7)
    kfac, old = trainer.preconditioner, None
    monkeypatch.setattr(kfac, "_drawn", lambda V, batch: V.detach().sin())
    for _ in range(2):
        batch = next(iter(trainer.order.part()))
        codes, V = trainer._forward(batch)
        kfac._refresh(codes, V, batch)
        Z, products = codes[0].detach(), []
        for layer, W, kept in zip(trainer.layers, trainer.weights, [*codes[1:], None], strict=True):
            products.append(layer.product(Z, W[: layer.fan_in], W[layer.fan_in :].sum(dim=0)))
            if kept is not None:
                Z = products[-1].relu() * (kept > 0) / 0.6
        found = [*torch.autograd.grad(products[-1], products[:-1], V.detach().sin()), V.sin()]
        new = []
        for S, layer in zip(found, trainer.layers, strict=True):
            w = torch.ones(60, 1) if batch.weights is None else batch.weights
            w, rows = oracle.array(layer.of_rows(w)), oracle.array(S.detach()).reshape(-1, layer.units)
            new.append(rows.T @ (w * rows) / w.sum())
        old = new if old is None else [0.7 * a + 0.3 * b for a, b in zip(old, new, strict=True)]
        for T, expected in zip(kfac.slopes, old, strict=True):
            assert oracle.error(T, expected) < 1e-9


def test_slopes_are_of_labels_and_values_drawn_from_the_prediction():
    """Their means are 0 and their covariances the curvature of the loss: diag(p) - ppᵀ and 1."""
    V = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.float64).expand(20_000, 3)
    p = V[0].softmax(dim=0)
    for values, curvature in (({}, p.diag() - p.outer(p)), ({"loss": "latent"}, torch.eye(3).to(p))):
        trainer = make(optimizer="kfac", **values)
        S = trainer.preconditioner._drawn(V, Batch(V, V, len(V)))
        assert S.mean(dim=0).abs().max() < 0.03
        torch.testing.assert_close(S.T @ S / len(S), curvature, rtol=0, atol=0.04)


@pytest.mark.parametrize("n", [5, 60])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_isaac_is_the_same_from_either_gram_matrix(kind, n):
    """Of 5 samples AAᵀ is factored, of 60 AᵀA."""
    trainer = make(kind, n, **PLAIN | {"optimizer": "isaac", "damping": DAMPING})
    gradients, rows = moved(make(kind, n, **PLAIN)), inputs(trainer)
    for (A, w, _), G, S in zip(rows, gradients, moved(trainer), strict=True):
        hat = A if kind == "plain" else np.hstack([A, np.ones((len(A), 1))])
        C = hat.T @ (w * hat) / w.sum()
        level = DAMPING * np.trace(C) / len(C)
        assert oracle.error(S, level * np.linalg.solve(C + level * np.eye(len(C)), G)) < 1e-9


def test_isaac_with_much_damping_is_the_gradient():
    for a, b in zip(
        moved(make(**PLAIN | {"optimizer": "isaac", "damping": 1e9})), moved(make(**PLAIN)), strict=True
    ):
        assert oracle.error(a, b) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_muon_moves_the_hidden_matrices_and_adam_the_rest(kind):
    trainer = make(kind, optimizer="muon", learning_rate=0.01, momentum=0.8, weight_decay=0.1)
    muon, adam, gradients = [], [], [torch.from_numpy(G) for G in moved(make(kind, **PLAIN))]
    expected = [W.clone() for W in trainer.network.weights]
    for i, (W, G, layer) in enumerate(zip(expected, gradients, trainer.layers, strict=True)):
        parts = W.split([layer.fan_in, len(W) - layer.fan_in])
        for j, (P, S) in enumerate(zip(parts, G.split([len(P) for P in parts]), strict=True)):
            P.grad = S
            (muon if j == 0 and i < len(expected) - 1 else adam).append(P)
    options: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.1}
    for P in muon:
        torch.optim.Muon([P], momentum=0.8, adjust_lr_fn="match_rms_adamw", **options).step()
    torch.optim.AdamW([P for P in adam if len(P)], **options).step()
    trainer.epoch()
    for W, V in zip(trainer.network.weights, expected, strict=True):
        torch.testing.assert_close(W, V, rtol=1e-2, atol=1e-4)  # Muon's products are in half precision


FORMS: list[dict[str, Any]] = [
    *({"optimizer": name} for name in OPTIMIZERS),
    {"optimizer": "foof", "whiten": True, "averaging": 0.9, "dropout": 0.2, "schedule": "linear"},
    {"optimizer": "muon", "averaging": 0.9, "label_smoothing": 0.1},
    {"loss": "latent", "whiten": True, "gram_every": 3},
]
RATES = {"sgd": 0.1, "muon": 0.05, "shampoo": 0.5, "foof": 0.1, "kfac": 0.1, "isaac": 0.5}


def form(values: dict[str, Any], **others: Any) -> BackpropTrainer:
    if values.get("optimizer") in ("soap", "shampoo"):
        pytest.importorskip("pytorch_optimizer")
    rate = RATES.get(values.get("optimizer", ""), 0.02)
    return make(**{"n": 150, "batch_size": 30, "epochs": 30, "learning_rate": rate} | values | others)


@pytest.mark.parametrize("values", FORMS, ids=str)
def test_every_form_continues_where_it_stopped(values):
    """From what a file holds, to the last bit, also after moments that are too small were forgotten."""
    whole, first, second = (form(values) for _ in range(3))
    before = FORGET_EVERY // 5 + 1
    for _ in range(before + 2):
        whole.epoch()
    for _ in range(before):
        first.epoch()
    file = io.BytesIO()
    torch.save(first.state(), file)
    file.seek(0)
    second.load_state(torch.load(file, weights_only=True))
    for _ in range(2):
        second.epoch()
    for a, b in zip(whole.network.weights, second.network.weights, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("values", FORMS, ids=str)
def test_every_form_learns(values):
    trainer = form(values)
    X, labels = trainer.source.X, trainer.source.labels
    before = error_rate(trainer.network, X, labels)
    for _ in range(30):
        trainer.epoch()
    assert error_rate(trainer.network, X, labels) < 0.7 * before


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    for name in ("soap", "shampoo"):
        with pytest.raises(ConfigError, match=rf"{name} needs pytorch_optimizer: .*nmfdnn\[optimizers\]"):
            make(optimizer=name)
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ConfigError, match=r"muon needs PyTorch 2\.9"):
        make(optimizer="muon")


def test_the_average_is_evaluated_and_training_goes_on_without_it():
    plain, averaged = (make(averaging=a, batch_size=60, learning_rate=0.05) for a in (0.0, 0.6))
    history: list[list[np.ndarray]] = []
    for _ in range(5):
        plain.epoch()
        averaged.epoch()
        history.append([oracle.array(W) for W in plain.network.weights])
    for i, W in enumerate(averaged.network.weights):
        assert torch.equal(averaged.weights[i], plain.weights[i])
        assert oracle.error(W, oracle.average([weights[i] for weights in history], 0.6)) < 1e-12


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_smoothed_labels_are_those_of_torch(smoothing, weighted, put, rng):
    V, labels = put(rng.standard_normal((7, 3))), put(rng.integers(0, 3, 7), torch.int64)
    w = put(rng.random((7, 1))) if weighted else None
    each = functional.cross_entropy(V, labels, reduction="none", label_smoothing=smoothing)
    found = Classes().loss("auto", V, labels, w, smoothing)
    torch.testing.assert_close(found, each.sum() if w is None else (w[:, 0] * each).sum())
    if smoothing == 0:
        assert torch.equal(found, Classes().loss("auto", V, labels, w))
    elif not weighted:
        trainer = make(label_smoothing=smoothing)
        assert trainer.objective(V, labels) == pytest.approx(float(each.mean()))


def test_training_follows_the_smoothed_labels():
    trainer = make("plain", n=60, label_smoothing=0.2, **PLAIN)
    Y = 0.8 * np.eye(3)[trainer.source.labels] + 0.2 / 3
    W = [oracle.array(V) for V in trainer.network.weights]
    expected = oracle.gradients(oracle.array(trainer.source.X), Y, W, False, "cross_entropy")
    for G, S in zip(expected, moved(trainer), strict=True):
        assert oracle.error(S, G) < 1e-9


def test_smoothing_is_refused_where_nothing_is_smoothed():
    for loss in ("squared", "latent"):
        with pytest.raises(ConfigError, match=r"label_smoothing is for bp\.loss=cross_entropy"):
            make(label_smoothing=0.1, loss=loss)
    with pytest.raises(ConfigError, match=r"real values: set bp\.label_smoothing=0"):
        make("real", label_smoothing=0.1)


@pytest.mark.parametrize("targets", [Classes(), RealValues()], ids=["classes", "values"])
def test_the_slope_of_the_latent_loss_is_the_residual(targets, put, rng):
    V = put(rng.standard_normal((7, 3))).requires_grad_()
    labels: Tensor = put(rng.integers(0, 3, 7), torch.int64)
    if isinstance(targets, RealValues):
        labels = put(rng.standard_normal((7, 3)))
    loss = targets.loss("latent", V, labels)
    R = targets.residual(targets.matrix(labels, 3, V.dtype), V.detach())
    torch.testing.assert_close(loss.detach(), 0.5 * R.square().sum())
    loss.backward()
    torch.testing.assert_close(V.grad, -R)


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_whitening_leaves_the_function_and_makes_steps_of_the_gradient_foofs(kind):
    whitened, plain = (
        make(kind, whiten=whiten, damping=DAMPING, **PLAIN | {"optimizer": name})
        for whiten, name in ((True, "sgd"), (False, "foof"))
    )
    for a, b in zip(whitened.network.weights, plain.network.weights, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    if kind == "weighted":  # inputs count as often as samples there, too
        assert whitened.source.weights is not None
    assert oracle.error(moved(whitened)[0], moved(plain)[0]) < 1e-9


def test_whitening_is_refused_for_convolutions():
    with pytest.raises(ConfigError, match=r"bp\.whiten is for fully connected"):
        make("convolution", whiten=True)


def test_a_linear_rate_ends_at_zero():
    trainer = make(epochs=4, batch_size=20, schedule="linear", learning_rate=0.1)
    rates = [trainer.epoch().learning_rate for _ in range(4)]
    assert rates == pytest.approx([0.1 * (1 - t / 12) for t in (2, 5, 8, 11)])
    assert trainer.epoch().learning_rate == 0.0  # beyond what was planned
