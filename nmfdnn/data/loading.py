"""From a configuration to tensors on the device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from .. import parallel
from ..errors import ConfigError, require
from ..source import Memory, Source, share
from ..targets import Targets
from .arrays import read_arrays
from .config import Arrays, DataConfig, Digits, FullConfig, MNIST5k, SplitConfig, Synthetic
from .dataset import Dataset, Raw
from .embedded import digits, mnist_5k
from .folder import Stored
from .full import read_full
from .preprocessing import Preprocessing
from .splitting import take
from .stream import Stream
from .survey import survey
from .synthetic import plant

Taken = tuple[Preprocessing, Targets]
"""What a model that is there already makes of samples, and what its outputs are."""


def load(
    config: DataConfig,
    *,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    taken: Taken | None = None,
) -> Dataset:
    """Read, split and place a data set.

    The splits depend on ``seed`` (≥ 0) alone, not on the device or ``dtype`` (floating); they are stratified
    by class, if there are classes, and shuffled; those of a folder keep its order and are read from there,
    see `Stream`. Official test sets stay as they are, in their own order. What has to be learnt from the
    values themselves, such as means, is learnt from the training part alone.

    ``taken`` is the preprocessing, and what the outputs are, of a model whose training goes on here.

    Raises `ConfigError` if a value does not fit the data, `DataError` if files are missing or damaged.
    """
    require(seed >= 0, "seed", "at least 0", seed)
    require(dtype.is_floating_point, "dtype", "a floating type", dtype)
    rng = np.random.default_rng(seed)
    raw = _read(config, rng)

    strata = raw.targets.strata(raw.labels)
    train = np.arange(len(raw.labels)) if raw.weights is None else np.flatnonzero(raw.weights > 0)
    if raw.test is None:
        assert isinstance(config, SplitConfig)  # for the type checker: only these come without a test set
        test, train = _hold_out(strata, train, config.test, "data.test", rng)
    else:
        test = np.arange(len(raw.test[1]))
    if config.train_samples is not None:
        allowed = f"between 1 and {len(train)}, the number of training samples"
        require(config.train_samples <= len(train), "data.train_samples", allowed, config.train_samples)
        train = train[take(strata[train], config.train_samples, rng)[0]]
    validation = None
    if config.validation > 0:
        validation, train = _hold_out(strata, train, config.validation, "data.validation", rng)

    if isinstance(raw.X, Stored):  # neighbours are cheap to read
        train, test = np.sort(train), np.sort(test)
        validation = None if validation is None else np.sort(validation)

    def counted(rows: np.ndarray) -> np.ndarray | None:
        own = None if raw.weights is None else raw.weights[rows]
        return raw.targets.weights(raw.labels[rows], config.class_weight, own)

    weights = counted(train)
    held_weights = None if validation is None else counted(validation)
    if weights is not None:
        train, weights = train[weights > 0], weights[weights > 0]
        weights = weights / weights.mean()
    raw, digest, low, high = survey(raw, train)
    held = [rows for rows in (validation, None if raw.test else test) if rows is not None]
    order = np.concatenate([train, *held])
    in_place = len(order) == len(raw.X) and _shareable(raw.X, device, dtype)
    if in_place:
        assert isinstance(raw.X, np.ndarray)  # for the type checker: `_shareable` has seen to it
        _rearrange(raw.X, order)
        raw = replace(raw, labels=raw.labels[order])
        rank = np.argsort(order)
        train, validation = rank[train], None if validation is None else rank[validation]
        test = test if raw.test else rank[test]
    targets = raw.targets.fitted(raw.labels[train], weights)
    maximum = raw.maximum if config.scale else 1.0
    fitted = Preprocessing.fit(config.standardize, raw.X, train, low, high, maximum, weights)
    preprocessing = replace(fitted, names=raw.names)
    if taken is not None:
        _require_fit(preprocessing, targets, taken)
        preprocessing, targets = taken

    def place(
        X: np.ndarray | Stored, labels: np.ndarray, rows: np.ndarray, weights: np.ndarray | None = None
    ) -> Source:
        there = targets.labels(labels[rows], dtype).to(device)
        column = None if weights is None else torch.from_numpy(weights)[:, None].to(device, dtype)
        if isinstance(X, Stored):
            assert isinstance(config, Arrays)  # for the type checker: only these are in a folder
            memory = config.memory_gb * 1e9
            return Stream(X, rows, there, preprocessing, dtype, memory, targets, column)
        here = share(len(rows))
        own = in_place if X is raw.X else _shareable(X, device, dtype)
        out = torch.from_numpy(X[rows[0] : rows[-1] + 1]).flatten(1) if own else None
        values = preprocessing.apply(X, rows[here], device=device, dtype=dtype, out=out)
        return Memory(values, there, here.start, targets, column)

    return Dataset(
        name=config.name,
        train=place(raw.X, raw.labels, train, weights),
        validation=None if validation is None else place(raw.X, raw.labels, validation, held_weights),
        test=place(*(raw.test or (raw.X, raw.labels)), test),
        targets=targets,
        image_shape=raw.image_shape,
        digest=digest,
        preprocessing=preprocessing,
    )


def _require_fit(preprocessing: Preprocessing, targets: Targets, taken: Taken) -> None:
    """Refuse data that are not of the kind of those that a model was trained on.

    Raises:
        ConfigError: samples of another shape or unit, or other classes or values.
    """
    before, known = taken
    if before.shape not in (None, preprocessing.shape):
        raise ConfigError(
            f"init_from was trained on samples of shape {before.shape}, these are of {preprocessing.shape}: "
            "choose the data that it fits, or leave init_from out"
        )
    if before.names and preprocessing.names and before.names != preprocessing.names:
        raise ConfigError(
            f"init_from was trained on the columns {', '.join(before.names[:10])}, these are "
            f"{', '.join(preprocessing.names[:10])}: bring them into its order, or leave init_from out"
        )
    scales = float(before.scale.max()), float(preprocessing.scale.max())
    if (before.kind, preprocessing.kind) == ("none", "none") and not 0.5 <= scales[0] / scales[1] <= 2:
        raise ConfigError(
            f"in the samples that init_from was trained on {scales[0]:g} stands for 1, in these {scales[1]:g}"
            ": store or scale them as those were, or leave init_from out"
        )
    if (known.kind, known.names) != (targets.kind, targets.names):
        raise ConfigError(
            f"init_from predicts {_listed(known)}, these data have {_listed(targets)}: choose the data that "
            "it fits, or leave init_from out"
        )


def _listed(targets: Targets) -> str:
    names = ", ".join(targets.names[:10]) + (" …" if len(targets.names) > 10 else "")
    return f"the {targets.kind} {names}"


def _shareable(X: np.ndarray | Stored, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a tensor can use the memory of this array, whose rows it then has in their order."""
    return (
        isinstance(X, np.ndarray)
        and X.flags.carray
        and X.dtype == torch.empty(0, dtype=dtype).numpy().dtype
        and device.type == "cpu"
        and parallel.ranks() == 1
    )


def _rearrange(X: np.ndarray, order: np.ndarray) -> None:
    """Put the rows in this order; a few columns at a time, for a copy would double the memory."""
    flat = X.reshape(len(X), -1)
    width = max(16, flat.shape[1] // 16)
    for first in range(0, flat.shape[1], width):
        flat[:, first : first + width] = flat[order, first : first + width]


def _read(config: DataConfig, rng: np.random.Generator) -> Raw:
    match config:
        case MNIST5k():
            return mnist_5k()
        case Digits():
            return digits()
        case Synthetic():
            return plant(config, rng)
        case Arrays():
            return read_arrays(config)
        case FullConfig():
            return read_full(config)
    raise ConfigError(f"data must be one of this package's data configurations, got {type(config).__name__}")


def _hold_out(
    labels: np.ndarray, rows: np.ndarray, fraction: float, key: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Split ``rows`` into a stratified ``fraction`` and the rest, which must be enough to learn from."""
    n = len(rows)
    count = round(fraction * n)
    if not 0 < count < n - 1:
        none = " (0 for none)" if key == "data.validation" else ""
        choose = f"; choose from {1 / n:.6g} to {(n - 2) / n:.6g}{none}" if n > 2 else ", which is too few"
        raise ConfigError(
            f"{key} must hold out at least one sample and leave two, got {fraction}, which is {count} of {n}"
            f"{choose}, or take more samples"
        )
    held, kept = take(labels[rows], count, rng)
    return rows[held], rows[kept]
