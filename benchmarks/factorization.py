"""Factorizations against scikit-learn, fused kernels against plain tensors: ratios taken in one run.

`python benchmarks/factorization.py [--repeats 7] [--threads 2]` prints a Markdown table; each row's two sides
alternate, so that a change of the machine's load meets both.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from sklearn.decomposition import non_negative_factorization

from nmfdnn.factorization import Pair, hals_step, multiplicative_step
from nmfdnn.kernels import Kernels, kernels

ITERATIONS = 20


def seconds(function: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compare(name: str, ours: Callable[[], object], peer: Callable[[], object], repeats: int) -> str:
    """One row: medians of both sides, and the median and range of the ratio peer / ours."""
    ours()
    peer()
    pairs = [(seconds(ours), seconds(peer)) for _ in range(repeats)]
    ratios = sorted(b / a for a, b in pairs)
    mine, other = (1000 * statistics.median(side) for side in zip(*pairs, strict=True))
    middle = statistics.median(ratios)
    return f"| {name} | {mine:.1f} | {other:.1f} | {middle:.2f} ({ratios[0]:.2f} – {ratios[-1]:.2f}) |"


def against_scikit_learn(update: str, n: int, m: int, rank: int, repeats: int) -> str:
    """`ITERATIONS` iterations from the same start, in float32."""
    generator = torch.Generator().manual_seed(0)
    A = torch.rand((n, m), generator=generator)
    Z, W = torch.rand((n, rank), generator=generator), torch.rand((rank, m), generator=generator)
    step = multiplicative_step if update == "multiplicative" else hals_step

    def ours() -> Pair:
        pair = Pair(Z, W)
        for _ in range(ITERATIONS):
            pair = step(A, pair)
        return pair

    def peer() -> object:
        return non_negative_factorization(
            A.numpy(),
            W=Z.numpy().copy(),
            H=W.numpy().copy(),
            n_components=rank,
            init="custom",
            solver="mu" if update == "multiplicative" else "cd",
            max_iter=ITERATIONS,
            tol=0,
        )

    return compare(f"nmf {update}, {n} × {m}, rank {rank}", ours, peer, repeats)


def against_plain(name: str, shape: tuple[int, int], repeats: int) -> str:
    """A fused element-wise chain against the plain version."""
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.rand(shape, generator=generator) for _ in range(4)]
    arguments: dict[str, list[object]] = {
        "multiplicative": [*tensors[:3], torch.ones(shape[1])],
        "semi_multiplicative": [tensors[0], tensors[1] - 0.5, *tensors[2:], 0.1, torch.ones(shape[1])],
        "relu_residual": [*tensors[:2]],
        "step_and_project": [*tensors[:2], 0.5],
    }

    def call(backend: Kernels) -> Callable[[], object]:
        return lambda: getattr(backend, name)(*arguments[name])

    fused, plain = call(kernels("compiled")), call(kernels("reference"))
    return compare(f"kernel {name}, {shape[0]} × {shape[1]}", fused, plain, repeats)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", message="Maximum number of iterations")
    print(f"torch {torch.__version__}, numpy {np.__version__}, {torch.get_num_threads()} threads, float32\n")
    print("| what | nmfdnn, ms | peer, ms | peer / nmfdnn: median (range) |\n|---|---|---|---|")
    for update in ("multiplicative", "hals"):
        for n, m, rank in ((2000, 500, 20), (5000, 784, 100)):
            print(against_scikit_learn(update, n, m, rank, options.repeats), flush=True)
    for name in ("multiplicative", "semi_multiplicative", "relu_residual", "step_and_project"):
        print(against_plain(name, (5000, 1000), options.repeats), flush=True)


if __name__ == "__main__":
    main()
