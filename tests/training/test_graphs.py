"""Recorded updates: they keep their state in place and equal those that are called as they stand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from planted import planted
from torch import Tensor

from nmfdnn.source import Memory
from nmfdnn.training import JacobiConfig, JacobiTrainer, SeidelConfig, SeidelTrainer, graphs

FORMS = {"jacobi": (JacobiTrainer, JacobiConfig), "seidel": (SeidelTrainer, SeidelConfig)}
BOTH = pytest.mark.parametrize("form", FORMS)


def trainer(form: str, device: torch.device | str = "cpu", n: int = 91, weighted: bool = False) -> Any:
    X, labels, start = planted(n, True, torch.device(device), torch.float64)
    weights = torch.rand(n, 1, generator=torch.Generator().manual_seed(1)).to(X) if weighted else None
    source = Memory(X, labels, weights=weights)
    kind, config = FORMS[form]
    return kind(start, source, config(30), 20, torch.Generator().manual_seed(3))


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in nested containers and objects of this package."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)
    elif type(value).__module__.startswith("nmfdnn.training"):
        yield from tensors(list(vars(value).values()))


def state(of: Any) -> list[int]:
    return [T.data_ptr() for T in tensors([of, *of.metrics])]


@BOTH
def test_updates_keep_their_state_in_place(form, device):
    """Those with new statistics too: a recording goes on reading the same memory."""
    found = trainer(form, device)
    found.epoch()
    before = state(found)
    assert len(before) > 30
    for _ in range(4):
        found.epoch()
        assert state(found) == before


def replaying(calls: list[tuple[int, ...]]) -> Any:
    """A stand-in for CUDA's graphs: a replay runs the function on the tensors that were recorded."""

    def record(function: Any, inputs: list[Tensor]) -> graphs.Recording:
        result = torch.zeros(3, dtype=inputs[0].dtype)

        def replay() -> None:
            calls.append(tuple(len(T) for T in inputs if T.ndim))
            result.copy_(function(*inputs))

        return graphs.Recording(inputs, replay, result)

    return record


@BOTH
def test_replayed_updates_equal_plain_ones(form, monkeypatch):
    """91 samples in batches of 22 and 23: a recording for each size."""
    plain, replayed = trainer(form), trainer(form)
    calls: list[tuple[int, ...]] = []
    epochs = [plain.epoch() for _ in range(12)]
    monkeypatch.setattr(graphs, "recordable", lambda device: True)
    monkeypatch.setattr(graphs, "record", replaying(calls))
    for epoch in epochs:
        assert replayed.epoch().residuals == epoch.residuals
    for a, b in zip(plain.network.weights, replayed.network.weights, strict=True):
        assert torch.equal(a, b)
    assert set(calls) == {(22, 22), (23, 23)}
    assert 20 < len(calls) < 40
    # A state that is loaded replaces the tensors, and so the recordings.
    replayed.load_state(plain.state())
    assert replayed.epoch().residuals == plain.epoch().residuals


@BOTH
def test_replayed_updates_see_the_weights_of_their_batch(form, monkeypatch):
    plain, replayed = trainer(form, weighted=True), trainer(form, weighted=True)
    calls: list[tuple[int, ...]] = []
    for _ in range(12):
        plain.epoch()
    monkeypatch.setattr(graphs, "recordable", lambda device: True)
    monkeypatch.setattr(graphs, "record", replaying(calls))
    for _ in range(12):
        replayed.epoch()
    assert calls
    for a, b in zip(plain.network.weights, replayed.network.weights, strict=True):
        assert torch.equal(a, b)


def test_what_cannot_be_recorded_runs_as_it_stands(monkeypatch):
    def fail(*_: Any) -> graphs.Recording:
        raise RuntimeError("operation not permitted when stream is capturing")

    plain, tried = trainer("jacobi"), trainer("jacobi")
    monkeypatch.setattr(graphs, "record", fail)
    monkeypatch.setattr(graphs, "recordable", lambda device: device == torch.device("cpu"))
    several = [tried.epoch for _ in range(5)]
    with pytest.warns(RuntimeWarning, match="could not be recorded as a CUDA graph .* kernel by kernel"):
        [epoch() for epoch in several]
    monkeypatch.setattr(graphs, "recordable", lambda device: False)
    for _ in range(5):
        plain.epoch()
    for a, b in zip(plain.network.weights, tried.network.weights, strict=True):
        assert torch.equal(a, b)
