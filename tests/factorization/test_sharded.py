"""Rows shared out over processes give what one process gives: every function, 2 and 3 ranks, over gloo."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import oracle
import pytest
import torch

RANK = """
import sys
from functools import partial
import torch
from nmfdnn import parallel
from nmfdnn.factorization import *
from nmfdnn.factorization.nmf import SOLVERS
from nmfdnn.factorization.objective import objective
from nmfdnn.factorization.sparse import given

def runs():
    g = torch.Generator().manual_seed(7)

    def rand(*shape):
        return torch.rand(shape, generator=g, dtype=torch.float64)

    A = rand(61, 5) @ rand(5, 14)
    A += 0.1 * rand(61, 14)
    A[:20] *= 1e-3  # the first rank's rows alone would have another unit
    signed = A - A.mean()
    few = Stopping(12, 0, 4)
    both = Penalty(0.02, 0.01), Penalty(0.01, 0.02)
    cases = {
        f"nmf {update} {start}": (partial(nmf, update=update, start=start), A)
        for update in SOLVERS for start in ("random", "nndsvd", "nndsvda", "nndsvdar")
    }
    def sparse(function, A, rank, **settings):
        return function(A.to_sparse_csr(), rank, **settings)

    counts = A.where(A > 1, 0.0)
    cases["sparse nmf"] = (partial(sparse, partial(nmf, start="nndsvd", subsample=20)), counts)
    for name, settings in {
        "beta 1": {"beta": 1},
        "beta 1, penalty": {"beta": 1, "start": "random", "penalty": both},
        "multiplicative, penalty": {"update": "multiplicative", "penalty": both},
    }.items():
        cases[f"sparse nmf {name}"] = (partial(sparse, partial(nmf, **settings)), counts)
    cases["sparse semi"] = (partial(sparse, partial(semi_nmf, bias=True)), signed)
    cases["nmf on a subsample"] = (partial(nmf, subsample=20), A)
    for bias in (False, True):
        for name, B in (("nonnegative", A), ("signed", signed)):
            cases[f"semi {name} {bias}"] = (partial(semi_nmf, bias=bias), B)
        cases[f"semi multiplicative {bias}"] = (partial(semi_nmf, bias=bias, update="multiplicative"), signed)
        for start in ("random", "svd"):
            latent = partial(nonlinear_semi_nmf, bias=bias, start=start)
            cases[f"latent {start} {bias}"] = (latent, signed.relu())
        how = partial(nonlinear_semi_nmf, bias=bias, alternation=Alternation())
        cases[f"alternation {bias}"] = (how, signed.relu())
    cases["free codes"] = (partial(nonlinear_semi_nmf, alternation=Latent(nonnegative=False)), signed.relu())
    V = rand(61, 14) * (rand(61, 14) < 0.7)
    weighted = {
        "nmf weights": (nmf, A),
        "nmf weights random": (partial(nmf, start="random"), A),
        "nmf weights on a subsample": (partial(nmf, subsample=20), A),
        "nmf weights, penalty": (partial(nmf, penalty=both), A),
        **{
            f"nmf weights beta {beta}": (partial(nmf, beta=beta, update="multiplicative"), A)
            for beta in (0, 1, 2)
        },
        "semi weights": (partial(semi_nmf, bias=True), signed),
    }
    cases["nmf penalty"] = (partial(nmf, penalty=both), A)
    cases["nmf penalty on a subsample"] = (partial(nmf, penalty=both, subsample=20), A)
    cases["semi penalty"] = (partial(semi_nmf, penalty=(both[0], Penalty(l2=0.1))), signed)
    n, N = parallel.rank(), parallel.ranks()
    cuts = [0, *(25 + 13 * i for i in range(N - 1)), len(A)]
    here = slice(cuts[n], cuts[n + 1])
    found = {}
    for name, (function, B) in cases.items():
        result = function(B[here], 4, stopping=few)
        found[name] = (result.Z, result.W, result.objective)
    for name, (function, B) in weighted.items():
        result = function(B[here], 4, stopping=few, weights=V[here])
        found[name] = (result.Z, result.W, result.objective)
    # What a tolerance counts in.
    for B in (counts[here], given(counts[here].to_sparse_csr())):
        assert all(parallel.agree(str(objective(B, beta=beta).size())) for beta in (1, 2))
    choice = choose_rank(A[here], (2, 3), folds=2, stopping=few)
    found["choice"] = (A[here, :2], choice.errors, [float(choice.rank)])
    model = OnlineNMF(4).fit([A[here]], 3)
    found["online"] = (model.transform(A[here]).Z, model.W, model.objective)
    # Ranks cut their rows into as many parts, however many rows they have; such parts are other batches.
    assert parallel.agree(str(OnlineNMF(4, batch=20).fit([A[here]]).objective))
    X = rand(4, 14)
    Z = rand(61, 4)
    for name, result in {
        "weights": nonlinear_least_squares(Z[here], A[here], stopping=few),
        "codes": nonlinear_least_squares(X, A[here], unknown="codes", stopping=few),
    }.items():
        found[name] = (result.Z, result.W, result.objective)
    return found

torch.set_num_threads(1)
with parallel.group():
    torch.save(runs(), sys.argv[1] + str(parallel.rank()))
"""


def started(ranks: int, folder: Path) -> list[dict]:
    """What each of several processes found."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(ranks),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", RANK, str(folder / f"{ranks} ")]
    processes = [
        subprocess.Popen(
            command, env=os.environ | shared | {"RANK": str(rank)}, stderr=subprocess.PIPE, text=True
        )
        for rank in range(ranks)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert not any(process.returncode for process in processes), "\n".join(errors)
    return [torch.load(folder / f"{ranks} {rank}", weights_only=True) for rank in range(ranks)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return started(1, tmp_path_factory.mktemp("alone"))[0]


@pytest.mark.skipif(
    not torch.distributed.is_available(), reason="PyTorch was built without torch.distributed"
)
@pytest.mark.parametrize("ranks", [2, 3])
def test_shared_rows_give_the_same_factors(ranks, alone, tmp_path):
    parts = started(ranks, tmp_path)
    for name, (Z, W, objective) in alone.items():
        found = [part[name] for part in parts]
        if name == "codes":  # W is given
            assert oracle.error(torch.cat([z for z, _, _ in found]), Z) < 1e-10, name
            continue
        assert all(torch.equal(w, found[0][1]) for _, w, _ in found), name
        assert all(values == found[0][2] for _, _, values in found), name
        # A code that should be zero is the root of rounding in a multiplicative step of semi-NMF.
        limit = 1e-6 if name.startswith("semi multiplicative") else 1e-10
        assert found[0][2] == pytest.approx(objective, rel=limit), name
        assert oracle.error(torch.cat([z for z, _, _ in found]), Z) < 100 * limit, name
        assert oracle.error(torch.cat([z for z, _, _ in found]) @ found[0][1][:4], Z @ W[:4]) < limit, name
