"""Folders of .npy files: what is in them is found wherever it lies, and what is wrong with them is said."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
import torch
from data_files import load, save_folder, values

from nmfdnn.data import Arrays, folder
from nmfdnn.errors import ConfigError, DataError

N = 600
X = np.random.default_rng(0).standard_normal((N, 6)).astype(np.float32)
Y = np.arange(N) % 4
CUTS = [100, 130, 500]


def arrays(path, **keys):
    return Arrays(path=str(path), **keys)


@pytest.mark.parametrize("cuts", [[], CUTS], ids=["one file", "shards"])
@pytest.mark.parametrize("kind", ["f4", ">f8", "u1", "?"])
@pytest.mark.parametrize(("gap", "at_once"), [(0, 1), (0, 1 << 20), (30, 100), (1 << 20, 1 << 20)])
def test_rows_come_as_from_an_array(tmp_path, monkeypatch, cuts, kind, gap, at_once):
    monkeypatch.setattr(folder, "GAP", gap)
    monkeypatch.setattr(folder, "AT_ONCE", at_once)
    array = (100 * X).astype("i4").astype(kind)
    stored = folder.read_folder(save_folder(tmp_path, cuts, X=array, y=Y))["X"]
    assert (stored.shape, stored.dtype, len(stored)) == (array.shape, array.dtype, N)
    rng = np.random.default_rng(1)
    for count in (0, 1, 7, 300, N):
        rows = np.sort(rng.permutation(N)[:count])
        assert np.array_equal(stored[rows], array[rows])
    for part in (slice(0, 5), slice(90, 510), slice(590, 700), slice(0, None)):
        assert np.array_equal(stored[part], array[part])


def test_shards_are_in_the_order_of_their_numbers(tmp_path):
    for number in range(12):
        save_folder(tmp_path, **{f"X_{number}": X[number * 50 :][:50], f"y_{number}": Y[number * 50 :][:50]})
    found = folder.read_folder(tmp_path)
    assert np.array_equal(found["X"][0:N], X)
    assert np.array_equal(found["y"], Y)


KEYS = [
    {},
    {"standardize": "standard"},
    {"standardize": "minmax"},
    {"train_samples": 200},
    {"validation": 0.3},
]


@pytest.mark.parametrize("keys", KEYS, ids=str)
def test_a_folder_is_split_and_prepared_like_a_file_in_its_own_order(tmp_path, keys):
    np.savez(tmp_path / "a.npz", X=X, y=Y)
    one = load(arrays(tmp_path / "a.npz", **keys), dtype=torch.float64, seed=3)
    two = load(arrays(save_folder(tmp_path / "a", X=X, y=Y), **keys), dtype=torch.float64, seed=3)
    three = load(arrays(save_folder(tmp_path / "b", CUTS, X=X, y=Y), **keys), dtype=torch.float64, seed=3)
    assert two.digest == three.digest
    for part in ("train", "validation", "test"):
        memory, streamed = getattr(one, part), getattr(two, part)
        assert torch.equal(values(streamed), values(getattr(three, part)))
        assert np.all(np.diff(streamed.rows) > 0)
        assert len(memory) == len(streamed)
        ours, theirs = values(streamed), values(memory)
        order, other = ours[:, 0].argsort(), theirs[:, 0].argsort()
        torch.testing.assert_close(ours[order], theirs[other])
        assert torch.equal(streamed.labels[order], memory.labels[other])


@pytest.mark.parametrize("cuts", [[], CUTS], ids=["one file", "shards"])
def test_the_digest_covers_every_value_and_label(tmp_path, cuts):
    base = {"X": X, "y": Y, "X_test": X[:550], "y_test": Y[:550]}
    digests = {load(arrays(save_folder(tmp_path / "base", cuts, **base))).digest}
    for key in base:
        changed = base[key].copy()
        changed[N // 2] = changed[N // 2 + 1]
        digests.add(load(arrays(save_folder(tmp_path / key, cuts, **(base | {key: changed})))).digest)
    assert len(digests) == 5


def test_the_digest_of_the_same_in_memory_is_another_one(tmp_path):
    """Batches come in another order from there, so a run must not go on with it."""
    np.savez(tmp_path / "a.npz", X=X, y=Y)
    streamed = load(arrays(save_folder(tmp_path / "a", X=X, y=Y)))
    assert streamed.digest != load(arrays(tmp_path / "a.npz")).digest


def test_bytes_of_zero_and_one_are_truth_values_wherever_they_lie(tmp_path):
    bits = (X > 0).astype(np.uint8)
    data = load(arrays(save_folder(tmp_path / "bits", X=bits, y=Y, X_test=bits, y_test=Y)))
    assert data.preprocessing.kind == "standard"
    data = load(arrays(save_folder(tmp_path / "not", X=bits, y=Y, X_test=bits * 9, y_test=Y)))
    assert (data.preprocessing.kind, data.preprocessing.scale) == ("none", 255)


def labels(tmp_path, **files):
    return save_folder(tmp_path, X_0=X[:300], y_0=Y[:300], X_1=X[300:], **files)


TEXT = Y.astype(str)
BAD = {
    "nothing": ({}, r"X\.npy and y\.npy there too, found nothing; write them with", {"X": X, "y": Y}),
    "no labels": ({"X": X}, r"y\.npy there too, found X\.npy; write", {"y": Y}),
    "no samples": ({"y_3": Y}, r"X_3\.npy there too, found y_3\.npy", {"X_3": X}),
    "numbers written differently": (
        {"X_1": X, "y_01": Y},
        r"y_01\.npy|X_01\.npy and y_1\.npy there too, found X_1\.npy, y_01\.npy",
        {"X_01": X, "y_1": Y},
    ),
    "fewer labels in a shard": (
        {"X_0": X, "y_0": Y, "X_1": X, "y_1": Y[:9]},
        r"y_1\.npy: expected one label in y for each of the 600 samples, found shape \(9,\)",
        {"y_1": Y},
    ),
    "another shape": (
        {"X_0": X, "y_0": Y, "X_1": X[:, :5], "y_1": Y},
        r"X_1\.npy: .* one shape and type in all files, found \(5,\) of float32 beside \(6,\) of float32",
        {"X_1": X},
    ),
    "another type": (
        {"X_0": X, "y_0": Y, "X_1": X.astype("f8"), "y_1": Y},
        r"X_1\.npy: .* one shape and type in all files, found \(6,\) of float64",
        {"X_1": X},
    ),
    "other labels": (
        {"X_0": X, "y_0": Y, "X_1": X, "y_1": TEXT},
        r"y_1\.npy: expected labels of one kind .* found \(\) of <U\d+ beside \(\) of int64; .*astype\(str\)",
        {"y_0": TEXT},
    ),
    "one-hot here and there": (
        {"X_0": X, "y_0": Y, "X_1": X, "y_1": np.eye(4, dtype=int)[Y]},
        r"y_1\.npy: expected labels of one kind",
        {"y_1": Y},
    ),
    "column by column": (
        {"X": np.asfortranarray(X), "y": Y},
        r"X\.npy: expected X in C order, found Fortran order; .* numpy\.ascontiguousarray\(X\)",
        {"X": np.ascontiguousarray(np.asfortranarray(X))},
    ),
    "no dimension": ({"X": np.float32(3), "y": Y}, r"one label in y for each of the 0 samples", {"X": X}),
    "an empty shard alone": ({"X_0": X[:0], "y_0": Y[:0]}, r"X of shape n × features", {"X_1": X, "y_1": Y}),
    "infinity": (
        {"X": np.where(np.arange(N)[:, None] == 500, np.inf, X), "y": Y},
        r"finite numbers in X, found NaN or infinity in 6 places, in features \[0, 1, 2, 3, 4\] and 1 more",
        {"X": X},
    ),
    "a table's key": ({"X": X, "y": Y}, r"data\.target must be null for an \.npz file or a folder", {}),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_folders_and_their_remedies(tmp_path, case):
    content, message, remedy = BAD[case]
    target = "y" if case == "a table's key" else None
    with pytest.raises(ConfigError if target else DataError, match=message):
        load(arrays(save_folder(tmp_path, **content), target=target))
    assert len(load(arrays(save_folder(tmp_path, **remedy))).train)


def test_one_file_or_numbered_ones(tmp_path):
    path = save_folder(tmp_path, X=X, y=Y, X_00=X, y_00=Y)
    with pytest.raises(
        DataError, match=r"X in one file or in numbered ones, found X\.npy beside X_00\.npy; take"
    ):
        load(arrays(path))
    for name in ("X", "y"):
        os.unlink(path / f"{name}.npy")
    assert len(load(arrays(path)).train)


def test_other_files_in_the_folder_do_no_harm(tmp_path):
    path = save_folder(tmp_path, X=X, y=Y, mean=X[0], X_old=X, Xy=Y)
    (path / "README.txt").write_text("mine")
    assert len(load(arrays(path)).train)


def vanished(path):
    path.unlink()


def truncated(path):
    os.truncate(path, path.stat().st_size - 1)


def rewritten(path):
    status = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def replaced_by_a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "happens", [vanished, truncated, rewritten, replaced_by_a_folder], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("cuts", [[], CUTS], ids=["one file", "shards"])
def test_files_that_change_under_a_run(tmp_path, happens, cuts):
    path = save_folder(tmp_path, cuts, X=X, y=Y)
    data = load(arrays(path, memory_gb=1e-6))
    last = max(path.glob("X*"))
    happens(last)
    remedy = "bring it back as it was and continue with resume=true"
    message = rf"{re.escape(str(last))}: expected .*, found .*; {remedy}"
    for read in (
        lambda: data.train.take(torch.arange(len(data.train))),
        lambda: list(data.test.passes()),
        lambda: list(data.train.batches(torch.randperm(len(data.train)).split(50))),
    ):
        with pytest.raises(DataError, match=message):
            read()


def test_a_file_that_shrinks_while_it_is_read(tmp_path, monkeypatch):
    data = load(arrays(save_folder(tmp_path, X=X, y=Y)))
    status = os.stat(tmp_path / "X.npy")
    os.truncate(tmp_path / "X.npy", 5000)
    monkeypatch.setattr(folder.os, "fstat", lambda _: status)
    with pytest.raises(
        DataError, match=r"X\.npy: expected the bytes that the run found there, found \d+ less"
    ):
        list(data.train.passes())
