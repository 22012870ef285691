"""A network that cannot fit is refused with its size; the bound never refuses what would fit."""

from __future__ import annotations

import pytest
import torch
from runs import TINY, configured

from nmfdnn.errors import ConfigError
from nmfdnn.network import Convolution, Dense, Pooled, build_layers, dense
from nmfdnn.runs import memory
from nmfdnn.runs.experiment import run

CPU = torch.device("cpu")


def needed(*overrides: str, widths=(100, 30, 20, 10), samples=50) -> int:
    return memory.needed_bytes(configured("network.bias=true", *overrides), dense(*widths), samples)


WEIGHTS, CODES = 101 * 30 + 31 * 20 + 21 * 10, 50 * 60


def test_what_is_counted():
    assert memory.parameters(dense(100, 30, 20, 10), bias=True) == WEIGHTS
    assert memory.parameters(dense(100, 30, 20, 10), bias=False) == 100 * 30 + 30 * 20 + 20 * 10
    assert needed("method=bp") == 4 * (5 * WEIGHTS + CODES)
    svd = ("method=nmf", "solver.method=svd")
    assert needed(*svd) == 4 * (3 * WEIGHTS + CODES)
    assert needed(*svd, "dtype=float64") == 8 * (3 * WEIGHTS + CODES)
    assert needed("method=nmf", "solver.method=cholesky") == 4 * (3 * WEIGHTS + 2 * 30**2 + CODES)
    for method in ("jacobi", "seidel"):
        assert needed(f"method={method}") == 4 * (4 * WEIGHTS + 3 * (100**2 + 30**2 + 20**2) + CODES)
    assert needed("method=bp", samples=10**9) == 4 * (5 * WEIGHTS + 10_000 * 60)


def test_rows_of_a_batch_are_counted_where_they_are_more_than_the_codes():
    layers = (Convolution(10, 10, 1, 4, 3, planar=True), Convolution(8, 8, 4, 5, 5), Dense(80, 10))
    weights = memory.parameters(layers, True)
    assert weights == 10 * 4 + 101 * 5 + 81 * 10

    def needed(*overrides: str) -> int:
        return memory.needed_bytes(configured("network.bias=true", *overrides), layers, 50) // 4

    codes, rows = 50 * (8 * 8 * 4 + 4 * 4 * 5 + 10), 50 * 4 * 4 * 100
    assert needed("method=bp") == 5 * weights + codes
    assert needed("method=nmf", "solver.method=svd") == 3 * weights + rows
    grams = 3 * (9**2 + 100**2 + 80**2)
    assert needed("method=jacobi", "jacobi.batch_size=250") == 4 * weights + grams + rows
    assert needed("method=jacobi", "jacobi.batch_size=1") == 4 * weights + grams + codes


def test_codes_of_the_first_samples_are_counted_where_batches_are_small():
    layers = (Convolution(10, 10, 1, 4, 3, planar=True), Pooled(8, 8, 4, 4, Dense(16, 10)))
    weights, small = 10 * 4 + 17 * 10, ["network.bias=true", "nmf.batch_size=1", "jacobi.batch_size=1"]

    def needed(method: str, samples: int, *overrides: str) -> int:
        return memory.needed_bytes(configured(*small, f"method={method}", *overrides), layers, samples)

    for method in ("nmf", "jacobi"):
        assert needed(method, 50) == 4 * weights + 16 * 50 * 8 * 8 * 4
        assert needed(method, 50, "dtype=float64") == 8 * weights + 16 * 50 * 8 * 8 * 4
    assert needed("bp", 50) == 4 * (5 * weights + 50 * (8 * 8 * 4 + 10))


def test_the_remedies_for_convolutions_help(tmp_path):
    large = "network.convolution=[{channels:300000,kernel:3},{channels:300000,kernel:3}]"
    tiny = [override for override in TINY if not override.startswith("data")]
    with pytest.raises(ConfigError, match=r"behind convolutions needs .* fewer channels, larger strides"):
        run(configured(*tiny, "data=digits", large), tmp_path)
    batch = "network.convolution=[{channels:20,kernel:1},{channels:10,kernel:7,padding:6}]"
    own = [*tiny, "data=digits", batch, "method=nmf", "solver.method=cholesky", "nmf.batch_size=1200"]
    layers = build_layers(configured(*own).network, 64, (8, 8), 10)
    need = [
        memory.needed_bytes(configured(*own, *more), layers, 1200) for more in ([], ["nmf.batch_size=50"])
    ]
    assert need[1] < need[0] / 4


def test_there_is_memory():
    available = memory.available_bytes(CPU)
    assert available is None or 10**7 < available < 10**15


@pytest.mark.parametrize("method", ["nmf", "jacobi", "seidel", "bp"])
@pytest.mark.parametrize("hidden", ["[1000000000]", "[2000000,2000000]", f"[{10**40}]"])
def test_a_network_that_cannot_fit_is_refused_with_its_size(method, hidden, tmp_path):
    with pytest.raises(
        ConfigError, match=r"network.hidden=\[.* needs at least .* GB .* choose narrower"
    ) as caught:
        run(configured(*TINY, f"method={method}", f"network.hidden={hidden}"), tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["nmf", "jacobi", "seidel", "bp"])
def test_the_limit_is_what_is_free(method, monkeypatch):
    config = configured(f"method={method}")
    need = memory.needed_bytes(config, dense(100, 30, 10), 50)
    for available, fits in ((need, True), (need - 1, False), (None, True)):
        monkeypatch.setattr(memory, "available_bytes", lambda _, available=available: available)
        if fits:
            memory.require_memory(config, dense(100, 30, 10), 50, CPU)
        else:
            with pytest.raises(ConfigError):
                memory.require_memory(config, dense(100, 30, 10), 50, CPU)
