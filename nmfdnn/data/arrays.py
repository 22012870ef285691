"""The user's own data: X, y and optionally X_test, y_test and w in an .npz file or a folder, or a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import require
from ..targets import Classes, RealValues, Targets
from .config import CLASSIFICATION, REGRESSION, Arrays
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
    renumbered in increasing order, the names of `Classes` keep the originals (of one-hot rows, the columns'
    numbers). With the task "regression" ``y`` are n or n × m real numbers. ``w`` are n numbers ≥ 0. Of a
    folder, ``X`` stays where it is (`Stored`). Whether it is finite is found by `survey`.

    Raises `DataError` for anything else; never runs code from the file.
    """
    require(config.path not in ("", "???"), "data.path", "the path of a file or folder", config.path)
    path = expand(config.path, "data.path")
    if not path.is_dir() and not path.is_file():
        expected = "an .npz, .csv or .parquet file or a folder of .npy files"
        raise bad_file(path, expected, "nothing there", "set data.path to your data")
    if path.is_file() and path.suffix.lower() in (*TEXT, *PARQUET):
        return _table(path, config)
    for name in ("target", "weight"):
        allowed = "null for an .npz file or a folder, whose labels are y and whose weights are w"
        require(getattr(config, name) is None, f"data.{name}", allowed, getattr(config, name))
    arrays: dict[str, Any] = read_folder(path) if path.is_dir() else read_npz(path)
    read, encode = TASKS[config.task]
    X = _samples(path, arrays["X"], "X")
    y = read(path, arrays["y"], len(X), "y", "")
    test_X, test_y = None, None
    if "X_test" in arrays:
        test_X = _test_samples(path, _samples(path, arrays["X_test"], "X_test"), X)
        test_y = read(path, arrays["y_test"], len(test_X), "y_test", "")
    labels, test_labels, targets = encode(path, y, test_y, ())
    test = None if test_X is None or test_labels is None else (test_X, test_labels)
    weights = _weights(path, arrays["w"], len(X), "w") if "w" in arrays else None
    return Raw(X, labels, targets, 255 if X.dtype == np.uint8 else 1, test, path, weights)


def _table(path: Path, config: Arrays) -> Raw:
    table = read_table(path, config.target, config.weight, several=config.task == REGRESSION)
    read, encode = TASKS[config.task]
    names = ", ".join(table.names)
    of = f"the column{'s' * (len(table.names) > 1)} {names}"
    remedy = f"is {names} the label's column? If not, set data.target to the one that is"
    labels, _, targets = encode(path, read(path, table.y, len(table.X), of, remedy), None, table.names)
    weights = (
        None if table.w is None else _weights(path, table.w, len(table.X), f"the column {config.weight}")
    )
    return Raw(table.X, labels, targets, 1, None, path, weights, table.features)


def _classes(
    path: Path, y: np.ndarray, test: np.ndarray | None, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray | None, Targets]:
    """Numbers of the classes, likewise of the test set, and the classes, whose names are their own."""
    classes, labels = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise bad_file(path, "at least 2 classes", f"{len(classes)}", "add samples of other classes")
    if test is not None:
        if test.dtype.kind != y.dtype.kind:
            found = f"y_test of {test.dtype} beside y of {y.dtype}"
            raise bad_file(path, "labels of one kind in y and y_test", found, "convert both with astype(str)")
        unknown = np.setdiff1d(test, y)
        if len(unknown):
            found = f"{unknown[:5].tolist()} in y_test alone"
            raise bad_file(path, "only labels in y_test that y has", found, "train on all classes")
        test = np.searchsorted(classes, test)
    return labels.astype(np.int64), test, Classes(tuple(map(str, classes)))


def _reals(
    path: Path, y: np.ndarray, test: np.ndarray | None, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray | None, Targets]:
    """Values (n × m), those of the test set, and what they are, under these names."""
    if test is not None and test.shape[1] != y.shape[1]:
        found = f"{test.shape[1]} in y_test beside {y.shape[1]} in y"
        raise bad_file(path, "as many values for a sample in y as in y_test", found, "prepare both alike")
    names = names or (("y",) if y.shape[1] == 1 else [f"y{i}" for i in range(y.shape[1])])
    return y, test, RealValues(tuple(names))


def _test_samples(path: Path, test_X: np.ndarray | Stored, X: np.ndarray | Stored) -> np.ndarray | Stored:
    if test_X.shape[1:] != X.shape[1:] or (test_X.dtype == np.uint8) != (X.dtype == np.uint8):
        found = f"{_describe(test_X)} beside X {_describe(X)}"
        raise bad_file(path, "samples of one shape and type in X and X_test", found, "prepare both alike")
    return test_X


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


def _labels(path: Path, y: np.ndarray, n: int, key: str, remedy: str) -> np.ndarray:
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
            remedy = f"{remedy or TO_TEXT}; real values need data.task=regression"
            raise bad_file(path, f"whole numbers or text as labels in {key}", f"{wrong:g}", remedy)
        return y.astype(np.int64)
    if y.dtype.kind == "S":
        return np.char.decode(y, "utf-8", "replace")
    return y.astype(np.int64) if y.dtype.kind in "iu" else y


def _values(path: Path, y: np.ndarray, n: int, key: str, remedy: str) -> np.ndarray:
    """Real values as n × m in float64."""
    if y.dtype.kind not in "iubf":
        first = f" ({str(y.flat[0])[:40]!r})" if y.size else ""
        remedy = f"{remedy or f'store numbers: {key}.astype(float)'}; classes need data.task=classification"
        raise bad_file(path, f"real numbers in {key}", f"text{first}", remedy)
    if y.shape[:1] != (n,) or y.ndim > 2 or y.size == 0:
        expected = f"one number, or m of them, in {key} for each of the {n} samples"
        raise bad_file(path, expected, _describe(y), "store y as n, or n × m, numbers")
    y = y.reshape(n, -1).astype(np.float64)
    bad = ~np.isfinite(y).all(axis=1)
    if bad.any():
        remedy = "leave these samples out: keep = numpy.isfinite(y), then X[keep] and y[keep]"
        raise bad_file(path, f"finite numbers in {key}", f"NaN or infinity in {bad.sum()} samples", remedy)
    return y


def _weights(path: Path, w: np.ndarray, n: int, key: str) -> np.ndarray:
    """Weights of samples (n) in float64."""
    w = w[:, 0] if w.ndim == 2 and w.shape[1] == 1 else w
    if w.dtype.kind not in "iubf" or w.shape != (n,):
        expected = f"one weight in {key} for each of the {n} samples"
        raise bad_file(path, expected, _describe(w), "store one number ≥ 0 for each sample")
    w = w.astype(np.float64)
    if not (np.isfinite(w) & (w >= 0)).all() or not w.any():
        wrong = w[~(np.isfinite(w) & (w >= 0))]
        found = f"{wrong[0]:g}" if len(wrong) else "zeros alone"
        raise bad_file(path, f"weights ≥ 0 in {key}", found, "a weight says how often a sample counts")
    return w


TASKS: dict[str, tuple[Callable[..., np.ndarray], Callable[..., tuple[np.ndarray, Any, Targets]]]] = {
    CLASSIFICATION: (_labels, _classes),
    REGRESSION: (_values, _reals),
}
"""How the labels of a task are checked, and what becomes of them."""


def _describe(array: np.ndarray | Stored) -> str:
    return f"shape {array.shape} of {array.dtype}"
