"""Test errors on ordinary tables, beside scikit-learn's MLPClassifier behind a StandardScaler.

`python benchmarks/tables.py OUT` splits wine, breast_cancer and a made table of 54 features in several units
and 7 classes (80 % for training, stratified, one split a seed) into OUT/data, trains `best_small` and the
default on each, and writes a Markdown table of mean test errors, OUT/tables.md. Both programs get the raw
features and have their defaults. Runs are single-threaded, `--jobs` at a time; one that is there already is
not repeated.
"""

from __future__ import annotations

import statistics
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from launch import parallel_arguments, report, train
from sklearn.datasets import load_breast_cancer, load_wine, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nmfdnn.records import read_summary

SEEDS = [1, 2, 3, 4, 5]
EXPERIMENTS = ["best_small", "quickstart"]


def made() -> tuple[np.ndarray, np.ndarray]:
    """3,000 samples of 54 features, ten of them multiplied by 1e4 and shifted by 3e4, in 7 classes."""
    X, y = make_classification(
        n_samples=3000,
        n_features=54,
        n_informative=20,
        n_redundant=10,
        n_classes=7,
        n_clusters_per_class=2,
        class_sep=1.5,
        random_state=0,
    )
    X[:, :10] = 1e4 * X[:, :10] + 3e4
    return X, y


TABLES = {
    "wine": lambda: load_wine(return_X_y=True),
    "breast_cancer": lambda: load_breast_cancer(return_X_y=True),
    "made": made,
}


def split(path: Path, table: str, seed: int) -> float:
    """Write a split of a table to `path`; the MLP's test error on it, %."""
    X, y = TABLES[table]()
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.2, stratify=y, random_state=seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, X=X, y=y, X_test=X_test, y_test=y_test)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 200 epochs are its default
        mlp = make_pipeline(StandardScaler(), MLPClassifier(random_state=seed)).fit(X, y)
    return 100 * (1 - float(mlp.score(X_test, y_test)))


def main() -> None:
    """Split, train, tabulate."""
    arguments = parallel_arguments(__doc__, SEEDS)

    def path(table: str, seed: int) -> Path:
        return Path(arguments.out, "data", f"{table}_{seed}.npz")

    def folder(experiment: str, table: str, seed: int) -> Path:
        return Path(arguments.out, "runs", experiment, table, str(seed))

    def run(experiment: str, table: str, seed: int) -> None:
        data = ["data=arrays", f"data.path={path(table, seed)}"]
        own = [f"experiment={experiment}", f"seed={seed}", "threads=1", *data]
        train(folder(experiment, table, seed), [*own, *arguments.overrides])

    rows = {"MLPClassifier": [[split(path(t, s), t, s) for s in arguments.seeds] for t in TABLES]}
    with ThreadPoolExecutor(arguments.jobs) as pool:
        jobs = [(e, t, s) for e in EXPERIMENTS for t in TABLES for s in arguments.seeds]
        list(pool.map(lambda job: run(*job), jobs))
    for e in EXPERIMENTS:
        rows[e] = [[read_summary(folder(e, t, s))["test_error"] for s in arguments.seeds] for t in TABLES]
    lines = [f"| run | {' | '.join(TABLES)} |", f"|---|{'---|' * len(TABLES)}"]
    for name, columns in rows.items():
        cells = [f"{statistics.fmean(c):.2f} ({min(c):.2f} – {max(c):.2f})" for c in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    report(lines, arguments.out / "tables.md")


if __name__ == "__main__":
    main()
