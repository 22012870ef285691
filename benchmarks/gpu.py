"""What a CUDA device makes of the methods: ceilings, element-wise kernels, epochs eager and recorded, TF32.

`python benchmarks/gpu.py [--device cuda] [--samples 60000] [--repeats 5]` prints Markdown tables under the
name of the card. It needs no data. Copies are given in GB/s read and written, products in TFLOP/s, kernels as
a share of the copy. `--device cpu` tries it out.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from nmfdnn.kernels import kernels
from nmfdnn.network import Network, dense, random_weights
from nmfdnn.source import Memory
from nmfdnn.training import (
    AlternatingConfig,
    AlternatingTrainer,
    BackpropConfig,
    BackpropTrainer,
    JacobiConfig,
    JacobiTrainer,
    SolverConfig,
    Trainer,
    graphs,
)
from nmfdnn.training.common import Stopwatch

WIDTHS = (784, 1000, 500, 10)


def seconds(function: Callable[[], object], device: torch.device, repeats: int, calls: int = 10) -> float:
    """Median seconds of a call, after two to warm up."""
    for _ in range(2):
        function()
    found = []
    for _ in range(repeats):
        watch = Stopwatch(device)
        for _ in range(calls):
            function()
        found.append(watch.seconds() / calls)
    return statistics.median(found)


def ceilings(device: torch.device, size: int, repeats: int) -> float:
    """Print what a copy and a product of float32 matrices reach; returns the copy's bytes a second."""
    A = torch.rand(size, size, device=device)
    B = torch.empty_like(A)
    copied = 2 * A.numel() * A.element_size() / seconds(lambda: B.copy_(A), device, repeats)
    print("| ceiling | |\n|---|---|")
    print(f"| copy | {copied / 1e9:.0f} GB/s |")
    for precision in ("highest", "high"):
        torch.set_float32_matmul_precision(precision)
        rate = 2 * size**3 / seconds(lambda: torch.mm(A, A, out=B), device, repeats)
        print(f"| product, {'TF32' if precision == 'high' else 'float32'} | {rate / 1e12:.2f} TFLOP/s |")
    torch.set_float32_matmul_precision("highest")
    return copied


def element_wise(device: torch.device, rows: int, copied: float, repeats: int) -> None:
    """Print which share of the copy's speed each kernel reaches, for what it must read and write."""
    g = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=g).to(device)

    Z, A, B, C, k = draw(rows, 1000), draw(rows, 1000), draw(rows, 1000), draw(rows, 1000), draw(1000)
    arguments: dict[str, tuple[Tensor | float, ...]] = {
        "multiplicative": (Z, A, B, k),
        "semi_multiplicative": (Z, A - 0.5, B, C, 0.1, k),
        "relu_residual": (Z, A),
        "step_and_project": (Z, A, 0.5),
    }
    print("\n| kernel | plain | compiled |\n|---|---|---|")
    for name, given in arguments.items():
        moved = sum(T.numel() * T.element_size() for T in given if isinstance(T, Tensor)) + Z.numel() * 4
        shares = []
        for backend in ("reference", "compiled"):
            function = getattr(kernels(backend), name)
            took = seconds(lambda f=function, a=given: f(*a), device, repeats)  # type: ignore[misc]
            shares.append(f"{100 * moved / took / copied:.0f} %")
        print(f"| {name} | {' | '.join(shares)} |")


def trainer(method: str, source: Memory) -> Trainer:
    """A fresh trainer of the net of the README."""
    g = torch.Generator().manual_seed(0)
    start = Network(random_weights(dense(*WIDTHS), True, "he", g, like=source.X), True)
    if method == "nmf":
        config = AlternatingConfig(min(5000, len(source)))
        return AlternatingTrainer(start, source, config, SolverConfig("cholesky", 5e-3, 3e-2), g)
    if method == "jacobi":
        return JacobiTrainer(start, source, JacobiConfig(), 6, g)
    return BackpropTrainer(start, source, BackpropConfig(), 6, g)


def epochs(device: torch.device, samples: int, repeats: int) -> None:
    """Print the seconds of an epoch of each method: eager and recorded, float32 and TF32."""
    g = torch.Generator().manual_seed(0)
    X, labels = torch.rand(samples, WIDTHS[0], generator=g), torch.randint(10, (samples,), generator=g)
    source = Memory(X.to(device), labels.to(device))
    recordable = graphs.recordable
    print("\n| method | products | eager, s | recorded, s |\n|---|---|---|---|")
    for method in ("nmf", "jacobi", "bp"):
        for precision in ("highest", "high"):
            torch.set_float32_matmul_precision(precision)
            found = []
            for recorded in (False, True) if method == "jacobi" else (False,):
                graphs.recordable = recordable if recorded else lambda device: False
                trained = trainer(method, source)
                trained.epoch()
                found.append(statistics.median(trained.epoch().seconds for _ in range(repeats)))
            cells = " | ".join(f"{took:.3f}" for took in found) + (" | –" if len(found) == 1 else "")
            print(f"| {method} | {'TF32' if precision == 'high' else 'float32'} | {cells} |")
    graphs.recordable = recordable
    torch.set_float32_matmul_precision("highest")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--samples", type=int, default=60_000)
    parser.add_argument("--size", type=int, default=8192, help="of the matrices of the ceilings")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )
    print(f"{name}, PyTorch {torch.__version__}\n")
    copied = ceilings(device, arguments.size, arguments.repeats)
    element_wise(device, arguments.samples, copied, arguments.repeats)
    epochs(device, arguments.samples, arguments.repeats)


if __name__ == "__main__":
    main()
