"""Reading whole files and saying what is wrong with them."""

from __future__ import annotations

import gzip
import hashlib
import os
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


def read_bytes(path: Path) -> bytes:
    """The contents of a file, decompressed if they are gzip, whatever the file's name says."""
    try:
        content = path.read_bytes()
    except OSError as error:
        remedy = "check that it is there and that you may read it"
        raise bad_file(path, "a readable file", error.strerror or str(error), remedy) from error
    if not content.startswith(GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise bad_file(path, "a whole gzip file", f"a damaged one ({error})", REPLACE) from error


def check_digest(path: Path, content: bytes, digest: str) -> None:
    """Raise `DataError` unless ``digest`` is the MD5 of the (decompressed) content."""
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != digest:
        raise bad_file(path, f"contents with MD5 {digest}", f"MD5 {found}", REPLACE)
