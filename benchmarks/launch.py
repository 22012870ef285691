"""Runs of the command line for the benchmarks: each in a process and a folder of its own, never repeated."""

from __future__ import annotations

import argparse
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


def study_arguments(description: str | None) -> argparse.Namespace:
    """What a study of many runs is asked for: out, overrides, seeds, jobs."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=raw)
    parser.add_argument("out", type=Path, help="folder for the runs and the picture")
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE for every run")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    return parser.parse_intermixed_args()
