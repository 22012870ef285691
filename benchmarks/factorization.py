"""Factorizations against their peers: seconds until the objective is near the best that anyone reached.

`python benchmarks/factorization.py OUT [--threads 1] [--starts 5] [--rows mnist] [--tables]` runs the rows
whose name has this in it, prints Markdown tables of all that OUT has by then and draws OUT/factorization.png.
What was measured for a row and a start lies in OUT and is not measured again, so a run may be cut and goes
on. All methods start from the same random factors, in float32, and take turns, so that a change of the
machine's load meets all. The clock (CPU time on one thread, else wall time) stands still while the objective
is taken from outside. Peers that are not installed are left out: `pip install --no-deps torchnmf nmf-torch
tensorly nimfa`. On sparse data only those are asked that do not make them dense. RcppML, where R has it (`apt
install r-cran-rcppml`), runs by rcppml.R in float64 from a random start of its own, as it takes no other,
against R's own clock. Large rows leave out the peers that are far behind on others.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse
import torch
from matplotlib.ticker import NullFormatter
from sklearn.decomposition import MiniBatchNMF, non_negative_factorization
from torch import Tensor

from nmfdnn.data import MNIST, FashionMNIST, load
from nmfdnn.factorization import (
    Accelerated,
    Alternation,
    Latent,
    OnlineNMF,
    Pair,
    Stopping,
    nmf,
    nonlinear_semi_nmf,
    semi_nmf,
    transform,
)
from nmfdnn.factorization.sparse import Sparse, given

Curve = list[tuple[float, float]]
Factors = tuple[Tensor, Tensor]
Peer = Callable[[Any, Tensor, Tensor], Iterator[Factors]]
"""(A, Z, W) to the factors after some iterations, after some more, …"""

clock = time.process_time


def scikit_learn(solver: str) -> Peer:
    """Ten iterations at a time: neither solver has a memory."""

    def run(A: Any, Z: Tensor, W: Tensor) -> Iterator[Factors]:
        X, z, w = A.numpy() if isinstance(A, Tensor) else A, Z.numpy().copy(), W.numpy().copy()
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


def nimfa(A: Tensor, Z: Tensor, W: Tensor) -> Iterator[Factors]:
    """Multiplicative updates, ten at a time."""
    vars(np).setdefault("mat", np.asmatrix)  # which it calls, and NumPy 2 no longer has
    import nimfa

    z, w = Z.double().numpy(), W.double().numpy()
    settings: dict[str, Any] = {"seed": None, "rank": len(W), "max_iter": 10, "update": "euclidean"}
    while True:
        found = nimfa.Nmf(A.double().numpy(), W=z, H=w, objective="fro", **settings)()
        z, w = np.asarray(found.basis()), np.asarray(found.coef())
        yield torch.from_numpy(z).float(), torch.from_numpy(w).float()


PEERS: dict[str, tuple[str, Peer]] = {
    "scikit-learn cd": ("sklearn", scikit_learn("cd")),
    "scikit-learn mu": ("sklearn", scikit_learn("mu")),
    "torchnmf": ("torchnmf", torchnmf),
    "nmf-torch HALS": ("nmf", nmf_torch("NMFBatchHALS")),
    "nmf-torch BPP": ("nmf", nmf_torch("NMFBatchNnlsBpp")),
    "tensorly HALS": ("tensorly", tensorly),
    "nimfa": ("nimfa", nimfa),
}


def rcppml(A: Any, rank: int, seed: int, budget: float) -> Curve:
    """The objective after fits of RcppML of more and more iterations against R's seconds of each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if isinstance(A, Tensor):
            stored, values = 0, A.numpy()
        else:
            columns = A.tocsc()
            stored, values = columns.nnz, columns.data
            columns.indices.astype(np.int32).tofile(folder / "rows")
            columns.indptr.astype(np.int32).tofile(folder / "starts")
        values.astype(np.float32).ravel("F").tofile(folder / "values")
        np.array([*A.shape, stored], np.int32).tofile(folder / "shape")
        command = ["Rscript", str(Path(__file__).with_name("rcppml.R")), name]
        command += [str(number) for number in (rank, seed, budget, torch.get_num_threads())]
        subprocess.run(command, check=True)
        seconds = [float(line) for line in (folder / "seconds.txt").read_text().split()]
        curve = []
        for number, spent in enumerate(seconds):
            factors = torch.from_numpy(np.fromfile(folder / f"factors.{number}")).float()
            Z, W = factors.split([len(factors) - rank * A.shape[1], rank * A.shape[1]])
            found = value(given(A), Z.view(rank, -1).T, W.view(-1, rank).T)
            curve.append((spent, found))
    return curve


@cache
def has_rcppml() -> bool:
    """Whether `rcppml` can run; says so once if not."""
    script = "quit(status = !requireNamespace('RcppML', quietly = TRUE))"
    found = shutil.which("Rscript") is not None
    found = found and subprocess.run(["Rscript", "-e", script], capture_output=True).returncode == 0
    if not found:
        print("RcppML is left out: Rscript or its package is not installed", file=sys.stderr)
    return found


def value(A: Any, Z: Tensor, W: Tensor) -> float:
    """½‖A − ZW‖², of a `Sparse` A too."""
    if isinstance(A, Sparse):
        return float(A.half_distance(Z, W))
    return 0.5 * float(torch.linalg.vector_norm(Z @ W - A, dim=1).double().square().sum())


def watched(A: Any, factors: Iterator[Factors], budget: float) -> Curve:
    """The objective against seconds, for `budget` seconds; A's factors before the first."""
    curve, spent = [], 0.0
    while spent < budget:
        begin = clock()
        Z, W = next(factors)
        spent += clock() - begin
        curve.append((spent, value(A, Z, W)))
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


def race(A: Any, rank: int, seed: int, budget: float, without: tuple[str, ...] = ()) -> dict[str, Curve]:
    """All methods but those `without`, from one random start (RcppML from its own)."""
    g = torch.Generator().manual_seed(seed)
    n, m = A.shape
    size = 2 * math.sqrt(float(A.mean()) / rank)
    Z, W = torch.rand(n, rank, generator=g) * size, torch.rand(rank, m, generator=g) * size
    dense = isinstance(A, Tensor)
    seen = given(A)
    curves = {
        name: watched(seen, peer(A, Z, W), budget)
        for name, (module, peer) in PEERS.items()
        if name not in without and importlib.util.find_spec(module) and (dense or module == "sklearn")
    }
    if has_rcppml():
        curves["RcppML"] = rcppml(A, rank, seed, budget)
    settings: dict[str, Any] = {"A": A, "rank": rank}
    for update in ("accelerated", "hals", "multiplicative"):
        if f"nmfdnn {update}" in without:
            continue
        curves[f"nmfdnn {update}"] = ours(nmf, budget, start=(Z, W), update=update, **settings)
    g.manual_seed(seed)
    curves["nmfdnn, subsample first"] = ours(nmf, budget, start="random", generator=g, **settings)
    return curves


def signs(function: Callable[..., object], old: dict[str, Any]) -> Callable[..., dict[str, Curve]]:
    """Semi-NMF or nonlinear semi-NMF: this library's default against the papers' updates."""

    def run(A: Tensor, rank: int, seed: int, budget: float) -> dict[str, Curve]:
        draws = [torch.Generator().manual_seed(seed) for _ in range(2)]
        given: dict[str, Any] = {"A": A, "rank": rank}
        return {
            "the papers'": ours(function, budget, generator=draws[0], **old, **given),
            "nmfdnn default": ours(function, budget, 1, generator=draws[1], **given),
        }

    return run


def online(A: Tensor, rank: int, seed: int, budget: float) -> dict[str, Curve]:
    """Passes over a stream of blocks of 1,000 rows; what W is worth is told by exact codes of all rows."""
    order = torch.randperm(len(A), generator=torch.Generator().manual_seed(seed))
    blocks = A[order].split(1000)

    def fit(function: Callable[[Tensor], object], parts: Callable[[], Tensor]) -> Curve:
        curve, spent = [], 0.0
        while spent < budget:
            begin = clock()
            for block in blocks:
                function(block)
            spent += clock() - begin
            curve.append((spent, transform(A, parts(), stopping=Stopping(30, 1e-5, 2)).objective[-1]))
        return curve

    own = OnlineNMF(rank, generator=torch.Generator().manual_seed(seed))
    peer = MiniBatchNMF(rank, init="nndsvda", random_state=seed)
    return {
        "nmfdnn OnlineNMF": fit(own.partial_fit, lambda: own.W),
        "scikit-learn MiniBatchNMF": fit(
            lambda block: peer.partial_fit(block.numpy()),
            lambda: torch.from_numpy(peer.components_.astype(np.float32)),
        ),
    }


def recovery(A: Tensor, rank: int, seed: int, _budget: float) -> dict[str, Curve]:
    """The maximal error of a fit to the identity, in the place of the objective."""
    found = {}
    for name, how in (("nmfdnn default", Latent()), ("the papers'", Alternation())):
        begin = clock()
        g = torch.Generator().manual_seed(seed)
        stopping = Stopping(10_000, 0, 100, lambda _i, _pair, value: value < 1e-12)
        result = nonlinear_semi_nmf(A, rank, alternation=how, generator=g, stopping=stopping)
        error = float((A - (result.Z @ result.W).relu()).abs().max())
        found[name] = [(clock() - begin, error)]
    return found


def reached(curve: Curve, limit: float) -> float:
    """Seconds to an objective ≤ `limit`, infinite if it was not reached."""
    return next((seconds for seconds, value in curve if value <= limit), math.inf)


def table(name: str, races: list[dict[str, Curve]], ceiling: str) -> None:
    """Print medians of seconds to within 1 % and 0.1 % of the best of each start."""
    print(
        f"\n**{name}**, {len(races)} starts{ceiling}\n\n| method | 1 % | 0.1 % | end, % above |\n"
        "|---|---|---|---|"
    )
    best = [min(v for curve in curves.values() for _, v in curve) for curves in races]
    for method in races[0]:
        ran = [(curves[method], b) for curves, b in zip(races, best, strict=True) if method in curves]
        times = [statistics.median(reached(curve, part * b) for curve, b in ran) for part in (1.01, 1.001)]
        end = statistics.median(min(v for _, v in curve) / b - 1 for curve, b in ran)
        shown = " | ".join("–" if math.isinf(t) else f"{t:.3f}" for t in times)
        print(f"| {method} | {shown} | {100 * end:.2f} |", flush=True)


def goal_table(name: str, races: list[dict[str, Curve]], _ceiling: str) -> None:
    """Print when the default is where the papers' updates end."""
    found = []
    for curves in races:
        paper, own = curves["the papers'"], curves["nmfdnn default"]
        goal = min(v for _, v in paper)
        found.append((goal, reached(own, goal), reached(paper, goal), min(v for _, v in own)))
    goal, time_own, time_paper, end = (statistics.median(values) for values in zip(*found, strict=True))
    print(
        f"\n**{name}**, {len(races)} starts: the papers' updates end at {goal:.0f} after {time_paper:.2f} s,"
    )
    print(
        f"the default passes that after {time_own:.3f} s ({time_paper / time_own:.0f} ×), ends at {end:.0f}"
    )


def recovery_table(name: str, races: list[dict[str, Curve]], _ceiling: str) -> None:
    """Print from how many starts the factors are found."""
    print(f"\n**{name}**")
    for method in races[0]:
        errors = [curves[method][-1][1] for curves in races]
        good = sum(error < 1e-4 for error in errors)
        print(f"- {method}: {good} of {len(races)} starts, maximal error {statistics.median(errors):.0e}")


def share(A: Any, rank: int) -> str:
    """Rate of the accelerated iterations, in the rate of the machine's own products of large matrices."""
    g = torch.Generator().manual_seed(0)
    (n, m), X = A.shape, torch.rand(2000, 2000, generator=g)
    start = torch.rand(n, rank, generator=g), torch.rand(rank, m, generator=g)

    def seconds(iterations: int) -> float:
        begin = clock()
        nmf(A, rank, start=start, stopping=Stopping(iterations, 0, 10**6))
        return clock() - begin

    def product() -> float:
        begin = clock()
        X @ X
        return clock() - begin

    many = max(5, min(200, int(3e11 / (4 * n * m * rank))))
    each = min(seconds(many) - seconds(0) for _ in range(3)) / many
    sweeps = [max(1, min(Accelerated().sweeps, length // rank)) for length in (m, n)]
    entries = n * m if isinstance(A, Tensor) else A.nnz
    # The products with A, two Gram matrices, the sweeps, and the objective's one product.
    work = 4 * entries * rank + 2 * rank**2 * (n + m + sweeps[0] * n + sweeps[1] * m + m)
    peak = 2 * 2000**3 / min(product() for _ in range(5))
    return f"; {work / each / 1e9:.0f} of {peak / 1e9:.0f} GFLOP/s, {100 * work / each / peak:.0f} %"


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


def text(n: int = 20_000, m: int = 10_000, words: int = 50, topics: int = 50) -> Any:
    """Counts of words in n documents of a few topics each, frequent words shared: about 0.6 % of entries."""
    rng = np.random.default_rng(5)
    common = 1 / np.arange(1, m + 1) ** 0.9
    chances = np.stack([common * rng.gamma(0.05, size=m) for _ in range(topics)]).cumsum(1)
    drawn = int(1.45 * words)
    mixture = rng.dirichlet(np.full(topics, 0.1), size=n).cumsum(1)
    topic = (rng.random((n, drawn, 1)) > mixture[:, None]).sum(2).clip(0, topics - 1)
    word = np.empty((n, drawn), np.int64)
    for k, chance in enumerate(chances / chances[:, -1:]):
        here = topic == k
        word[here] = np.searchsorted(chance, rng.random(here.sum())).clip(0, m - 1)
    rows = np.repeat(np.arange(n), drawn)
    A = scipy.sparse.coo_array((np.ones(n * drawn, np.float32), (rows, word.ravel())), (n, m)).tocsr()
    A.sum_duplicates()
    return A


@dataclass(frozen=True)
class Row:
    """Data, rank, seconds for each method; who runs, and how it is told."""

    data: Callable[[], Any]
    rank: int
    budget: float
    run: Callable[..., dict[str, Curve]] = race
    show: Callable[[str, list[dict[str, Curve]], str], None] = table


def problems() -> dict[str, Row]:
    """All rows by name."""

    def mnist() -> Tensor:
        return pictures(MNIST(train_samples=5000, validation=0.0))

    def fashion(n: int) -> Callable[[], Tensor]:
        return lambda: pictures(FashionMNIST(train_samples=n, validation=0.0))

    slow = ("scikit-learn mu", "torchnmf", "nmf-torch BPP", "nimfa", "nmfdnn multiplicative")
    quick = partial(race, without=slow)
    largest = partial(race, without=(*slow, "nmf-torch HALS", "tensorly HALS", "nmfdnn hals"))
    semi = signs(semi_nmf, {"update": "multiplicative"})
    nonlinear = signs(nonlinear_semi_nmf, {"alternation": Alternation()})
    return {
        "small 500 × 100, r = 10": Row(lambda: planted(500, 100, 10), 10, 0.4),
        "mnist 5,000 × 784, r = 20": Row(mnist, 20, 2.0),
        "mnist 5,000 × 784, r = 100": Row(mnist, 100, 8.0, quick),
        "fashion 20,000 × 784, r = 20": Row(fashion(20_000), 20, 5.0, quick),
        "planted 20,000 × 1,000, r = 50": Row(lambda: planted(20_000, 1000, 50), 50, 5.0, quick),
        "text 20,000 × 10,000, r = 50": Row(text, 50, 15.0),
        "semi-NMF, mnist 5,000 × 784, r = 100": Row(mnist, 100, 5.0, semi, goal_table),
        "nonlinear semi-NMF, mnist 5,000 × 784, r = 100": Row(mnist, 100, 5.0, nonlinear, goal_table),
        "nonlinear semi-NMF of the identity, 11 × 11, r = 6": Row(
            lambda: torch.eye(11, dtype=torch.float64), 6, 0, recovery, recovery_table
        ),
        "stream, fashion 20,000 × 784, r = 20": Row(fashion(20_000), 20, 3.0, online),
        "large, fashion 60,000 × 784, r = 20": Row(fashion(60_000), 20, 12.0, quick),
        "large, fashion 60,000 × 784, r = 100": Row(fashion(60_000), 100, 60.0, largest),
        "large, fashion 60,000 × 784, r = 500": Row(fashion(60_000), 500, 150.0, largest),
    }


def draw(folder: Path, curves: dict[str, dict[str, Curve]]) -> None:
    """Objective above the best against seconds, a panel for each problem."""
    columns = min(4, len(curves))
    lines = -(-len(curves) // columns)
    figure, panels = plt.subplots(lines, columns, figsize=(4 * columns, 3.4 * lines), squeeze=False)
    for panel, (name, methods) in zip(panels.flat, curves.items(), strict=False):
        best = min(v for curve in methods.values() for _, v in curve)
        for method, curve in methods.items():
            seconds, values = zip(*curve, strict=True)
            style = "-" if method.startswith("nmfdnn") else "--"
            panel.loglog(seconds, np.array(values) / best - 1 + 1e-5, style, label=method, linewidth=1)
        panel.set_title(name, fontsize=8)
        panel.set_xlabel("seconds")
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.legend(fontsize=5)
    for panel in panels.flat[len(curves) :]:
        panel.axis("off")
    panels[0, 0].set_ylabel("objective above the best, relative")
    figure.tight_layout()
    figure.savefig(folder / "factorization.png", dpi=110)


def measured(folder: Path, name: str, row: Row, options: argparse.Namespace) -> None:
    """Run what OUT does not have yet of a row."""
    slug = "".join(c if c.isalnum() else "_" for c in name)
    missing = []
    for seed in range(10 if row.run is recovery else options.starts):
        place = folder / f"{slug}-{options.threads}-{seed}.json"
        if not place.exists():
            missing.append((seed, place))
    if not missing:
        return
    A = row.data()
    for seed, place in missing:
        found: dict[str, Any] = {"row": name, "curves": row.run(A, row.rank, seed, row.budget)}
        told = seed == 0 and row.show is table and row.run is not online
        found["ceiling"] = share(A, row.rank) if told else ""
        place.write_text(json.dumps(found))
        print(f"{name}, start {seed}: measured", file=sys.stderr, flush=True)


def main() -> None:
    """Measure what is missing, print the tables, draw the figure."""
    global clock
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--rows", default="", help="measure rows whose name has this in it")
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.threads > 1:
        clock = time.perf_counter
    warnings.filterwarnings("ignore")
    options.out.mkdir(parents=True, exist_ok=True)
    rows = problems()
    if not options.tables:
        race(planted(50, 20, 2), 2, 0, 0.01)  # compiles and loads what is compiled and loaded at first use
        for name, row in rows.items():
            if options.rows in name:
                measured(options.out, name, row, options)
    print(f"torch {torch.__version__}, {options.threads} threads, float32, {clock.__name__}")
    found: dict[str, list[dict[str, Any]]] = {}
    for place in sorted(options.out.glob(f"*-{options.threads}-*.json")):
        start = json.loads(place.read_text())
        found.setdefault(start["row"], []).append(start)
    for name, row in rows.items():
        if name in found:
            row.show(name, [start["curves"] for start in found[name]], found[name][0]["ceiling"])
    shown = {
        name: found[name][0]["curves"]
        for name, row in rows.items()
        if name in found and row.run is not recovery
    }
    if shown:
        draw(options.out, shown)


if __name__ == "__main__":
    main()
