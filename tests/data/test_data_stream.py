"""Samples that stay in files: every batch is what memory would give, whatever is read when and by whom."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
import torch
from data_files import load, save_folder, values

from nmfdnn import parallel
from nmfdnn.data import Arrays, stream
from nmfdnn.errors import DataError
from nmfdnn.source import Memory, Order, blockwise

N, P = 5000, 4
X = np.random.default_rng(0).standard_normal((N, P)).astype(np.float32)
Y = np.sort(np.arange(N) % 5)
ROW = 4 * P


@pytest.fixture(autouse=True)
def few_blocks(monkeypatch):
    monkeypatch.setattr(stream, "BLOCKS", 16)
    monkeypatch.setattr(stream, "AT_ONCE", 5 * 8 * ROW)


@pytest.fixture
def source(tmp_path):
    """The samples of a training part, in blocks of 8 and windows of 128."""
    path = save_folder(tmp_path / "mine", [700, 701, 3000], X=X, y=Y)
    made = load(Arrays(path=str(path), memory_gb=2 * 128 * ROW / 1e9, standardize="standard")).train
    assert (made.block, made.window) == (8, 128)
    return made


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def in_memory(source):
    """The same samples and labels, taken into memory."""
    return Memory(values(source), source.labels)


def same(ours, theirs):
    assert torch.equal(ours.X, theirs.X)
    assert torch.equal(ours.labels, theirs.labels)
    assert ours.samples == theirs.samples
    assert ours.mine is theirs.mine is None or torch.equal(ours.mine, theirs.mine)


def epoch(order):
    return [batch for _ in range(order.parts) for batch in order.part()]


def readers():
    return [thread for thread in threading.enumerate() if thread.daemon and "run" in thread.name]


def test_a_pass_has_every_sample_once_in_order(source):
    parts = list(source.passes())
    assert max(len(part.X) for part in parts) <= 128
    assert torch.equal(torch.cat([part.labels for part in parts]), source.labels)
    raw = torch.cat([part.X for part in parts])
    assert torch.equal(raw, source.preprocessing.apply(X[source.rows]))


@pytest.mark.parametrize("rows", [[], [0], [3, 3, 0, 2999], list(range(50, 20, -1))], ids=str)
def test_any_samples_in_any_order(source, rows):
    rows = torch.tensor(rows, dtype=torch.int64)
    same(source.take(rows), in_memory(source).take(rows))


ORDERS = {
    "blockwise": lambda n: blockwise(n, 8, 128, generator()).tensor_split(41),
    "small batches": lambda n: blockwise(n, 8, 128, generator()).split(3),
    "batches of several windows": lambda n: blockwise(n, 8, 128, generator()).split(500),
    "in order": lambda n: torch.arange(n).split(100),
    "backwards": lambda n: torch.arange(n).flip(0).split(100),
    "at random": lambda n: torch.randperm(n, generator=generator()).split(100),
    "again and again": lambda n: [torch.arange(20)] * 7,
    "spread": lambda n: [torch.arange(0, n, 7)],
    "empty ones between": lambda n: [torch.arange(0), torch.arange(5), torch.arange(0)],
    "one at a time": lambda n: blockwise(n, 8, 128, generator())[:50].split(1),
    "none": lambda n: [],
}


@pytest.mark.parametrize("name", ORDERS)
def test_batches_in_any_order_are_those_of_memory(source, name):
    order = ORDERS[name](len(source))
    ours, theirs = list(source.batches(order)), list(in_memory(source).batches(order))
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        same(one, other)
    assert not readers()


@pytest.mark.parametrize("parts", [1, 4])
def test_an_epoch_has_every_sample_once_and_every_class_in_each_window(source, parts):
    order = Order(source, 32, generator(), parts)
    batches = epoch(order)
    seen = torch.cat([batch.X for batch in batches])
    expected = values(source)
    assert sorted(map(tuple, seen.tolist())) == sorted(map(tuple, expected.tolist()))
    labels = torch.cat([batch.labels for batch in batches])
    for window in labels.split(128):
        assert len(window) < 128 or len(window.unique()) >= 4  # of 5, from 16 blocks of a class each
    assert (labels[1:] != labels[:-1]).double().mean() > 0.6
    others = torch.cat([batch.labels for batch in epoch(order)])
    assert not torch.equal(labels, others)


def test_epochs_are_decided_by_the_generator(source):
    one, again, other = (epoch(Order(source, 32, generator(seed))) for seed in (1, 1, 2))
    assert all(torch.equal(a.X, b.X) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0].X, other[0].X)


@pytest.mark.parametrize("done", range(1, 9))
def test_an_epoch_goes_on_in_its_middle(source, done):
    whole, cut, after = (Order(source, 32, generator(), 4) for _ in range(3))
    expected = [list(whole.part()) for _ in range(9)]
    for _ in range(done):
        list(cut.part())
    after.load_state(cut.state())
    for one, other in zip(expected[done], after.part(), strict=True):
        same(one, other)


@pytest.mark.parametrize("kept", [False, True])
def test_the_sample_stands_for_all(source, kept):
    """Of samples sorted by class too, in files and in memory."""
    source = in_memory(source) if kept else source
    rows = source.sample(300)
    assert len(rows.unique()) == 300
    assert torch.equal(rows, source.sample(300))
    assert torch.bincount(source.labels[rows], minlength=5).min() > 30
    assert torch.equal(rows, rows.sort().values)
    assert sorted(source.sample(10**6).tolist()) == list(range(len(source)))


def test_no_more_is_read_than_there_is_room_for(source, monkeypatch):
    reads = []
    original = stream.Stream._read

    def read(self, samples):
        reads.append(len(samples))
        return original(self, samples)

    monkeypatch.setattr(stream.Stream, "_read", read)
    batches = source.batches(ORDERS["small batches"](len(source)))
    used = 0
    for batch in batches:
        used += len(batch.X)
        assert sum(reads) - used <= 2 * 128
    assert sum(reads) == used == len(source)  # each once
    assert max(reads) <= 5 * 8


def test_every_rank_reads_its_own_part_alone(source, monkeypatch):
    whole = in_memory(source)
    order = blockwise(len(source), 8, 128, generator()).split(50)
    asked = []
    original = stream.Stream._read

    def read(self, samples):
        asked.extend(samples.tolist())
        return original(self, samples)

    monkeypatch.setattr(stream.Stream, "_read", read)
    for ranks in (2, 7):  # whose shares end within blocks
        monkeypatch.setattr(parallel, "ranks", lambda ranks=ranks: ranks)
        batches, passes, taken, reads = [], [], [], []
        some = torch.tensor([3000, 5, 1200, 5])
        for rank in range(ranks):
            monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
            asked.clear()
            batches.append(list(source.batches(order)))
            reads.append(set(asked))
            passes.append(list(source.passes()))
            taken.append(source.take(some))
            assert set(asked) == reads[-1]
        assert sorted(row for own in reads for row in own) == list(range(len(source)))
        assert max(map(len, reads)) - min(map(len, reads)) <= 1
        monkeypatch.setattr(parallel, "ranks", lambda: 1)
        for parts, rows in [*zip(zip(*batches, strict=True), order, strict=True), (taken, some)]:
            same(joined(parts), whole.take(rows))
        joint = [joined(parts) for parts in zip(*passes, strict=True)]
        assert sum(part.samples for part in joint) == len(source)
        found = sorted(tuple(row) for part in joint for row in part.X.tolist())
        assert found == sorted(map(tuple, whole.X.tolist()))


def joined(parts):
    """The batch that ranks have together."""
    assert len({part.samples for part in parts}) == 1
    X, labels = parts[0].X.new_empty(parts[0].samples, P), parts[0].labels.new_empty(parts[0].samples)
    places = torch.cat([part.mine for part in parts])
    assert sorted(places.tolist()) == list(range(parts[0].samples))
    for part in parts:
        X[part.mine], labels[part.mine] = part.X, part.labels
    return stream.Batch(X, labels, parts[0].samples)


def test_the_reader_ends_with_its_iterator(source):
    batches = source.batches(ORDERS["blockwise"](len(source)))
    next(batches)
    assert len(readers()) == 1
    del batches
    gc.collect()
    assert not readers()

    def interrupted():
        for _ in source.batches(ORDERS["blockwise"](len(source))):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    gc.collect()
    assert not readers()


@pytest.mark.parametrize("moment", [1, 2, 9, 20])
@pytest.mark.parametrize("error", [DataError("gone"), MemoryError("full"), ZeroDivisionError()], ids=repr)
def test_what_goes_wrong_in_the_reader_is_raised_where_its_batches_are_used(
    source, monkeypatch, moment, error
):
    original, reads = stream.Stream._read, []

    def read(self, samples):
        reads.append(samples)
        if len(reads) == moment:
            raise error
        return original(self, samples)

    monkeypatch.setattr(stream.Stream, "_read", read)
    seen = []
    with pytest.raises(type(error)) as caught:
        seen.extend(source.batches(ORDERS["blockwise"](len(source))))
    assert caught.value is error
    assert (len(seen) > 0) == (moment >= 9)
    del caught
    gc.collect()
    assert not readers()


def test_values_that_the_type_cannot_hold(tmp_path):
    path = save_folder(tmp_path, X=X.astype(np.float64) * 1e300, y=Y)
    source = load(Arrays(path=str(path), standardize="none")).train
    with pytest.raises(
        DataError, match=r"not finite in torch\.float32: .* dtype=float64 or data\.standardize"
    ):
        list(source.passes())


@pytest.mark.parametrize("features", [1, 50, 10**7])
@pytest.mark.parametrize("memory", [1, 1e5, 1e9])
def test_blocks_and_windows_of_any_size(features, memory):
    stored = stream.Stored((), (10, features), np.dtype("f4"))
    made = stream.Stream(
        stored, np.arange(10), torch.zeros(10), stream.Preprocessing(), torch.float32, memory
    )
    assert made.block >= 1
    assert made.window >= made.block
    assert made.window % made.block == 0
    assert made.window == made.block or 2 * made.window * 4 * features <= memory
