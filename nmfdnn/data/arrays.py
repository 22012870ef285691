"""The user's own data: an .npz file with X, y and optionally X_test, y_test, or a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import require
from .config import Arrays
from .dataset import Raw
from .files import bad_file, expand
from .npz import EXAMPLE, read_npz
from .preprocessing import parts
from .tables import PARQUET, TEXT, read_table

TO_TEXT = "name the classes, for example with y.astype(str)"
CHANNELS = (1, 3, 4)  # grey, red-green-blue, and those with transparency


def read_arrays(config: Arrays) -> Raw:
    """Read an .npz file with X and y, or a table, see `tables`.

    ``X`` is n × features, n × H × W, n × C × H × W or n × H × W × C with C of 1, 3 or 4: uint8 pixels (which
    stand for 0..1) or any other finite real numbers, of either sign. ``y`` are n labels: integers, text,
    truth values, or whole numbers stored as floats; n × 1 of these; or one-hot rows n × classes. They are
    renumbered in increasing order, ``classes`` keeps the originals (of one-hot rows, the columns' numbers).

    Raises `DataError` for anything else; never runs code from the file.
    """
    require(config.path not in ("", "???"), "data.path", "the path of a file", config.path)
    path = expand(config.path, "data.path")
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing there"
        raise bad_file(path, "an .npz, .csv or .parquet file", found, "set data.path to your file")
    try:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
    except OSError as error:
        reason = error.strerror or str(error)
        raise bad_file(path, "a readable file", reason, "check that you may read it") from error

    if path.suffix.lower() in (*TEXT, *PARQUET):
        X, y, column = read_table(path, config.target)
        remedy = f"is {column} the label's column? If not, set data.target to the one that is"
        y, test = _labels(path, y, len(X), f"the column {column}", remedy), None
    elif zipped:
        allowed = "null for an .npz file, whose labels are y"
        require(config.target is None, "data.target", allowed, config.target)
        arrays = read_npz(path)
        X = _samples(path, arrays["X"], "X")
        y = _labels(path, arrays["y"], len(X), "y")
        test = _test_set(path, arrays, X, y) if "X_test" in arrays else None
    else:
        raise bad_file(path, "an .npz (a zip), .csv or .parquet file", "another kind of file", EXAMPLE)
    classes, labels = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise bad_file(path, "at least 2 classes", f"{len(classes)}", "add samples of other classes")

    if X.dtype == np.uint8 and max(part.max() for part in (X, *(test or ())[:1])) <= 1:
        X, test = X.view(bool), test and (test[0].view(bool), test[1])  # truth values rather than pixels
    if test is not None:
        test = test[0], np.searchsorted(classes, test[1])
    maximum = 255 if X.dtype == np.uint8 else 1
    return Raw(X, labels.astype(np.int64), tuple(map(str, classes)), maximum, test)


def _test_set(
    path: Path, arrays: dict[str, np.ndarray], X: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
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


def _samples(path: Path, X: np.ndarray, key: str) -> np.ndarray:
    if X.dtype.kind not in "fiub":
        remedy = f"convert them, for example with {key}.astype('float32')"
        raise bad_file(path, f"real numbers in {key}", _describe(X), remedy)
    flat = f"flatten each sample: {key}.reshape(len({key}), -1)"
    if X.ndim not in (2, 3, 4) or X.size == 0:
        expected = f"{key} of shape n × features, n × H × W, n × C × H × W or n × H × W × C"
        raise bad_file(path, expected, _describe(X), flat)
    if X.dtype.kind == "f":
        bad = np.zeros(X[0].size, np.int64)
        for part in parts(len(X), X[0].size):
            bad += np.count_nonzero(~np.isfinite(X[part]), axis=0).reshape(-1)
        if bad.any():
            columns = np.flatnonzero(bad)
            more = f" and {len(columns) - 5} more" if len(columns) > 5 else ""
            found = f"NaN or infinity in {bad.sum()} places, in features {columns[:5].tolist()}{more}"
            remedy = (
                "fill them in, or drop these samples: "
                f"keep = numpy.isfinite({key}).reshape(len({key}), -1).all(axis=1), then {key}[keep] and the "
                "labels' [keep]"
            )
            raise bad_file(path, f"finite numbers in {key}", found, remedy)
    if X.ndim < 4 or X.shape[3] not in CHANNELS:
        return X
    if X.shape[1] in CHANNELS:
        expected = f"pictures in {key} whose channels come clearly first or last"
        raise bad_file(path, expected, _describe(X), flat)
    return np.moveaxis(X, 3, 1)


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


def _describe(array: np.ndarray) -> str:
    return f"shape {array.shape} of {array.dtype}"
