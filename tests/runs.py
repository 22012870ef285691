"""Small runs for the tests of the runner and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from nmfdnn.cli import to_config
from nmfdnn.config import Config

TINY = [
    "data=synthetic",
    "data.samples=200",
    "data.features=12",
    "data.classes=3",
    "pretraining.outer_iterations=2",
    "pretraining.nmf_iterations=2",
    "pretraining.lsq_iterations=2",
    "network.hidden=[16,8]",
]
"""Overrides that make any recipe a matter of milliseconds."""


def composed(*overrides: str) -> DictConfig:
    """The configuration as the command line would compose it."""
    with initialize_config_module("nmfdnn.configs", version_base="1.3"):
        return compose("config", list(overrides))


def configured(*overrides: str) -> Config:
    """The validated configuration object."""
    return to_config(composed(*overrides))


def text_of(*overrides: str) -> str:
    """The resolved configuration as YAML."""
    return OmegaConf.to_yaml(composed(*overrides), resolve=True)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "nmfdnn", *arguments]


def environment() -> dict[str, str]:
    """The environment of a subprocess: one thread, so that runs can be compared bit by bit."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def nmfdnn(*arguments: str, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the command line in a subprocess."""
    return subprocess.run(
        command(*arguments), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=timeout
    )


def names(folder: Path) -> Sequence[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))
