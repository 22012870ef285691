"""Errors that a user can cause and can cure: each message names the problem and the remedy."""

from __future__ import annotations

from numbers import Integral
from typing import Any


class NmfdnnError(ValueError):
    """Base of every error raised for bad input; command-line programs print it without a traceback."""


class ConfigError(NmfdnnError):
    """A configuration value is impossible."""


class DataError(NmfdnnError):
    """A data file is missing, damaged or not what it should be."""


class CheckpointError(NmfdnnError):
    """A checkpoint is missing, damaged or belongs to another configuration."""


class FolderBusyError(NmfdnnError):
    """Another process is running in the folder."""


class ParallelError(NmfdnnError):
    """The processes of a run have lost each other."""


class SingularMatrixError(NmfdnnError):
    """A system cannot be solved as it stands."""


class NotFiniteError(SingularMatrixError):
    """A matrix to be factored holds NaN or infinity, in an iteration a sign of divergence."""


def require_whole(value: Any, key: str, least: int) -> int:
    """The value as int; a `ConfigError` unless it is whole and ≥ `least` (NumPy's are, True is not)."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    require(whole and value >= least, key, f"an integer ≥ {least}", value)
    return int(value)


def require(condition: bool, key: str, expected: str, value: object) -> None:
    """Raise a `ConfigError` that names the key, the allowed range and the value, unless `condition` holds."""
    if not condition:
        raise ConfigError(f"{key} must be {expected}, got {value!r}")
