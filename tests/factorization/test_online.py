"""NMF of a stream: against its equations, as good as NMF of all rows, in memory that does not grow."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import oracle
import pytest
import scipy.sparse
import torch

from nmfdnn.errors import ConfigError
from nmfdnn.factorization import OnlineNMF, Stopping, nmf, transform
from nmfdnn.factorization.nmf import FROM_ZERO, SWEEPS
from nmfdnn.source import Memory

pytestmark = pytest.mark.filterwarnings("ignore:Sparse")

LONG = Stopping(200, 0, 50)


def blocks(rng: np.random.Generator, count: int = 8, size: int = 60) -> list[np.ndarray]:
    """Rows of one planted model, of rank 4, with noise."""
    W = rng.random((4, 25)) * (rng.random((4, 25)) < 0.5)
    return [rng.random((size, 4)) @ W + 0.1 * rng.random((size, 25)) for _ in range(count)]


@pytest.mark.parametrize("forgetting", [0.0, 1.0, 3.0])
def test_updates_equal_the_oracle(forgetting, put, rng):
    parts = [A[: 60 - 7 * i] for i, A in enumerate(blocks(rng, 5))]
    W = rng.random((4, 25))
    model = OnlineNMF(4, forgetting=forgetting, start=put(W))
    for A in parts:
        model.partial_fit(put(A))
    expected = oracle.online_nmf(parts, W, forgetting, (FROM_ZERO, SWEEPS))
    u = model.units.A
    found = (model.W, u * model.S, u**1.5 * model.C)
    for F, E in zip(found, expected, strict=True):
        assert oracle.error(F, E) < 1e-8
    assert model.rows == sum(map(len, parts))


def test_it_comes_near_to_what_all_rows_at_once_give(put, rng, dtype):
    parts = [put(A, dtype) for A in blocks(rng)]
    whole = torch.cat(parts)
    best = min(nmf(whole, 4, stopping=Stopping(500, 0, 50)).objective)
    once, more = (
        OnlineNMF(4, start="random").fit(parts, passes).transform(whole, LONG) for passes in (1, 20)
    )
    assert best * (1 - 1e-3) < more.objective[-1] < 1.02 * best
    assert more.objective[-1] <= once.objective[-1] < 1.2 * best
    assert (more.W >= 0).all()


@pytest.mark.parametrize("noise", [0.02, 0.2])
def test_codes_with_many_zeros_lead_to_the_same_parts(noise, put, rng, dtype):
    """Codes that have not settled for W would pull it away, pass after pass."""
    Z = rng.random((4000, 8)) * (rng.random((4000, 8)) < 0.4)
    whole = put(Z @ rng.random((8, 40)) + noise * rng.random((4000, 40)), dtype)
    best = min(nmf(whole, 8, stopping=Stopping(500, 0, 50)).objective)
    model = OnlineNMF(8).fit(whole.split(500), 5)
    assert model.transform(whole, LONG).objective[-1] < 1.05 * best
    assert sum(model.objective[-8:]) < 1.05 * best


def test_the_objective_of_a_block_is_that_of_the_parts_it_met(put, rng):
    first, second = (put(A) for A in blocks(rng, 2))
    model = OnlineNMF(4).partial_fit(first)
    before = model.W
    model.partial_fit(second)
    exact = transform(second, before, stopping=LONG).objective[-1]
    assert model.objective[1] == pytest.approx(exact, rel=1e-3)


def test_forgetting_follows_a_stream_that_changes(put, rng):
    old, new = blocks(rng, 6), blocks(rng, 6)
    errors = []
    for forgetting in (0.0, 6.0):
        model = OnlineNMF(4, forgetting=forgetting).fit([put(A) for A in old + new])
        errors.append(model.transform(put(np.vstack(new)), LONG).objective[-1])
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("scale", [1e-20, 1, 1e20])
def test_the_unit_of_the_data_does_not_matter(scale, put, rng, dtype):
    parts = blocks(rng, 4)
    plain, found = (OnlineNMF(4).fit([put(c * A, dtype) for A in parts]) for c in (1, scale))
    tolerance = 1e-2 if dtype == torch.float32 else 1e-8
    assert oracle.error(found.W / scale**0.5, plain.W) < tolerance
    assert [v / scale / scale for v in found.objective] == pytest.approx(plain.objective, rel=tolerance)


def test_every_kind_of_stream_gives_the_same(put, rng):
    parts = [put(A) for A in blocks(rng, 4, 50)]
    whole = torch.cat(parts)
    start = torch.ones(4, 25, dtype=whole.dtype, device=whole.device).tril()
    plain = OnlineNMF(4, start=start).fit(parts, 2)
    streams = [
        tuple(parts),
        lambda: iter(parts),
        [whole],  # cut into parts of `batch` rows
        Memory(whole, torch.zeros(len(whole), dtype=torch.int64, device=whole.device)),
        [A.to_sparse_csr() for A in parts],
    ]
    if whole.device.type == "cpu":
        streams.append([scipy.sparse.csr_array(A.numpy()) for A in parts])
    for stream in streams:
        found = OnlineNMF(4, batch=50, start=start).fit(stream, 2)
        assert oracle.error(found.W, plain.W) < 1e-10
        assert sum(found.objective) == pytest.approx(sum(plain.objective), rel=1e-10)


def test_a_generator_makes_it_reproducible_and_a_saved_model_goes_on(put, device, rng):
    parts = [put(A) for A in blocks(rng, 6)]

    def model(seed: int) -> OnlineNMF:
        g = torch.Generator(device).manual_seed(seed)
        return OnlineNMF(4, start="random", generator=g)

    first, again, other = (model(seed).fit(parts) for seed in (0, 0, 1))
    assert torch.equal(first.W, again.W)
    assert not torch.equal(first.W, other.W)
    saved = pickle.loads(pickle.dumps(model(0).fit(parts[:3])))
    assert torch.equal(saved.fit(parts[3:]).W, first.W)
    assert saved.objective == first.objective


def test_degenerate_streams(put, dtype):
    zeros, ones = (put(np.full((6, 5), value), dtype) for value in (0, 1))
    model = OnlineNMF(3).partial_fit(zeros)
    with pytest.raises(ConfigError, match=r"call partial_fit\(A\) first"):
        _ = model.W
    model.partial_fit(ones).partial_fit(zeros).partial_fit(ones[:1])
    assert (model.rows, len(model.objective)) == (19, 4)
    assert oracle.error(model.transform(ones, LONG).Z @ model.W, ones) < 1e-2
    assert OnlineNMF(9).fit([ones, zeros]).W.shape == (9, 5)  # more parts than rows and columns


def test_blocks_are_left_alone(put, rng):
    parts = [put(A) for A in blocks(rng, 2)]
    before = [A.clone() for A in parts]
    OnlineNMF(4).fit(parts, 2)
    assert all(torch.equal(A, B) for A, B in zip(parts, before, strict=True))


STREAM = """
import resource
import torch
from nmfdnn.factorization import OnlineNMF
torch.set_num_threads(1)
g = torch.Generator().manual_seed(0)
W = torch.rand(20, 50, generator=g)

def stream(count):
    for _ in range(count):
        yield torch.rand(2000, 20, generator=g) @ W

model, peaks = OnlineNMF(20), []
for count in (20, 300):
    model.fit(stream(count))
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(peaks[1] - peaks[0])
"""


def test_memory_does_not_grow_with_the_rows():
    """300 blocks: 120 MB of rows, 48 MB of codes."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", STREAM], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 10_000  # kB


ONES = torch.ones(6, 4)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: OnlineNMF(0), "rank must be an integer ≥ 1"),
        (lambda: OnlineNMF(2, batch=0), "batch must be an integer ≥ 1"),
        (lambda: OnlineNMF(2, forgetting=-1), "forgetting must be finite and ≥ 0"),
        (lambda: OnlineNMF(2, start="zeros"), "start must be a matrix W or one of random"),
        (lambda: OnlineNMF(2, start=torch.ones(3, 4)).partial_fit(ONES), r"start must be of shape \(2, 4\)"),
        (lambda: OnlineNMF(2, start=-torch.ones(2, 4)).partial_fit(ONES), "start has negative entries: clip"),
        (lambda: OnlineNMF(2).partial_fit(-ONES), "A has negative entries: shift or clip it"),
        (lambda: OnlineNMF(2).partial_fit(ONES * torch.nan), "A holds NaN"),
        (lambda: OnlineNMF(2).fit([ONES, torch.ones(6, 5)]), "A must be of 4 columns like the blocks before"),
        (lambda: OnlineNMF(2).fit([ONES, ONES.double()]), "A must be torch.float32 on cpu like the blocks"),
        (lambda: OnlineNMF(2).fit(ONES), "blocks must be a source, an iterable of matrices, or a function"),
        (lambda: OnlineNMF(2).fit([]), "pass 1 found no blocks: hand over some"),
        (lambda: OnlineNMF(2).fit(iter([ONES]), 2), "pass 2 found no blocks: hand over a function that"),
        (lambda: OnlineNMF(2).fit([ONES], 0), "passes must be an integer ≥ 1"),
        (lambda: OnlineNMF(2).transform(ONES), r"W is not known .*: call partial_fit\(A\) first"),
    ],
)
def test_what_is_refused(use, message):
    with pytest.raises(ConfigError, match=message):
        use()


def test_a_block_whose_sums_would_overflow_is_refused_and_changes_nothing(put, rng):
    A = put(rng.random((30, 8)), torch.float32)
    model = OnlineNMF(3).partial_fit(1e-20 * A)
    before = model.W.clone(), model.rows, list(model.objective)
    with pytest.raises(ConfigError, match=r"too large beside the first block for torch\.float32"):
        model.partial_fit(1e15 * A)
    assert torch.equal(model.W, before[0])
    assert (model.rows, model.objective) == before[1:]
    model.partial_fit(1e-14 * A)  # a million times the first is within reach
    assert np.isfinite(model.objective).all()
    wide = OnlineNMF(3).fit([1e-20 * A.double(), 1e15 * A.double()])  # the remedy
    assert np.isfinite(wide.objective).all()


def test_no_remedy_is_named_that_a_stream_does_not_have():
    with pytest.raises(ConfigError) as caught:
        OnlineNMF(2).partial_fit(torch.full((3, 4), torch.nan))
    assert "missing" not in str(caught.value)


def test_a_start_must_be_a_tensor():
    with pytest.raises(ConfigError, match="start must be a matrix W or one of random"):
        OnlineNMF(2, start=np.ones((2, 4)))
