"""Made-up records of the board's runs, and the way to the scripts that make and read them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import board
from board_rows import DATA

DIGITS = next(data for data in DATA if data.name == "digits")


def done(job: board.Job, *errors: float, seconds: float = 1.0, failed: str = "") -> board.Done:
    times = tuple(seconds * epoch for epoch in range(len(errors)))
    return board.Done(job, errors, times, None, 100, failed)


def record_of(tmp_path: Path, *found: board.Done) -> board.Record:
    record = board.Record(tmp_path / "board.jsonl")
    for one in found:
        record.add(one)
    return board.Record(record.file)
