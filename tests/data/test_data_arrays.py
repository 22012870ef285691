"""The user's own .npz files, good and bad."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch
from data_files import load

from nmfdnn.data import Arrays
from nmfdnn.errors import ConfigError, DataError

Y = np.arange(40) % 4


def samples(n=40, shape=(6,)):
    return np.random.default_rng(n).standard_normal((n, *shape)).astype(np.float32)


@pytest.fixture
def save(tmp_path):
    def save(**arrays):
        np.savez(tmp_path / "mine.npz", **arrays)
        return Arrays(path=str(tmp_path / "mine.npz"), validation=0, standardize="none")

    return save


@pytest.mark.parametrize("shape", [(6,), (2, 3), (2, 3, 4)], ids=str)
def test_shapes(save, shape):
    data = load(save(X=samples(shape=shape), y=Y))
    assert data.image_shape == (shape if len(shape) > 1 else None)
    assert data.features == np.prod(shape)
    assert (len(data.train), len(data.test), data.classes) == (32, 8, ("0", "1", "2", "3"))
    expected = samples(shape=shape).reshape(40, -1)
    ours = torch.cat([data.train.X, data.test.X]).numpy()
    assert sorted(map(tuple, ours)) == sorted(map(tuple, expected))


def test_own_test_set_is_kept_in_its_order(save):
    X_test, y_test = samples(7), np.array([3, 2, 1, 0, 3, 2, 1])
    data = load(save(X=samples(), y=Y, X_test=X_test, y_test=y_test))
    assert (len(data.train), len(data.test)) == (40, 7)
    assert np.array_equal(data.test.X.numpy(), X_test)
    assert np.array_equal(data.test.labels.numpy(), y_test)


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f8", "i1", "i8", "u2", ">i4", "?", "longdouble"])
def test_other_types_are_kept_as_they_are(save, kind):
    X = (samples() * 3).round().astype(kind)
    X_test = X[:4]
    data = load(save(X=X, y=Y, X_test=X_test, y_test=Y[:4]))
    assert np.array_equal(data.test.X.numpy(), X_test.astype(np.float32))


def test_bytes_are_scaled_unless_told_otherwise(save):
    X = np.arange(240, dtype=np.uint8).reshape(40, 6)
    config = save(X=X, y=Y, X_test=X, y_test=Y)
    np.testing.assert_allclose(load(config).test.X.numpy(), X / 255, rtol=1e-6)
    config.scale = False
    assert np.array_equal(load(config).test.X.numpy(), X)


def test_labels_with_gaps_keep_their_names(save):
    data = load(save(X=samples(), y=np.array([7, 100, 3, 12])[Y]))
    assert data.classes == ("3", "7", "12", "100")
    assert torch.bincount(data.train.labels).tolist() == [8] * 4


def with_nan():
    X = samples()
    X[3, 2] = np.nan
    return X


BAD = {
    "no y": ({"X": samples(), "z": Y}, r"found the keys \['X', 'z'\] without \['y'\]; write it with"),
    "no y_test": ({"X": samples(), "y": Y, "X_test": samples()}, r"without \['y_test'\]"),
    "no X_test": ({"X": samples(), "y": Y, "y_test": Y}, r"without \['X_test'\]"),
    "object X": ({"X": samples().astype(object), "y": Y}, r"plain numeric array in X, .*Object arrays"),
    "object y": ({"X": samples(), "y": Y.astype(object)}, r"plain numeric array in y, .*Object arrays"),
    "text": ({"X": samples().astype(str), "y": Y}, r"real numbers in X, found shape .* of <U"),
    "complex": ({"X": samples() * 1j, "y": Y}, r"real numbers in X, found .* of complex64"),
    "one dimension": ({"X": samples()[:, 0], "y": Y}, r"X of shape n × features.*found shape \(40,\)"),
    "empty": ({"X": samples(0), "y": Y[:0]}, r"X of shape n × features.*found shape \(0, 6\)"),
    "NaN": ({"X": with_nan(), "y": Y}, r"finite numbers in X, found NaN or infinity in 1 places"),
    "length": ({"X": samples(), "y": Y[:39]}, r"each of the 40 samples of X, found shape \(39,\)"),
    "one-hot": ({"X": samples(), "y": np.eye(4, dtype=int)[Y]}, r"one label in y .* found shape \(40, 4\)"),
    "float labels": ({"X": samples(), "y": Y * 0.5}, r"integers in y, .*float64; .*astype\('int64'\)"),
    "negative": ({"X": samples(), "y": Y - 1}, r"labels ≥ 0 in y, found -1; number the classes"),
    "one class": ({"X": samples(), "y": Y * 0}, r"at least 2 classes in y, found 1"),
    "test shape": (
        {"X": samples(), "y": Y, "X_test": samples(shape=(5,)), "y_test": Y},
        r"one shape and type in X and X_test, found shape \(40, 5\) .* beside X shape \(40, 6\)",
    ),
    "test type": (
        {"X": samples(), "y": Y, "X_test": samples().astype(np.uint8), "y_test": Y},
        r"found shape \(40, 6\) of uint8 beside X shape \(40, 6\) of float32",
    ),
    "test NaN": ({"X": samples(), "y": Y, "X_test": with_nan(), "y_test": Y}, r"finite numbers in X_test"),
    "test labels": (
        {"X": samples(), "y": Y, "X_test": samples(), "y_test": Y + 1},
        r"only labels in y_test that y has, found \[4\]",
    ),
}


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@pytest.mark.parametrize("case", BAD)
def test_bad_arrays(save, case):
    arrays, message = BAD[case]
    with pytest.raises(DataError, match=rf"mine\.npz: expected .*{message}"):
        load(save(**arrays))


def test_files_that_are_no_npz(tmp_path, save):
    with pytest.raises(
        DataError, match=r"none\.npz: expected an \.npz file, found nothing there; set data\.path"
    ):
        load(Arrays(path=str(tmp_path / "none.npz")))
    with pytest.raises(DataError, match=r"expected an \.npz file, found a folder"):
        load(Arrays(path=str(tmp_path)))
    np.save(tmp_path / "single.npy", samples())
    with pytest.raises(
        DataError, match=r"single\.npy: expected .*, found another kind of file; write it with"
    ):
        load(Arrays(path=str(tmp_path / "single.npy")))
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as archive:
        archive.writestr("X", "not an array")
        archive.writestr("y", "nor this")
    with pytest.raises(DataError, match=r"text\.zip: expected real numbers in X"):
        load(Arrays(path=str(tmp_path / "text.zip")))
    with pytest.raises(ConfigError, match=r"data\.path must be the path of an \.npz file, got '\?\?\?'"):
        load(Arrays())


def test_a_damaged_npz(tmp_path, save):
    config = save(X=samples(), y=Y)
    content = bytearray((tmp_path / "mine.npz").read_bytes())
    content[500] ^= 0xFF  # inside the values of X
    (tmp_path / "mine.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"plain numeric array in X, found another \(Bad CRC"):
        load(config)
