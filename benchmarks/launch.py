"""Runs of the command line for the benchmarks: each in a process and a folder of its own, never repeated."""

from __future__ import annotations

import argparse
import math
import statistics
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


def study_parser(description: str | None, seeds: Sequence[int] = (1, 2, 3)) -> argparse.ArgumentParser:
    """What every study of many runs is asked for: out, overrides, seeds."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=raw)
    parser.add_argument("out", type=Path, help="folder for the runs, the table and the picture")
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE for every run, for instance data=mnist_5k")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(seeds))
    return parser


def parallel_arguments(description: str | None, seeds: Sequence[int] = (1, 2, 3)) -> argparse.Namespace:
    """The same and how many runs at a time, for studies of errors alone."""
    parser = study_parser(description, seeds)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    return parser.parse_intermixed_args()


def report(lines: Sequence[str], file: Path) -> None:
    """Print a Markdown table and write it to `file`."""
    table = "\n".join(lines)
    print(table)
    file.write_text(f"{table}\n", encoding="utf-8")


def spread(values: Sequence[float | None], missing: str, form: str = ".2f") -> str:
    """Median (range) of what is there, and how many are None or infinite, which is what `missing` says."""
    found = [value for value in values if value is not None and value < math.inf]
    lost = f"{len(values) - len(found)} of {len(values)} {missing}"
    if not found:
        return lost
    text = f"{statistics.median(found):{form}} ({min(found):{form}} – {max(found):{form}})"
    return text if len(found) == len(values) else f"{text}, {lost}"
