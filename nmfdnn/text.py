"""Any text, on any terminal and in any picture."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import NmfdnnError

# What the messages and tables of this package use beyond ASCII, for terminals that have no more than that.
SPELLED = {
    **{"±": "+-", "≤": "<=", "≥": ">=", "≈": "~", "×": "x", "→": "->", "←": "<-", "–": "-", "—": "-"},
    **{"…": "...", "‖": "||", "²": "^2", "ω": "omega"},
}


@contextmanager
def one_line_errors(output: Path | None = None) -> Iterator[None]:
    """Errors that a user can cause end the program: one line, exit status 2. `output` is being written."""
    try:
        yield
    except NmfdnnError as error:
        message = str(error)
    except OSError as error:
        message = f"cannot write {error.filename or output}: {error.strerror or error}"
    else:
        return
    print(message, file=sys.stderr)
    sys.exit(2)


def print_anything() -> None:
    """From now on, any text can be printed: what the terminal's encoding lacks is spelled in ASCII.

    Bytes in file names that are no text in this locale are printed as they are. What goes to a stream that is
    closed is dropped.
    """
    codecs.register_error("nmfdnn", _spell)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):  # not what a notebook puts in its place
            stream.reconfigure(errors="nmfdnn")


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    character, end = error.object[error.start], error.start + 1
    if "\udc80" <= character <= "\udcff":  # Python's stand-in for a byte that it could not decode
        return character.encode("ascii", "surrogateescape"), end
    return SPELLED.get(character) or character.encode("ascii", "backslashreplace").decode(), end


def one_line(text: str, width: int | None = None) -> str:
    """The text in one line of printable characters, its middle left out where it is longer than `width`.

    White space becomes single spaces; control characters and the like become their escapes.
    """
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))
    if width is None or len(line) <= width:
        return line
    end = (width - 1) // 2
    return f"{line[: width - 1 - end]}…{line[len(line) - end :]}"


def label(text: str, width: int) -> str:
    """The text in one line as matplotlib is to show it, which takes $…$ for a formula and hides _…"""
    line = one_line(text, width).replace("$", r"\$")
    return f" {line}" if line.startswith("_") else line
