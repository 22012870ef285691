"""Reading files of a bounded size, and saying what is wrong with them."""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import zlib
from pathlib import Path

from ..errors import ConfigError, DataError

GZIP_MAGIC = b"\x1f\x8b"
REPLACE = "delete this file and fetch it again (data.download=true does so), or set data.root to a good copy"


def bad_file(path: Path, expected: str, found: str, remedy: str) -> DataError:
    """The error to raise for a file: what was expected, what is there, what to do."""
    return DataError(f"{path}: expected {expected}, found {found}; {remedy}")


def expand(location: str, key: str) -> Path:
    """The absolute path that a user gave as ``key``; raises `ConfigError` where there can be no such path."""
    try:
        path = Path(location).expanduser().absolute()
        os.stat(path)
    except (RuntimeError, ValueError) as error:  # no such user; a null byte
        raise ConfigError(f"{key} must be a path, got {location!r} ({error}): write it in full") from error
    except OSError:
        pass  # those who look there say what is wrong
    return path


def read_bytes(path: Path, largest: int) -> bytes:
    """The contents of a file, decompressed if they are gzip, whatever the file's name says.

    Raises `DataError` if it cannot be read or is damaged. What has more than ``largest`` bytes is refused
    before more than so many are read, or decompressed: memory stays near ``largest``.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            packed = file.read(2) == GZIP_MAGIC
            # What cannot be compressed grows a little.
            if size > largest + packed * (1000 + largest // 1000):
                raise bad_file(path, f"at most {largest} bytes", f"{size} bytes", REPLACE)
            file.seek(0)
            content = gzip.GzipFile(fileobj=file).read(largest + 1) if packed else file.read(size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise bad_file(path, "a whole gzip file", f"a damaged one ({error})", REPLACE) from error
    except OSError as error:
        remedy = "check that it is there and that you may read it"
        raise bad_file(path, "a readable file", error.strerror or str(error), remedy) from error
    if len(content) > largest:
        raise bad_file(path, f"at most {largest} bytes", "more", REPLACE)
    return content


def check_memory(size: float, what: str, remedy: str) -> None:
    """Raise `DataError` if ``size`` bytes are more than this machine's memory, where the system tells it."""
    if sys.platform == "win32":
        return
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > memory:
        raise DataError(
            f"{what} would take {size / 1e9:,.0f} GB, and this machine has {memory / 1e9:,.0f} GB of memory; "
            f"{remedy}"
        )


def check_digest(path: Path, content: bytes, digest: str) -> None:
    """Raise `DataError` unless ``digest`` is the MD5 of the (decompressed) content."""
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != digest:
        raise bad_file(path, f"contents with MD5 {digest}", f"MD5 {found}", REPLACE)
