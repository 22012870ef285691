"""Real values from end to end: data, training, records, comparison, report, prediction, export, resuming."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas
import pytest
import torch
from runs import configured
from sklearn import metrics
from test_tracking import curve, read

import nmfdnn
from nmfdnn import export, predict
from nmfdnn.data import Arrays, load
from nmfdnn.errors import CheckpointError, ConfigError, DataError
from nmfdnn.model import load as load_model
from nmfdnn.records import read_metrics, read_summary
from nmfdnn.runs.experiment import run
from nmfdnn.views import compare, report

SMALL = [
    "network.hidden=[16,8]",
    "network.bias=true",
    "network.start=he",
    "data=arrays",
    "data.task=regression",
]
SETTINGS = {
    "jacobi": ["method=jacobi", "jacobi.batch_size=20"],
    "nmf": ["method=nmf", "nmf.batch_size=50"],
    "bp": ["method=bp", "bp.batch_size=20", "bp.learning_rate=1e-2"],
}


def table(n: int = 300) -> pandas.DataFrame:
    """Two values in different units, and three features that explain them."""
    rng = np.random.default_rng(0)
    X = rng.random((n, 3))
    price = 1e4 * (np.maximum(X[:, 0] - X[:, 1], 0) + X[:, 2]) + 5e4
    return pandas.DataFrame(
        {"a": X[:, 0], "b": 1e3 * X[:, 1], "c": X[:, 2], "price": price, "age": -3 * X[:, 1]}
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("regression")


def train(folder: Path, method: str, *overrides: str, data: pandas.DataFrame | None = None) -> dict[str, Any]:
    folder.mkdir(exist_ok=True, parents=True)
    (table() if data is None else data).to_csv(folder / "table.csv", index=False)
    settings = [*SMALL, *SETTINGS[method], f"data.path={folder / 'table.csv'}", "epochs=6", *overrides]
    return run(configured(*settings), folder, "text", [o for o in settings if not o.startswith("data.path")])


@pytest.fixture(scope="module", params=SETTINGS)
def single(request, place) -> Path:
    """A run on one value."""
    folder = place / request.param
    train(folder, request.param, "data.target=price", "epochs=30", data=table().drop(columns="age"))
    return folder


@pytest.fixture(scope="module")
def double(place) -> Path:
    """A run on two values."""
    folder = place / "double"
    train(folder, "jacobi", "data.target='price,age'")
    return folder


def test_every_method_explains_the_values_and_says_so_in_their_unit(single):
    summary, rows = read_summary(single), read_metrics(single)
    assert summary["measure"] == "rmse"
    assert summary["test_r2"] > 0.9
    assert summary["layers"][-1] == 1
    assert not [key for key in (*summary, *summary["last"], *rows[0]) if key.endswith("_error")]
    model = nmfdnn.load(single)
    data = table().drop(columns="age")
    config = Arrays(path=str(single / "table.csv"), task="regression", target="price")
    split = load(config, seed=1, device=torch.device("cpu"), dtype=torch.float32)
    for part in ("train", "validation", "test"):
        source = getattr(split, part)
        true = split.targets.answers(source.labels)
        assert np.abs(true[:, None] - data["price"].to_numpy()).min(axis=1).max() < 0.5
        found = split.targets.answers(model.network.outputs(source.X))
        rmse = metrics.mean_squared_error(true, found) ** 0.5
        assert summary[f"{part}_rmse"] == pytest.approx(rmse, rel=1e-4)
        if part != "train":
            assert summary[f"{part}_r2"] == pytest.approx(metrics.r2_score(true, found), rel=1e-4)
            assert summary[f"{part}_mae"] == pytest.approx(metrics.mean_absolute_error(true, found), rel=1e-4)
    kept = summary["best_validation_epoch"]
    assert (
        summary["validation_rmse"]
        == min(row["validation_rmse"] for row in rows)
        == rows[kept]["validation_rmse"]
    )
    events = read(single)
    assert [value for _, value in curve(events, "rmse/test")] == pytest.approx([r["test_rmse"] for r in rows])
    assert "images/predictions" in events.Tags()["images"]
    assert [value for _, value in curve(events, "hparam/test_rmse")] == pytest.approx([summary["test_rmse"]])


def test_several_values_have_their_names_and_units(double):
    summary, model = read_summary(double), nmfdnn.load(double)
    assert model.targets.names == ("price", "age")
    assert set(summary["test_rmse_of"]) == {"price", "age"}
    assert summary["test_rmse"] == pytest.approx(np.mean(list(summary["test_rmse_of"].values())))
    found = model.predict(table()[["a", "b", "c"]].to_numpy())
    assert metrics.r2_score(table()[["price", "age"]], found) > 0.8
    with pytest.raises(ConfigError, match="real values, which have no probabilities: use predict"):
        model.predict_proba(table()[["a", "b", "c"]].to_numpy())


@pytest.mark.parametrize("name", ["kept.safetensors", "kept.pt"])
def test_a_saved_model_answers_the_same(double, tmp_path, name):
    model, X = nmfdnn.load(double), table()[["a", "b", "c"]].to_numpy()
    model.save(tmp_path / name)
    np.testing.assert_array_equal(nmfdnn.load(tmp_path / name).predict(X), model.predict(X))


@pytest.mark.parametrize("kind", ["csv", "csv without values", "npz"])
def test_predictions(double, tmp_path, kind, capsys, monkeypatch):
    X, y = table()[["a", "b", "c"]].to_numpy(), table()[["price", "age"]].to_numpy()
    path = tmp_path / f"mine.{kind[:3]}"
    if kind == "npz":
        np.savez(path, X=X, y=y)
    else:
        (table() if kind == "csv" else table()[["a", "b", "c"]]).to_csv(path, index=False)
    output = tmp_path / "out.csv"
    monkeypatch.setattr("sys.argv", ["nmfdnn-predict", str(double), str(path), "-o", str(output)])
    predict.main()
    told = capsys.readouterr().err
    found = pandas.read_csv(output)
    assert list(found) == ["sample", "predicted_price", "predicted_age"]
    np.testing.assert_allclose(found.to_numpy()[:, 1:], nmfdnn.load(double).predict(X), rtol=1e-6)
    if kind == "csv without values":
        assert told == ""
        return
    rmse = np.sqrt(np.mean((found.to_numpy()[:, 1:] - y) ** 2, axis=0))
    numbers = re.fullmatch(
        r"300 labelled samples, RMSE (\S+); r2 (\S+); mae (\S+); rmse of price (\S+), age (\S+)\n", told
    )
    assert numbers is not None, told
    assert float(numbers[1]) == pytest.approx(rmse.mean(), rel=1e-3)
    assert [float(numbers[4]), float(numbers[5])] == pytest.approx(rmse, rel=1e-3)


def test_exports_answer_in_the_unit_of_the_values(double, tmp_path):
    model, X = nmfdnn.load(double), table()[["a", "b", "c"]].to_numpy(np.float32)
    export.export(model, tmp_path / "model.onnx", "onnx")
    (found,) = onnxruntime.InferenceSession(str(tmp_path / "model.onnx")).run(None, {"samples": X})
    np.testing.assert_allclose(found, model.predict(X), rtol=1e-4)


def test_a_continued_run_is_the_same(tmp_path):
    whole = train(tmp_path / "whole", "nmf", "data.target=price")
    parts = tmp_path / "parts"
    train(parts, "nmf", "data.target=price", "epochs=2")
    train(parts, "nmf", "data.target=price", "resume=true")
    for key in ("train_rmse", "test_rmse", "test_r2"):
        assert read_summary(parts)[key] == read_summary(tmp_path / "whole")[key] == whole[key]
    other = table()
    other.loc[3, "age"] += 1
    with pytest.raises(CheckpointError, match="the data are not those"):
        train(parts, "nmf", "data.target=price", "resume=true", "epochs=9", data=other)


def test_comparison_and_report_speak_of_rmse(single, double, tmp_path, capsys):
    compare.main(
        [str(single), str(double), "--output", str(tmp_path / "p.png"), "--csv", str(tmp_path / "t.csv")]
    )
    told = capsys.readouterr().out
    assert "RMSE in the unit of the values, mean ± standard deviation" in told
    assert re.search(r"train RMSE \|\s+validation RMSE \|\s+test RMSE", told)
    assert "(3 features, 1 values)" in told
    assert "seconds to a test RMSE" in told
    assert "%" not in told
    columns = pandas.read_csv(tmp_path / "t.csv")
    expected = {read_summary(folder)["test_rmse"] for folder in (single, double)}
    assert set(columns["test_rmse_mean"]) == expected
    report.main([str(single), "-o", str(tmp_path / "page.html")])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"{read_summary(single)['test_rmse']:.4g} test RMSE" in page
    assert "Predictions" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"price": "cheap"},
            r"expected real numbers in the column price, found text \('cheap'\).*data\.task=class",
        ),
        ({"price": 3}, r"the target price is 3 in all \d+ training samples"),
        ({"price": np.nan}, "missing or infinite ones in the column price"),
    ],
)
def test_values_that_cannot_be_learnt(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        train(tmp_path, "jacobi", "data.target=price", data=table().assign(**change))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.r_[np.nan, np.ones(49)], "finite numbers in y, found NaN or infinity in 1 samples; leave these"),
        (np.ones((50, 2, 2)), "one number, or m of them, in y for each of the 50 samples"),
        (np.array(["a"] * 50), "expected real numbers in y, found text"),
    ],
)
def test_arrays_that_are_no_values(tmp_path, y, message):
    np.savez(tmp_path / "mine.npz", X=np.random.default_rng(0).random((50, 3)), y=y)
    with pytest.raises(DataError, match=message):
        run(configured(*SMALL, f"data.path={tmp_path / 'mine.npz'}"), tmp_path)


def test_values_taken_for_classes_get_the_remedy(tmp_path):
    with pytest.raises(DataError, match=r"real values need data\.task=regression"):
        train(tmp_path, "bp", "data.target=price", "data.task=classification")
    with pytest.raises(ConfigError, match="class_weight must be null where targets are real values"):
        train(tmp_path, "bp", "data.target=price", "data.class_weight=balanced")


@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_weights_and_several_values_from_arrays(tmp_path, kind):
    """Samples of weight 0 are absent, and a factor of all weights does not matter."""
    data = table()
    X, y = (np.ascontiguousarray(data[c]) for c in (["a", "b", "c"], ["price", "age"]))
    w = np.arange(300.0) % 3
    summaries = []
    for factor in (1, 1024):
        arrays = {"X": X, "y": y, "w": w * factor, "X_test": X[:50], "y_test": y[:50]}
        path = tmp_path / f"{factor}.npz"
        if kind == "npz":
            np.savez(path, **arrays)
        else:
            path = tmp_path / str(factor)
            path.mkdir()
            for name, array in arrays.items():
                np.save(path / f"{name}.npy", array)
        folder = tmp_path / f"run{factor}"
        folder.mkdir()
        summaries.append(
            run(configured(*SMALL, *SETTINGS["jacobi"], f"data.path={path}", "epochs=3"), folder)
        )
    assert summaries[0]["train_samples"] == 180
    assert summaries[0]["test_rmse"] == summaries[1]["test_rmse"]
    assert load_model(folder).targets.names == ("y0", "y1")


def test_the_summary_is_plain_json(single):
    assert json.loads((single / "summary.json").read_text(encoding="utf-8"))["measure"] == "rmse"
