"""What a run leaves behind in numbers: a row per epoch in `metrics.csv`, one `summary.json`.

Errors are percentages of misclassified samples or, of real values, root mean squares in their unit: see
`Measure`. Seconds are wall-clock, the objective is per sample.
"""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .files import replace_text

METRICS = "metrics.csv"
SUMMARY = "summary.json"


@dataclass(frozen=True)
class Measure:
    """What error means in a run; the lower, the better.

    Attributes:
        name: in columns and tags, as test_NAME.
        title: in sentences, as "test TITLE".
        unit: behind a number.
        layout: of a number, as `format` takes it.
        what: an explanation.
        outputs: what there is one of for each output of a network.
        limit: the largest value that makes sense.
        round_steps: whether values have a unit of their own, so that round numbers depend on their size.
    """

    name: str
    title: str
    unit: str
    layout: str
    what: str
    outputs: str
    limit: float
    round_steps: bool

    def text(self, value: float) -> str:
        """The value with its unit."""
        return f"{value:{self.layout}}{self.unit}"

    def number(self, value: float) -> str:
        """The value without its unit."""
        return f"{value:{self.layout}}"

    @property
    def symbol(self) -> str:
        """The unit, or the title where there is none: for headings of columns."""
        return self.unit.strip() or self.title

    @property
    def axis(self) -> str:
        """The title with the unit."""
        return f"{self.title} ({self.unit.strip()})" if self.unit else self.title


MEASURES = {
    "error": Measure(
        "error", "error", " %", ".2f", "errors in % of the samples", "classes", 100, round_steps=False
    ),
    "rmse": Measure(
        "rmse", "RMSE", "", ".4g", "RMSE in the unit of the values", "values", 1e300, round_steps=True
    ),
}
"""By name; a record or a summary without one is of the first kind."""

PARTS = ("train", "validation", "test")


def measure_of(summary: Mapping[str, Any]) -> Measure:
    """What error means in the run of this `summary.json`."""
    return MEASURES[summary.get("measure", "error")]


def error_of(summary: Mapping[str, Any], part: str, of: Mapping[str, Any] | None = None) -> Any:
    """The error on one of `PARTS`, by a summary or by `of`, a part of it."""
    return (summary if of is None else of)[f"{part}_{measure_of(summary).name}"]


@dataclass(frozen=True)
class Record:
    """The network after an epoch, or part of one; epoch 0 is the start, before any training.

    Attributes:
        epoch: epochs trained.
        train_error: on the training part.
        validation_error: on the held-out part of the training data, None where there is none.
        test_error: on the test data.
        objective: the method's own objective on the training part, per sample.
        train_seconds: training alone, cumulated; no loading, no evaluation, no pre-training.
        learning_rate: ω, or the learning rate, at the end of the epoch.
        residuals: per layer ‖Zᵢ₊₁ − f(ẐᵢWᵢ₊₁)‖/‖Zᵢ₊₁‖ on the last batch; empty where there are no codes.
        weight_norms: per layer ‖Wᵢ‖ (Frobenius).
        measure: of the errors.
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
    measure: str = "error"

    def errors(self) -> dict[str, float | None]:
        """The errors under the names that they have in files, as train_error or train_rmse."""
        return {f"{part}_{self.measure}": getattr(self, f"{part}_error") for part in PARTS}

    def row(self) -> dict[str, Any]:
        """A flat row of `metrics.csv`: lists become residual_1, residual_2, …"""
        row: dict[str, Any] = {"epoch": self.epoch, **self.errors()}
        row |= {key: value for key, value in asdict(self).items() if key not in _ERRORS}
        for column, name in (("residuals", "residual"), ("weight_norms", "weight_norm")):
            for layer, value in enumerate(row.pop(column), start=1):
                row[f"{name}_{layer}"] = value
        return row


_ERRORS = ("measure", *(f"{part}_error" for part in PARTS))


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
