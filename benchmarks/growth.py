"""Seconds and memory of an epoch as samples, width, depth and kernels grow, and the exponents of this.

`python benchmarks/growth.py OUT` trains `jacobi` and `bp` on made-up data, one thread, each point in its own
process: n samples (10,000 to 1,000,000, 100 features, hidden 256-256), width (256 to 4,096, two hidden
layers, 8,000 samples), depth (2 to 10 hidden layers of 512, 8,000 samples) and kernels (16 to 128, twice as
many in the second of two layers of 5 × 5, stride 2, on 2,000 pictures of 28 × 28). It writes a Markdown
table, OUT/growth.md, and draws OUT/growth.png. An hour and 3 GB; `--quick`, minutes, stops earlier.

Seconds are CPU seconds of the second half of an epoch, twice, so that what is made once is left out and
other processes on the machine count less. Memory is the peak of the process beyond what its imports took,
data included. An exponent e, of a fit of c·xᵉ to all points of an axis, is 1 where cost is in proportion.
Points that are in OUT/growth.json already are not measured again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from launch import report
from matplotlib.figure import Figure

from nmfdnn.network import ConvolutionConfig, Network, NetworkConfig, build_layers, random_weights
from nmfdnn.runs.memory import peak_memory_mb
from nmfdnn.source import Memory
from nmfdnn.training import BackpropConfig, BackpropTrainer, JacobiConfig, JacobiTrainer, Trainer

METHODS = ("jacobi", "bp")
CLASSES = 10
AXES = {
    "samples": [10_000, 30_000, 100_000, 300_000, 1_000_000],
    "width": [256, 512, 1024, 2048, 4096],
    "depth": [2, 4, 6, 8, 10],
    "kernels": [16, 32, 64, 128],
}
QUICK = {"samples": 100_000, "width": 1024, "depth": 8, "kernels": 64}
"""Where `--quick` stops."""


def problem(axis: str, size: int) -> tuple[int, tuple[int, ...], NetworkConfig]:
    """Samples, their shape and the net of a point."""
    if axis == "samples":
        return size, (100,), NetworkConfig([256, 256], True)
    if axis == "width":
        return 8000, (200,), NetworkConfig([size, size], True)
    if axis == "depth":
        return 8000, (200,), NetworkConfig([512] * size, True)
    layers = [ConvolutionConfig(size, 5, 2), ConvolutionConfig(2 * size, 5, 2)]
    return 2000, (28, 28), NetworkConfig([], True, convolution=layers)


def measure(method: str, axis: str, size: int) -> dict[str, float]:
    """Seconds an epoch and peak memory in MB, in this process."""
    torch.set_num_threads(1)
    train(method, 1000, (10,), NetworkConfig([10], True))  # so that all that is imported late is there
    before = peak_memory_mb(torch.device("cpu"))
    seconds = train(method, *problem(axis, size))
    return {"seconds": seconds, "megabytes": peak_memory_mb(torch.device("cpu")) - before}


def train(method: str, n: int, shape: tuple[int, ...], config: NetworkConfig) -> float:
    """CPU seconds of an epoch."""
    g = torch.Generator().manual_seed(0)
    X = torch.rand(n, int(np.prod(shape)), generator=g)
    source = Memory(X, torch.randint(CLASSES, (n,), generator=g))
    layers = build_layers(config, source.features, shape if len(shape) > 1 else None, CLASSES)
    start = Network(random_weights(layers, True, "he", g, X), True, layers)
    trainer: Trainer
    if method == "jacobi":
        trainer = JacobiTrainer(start, source, JacobiConfig(), 1, g, parts=2)
    else:
        trainer = BackpropTrainer(start, source, BackpropConfig(), 1, g, parts=2)
    trainer.epoch()
    began = time.process_time()
    trainer.epoch()
    return 2 * (time.process_time() - began)


def exponent(sizes: list[int], values: list[float]) -> float:
    """The e of the least-squares fit of c·xᵉ in logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def main() -> None:
    """Measure each point in a process, tabulate, draw."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("out", type=Path, help="folder for the table, the picture and the points")
    parser.add_argument("--quick", action="store_true", help="smaller sizes only")
    parser.add_argument(
        "--point", nargs=3, metavar=("METHOD", "AXIS", "SIZE"), help="measure one, print JSON"
    )
    arguments = parser.parse_args()
    if arguments.point:
        method, axis, size = arguments.point
        print(json.dumps(measure(method, axis, int(size))))
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "growth.json"
    points = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    axes = {
        axis: [size for size in sizes if not arguments.quick or size <= QUICK[axis]]
        for axis, sizes in AXES.items()
    }
    for axis, sizes in axes.items():
        for size in sizes:
            for method in METHODS:
                if f"{axis} {size} {method}" not in points:
                    point = [str(arguments.out), "--point", method, axis, str(size)]
                    done = subprocess.run([sys.executable, __file__, *point], check=True, capture_output=True)
                    points[f"{axis} {size} {method}"] = json.loads(done.stdout)
                    file.write_text(json.dumps(points, indent=1), encoding="utf-8")

    def values(axis: str, method: str, what: str) -> list[float]:
        return [points[f"{axis} {size} {method}"][what] for size in axes[axis]]

    lines = ["| axis | " + " | ".join(f"{m}: s an epoch | {m}: MB" for m in METHODS) + " |", "|---" * 5 + "|"]
    figure = Figure(figsize=(12, 5.5), layout="constrained")
    panels = figure.subplots(2, len(axes))
    for column, (axis, sizes) in enumerate(axes.items()):
        for row, size in enumerate(sizes):
            cells = [
                f"{values(axis, m, what)[row]:{form}}"
                for m in METHODS
                for what, form in (("seconds", ".2f"), ("megabytes", ".0f"))
            ]
            lines.append(f"| {axis} {size:,} | {' | '.join(cells)} |")
        fits = [exponent(sizes, values(axis, m, what)) for m in METHODS for what in ("seconds", "megabytes")]
        lines.append(f"| **exponent of {axis}** | {' | '.join(f'**{fit:.2f}**' for fit in fits)} |")
        for panel, what in zip(panels[:, column], ("seconds", "megabytes"), strict=True):
            for method in METHODS:
                found = values(axis, method, what)
                label = f"{method}, exponent {exponent(sizes, found):.2f}"
                panel.loglog(sizes, found, "o-", label=label)
            panel.set(xlabel=axis, ylabel={"seconds": "CPU seconds an epoch", "megabytes": "peak, MB"}[what])
            panel.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=30)
            panel.minorticks_off()
            panel.legend()
    report(lines, arguments.out / "growth.md")
    figure.savefig(arguments.out / "growth.png", dpi=110)


if __name__ == "__main__":
    main()
