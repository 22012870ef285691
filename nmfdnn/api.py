"""One run from Python: the same as the command line's."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.errors import HydraException

from .cli import explained, start_or_continue
from .errors import ConfigError
from .files import fresh_folder, locked
from .model import Model, load


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        folder: what it left: `summary.json`, `metrics.csv`, `model.safetensors`, curves and checkpoints.
        summary: the contents of `summary.json`: errors in %, seconds, warnings.
        model: the weights that were kept, with their preprocessing.
    """

    folder: Path
    summary: dict[str, Any]
    model: Model


def train(*overrides: str, folder: str | Path | None = None) -> Trained:
    """Train as `nmfdnn KEY=VALUE …` does, for instance `train("experiment=best", "data=digits", "epochs=3")`.

    Args:
        overrides: KEY=VALUE, as on the command line; `resume=true` continues the run of `folder`.
        folder: of the run; created if it is not there. Default: a new one in `outputs`.

    Raises:
        NmfdnnError: bad settings or data, a run that diverged, or a folder that is in use; what was computed
            stays.
        OSError: `folder` cannot be written.

    >>> import nmfdnn
    >>> trained = nmfdnn.train("data=digits", "network.hidden=[60]", "epochs=2", folder="digits")
    >>> trained.summary["test_error"] < 20
    True
    >>> sorted(path.name for path in trained.folder.glob("*.json"))
    ['summary.json']
    >>> more = nmfdnn.train("resume=true", "epochs=3", folder="digits")
    >>> more.summary["epochs_trained"]
    3
    """
    if folder is None:
        folder = fresh_folder(f"outputs/{time.strftime('%Y-%m-%d/%H-%M-%S')}")
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    try:
        with initialize_config_module("nmfdnn.configs", version_base="1.3"):
            cfg = compose("config", list(overrides))
    except HydraException as error:
        raise ConfigError(explained(error)) from error
    with locked(path):
        summary = start_or_continue(cfg, path, list(overrides), [f"hydra.run.dir={path}"])
    return Trained(path, summary, load(path))
