"""Runs of the command line for the benchmarks: each in a process and a folder of its own, never repeated."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from nmfdnn.records import SUMMARY


def train(folder: Path, overrides: Sequence[str], check: bool = True) -> bool:
    """Train into `folder` unless it holds a finished run; whether there is a finished run afterwards.

    Raises:
        subprocess.CalledProcessError: the run failed and `check` is set.
    """
    if (folder / SUMMARY).exists():
        return True
    command = [sys.executable, "-m", "nmfdnn", "resume=true", f"hydra.run.dir={folder}", *overrides]
    subprocess.run(command, check=check)
    return (folder / SUMMARY).exists()
