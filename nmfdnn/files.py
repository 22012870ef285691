"""Files and folders of a run: whole or not at all, one process at a time, a folder for each start."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from .errors import FolderBusyError

LOCK = ".lock"


def replace(path: Path, write: Callable[[BinaryIO], object], previous: Path | None = None) -> None:
    """Let `write` fill a file that then takes the place of `path`, so that a kill leaves the old or the new.

    Args:
        path: the file.
        write: gets the open file.
        previous: where the old file goes; None overwrites it.

    Of the ranks of a run the first alone writes.

    Raises:
        OSError: it could not be written; its `filename` is set, and the old file is as it was.
    """
    if _others_write():
        return
    temporary = path.with_name(f".{path.name}")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):  # a full disk needs the room
            temporary.unlink(missing_ok=True)
        # torch.save closes its archive after a failed write, which fails once more, with an error of its own.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise named(cause, path) from None


def _others_write() -> bool:
    """Whether this rank leaves files to the first one."""
    from . import parallel  # with it comes PyTorch: those who only read need not wait for that

    return parallel.rank() > 0


def replace_by_name(path: Path, write: Callable[[str], object]) -> None:
    """`replace` for a function that wants a file's name: it writes a temporary one of the same ending."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        write(str(temporary))
        content = temporary.read_bytes()
    replace(path, lambda file: file.write(content))


def replace_text(path: Path, text: str) -> None:
    """`replace` by a text, in UTF-8."""
    replace(path, lambda file: file.write(text.encode()))


def named(error: OSError, path: Path) -> OSError:
    """The error with the path that it is about: a failed `write` does not know it."""
    error.filename = error.filename or str(path)
    return error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process alone. The kernel lets go of it when the process ends, however it ends.

    Of the ranks of a run the first holds it for all.

    Raises:
        FolderBusyError: another process holds it.
    """
    if _others_write():
        yield
        return
    lock = FileLock(folder / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise FolderBusyError(
            f"another process is running in {folder}: wait until it ends, or choose another hydra.run.dir"
        ) from None
    try:
        yield
    finally:
        lock.release()


def fresh_folder(path: str) -> str:
    """Create a folder that was not there before, and return it: `path`, else path_2, path_3, …

    Of processes that ask at the same moment each gets another one, but the ranks of a run get the same.
    """
    from . import parallel

    return parallel.from_first(lambda: _fresh_folder(path))


def _fresh_folder(path: str) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        folder = path if number == 1 else f"{path}_{number}"
        with suppress(FileExistsError):
            Path(folder).mkdir()
            return folder
    raise AssertionError  # for the type checker: the loop has no end


def made_folder(path: str) -> str:
    """Create a folder unless it is there, and return it."""
    Path(path).mkdir(parents=True, exist_ok=True)
    return path
