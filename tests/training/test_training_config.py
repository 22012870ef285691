"""Every impossible value is refused, with the key, the range and the value in the message."""

from __future__ import annotations

import re
from typing import Any

import pytest

from nmfdnn.errors import ConfigError
from nmfdnn.training import (
    AlternatingConfig,
    BackpropConfig,
    JacobiConfig,
    PretrainingConfig,
    SeidelConfig,
    SolverConfig,
)
from nmfdnn.training.opponents import OPPONENTS
from nmfdnn.training.optimizers import OPTIMIZERS

UNIT = "in [0, 1)"
NAN = float("nan")
POSITIVE = {
    "dtp": ("target_step", "noise"),
    "pc": ("inference_rate",),
    "bcd": ("gamma", "rho", "alpha"),
    "admm": ("nu", "rho"),
    "ff": ("threshold", "sharpness"),
}
CASES: list[tuple[type, str, str, list[Any], str]] = [
    *((SolverConfig, "solver", key, [1.0, 2, -0.1, NAN], UNIT) for key in ("input_delta", "hidden_delta")),
    (SolverConfig, "solver", "method", ["qr", ""], "one of svd, eigh, cholesky"),
    *(
        (AlternatingConfig, "nmf", key, [0, -5], "≥ 1")
        for key in ("batch_size", "output_iterations", "hidden_iterations", "weight_steps", "code_steps")
    ),
    (AlternatingConfig, "nmf", "order", ["both"], "one of weights_first, codes_first"),
    (AlternatingConfig, "nmf", "omega", [0.0, -1.0, 2.1, NAN], "in (0, 2]"),
    *((AlternatingConfig, "nmf", key, [-1e-9, NAN], "≥ 0") for key in ("weight_ridge", "code_ridge")),
    (AlternatingConfig, "nmf", "input_factor", ["none"], "one of full, batch"),
    (AlternatingConfig, "nmf", "averaging", [1.0, -0.1, NAN], UNIT),
    *(
        case
        for form in (JacobiConfig, SeidelConfig)
        for case in (
            *((form, form.name, key, [0, -5], "≥ 1") for key in ("batch_size", "gram_every")),
            *(
                (form, form.name, key, [0.0, -1.0, float("inf"), NAN], "> 0")
                for key in ("omega", "output_omega", "code_damping", "damping")
            ),
            *((form, form.name, key, [-1e-9, float("inf"), NAN], "≥ 0") for key in ("ridge", "input_ridge")),
            *(
                (form, form.name, key, [1.0, -0.1, NAN], UNIT)
                for key in ("input_delta", "gram_memory", "averaging")
            ),
        )
    ),
    (BackpropConfig, "bp", "batch_size", [0, -5], "≥ 1"),
    (BackpropConfig, "bp", "optimizer", ["lion"], f"one of {', '.join(OPTIMIZERS)}"),
    (BackpropConfig, "bp", "learning_rate", [0.0, -1.0, NAN], "> 0"),
    (BackpropConfig, "bp", "schedule", ["steps"], "one of constant, linear, cosine"),
    (BackpropConfig, "bp", "loss", ["hinge"], "one of auto, cross_entropy, squared, latent"),
    *(
        (BackpropConfig, "bp", key, [1.0, -0.1, NAN], UNIT)
        for key in ("dropout", "momentum", "averaging", "label_smoothing", "gram_memory")
    ),
    (BackpropConfig, "bp", "damping", [0.0, -1.0, float("inf"), NAN], "> 0"),
    (BackpropConfig, "bp", "gram_every", [0, -5], "≥ 1"),
    (BackpropConfig, "bp", "weight_decay", [-1e-9, NAN], "≥ 0"),
    *(
        (config, name, key, [0.0, -1.0, float("inf"), NAN], "> 0")
        for name, keys in POSITIVE.items()
        for config in [OPPONENTS[name][0]]
        for key in keys
    ),
    *(
        (config, name, key, values, expected)
        for name, (config, _) in OPPONENTS.items()
        if hasattr(config, "batch_size")
        for key, values, expected in (
            ("batch_size", [0, -5], "≥ 1"),
            ("learning_rate", [0.0, -1.0, NAN], "> 0"),
            ("schedule", ["steps"], "one of constant, linear, cosine"),
            ("weight_decay", [-1e-9, float("inf"), NAN], "≥ 0"),
        )
    ),
    (OPPONENTS["localloss"][0], "localloss", "similarity", [-0.1, 1.1, NAN], "in [0, 1]"),
    (OPPONENTS["pc"][0], "pc", "inference_steps", [0, -1], "≥ 1"),
    (OPPONENTS["admm"][0], "admm", "output_steps", [0, -1], "≥ 1"),
    (OPPONENTS["ff"][0], "ff", "loss", ["hinge"], "one of threshold, symmetric"),
    (PretrainingConfig, "pretraining", "samples", [0, -1], "null or ≥ 1"),
    *(
        (PretrainingConfig, "pretraining", key, [0, -1], "≥ 1")
        for key in ("outer_iterations", "nmf_iterations", "lsq_iterations")
    ),
    (PretrainingConfig, "pretraining", "update", ["als"], "one of multiplicative, hals"),
]


@pytest.mark.parametrize(
    ("config", "key", "value", "message"),
    [
        pytest.param(
            config,
            key,
            value,
            f"{group}.{key} must be {expected}, got {value!r}",
            id=f"{group}.{key}={value}",
        )
        for config, group, key, values, expected in CASES
        for value in values
    ],
)
def test_impossible_values_are_refused(config, key, value, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        config(**{key: value})


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (SolverConfig, {"input_delta": 0.0, "hidden_delta": 0.999}),
        (AlternatingConfig, {"batch_size": 1, "omega": 2.0, "averaging": 0.0, "weight_ridge": 0.0}),
        (BackpropConfig, {"batch_size": 1, "dropout": 0.0, "momentum": 0.0, "weight_decay": 0.0}),
        (PretrainingConfig, {"samples": None, "outer_iterations": 1}),
    ],
)
def test_the_ends_of_the_ranges_are_allowed(config, values):
    made = config(**values)
    assert {key: getattr(made, key) for key in values} == values
