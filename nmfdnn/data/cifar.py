"""The two formats of CIFAR-10: pickles from Python 2, and the binary version."""

from __future__ import annotations

import codecs
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .files import REPLACE, bad_file, check_digest, read_bytes

RECORDS = 10000  # images in each of the six files
SHAPE = (3, 32, 32)  # the planes red, green, blue, each row by row
PIXELS = 3 * 32 * 32
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def read_binary_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (10000 × 3 × 32 × 32, uint8) and labels (10000, int64) of one .bin file.

    A record is a label byte and 3072 pixel bytes. No digests of these files are published, so size and
    label range are all that is verified. Raises `DataError` if they are wrong.
    """
    size = RECORDS * (1 + PIXELS)
    content = read_bytes(path, size)
    if len(content) != size:
        raise bad_file(path, f"{size} bytes", f"{len(content)} bytes", REPLACE)
    records = np.frombuffer(content, np.uint8).reshape(RECORDS, 1 + PIXELS)
    return _checked(path, records[:, 1:], records[:, 0])


def read_python_batch(path: Path, digest: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (10000 × 3 × 32 × 32, uint8) and labels (10000, int64) of one pickled batch.

    The pickle is read without running code from it. ``digest`` is the MD5 of the file.
    Raises `DataError` if digest or contents are wrong.
    """
    content = read_bytes(path, RECORDS * 2 * PIXELS)  # names of files too, and what Python 3 makes of bytes
    check_digest(path, content, digest)
    try:
        batch = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
        data, labels = np.asarray(batch["data"]), np.asarray(batch["labels"])
    except DataError as error:
        raise bad_file(
            path, "a pickle of arrays", str(error), f"do not trust this file; {REPLACE}"
        ) from error
    except Exception as error:  # a damaged pickle can fail in any way
        found = f"{type(error).__name__}: {error}"
        raise bad_file(path, "a pickled batch with 'data' and 'labels'", found, REPLACE) from error
    known = data.dtype == np.uint8 and labels.dtype.kind == "i"
    if not known or data.shape != (RECORDS, PIXELS) or labels.shape != (RECORDS,):
        expected = f"{RECORDS} × {PIXELS} bytes and {RECORDS} labels"
        found = f"data {data.shape} of {data.dtype} and labels {labels.shape} of {labels.dtype}"
        raise bad_file(path, expected, found, REPLACE)
    return _checked(path, data, labels)


def _checked(path: Path, data: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if labels.min() < 0 or labels.max() >= len(CLASSES):
        expected = f"labels 0..{len(CLASSES) - 1}"
        raise bad_file(path, expected, f"{labels.min()}..{labels.max()}", REPLACE)
    return data.reshape(-1, *SHAPE), labels.astype(np.int64)


_reconstruct: Any = np.empty(0).__reduce__()[0]  # its public place differs between versions of NumPy
_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,  # how Python 3 writes bytes for Python 2
}


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays and plain values; refuses every other name, and with it all code in a pickle."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise DataError(f"a reference to {module}.{name}") from None
