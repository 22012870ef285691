"""Where the files of a full set are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from os.path import isfile  # unlike Path.is_file, false rather than an error in a forbidden folder
from pathlib import Path

from ..errors import DataError
from .files import expand

ENVIRONMENT = "NMFDNN_DATA"


@dataclass(frozen=True)
class FileSet:
    """The files of a set.

    Each of ``variants`` maps the file names of one complete version, in the order they are read, to MD5
    digests (None where none is published). ``folders`` are where they may be below a data folder: where
    torchvision or the publisher's archive puts them, first, or in one of the set's name. ``system`` is where
    the Debian ``package`` puts them.
    """

    title: str
    torchvision: str
    folders: tuple[str, ...]
    variants: tuple[Mapping[str, str | None], ...]
    system: Path | None = None
    package: str | None = None


def locate(files: FileSet, root: str | None, download: bool) -> dict[Path, str | None]:
    """The paths of one complete version, in order, with their digests.

    Looks, in this order, in ``root`` if given and nowhere else; else below $NMFDNN_DATA, below ./data and
    in the system's folder. What is not found is fetched by torchvision if ``download`` is true, into
    ``root``, $NMFDNN_DATA or ./data.

    Raises `DataError` if the files are not found, or if the first place that has any lacks others.
    """
    if root is not None:
        home = expand(root, "data.root")
        places = [home, *(home / folder for folder in files.folders)]
    else:
        # MNIST and Fashion-MNIST share their file names, so only an explicit root may hold them directly.
        given = os.environ.get(ENVIRONMENT)
        homes = [*([expand(given, f"${ENVIRONMENT}")] if given else []), Path("data").absolute()]
        home = homes[0]
        places = [h / folder for h in homes for folder in files.folders]
        places += [files.system] if files.system else []

    # A half-finished download is completed if that is allowed, and reported otherwise.
    found = _search(files, places, complete=download)
    if found is None and download:
        _download(files, home)
        found = _search(files, places, complete=True)
    if found is None:
        raise _not_found(files, places)
    folder, variant = found
    paths = {_path(folder, name): digest for name, digest in variant.items()}
    missing = [path.name for path in paths if not isfile(path)]
    if missing:
        raise DataError(
            f"{folder}: expected {', '.join(variant)} (or .gz) of {files.title}, found {_contents(folder)}; "
            f"missing: {', '.join(missing)}. Complete the folder, or {_remedies(files)}"
        )
    return paths


def _path(folder: Path, name: str) -> Path:
    packed = folder / f"{name}.gz"
    return packed if isfile(packed) and not isfile(folder / name) else folder / name


def _search(
    files: FileSet, places: list[Path], complete: bool
) -> tuple[Path, Mapping[str, str | None]] | None:
    """The first place that holds a version: all of its files, or any of them unless ``complete``."""
    enough = all if complete else any
    for folder in places:
        for variant in files.variants:
            if enough(isfile(_path(folder, name)) for name in variant):
                return folder, variant
    return None


def _download(files: FileSet, home: Path) -> None:
    places = f"place {', '.join(files.variants[0])} in {home / files.folders[0]}"
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch than the one here
        raise DataError(
            f"data.download=true needs torchvision, which does not load here ({error}); "
            f"install the torchvision build that matches your torch, or {places}"
        ) from error
    try:
        getattr(datasets, files.torchvision)(root=str(home), download=True)
    except (OSError, RuntimeError, EOFError, HTTPException) as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise DataError(
            f"{files.title} could not be downloaded ({reason}); check the network, or {places}"
        ) from error


def _not_found(files: FileSet, places: list[Path]) -> DataError:
    looked = "\n".join(f"  {folder} ({_contents(folder)})" for folder in places)
    names = "\n  or ".join(", ".join(variant) for variant in files.variants)
    return DataError(
        f"{files.title} was not found. Expected\n  {names} (each may be .gz)\nin one of\n{looked}\n"
        f"What to do: {_remedies(files)}"
    )


def _contents(folder: Path) -> str:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        return error.strerror or str(error)
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "empty"


def _remedies(files: FileSet) -> str:
    package = f", install the Debian package {files.package}" if files.package else ""
    return f"set data.root=FOLDER to where the files are{package}, or set data.download=true to fetch them"
