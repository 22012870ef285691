"""A folder of .npy files: labels in memory, samples read where they lie, a few rows at a time.

Rows are read with explicit calls, for pages of a mapped file count as memory of the process.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .files import bad_file, check_memory
from .npz import read_header

EXAMPLE = "write them with numpy.save: X.npy and y.npy, or X_000.npy, X_001.npy … and y_000.npy, y_001.npy …"
AGAIN = "bring it back as it was and continue with resume=true, or start another run"
GAP = 1 << 16  # bytes between two rows that are read along rather than skipped
AT_ONCE = 1 << 22  # bytes, or one row, that are read before those wanted are taken out


@dataclass(frozen=True)
class Shard:
    """One file: its rows start `offset` bytes from its beginning; `stamp` is its size and time of change."""

    path: Path
    offset: int
    rows: int
    stamp: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Stored:
    """Rows in files, which are read when asked for by increasing indices, as from an array.

    ``shape`` is that of all rows as they come. With ``channels_last`` pictures are stored as H × W × C and
    come as C × H × W.
    """

    shards: tuple[Shard, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    channels_last: bool = False

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def with_channels_first(self) -> Stored:
        """The same pictures, stored with their channels last."""
        n, height, width, channels = self.shape
        return replace(self, shape=(n, channels, height, width), channels_last=True)

    def view(self, dtype: type) -> Stored:
        """The same bytes as another type of the same width."""
        return replace(self, dtype=np.dtype(dtype))

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """These rows, in increasing order.

        Raises `DataError` if a file is not what it was when the folder was read.
        """
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        shape = self.shape[1:]
        if self.channels_last:
            shape = (*shape[1:], shape[0])
        found = np.empty((len(rows), *shape), self.dtype)
        starts = np.cumsum([0, *(shard.rows for shard in self.shards)])
        done = 0
        for shard, start, stop in zip(self.shards, starts[:-1], starts[1:], strict=True):
            count = int(np.searchsorted(rows, stop)) - done
            if count:
                _read(shard, rows[done : done + count] - start, found[done : done + count])
            done += count
        return np.moveaxis(found, 3, 1) if self.channels_last else found


def _read(shard: Shard, rows: np.ndarray, out: np.ndarray) -> None:
    """Fill `out` with these rows of a file, neighbours together."""
    width = out[0].nbytes
    flat = out.reshape(len(out), -1).view(np.uint8)
    steps = np.diff(rows, prepend=rows[:1])
    skipped = (steps - 1) * width > GAP
    steps[skipped] = 1
    places = np.cumsum(steps)  # of the rows among all that are read
    cuts = np.flatnonzero(np.diff(places * width // AT_ONCE)) + 1
    try:
        with shard.path.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if (status.st_size, status.st_mtime_ns) != shard.stamp:
                expected = f"the {shard.stamp[0]} bytes that the run found there"
                raise bad_file(shard.path, expected, f"{status.st_size}, changed since", AGAIN)
            for first, last in zip([0, *cuts], [*cuts, len(rows)], strict=True):
                wanted = places[first:last] - places[first]
                dense = wanted[-1] == last - first - 1
                into = flat[first:last] if dense else np.empty((wanted[-1] + 1, width), np.uint8)
                starts = [0, *(np.flatnonzero(skipped[first + 1 : last]) + 1)]
                for start, stop in zip(starts, [*starts[1:], last - first], strict=True):
                    part = into[wanted[start] : wanted[stop - 1] + 1]
                    _fill(file, part, shard.offset + int(rows[first + start]) * width, shard.path)
                if not dense:
                    np.take(into, wanted, axis=0, out=flat[first:last], mode="clip")  # "raise" makes a copy
    except OSError as error:
        raise bad_file(shard.path, "a readable file", error.strerror or str(error), AGAIN) from error


def _fill(file: FileIO, part: np.ndarray, offset: int, path: Path) -> None:
    """Read so many bytes from `offset` on."""
    into = part.data.cast("B")
    while into:
        count = os.preadv(file.fileno(), [into], offset)
        if not count:
            raise bad_file(path, "the bytes that the run found there", f"{len(into)} less", AGAIN)
        into, offset = into[count:], offset + count


def read_folder(folder: Path) -> dict[str, np.ndarray | Stored]:
    """The samples X (as `Stored`), the labels y and, where there are any, X_test and y_test, and weights w.

    The files are X.npy and y.npy, or shards X_000.npy, X_001.npy … and y_000.npy, y_001.npy … in the order of
    their numbers, likewise X_test.npy … and w.npy … Raises `DataError` for anything but plain arrays whose
    sizes, shapes and types agree; no samples are read.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        reason = error.strerror or str(error)
        raise bad_file(folder, "a readable folder", reason, "check that you may read it") from error
    arrays: dict[str, np.ndarray | Stored] = {}
    tested = any(re.fullmatch(r"[Xy]_test(_\d+)?\.npy", name) for name in names)
    for end in ("", "_test") if tested else ("",):
        parts = {key: _numbered(folder, names, key + end) for key in "Xy"}
        alone = sorted(parts["X"].keys() ^ parts["y"].keys())
        if alone or not parts["X"]:
            lacking = [
                f"{key}{end}{part}.npy" for part in alone or [""] for key in "Xy" if part not in parts[key]
            ]
            found = ", ".join(names[:6]) + (" …" if len(names) > 6 else "") if names else "nothing"
            raise bad_file(folder, f"{' and '.join(lacking)} there too", found, EXAMPLE)
        order = sorted(parts["X"], key=lambda part: (int(part[1:] or 0), part))
        X = _stored(folder, [parts["X"][part] for part in order], f"X{end}")
        arrays[f"X{end}"] = X
        arrays[f"y{end}"] = _labels([parts["y"][part] for part in order], X, f"y{end}")
        weights = {} if end else _numbered(folder, names, "w")
        if weights:
            lacking = [f"w{part}.npy" for part in order if part not in weights]
            if lacking:
                raise bad_file(
                    folder, f"{lacking[0]} there too", ", ".join(f"w{p}.npy" for p in weights), EXAMPLE
                )
            arrays["w"] = _labels([weights[part] for part in order], X, "w")
    return arrays


def _numbered(folder: Path, names: Sequence[str], key: str) -> dict[str, Path]:
    """The files of an array by their number with its underscore, "" for the only one."""
    found = {}
    for name in names:
        match = re.fullmatch(rf"{key}(_\d+|)\.npy", name)
        if match:
            found[match[1]] = folder / name
    if "" in found and len(found) > 1:
        other = next(part for part in found if part)
        both = f"{key}.npy beside {key}{other}.npy"
        raise bad_file(folder, f"{key} in one file or in numbered ones", both, "take away what is not meant")
    return found


def _stored(folder: Path, paths: list[Path], key: str) -> Stored:
    shards, kinds = [], []
    for path in paths:
        with _opened(path, key) as file:
            status = os.fstat(file.fileno())
            shape, columns_first, dtype, offset = read_header(path, key, file, status.st_size, EXAMPLE)
            if columns_first:
                remedy = f"write it row by row: numpy.save(path, numpy.ascontiguousarray({key}))"
                raise bad_file(path, f"{key} in C order", "Fortran order", remedy)
            kinds.append((shape[1:], dtype))
            if kinds[-1] != kinds[0]:
                found = f"{shape[1:]} of {dtype} beside {kinds[0][0]} of {kinds[0][1]} in {paths[0].name}"
                raise bad_file(path, "samples of one shape and type in all files", found, "prepare all alike")
            rows = shape[0] if shape else 0
            shards.append(Shard(path, offset, rows, (status.st_size, status.st_mtime_ns)))
    n = sum(shard.rows for shard in shards)
    return Stored(tuple(shards), (n, *shape[1:]) if shape else (), dtype)


def _labels(paths: list[Path], X: Stored, key: str) -> np.ndarray:
    arrays: list[np.ndarray] = []
    for path, shard in zip(paths, X.shards, strict=True):
        with _opened(path, key) as file:
            size = os.fstat(file.fileno()).st_size
            check_memory(4 * size, f"{path}: reading these labels", "store one number for each sample")
            read_header(path, key, file, size, EXAMPLE)
            file.seek(0)
            y = np.lib.format.read_array(file, allow_pickle=False)
        if y.shape[:1] != (shard.rows,):
            expected = f"one label in {key} for each of the {shard.rows} samples"
            raise bad_file(path, expected, f"shape {y.shape}", "store as many labels as samples")
        if arrays and (y.dtype.kind, y.shape[1:]) != (arrays[0].dtype.kind, arrays[0].shape[1:]):
            found = f"{y.shape[1:]} of {y.dtype} beside {arrays[0].shape[1:]} of {arrays[0].dtype}"
            remedy = "convert all with astype(str)"
            raise bad_file(path, f"labels of one kind in all files of {key}", found, remedy)
        arrays.append(y)
    return np.concatenate(arrays)


def _opened(path: Path, key: str) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        reason = error.strerror or str(error)
        raise bad_file(path, f"a readable file of {key}", reason, "check that you may read it") from error
