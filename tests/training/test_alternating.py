"""Alternating training: whole epochs against the oracle, averaging, no graph."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import oracle
import pytest
import torch
from planted import batch, planted, targets

from nmfdnn.errors import ConfigError, NmfdnnError
from nmfdnn.network import Network
from nmfdnn.source import Memory, batches
from nmfdnn.training import AlternatingConfig, AlternatingTrainer, SolverConfig, alternating

EXACT = SolverConfig("svd", 1e-12, 1e-12)
VARIANTS = {
    "paper": {},
    "many_steps": {"weight_steps": 3, "code_steps": 2, "hidden_iterations": 2, "output_iterations": 2},
    "codes_first": {"order": "codes_first", "weight_steps": 2},
    "regularised": {"omega": 0.7, "weight_ridge": 0.05, "code_ridge": 0.02, "weight_steps": 2},
}

# Z[G]₋ as Z[G]₊ − (ZW)Wᵀ is right to 1e-16 of Z[G]₊: below the root that is 1e-8 of a code that should be 0.
ROUNDING = 1e-6


def settings(config: AlternatingConfig, solver: SolverConfig, bias: bool) -> oracle.Settings:
    return oracle.Settings(
        bias,
        config.output_iterations,
        config.hidden_iterations,
        config.weight_steps,
        config.code_steps,
        config.order == "codes_first",
        config.omega,
        config.weight_ridge,
        config.code_ridge,
        solver.input_delta,
        solver.hidden_delta,
    )


def make(
    config: AlternatingConfig,
    bias: bool = False,
    solver: SolverConfig = EXACT,
    n: int = 90,
    seed: int = 3,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> AlternatingTrainer:
    X, labels, start = planted(n, bias, torch.device(device), dtype)
    return AlternatingTrainer(start, Memory(X, labels), config, solver, torch.Generator().manual_seed(seed))


def in_units(trainer: AlternatingTrainer) -> tuple[np.ndarray, list[np.ndarray], list[float]]:
    """Inputs and start in units of their root mean squares, in which the trainer works."""
    X, bias = oracle.array(trainer.source.X), trainer.start.bias
    W = [oracle.array(w) for w in trainer.start.weights]
    scales = oracle.units(X, W, bias)
    return X / scales[0], oracle.in_units(W, scales, bias), scales


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("input_factor", ["full", "batch"])
@pytest.mark.parametrize("bias", [False, True])
def test_epoch_equals_oracle(bias, input_factor, variant, device):
    """Three batches of 30 in the order that the generator gives, and the average of their weights."""
    values = {"weight_steps": 1} | VARIANTS[variant]
    config = AlternatingConfig(batch_size=30, input_factor=input_factor, averaging=0.6, **values)
    trainer = make(config, bias, device=device)
    Y = oracle.array(targets(trainer.source))
    X, W, scales = in_units(trainer)
    trainer.epoch()
    history, updates = [], settings(config, EXACT, bias)
    for rows in torch.randperm(90, generator=torch.Generator().manual_seed(3)).reshape(3, 30).numpy():
        W, _ = oracle.alternating_update(X[rows], Y[rows], W, updates, X if input_factor == "full" else None)
        history.append(W)
    assert trainer.updates == 3
    means = []
    for i in range(3):
        # Three updates of three layers, each with condition numbers of some 100.
        assert oracle.error(trainer.weights[i], W[i]) < ROUNDING
        means.append(oracle.average([weights[i] for weights in history], 0.6))
    back = oracle.in_units(means, [1 / scale for scale in scales], bias)
    for found, expected in zip(trainer.network.weights, back, strict=True):
        assert oracle.error(found, expected) < ROUNDING


@pytest.mark.parametrize("bias", [False, True])
def test_update_returns_the_codes_and_equals_oracle(bias, device):
    config = AlternatingConfig(batch_size=40, weight_steps=2, code_steps=2, input_factor="batch")
    trainer = make(config, bias, device=device)
    X, start, _ = in_units(trainer)
    source, Y = trainer.source, oracle.array(targets(trainer.source)[:40])
    codes = trainer.update(batch(source.X[:40], source.labels[:40]))
    W, Z = oracle.alternating_update(X[:40], Y, start, settings(config, EXACT, bias))
    for found, expected in zip([*trainer.weights, *codes], [*W, *Z, Y], strict=True):
        assert oracle.error(found, expected) < ROUNDING


@pytest.mark.parametrize("bias", [False, True])
def test_hidden_layers_are_updated_from_the_output_down(bias, put, rng):
    widths = [8, 10, 9, 7, 3]
    start = [rng.standard_normal((a + bias, b)) * a**-0.5 for a, b in pairwise(widths)]
    X, labels = rng.random((90, 8)), rng.integers(0, 3, 90)
    config = AlternatingConfig(90, weight_steps=2, input_factor="batch")
    network = Network([put(W) for W in start], bias)
    trainer = AlternatingTrainer(
        network, Memory(put(X), put(labels, torch.int64)), config, EXACT, torch.Generator().manual_seed(0)
    )
    X, start, _ = in_units(trainer)
    codes = trainer.update(next(trainer.source.passes()))
    W, Z = oracle.alternating_update(X, np.eye(3)[labels], start, settings(config, EXACT, bias))
    for found, expected in zip([*trainer.weights, *codes], [*W, *Z, np.eye(3)[labels]], strict=True):
        assert oracle.error(found, expected) < ROUNDING


@pytest.mark.parametrize("method", ["svd", "eigh"])
@pytest.mark.parametrize("input_factor", ["full", "batch"])
def test_truncated_inputs(input_factor, method, device):
    """δ_x drops two directions of X; the Gram form loses (s₁/s)² ε of what it keeps."""
    X, labels, start = planted(90, False, device, torch.float64)
    X = X @ torch.diag(torch.tensor([9, 5, 3, 1, 1, 0.5, 1e-3, 1e-4], dtype=X.dtype, device=device))
    solver = SolverConfig(method, 5e-3, 1e-6)
    config = AlternatingConfig(batch_size=90, weight_steps=2, input_factor=input_factor)
    trainer = AlternatingTrainer(start, Memory(X, labels), config, solver, torch.Generator().manual_seed(3))
    X, W, _ = in_units(trainer)
    trainer.epoch()
    Y = oracle.array(targets(trainer.source))
    expected, _ = oracle.alternating_update(X, Y, W, settings(config, solver, False), X)
    for found, exact in zip(trainer.weights, expected, strict=True):
        assert oracle.error(found, exact) < ROUNDING


def test_one_full_batch_makes_full_and_batch_factors_equal(device):
    full, batch = (make(AlternatingConfig(90, input_factor=f), device=device) for f in ("full", "batch"))
    full.epoch()
    batch.epoch()
    for a, b in zip(full.weights, batch.weights, strict=True):
        assert oracle.error(a, b) < ROUNDING


def test_a_batch_moves_the_first_layer_by_its_share_of_the_samples(device):
    """With full-data factors the steps of all batches add up to about one full step."""
    X, labels, start = planted(90, False, device, torch.float64)
    twice, labels = torch.cat([X, X]), torch.cat([labels, labels])
    config = AlternatingConfig(90, weight_steps=1)
    trainer = AlternatingTrainer(
        start, Memory(twice, labels), config, EXACT, torch.Generator().manual_seed(0)
    )
    whole = make(AlternatingConfig(90, weight_steps=1), device=device)
    first = trainer.weights[0]
    for each in (trainer, whole):
        each._input_factors = each._factor_all()
        each.update(batch(X, labels[:90]))
    moved, full = trainer.weights[0] - first, whole.weights[0] - first
    assert oracle.error(moved, full / 2) < ROUNDING


@pytest.mark.parametrize("averaging", [0.0, 0.5, 0.9])
def test_average_of_the_weights(averaging):
    trainer = make(AlternatingConfig(30, averaging=averaging))
    history = []
    for _ in range(4):
        for rows in batches(90, 30, torch.Generator().manual_seed(0), torch.device("cpu")):
            trainer.update(trainer.source.take(rows))
            history.append([oracle.array(W) for W in trainer.weights])
    for i, W in enumerate(trainer.average):
        assert oracle.error(W, oracle.average([weights[i] for weights in history], averaging)) < 1e-12
    if averaging == 0:
        assert all(torch.equal(a, w) for a, w in zip(trainer.average, trainer.weights, strict=True))


@pytest.mark.parametrize("bias", [False, True])
def test_epoch_reports_residuals_and_objective(bias, device):
    trainer = make(AlternatingConfig(90, weight_steps=2, omega=0.8), bias, device=device)
    Y = oracle.array(targets(trainer.source))
    X, start, _ = in_units(trainer)
    epoch = trainer.epoch()
    W, Z = oracle.alternating_update(X, Y, start, settings(trainer.config, EXACT, bias), X)
    wanted = [*Z[1:], Y]
    fits = [oracle.hat(z, bias) @ w for z, w in zip(Z, W, strict=True)]
    fits[:-1] = [oracle.relu(V) for V in fits[:-1]]
    expected = [np.linalg.norm(B - V) / np.linalg.norm(B) for B, V in zip(wanted, fits, strict=True)]
    assert epoch.residuals == pytest.approx(expected, rel=ROUNDING)
    assert epoch.learning_rate == 0.8
    assert epoch.seconds > 0
    outputs = trainer.network.outputs(trainer.source.X)
    expected = 0.5 * np.sum((Y - oracle.forward(X, W, bias)[1]) ** 2) / 90
    assert trainer.objective(outputs, trainer.source.labels) == pytest.approx(expected, rel=ROUNDING)


@pytest.mark.parametrize("method", ["svd", "eigh", "cholesky"])
def test_an_epoch_builds_no_graph(method, device, dtype, no_graph):
    solver = SolverConfig(method, 5e-3, 1e-2)
    plain, inference = (make(AlternatingConfig(30), True, solver, device=device, dtype=dtype) for _ in "ab")
    plain.epoch()
    with torch.inference_mode():
        inference.epoch()
    for trainer in (plain, inference):
        for W in [
            *trainer.network.weights,
            *trainer.weights,
            *trainer.update(trainer.source.take(torch.arange(90))),
        ]:
            assert not W.requires_grad
            assert (W.dtype, W.device) == (dtype, trainer.source.X.device)
    for a, b in zip(plain.weights, inference.weights, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("method", ["svd", "eigh", "cholesky"])
def test_narrowing_layers_train_with_default_deltas(method, device, dtype):
    """W₂ is 12 × 6: its rows are dependent, so WWᵀ is singular in every code step."""
    trainer = make(AlternatingConfig(90), True, SolverConfig(method), device=device, dtype=dtype)
    for _ in range(3):
        trainer.epoch()
    assert all(torch.isfinite(W).all() for W in trainer.network.weights)


def test_the_start_is_not_changed(device):
    trainer = make(AlternatingConfig(30), device=device)
    before = [W.clone() for W in trainer.start.weights]
    trainer.epoch()
    assert all(torch.equal(W, old) for W, old in zip(trainer.start.weights, before, strict=True))


def test_weights_that_are_not_finite_are_reported(device, monkeypatch):
    diverging = make(AlternatingConfig(90), device=device)
    for W in diverging.weights:
        W.mul_(torch.inf)  # seen by the next factorization
    with pytest.raises(NmfdnnError, match=r"diverged \(lower omega or raise the ridge\)"):
        diverging.epoch()
    last = make(AlternatingConfig(90), device=device)
    monkeypatch.setattr(alternating, "weight_step", lambda inputs, B, W, *rest: W * torch.nan)
    with pytest.raises(ConfigError, match=r"no longer finite: lower nmf\.omega or raise nmf\.weight_ridge"):
        last.epoch()


def test_network_is_a_copy_of_the_list(device):
    trainer = make(AlternatingConfig(90), device=device)
    network = trainer.network
    assert isinstance(network, Network)
    before = [W.clone() for W in network.weights]
    trainer.epoch()
    assert all(torch.equal(W, old) for W, old in zip(network.weights, before, strict=True))
