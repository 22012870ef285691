"""Whole runs from a folder: equally good whatever its order, and continued after kills and mishaps."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from runs import TINY, configured

from nmfdnn.data import stream
from nmfdnn.errors import CheckpointError, DataError
from nmfdnn.model import load as load_model
from nmfdnn.records import read_metrics
from nmfdnn.runs.experiment import run

N, P, CLASSES = 12_000, 12, 3
SIZES = [key for key in TINY if not key.startswith("data")]
MEMORY = 2 * 800 * 4 * P / 1e9  # room for two windows of 800 samples


@pytest.fixture(scope="module", autouse=True)
def few_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "BLOCKS", 100)
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """The same planted samples, at random and sorted by class, with test samples of their own."""
    rng = np.random.default_rng(0)
    X = rng.random((N, P), dtype=np.float32)
    outputs = np.maximum((X - 0.5) @ rng.standard_normal((P, 20)), 0) @ rng.standard_normal((20, CLASSES))
    y = ((outputs - outputs.mean(axis=0)) / outputs.std(axis=0)).argmax(axis=1)
    test, rest = slice(0, 2000), slice(2000, None)
    found = {}
    for name in ("shuffled", "sorted"):
        found[name] = tmp_path_factory.mktemp(name)
        order = np.arange(N - 2000) if name == "shuffled" else np.argsort(y[rest], kind="stable")
        np.save(found[name] / "X_0.npy", X[rest][order][:4000])
        np.save(found[name] / "X_1.npy", X[rest][order][4000:])
        np.save(found[name] / "y_0.npy", y[rest][order][:4000])
        np.save(found[name] / "y_1.npy", y[rest][order][4000:])
        np.save(found[name] / "X_test.npy", X[test])
        np.save(found[name] / "y_test.npy", y[test])
    return found


def settings(path: Path, method: str, *keys: str) -> list[str]:
    data = ["data=arrays", f"data.path={path}", f"data.memory_gb={MEMORY}"]
    return [*SIZES, *data, "network.hidden=[30]", f"method={method}", *keys]


def train(folder: Path, overrides: list[str]) -> dict:
    folder.mkdir(exist_ok=True)
    return run(configured(*overrides), folder, "text", overrides)


@pytest.mark.parametrize("method", ["nmf", "jacobi", "bp"])
def test_a_folder_sorted_by_class_trains_like_a_shuffled_one(folders, method, tmp_path):
    keys = ("epochs=3", f"{method}.batch_size=100", "network.start=he")
    errors = {
        name: train(tmp_path / name, settings(path, method, *keys))["test_error"]
        for name, path in folders.items()
    }
    assert errors["sorted"] < 25  # two thirds for guessing, and near that for classes one after the other
    assert abs(errors["sorted"] - errors["shuffled"]) < 3


def outcome(folder: Path) -> tuple:
    rows = [{key: row[key] for key in row if key != "train_seconds"} for row in read_metrics(folder)]
    return [W.tolist() for W in load_model(folder).network.weights], rows


def dies(action: Callable[[], object]) -> bool:
    """Run it in a process of its own; whether that was killed."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:  # whatever happens, this process must not go on with the tests
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@contextmanager
def reading(act: Callable[[int], object]) -> Iterator[Callable[[], int]]:
    """Call `act` with the number of samples read so far, before each reading; gives that number."""
    original, read = stream.Stream._read, [0]

    def counted(self, samples):
        act(read[0])
        read[0] += len(samples)
        return original(self, samples)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream.Stream, "_read", counted)
        yield lambda: read[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process to kill is made by a fork")
@pytest.mark.parametrize("method", ["nmf", "jacobi", "bp"])
def test_a_run_killed_while_it_reads_ends_as_if_it_had_not_been(folders, method, tmp_path):
    keys = ("epochs=2", f"{method}.batch_size=500", "records_per_epoch=3")
    overrides = settings(folders["sorted"], method, *keys)
    with reading(lambda read: None) as total:
        train(tmp_path / "whole", overrides)
    expected = outcome(tmp_path / "whole")
    for share in (0.3, 0.6, 0.9):
        folder, deadline = tmp_path / str(share), share * total()

        def die(read, deadline=deadline):
            if read >= deadline:
                os.kill(os.getpid(), signal.SIGKILL)

        def start(folder=folder, die=die):
            with reading(die):
                train(folder, overrides)

        assert dies(start)
        train(folder, [*overrides, "resume=true"])
        assert outcome(folder) == expected


def test_a_file_that_vanishes_in_the_middle_of_a_run_and_comes_back(folders, tmp_path):
    overrides = settings(folders["shuffled"], "jacobi", "epochs=4", "jacobi.batch_size=500")
    train(tmp_path / "whole", overrides)
    shard, away = folders["shuffled"] / "X_1.npy", tmp_path / "away.npy"

    def vanish(read):
        if read > 5 * N and shard.exists():
            shard.rename(away)

    message = r"X_1\.npy: .*; bring it back as it was and continue with resume=true"
    with reading(vanish), pytest.raises(DataError, match=message):
        train(tmp_path / "cut", overrides)
    assert len(read_metrics(tmp_path / "cut")) >= 1
    away.rename(shard)
    train(tmp_path / "cut", [*overrides, "resume=true"])
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


def test_other_data_in_the_folder_are_refused(folders, tmp_path):
    overrides = settings(folders["shuffled"], "jacobi", "epochs=1", "jacobi.batch_size=500")
    train(tmp_path / "run", overrides)
    other = settings(folders["sorted"], "jacobi", "epochs=2", "jacobi.batch_size=500", "resume=true")
    with pytest.raises(CheckpointError, match="the data are not those that the run in"):
        train(tmp_path / "run", other)
    more = [*overrides, "epochs=2", "data.memory_gb=1", "resume=true"]
    with pytest.raises(CheckpointError, match=r"data\.memory_gb=.*: bring its own configuration back"):
        train(tmp_path / "run", more)
