"""Weights of samples and classes through data and runs, and measures that see small classes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from data_files import save_folder
from runs import TINY, configured
from sklearn import metrics

import nmfdnn
from nmfdnn import predict
from nmfdnn.data import Arrays, Digits, load
from nmfdnn.errors import ConfigError, DataError
from nmfdnn.network import Network, dense, random_weights
from nmfdnn.records import read_metrics, read_summary
from nmfdnn.runs.experiment import run
from nmfdnn.runs.results import measure
from nmfdnn.source import Memory
from nmfdnn.targets import CLASSES, Classes, RealValues

CPU = {"seed": 1, "device": torch.device("cpu"), "dtype": torch.float64}
NAMES = np.array(["rare", "usual"])


def uneven(n: int = 400) -> pandas.DataFrame:
    """Two classes that overlap, one of them a tenth."""
    rng = np.random.default_rng(0)
    y = (np.arange(n) % 10 > 0).astype(int)
    return pandas.DataFrame(
        {"a": rng.normal(1.5 * y), "b": rng.normal(size=n), "often": np.arange(n) % 4, "kind": NAMES[y]}
    )


@pytest.fixture
def table(tmp_path) -> Path:
    uneven().to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


def test_a_column_of_weights_is_no_feature_and_its_zeros_are_absent(table):
    data = load(Arrays(path=str(table), weight="often", standardize="none"), **CPU)
    assert data.features == 2
    rows = {tuple(x): w for *x, w in uneven()[["a", "b", "often"]].to_numpy()}
    total = sum(len(part) for part in (data.train, data.validation, data.test))
    assert total == 300
    assert data.test.weights is None
    assert len(data.validation.weights) == len(data.validation)
    expected = np.array([rows[tuple(x)] for x in data.train.X.tolist()])
    np.testing.assert_allclose(data.train.weights[:, 0], expected / expected.mean())


@pytest.mark.parametrize("parts", [[], [100, 150]])
def test_streamed_samples_have_their_weights(tmp_path, parts):
    frame = uneven()
    X = np.ascontiguousarray(frame[["a", "b"]].to_numpy())
    path = save_folder(
        tmp_path / "mine", parts, X=X, y=frame["kind"].to_numpy(str), w=frame["often"].to_numpy()
    )
    data = load(Arrays(path=str(path), standardize="none", class_weight="balanced"), **CPU)
    rows = {tuple(x): (w, kind) for x, w, kind in zip(X.tolist(), frame["often"], frame["kind"], strict=True)}
    found, classes = [], []
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0)).split(70)
    for batch in [*data.train.passes(), *data.train.batches(order)]:
        given = np.array([rows[tuple(x)][0] for x in batch.X.tolist()])
        found += (batch.weights[:, 0].numpy() / given).tolist()
        classes += [rows[tuple(x)][1] for x in batch.X.tolist()]
        assert float(batch.mass) == pytest.approx(float(batch.weights.sum()))
        names = [data.classes[label] for label in batch.labels]
        assert names == [rows[tuple(x)][1] for x in batch.X.tolist()]
    by_class = {
        name: {round(f, 9) for f, c in zip(found, classes, strict=True) if c == name} for name in NAMES
    }
    assert {len(values) for values in by_class.values()} == {1}
    weights, labels = data.train.weights[:, 0].numpy(), data.train.labels.numpy()
    np.testing.assert_allclose(weights[labels == 0].sum(), weights[labels == 1].sum())
    assert weights.mean() == pytest.approx(1)


def test_weights_belong_to_what_a_run_is_continued_on(tmp_path):
    frame = uneven()
    digests = []
    for w in (frame["often"] + 1, frame["often"] + 2, None):
        arrays = {"X": frame[["a", "b"]], "y": frame["kind"].to_numpy(str)} | ({} if w is None else {"w": w})
        np.savez(tmp_path / "mine.npz", **arrays)
        digests.append(load(Arrays(path=str(tmp_path / "mine.npz")), **CPU).digest)
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    ("w", "message"),
    [
        (np.ones(3), "expected one weight in w for each of the 400 samples"),
        (np.full(400, -1.0), "expected weights ≥ 0 in w, found -1"),
        (np.zeros(400), "found zeros alone"),
        (np.full(400, np.nan), "found nan"),
    ],
)
def test_weights_that_are_none(tmp_path, w, message):
    np.savez(tmp_path / "mine.npz", X=uneven()[["a", "b"]], y=uneven()["kind"].to_numpy(str), w=w)
    with pytest.raises(DataError, match=message):
        load(Arrays(path=str(tmp_path / "mine.npz")), **CPU)


def test_keys_that_name_nothing(table, tmp_path):
    with pytest.raises(DataError, match=r"the column 'weight' of data.weight.*set data.weight to the name"):
        load(Arrays(path=str(table), weight="weight"), **CPU)
    np.savez(tmp_path / "mine.npz", X=uneven()[["a", "b"]], y=uneven()["kind"].to_numpy(str))
    with pytest.raises(ConfigError, match=r"data\.weight must be null for an .npz file"):
        load(Arrays(path=str(tmp_path / "mine.npz"), weight="w"), **CPU)
    with pytest.raises(ConfigError, match=r"data\.task must be one of classification, regression"):
        Arrays(path="mine.npz", task="real")
    with pytest.raises(
        ConfigError, match=r"data\.class_weight must be null, balanced or a weight for each class"
    ):
        Digits(class_weight="even")
    with pytest.raises(ConfigError, match=r"about classes that there are \(0, 1, .*got 'x'"):
        load(Digits(class_weight={"x": 2}), **CPU)


def train(table: Path, folder: Path, *overrides: str) -> dict:
    folder.mkdir(exist_ok=True)
    settings = [
        "data=arrays",
        f"data.path={table}",
        "data.weight=often",
        "method=jacobi",
        "jacobi.batch_size=20",
    ]
    return run(configured(*TINY[4:], *settings, "network.start=he", "epochs=6", *overrides), folder)


def test_balanced_classes_help_the_rare_one(table, tmp_path):
    plain = train(table, tmp_path / "plain")
    summaries = [
        train(table, tmp_path / str(i), f"data.class_weight={how}", "data.validation=0")
        for i, how in enumerate(("balanced", "{rare:9}"))
    ]
    for summary in summaries:
        assert summary["warnings"] == []  # of more errors than a guess has: they were asked for
        assert summary["test_error_of"]["rare"] < plain["test_error_of"]["rare"]
        assert summary["test_balanced_error"] < plain["test_balanced_error"]


def test_measures_are_those_of_scikit_learn(table, tmp_path, capsys, monkeypatch):
    summary = train(table, tmp_path)
    frame = uneven()
    X, y = frame[["a", "b"]].to_numpy(), frame["kind"].to_numpy(str)
    path = tmp_path / "new.npz"
    np.savez(path, X=X, y=y)
    monkeypatch.setattr(
        sys, "argv", ["nmfdnn-predict", str(tmp_path), str(path), "-o", str(tmp_path / "out.csv")]
    )
    predict.main()
    told = capsys.readouterr().err
    model = nmfdnn.load(tmp_path)
    found, shares = model.predict(X), model.predict_proba(X)
    values = {
        "balanced error": 100 * (1 - metrics.balanced_accuracy_score(y, found)),
        "macro f1": metrics.f1_score(y, found, average="macro"),
        "log loss": metrics.log_loss(y, shares),
    }
    assert told.startswith(f"400 labelled samples, error {100 * np.mean(found != y):.2f} %; ")
    for name, value in values.items():
        assert f"{name} {value:.4g}" in told
    for name in NAMES:
        assert f"{name} {100 * np.mean(found[y == name] != name):.4g}" in told
    for part in ("validation", "test"):
        assert {f"{part}_{name.replace(' ', '_')}" for name in values} <= summary.keys()
        assert summary[f"{part}_error_of"].keys() == set(NAMES)
    assert read_summary(tmp_path) == summary


def test_measures_of_classes_that_are_not_there():
    V = torch.eye(3)[[0, 1, 1, 2]]
    found = Classes(("a", "b", "c")).measures(V, torch.tensor([0, 1, 0, -1]))
    assert found["error_of"] == {"a": 50, "b": 0}
    assert found["balanced_error"] == 25
    assert "log_loss" not in found
    assert CLASSES.measures(V, torch.full((4,), -1)) == {}


def test_errors_count_samples_and_objectives_count_weights():
    X, labels = torch.rand(50, 4, dtype=torch.float64), torch.arange(50) % 3
    weights = torch.arange(50.0, dtype=torch.float64)[:, None]
    g = torch.Generator().manual_seed(0)
    network = Network(random_weights(dense(4, 8, 3), True, "he", g, X), True)

    def objective(V, labels, weights=None):
        losses = torch.nn.functional.cross_entropy(V, labels, reduction="none")
        return float(losses.mean() if weights is None else (weights[:, 0] * losses).sum() / weights.sum())

    plain, weighted = (measure(network, Memory(X, labels, weights=w), objective) for w in (None, weights))
    assert plain[0] == weighted[0]
    assert weighted[1] == pytest.approx(objective(network.outputs(X), labels, weights))
    assert plain[1] == pytest.approx(objective(network.outputs(X), labels))


@pytest.mark.parametrize("targets", [CLASSES, RealValues()], ids=["classes", "values"])
def test_a_weighted_error_is_that_of_repeated_samples(targets):
    g = torch.Generator().manual_seed(0)
    X, counts = torch.rand(50, 4, generator=g, dtype=torch.float64), torch.arange(50) % 4
    outputs, labels = (3, torch.arange(50) % 3) if targets is CLASSES else (1, torch.rand(50, 1, generator=g))
    network = Network(random_weights(dense(4, 8, outputs), True, "he", g, X), True)
    weighted = Memory(X, labels, targets=targets, weights=counts[:, None].double())
    repeated = Memory(*(T.repeat_interleave(counts, 0) for T in (X, labels)), targets=targets)
    expected = measure(network, repeated)[0]
    assert measure(network, weighted, weighted=True)[0] == pytest.approx(expected, rel=1e-12)
    assert measure(network, weighted)[0] != pytest.approx(expected, rel=1e-3)


def test_the_epoch_is_chosen_by_the_weights(table, tmp_path):
    """Among balanced classes the validation error is the mean of the classes' errors."""
    options = ["data.class_weight=balanced", "data.weight=null", "data.validation=0.3"]
    summary = train(table, tmp_path / "run", *options)
    assert summary["validation_error"] == pytest.approx(summary["validation_balanced_error"], rel=1e-6)
    found = [row["validation_error"] for row in read_metrics(tmp_path / "run")]
    assert summary["validation_error"] == min(found)
