"""What all training methods share: batches, learning, states, refusals."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from planted import error_rate, planted

from nmfdnn.errors import ConfigError, DataError
from nmfdnn.network import Dense, NetworkConfig, dense
from nmfdnn.source import Memory, Order, batches
from nmfdnn.training import (
    AlternatingConfig,
    AlternatingTrainer,
    BackpropConfig,
    BackpropTrainer,
    JacobiConfig,
    JacobiTrainer,
    PretrainingConfig,
    SeidelConfig,
    SeidelTrainer,
    SolverConfig,
    Trainer,
    starting_network,
    statistics,
)
from nmfdnn.training.statistics import WhitenedInput

N = 300


def alternate(
    seed: int = 0, epochs: int = 10, device: Any = "cpu", dtype: Any = torch.float64, **values: Any
):
    X, labels, start = planted(N, True, torch.device(device), dtype)
    config = AlternatingConfig(**({"batch_size": 100, "averaging": 0.8, "weight_steps": 2} | values))
    return AlternatingTrainer(
        start, Memory(X, labels), config, SolverConfig(), torch.Generator().manual_seed(seed)
    )


def backpropagate(
    seed: int = 0, epochs: int = 10, device: Any = "cpu", dtype: Any = torch.float64, **values: Any
):
    X, labels, start = planted(N, True, torch.device(device), dtype)
    config = BackpropConfig(**({"batch_size": 100, "dropout": 0.1, "learning_rate": 0.02} | values))
    return BackpropTrainer(start, Memory(X, labels), config, epochs, torch.Generator().manual_seed(seed))


RELAXED = {"batch_size": 100, "averaging": 0.8, "output_omega": 0.1, "ridge": 0.1, "input_ridge": 1.0}


def jacobi(seed: int = 0, epochs: int = 10, device: Any = "cpu", dtype: Any = torch.float64, **values: Any):
    X, labels, start = planted(N, True, torch.device(device), dtype)
    g = torch.Generator().manual_seed(seed)
    return JacobiTrainer(start, Memory(X, labels), JacobiConfig(**(RELAXED | values)), epochs, g)


def seidel(seed: int = 0, epochs: int = 10, device: Any = "cpu", dtype: Any = torch.float64, **values: Any):
    X, labels, start = planted(N, True, torch.device(device), dtype)
    g = torch.Generator().manual_seed(seed)
    return SeidelTrainer(start, Memory(X, labels), SeidelConfig(**(RELAXED | values)), epochs, g)


MAKERS = [alternate, jacobi, seidel, backpropagate]


@pytest.mark.parametrize(
    ("n", "size"), [(100, 100), (100, 30), (101, 10), (7, 3), (5, 1), (60000, 5000), (10, 9)]
)
def test_batches_cover_every_sample_once(n, size, device):
    found = list(batches(n, size, torch.Generator().manual_seed(0), device))
    lengths = [len(rows) for rows in found]
    assert torch.equal(torch.cat(found).sort().values.cpu(), torch.arange(n))
    assert len(found) == math.ceil(n / size)
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    assert found[0].device.type == device.type


def test_batches_are_shuffled_by_the_generator(device):
    g = torch.Generator().manual_seed(0)
    first, second = torch.cat(list(batches(100, 30, g, device))), torch.cat(list(batches(100, 30, g, device)))
    again = torch.cat(list(batches(100, 30, torch.Generator().manual_seed(0), device)))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first.cpu(), torch.arange(100))


def test_one_seed_gives_all_methods_the_same_batches(monkeypatch):
    seen: list[list[list[int]]] = []

    def recording(order: Order) -> Any:
        found = list(part(order))
        seen[-1] += [batch.X.tolist() for batch in found]
        return iter(found)

    part = Order.part
    monkeypatch.setattr(Order, "part", recording)
    for make in MAKERS:
        seen.append([])
        trainer = make(seed=5)
        trainer.epoch()
        trainer.epoch()
    assert len(seen[0]) == 6
    assert all(found == seen[0] for found in seen)


@pytest.mark.parametrize("make", MAKERS)
def test_training_learns_a_planted_problem(make, device, dtype):
    trainer: Trainer = make(
        epochs=25, device=device, dtype=dtype, **({"dropout": 0.0} if make is backpropagate else {})
    )
    before = error_rate(trainer.network, trainer.source.X, trainer.source.labels)
    start = trainer.objective(trainer.network.outputs(trainer.source.X), trainer.source.labels)
    for _ in range(25):
        trainer.epoch()
    assert error_rate(trainer.network, trainer.source.X, trainer.source.labels) < 0.3 * before
    assert trainer.objective(trainer.network.outputs(trainer.source.X), trainer.source.labels) < 0.5 * start


@pytest.mark.parametrize("make", MAKERS)
def test_same_seed_same_weights(make, device):
    def train(seed: int) -> list[torch.Tensor]:
        trainer = make(seed, device=device)
        trainer.epoch()
        return trainer.network.weights

    first, again, other = train(0), train(0), train(1)
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def same(a: Any, b: Any) -> bool:
    """Equality of nested states, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.mark.parametrize(
    ("make", "values"),
    [
        *((make, {}) for make in MAKERS),
        (alternate, {"input_factor": "batch"}),
        (jacobi, {"gram_every": 2}),
        (seidel, {"gram_every": 2}),
        (backpropagate, {"optimizer": "sgd"}),
    ],
)
def test_a_loaded_state_continues_bit_for_bit(make, values, device, dtype):
    trainer = make(seed=0, device=device, dtype=dtype, **values)
    for _ in range(2):
        trainer.epoch()
    state = through_a_file(trainer.state())
    resumed = make(seed=99, device=device, dtype=dtype, **values)
    resumed.epoch()
    resumed.load_state(state)
    assert same(resumed.state(), trainer.state())
    for _ in range(2):
        assert resumed.epoch().learning_rate == trainer.epoch().learning_rate
    assert same(resumed.state(), trainer.state())
    for a, b in zip(resumed.network.weights, trainer.network.weights, strict=True):
        assert torch.equal(a, b)
        assert (a.dtype, a.device, a.requires_grad) == (dtype, trainer.source.X.device, False)


@pytest.mark.parametrize("make", MAKERS)
def test_parts_make_up_an_epoch_and_continue_bit_for_bit(make, device):
    """Three batches in two parts: one, then two."""
    whole, parted, resumed = make(device=device), make(device=device), make(seed=99, device=device)
    for trainer in (parted, resumed):
        trainer.order.parts = 2
    for _ in range(2):
        whole.epoch()
    for _ in range(3):
        parted.epoch()
    resumed.load_state(through_a_file(parted.state()))
    for trainer in (parted, resumed):
        trainer.epoch()
        for a, b in zip(trainer.network.weights, whole.network.weights, strict=True):
            assert torch.equal(a, b)


def test_parts_are_at_most_the_batches_and_do_not_change_in_the_middle_of_an_epoch(device):
    def order(parts):
        source = Memory(torch.zeros(10, 2, device=device), torch.zeros(10, dtype=torch.int64, device=device))
        return Order(source, 3, torch.Generator().manual_seed(1), parts)

    assert order(9).parts == 4
    first = order(2)
    assert sum(batch.samples for _ in range(2) for batch in first.part()) == 10
    order(4).load_state(first.state())
    first.part()
    with pytest.raises(ConfigError, match="records_per_epoch must be 2 as before, in the middle of an epoch"):
        order(4).load_state(first.state())


@pytest.mark.parametrize("make", MAKERS)
def test_a_state_does_not_change_when_training_goes_on(make, device):
    trainer = make(device=device)
    trainer.epoch()
    state = trainer.state()
    before = copy.deepcopy(state)
    trainer.epoch()
    assert same(state, before)


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (alternate, "nmf.batch_size"),
        (jacobi, "jacobi.batch_size"),
        (seidel, "seidel.batch_size"),
        (backpropagate, "bp.batch_size"),
    ],
)
def test_batch_larger_than_the_data(make: Callable[..., Trainer], key):
    with pytest.raises(ConfigError, match=f"{key} must be at most the {N} training samples, got {N + 1}"):
        make(batch_size=N + 1)


@pytest.mark.parametrize("begin", ["he", "pretrained"])
@pytest.mark.parametrize(
    ("method", "unit"),
    [
        *((method, unit) for method in ("nmf", "jacobi", "seidel") for unit in (1e-20, 1e-4, 3.0, 1e20)),
        *(("bp", 4.0**power) for power in (-33, -7, 1, 33)),  # between these, as for another rate
    ],
)
def test_the_unit_of_the_data_does_not_change_what_is_learned(method, begin, unit, device, dtype):
    X, labels, _ = planted(N, True, device, dtype)
    network = NetworkConfig([12, 6], True, begin)
    solver = SolverConfig(hidden_delta=1e-3)
    outputs = []
    for inputs in (X, X * unit):
        g = torch.Generator().manual_seed(0)
        pretraining = PretrainingConfig(None, 2, 3, 3)
        source = Memory(inputs, labels)
        start = starting_network(source, dense(8, 12, 6, 3), network, pretraining, solver, g).network
        trainer: Trainer
        if method == "jacobi":
            trainer = JacobiTrainer(start, source, JacobiConfig(100), 2, g)
        elif method == "seidel":
            trainer = SeidelTrainer(start, source, SeidelConfig(100), 2, g)
        elif method == "bp":
            trainer = BackpropTrainer(start, source, BackpropConfig(100, dropout=0.2), 2, g)
        else:
            config = AlternatingConfig(100, weight_steps=2, weight_ridge=1e-2, code_ridge=1e-2)
            trainer = AlternatingTrainer(start, source, config, solver, g)
        trainer.epoch()
        outputs.append(trainer.network.outputs(inputs))
    change = float((outputs[0] - outputs[1]).norm() / outputs[0].norm())
    assert change < (1e-2 if dtype == torch.float32 else 1e-7)


@pytest.mark.parametrize("unit", [1.0, 1024.0])
def test_features_far_from_zero_are_centred_before_they_are_squared(unit, device):
    """A spread of one around 131,072 is exact in single precision; its square has no room for it."""
    X = (planted(N, True, device, torch.float32)[0] * 64).round() / 64
    labels = torch.zeros(N, dtype=torch.int64, device=device)
    plain, far = (
        WhitenedInput(
            Memory(inputs, labels), Dense(8, 3), unit, True, damping=0.5, ridge=0.3, delta=2e-2
        ).whiten(inputs)
        for inputs in (X, X + 2**17)
    )
    torch.testing.assert_close(far.abs(), plain.abs(), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("make", [alternate, jacobi, seidel])
def test_batches_of_one_sample_train(make, dtype):
    trainer = make(dtype=dtype, batch_size=1)
    trainer.epoch()
    assert all(torch.isfinite(W).all() for W in trainer.network.weights)


def test_constant_inputs_are_named():
    trainer = jacobi()
    trainer.source.X.fill_(1)
    with pytest.raises(DataError, match="every feature of the training inputs X is constant"):
        trainer.epoch()


@pytest.mark.parametrize("make", [jacobi, seidel])
def test_statistics_that_cannot_be_inverted_name_keys_of_the_method(make, monkeypatch):
    """What cannot be factored gives NaN, which reaches the weights."""
    trainer = make()
    monkeypatch.setattr(statistics, "cholesky", lambda G, damping: G * torch.nan)
    with pytest.raises(ConfigError, match=rf"lower {make.__name__}\.omega") as caught:
        trainer.epoch()
    assert "solver" not in str(caught.value)
