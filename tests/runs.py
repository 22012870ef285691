"""Small runs for the tests of the runner and the command line."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from nmfdnn.__main__ import main
from nmfdnn.cli import to_config
from nmfdnn.runs.config import Config

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


class Forked:
    """The command line in a fork of this process, which saves it all imports; a pipe takes what it prints."""

    def __init__(self, *arguments: str, cwd: Path, before: Callable[[], object] = lambda: None) -> None:
        self.reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os._exit(self._child(arguments, cwd, before, writing))
            finally:  # whatever happens, this process must not go on with the tests
                os._exit(70)
        os.close(writing)

    @staticmethod
    def _child(arguments: Sequence[str], cwd: Path, before: Callable[[], object], writing: int) -> int:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        sys.stdout, sys.stderr = (
            io.TextIOWrapper(io.FileIO(n, "w"), "utf-8", write_through=True) for n in (1, 2)
        )
        os.chdir(cwd)
        logging.getLogger().handlers.clear()
        sys.argv = ["nmfdnn", *arguments]
        try:
            before()
            main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            traceback.print_exc()
            return 1
        return 0

    def wait(self) -> tuple[int, str]:
        """Exit status, negative for a signal, and everything that was printed."""
        with open(self.reading, encoding="utf-8") as pipe:
            printed = pipe.read()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), printed


def forked(*arguments: str, cwd: Path, before: Callable[[], object] = lambda: None) -> tuple[int, str]:
    """Run the command line in a fork; its exit status and what it printed."""
    return Forked(*arguments, cwd=cwd, before=before).wait()


def names(folder: Path) -> Sequence[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))
