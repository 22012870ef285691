"""What a run leaves behind in numbers: a row per epoch in `metrics.csv`, one `summary.json`.

Errors are percentages of misclassified samples, seconds are wall-clock, the objective is per sample.
"""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .files import replace_text

METRICS = "metrics.csv"
SUMMARY = "summary.json"


@dataclass(frozen=True)
class Record:
    """The network after an epoch, or part of one; epoch 0 is the start, before any training.

    Attributes:
        epoch: epochs trained.
        train_error: % on the training part.
        validation_error: % on the held-out part of the training data, None where there is none.
        test_error: % on the test data.
        objective: the method's own objective on the training part, per sample.
        train_seconds: training alone, cumulated; no loading, no evaluation, no pre-training.
        learning_rate: ω, or the learning rate, at the end of the epoch.
        residuals: per layer ‖Zᵢ₊₁ − f(ẐᵢWᵢ₊₁)‖/‖Zᵢ₊₁‖ on the last batch; empty where there are no codes.
        weight_norms: per layer ‖Wᵢ‖ (Frobenius).
    """

    epoch: float
    train_error: float
    validation_error: float | None
    test_error: float
    objective: float
    train_seconds: float
    learning_rate: float
    residuals: list[float] = field(default_factory=list)
    weight_norms: list[float] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """A flat row of `metrics.csv`: lists become residual_1, residual_2, …"""
        row = asdict(self)
        for column, name in (("residuals", "residual"), ("weight_norms", "weight_norm")):
            for layer, value in enumerate(row.pop(column), start=1):
                row[f"{name}_{layer}"] = value
        return row


def write_metrics(folder: Path, records: list[Record]) -> None:
    """Write `metrics.csv` whole: at every moment it is complete."""
    rows = [record.row() for record in records]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_text(folder / METRICS, text.getvalue())


def read_metrics(folder: Path) -> list[dict[str, float | None]]:
    """Rows of `metrics.csv`, an empty cell as None."""
    with (folder / METRICS).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{column: float(cell) if cell else None for column, cell in row.items()} for row in rows]


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write `summary.json`."""
    replace_text(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")


def read_summary(folder: Path) -> dict[str, Any]:
    """The contents of `summary.json`."""
    summary: dict[str, Any] = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    return summary


def command(overrides: Sequence[str]) -> str:
    """The command line that repeats the run with these overrides, as a shell takes it."""
    return shlex.join(["nmfdnn", *overrides])
