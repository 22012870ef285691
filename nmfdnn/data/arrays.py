"""The user's own data: an .npz file with X, y and optionally X_test, y_test."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..errors import DataError, require
from .dataset import Raw
from .files import bad_file, expand

EXAMPLE = "write it with numpy.savez(path, X=X, y=y)"


def read_arrays(location: str) -> Raw:
    """Read an .npz file.

    ``X`` is n × features, n × height × width or n × channels × height × width: uint8 pixels (which stand
    for 0..1) or any other finite real numbers, of either sign. Semi-NMF and nonlinear semi-NMF take any
    sign; NMF pre-training of the first layer needs X ≥ 0. ``y`` are n integers ≥ 0; labels may have gaps and
    are renumbered in increasing order, ``classes`` keeps the originals.

    Raises `DataError` for anything else; never runs code from the file.
    """
    require(location not in ("", "???"), "data.path", "the path of an .npz file", location)
    path = expand(location, "data.path")
    arrays = _read_npz(path)
    X, labels = _samples(path, arrays, "X"), _labels(path, arrays, "y", "X")
    classes, labels = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise bad_file(path, "at least 2 classes in y", f"{len(classes)}", "add samples of other classes")

    test = None
    if "X_test" in arrays:
        test_X, test_y = _samples(path, arrays, "X_test"), _labels(path, arrays, "y_test", "X_test")
        if test_X.shape[1:] != X.shape[1:] or (test_X.dtype == np.uint8) != (X.dtype == np.uint8):
            found = f"{_describe(test_X)} beside X {_describe(X)}"
            raise bad_file(path, "samples of one shape and type in X and X_test", found, "prepare both alike")
        unknown = np.setdiff1d(test_y, classes)
        if len(unknown):
            found = f"{unknown[:5].tolist()} in y_test alone"
            raise bad_file(path, "only labels in y_test that y has", found, "train on all classes")
        test = test_X, np.searchsorted(classes, test_y).astype(np.int64)
    if X.dtype == np.uint8 and max(part.max() for part in (X, *(test or ())[:1])) <= 1:
        X, test = X.view(bool), test and (test[0].view(bool), test[1])  # truth values rather than pixels
    maximum = 255 if X.dtype == np.uint8 else 1
    return Raw(X, labels.astype(np.int64), tuple(map(str, classes)), maximum, test)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing there"
        raise bad_file(path.absolute(), "an .npz file", found, "set data.path to your file")
    if not zipfile.is_zipfile(path):
        raise bad_file(path, "an .npz file (a zip of arrays)", "another kind of file", EXAMPLE)
    arrays = {}
    key = "the archive"
    try:
        with np.load(path, allow_pickle=False) as archive:
            wanted = _wanted(path, archive.files)
            for key in wanted:
                arrays[key] = np.asarray(archive[key])
    except DataError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        remedy = "store plain numbers, for example X.astype('float32')"
        raise bad_file(path, f"a plain numeric array in {key}", f"another ({error})", remedy) from error
    return arrays


def _wanted(path: Path, keys: list[str]) -> list[str]:
    wanted = ["X", "y"]
    if "X_test" in keys or "y_test" in keys:
        wanted += ["X_test", "y_test"]
    missing = [key for key in wanted if key not in keys]
    if missing:
        found = f"the keys {sorted(keys)} without {missing}"
        raise bad_file(path, "X and y, and X_test together with y_test", found, EXAMPLE)
    return wanted


def _samples(path: Path, arrays: dict[str, np.ndarray], key: str) -> np.ndarray:
    X = arrays[key]
    if X.dtype.kind not in "fiub":
        raise bad_file(
            path, f"real numbers in {key}", _describe(X), "convert them, e.g. with astype('float32')"
        )
    if X.ndim not in (2, 3, 4) or X.size == 0:
        expected = f"{key} of shape n × features, n × H × W or n × C × H × W"
        raise bad_file(path, expected, _describe(X), "reshape it")
    if not np.isfinite(X).all():
        found = f"NaN or infinity in {np.count_nonzero(~np.isfinite(X))} places"
        raise bad_file(path, f"finite numbers in {key}", found, "fill them in or drop these samples")
    if X.dtype.itemsize > 8:
        return X.astype(np.float64)
    return X.astype(X.dtype.newbyteorder("="), copy=False)  # torch knows the native byte order only


def _labels(path: Path, arrays: dict[str, np.ndarray], key: str, samples: str) -> np.ndarray:
    y, n = arrays[key], len(arrays[samples])
    if y.dtype.kind not in "iub":
        raise bad_file(path, f"integers in {key}", _describe(y), "convert labels with astype('int64')")
    if y.ndim != 1 or len(y) != n:
        expected = f"one label in {key} for each of the {n} samples of {samples}"
        raise bad_file(path, expected, _describe(y), "make them match")
    if y.min() < 0:
        raise bad_file(path, f"labels ≥ 0 in {key}", f"{y.min()}", "number the classes 0, 1, 2, ...")
    return y.astype(np.int64)


def _describe(array: np.ndarray) -> str:
    return f"shape {array.shape} of {array.dtype}"
