"""Several processes: the same results for any number of them, one folder, and an end when one dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from runs import environment, nmfdnn

from nmfdnn import parallel
from nmfdnn.errors import ParallelError
from nmfdnn.records import read_metrics, read_summary
from nmfdnn.runs import experiment
from nmfdnn.source import Memory, share

HERE = Path(__file__).parent
RUN = ["data=digits", "experiment=best", "network.hidden=[30,20]", "jacobi.batch_size=100", "device=cpu"]


def torchrun(ranks: int) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]


def launch(
    ranks: int, *arguments: str, cwd: Path, options: tuple[str, ...] = (), timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run a script or `-m MODULE` in so many processes, as `torchrun` does."""
    command = [*torchrun(ranks), *options, *arguments]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, cwd=cwd, env=environment(), stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    try:
        printed, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its ranks too
        process.communicate()
        raise
    return subprocess.CompletedProcess(command, process.returncode, printed, errors)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, list[float]]]:
    folder = tmp_path_factory.mktemp("ranks")
    results = {}
    for ranks in (1, 2, 4):
        done = launch(ranks, str(HERE / "ranks.py"), f"{ranks}.json", cwd=folder)
        assert done.returncode == 0, done.stderr
        results[ranks] = json.loads((folder / f"{ranks}.json").read_text())
    return results


@pytest.mark.parametrize("ranks", [2, 4])
def test_results_do_not_depend_on_the_number_of_ranks(ranks, found):
    """Residuals, norms, errors and objectives of all methods after two epochs."""
    assert found[1].keys() == found[ranks].keys()
    for name, expected in found[1].items():
        if name.startswith("traffic"):
            continue
        # A residual is a difference of numbers of order one; pseudo-inverses of batches amplify rounding.
        of_one = 1e-5 if name.startswith("nmf") else 1e-6
        limits = {"rel": 1e-5, "abs": of_one} if name.endswith("float32") else {"rel": 1e-10, "abs": 1e-12}
        assert found[ranks][name] == pytest.approx(expected, **limits), name


def test_what_is_communicated_does_not_depend_on_the_samples(found):
    for name in ("jacobi", "seidel", "bp"):
        for when in ("", " most"):
            small, large = (found[2][f"traffic {name} {n}{when}"] for n in (200, 300))
            assert small == large
    # Each update sums what moves the weights once: 64·20 + 20·15 + 15·10 of them and 45 biases.
    weights = 4 * (64 * 20 + 20 * 15 + 15 * 10 + 45)
    assert found[2]["traffic bp 200 most"] == found[2]["traffic bp 200"] == [3, weights]
    # And for each layer two norms.
    assert found[2]["traffic jacobi 200"] == [3, weights + 4 * 6]
    # And, layer after layer, two for the search of all steps but the first layer's.
    assert found[2]["traffic seidel 200"] == [5, weights + 4 * 6 + 4 * 4]
    assert found[1]["traffic bp 200"] == [0, 0]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    done = nmfdnn(*RUN, "epochs=4", f"hydra.run.dir={folder}", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def same_run(a: Path, b: Path) -> None:
    for first, second in zip(read_metrics(a), read_metrics(b), strict=True):
        for key in first.keys() - {"train_seconds"}:
            if first[key] is not None or second[key] is not None:
                assert first[key] == pytest.approx(second[key], rel=1e-5, abs=1e-6), key


def test_one_folder_written_by_the_first_rank(tmp_path, alone):
    """And continued by another number of ranks."""
    folder = tmp_path / "run"
    module = ("-m", "nmfdnn", *RUN, f"hydra.run.dir={folder}")
    done = launch(2, *module, "epochs=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch   2") == 1
    assert {path.name for path in folder.iterdir()} == {path.name for path in alone.iterdir()}
    assert read_summary(folder)["ranks"] == 2
    done = launch(3, "-m", "nmfdnn", "resume=true", f"hydra.run.dir={folder}", "epochs=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nothing to continue" in done.stdout


def test_a_folder_of_its_own_is_the_same_for_all_ranks(tmp_path):
    done = launch(2, "-m", "nmfdnn", *RUN, "epochs=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (summary,) = tmp_path.glob("outputs/*/*/summary.json")
    assert len(list(summary.parents[1].iterdir())) == 1


def dying(rank: int, *arguments: str) -> tuple[str, ...]:
    return (str(HERE / "dying.py"), str(rank), *arguments)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_dies_ends_the_others_and_the_run_continues(rank, tmp_path, alone):
    folder = tmp_path / "run"
    began = time.monotonic()
    done = launch(2, *dying(rank, *RUN, "epochs=4", f"hydra.run.dir={folder}"), cwd=tmp_path)
    assert done.returncode != 0
    assert time.monotonic() - began < 60 + 60  # of which the start takes some
    assert not (folder / "summary.json").exists()
    assert len(read_metrics(folder)) == 3
    done = nmfdnn("resume=true", f"hydra.run.dir={folder}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    same_run(folder, alone)


def test_without_a_launcher_the_survivor_says_what_to_do(tmp_path):
    """Started by hand, nobody ends the other rank but itself."""
    folder, port = tmp_path / "run", str(20000 + os.getpid() % 20000)
    settings = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, *dying(1, *RUN, "epochs=4", f"hydra.run.dir={folder}")],
            cwd=tmp_path,
            env={**environment(), **settings, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        survivor, _ = processes[0].communicate(timeout=180)
    finally:
        for process in processes:
            process.kill()
    assert processes[0].returncode == 2
    assert len(re.findall("another process of this run has ended or cannot be reached", survivor)) == 1
    assert f"hydra.run.dir={folder}" in survivor


def test_torchrun_starts_them_again(tmp_path, alone):
    folder = tmp_path / "run"
    again = dying(1, *RUN, "epochs=4", f"hydra.run.dir={folder}", "resume=true")
    done = launch(2, *again, cwd=tmp_path, options=("--max-restarts=1",), timeout=150)
    assert done.returncode == 0, done.stderr
    assert "continuing after epoch 2" in done.stdout
    same_run(folder, alone)


def test_sigterm_ends_all_ranks(tmp_path):
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [*torchrun(2), "-m", "nmfdnn", *RUN, "epochs=100000", f"hydra.run.dir={folder}"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "epoch   1" in line:
                break
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode != 0
    assert rest.count("continue with   nmfdnn resume=true") == 1


def two_ranks(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    monkeypatch.setattr(parallel, "ranks", lambda: 2)
    monkeypatch.setattr(parallel, "rank", lambda: rank)


def test_shares_cover_all_samples_in_order(monkeypatch):
    shares = []
    for rank in (0, 1):
        two_ranks(monkeypatch, rank)
        shares.append(share(7))
    assert [list(range(7))[part] for part in shares] == [[0, 1, 2], [3, 4, 5, 6]]


def test_a_rank_hands_out_its_own_rows(monkeypatch):
    X, labels = torch.arange(14.0).view(7, 2), torch.arange(7)
    parts = [Memory(X[:3], labels), Memory(X[3:], labels, 3)]
    rows = torch.tensor([5, 0, 6, 2])
    first, second = (part.take(rows) for part in parts)
    assert (first.samples, second.samples) == (4, 4)
    assert first.mine.tolist() == [1, 3]
    assert second.mine.tolist() == [0, 2]
    assert torch.equal(first.X, X[[0, 2]])
    assert torch.equal(second.labels, labels[[5, 6]])
    assert [batch.labels.tolist() for part in parts for batch in part.passes()] == [[0, 1, 2], [3, 4, 5, 6]]


def test_alone_nothing_is_sent():
    T = torch.rand(3, 2)
    before = parallel.traffic.messages
    assert parallel.total(T) is T
    assert parallel.largest(T) is T
    assert parallel.joined(T) is T
    assert parallel.from_first(lambda: "here") == "here"
    assert parallel.agree("anything")
    assert torch.equal(parallel.norm(T), T.norm())
    with parallel.group():
        assert parallel.ranks() == 1
    assert parallel.traffic.messages == before


def test_ranks_with_other_settings_or_data_are_refused(tmp_path, monkeypatch):
    from runs import TINY, configured

    config = configured(*TINY, "epochs=1")
    monkeypatch.setattr(parallel, "agree", lambda text: False)
    with pytest.raises(ParallelError, match="different settings"):
        experiment.run(config, tmp_path, "text")
    monkeypatch.setattr(parallel, "agree", lambda text: text == "text")
    with pytest.raises(ParallelError, match="different data"):
        experiment.run(config, tmp_path, "text")
    monkeypatch.setattr(parallel, "agree", lambda text: not text.startswith("["))
    with pytest.raises(ParallelError, match="weights differ from process to process"):
        experiment.run(config, tmp_path, "text")
