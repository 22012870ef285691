"""What a run has so far: its records and the weights that are kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from ..records import Record


@dataclass
class Progress:
    """What a run has besides the trainer's own state.

    Attributes:
        records: one for each evaluation, in order.
        weights: those that are kept, of the record `kept`.
        kept_epoch: their epoch.
        pretrain_seconds: time that the start took.
    """

    records: list[Record] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    kept_epoch: float = 0
    pretrain_seconds: float = 0.0

    @property
    def last(self) -> Record:
        """The newest record."""
        return self.records[-1]

    @property
    def kept(self) -> Record:
        """The record of the weights that are kept."""
        return next(record for record in self.records if record.epoch == self.kept_epoch)

    @property
    def stale_epochs(self) -> float:
        """Epochs since the lowest validation error was first reached; 0 without validation."""
        errors = [r.validation_error for r in self.records if r.validation_error is not None]
        return self.last.epoch - self.records[errors.index(min(errors))].epoch if errors else 0

    def add(self, record: Record, weights: list[Tensor]) -> None:
        """Append a record, and keep its weights if they are the best so far."""
        if _better(record, self.kept if self.records else None):
            self.weights, self.kept_epoch = weights, record.epoch
        self.records.append(record)

    def state(self) -> dict[str, Any]:
        """As plain containers and tensors."""
        return {**vars(self), "records": [asdict(record) for record in self.records]}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Progress:
        """The inverse of `state`."""
        return cls(**{**state, "records": [Record(**record) for record in state["records"]]})


def _better(record: Record, kept: Record | None) -> bool:
    """Whether a new record's weights replace the kept ones.

    The lowest validation error decides; of equal ones the latest, because a small validation part has few
    different errors and training goes on where it can no longer see it. Without validation the last are kept.
    """
    if kept is None or record.validation_error is None or kept.validation_error is None:
        return True
    return record.validation_error <= kept.validation_error
