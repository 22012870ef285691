"""Configurations: allowed ranges, and agreement with the files under configs/data."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import MissingMandatoryValue, OmegaConf

from nmfdnn.data import SCHEMAS, Arrays, Digits, FashionMNIST, MNIST5k, Synthetic
from nmfdnn.errors import ConfigError

FILES = Path(__file__).parents[2] / "configs" / "data"


def composed(name):
    """What Hydra makes of configs/data/<name>.yaml and its schema."""
    own = OmegaConf.load(FILES / f"{name}.yaml")
    assert own.pop("defaults") == [f"schema_{name}", "_self_"]
    return OmegaConf.merge(OmegaConf.structured(SCHEMAS[name]), own)


def test_every_set_has_a_file_and_every_file_a_set():
    assert sorted(SCHEMAS) == sorted(path.stem for path in FILES.glob("*.yaml"))


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_files_agree_with_the_defaults_in_the_code(name):
    config = composed(name)
    if name == "arrays":
        with pytest.raises(MissingMandatoryValue):
            OmegaConf.to_object(config)
        config.path = "mine.npz"
        assert OmegaConf.to_object(config) == Arrays(path="mine.npz")
    else:
        assert OmegaConf.to_object(config) == SCHEMAS[name]()


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_files_show_every_key(name):
    assert set(OmegaConf.load(FILES / f"{name}.yaml")) - {"defaults"} == set(
        OmegaConf.structured(SCHEMAS[name])
    )


@pytest.mark.parametrize(
    ("schema", "values", "message"),
    [
        (FashionMNIST, {"validation": 1.0}, r"data\.validation must be in \[0, 1\), got 1\.0"),
        (FashionMNIST, {"validation": -0.1}, r"data\.validation must be in \[0, 1\)"),
        (MNIST5k, {"validation": float("nan")}, r"data\.validation must be in \[0, 1\)"),
        (MNIST5k, {"validation": float("inf")}, r"data\.validation must be in \[0, 1\), got inf"),
        (MNIST5k, {"test": float("nan")}, r"data\.test must be in \(0, 1\), got nan"),
        (MNIST5k, {"test": float("inf")}, r"data\.test must be in \(0, 1\), got inf"),
        (Digits, {"train_samples": float("nan")}, r"data\.train_samples must be at least 1, .* got nan"),
        (MNIST5k, {"test": 0.0}, r"data\.test must be in \(0, 1\), got 0\.0"),
        (Digits, {"test": 1.0}, r"data\.test must be in \(0, 1\)"),
        (Digits, {"train_samples": 0}, r"data\.train_samples must be at least 1, or null for all, got 0"),
        (
            Digits,
            {"name": "mnist"},
            r"data\.name must be 'digits' here \(choose a set with data=NAME: .*mnist",
        ),
        (Synthetic, {"classes": 1}, r"data\.classes must be at least 2"),
        (Synthetic, {"samples": 9}, r"data\.samples must be at least 10 \(two a class\), got 9"),
        (Synthetic, {"features": 0}, r"data\.features must be at least 1"),
        (Synthetic, {"hidden": [5, 0]}, r"data\.hidden must be a list of widths of at least 1, got \[5, 0\]"),
        (Synthetic, {"noise": 1.0}, r"data\.noise must be in \[0, 1\)"),
    ],
)
def test_values_out_of_range(schema, values, message):
    with pytest.raises(ConfigError, match=message):
        schema(**values)
