"""The command line: `nmfdnn`, `python -m nmfdnn` and `python scripts/train.py`, a Hydra application."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from .config import Config
from .data import SCHEMAS
from .errors import CheckpointError, ConfigError, NmfdnnError
from .experiment import run
from .records import replace_text
from .text import print_anything

RESOLVED = "config.yaml"

log = logging.getLogger(__name__)


def register_schemas() -> None:
    """Make the typed schemas known to Hydra, so that a typo or a wrong type fails at the start."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for name, schema in SCHEMAS.items():
        store.store(group="data", name=f"schema_{name}", node=schema)


register_schemas()


def to_config(cfg: DictConfig) -> Config:
    """The validated configuration object.

    Raises:
        ConfigError: a value is impossible or missing.
    """
    try:
        config = OmegaConf.to_object(cfg)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} must be set: add {error.full_key}=VALUE") from error
    assert isinstance(config, Config)
    return config


def stored_config(folder: Path, cfg: DictConfig, overrides: list[str]) -> DictConfig:
    """The configuration of the run in `folder`, which a resumed run continues with.

    Raises:
        CheckpointError: an override asks for another value than the stored one; only `epochs` may change.
    """
    path = folder / RESOLVED
    if not path.exists():
        log.warning("resume=true, but %s holds no run yet: starting one", folder)
        return cfg
    loaded = OmegaConf.load(path)
    name = OmegaConf.select(loaded, "data.name")
    if name not in SCHEMAS:
        raise CheckpointError(f"{path} names no known data set: the run cannot be continued")
    data = OmegaConf.structured(SCHEMAS[name])
    stored = OmegaConf.merge(OmegaConf.structured(Config), {"data": data}, loaded)
    assert isinstance(stored, DictConfig)
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.key_or_group
        if key == "epochs":
            stored.epochs = cfg.epochs
        if key in ("resume", "epochs"):
            continue
        asked, kept = OmegaConf.select(cfg, key), OmegaConf.select(stored, key)
        if asked != kept:
            raise CheckpointError(
                f"the run in {folder} has {key}={kept}, not {asked}: leave {override.input_line!r} out to "
                "continue it, or start a run in another hydra.run.dir (only epochs may change)"
            )
    return stored


@hydra.main(version_base="1.3", config_path="pkg://nmfdnn.configs", config_name="config")
def _job(cfg: DictConfig) -> float | None:
    """One run; returns for sweepers the validation error in %, without validation the training error."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    overrides = list(hydra_config.overrides.task)
    try:
        resume = bool(cfg.resume)
        cfg.resume = False  # a property of this invocation, not of the run
        if resume:
            cfg = stored_config(folder, cfg, overrides)
        elif (folder / RESOLVED).exists():
            raise CheckpointError(
                f"{folder} already holds a run: add resume=true to continue it, or change hydra.run.dir"
            )
        config = replace(to_config(cfg), resume=resume)
        config.torch_device()
        text = OmegaConf.to_yaml(cfg, resolve=True)
        replace_text(folder / RESOLVED, text)
        summary = run(config, folder, text, overrides)
    except NmfdnnError as error:
        log.error("%s", error)
        if hydra_config.mode == RunMode.MULTIRUN:
            raise  # Hydra notes the failure and goes on with the other jobs
        sys.exit(2)
    _farewell(summary, folder)
    validation = summary["validation_error"]
    return float(summary["train_error"] if validation is None else validation)


def _farewell(summary: dict[str, object], folder: Path) -> None:
    held_out = (
        "" if summary["validation_error"] is None else f"validation {summary['validation_error']:.2f} %, "
    )
    log.info(
        "train %.2f %%, %stest %.2f %% after %d epochs: %.1f s pre-training + %.1f s training, %.0f MB",
        summary["train_error"],
        held_out,
        summary["test_error"],
        summary["epochs_trained"],
        summary["pretrain_seconds"],
        summary["train_seconds"],
        summary["peak_memory_mb"],
    )
    log.info("results: %s", folder)
    log.info("curves and pictures: tensorboard --logdir %s", folder)


def main() -> None:
    """Entry point."""
    print_anything()
    _job()
