"""The user's own data: X, y and optionally X_test, y_test in an .npz file or a folder, or a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import require
from .config import Arrays
from .dataset import Raw
from .files import bad_file, expand
from .folder import Stored, read_folder
from .npz import read_npz
from .tables import PARQUET, TEXT, read_table

TO_TEXT = "name the classes, for example with y.astype(str)"
CHANNELS = (1, 3, 4)  # grey, red-green-blue, and those with transparency


def read_arrays(config: Arrays) -> Raw:
    """Read an .npz file with X and y, a folder of .npy files, see `folder`, or a table, see `tables`.

    ``X`` is n × features, n × H × W, n × C × H × W or n × H × W × C with C of 1, 3 or 4: uint8 pixels (which
    stand for 0..1) or any other finite real numbers, of either sign. ``y`` are n labels: integers, text,
    truth values, or whole numbers stored as floats; n × 1 of these; or one-hot rows n × classes. They are
    renumbered in increasing order, ``classes`` keeps the originals (of one-hot rows, the columns' numbers).
    Of a folder, ``X`` stays where it is (`Stored`). Whether it is finite is found by `survey`.

    Raises `DataError` for anything else; never runs code from the file.
    """
    require(config.path not in ("", "???"), "data.path", "the path of a file or folder", config.path)
    path = expand(config.path, "data.path")
    if not path.is_dir() and not path.is_file():
        expected = "an .npz, .csv or .parquet file or a folder of .npy files"
        raise bad_file(path, expected, "nothing there", "set data.path to your data")
    if path.is_file() and path.suffix.lower() in (*TEXT, *PARQUET):
        table, y, column = read_table(path, config.target)
        remedy = f"is {column} the label's column? If not, set data.target to the one that is"
        return _raw(path, table, _labels(path, y, len(table), f"the column {column}", remedy))
    allowed = "null for an .npz file or a folder, whose labels are y"
    require(config.target is None, "data.target", allowed, config.target)
    arrays: dict[str, Any] = read_folder(path) if path.is_dir() else read_npz(path)
    X = _samples(path, arrays["X"], "X")
    y = _labels(path, arrays["y"], len(X), "y")
    return _raw(path, X, y, _test_set(path, arrays, X, y) if "X_test" in arrays else None)


def _raw(
    path: Path,
    X: np.ndarray | Stored,
    y: np.ndarray,
    test: tuple[np.ndarray | Stored, np.ndarray] | None = None,
) -> Raw:
    classes, labels = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise bad_file(path, "at least 2 classes", f"{len(classes)}", "add samples of other classes")
    if test is not None:
        test = test[0], np.searchsorted(classes, test[1])
    maximum = 255 if X.dtype == np.uint8 else 1
    return Raw(X, labels.astype(np.int64), tuple(map(str, classes)), maximum, test, path)


def _test_set(
    path: Path, arrays: dict[str, Any], X: np.ndarray | Stored, y: np.ndarray
) -> tuple[np.ndarray | Stored, np.ndarray]:
    test_X = _samples(path, arrays["X_test"], "X_test")
    test_y = _labels(path, arrays["y_test"], len(test_X), "y_test")
    if test_X.shape[1:] != X.shape[1:] or (test_X.dtype == np.uint8) != (X.dtype == np.uint8):
        found = f"{_describe(test_X)} beside X {_describe(X)}"
        raise bad_file(path, "samples of one shape and type in X and X_test", found, "prepare both alike")
    if test_y.dtype.kind != y.dtype.kind:
        found = f"y_test of {test_y.dtype} beside y of {y.dtype}"
        raise bad_file(path, "labels of one kind in y and y_test", found, "convert both with astype(str)")
    unknown = np.setdiff1d(test_y, y)
    if len(unknown):
        found = f"{unknown[:5].tolist()} in y_test alone"
        raise bad_file(path, "only labels in y_test that y has", found, "train on all classes")
    return test_X, test_y


def _samples(path: Path, X: np.ndarray | Stored, key: str) -> np.ndarray | Stored:
    if X.dtype.kind not in "fiub":
        remedy = f"convert them, for example with {key}.astype('float32')"
        raise bad_file(path, f"real numbers in {key}", _describe(X), remedy)
    flat = f"flatten each sample: {key}.reshape(len({key}), -1)"
    if X.ndim not in (2, 3, 4) or X.size == 0:
        expected = f"{key} of shape n × features, n × H × W, n × C × H × W or n × H × W × C"
        raise bad_file(path, expected, _describe(X), flat)
    if X.ndim < 4 or X.shape[3] not in CHANNELS:
        return X
    if X.shape[1] in CHANNELS:
        expected = f"pictures in {key} whose channels come clearly first or last"
        raise bad_file(path, expected, _describe(X), flat)
    return X.with_channels_first() if isinstance(X, Stored) else np.moveaxis(X, 3, 1)


def _labels(path: Path, y: np.ndarray, n: int, key: str, remedy: str = "") -> np.ndarray:
    """The labels (n) as int64, text or truth values."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.dtype.kind not in "iubfUS":
        raise bad_file(path, f"numbers or text as labels in {key}", _describe(y), remedy or TO_TEXT)
    one_hot = y.ndim == 2 and y.dtype.kind in "iubf"
    if y.shape[:1] != (n,) or (y.ndim != 1 and not one_hot):
        expected = f"one label in {key} for each of the {n} samples"
        raise bad_file(path, expected, _describe(y), "store as many labels as samples")
    if one_hot:
        if ((y != 0) & (y != 1)).any() or (y.sum(axis=1) != 1).any():
            expected = f"one label for each sample in {key}, or rows with a single one and zeros"
            raise bad_file(path, expected, f"other rows of {y.shape[1]}", f"store {key}.argmax(axis=1)")
        return y.argmax(axis=1)
    if y.dtype.kind == "f":
        if not np.isfinite(y).all() or (y != np.round(y)).any():
            wrong = y[~np.isfinite(y) | (y != np.round(y))][0]
            raise bad_file(path, f"whole numbers or text as labels in {key}", f"{wrong:g}", remedy or TO_TEXT)
        return y.astype(np.int64)
    if y.dtype.kind == "S":
        return np.char.decode(y, "utf-8", "replace")
    return y.astype(np.int64) if y.dtype.kind in "iu" else y


def _describe(array: np.ndarray | Stored) -> str:
    return f"shape {array.shape} of {array.dtype}"
