"""Jacobi and Gauss–Seidel form against NumPy, in the inputs' own basis, and where the two agree.

Statistics, scale, invariances, depth, failure.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import ClassVar

import numpy as np
import oracle
import pytest
import torch
from planted import error_rate, planted, targets
from sklearn.datasets import load_digits

from nmfdnn.errors import ConfigError, DataError, NmfdnnError
from nmfdnn.network import Network, dense, random_weights
from nmfdnn.source import Memory
from nmfdnn.targets import Classes
from nmfdnn.training import JacobiConfig, JacobiTrainer, SeidelConfig, SeidelTrainer, statistics
from nmfdnn.training.statistics import damped_code_inverse

TRAINERS = {JacobiConfig: JacobiTrainer, SeidelConfig: SeidelTrainer}
REFERENCES = {JacobiConfig: oracle.Jacobi, SeidelConfig: oracle.Seidel}
BOTH = pytest.mark.parametrize("form", TRAINERS, ids=lambda form: form.name)


def make(config, bias=True, n=90, device="cpu", dtype=torch.float64, epochs=2, seed=3):
    X, labels, start = planted(n, bias, torch.device(device), dtype)
    g = torch.Generator().manual_seed(seed)
    return TRAINERS[type(config)](start, Memory(X, labels), config, epochs, g)


@BOTH
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("size", [30, 9], ids=["more samples than units", "fewer"])
def test_epochs_equal_the_equations(form, bias, every, size, device):
    """Two epochs: whitened inputs, running statistics, searches, ridges, decay and averaging all enter."""
    count = 90 // size
    config = form(size, gram_every=every, averaging=0.6, gram_memory=0.7, input_delta=0.0)
    trainer = make(config, bias, device=device)
    X, Y = oracle.array(trainer.source.X), oracle.array(targets(trainer.source))
    start = [oracle.array(W) for W in trainer.start.weights]
    reference = REFERENCES[form](X, start, config, bias, total=2 * count)
    order = torch.Generator().manual_seed(3)
    for _ in range(2):
        trainer.epoch()
        for rows in torch.randperm(90, generator=order).reshape(count, size).numpy():
            reference.update(X[rows], Y[rows])
    for i, W in enumerate(trainer.network.weights):
        mean = oracle.average([weights[i] for weights in reference.history], 0.6)
        assert oracle.error(W, mean) < 1e-8


def one_update(form, hidden, device, **values):
    """Weights after one update of all 90 samples by a net with these hidden layers."""
    X, labels, _ = planted(90, True, torch.device(device), torch.float64)
    g = torch.Generator().manual_seed(5)
    start = Network(random_weights(dense(8, *hidden, 3), True, "he", g, like=X), True)
    trainer = TRAINERS[form](start, Memory(X, labels), form(90, **values), 9, g)
    trainer.epoch()
    return trainer.network.weights


def test_both_forms_agree_where_no_layer_is_below_one_that_moved(device):
    """One weight layer: all of it. Two: the output; and all of it if the output's weights stay."""
    for hidden, output_omega, same in (([], 0.3, 1), ([12], 0.3, 1), ([12], 1e-14, 2)):
        first, second = (one_update(form, hidden, device, output_omega=output_omega) for form in TRAINERS)
        errors = [oracle.error(a, b) for a, b in zip(first, second, strict=True)][::-1]
        assert all(error < 1e-10 for error in errors[:same])
        assert all(error > 1e-3 for error in errors[same:])


def test_the_effective_dimension_is_the_sum_of_the_leverages(device):
    """For a batch's own covariance: so k̂/n is by how much a sample, on average, changes its own outputs."""
    trainer = make(SeidelConfig(90, gram_memory=0.0), device=device)
    trainer._prepare()
    batch = next(iter(trainer.order.part()))
    codes = trainer._forward(trainer._input.whiten(batch.X))[0]
    trainer.update(batch)
    for Z, metric in zip(codes[1:], trainer.code_metrics, strict=True):
        A = Z - metric.mean
        assert float(((A @ metric.inverse) * A).sum()) / 90 == pytest.approx(float(metric.dimension))


class Rash(SeidelTrainer):
    """Takes steps that are ten thousand times too long, as with statistics of far smaller codes."""

    seen: ClassVar[list[float]] = []

    def _weight_step(self, found, i, C, r):
        step, bias_step = super()._weight_step(found, i, C, r)
        return (step, bias_step) if i == 0 else (1e4 * step, 1e4 * bias_step)

    def _corrected(self, found, i, R, step, bias_step):
        before = self.weights[i].clone(), self.biases[i].clone()
        left = super()._corrected(found, i, R, step, bias_step)
        W, b = self.weights[i] - before[0], self.biases[i] - before[1]
        P = self._felt(found, i, self.layers[i].product(found.codes[i], W, b))
        self.seen.append(float((R - P).norm() / R.norm()))
        return left


def test_no_step_of_weights_overshoots(device):
    X, labels, start = planted(90, True, device, torch.float64)
    trainer = Rash(start, Memory(X, labels), SeidelConfig(90), 3, torch.Generator().manual_seed(3))
    for _ in range(3):
        trainer.epoch()
    assert len(trainer.seen) == 6
    assert max(trainer.seen) < 1


@BOTH
@pytest.mark.parametrize("bias", [False, True])
def test_whitening_leaves_the_network_as_it_is(form, bias, device, dtype):
    trainer = make(form(30), bias, device=device, dtype=dtype)
    trainer._prepare()
    for found, start in zip(trainer.network.weights, trainer.start.weights, strict=True):
        assert oracle.error(found, start) < (1e-3 if dtype == torch.float32 else 1e-9)


def test_left_out_directions_keep_the_rest_and_are_not_used(device):
    """A direction of X far below δ_x s₁ has no weight in the network that comes out."""
    X, labels, start = planted(90, True, device, torch.float64)
    X = torch.cat(
        [X, X[:, :1] + 1e-9 * torch.randn(90, 1, generator=torch.Generator().manual_seed(0)).to(X)], 1
    )
    weights = [torch.cat([start.weights[0][:-1], start.weights[0][:1], start.weights[0][-1:]])]
    start = Network([*weights, *start.weights[1:]], True)
    config = JacobiConfig(30, input_delta=1e-6)
    trainer = JacobiTrainer(start, Memory(X, labels), config, 2, torch.Generator().manual_seed(3))
    trainer.epoch()
    W = trainer.network.weights[0]
    assert oracle.error(W[0], W[8]) < 1e-6
    assert torch.isfinite(W).all()


def test_the_unit_of_the_inputs_does_not_matter(device):
    """X and 1000 X give the same predictions: damping and ridge are relative."""
    X, labels, start = planted(90, True, device, torch.float64)
    larger = Network([start.weights[0].clone(), *start.weights[1:]], True)
    larger.weights[0][:-1] /= 1000
    outputs = []
    for inputs, network in ((X, start), (1000 * X, larger)):
        config, order = JacobiConfig(30, input_delta=0.0), torch.Generator().manual_seed(0)
        trainer = JacobiTrainer(network, Memory(inputs, labels), config, 2, order)
        trainer.epoch()
        outputs.append(trainer.network.outputs(inputs))
    assert oracle.error(outputs[1], outputs[0]) < 1e-6


def test_the_inverse_of_orthogonal_weights_is_their_scaled_transpose(put, rng):
    Q, _ = np.linalg.qr(rng.standard_normal((9, 4)))
    for damping in (1e-3, 1.0, 10.0):
        assert oracle.error(damped_code_inverse(put(3 * Q), damping), Q.T / 3 / (1 + damping)) < 1e-10


def test_latent_residuals_leave_an_output_below_zero_alone_where_its_target_is_zero(put):
    Y, V = put(np.array([[1.0, 0, 0, 1]])), put(np.array([[-0.5, -2, 0.25, 3]]))
    assert Classes().residual(Y, V).tolist() == [[1.5, 0, -0.25, -2]]


@BOTH
@pytest.mark.parametrize("hidden", [[12], [12, 8], [24] * 5])
def test_every_depth_learns(form, hidden, device):
    X, labels, _ = planted(300, True, device, torch.float64)
    g = torch.Generator().manual_seed(5)
    start = Network(random_weights(dense(8, *hidden, 3), True, "he", g, like=X), True)
    trainer = TRAINERS[form](start, Memory(X, labels), form(50), 20, g)
    before = error_rate(start, X, labels)
    for _ in range(20):
        trainer.epoch()
    assert error_rate(trainer.network, X, labels) < 0.4 * before


@BOTH
@pytest.mark.parametrize(
    "extreme",
    [
        {},
        {"batch_size": 30, "omega": 30.0},
        {"batch_size": 30, "omega": 30.0, "damping": 0.01},
        {"input_ridge": 20.0},
        {"ridge": 5.0},
        {"batch_size": 600},
    ],
    ids=str,
)
@pytest.mark.parametrize("hidden", [[100, 50], [400, 200]], ids=["narrow", "wide"])
def test_settings_far_from_the_defaults_learn(form, hidden, extreme, device):
    """Digits, a random output, twenty epochs: nothing diverges, be the net wider than the batch or not."""
    bunch = load_digits()
    X = torch.from_numpy(bunch.data[:600] / 16).to(device, torch.float32)
    labels = torch.from_numpy(bunch.target[:600]).to(device)
    g = torch.Generator().manual_seed(1)
    start = Network(random_weights(dense(64, *hidden, 10), True, "he", g, like=X), True)
    trainer = TRAINERS[form](start, Memory(X, labels), form(**{"batch_size": 100} | extreme), 20, g)
    for _ in range(20):
        trainer.epoch()
    assert error_rate(trainer.network, X, labels) < 0.15


@BOTH
def test_weights_that_overflow_say_what_to_change(form):
    trainer = make(form(30), dtype=torch.float32)
    for W in trainer.start.weights:
        W.mul_(1e25)
    with pytest.raises(NmfdnnError, match=rf"lower {form.name}\.omega"):
        trainer.epoch()


@pytest.mark.parametrize(("value", "row"), [(math.nan, 0), (math.nan, 7), (math.inf, 0), (-math.inf, 7)])
def test_inputs_that_are_not_finite_are_named(value, row, monkeypatch):
    """Whether the row is among those from which the covariance is taken or not (7)."""
    monkeypatch.setattr(statistics, "INPUT_ROWS", 45)
    trainer = make(JacobiConfig(30), dtype=torch.float32)
    trainer.source.X[row, 2] = value
    with pytest.raises(DataError, match="the inputs X hold NaN or infinity"):
        trainer.epoch()


@BOTH
def test_the_batch_must_fit_the_data(form):
    with pytest.raises(
        ConfigError, match=rf"{form.name}\.batch_size must be at most the 90 training samples, got 91"
    ):
        make(form(91))


def test_shapes_form_a_network_after_training(device):
    trainer = make(JacobiConfig(30), device=device)
    trainer.epoch()
    assert [tuple(W.shape) for W in trainer.network.weights] == [
        (a + 1, b) for a, b in pairwise([8, 12, 6, 3])
    ]
