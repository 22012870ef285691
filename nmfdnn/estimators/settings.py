"""From an estimator's parameters to those of training, and what each method starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..errors import ConfigError, require, require_whole
from ..network import NetworkConfig
from ..training import (
    AlternatingConfig,
    BackpropConfig,
    JacobiConfig,
    PretrainingConfig,
    SeidelConfig,
    SolverConfig,
)


@dataclass(frozen=True)
class Recipe:
    """What a method has where an estimator's parameters say nothing else.

    Attributes:
        config: the method's own parameters.
        start: of the hidden layers.
        output_start: of the output.
        solver: of the least-squares problems.
    """

    config: Any
    start: str
    output_start: str
    solver: SolverConfig


_DAMPED = SolverConfig("cholesky", hidden_delta=1e-2)

RECIPES = {
    "jacobi": Recipe(JacobiConfig(ridge=0.3, input_ridge=1.0), "he", "least_squares", _DAMPED),
    "seidel": Recipe(SeidelConfig(ridge=0.3, input_ridge=1.0), "he", "least_squares", _DAMPED),
    "nmf": Recipe(
        AlternatingConfig(output_iterations=3, weight_steps=3, weight_ridge=1e-2, averaging=0.9),
        "pretrained",
        "least_squares",
        SolverConfig("cholesky", hidden_delta=3e-2),
    ),
    "bp": Recipe(BackpropConfig(learning_rate=3e-3), "he", "random", SolverConfig("cholesky")),
}
"""Those of "jacobi" were chosen on tables, see benchmarks/README.md, and serve "seidel", too; the others are
about the runner's."""

PRETRAINING = PretrainingConfig(outer_iterations=5, nmf_iterations=10, lsq_iterations=10)


def recipe(method: str) -> Recipe:
    """Of a method.

    Raises:
        ConfigError: estimators have no such method.
    """
    require(method in RECIPES, "method", f"one of {', '.join(RECIPES)}", method)
    return RECIPES[method]


def settings(method: str, options: Mapping[str, Any] | None, epochs: int, batch_size: int) -> SimpleNamespace:
    """What `METHODS` makes a trainer of.

    Raises:
        ConfigError: `options` that the method has not, or outside their ranges.
    """
    config, solver = recipe(method).config, recipe(method).solver
    known = [field.name for field in fields(config) if field.name != "batch_size"]
    for key in options or {}:
        if key not in known:
            raise ConfigError(f"options of method={method!r} are {', '.join(known)}; got {key!r}")
    own = {method: replace(config, batch_size=batch_size, **dict(options or {}))}
    return SimpleNamespace(epochs=epochs, records_per_epoch=1, kernels="reference", solver=solver, **own)


def network_config(hidden: Any, method: str, start: str | None) -> NetworkConfig:
    """Shape and start of a network with biases."""
    parts = recipe(method)
    return NetworkConfig(widths(hidden), True, start or parts.start, parts.output_start)


def widths(hidden: Any) -> list[int]:
    """Widths of the hidden layers, of one or several.

    Raises:
        ConfigError: they are no integers ≥ 1.
    """
    many = hidden if isinstance(hidden, Sequence | np.ndarray) and not isinstance(hidden, str) else [hidden]
    require(len(many) > 0, "hidden_layer_sizes", "at least one width", hidden)
    return [require_whole(width, "hidden_layer_sizes", 1) for width in many]
