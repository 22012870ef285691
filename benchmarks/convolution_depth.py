"""Error as a function of the number of convolutions, the alternation beside backpropagation.

`python benchmarks/convolution_depth.py OUT` trains nets of 2 to 10 convolutions of 16 channels (5×5 with
stride 2, then 3×3; means over 2×2 pixels after half of them, over 3×3 before the output) on 4,000 pictures of
Fashion-MNIST for 8 epochs: `jacobi` with the settings of `experiment=conv`, `seidel` with the same, and
backpropagation with batches of 32 at two rates. It writes a Markdown table of errors on 4,000 other
training pictures, OUT/convolution_depth.md, and draws OUT/convolution_depth.png. One thread; no run is kept.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from launch import report, spread, study_parser
from matplotlib.figure import Figure
from robustness import band

from nmfdnn.data import SCHEMAS, Dataset, load
from nmfdnn.network import ConvolutionConfig, NetworkConfig, build_layers
from nmfdnn.runs.results import measure
from nmfdnn.training import (
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
)

CHANNELS = 16
TRAINED, HELD_OUT = 4_000, 4_000
EPOCHS = 8
METHODS = ("jacobi", "seidel", "backpropagation, rate 1e-2", "backpropagation, rate 3e-3")


def convolutions(depth: int) -> list[ConvolutionConfig]:
    """So many, over 14 × 14, then 7 × 7 pixels, with 2 × 2 means in the end."""
    pools = {(depth + 1) // 2: 2, depth: 3}
    first = ConvolutionConfig(CHANNELS, 5, 2, 2, pool=pools.get(1, 1))
    return [first, *(ConvolutionConfig(CHANNELS, 3, 1, 1, pool=pools.get(i, 1)) for i in range(2, depth + 1))]


def trainer(method: str, depth: int, data: Dataset, seed: int) -> Trainer:
    """From a He start, with the output by least squares for the alternation alone, as in the experiments."""
    backprop = method.startswith("backprop")
    output = "random" if backprop else "least_squares"
    net = NetworkConfig([], True, "he", output, convolution=convolutions(depth))
    generator = torch.Generator().manual_seed(seed)
    layers = build_layers(net, data.features, data.image_shape, data.outputs)
    solver = SolverConfig("cholesky", 1e-2, 1e-2)
    start = starting_network(data.train, layers, net, PretrainingConfig(), solver, generator).network
    if backprop:
        config = BackpropConfig(batch_size=32, learning_rate=float(method.split()[-1]))
        return BackpropTrainer(start, data.train, config, EPOCHS, generator)
    own: dict[str, Any] = {
        "batch_size": 25,
        "damping": 0.01,
        "gram_every": 20,
        "ridge": 0.0,
        "input_ridge": 0.0,
    }
    if method == "jacobi":
        return JacobiTrainer(start, data.train, JacobiConfig(**own), EPOCHS, generator)
    return SeidelTrainer(start, data.train, SeidelConfig(**own), EPOCHS, generator)


def main() -> None:
    """Train, tabulate, draw."""
    parser = study_parser(__doc__, seeds=[1])
    parser.add_argument("--depths", nargs="+", type=int, default=[2, 4, 6, 8, 10])
    arguments = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    found: dict[tuple[str, int], list[float]] = {}
    times: dict[tuple[str, int], list[float]] = {}
    for seed in arguments.seeds:
        some = SCHEMAS["fashion_mnist"](
            train_samples=TRAINED + HELD_OUT, validation=HELD_OUT / (TRAINED + HELD_OUT)
        )
        data = load(some, seed=seed, device=torch.device("cpu"), dtype=torch.float32)
        assert data.validation is not None  # for the type checker
        for depth in arguments.depths:
            for method in METHODS:
                made, start = trainer(method, depth, data, seed), time.process_time()
                for _ in range(EPOCHS):
                    made.epoch()
                times.setdefault((method, depth), []).append(time.process_time() - start)
                error = measure(made.network, data.validation)[0]
                found.setdefault((method, depth), []).append(error)
                print(f"{method}, {depth} convolutions, seed {seed}: {error:.2f} %", flush=True)
    lines = ["| method | convolutions | validation error, % | CPU seconds |", "|---|---|---|---|"]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for method in METHODS:
        errors = [found[method, depth] for depth in arguments.depths]
        for depth, values in zip(arguments.depths, errors, strict=True):
            seconds = spread(times[method, depth], "failed", ".0f")
            lines.append(f"| {method} | {depth} | {spread(values, 'diverged')} | {seconds} |")
        band(axes, arguments.depths, errors, label=method)
    axes.set(xlabel=f"convolutions of {CHANNELS} channels", ylabel="validation error, %", yscale="linear")
    axes.legend()
    report(lines, arguments.out / "convolution_depth.md")
    figure.savefig(arguments.out / "convolution_depth.png", dpi=110)


if __name__ == "__main__":
    main()
