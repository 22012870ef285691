"""NumPy's .npz archives: no pickles, and no more memory than the arrays take."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import DataError
from .files import bad_file, check_memory

EXAMPLE = "write it with numpy.savez(path, X=X, y=y)"
HEADER = 1 << 16  # bytes; NumPy writes and reads shorter ones
SPARSE = {"data", "format", "shape"}  # what scipy.sparse.save_npz writes, among others


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays X and y and, where there are any, X_test and y_test, and w.

    Raises `DataError` for anything but plain arrays: before an array is read, its header must agree with the
    archive's directory about its size, and all together must fit in memory.
    """
    key = "the archive"
    try:
        with path.open("rb") as file:
            if file.read(4) != b"PK\x03\x04":
                raise bad_file(
                    path, "an .npz (a zip), .csv or .parquet file", "another kind of file", EXAMPLE
                )
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            wanted = _wanted(path, [name.removesuffix(".npy") for name in members if name.endswith(".npy")])
            size = 2 * sum(members[f"{key}.npy"].file_size for key in wanted)
            check_memory(size, f"{path}: training on it", "store fewer samples or a narrower type")
            arrays = {}
            for key in wanted:
                info = members[f"{key}.npy"]
                # Other methods than NumPy's inflate without bounds.
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise bad_file(path, f"{key} as NumPy packs it", "another way of packing", EXAMPLE)
                with archive.open(info) as member:
                    read_header(path, key, member, info.file_size)
                with archive.open(info) as member:
                    arrays[key] = np.lib.format.read_array(member, allow_pickle=False)
    except DataError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise bad_file(path, "a readable file", reason, "check that you may read it") from error
    except Exception as error:  # a damaged or hostile archive can fail in any way
        reason = str(error) or type(error).__name__
        raise bad_file(path, f"a plain array in {key}", f"a damaged one ({reason})", EXAMPLE) from error
    return arrays


def _wanted(path: Path, keys: list[str]) -> list[str]:
    if set(keys) >= SPARSE:
        dense = f"scipy.sparse.load_npz({str(path)!r}).toarray()"
        remedy = f"write another file with numpy.savez(path, X={dense}, y=y)"
        raise bad_file(path, "the arrays X and y", "a SciPy sparse matrix alone", remedy)
    wanted = ["X", "y"]
    if "X_test" in keys or "y_test" in keys:
        wanted += ["X_test", "y_test"]
    wanted += ["w"] if "w" in keys else []
    missing = [key for key in wanted if key not in keys]
    if missing:
        found = f"the keys {sorted(keys)} without {missing}"
        raise bad_file(path, "X and y, and X_test together with y_test", found, EXAMPLE)
    return wanted


def read_header(
    path: Path, key: str, member: IO[bytes], size: int, remedy: str = EXAMPLE
) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether in Fortran's order, type and place of the values of an array of `size` bytes.

    Raises `DataError` unless they are plain values and as many as there are bytes.
    """
    try:
        start = io.BytesIO(member.read(HEADER))  # a header may claim any length
        major = np.lib.format.read_magic(start)[0]
        read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, columns_first, dtype = read(start)
    except Exception as error:  # a damaged or hostile header can fail in any way
        reason = str(error) or type(error).__name__
        raise bad_file(path, f"a plain array in {key}", f"a damaged one ({reason})", remedy) from error
    if dtype.hasobject:
        # A sparse matrix in numpy.savez becomes an object without dimensions.
        remedy = (
            f"store numbers: {key}.astype('float32'), or {key}.toarray() if it is a sparse matrix"
            if key.startswith("X")
            else f"store plain labels: {key}.astype(str)"
        )
        raise bad_file(path, f"plain values in {key}", f"objects of Python, shape {shape}", remedy)
    expected = start.tell() + math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or expected != size:
        found = f"{size} bytes for shape {shape} of {dtype}"
        raise bad_file(path, f"{expected} bytes in {key}", found, remedy)
    return shape, columns_first, dtype, start.tell()
