"""Checkpoints that survive a kill at any moment: the newest and the one before it, each written atomically.

They hold tensors and plain containers only and are read with `weights_only=True`. A checkpoint is a zip
archive whose members carry CRCs; all are verified before anything is used.
"""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path
from typing import Any

import torch

from .. import files
from ..errors import CheckpointError

CURRENT = "checkpoint.pt"
PREVIOUS = "checkpoint_previous.pt"

log = logging.getLogger(__name__)


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` as the newest checkpoint of `folder`; the newest so far becomes the previous one."""
    files.replace(folder / CURRENT, lambda file: torch.save(state, file), previous=folder / PREVIOUS)


def exists(folder: Path) -> bool:
    """Whether there is something to continue in `folder`."""
    return any((folder / name).exists() for name in (CURRENT, PREVIOUS))


def load(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The newest good checkpoint of `folder`, None where there is none.

    A damaged one is named in a warning, and the previous one is used.

    Raises:
        CheckpointError: there are checkpoints and all are damaged.
    """
    paths = [path for path in (folder / CURRENT, folder / PREVIOUS) if path.exists()]
    damaged = []
    for path in paths:
        try:
            return read(path, device)
        except CheckpointError as error:
            log.warning("%s", error)
            damaged.append(path.name)
    if damaged:
        raise CheckpointError(
            f"no good checkpoint in {folder}: {' and '.join(damaged)} damaged. "
            "Start the run again in another hydra.run.dir"
        )
    return None


def read(path: Path, device: torch.device) -> dict[str, Any]:
    """Read one checkpoint file.

    Raises:
        CheckpointError: the file is damaged or not a checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
        if bad is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {bad}")
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"checkpoint {path} is damaged and is not used: {reason}") from error
    return state
