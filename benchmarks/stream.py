"""Training on data larger than memory: peak memory, and speed beside the same batches from memory.

`python benchmarks/stream.py FOLDER` writes a planted set of 5,000,000 × 1,000 float32 (20 GB) into FOLDER,
unless it is there, and prints one table: for `jacobi` and `bp`, each in a process of its own, the peak of
resident memory in a run of one epoch with its evaluations, beyond what the process had before; and then, in
one process in turn, the speed of parts of an epoch from the folder and of epochs on samples in memory.
`--samples 200000 --memory 0.05` is a quick check; `--threads` are those of the training.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from nmfdnn.data import Arrays, load
from nmfdnn.network import NetworkConfig, build_layers
from nmfdnn.runs.config import Config
from nmfdnn.runs.experiment import run
from nmfdnn.runs.memory import peak_memory_mb
from nmfdnn.source import Memory, Source
from nmfdnn.training import (
    BackpropConfig,
    BackpropTrainer,
    JacobiConfig,
    JacobiTrainer,
    PretrainingConfig,
    SolverConfig,
    Trainer,
    starting_network,
)

METHODS = ("jacobi", "bp")
CLASSES, UNITS = 10, 50
AT_ONCE = 20_000
PARTS = 5


def plant(folder: Path, samples: int, features: int) -> None:
    """Write X uniform in [0, 1) and the labels of a random ReLU network, unless they are there."""
    if (folder / "y.npy").exists():
        if np.load(folder / "X.npy", mmap_mode="r").shape != (samples, features):
            raise SystemExit(f"{folder} holds other data: name another folder")
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    W = rng.standard_normal((features, UNITS), dtype=np.float32)
    V = rng.standard_normal((UNITS, CLASSES), dtype=np.float32)
    labels = np.empty(samples, np.int64)
    level: tuple[np.ndarray, np.ndarray] | None = None
    with (folder / "X.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (samples, features)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, samples, AT_ONCE):
            X = rng.random((min(AT_ONCE, samples - start), features), dtype=np.float32)
            outputs = np.maximum((X - 0.5) @ W, 0) @ V
            if level is None:
                level = outputs.mean(axis=0), outputs.std(axis=0)
            labels[start : start + len(X)] = ((outputs - level[0]) / level[1]).argmax(axis=1)
            X.tofile(file)
    np.save(folder / "y.npy", labels)


def resident_mb() -> float:
    """Resident memory of this process now."""
    status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
    return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) * 1024 / 1e6


def train(method: str, arguments: argparse.Namespace) -> tuple[float, float]:
    """One run of one epoch: its peak memory in MB beyond that before, and its test error in %."""
    torch.set_num_threads(arguments.threads)
    torch.ones(500, 500) @ torch.ones(500, 500)  # libraries take their own memory on their first use
    before = resident_mb()
    config = Config(data=data_of(arguments), method=method, epochs=1, network=network_of(arguments))
    with tempfile.TemporaryDirectory() as folder:
        summary = run(config, Path(folder))
    return peak_memory_mb(torch.device("cpu")) - before, summary["test_error"]


def speeds(method: str, arguments: argparse.Namespace) -> list[tuple[float, float]]:
    """Samples a second from the folder and from memory, in turn, for each part of an epoch but the first."""
    torch.set_num_threads(arguments.threads)
    data = load(data_of(arguments), seed=1, device=torch.device("cpu"), dtype=torch.float32)
    number = min(len(data.train) // PARTS, int(arguments.memory * 1e9 / 4 / data.features))
    some = data.train.take(torch.arange(number))
    sources: list[tuple[Source, int]] = [(data.train, PARTS), (Memory(some.X, some.labels), 1)]
    trainers = [trainer_of(method, source, parts, arguments) for source, parts in sources]
    for trainer in trainers:
        trainer.epoch()
    found = []
    for _ in range(PARTS - 1):
        streamed, kept = (trainer.epoch().seconds for trainer in trainers)
        found.append((len(data.train) / PARTS / streamed, number / kept))
    return found


def trainer_of(method: str, source: Source, parts: int, arguments: argparse.Namespace) -> Trainer:
    """A trainer on a source."""
    config = network_of(arguments)
    layers = build_layers(config, source.features, None, CLASSES)
    start = starting_network(
        source, layers, config, PretrainingConfig(), SolverConfig(), torch.Generator().manual_seed(0)
    ).network
    order = torch.Generator().manual_seed(1)
    if method == "bp":
        return BackpropTrainer(start, source, BackpropConfig(), PARTS, order, parts)
    return JacobiTrainer(start, source, JacobiConfig(), PARTS, order, parts)


def data_of(arguments: argparse.Namespace) -> Arrays:
    """The folder as a data set."""
    return Arrays(path=str(arguments.folder), memory_gb=arguments.memory)


def network_of(arguments: argparse.Namespace) -> NetworkConfig:
    """The network to train."""
    return NetworkConfig(hidden=arguments.hidden)


def main() -> None:
    """Write the data, train, tabulate."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("folder", type=Path, help="where the data are, or are written")
    parser.add_argument("--samples", type=int, default=5_000_000)
    parser.add_argument("--features", type=int, default=1000)
    parser.add_argument("--memory", type=float, default=1.0, help="data.memory_gb")
    parser.add_argument("--hidden", nargs="+", type=int, default=[500], help="widths of the hidden layers")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    plant(arguments.folder, arguments.samples, arguments.features)
    print(
        "| method | data, GB | peak memory beyond the start, GB | test error, % "
        "| samples/s from the folder | from memory | ratio, median (range) |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    size = (arguments.folder / "X.npy").stat().st_size / 1e9
    for method in METHODS:
        with get_context("spawn").Pool(1) as pool:
            peak, error = pool.apply(train, (method, arguments))
        pairs = speeds(method, arguments)
        streamed, kept = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratios = sorted(a / b for a, b in pairs)
        cells = [f"{size:.1f}", f"{peak / 1000:.2f}", f"{error:.1f}", f"{streamed:,.0f}", f"{kept:,.0f}"]
        cells.append(f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} – {ratios[-1]:.2f})")
        print(f"| {method} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
