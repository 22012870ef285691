"""The command line: `nmfdnn`, `python -m nmfdnn` and `python scripts/train.py`, a Hydra application."""

from __future__ import annotations

import errno
import logging
import os
import re
import shlex
import signal
import sys
import time
import traceback
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from . import parallel
from .data import SCHEMAS
from .errors import CheckpointError, ConfigError, NmfdnnError, ParallelError
from .files import fresh_folder, locked, made_folder, replace_text
from .records import PARTS, SUMMARY, error_of, measure_of
from .runs import checkpoint
from .runs.config import Config
from .runs.experiment import MAY_CHANGE, run

RESOLVED, OVERRIDES = "config.yaml", "overrides.yaml"
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space there"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "change its permissions, or choose another place"
    ),
}
"""For what a system can refuse."""

PLUGINS = {"joblib": "launchers", "optuna": "launchers", "submitit": "submitit", "ray": "ray"}
"""The optional installation that brings a launcher or sweeper of Hydra."""

LAUNCHER_SECONDS = 2

log = logging.getLogger(__name__)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a run as Ctrl-C does."""


def register() -> None:
    """Make known to Hydra the typed schemas, so that a typo or a wrong type fails at once, and resolvers.

    `${fresh:PATH}` is a folder that was not there before, for runs that start in the same second;
    `${made:PATH}` is one that is there from then on.
    """
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for name, schema in SCHEMAS.items():
        store.store(group="data", name=f"schema_{name}", node=schema)
    OmegaConf.register_new_resolver("fresh", fresh_folder, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("made", made_folder, replace=True)


register()


def to_config(cfg: DictConfig) -> Config:
    """The validated configuration object.

    Raises:
        ConfigError: a value is impossible or missing.
    """
    try:
        config = OmegaConf.to_object(cfg)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} must be set: add {error.full_key}=VALUE") from error
    except OmegaConfBaseException as error:
        raise ConfigError(_in_one_line(error)) from error
    assert isinstance(config, Config)
    _refuse_more(config)
    return config


def _refuse_more(config: Any, path: str = "") -> None:
    """Raise a `ConfigError` if there are keys that +KEY=VALUE has added, which nothing would read."""
    known = [field.name for field in fields(config)]
    for name, value in vars(config).items():
        if name not in known:
            raise ConfigError(_unknown(f"key {path}{name}", name, known, path))
        if is_dataclass(value):
            _refuse_more(value, f"{path}{name}.")


def _plain(overrides: Any) -> list[str]:
    """As they were typed, interpolations unresolved."""
    plain = OmegaConf.to_container(overrides, resolve=False)
    assert isinstance(plain, list)
    return [str(override) for override in plain]


def _in_one_line(error: Exception) -> str:
    """What OmegaConf says over several lines."""
    first = str(error).strip().splitlines()[0]
    key = getattr(error, "full_key", None)
    return f"{key}: {first}" if key else first


def stored_run(folder: Path, cfg: DictConfig, overrides: list[str]) -> tuple[DictConfig, list[str]]:
    """Configuration and overrides of the run in `folder`, which a resumed run continues with.

    Raises:
        CheckpointError: they are missing or damaged, or an override asks for another value than the stored
            one; only what is in `MAY_CHANGE` may change.
    """
    start_again = "start the run again in another hydra.run.dir"
    try:
        loaded, original = (OmegaConf.load(folder / name) for name in (RESOLVED, OVERRIDES))
        data = OmegaConf.structured(SCHEMAS[OmegaConf.select(loaded, "data.name")])
        stored = OmegaConf.merge(OmegaConf.structured(Config), {"data": data}, loaded)
        assert isinstance(stored, DictConfig)
        assert isinstance(original, ListConfig)
        kept = _plain(original)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{error.filename} is missing, so the run cannot be continued: {start_again}"
        ) from error
    except OSError:
        raise
    except Exception as error:  # anything may be in a damaged file
        raise CheckpointError(
            f"{RESOLVED} or {OVERRIDES} in {folder} is damaged, so the run cannot be continued: {start_again}"
        ) from error
    given = {o.key_or_group: str(o.input_line) for o in OverridesParser.create().parse_overrides(overrides)}
    for key in (key for key in given if key in MAY_CHANGE):
        OmegaConf.update(stored, key, OmegaConf.select(cfg, key))
        kept = [override for override in kept if override.partition("=")[0] != key] + [given[key]]
    for key, override in given.items():
        asked = OmegaConf.select(cfg, key)
        if key != "resume" and asked != OmegaConf.select(stored, key):
            raise CheckpointError(
                f"the run in {folder} has {key}={OmegaConf.select(stored, key)}, not {asked}: leave "
                f"{override!r} out to continue it, or start a run in another hydra.run.dir "
                f"(only {', '.join(MAY_CHANGE)} may change)"
            )
    return stored, kept


@hydra.main(version_base="1.3", config_path="pkg://nmfdnn.configs", config_name="config")
def _job(cfg: DictConfig) -> float | None:
    """One run; returns for sweepers the validation error, without validation the training error."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    try:
        with locked(folder):
            overrides = hydra_config.overrides
            summary = _with_others(cfg, folder, _plain(overrides.task), _plain(overrides.hydra))
    except KeyboardInterrupt as stop:
        log.warning("%s: %s", _name(stop), _what_next(folder))
        sys.exit(_exit_code(stop))
    except Exception as error:
        message = explained(error)
        if message is None:
            raise
        if isinstance(error, ParallelError) and checkpoint.exists(folder):
            message += f": {_what_next(folder)}"
        elif not isinstance(error, NmfdnnError):
            message += f"; then {_what_next(folder)}"
        if parallel.rank() > 0:  # whose log is silent
            print(f"rank {parallel.rank()}: {message}", file=sys.stderr)
        log.error("%s", message)
        if hydra_config.mode == RunMode.MULTIRUN:
            raise  # Hydra notes the failure and goes on with the other jobs
        sys.exit(2)
    _farewell(summary, folder)
    validation = error_of(summary, "validation")
    return float(error_of(summary, "train") if validation is None else validation)


def _with_others(*arguments: Any) -> dict[str, Any]:
    """`start_or_continue`; an error about lost ranks waits: a launcher may be ending this one as well."""
    try:
        return start_or_continue(*arguments)
    except ParallelError:
        time.sleep(LAUNCHER_SECONDS)
        raise


def start_or_continue(
    cfg: DictConfig, folder: Path, overrides: list[str], of_hydra: list[str]
) -> dict[str, Any]:
    """Start or continue the run of `folder`, which this process holds."""
    resume = to_config(cfg).resume
    cfg.resume = False  # a property of this invocation, not of the run
    asked = [override for override in overrides if override.partition("=")[0] != "resume"]
    begun = checkpoint.exists(folder) or (folder / SUMMARY).exists()
    if resume and (begun or (folder / RESOLVED).exists()):
        cfg, asked = stored_run(folder, cfg, overrides)
        if not begun:
            log.info("%s holds no checkpoint yet: starting from the beginning", folder)
    elif resume:
        # A folder and settings that were both asked for: a command that starts or continues, for job queues.
        named = any(re.match(r"hydra\.(run|sweep)\.dir=", override) for override in of_hydra)
        if not named or all(override.partition("=")[0] in MAY_CHANGE for override in asked):
            raise CheckpointError(
                f"resume=true, but {folder} holds no run: set hydra.run.dir to the folder of the run to "
                "continue, or leave resume=true out to start one"
            )
        log.info("%s holds no run yet: starting one", folder)
    elif begun:
        raise CheckpointError(
            f"{folder} already holds a run: add resume=true to continue it, or change hydra.run.dir"
        )
    config = replace(to_config(cfg), resume=resume)
    config.torch_device()
    text = OmegaConf.to_yaml(cfg, resolve=True)
    replace_text(folder / OVERRIDES, OmegaConf.to_yaml(OmegaConf.create(asked)))
    replace_text(folder / RESOLVED, text)
    return run(config, folder, text, asked)


def explained(error: BaseException) -> str | None:
    """What to tell of an error that a user can cause, in one line; None for any other, which is a defect."""
    if isinstance(error, NmfdnnError):
        return str(error)
    if isinstance(error, HydraException):
        plugin = re.search(r"Could not find 'hydra/(?:launcher|sweeper)/([a-z]+)", str(error))
        if plugin and plugin[1] in PLUGINS:
            return f'Hydra\'s plugin {plugin[1]} is not installed: pip install "nmfdnn[{PLUGINS[plugin[1]]}]"'
        choice = re.search(r"find '(.+)/([^/]+)'\s+Available options in '.+?':\s(.*)", str(error), re.DOTALL)
        if choice:
            known = [name for name in choice[3].split() if not name.startswith("schema_")]
            return _unknown(f"{choice[1]}={choice[2]}", choice[2], known)
        cause = error.__cause__
        if isinstance(cause, ConfigKeyError | ConfigAttributeError) and is_dataclass(cause.object_type):
            # Hydra's remedy, to append the key, helps no typed configuration.
            known = [field.name for field in fields(cause.object_type)]
            path, name = str(cause.full_key or cause.key), str(cause.key)
            return _unknown(f"key {path}", name, known, path.removesuffix(name))
        if isinstance(cause, ValidationError) and "str is not a subclass of" in str(cause):
            key = str(cause.full_key).partition("[")[0]
            return (
                f"{cause.full_key} must be {{KEY:VALUE,…}}, got {cause.value!r}: if a shell has taken the "
                f"braces, quote it: '{key}=[{{…}}]'"
            )
        # The cause says which key; Hydra would print both.
        said = str(error).partition("\nConfig search path")[0]
        return f"{said}: {_in_one_line(cause)}" if isinstance(cause, Exception) else said
    if isinstance(error, OmegaConfBaseException):
        return _in_one_line(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return "there is not enough memory: choose narrower layers, smaller batches or fewer samples"
    if isinstance(error, OSError):
        where = f" {error.filename}" if error.filename else ""
        remedy = REMEDIES.get(error.errno or 0, "check that path")
        return f"cannot read or write{where}: {error.strerror or error}: {remedy}"
    if isinstance(error.__cause__, OSError):  # the logging module hides why it cannot open its file
        return explained(error.__cause__)
    frame = list(traceback.walk_tb(error.__traceback__))[-1][0]
    if frame.f_globals.get("__name__", "").partition(".")[0] in ("hydra", "omegaconf"):
        return f"no configuration can be made of {shlex.join(sys.argv[1:])}: {error}"
    return None


def _unknown(what: str, name: str, known: list[str], path: str = "") -> str:
    """What there is instead of `name`, by its look or its beginning; `path` leads to both."""
    close = get_close_matches(name, known, 1, 0.65) or [key for key in known if key.startswith(name)]
    return f"no {what}: " + (f"did you mean {path}{close[0]}?" if close else f"there are {', '.join(known)}")


def _what_next(folder: Path) -> str:
    if not checkpoint.exists(folder):
        return "nothing is to be continued, since there is no checkpoint yet; start the run again"
    return f"continue with   {continuing(folder)}"


def continuing(folder: Path) -> str:
    """The command that continues the run of `folder`, as a shell takes it."""
    value = str(folder)
    if not re.fullmatch(r"[\w./+:@-]+", value, re.ASCII):  # Hydra's own grammar, inside the shell's
        value = "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return f"nmfdnn resume=true {shlex.quote(f'hydra.run.dir={value}')}"


def _name(stop: KeyboardInterrupt) -> str:
    return "terminated" if isinstance(stop, Terminated) else "interrupted"


def _exit_code(stop: KeyboardInterrupt) -> int:
    return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


def _farewell(summary: dict[str, Any], folder: Path) -> None:
    last = summary["last"]
    kept_epoch = summary["best_validation_epoch"]
    if kept_epoch is not None and kept_epoch != last["epoch"]:
        log.info("last epoch: %s", _errors(summary, last))
    log.info(
        "%s%s after %g epochs: %.1f s pre-training + %.1f s training, %.0f MB",
        "" if kept_epoch is None else f"kept, of epoch {kept_epoch:g}: ",
        _errors(summary),
        summary["epochs_trained"],
        summary["pretrain_seconds"],
        summary["train_seconds"],
        summary["peak_memory_mb"],
    )
    log.info("results: %s", folder)
    log.info("curves and pictures: tensorboard --logdir %s", folder)


def _errors(summary: dict[str, Any], of: dict[str, Any] | None = None) -> str:
    measure = measure_of(summary)
    errors = {part: error_of(summary, part, of) for part in PARTS}
    found = [f"{part} {measure.text(error)}" for part, error in errors.items() if error is not None]
    return f"{'' if measure.unit else f'{measure.title}: '}{', '.join(found)}"


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated


def main() -> None:
    """Entry point."""
    debugging = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on; otherwise it prints tracebacks itself
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk, is not worth a traceback
    signal.signal(signal.SIGTERM, _terminate)
    try:
        with parallel.group():
            if parallel.rank() > 0:  # the first rank tells for all
                sys.argv += ["hydra/job_logging=none", "hydra/hydra_logging=none"]
                logging.disable()
            _job()
    except KeyboardInterrupt as stop:
        print(f"{_name(stop)} before a run began: nothing is to be continued", file=sys.stderr)
        sys.exit(_exit_code(stop))
    except Exception as error:
        message = explained(error)
        if debugging or message is None:
            raise
        print(message, file=sys.stderr)
        sys.exit(2)
