"""Error as a function of the number of convolutions, the alternation beside backpropagation.

`python benchmarks/convolution_depth.py OUT` trains nets of 2 to 10 convolutions of 16 channels (5×5 with
stride 2, then 3×3; means over 2×2 pixels after half of them, over 3×3 before the output) on 4,000 pictures of
Fashion-MNIST: the alternation with the settings of `experiment=conv` for 4 epochs, backpropagation with those
of `conv_bp` at two rates for 8. It writes a Markdown table of errors on 4,000 other training pictures,
OUT/convolution_depth.md, and draws OUT/convolution_depth.png. One thread; no run is kept.
"""

from __future__ import annotations

import time

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
    SolverConfig,
    Trainer,
    starting_network,
)

CHANNELS = 16
TRAINED, HELD_OUT = 4_000, 4_000
EPOCHS = {"alternation": 4, "backpropagation, rate 1e-2": 8, "backpropagation, rate 3e-3": 8}


def convolutions(depth: int) -> list[ConvolutionConfig]:
    """So many, over 14 × 14, then 7 × 7 pixels, with 2 × 2 means in the end."""
    pools = {(depth + 1) // 2: 2, depth: 3}
    first = ConvolutionConfig(CHANNELS, 5, 2, 2, pool=pools.get(1, 1))
    return [first, *(ConvolutionConfig(CHANNELS, 3, 1, 1, pool=pools.get(i, 1)) for i in range(2, depth + 1))]


def trainer(method: str, depth: int, data: Dataset, seed: int) -> Trainer:
    """From a He start, with the output by least squares for the alternation alone, as in the experiments."""
    output = "least_squares" if method == "alternation" else "random"
    net = NetworkConfig([], True, "he", output, convolution=convolutions(depth))
    generator = torch.Generator().manual_seed(seed)
    layers = build_layers(net, data.features, data.image_shape, data.outputs)
    solver = SolverConfig("cholesky", 1e-2, 1e-2)
    start = starting_network(data.train, layers, net, PretrainingConfig(), solver, generator).network
    epochs = EPOCHS[method]
    if method == "alternation":
        jacobi = JacobiConfig(batch_size=50, damping=0.01, gram_every=20)
        return JacobiTrainer(start, data.train, jacobi, epochs, generator)
    backprop = BackpropConfig(batch_size=32, learning_rate=float(method.split()[-1]))
    return BackpropTrainer(start, data.train, backprop, epochs, generator)


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
            for method, epochs in EPOCHS.items():
                made, start = trainer(method, depth, data, seed), time.process_time()
                for _ in range(epochs):
                    made.epoch()
                times.setdefault((method, depth), []).append(time.process_time() - start)
                error = measure(made.network, data.validation)[0]
                found.setdefault((method, depth), []).append(error)
                print(f"{method}, {depth} convolutions, seed {seed}: {error:.2f} %", flush=True)
    lines = ["| method | convolutions | validation error, % | CPU seconds |", "|---|---|---|---|"]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for method in EPOCHS:
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
