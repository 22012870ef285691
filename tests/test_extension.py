"""What CONTRIBUTING promises: a kind of layer, a training method and a source of rows are one class each."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pictures import digits
from runs import TINY, configured
from torch import Tensor

from nmfdnn.errors import require
from nmfdnn.factorization import augmented
from nmfdnn.linalg import factor
from nmfdnn.model import load as load_model
from nmfdnn.network import (
    Dense,
    Layer,
    Network,
    dense,
    from_state,
    one_hot,
    random_weights,
)
from nmfdnn.records import read_metrics, read_summary
from nmfdnn.runs.config import Config
from nmfdnn.runs.experiment import run
from nmfdnn.source import Batch, Memory, Order, Source
from nmfdnn.targets import CLASSES, Targets
from nmfdnn.training import (
    METHODS,
    AlternatingConfig,
    AlternatingTrainer,
    BackpropConfig,
    BackpropTrainer,
    Epoch,
    JacobiConfig,
    JacobiTrainer,
    Method,
    PretrainingConfig,
    SeidelConfig,
    SeidelTrainer,
    SolverConfig,
    Trainer,
    pretrain,
)


@dataclass(frozen=True)
class Ring(Layer):
    """Windows of `fan_in` neighbours of `inputs` numbers in a circle, at every place."""

    inputs: int
    fan_in: int
    units: int

    @property
    def positions(self) -> int:  # type: ignore[override]
        return self.inputs

    def rows(self, Z: Tensor) -> Tensor:
        return torch.cat([Z, Z[:, : self.fan_in - 1]], dim=1).unfold(1, self.fan_in, 1).flatten(0, 1)

    def fold(self, A: Tensor) -> Tensor:
        windows = A.view(-1, self.positions, self.fan_in)
        places = (windows[:, :, shift].roll(shift, dims=1) for shift in range(self.fan_in))
        return torch.stack([*places]).mean(dim=0)


def alternating(start: Network, source: Source) -> Trainer:
    solver = SolverConfig("svd", 1e-3, 1e-3)
    return AlternatingTrainer(start, source, AlternatingConfig(100), solver, torch.Generator())


def jacobi(start: Network, source: Source) -> Trainer:
    return JacobiTrainer(start, source, JacobiConfig(50), 10, torch.Generator())


def seidel(start: Network, source: Source) -> Trainer:
    return SeidelTrainer(start, source, SeidelConfig(50), 10, torch.Generator())


def backprop(start: Network, source: Source) -> Trainer:
    return BackpropTrainer(start, source, BackpropConfig(50, learning_rate=1e-2), 10, torch.Generator())


MAKERS = [alternating, jacobi, seidel, backprop]


def signals(n: int) -> tuple[Tensor, Tensor]:
    """Circles of 16 numbers with one of three bumps anywhere, and which it is."""
    g = torch.Generator().manual_seed(0)
    bumps = torch.tensor([[1.0, 1, 1, 1, 1], [1, 0, 1, 0, 1], [0, 0, 1, 0, 0]])
    labels = torch.randint(3, (n,), generator=g)
    X = torch.cat([bumps[labels], torch.zeros(n, 11)], dim=1) + 0.1 * torch.rand(n, 16, generator=g)
    places = torch.randint(16, (n, 1), generator=g)
    return X.gather(1, (torch.arange(16) + places) % 16), labels


def wrong(trainer: Trainer, X: Tensor, labels: Tensor) -> float:
    return float((trainer.network.predict(X) != labels).double().mean())


def test_a_kind_of_layer_is_one_class_of_two_functions():
    assert len(inspect.getsource(Ring).splitlines()) < 60
    assert vars(Ring).keys() & {"product", "cross", "back", "moved"} == set()
    layer, Z = Ring(16, 5, 4), signals(3)[0]
    assert from_state(layer.state()) == layer
    torch.testing.assert_close(layer.fold(layer.rows(Z)), Z)


@pytest.mark.parametrize("start", ["he", "pretrained"])
@pytest.mark.parametrize("make", MAKERS)
def test_a_new_kind_of_layer_is_trained_by_every_method(make: Callable[..., Trainer], start):
    X, labels = signals(400)
    source, g = Memory(X, labels), torch.Generator().manual_seed(1)
    layers = (Ring(16, 5, 6), Dense(96, 12), Dense(12, 3))
    weights = random_weights(layers, True, "he", g, X)
    if start == "pretrained":
        found = pretrain(source, layers[:-1], True, PretrainingConfig(300, 3, 5, 5), SolverConfig(), g)
        weights[:-1] = [layer.W for layer in found]
    trainer = make(Network(weights, True, layers), source)
    for _ in range(10):
        trainer.epoch()
    assert wrong(trainer, *signals(400)) < 0.1


CPU = torch.device("cpu")


@dataclass(eq=False)
class Computed:
    """Rows that are nowhere: each is computed when it is asked for, some at a time in passes."""

    labels: Tensor
    compute: Callable[[Tensor], Tensor]
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32
    targets: Targets = CLASSES
    weights: Tensor | None = None
    block: int = 1
    window: int = 1

    @property
    def features(self) -> int:
        return self.compute(torch.arange(1)).shape[1]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> Batch:
        return Batch(self.compute(rows), self.labels[rows], len(rows))

    def batches(self, order: Sequence[Tensor]) -> Iterator[Batch]:
        return map(self.take, order)

    def passes(self) -> Iterator[Batch]:
        return self.batches(torch.arange(len(self)).split(70))

    def epoch(self, generator: torch.Generator) -> Source:
        return self

    def sample(self, count: int) -> Tensor:
        return torch.arange(min(count, len(self)))


@pytest.mark.parametrize("make", MAKERS)
def test_a_new_source_trains_with_every_method_as_memory_does(make: Callable[..., Trainer]):
    X, labels = digits(600, CPU)
    start = Network(random_weights(dense(64, 30, 10), True, "he", torch.Generator().manual_seed(1), X), True)
    found = []
    for source in (Memory(X, labels), Computed(labels, lambda rows: X[rows])):
        trainer = make(start, source)
        for _ in range(6):
            trainer.epoch()
        found.append(trainer.network.weights)
        assert wrong(trainer, X, labels) < 0.1
    for in_memory, computed in zip(*found, strict=True):
        torch.testing.assert_close(computed, in_memory, rtol=1e-3, atol=1e-4)


@dataclass
class ReadoutConfig:
    """The output alone, by least squares over all batches so far."""

    batch_size: int = 50
    delta: float = 1e-3

    def __post_init__(self) -> None:
        require(0 <= self.delta < 1, "readout.delta", "in [0, 1)", self.delta)


class ReadoutTrainer:
    def __init__(self, start: Network, source: Source, config: ReadoutConfig, generator: torch.Generator):
        self.start, self.config = start, config
        self.order = Order(source, config.batch_size, generator)
        k, m = start.weights[-1].shape
        self.squares, self.products = (start.weights[-1].new_zeros(k, columns) for columns in (k, m))

    @property
    def network(self) -> Network:
        if not self.squares.any():
            return self.start
        W = factor(self.squares, "svd", self.config.delta).solve(self.products)
        return Network([*self.start.weights[:-1], W], self.start.bias, self.start.layers)

    def epoch(self) -> Epoch:
        for batch in self.order.part():
            layer = self.start.layers[-1]
            A = augmented(layer.rows(self.start.codes(batch.X)[-1]), self.start.bias)
            self.squares += A.T @ A
            self.products += A.T @ one_hot(batch.labels, layer.units, A.dtype)
        return Epoch(seconds=0.0, learning_rate=1.0)

    def objective(self, outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
        return float((one_hot(labels, outputs.shape[1], outputs.dtype) - outputs).square().mean())

    def state(self) -> dict[str, Any]:
        sums = {"squares": self.squares.clone(), "products": self.products.clone()}
        return {**sums, "order": self.order.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.squares, self.products = state["squares"].clone(), state["products"].clone()
        self.order.load_state(state["order"])


@dataclass
class WithReadout(Config):
    readout: ReadoutConfig = field(default_factory=ReadoutConfig)


@pytest.fixture
def method(monkeypatch: pytest.MonkeyPatch) -> Method:
    found = Method(
        lambda config, start, source, order: ReadoutTrainer(start, source, config.readout, order),
        slower="raise readout.delta",
        copies=2,
    )
    monkeypatch.setitem(METHODS, "readout", found)
    return found


def with_readout(config: Config, **values: Any) -> WithReadout:
    return WithReadout(**{**vars(config), "method": "readout", **values})


def test_a_new_method_is_one_class_and_one_entry(tmp_path: Path, method):
    """Records, checkpoints, summary and resuming are there for it as for every other."""
    before = configured(*TINY, "network.start=he", "network.output_start=random")
    config = with_readout(before, epochs=3)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    summary = run(config, whole)
    records = read_metrics(whole)
    assert [record["epoch"] for record in records] == [0, 1, 2, 3]
    assert summary["method"] == read_summary(whole)["method"] == "readout"
    assert records[-1]["train_error"] < 0.8 * records[0]["train_error"]
    run(replace(config, epochs=2), parts)
    run(replace(config, resume=True), parts)
    for first, second in zip(records, read_metrics(parts), strict=True):
        assert {**first, "train_seconds": 0} == {**second, "train_seconds": 0}
    assert {path.name for path in whole.iterdir()} == {path.name for path in parts.iterdir()}
    weights = [load_model(folder).network.weights for folder in (whole, parts)]
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_a_new_method_has_its_batches_fitted(method):
    config = with_readout(configured(*TINY), readout=ReadoutConfig(10**6))
    assert config.fit_batches(77, []).readout.batch_size == 77
    assert math.isclose(config.flat()["readout.delta"], 1e-3)
