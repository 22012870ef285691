"""Divergences and missing entries: seconds to an objective, against scikit-learn and between updates.

`python benchmarks/objectives.py [--threads 1] [--starts 3] [--seconds 4]` prints Markdown tables. All methods
of a row start from the same random factors, in float32. The clock (CPU time on one thread, else wall time)
stands still while the objective is taken from outside. Peers have no weights of entries.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from factorization import Curve, pictures, planted, reached
from sklearn.decomposition import non_negative_factorization
from torch import Tensor

from nmfdnn.data import MNIST
from nmfdnn.factorization import Pair, Stopping, nmf
from nmfdnn.factorization.objective import Objective

clock = time.process_time


def scikit_learn(A: Tensor, Z: Tensor, W: Tensor, beta: int) -> Iterator[Pair]:
    """Its multiplicative updates, ten at a time."""
    X, z, w = A.numpy(), Z.numpy().copy(), W.numpy().copy()
    settings: dict[str, Any] = {"init": "custom", "solver": "mu", "max_iter": 10, "tol": 0}
    while True:
        z, w, _ = non_negative_factorization(X, z, w, n_components=len(w), beta_loss=beta, **settings)
        yield Pair(torch.from_numpy(z), torch.from_numpy(w))


def watched(goal: Objective, pairs: Iterator[Pair], budget: float) -> Curve:
    """The objective against seconds, for `budget` seconds."""
    curve, spent = [], 0.0
    while spent < budget:
        begin = clock()
        pair = next(pairs)
        spent += clock() - begin
        curve.append((spent, float(goal.value(pair))))
    return curve


def run(goal: Objective, budget: float, **settings: Any) -> Curve:
    """The same for one long call, whose own checks count."""
    curve: Curve = []
    begin = clock()

    def watch(_iteration: int, _pair: Pair, value: float) -> bool:
        curve.append((clock() - begin, value))
        return curve[-1][0] >= budget

    nmf(goal.A, stopping=Stopping(10**6, 0, 10, watch), **settings)
    return curve


def table(title: str, races: list[dict[str, Curve]]) -> None:
    """Print medians of seconds to within 1 % and 0.1 % of the best of each start, and of the end."""
    print(f"\n**{title}**, {len(races)} starts\n")
    print("| method | 1 % | 0.1 % | end, % above | rises |\n|---|---|---|---|---|")
    best = [min(v for curve in curves.values() for _, v in curve) for curves in races]
    for method in races[0]:
        curves = [race[method] for race in races]
        times = [
            statistics.median(reached(c, part * b) for c, b in zip(curves, best, strict=True))
            for part in (1.01, 1.001)
        ]
        end = statistics.median(min(v for _, v in c) / b - 1 for c, b in zip(curves, best, strict=True))
        rise = max(b / a - 1 for c in curves for (_, a), (_, b) in pairwise(c))
        shown = " | ".join("–" if t == float("inf") else f"{t:.2f}" for t in times)
        print(
            f"| {method} | {shown} | {100 * end:.2f} | {'no' if rise < 1e-5 else f'{rise:.0e}'} |", flush=True
        )


def starting(A: Tensor, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """Uniform factors of the mean of A."""
    g = torch.Generator().manual_seed(seed)
    size = 2 * (A.mean() / rank).sqrt()
    return torch.rand(len(A), rank, generator=g) * size, torch.rand(rank, A.shape[1], generator=g) * size


def divergences(name: str, A: Tensor, rank: int, beta: int, starts: int, budget: float) -> None:
    """Against scikit-learn's multiplicative updates."""
    races = []
    for seed in range(starts):
        Z, W = starting(A, rank, seed)
        goal = Objective(A, beta=beta)
        races.append(
            {
                "scikit-learn mu": watched(goal, scikit_learn(A, Z, W, beta), budget),
                "nmfdnn multiplicative": run(goal, budget, rank=rank, beta=beta, start=(Z, W)),
            }
        )
    table(f"{name}, r = {rank}, β = {beta}", races)


def masked(name: str, A: Tensor, rank: int, known: float, starts: int, budget: float) -> None:
    """Completion, extrapolated, against weighted multiplicative updates."""
    V = (torch.rand(A.shape, generator=torch.Generator().manual_seed(9)) < known).float()
    races = []
    for seed in range(starts):
        goal, start = Objective(A, V), starting(A, rank, seed)
        given: dict[str, Any] = {"rank": rank, "weights": V, "start": start}
        races.append(
            {
                update: run(goal, budget, update=update, **given)
                for update in ("accelerated", "multiplicative")
            }
        )
    table(f"{name}, r = {rank}, {100 * known:.0f} % known", races)


def main() -> None:
    """Print the tables."""
    global clock
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.threads > 1:
        clock = time.perf_counter
    warnings.filterwarnings("ignore")
    print(f"torch {torch.__version__}, {options.threads} threads, float32, {clock.__name__}")
    mnist = pictures(MNIST(train_samples=5000, validation=0.0))
    small = planted(2000, 500, 10)
    settings = options.starts, options.seconds
    divergences("mnist 5,000 × 784", mnist, 20, 1, *settings)
    divergences("planted 2,000 × 500", small, 10, 1, *settings)
    divergences("planted 2,000 × 500", small + small.mean() / 100, 10, 0, *settings)
    masked("mnist 5,000 × 784", mnist, 20, 0.5, *settings)
    masked("mnist 5,000 × 784", mnist, 100, 0.9, *settings)
    masked("planted 2,000 × 500", small, 10, 0.1, *settings)


if __name__ == "__main__":
    main()
