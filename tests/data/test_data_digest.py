"""The digest of a data set: the same wherever and however it is loaded, another for any other content."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from data_files import load

from nmfdnn.data import Arrays, Digits, Synthetic

X = np.random.default_rng(0).standard_normal((40, 2, 6)).astype(np.float32)
Y = np.arange(40) % 4
BASE = {"X": X, "y": Y, "X_test": X[:8], "y_test": Y[:8]}


@pytest.fixture
def digest(tmp_path):
    def digest(arrays, **keys):
        np.savez(tmp_path / "mine.npz", **arrays)
        return load(Arrays(path=str(tmp_path / "mine.npz"), **keys)).digest

    return digest


def changed(array, value):
    array = array.copy()
    array.flat[-1] = value
    return array


OTHERS = {
    "a value": {"X": changed(X, X.flat[-1] + 1e-6)},
    "a label": {"y": changed(Y, 0)},
    "a test value": {"X_test": changed(X[:8], 7)},
    "a test label": {"y_test": changed(Y[:8], 0)},
    "the order": {"X": X[::-1]},
    "the type": {"X": X.astype(np.float64), "X_test": X[:8].astype(np.float64)},
    "the shape": {"X": X.reshape(40, 3, 4), "X_test": X[:8].reshape(8, 3, 4)},
    "more rows": {"X": np.concatenate([X, X[:1]]), "y": np.concatenate([Y, Y[:1]])},
    "the names of the classes": {"y": Y + 1, "y_test": Y[:8] + 1},
}


@pytest.mark.parametrize("change", OTHERS)
def test_any_change_changes_it(digest, change):
    assert digest({**BASE, **OTHERS[change]}) != digest(BASE)


def test_no_test_set(digest):
    assert digest({"X": X, "y": Y}) != digest(BASE)


def test_how_the_file_is_written_does_not_matter(digest, tmp_path):
    assert digest({**BASE, "X": np.asfortranarray(X), "y": Y.astype(np.int16)}) == digest(BASE)
    np.savez_compressed(tmp_path / "packed.npz", **BASE)
    assert load(Arrays(path=str(tmp_path / "packed.npz"))).digest == digest(BASE)


def test_how_it_is_loaded_does_not_matter(digest):
    assert digest(BASE, validation=0, train_samples=20, scale=False) == digest(BASE)
    whole = load(Digits(), seed=0).digest
    assert len(whole) == 64
    assert load(Digits(test=0.5), seed=1, dtype=torch.float64).digest == whole


def test_what_was_planted_counts():
    one, again, other = (load(Synthetic(), seed=seed).digest for seed in (1, 1, 2))
    assert one == again != other


def test_many_rows_are_hashed_to_the_last(digest):
    many = np.arange(25_000, dtype=np.float32)[:, None]
    labels = np.arange(25_000) % 2
    assert digest({"X": many, "y": labels}) != digest({"X": changed(many, 1), "y": labels})
