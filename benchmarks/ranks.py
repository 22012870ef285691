"""Epochs over several processes against one: seconds, speed-up, and bytes that each update sends.

`python benchmarks/ranks.py [--ranks 2] [--repeats 3] [--samples 24000]` prints a Markdown table. Every
process has one thread; runs on one and on several processes take turns, so that a change of the machine's
load meets both. The ceiling is the speed-up of as many processes that have nothing to say to each other, each
with its share of samples and batch: what cores that share memory and caches allow. `--model` prints instead
what the model of docs/ranks.md says of many GPUs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise

import torch

from nmfdnn import parallel
from nmfdnn.network import Network, dense, random_weights
from nmfdnn.source import Memory, share
from nmfdnn.training import BackpropConfig, BackpropTrainer, JacobiConfig, JacobiTrainer

WIDTHS = (784, 1000, 500, 10)
BATCHES = (250, 1000, 4000)
WARM = 40
"""Updates before the measured epoch, after which statistics are as old as they get."""


def worker(samples: int, alone: int) -> None:
    """One process: seconds and bytes per update of a later epoch, for each method and batch.

    With `alone` > 1 by itself, on so small a part of the samples and batches.
    """
    samples //= alone
    torch.set_num_threads(1)
    with parallel.group():
        here, g = share(samples), torch.Generator().manual_seed(0)
        X, labels = torch.rand(samples, WIDTHS[0], generator=g), torch.randint(10, (samples,), generator=g)
        source = Memory(X[here].clone(), labels, here.start)
        for method in ("jacobi", "bp"):
            for batch in (size // alone for size in BATCHES):
                start = Network(random_weights(dense(*WIDTHS), True, "he", g, like=X), True)
                trainer: JacobiTrainer | BackpropTrainer
                if method == "jacobi":
                    trainer = JacobiTrainer(start, source, JacobiConfig(batch), 99, g)
                else:
                    trainer = BackpropTrainer(start, source, BackpropConfig(batch), 99, g)
                updates = -(-samples // batch)
                for _ in range(-(-WARM // updates)):
                    trainer.epoch()
                sent = parallel.traffic.bytes, parallel.traffic.messages
                seconds = trainer.epoch().seconds
                found = {
                    "method": method,
                    "batch": batch,
                    "seconds": seconds,
                    "bytes": (parallel.traffic.bytes - sent[0]) / updates,
                    "messages": (parallel.traffic.messages - sent[1]) / updates,
                }
                if parallel.rank() == 0:
                    print(json.dumps(found), flush=True)


def predicted(
    ranks: int, widths: Sequence[int], flops: float, bandwidth: float, latency: float
) -> tuple[float, float]:
    """Seconds that a sample's share of an update of jacobi takes, and those of the sums, as in docs/ranks.md.

    Args:
        ranks: N > 1.
        widths: of the net.
        flops: that a rank reaches in products, per second.
        bandwidth: bytes per second that a rank sends and receives at a time.
        latency: seconds from one rank to the next.
    """
    weights = [(before + 1) * after for before, after in pairwise(widths)]
    squares = sum(k**2 for k in widths[1:-1])
    # Forward, AᵀR and RW⁺ take two operations for each weight and sample; statistics come every ten updates.
    sample = (6 * sum(weights) + 0.2 * squares) / flops
    sent = 4 * (sum(weights) + 0.1 * squares)
    messages = len(weights) + 0.4
    hops = 2 * math.ceil(math.log2(ranks))
    return sample, 2 * (ranks - 1) / ranks * sent / bandwidth + messages * hops * latency


def print_model() -> None:
    """A table for two nets on H100 cards: 8 to a node, 300 GB/s inside a node, 40 GB/s from node to node."""
    print("| net | GPUs | sums, ms an update | samples per GPU and update for 50 % | for 90 % |")
    print("|---|---|---|---|---|")
    for widths in ((784, 1000, 500, 10), (3072, 8192, 8192, 8192, 1000)):
        for ranks in (8, 64, 256, 1024):
            bandwidth, latency = (300e9, 3e-6) if ranks <= 8 else (40e9, 8e-6)
            sample, sums = predicted(ranks, widths, 35e12, bandwidth, latency)
            net, half = "-".join(map(str, widths)), sums / sample
            print(f"| {net} | {ranks} | {1e3 * sums:.2f} | {half:,.0f} | {9 * half:,.0f} |")


def measured(ranks: int, samples: int) -> list[dict[str, float]]:
    """What the workers of one launch report."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return reports([[*torchrun, __file__, "--worker=1", f"--samples={samples}"]])[0]


def ceilings(ranks: int, samples: int) -> list[dict[str, float]]:
    """What processes that run at the same time, each on its share, report; the slowest of each row."""
    found = reports([[sys.executable, __file__, f"--worker={ranks}", f"--samples={samples}"]] * ranks)
    return [max(row, key=lambda report: report["seconds"]) for row in zip(*found, strict=True)]


def reports(commands: Sequence[Sequence[str]]) -> list[list[dict[str, float]]]:
    """What the workers of these launches, all at the same time, print."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for command in commands
    ]
    printed = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit("a process has failed: see above")
    return [[json.loads(line) for line in text.splitlines() if line.startswith("{")] for text in printed]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--samples", type=int, default=24_000)
    parser.add_argument("--model", action="store_true")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.samples, arguments.worker)
        return
    if arguments.model:
        print_model()
        return
    several, n = arguments.ranks, arguments.samples
    rounds = [(measured(1, n), measured(several, n), ceilings(several, n)) for _ in range(arguments.repeats)]
    print(f"| method | batch | one process, s | {several} processes, s | speed-up (range) | ceiling | sent |")
    print("|---|---|---|---|---|---|---|")
    for row, report in enumerate(rounds[0][1]):
        alone, together, apart = ([run[row]["seconds"] for run in side] for side in zip(*rounds, strict=True))
        speed_up, ceiling = (
            sorted(a / b for a, b in zip(alone, side, strict=True)) for side in (together, apart)
        )
        spread = f"{statistics.median(speed_up):.2f} ({speed_up[0]:.2f} – {speed_up[-1]:.2f})"
        sent = f"{report['bytes'] / 1e6:.2f} MB in {report['messages']:.1f} messages an update"
        seconds = " | ".join(f"{statistics.median(side):.2f}" for side in (alone, together))
        what = f"{report['method']} | {report['batch']:.0f}"
        print(f"| {what} | {seconds} | {spread} | {statistics.median(ceiling):.2f} | {sent} |", flush=True)


if __name__ == "__main__":
    main()
