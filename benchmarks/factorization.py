"""Factorizations against their peers: seconds until the objective is near the best that anyone reached.

`python benchmarks/factorization.py OUT [--threads 1] [--starts 5] [--only mnist] [--large]` prints Markdown
tables and draws OUT/factorization.png. All start from the same random factors, in float32; the methods take
turns, so that a change of the machine's load meets all. The clock (CPU time on one thread, else wall time)
stands still while the objective is taken from outside. Peers that are not installed are left out:
`pip install --no-deps torchnmf nmf-torch tensorly`.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.decomposition import non_negative_factorization
from torch import Tensor

from nmfdnn.data import MNIST, FashionMNIST, load
from nmfdnn.factorization import Alternation, Pair, Stopping, nmf, nonlinear_semi_nmf, semi_nmf

Curve = list[tuple[float, float]]
Factors = tuple[Tensor, Tensor]
Peer = Callable[[Tensor, Tensor, Tensor], Iterator[Factors]]
"""(A, Z, W) to the factors after some iterations, after some more, …"""

clock = time.process_time


def scikit_learn(solver: str) -> Peer:
    """Ten iterations at a time: neither solver has a memory."""

    def run(A: Tensor, Z: Tensor, W: Tensor) -> Iterator[Factors]:
        X, z, w = A.numpy(), Z.numpy().copy(), W.numpy().copy()
        settings: dict[str, Any] = {"init": "custom", "solver": solver, "max_iter": 10, "tol": 0}
        while True:
            z, w, _ = non_negative_factorization(X, z, w, n_components=len(w), **settings)
            yield torch.from_numpy(z), torch.from_numpy(w)

    return run


def torchnmf(A: Tensor, Z: Tensor, W: Tensor) -> Iterator[Factors]:
    """Multiplicative updates."""
    from torchnmf.nmf import NMF

    model = NMF(W=W.T.contiguous(), H=Z.clone())
    while True:
        model.fit(A, beta=2, tol=0, max_iter=10)
        yield model.H.detach(), model.W.detach().T


def nmf_torch(name: str) -> Peer:
    """Its HALS or its block principal pivoting, which calls a function that PyTorch has removed."""

    def run(A: Tensor, Z: Tensor, W: Tensor) -> Iterator[Factors]:
        from nmf import nmf_models

        torch.cholesky = torch.linalg.cholesky
        settings: dict[str, Any] = dict.fromkeys(("alpha_W", "l1_ratio_W", "alpha_H", "l1_ratio_H"), 0.0)
        settings |= {"init": "random", "beta_loss": 2.0, "tol": 0.0, "random_state": 0}
        settings |= {"fp_precision": "float", "device_type": "cpu"}
        model = getattr(nmf_models, name)(n_components=len(W), **settings)
        model.X, model.H, model.W = A, Z.clone(), W.clone()
        model._WWT, model._XWT = W @ W.T, A @ W.T
        while True:
            model._update_H()
            model._update_W()
            yield model.H, model.W

    return run


def tensorly(A: Tensor, Z: Tensor, W: Tensor) -> Iterator[Factors]:
    """HALS, one outer iteration of five sweeps at a time (its default of 500 ends nowhere)."""
    from tensorly.solvers.nnls import hals_nnls

    X, z, w = A.numpy(), Z.numpy().copy(), W.numpy().copy()
    while True:
        z = hals_nnls(w @ X.T, w @ w.T, z.T, n_iter_max=5).T
        w = hals_nnls(z.T @ X, z.T @ z, w, n_iter_max=5)
        yield torch.from_numpy(z), torch.from_numpy(w)


PEERS: dict[str, tuple[str, Peer]] = {
    "scikit-learn cd": ("sklearn", scikit_learn("cd")),
    "scikit-learn mu": ("sklearn", scikit_learn("mu")),
    "torchnmf": ("torchnmf", torchnmf),
    "nmf-torch HALS": ("nmf", nmf_torch("NMFBatchHALS")),
    "nmf-torch BPP": ("nmf", nmf_torch("NMFBatchNnlsBpp")),
    "tensorly HALS": ("tensorly", tensorly),
}


def value(A: Tensor, fit: Tensor) -> float:
    """½‖A − fit‖²."""
    return 0.5 * float(torch.linalg.vector_norm(fit - A, dim=1).double().square().sum())


def watched(A: Tensor, factors: Iterator[Factors], budget: float) -> Curve:
    """The objective against seconds, for `budget` seconds; A's factors before the first."""
    curve, spent = [], 0.0
    while spent < budget:
        begin = clock()
        Z, W = next(factors)
        spent += clock() - begin
        curve.append((spent, value(A, Z @ W)))
    return curve


def ours(function: Callable[..., object], budget: float, check: int = 5, **settings: object) -> Curve:
    """The same for a function of this library, whose own checks count."""
    curve: Curve = []
    begin = clock()

    def watch(_iteration: int, _pair: Pair, value: float) -> bool:
        curve.append((clock() - begin, value))
        return curve[-1][0] >= budget

    function(**settings, stopping=Stopping(10**6, 0, check, watch))
    return curve


def race(A: Tensor, rank: int, seed: int, budget: float) -> dict[str, Curve]:
    """All methods from one random start."""
    g = torch.Generator().manual_seed(seed)
    size = 2 * (A.mean() / rank).sqrt()
    Z, W = torch.rand(len(A), rank, generator=g) * size, torch.rand(rank, A.shape[1], generator=g) * size
    curves = {
        name: watched(A, peer(A, Z, W), budget)
        for name, (module, peer) in PEERS.items()
        if importlib.util.find_spec(module)
    }
    given: dict[str, Any] = {"A": A, "rank": rank}
    for update in ("accelerated", "hals", "multiplicative"):
        curves[f"nmfdnn {update}"] = ours(nmf, budget, start=(Z, W), update=update, **given)
    g.manual_seed(seed)
    curves["nmfdnn, subsample first"] = ours(nmf, budget, start="random", generator=g, **given)
    return curves


def reached(curve: Curve, limit: float) -> float:
    """Seconds to an objective ≤ `limit`, infinite if it was not reached."""
    return next((seconds for seconds, value in curve if value <= limit), math.inf)


def row(name: str, races: list[dict[str, Curve]]) -> None:
    """Print medians of seconds to within 1 % and 0.1 % of the best of each start."""
    print(f"\n**{name}**, {len(races)} starts\n\n| method | 1 % | 0.1 % | end, % above |\n|---|---|---|---|")
    best = [min(v for curve in curves.values() for _, v in curve) for curves in races]
    for method in races[0]:
        times = [
            statistics.median(
                reached(curves[method], part * b) for curves, b in zip(races, best, strict=True)
            )
            for part in (1.01, 1.001)
        ]
        end = statistics.median(
            min(v for _, v in curves[method]) / b - 1 for curves, b in zip(races, best, strict=True)
        )
        shown = " | ".join("–" if math.isinf(t) else f"{t:.3f}" for t in times)
        print(f"| {method} | {shown} | {100 * end:.2f} |", flush=True)


def planted(n: int, m: int, rank: int, seed: int = 5) -> Tensor:
    """Sparse nonnegative factors' product and some noise."""
    g = torch.Generator().manual_seed(seed)
    Z, W = (torch.rand(s, generator=g) * (torch.rand(s, generator=g) < 0.3) for s in ((n, rank), (rank, m)))
    A = Z @ W
    return A + 0.1 * A.mean() * torch.rand(A.shape, generator=g)


def pictures(config: MNIST | FashionMNIST) -> Tensor:
    """Training pictures, n × 784, in 0..1."""
    cpu = torch.device("cpu")
    return next(load(config, seed=0, device=cpu, dtype=torch.float32).train.passes()).X


def problems(large: bool) -> dict[str, tuple[Callable[[], Tensor], int, float]]:
    """Data, rank and seconds for each method."""
    mnist = MNIST(train_samples=5000, validation=0.0)
    fashion = FashionMNIST(train_samples=20000, validation=0.0)
    found: dict[str, tuple[Callable[[], Tensor], int, float]] = {
        "small 500 × 100, r = 10": (lambda: planted(500, 100, 10), 10, 0.4),
        "mnist 5,000 × 784, r = 20": (lambda: pictures(mnist), 20, 2.0),
        "mnist 5,000 × 784, r = 100": (lambda: pictures(mnist), 100, 10.0),
        "fashion 20,000 × 784, r = 20": (lambda: pictures(fashion), 20, 5.0),
        "planted 20,000 × 1,000, r = 50": (lambda: planted(20000, 1000, 50), 50, 6.0),
    }
    if large:
        whole = FashionMNIST(train_samples=60000, validation=0.0)
        for rank, budget in ((20, 20.0), (100, 60.0), (500, 300.0)):
            found[f"fashion 60,000 × 784, r = {rank}"] = (lambda: pictures(whole), rank, budget)
    return found


def without_signs(A: Tensor, rank: int, starts: int, budget: float) -> None:
    """Semi-NMF and nonlinear semi-NMF: this library's defaults against the papers' updates."""
    print(
        f"\n| {len(A)} × {A.shape[1]}, r = {rank} | end of the paper's | reached after, s | ratio | own end |"
    )
    print("|---|---|---|---|---|")
    for function, old in (
        (semi_nmf, {"update": "multiplicative"}),
        (nonlinear_semi_nmf, {"alternation": Alternation()}),
    ):
        found = []
        for seed in range(starts):
            draws = [torch.Generator().manual_seed(seed) for _ in range(2)]
            given: dict[str, Any] = {"A": A, "rank": rank}
            paper = ours(function, budget, generator=draws[0], **old, **given)
            own = ours(function, budget, 1, generator=draws[1], **given)
            goal = min(v for _, v in paper)
            found.append((goal, reached(own, goal), reached(paper, goal), min(v for _, v in own)))
        goal, time_own, time_paper, end = (statistics.median(values) for values in zip(*found, strict=True))
        ratio = time_paper / time_own
        print(f"| {function.__name__} | {goal:.0f} | {time_own:.2f} | {ratio:.0f} | {end:.0f} |", flush=True)


def draw(folder: Path, curves: dict[str, dict[str, Curve]]) -> None:
    """Objective above the best against seconds, a panel for each problem."""
    figure, panels = plt.subplots(1, len(curves), figsize=(4 * len(curves), 3.4), squeeze=False)
    for panel, (name, methods) in zip(panels[0], curves.items(), strict=True):
        best = min(v for curve in methods.values() for _, v in curve)
        for method, curve in methods.items():
            seconds, values = zip(*curve, strict=True)
            style = "-" if method.startswith("nmfdnn") else "--"
            panel.loglog(seconds, np.array(values) / best - 1 + 1e-5, style, label=method, linewidth=1)
        panel.set_title(name, fontsize=8)
        panel.set_xlabel("seconds")
    panels[0, 0].set_ylabel("objective above the best, relative")
    panels[0, -1].legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(folder / "factorization.png", dpi=110)


def main() -> None:
    """Print the tables, draw the figure."""
    global clock
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--only", default="", help="problems whose name has this in it")
    parser.add_argument("--large", action="store_true", help="Fashion-MNIST, 60,000 samples, too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.threads > 1:
        clock = time.perf_counter
    warnings.filterwarnings("ignore")
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"torch {torch.__version__}, {options.threads} threads, float32, {clock.__name__}")
    shown = {}
    race(planted(50, 20, 2), 2, 0, 0.01)  # compiles and loads what is compiled and loaded at first use
    for name, (data, rank, budget) in problems(options.large).items():
        if options.only in name:
            A = data()
            races = [race(A, rank, seed, budget) for seed in range(options.starts)]
            row(name, races)
            shown[name] = races[0]
    if options.only in "semi":
        without_signs(pictures(MNIST(train_samples=5000, validation=0.0)), 100, options.starts, 5.0)
    if shown:
        draw(options.out, shown)


if __name__ == "__main__":
    main()
