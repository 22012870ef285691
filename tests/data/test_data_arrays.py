"""The user's own .npz files and folders, good and bad."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch
from data_files import load, save_folder, values
from scipy import sparse

from nmfdnn.data import Arrays
from nmfdnn.errors import ConfigError, DataError

Y = np.arange(40) % 4


def samples(n=40, shape=(6,)):
    return np.random.default_rng(n).standard_normal((n, *shape)).astype(np.float32)


@pytest.fixture(params=["npz", "folder", "shards"])
def save(request, tmp_path):
    def save(**arrays):
        path = tmp_path / "mine.npz"
        if request.param == "npz":
            np.savez(path, **arrays)
        else:
            path = save_folder(tmp_path / "mine", [1, 3] if request.param == "shards" else [], **arrays)
        return Arrays(path=str(path), validation=0, standardize="none")

    return save


@pytest.mark.parametrize("shape", [(6,), (2, 3), (3, 4, 5), (2, 3, 5)], ids=str)
def test_shapes(save, shape):
    data = load(save(X=samples(shape=shape), y=Y))
    assert data.image_shape == (shape if len(shape) > 1 else None)
    assert data.features == np.prod(shape)
    assert (len(data.train), len(data.test), data.classes) == (32, 8, ("0", "1", "2", "3"))
    expected = samples(shape=shape).reshape(40, -1)
    ours = torch.cat([values(data.train), values(data.test)]).numpy()
    assert sorted(map(tuple, ours)) == sorted(map(tuple, expected))


def test_own_test_set_is_kept_in_its_order(save):
    X_test, y_test = samples(7), np.array([3, 2, 1, 0, 3, 2, 1])
    data = load(save(X=samples(), y=Y, X_test=X_test, y_test=y_test))
    assert (len(data.train), len(data.test)) == (40, 7)
    assert np.array_equal(values(data.test).numpy(), X_test)
    assert np.array_equal(data.test.labels.numpy(), y_test)


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f8", "i1", "i8", "u2", ">i4", "?", "longdouble"])
def test_other_types_are_kept_as_they_are(save, kind):
    X = (samples() * 3).round().astype(kind)
    X_test = X[:4]
    data = load(save(X=X, y=Y, X_test=X_test, y_test=Y[:4]))
    assert np.array_equal(values(data.test).numpy(), X_test.astype(np.float32))


def test_bytes_are_scaled_unless_told_otherwise(save):
    X = np.arange(240, dtype=np.uint8).reshape(40, 6)
    config = save(X=X, y=Y, X_test=X, y_test=Y)
    np.testing.assert_allclose(values(load(config).test).numpy(), X / 255, rtol=1e-6)
    config.scale = False
    assert np.array_equal(values(load(config).test).numpy(), X)


NAMES = np.array(["ash", "oak", "yew", "fir"])
LABELS = {
    "integers": (Y, "0 1 2 3"),
    "with gaps": (np.array([7, 100, 3, 12])[Y], "7 100 3 12"),
    "negative": (np.array([-1, 1, -5, 5])[Y], "-1 1 -5 5"),
    "unsigned": (Y.astype(np.uint8), "0 1 2 3"),
    "whole floats": (Y.astype(np.float32) + 1, "1 2 3 4"),
    "text": (NAMES[Y], "ash oak yew fir"),
    "bytes": (NAMES[Y].astype("S"), "ash oak yew fir"),
    "truth": (Y % 2 == 0, "True False True False"),
    "a column": (Y[:, None], "0 1 2 3"),
    "a column of text": (NAMES[Y][:, None], "ash oak yew fir"),
    "one-hot": (np.eye(4)[Y], "0 1 2 3"),
    "one-hot truth": (np.eye(5, dtype=bool)[Y + 1], "1 2 3 4"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_kind_keep_their_names(save, kind):
    y, names = LABELS[kind]
    X = samples()
    data = load(save(X=X, y=y, X_test=X[:4], y_test=y[:4]))
    assert " ".join(data.classes[label] for label in data.test.labels) == names
    known = {tuple(x): label for x, label in zip(X.tolist(), Y.tolist(), strict=True)}
    for x, label in zip(values(data.train).tolist(), data.train.labels.tolist(), strict=True):
        assert data.classes[label] == names.split()[known[tuple(x)]]


def test_classes_are_in_increasing_order(save):
    assert load(save(X=samples(), y=LABELS["with gaps"][0])).classes == ("3", "7", "12", "100")
    assert load(save(X=samples(), y=NAMES[Y])).classes == ("ash", "fir", "oak", "yew")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_may_come_last(save, channels):
    X = np.random.default_rng(0).integers(256, size=(40, 6, 5, channels), dtype=np.uint8)
    last = load(save(X=X, y=Y, X_test=X[:4], y_test=Y[:4]))
    train, test = values(last.train), values(last.test)
    first = load(save(X=X.transpose(0, 3, 1, 2), y=Y, X_test=X[:4].transpose(0, 3, 1, 2), y_test=Y[:4]))
    assert last.image_shape == first.image_shape == (channels, 6, 5)
    assert torch.equal(train, values(first.train))
    assert torch.equal(test, values(first.test))
    assert torch.equal(last.preprocessing.apply(X[:4]), test)
    assert torch.equal(last.preprocessing.apply(X[:4].transpose(0, 3, 1, 2)), test)


def with_nan():
    X = samples()
    X[3, 2] = np.nan
    return X


def objects(X):
    return np.array(X.tolist(), dtype=object)


# Arrays, what is wrong with them, and what the message advises, followed.
BAD = {
    "no y": (
        {"X": samples(), "z": Y},
        r"(found the keys \['X', 'z'\] without \['y'\]; write it|y\.npy there too, .*; write them) with",
        {"y": Y},
    ),
    "no y_test": (
        {"X": samples(), "y": Y, "X_test": samples()},
        r"(X_test together with y_test, found .*\['y_test'\]|y_test\.npy there too, found X\.npy, X_test)",
        {"y_test": Y},
    ),
    "no X_test": (
        {"X": samples(), "y": Y, "y_test": Y},
        r"(without \['X_test'\]|X_test\.npy there too)",
        {"X_test": samples()},
    ),
    "object X": (
        {"X": objects(samples()), "y": Y},
        r"plain values in X, found objects of Python, .*X\.astype\('float32'\)",
        {"X": objects(samples()).astype("float32")},
    ),
    "object y": (
        {"X": samples(), "y": objects(Y)},
        r"plain values in y, found objects of Python, .*; store plain labels: y\.astype\(str\)",
        {"y": objects(Y).astype(str)},
    ),
    "sparse X": (
        {"X": np.array(sparse.csr_matrix(samples()), dtype=object), "y": Y},
        r"plain values in X, .*or X\.toarray\(\) if it is a sparse matrix",
        {"X": sparse.csr_matrix(samples()).toarray()},
    ),
    "text": (
        {"X": samples().astype(str), "y": Y},
        r"real numbers in X, found shape .* of <U.*X\.astype\('float32'\)",
        {"X": samples().astype(str).astype("float32")},
    ),
    "complex": ({"X": samples() * 1j, "y": Y}, r"real numbers in X, found .* of complex64", {}),
    "one dimension": (
        {"X": samples()[:, 0], "y": Y},
        r"X of shape n × features.*found shape \(40,\) .*: X\.reshape\(len\(X\), -1\)",
        {"X": samples()[:, 0].reshape(40, -1)},
    ),
    "five dimensions": (
        {"X": samples(shape=(2, 1, 2, 5)), "y": Y},
        r"X of shape n × features.*: X\.reshape\(len\(X\), -1\)",
        {"X": samples(shape=(2, 1, 2, 5)).reshape(40, -1)},
    ),
    "channels first or last": (
        {"X": samples(shape=(3, 5, 3)), "y": Y},
        r"pictures in X whose channels come clearly first or last.*: X\.reshape\(len\(X\), -1\)",
        {"X": samples(shape=(3, 5, 3)).reshape(40, -1)},
    ),
    "empty": ({"X": samples(0), "y": Y[:0]}, r"X of shape n × features.*found shape \(0, 6\)", {}),
    "NaN": (
        {"X": with_nan(), "y": Y},
        r"finite numbers in X, found NaN or infinity in 1 places, in features \[2\]; fill them in, or drop",
        {"X": with_nan()[np.isfinite(with_nan()).reshape(40, -1).all(axis=1)], "y": np.delete(Y, 3)},
    ),
    "length": (
        {"X": samples(), "y": Y[:39]},
        r"one label in y for each of the 40 samples, found shape \(39,\)",
        {"y": Y},
    ),
    "no dimension": ({"X": samples(), "y": np.array(3)}, r"one label in y .* found shape \(\)", {"y": Y}),
    "scores": (
        {"X": samples(), "y": np.eye(4)[Y] * 0.9},
        r"rows with a single one and zeros, .* store y\.argmax\(axis=1\)",
        {"y": (np.eye(4)[Y] * 0.9).argmax(axis=1)},
    ),
    "several labels": (
        {"X": samples(), "y": np.eye(4, dtype=int)[Y] | [1, 0, 0, 0]},
        r"single one",
        {"y": Y},
    ),
    "text in two columns": (
        {"X": samples(), "y": np.tile(NAMES[Y][:, None], 2)},
        r"one label in y",
        {"y": Y},
    ),
    "fractions": (
        {"X": samples(), "y": Y * 0.5},
        r"whole numbers or text as labels in y, found 0\.5; name the classes, .* y\.astype\(str\)",
        {"y": (Y * 0.5).astype(str)},
    ),
    "NaN labels": ({"X": samples(), "y": np.where(Y == 0, np.nan, Y)}, r"labels in y, found nan", {"y": Y}),
    "complex labels": ({"X": samples(), "y": Y * 1j}, r"labels in y, .*complex", {"y": (Y * 1j).astype(str)}),
    "one class": (
        {"X": samples(), "y": Y * 0},
        r"at least 2 classes, found 1; add samples of other classes",
        {"y": Y},
    ),
    "test shape": (
        {"X": samples(), "y": Y, "X_test": samples(shape=(5,)), "y_test": Y},
        r"one shape and type in X and X_test, found shape \(40, 5\) .* beside X shape \(40, 6\)",
        {"X_test": samples()},
    ),
    "test type": (
        {"X": samples(), "y": Y, "X_test": samples().astype(np.uint8), "y_test": Y},
        r"found shape \(40, 6\) of uint8 beside X shape \(40, 6\) of float32",
        {"X": samples().astype(np.uint8)},
    ),
    "test NaN": (
        {"X": samples(), "y": Y, "X_test": with_nan(), "y_test": Y},
        r"finite numbers in X_test",
        {"X_test": samples()},
    ),
    "test labels": (
        {"X": samples(), "y": Y, "X_test": samples(), "y_test": Y + 1},
        r"only labels in y_test that y has, found \[4\]",
        {"y": Y + 1},
    ),
    "test labels of another kind": (
        {"X": samples(), "y": Y, "X_test": samples(), "y_test": Y.astype(str)},
        r"labels of one kind in y and y_test, found y_test of <U\d+ beside y of int64; .* astype\(str\)",
        {"y": Y.astype(str)},
    ),
}


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@pytest.mark.parametrize("save", ["npz", "folder"], indirect=True)
@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_and_their_remedies(save, case):
    arrays, message, remedy = BAD[case]
    with pytest.raises(DataError, match=rf"mine.*: expected .*{message}"):
        load(save(**arrays))
    if remedy:
        assert len(load(save(**arrays | remedy)).train)


@pytest.mark.parametrize("save", ["npz"], indirect=True)
def test_a_sparse_matrix_and_its_remedy(tmp_path, save):
    path = tmp_path / "sparse.npz"
    sparse.save_npz(path, sparse.csr_matrix(samples()))
    with pytest.raises(DataError, match=r"the arrays X and y, found a SciPy sparse matrix alone") as caught:
        load(Arrays(path=str(path)))
    expression = str(caught.value).partition("X=")[2].partition(", y=y")[0]
    X = eval(expression, {"scipy": pytest.importorskip("scipy")})
    assert np.array_equal(X, samples())
    assert load(save(X=X, y=Y)).features == 6


def test_files_that_are_no_npz(tmp_path):
    with pytest.raises(
        DataError,
        match=r"none\.npz: expected an \.npz, .* file or a folder .*, found nothing there; set data\.path",
    ):
        load(Arrays(path=str(tmp_path / "none.npz")))
    np.save(tmp_path / "single.npy", samples())
    with pytest.raises(
        DataError, match=r"single\.npy: expected .*, found another kind of file; write it with"
    ):
        load(Arrays(path=str(tmp_path / "single.npy")))
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as archive:
        archive.writestr("X", "not an array")
        archive.writestr("y", "nor this")
    with pytest.raises(DataError, match=r"text\.zip: expected X and y, .* found the keys \[\] without"):
        load(Arrays(path=str(tmp_path / "text.zip")))
    with pytest.raises(ConfigError, match=r"data\.path must be the path of a file or folder, got '\?\?\?'"):
        load(Arrays())


@pytest.mark.parametrize("save", ["npz"], indirect=True)
def test_a_damaged_npz(tmp_path, save):
    config = save(X=samples(), y=Y)
    content = bytearray((tmp_path / "mine.npz").read_bytes())
    content[500] ^= 0xFF  # inside the values of X
    (tmp_path / "mine.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"a plain array in X, found a damaged one \(Bad CRC"):
        load(config)
