"""A model in one file: it predicts from raw samples, survives saving, and refuses what is none."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from runs import TINY, configured, text_of

import nmfdnn
from nmfdnn.data import load
from nmfdnn.data.preprocessing import Preprocessing
from nmfdnn.errors import CheckpointError, ConfigError, DataError
from nmfdnn.model import Model
from nmfdnn.network import ConvolutionConfig, Network, NetworkConfig, build_layers, random_weights
from nmfdnn.runs.experiment import run
from nmfdnn.targets import Classes, calibrated


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on named classes and columns of different units."""
    path = tmp_path_factory.mktemp("model")
    rng = np.random.default_rng(0)
    names = np.array(["ant", "bee", "cow"])
    y = np.arange(300) % 3
    X = (np.eye(3)[y] + 0.3 * rng.random((300, 3))) * [1, 1e4, 1e-3] + [0, 5e4, 1]
    np.savez(path / "mine.npz", X=X[:240], y=names[y[:240]], X_test=X[240:], y_test=names[y[240:]])
    settings = ["data=arrays", f"data.path={path / 'mine.npz'}", "method=jacobi", "jacobi.batch_size=20"]
    run(configured(*TINY[4:], *settings, "network.start=he", "epochs=3"), path, "seed: 1\n")
    return path


def test_a_run_leaves_a_model_that_predicts_from_raw_rows(folder):
    model = nmfdnn.load(folder)
    with np.load(folder / "mine.npz") as file:
        X, y = file["X_test"], file["y_test"]
    summary = json.loads((folder / "summary.json").read_text())
    predicted = model.predict(X)
    assert 100 * np.mean(predicted != y) == pytest.approx(summary["test_error"])
    assert np.mean(predicted == y) > 0.9
    scores = model.decision_function(X)
    assert scores.shape == (60, 3)
    assert (np.array(model.classes)[scores.argmax(axis=1)] == predicted).all()
    shares = model.predict_proba(X)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert (shares.argmax(axis=1) == scores.argmax(axis=1)).all()
    assert model.information["configuration"] == "seed: 1\n"
    assert model.information["test_error"] == summary["test_error"]
    assert model.information["versions"]["nmfdnn"] == nmfdnn.__version__
    assert (model.predict(torch.from_numpy(X)) == predicted).all()
    assert (model.predict(X[:1]) == predicted[:1]).all()


def fitted(X: np.ndarray) -> Preprocessing:
    """To mean 0 and standard deviation 1 of all rows."""
    return Preprocessing.fit("standard", X, np.arange(len(X)), X.min(axis=0), X.max(axis=0))


def made(shape=(2, 6, 5), image_shape=(2, 6, 5)) -> Model:
    config = NetworkConfig([7], True, convolution=[ConvolutionConfig(4, 3, pool=2)])
    layers = build_layers(config, 60, image_shape, 3)
    weights = random_weights(layers, True, "he", torch.Generator().manual_seed(0), torch.zeros(1))
    scale = torch.tensor(255.0, dtype=torch.float64)
    preprocessing = Preprocessing("none", shape, scale=scale)
    return Model(
        Network(weights, True, layers),
        Classes(("a", "b", "ç")),
        preprocessing,
        image_shape,
        0.5,
        {"epoch": 3},
    )


@pytest.mark.parametrize("name", ["kept.pt", "kept.safetensors", "kept"])
def test_a_saved_model_is_the_same(name, tmp_path):
    model = made()
    model.save(tmp_path / name)
    again = nmfdnn.load(tmp_path / name)
    X = np.random.default_rng(0).integers(0, 256, (9, 2, 6, 5), dtype=np.uint8)
    np.testing.assert_array_equal(model.decision_function(X), again.decision_function(X))
    np.testing.assert_array_equal(model.predict_proba(X), again.predict_proba(X))
    for name in ("classes", "image_shape", "temperature", "information"):
        assert getattr(model, name) == getattr(again, name)
    assert model.network.layers == again.network.layers


def test_samples_of_another_shape_are_refused():
    with pytest.raises(DataError, match="n × 2 × 6 × 5, got shape"):
        made().predict(np.zeros((3, 60)))


@pytest.mark.parametrize(
    ("trained", "asked"),
    [((8, 8), (64,)), ((64,), (8, 8)), ((1, 8, 8), (8, 8)), ((1, 8, 8), (64,)), ((8, 8), (8, 8, 1))],
)
def test_pictures_without_channels_may_be_rows_of_pixels(trained, asked):
    X = np.random.default_rng(0).integers(0, 256, (5, *trained), dtype=np.uint8)
    model = Model(Network([torch.rand(64, 3)]), Classes(("a", "b", "c")), Preprocessing(shape=trained))
    expected = model.decision_function(X)
    np.testing.assert_array_equal(model.decision_function(X.reshape(5, *asked)), expected)


@pytest.mark.parametrize("asked", [(63,), (4, 16), (3, 8, 8), (64, 64), (8, 2, 4)])
def test_other_numbers_of_pixels_are_refused(asked):
    model = Model(Network([torch.rand(64, 3)]), Classes(("a", "b", "c")), Preprocessing(shape=(8, 8)))
    with pytest.raises(DataError, match="n × 8 × 8, got shape"):
        model.predict(np.zeros((2, *asked)))


def test_constant_features_have_an_infinite_scale_that_survives(tmp_path):
    X = np.random.default_rng(0).random((30, 4))
    X[:, 2] = 7
    preprocessing = fitted(X)
    Model(Network([torch.rand(4, 2)]), Classes(("a", "b")), preprocessing).save(tmp_path / "kept")
    again = nmfdnn.load(tmp_path / "kept")
    assert torch.isinf(again.preprocessing.scale[2])
    assert np.isfinite(again.decision_function(X)).all()


def test_without_a_held_out_part_there_are_no_probabilities(tmp_path):
    run(configured(*TINY, "epochs=1", "data.validation=0"), tmp_path)
    model = nmfdnn.load(tmp_path)
    with pytest.raises(ConfigError, match=r"train with data\.validation above 0, or use decision_function"):
        model.predict_proba(np.zeros((1, 12)))


def test_the_temperature_has_the_least_log_loss():
    g = torch.Generator().manual_seed(0)
    for truth in (0.03, 1.0, 40.0):
        outputs = torch.randn(4000, 5, generator=g, dtype=torch.float64)
        labels = torch.multinomial((outputs / truth).softmax(dim=1), 1, generator=g).flatten()
        found = calibrated(outputs, labels)
        losses = [
            float(torch.nn.functional.cross_entropy(outputs / T, labels))
            for T in (found / 1.1, found, found * 1.1)
        ]
        assert losses[1] <= min(losses)
        if truth == 1.0:
            assert found == pytest.approx(1.0, rel=0.1)


def test_few_samples_that_are_all_right_make_nothing_certain():
    outputs = torch.tensor([[2.0, 0, 0], [0, 1.5, 0], [0.2, 0, 0.9], [3.0, 0, 1]])
    T = calibrated(outputs, torch.tensor([0, 1, 2, 0]))
    assert 0.5 < float((outputs / T).softmax(dim=1).amax(dim=1).min()) < 0.9
    assert calibrated(1e6 * outputs, torch.tensor([0, 1, 2, 0])) == pytest.approx(1e6 * T, rel=1e-3)


def test_weights_are_multiplicities():
    g = torch.Generator().manual_seed(0)
    outputs = torch.randn(30, 3, generator=g)
    labels = torch.multinomial(outputs.softmax(dim=1), 1, generator=g)[:, 0]
    counts = torch.randint(1, 4, (30,), generator=g)
    repeated = calibrated(outputs.repeat_interleave(counts, 0), labels.repeat_interleave(counts))
    assert calibrated(outputs, labels, counts[:, None]) == pytest.approx(repeated, rel=1e-9)


def test_the_probabilities_of_a_run_are_calibrated_on_its_validation_part(tmp_path):
    config = configured(*TINY, "method=bp", "network.start=he", "epochs=5", "data.validation=0.3")
    run(config, tmp_path)
    data = load(config.data, seed=config.seed, device=torch.device("cpu"), dtype=torch.float32)
    model = nmfdnn.load(tmp_path)
    outputs = model.network.outputs(data.validation.X)
    assert model.temperature == pytest.approx(calibrated(outputs, data.validation.labels), rel=1e-6)


def test_the_probabilities_of_a_weighted_run_are_calibrated_with_the_weights(tmp_path):
    weighted = "data.class_weight={0:9}"
    config = configured(*TINY, "method=bp", "network.start=he", "epochs=5", "data.validation=0.3", weighted)
    run(config, tmp_path)
    data = load(config.data, seed=config.seed, device=torch.device("cpu"), dtype=torch.float32)
    labels, weights = data.validation.labels, data.validation.weights
    assert weights[:, 0].tolist() == [9.0 if label == 0 else 1.0 for label in labels]
    model = nmfdnn.load(tmp_path)
    outputs = model.network.outputs(data.validation.X)
    assert model.temperature == pytest.approx(calibrated(outputs, labels, weights), rel=1e-6)
    assert model.temperature != pytest.approx(calibrated(outputs, labels), rel=1e-3)


def test_models_of_former_versions_are_read(tmp_path):
    W = [torch.rand(5, 3), torch.rand(4, 2)]
    state = {"weights": W, "bias": True, "epoch": 4, "classes": ["x", "y"], "image_shape": None}
    torch.save({**state, "preprocessing": Preprocessing(shape=(4,)).state()}, tmp_path / "network.pt")
    X = np.random.default_rng(0).random((6, 4)).astype(np.float32)
    expected = np.maximum(X @ W[0][:-1].numpy() + W[0][-1].numpy(), 0) @ W[1][:-1].numpy() + W[1][-1].numpy()
    np.testing.assert_allclose(nmfdnn.load(tmp_path).decision_function(X), expected, rtol=1e-5)


def test_a_run_leaves_one_file_with_all_that_predicting_needs(tmp_path, monkeypatch):
    run(configured(*TINY, "method=bp", "network.start=he", "epochs=1"), tmp_path, text_of(*TINY))
    alone = tmp_path / "elsewhere.safetensors"
    shutil.copy(tmp_path / "model.safetensors", alone)
    monkeypatch.setattr("torch.load", None)  # nor is anything unpickled
    model, X = nmfdnn.load(alone), np.random.default_rng(0).random((4, 12))
    assert model.predict_proba(X).shape == (4, 3)
    np.testing.assert_array_equal(nmfdnn.load(tmp_path).predict_proba(X), model.predict_proba(X))
    assert model.information["configuration"] == text_of(*TINY)
    assert model.information["versions"]["nmfdnn"] == nmfdnn.__version__
    with safetensors.safe_open(alone, framework="numpy") as file:  # any reader finds this
        stored = json.loads(file.metadata()["nmfdnn"])
        first = file.get_tensor("weights.0")
    assert [layer["units"] for layer in stored["layers"]] == [16, 8, 3]
    assert stored["targets"]["names"] == list(model.classes)
    np.testing.assert_array_equal(first, model.network.weights[0])


def test_what_earlier_versions_wrote_is_written_too_and_read(tmp_path):
    settings = configured(*TINY, "method=bp", "network.start=he", "epochs=1")
    run(settings, tmp_path)
    X = np.random.default_rng(0).random((4, 12))
    expected = nmfdnn.load(tmp_path).decision_function(X)
    state = torch.load(tmp_path / "network.pt", weights_only=True)
    assert [W.shape for W in state["weights"]] == [W.shape for W in nmfdnn.load(tmp_path).network.weights]
    (tmp_path / "model.safetensors").unlink()  # as if the run were an old one
    np.testing.assert_array_equal(nmfdnn.load(tmp_path).decision_function(X), expected)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.*")}
    run(replace(settings, resume=True), tmp_path)  # it has ended
    assert before == {path.name: path.read_bytes() for path in tmp_path.glob("*.*")}
    run(replace(settings, resume=True, epochs=2), tmp_path)
    assert nmfdnn.load(tmp_path / "model.safetensors").information["epoch"] == 2


@pytest.mark.parametrize("name", ["network.pt", "mine.safetensors"])
def test_what_is_no_model_is_refused(name, tmp_path):
    with pytest.raises(CheckpointError, match="the run has not ended; continue it with nmfdnn resume=true"):
        nmfdnn.load(tmp_path)
    with pytest.raises(CheckpointError, match="is no file"):
        nmfdnn.load(tmp_path / "nothing")
    path = tmp_path / name
    made().save(path)
    good = path.read_bytes()
    for content in (b"", b"garbage" * 99, good[: len(good) // 2], good[:-4]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged, or no model of nmfdnn"):
            nmfdnn.load(path)


def test_foreign_and_later_files_are_refused(tmp_path):
    path = tmp_path / "mine.safetensors"
    safetensors.torch.save_file({"W": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match="damaged, or no model of nmfdnn"):
        nmfdnn.load(path)
    made().save(path)
    path.write_bytes(path.read_bytes().replace(b'\\"format\\": 2', b'\\"format\\": 9'))
    with pytest.raises(CheckpointError, match="update nmfdnn to read it"):
        nmfdnn.load(path)
    torch.save({"weights": [torch.ones(2, 2)], "bias": False}, tmp_path / "network.pt")
    with pytest.raises(CheckpointError, match="weights alone, as the first versions of nmfdnn left them"):
        nmfdnn.load(tmp_path)
    torch.save([1, 2], tmp_path / "network.pt")
    with pytest.raises(CheckpointError, match="damaged, or no model of nmfdnn"):
        nmfdnn.load(tmp_path)


def test_former_places_of_modules_are_the_same_modules():
    from nmfdnn import checkpoint
    from nmfdnn.runs import checkpoint as present
    from nmfdnn.runs import tracking
    from nmfdnn.tracking import weights_figure

    assert checkpoint is present
    assert weights_figure is tracking.weights_figure


def test_importing_the_package_is_light():
    code = "import sys, nmfdnn; assert 'torch' not in sys.modules; nmfdnn.load; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        nmfdnn.nothing  # noqa: B018
