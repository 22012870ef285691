"""The examples in docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = [
    "nmfdnn.api",
    "nmfdnn.model",
    "nmfdnn.estimators.autoencoder",
    "nmfdnn.estimators.factorizations",
    "nmfdnn.estimators.networks",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


def test_every_estimator_has_one():
    from nmfdnn import estimators

    for name in estimators.__all__:
        assert ">>> " in getattr(estimators, name).__doc__
