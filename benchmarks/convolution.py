"""What an epoch of a convolutional net costs, each method beside backpropagation on the same net and samples.

`python benchmarks/convolution.py` trains c32 5×5/2 – c64 5×5/2 – 256, or with `--net conv` the network of
`experiment=conv` in its batches, on 5,000 pictures of Fashion-MNIST, on one thread, the methods in turn for
some rounds, and prints a Markdown table: CPU seconds an epoch (so that other processes on the machine count
less), median and range, and the ratio to backpropagation's in the same round. `--profile METHOD` prints
instead where the time of an epoch goes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from launch import spread

from nmfdnn.data import SCHEMAS, Dataset, load
from nmfdnn.network import ConvolutionConfig, NetworkConfig, build_layers
from nmfdnn.source import Memory
from nmfdnn.training import (
    AlternatingConfig,
    AlternatingTrainer,
    BackpropConfig,
    BackpropTrainer,
    JacobiConfig,
    JacobiTrainer,
    PretrainingConfig,
    SolverConfig,
    Trainer,
    starting_network,
)

WIDE = NetworkConfig(
    [256], True, "he", convolution=[ConvolutionConfig(32, 5, 2), ConvolutionConfig(64, 5, 2)]
)
POOLED = NetworkConfig(
    [],
    True,
    "he",
    convolution=[
        ConvolutionConfig(32, 5, 1, 2, pool=2),
        ConvolutionConfig(64, 3, 1, 1, pool=2),
        ConvolutionConfig(64, 3, 1, 1, pool=3),
    ],
)
NETS = {
    "wide": (WIDE, BackpropConfig(), JacobiConfig()),
    "conv": (
        POOLED,
        BackpropConfig(batch_size=32),
        JacobiConfig(batch_size=25, damping=0.01, gram_every=20, ridge=0.0, input_ridge=0.0),
    ),
}
SOLVER = SolverConfig("cholesky", 1e-2, 1e-2)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def trainers(net: str, data: Dataset, samples: int, epochs: int) -> dict[str, Trainer]:
    """One of each method, after the start that all share."""
    assert isinstance(data.train, Memory)  # for the type checker
    source = Memory(data.train.X[:samples], data.train.labels[:samples])
    config, backprop, jacobi = NETS[net]
    layers = build_layers(config, data.features, data.image_shape, data.outputs)
    start = starting_network(source, layers, config, PretrainingConfig(), SOLVER, generator()).network
    alternating = AlternatingConfig(batch_size=1000, weight_steps=1)
    return {
        "bp": BackpropTrainer(start, source, backprop, epochs, generator()),
        "jacobi": JacobiTrainer(start, source, jacobi, epochs, generator()),
        "nmf": AlternatingTrainer(start, source, alternating, SOLVER, generator()),
    }


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", default="wide", choices=[*NETS])
    parser.add_argument("--data", default="fashion_mnist", choices=[*SCHEMAS])
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=["jacobi", "nmf"], help="beside bp")
    parser.add_argument("--profile", metavar="METHOD")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = load(SCHEMAS[arguments.data](), seed=1, device=torch.device("cpu"), dtype=torch.float32)
    made = trainers(arguments.net, data, arguments.samples, 2 + arguments.rounds)
    if arguments.profile:
        trainer = made[arguments.profile]
        trainer.epoch()
        with torch.profiler.profile() as profile:
            trainer.epoch()
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))
        return
    made = {name: made[name] for name in ("bp", *arguments.methods)}
    found: dict[str, list[float]] = {name: [] for name in made}
    for trainer in made.values():
        trainer.epoch()  # a warm-up, and statistics that are made once
    for _ in range(arguments.rounds):
        for name, trainer in made.items():
            found[name].append(seconds(trainer.epoch))
    print("| method | CPU seconds an epoch, median (range) | ratio to bp, median (range) |\n|---|---|---|")
    for name, times in found.items():
        ratios = [a / b for a, b in zip(times, found["bp"], strict=True)]
        print(f"| {name} | {spread(times, 'failed')} | {spread(ratios, 'failed')} |")


if __name__ == "__main__":
    main()
