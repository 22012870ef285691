"""The idx format of MNIST and its relatives."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from .files import REPLACE, bad_file, check_digest, read_bytes

LARGEST = {1: 8 + 60_000, 3: 16 + 60_000 * 28 * 28}  # bytes of labels and images of the largest set here


def read_idx(path: Path, ndim: int, digest: str) -> np.ndarray:
    """Read an idx file of unsigned bytes, plain or gzip, with ``ndim`` dimensions: 1 labels, 3 images.

    The header is big-endian: two zero bytes, the type (8: unsigned byte), ``ndim``, then ``ndim`` sizes of
    four bytes. ``digest`` is the MD5 of the decompressed file. The result is read-only.

    Raises `DataError` if magic number, size or digest is wrong.
    """
    content = read_bytes(path, LARGEST[ndim])
    magic = 0x0800 + ndim
    header = 4 + 4 * ndim
    if len(content) < header:
        raise bad_file(path, f"an idx header of {header} bytes", f"{len(content)} bytes", REPLACE)
    found, *shape = struct.unpack(f">{1 + ndim}I", content[:header])
    if found != magic:
        raise bad_file(path, f"an idx file with magic number {magic:#06x}", f"{found:#06x}", REPLACE)
    if len(content) != header + math.prod(shape):
        expected = f"{header + math.prod(shape)} bytes for the shape {tuple(shape)} in its header"
        raise bad_file(path, expected, f"{len(content)} bytes", REPLACE)
    check_digest(path, content, digest)
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
