"""`nmfdnn-predict` and `nmfdnn-export`: what a run has learned, for other data and other programs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pandas
import pytest
import torch
from runs import TINY, configured
from test_model import fitted, made

import nmfdnn
from nmfdnn import export, predict
from nmfdnn.data.preprocessing import Preprocessing
from nmfdnn.errors import ConfigError, DataError
from nmfdnn.model import Model
from nmfdnn.network import Network, dense, random_weights
from nmfdnn.runs.experiment import run
from nmfdnn.targets import Classes


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run on a table with classes 3, 5 and 7 and two columns."""
    path = tmp_path_factory.mktemp("predict")
    rng = np.random.default_rng(0)
    y = np.repeat([3, 5, 7], 80)
    table = pandas.DataFrame({"a": y + 0.2 * rng.random(240), "b": -1e3 * y, "kind": y})
    table.to_csv(path / "table.csv", index=False)
    table.iloc[::40].to_csv(path / "more.csv", index=False)
    settings = ["data=arrays", f"data.path={path / 'table.csv'}", "data.target=kind", "method=jacobi"]
    run(configured(*TINY[4:], *settings, "jacobi.batch_size=20", "network.start=he", "epochs=2"), path)
    return path


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs a program: exit status, and what it prints."""

    def call(module, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["program", *map(str, arguments)])
        status = 0
        try:
            module.main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return call


@pytest.mark.parametrize("kind", ["csv", "csv without labels", "npz", "npy", "parquet"])
def test_predictions_of_every_kind_of_file(kind, folder, tmp_path, command):
    table = pandas.read_csv(folder / "more.csv")
    X, y = table[["a", "b"]].to_numpy(), table["kind"].to_numpy()
    path, options, labelled = tmp_path / f"mine.{kind[:3]}", [], "without" not in kind and kind != "npy"
    if kind == "csv":
        table.to_csv(path, index=False)
        options = ["--label", "kind"]
    elif kind == "csv without labels":
        table[["a", "b"]].to_csv(path, index=False)
    elif kind == "npz":
        np.savez(path, X=X, y=y.astype(float))
    elif kind == "npy":
        np.save(path, X)
    else:
        path = tmp_path / "mine.parquet"
        table.to_parquet(path)
    output = tmp_path / "out.csv"
    status, _, told = command(predict, folder, path, *options, "-o", output)
    assert status == 0, told
    found = pandas.read_csv(output)
    model = nmfdnn.load(folder)
    assert found["predicted"].tolist() == model.predict(X).astype(int).tolist()
    shares = found[["probability_3", "probability_5", "probability_7"]].to_numpy()
    np.testing.assert_allclose(shares, model.predict_proba(X), rtol=1e-12)
    error = 100 * np.mean(found["predicted"] != y)
    assert (f"6 labelled samples, error {error:.2f} %" in told) == labelled


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1,2,3,4\n5,6,7,8\n", "at most one of labels"),
        ("1\n2\n", "columns of features"),
        ("a,c,kind\n1,2,3\n", "trained on columns that are not there: b; give the columns names"),
        ("a,b\n1,x\n", "encode them as numbers"),
        (None, "nothing there"),
    ],
)
def test_files_that_do_not_fit(content, words, folder, tmp_path, command):
    path = tmp_path / "mine.csv"
    if content is not None:
        path.write_text(content)
    status, printed, told = command(predict, folder, path)
    assert status == 2
    assert printed == ""
    assert words in told
    assert len(told.splitlines()) == 1


def test_columns_of_a_table_are_known_by_their_names(folder, tmp_path, command):
    table, model = pandas.read_csv(folder / "more.csv"), nmfdnn.load(folder)
    assert model.preprocessing.names == ("a", "b")
    expected = model.decision_function(table[["a", "b"]].to_numpy())
    assert not np.array_equal(model.decision_function(table[["b", "a"]].to_numpy()), expected)
    mixed = table.assign(name="text", a=table["a"].astype(np.float32))[["kind", "b", "name", "a"]]
    np.testing.assert_allclose(model.decision_function(mixed), expected, atol=1e-5)
    with pytest.raises(DataError, match="trained on columns that are not there: b; give the columns names"):
        model.predict(table[["a", "kind"]])
    flags = table[["a"]].assign(b=[True, False] * 3)  # side by side pandas makes objects of them
    found = model.decision_function(flags)
    np.testing.assert_array_equal(found, model.decision_function(flags.to_numpy(float)))
    unnamed = pandas.DataFrame(table[["a", "b"]].to_numpy())
    np.testing.assert_array_equal(model.decision_function(unnamed), expected)

    answers = model.predict(table[["a", "b"]]).astype(int).tolist()
    for columns, labelled in (
        (["kind", "b", "a"], True),  # what else there is, if it is one, are labels
        (["b", "a"], False),
        (["id", "b", "kind", "a"], False),  # of several it is not known
        (["id", "b", "target", "a"], True),  # unless one has a usual name
    ):
        frame = table.assign(id=range(len(table)), target=table["kind"])[columns]
        frame.to_csv(tmp_path / "new.csv", index=False)
        status, _, told = command(predict, folder, tmp_path / "new.csv", "-o", tmp_path / "out.csv")
        assert (status, "labelled samples" in told) == (0, labelled), told
        assert pandas.read_csv(tmp_path / "out.csv")["predicted"].tolist() == answers
    options = ["--label", "kind", "-o", tmp_path / "out.csv"]
    table.assign(id=0)[["id", "kind", "b", "a"]].to_csv(tmp_path / "new.csv", index=False)
    status, _, told = command(predict, folder, tmp_path / "new.csv", *options)
    assert (status, "labelled samples" in told) == (0, True), told


def test_columns_without_names_keep_their_order(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    table = pandas.DataFrame({"0": rng.random(90) + y, "1": rng.random(90), "2": y})
    table.to_csv(tmp_path / "table.csv", index=False)
    settings = ["data=arrays", f"data.path={tmp_path / 'table.csv'}", "method=bp", "network.start=he"]
    run(configured(*TINY[4:], *settings, "bp.batch_size=20", "epochs=1"), tmp_path)
    model = nmfdnn.load(tmp_path)
    assert model.preprocessing.names == ()
    X = table[["0", "1"]]
    np.testing.assert_array_equal(
        model.decision_function(X.rename(columns={"0": "a"})), model.decision_function(X.to_numpy())
    )


def models() -> dict[str, Model]:
    X = np.random.default_rng(0).normal(3, 2, (50, 6)) * [1, 1, 100, 1, 1, 1]
    X[:, 4] = 5
    g, like = torch.Generator().manual_seed(1), torch.zeros(1)
    weights = random_weights(dense(6, 8, 5, 3), True, "he", g, like)
    table = Model(Network(weights, True), Classes(("a", "b", "c")), fitted(X))
    plain = random_weights(dense(6, 4, 3), False, "he", g, like)
    return {
        "table": table,
        "no bias": Model(Network(plain), Classes(("a", "b", "c")), Preprocessing("none", (6,))),
        "pictures": made(),
    }


@pytest.mark.parametrize("kind", ["sequential", "torch", "onnx"])
@pytest.mark.parametrize("name", ["table", "no bias", "pictures"])
def test_exported_models_give_the_same_outputs(name, kind, tmp_path):
    model = models()[name]
    rng = np.random.default_rng(2)
    shape = model.preprocessing.shape
    X = rng.integers(0, 256, (9, *shape)) if name == "pictures" else rng.normal(3, 2, (9, *shape))
    X = X.astype(np.float32)
    expected = model.decision_function(X)
    if kind == "sequential":
        found = export.sequential(model)(torch.from_numpy(X)).numpy()
    else:
        path = tmp_path / "model"
        export.export(model, path, kind)
        if kind == "torch":
            found = torch.export.load(path).module()(torch.from_numpy(X)).detach().numpy()
        else:
            (found,) = onnxruntime.InferenceSession(path).run(None, {"samples": X})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_exports_of_the_command_line(folder, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind, name in (("torch", "model.pt2"), ("safetensors", "model.safetensors"), ("onnx", "model.onnx")):
        status, printed, told = command(export, folder, "--to", kind)
        assert status == 0, told
        assert name in printed
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt2", "model.safetensors", "model.onnx"}
    X = np.random.default_rng(0).random((3, 2))
    same = nmfdnn.load(tmp_path / "model.safetensors").decision_function(X)
    np.testing.assert_array_equal(same, nmfdnn.load(folder).decision_function(X))
    status, _, told = command(export, tmp_path / "nothing")
    assert (status, "is no file" in told) == (2, True)
    missing = tmp_path / "no" / "m"
    status, _, told = command(export, folder, "-o", missing)
    assert (status, "cannot write" in told) == (2, True)


def test_other_kinds_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="kind must be one of torch, safetensors, onnx, got 'keras'"):
        export.export(made(), tmp_path / "m", "keras")
