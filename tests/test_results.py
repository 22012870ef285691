"""From the networks of a training to what is reported of it: every figure is computed a second time here.

The training is scripted: its network after each epoch is known, the lowest validation error is neither the
first nor the last nor where another part has its lowest, and no two epochs have the same error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from runs import TINY, configured
from test_kills import events

from nmfdnn.data import load
from nmfdnn.model import load as load_model
from nmfdnn.network import Network
from nmfdnn.records import Record, read_metrics, read_summary
from nmfdnn.runs import experiment
from nmfdnn.runs.progress import Progress
from nmfdnn.runs.results import warnings
from nmfdnn.source import Memory
from nmfdnn.training import METHODS, Epoch

EPOCHS, BEST = 5, 2
SETTINGS = [*TINY, "method=bp", "network.start=he", f"epochs={EPOCHS}"]
PARTS = ("train", "validation", "test")


def errors(weights: list[np.ndarray], data) -> dict[str, float]:
    """Errors in % of a network with bias rows, of each part of the data, in NumPy."""
    found = {}
    for part in PARTS:
        split = getattr(data, part)
        Z = split.X.double().numpy()
        for number, W in enumerate(weights, start=1):
            Z = Z @ W[:-1] + W[-1]
            if number < len(weights):
                Z = np.maximum(Z, 0)
        wrong = sum(int(row.argmax()) != int(label) for row, label in zip(Z, split.labels, strict=True))
        found[part] = 100 * wrong / len(split)
    return found


def network(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in ((13, 16), (17, 8), (9, 3))]


def script(data) -> list[list[np.ndarray]]:
    """Networks of epochs 0 … EPOCHS: the lowest validation error at BEST, the lowest others elsewhere."""
    networks = {seed: network(seed) for seed in range(300)}
    found = {seed: errors(weights, data) for seed, weights in networks.items()}
    for best, of_best in found.items():
        worse = [seed for seed, other in found.items() if other["validation"] > of_best["validation"]]
        low_test = [seed for seed in worse if found[seed]["test"] < of_best["test"]]
        low_train = [seed for seed in worse if found[seed]["train"] < of_best["train"]]
        if low_test and low_train and low_test[0] != low_train[-1] and len(worse) > 50:
            others = [seed for seed in worse if seed not in (low_test[0], low_train[-1])]
            order = [others[0], low_test[0], best, others[1], low_train[-1], others[2]]
            if all(len({found[seed][part] for seed in order}) == len(order) for part in PARTS):
                return [networks[seed] for seed in order]
    raise AssertionError("no such script")


@dataclass
class Scripted:
    """A trainer whose network after each epoch is written down."""

    networks: list[list[np.ndarray]]
    done: int = 0
    order = SimpleNamespace(parts=1)

    @property
    def network(self) -> Network:
        return Network([torch.tensor(W, dtype=torch.float32) for W in self.networks[self.done]], bias=True)

    def epoch(self) -> Epoch:
        self.done += 1
        return Epoch(seconds=2.0**self.done, learning_rate=self.done / 8, residuals=[self.done / 4, 0.5])

    def objective(self, outputs, labels, weights=None) -> float:
        assert len(outputs) == len(labels) in (144, 160)  # the training part
        return self.done + 0.5

    def state(self):
        return {"done": self.done}

    def load_state(self, state):
        self.done = state["done"]


@pytest.fixture(scope="module")
def data():
    config = configured(*SETTINGS)
    return load(config.data, seed=config.seed, device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(scope="module")
def networks(data):
    return script(data)


def play(networks, folder, monkeypatch, *overrides: str) -> dict:
    scripted = replace(METHODS["bp"], make=lambda *_: Scripted(networks))
    monkeypatch.setitem(METHODS, "bp", scripted)
    return experiment.run(configured(*SETTINGS, *overrides), folder)


@pytest.fixture
def folder(networks, tmp_path, monkeypatch):
    play(networks, tmp_path, monkeypatch)
    return tmp_path


def reported(of: dict) -> dict[str, float]:
    return {part: of[f"{part}_error"] for part in PARTS}


def test_the_script_tells_everything_apart(networks, data):
    found = [errors(weights, data) for weights in networks]
    for part in PARTS:
        assert len({one[part] for one in found}) == EPOCHS + 1, part
    assert min(range(EPOCHS + 1), key=lambda epoch: found[epoch]["validation"]) == BEST
    assert BEST not in {min(range(EPOCHS + 1), key=lambda e: found[e][part]) for part in ("train", "test")}


def test_every_row_of_the_metrics_is_that_of_its_epoch(folder, networks, data):
    rows = read_metrics(folder)
    assert [row["epoch"] for row in rows] == list(range(EPOCHS + 1))
    for epoch, (row, weights) in enumerate(zip(rows, networks, strict=True)):
        assert reported(row) == pytest.approx(errors(weights, data))
        assert row["objective"] == epoch + 0.5
        assert row["learning_rate"] == epoch / 8
        assert row["train_seconds"] == sum(2.0**past for past in range(1, epoch + 1))
        assert [row.get("residual_1"), row.get("residual_2")] == ([epoch / 4, 0.5] if epoch else [None, None])
        for layer, W in enumerate(weights, start=1):
            assert row[f"weight_norm_{layer}"] == pytest.approx(np.sqrt((W**2).sum()))


def test_the_weights_of_the_lowest_validation_error_are_kept(folder, networks):
    kept = load_model(folder)
    assert kept.information["epoch"] == BEST
    for W, expected in zip(kept.network.weights, networks[BEST], strict=True):
        np.testing.assert_array_equal(W.numpy(), expected.astype(np.float32))


def test_the_summary_reports_the_kept_weights_and_the_last(folder, networks, data):
    summary = read_summary(folder)
    stored = [W.double().numpy() for W in load_model(folder).network.weights]
    assert reported(summary) == pytest.approx(errors(stored, data))
    assert summary["best_validation_epoch"] == BEST
    assert summary["last"]["epoch"] == summary["epochs_trained"] == summary["epochs"] == EPOCHS
    assert reported(summary["last"]) == pytest.approx(errors(networks[-1], data))
    assert reported(summary["last"]) != reported(summary)
    assert summary["train_seconds"] == sum(2.0**past for past in range(1, EPOCHS + 1))
    assert summary["parameters"] == 13 * 16 + 17 * 8 + 9 * 3
    assert summary["layers"] == [12, 16, 8, 3]
    assert summary["train_samples"] == len(data.train)


def test_tensorboard_shows_the_same(folder, networks, data):
    shown = events(folder)
    expected = [errors(weights, data) for weights in networks]
    for part in PARTS:
        curve = shown[f"error/{part}"]
        assert [step for step, _ in curve] == list(range(EPOCHS + 1))
        assert [value for _, value in curve] == pytest.approx([one[part] for one in expected])
        ((step, value),) = shown[f"hparam/{part}_error"]
        assert (step, value) == (EPOCHS, pytest.approx(expected[BEST][part]))


def test_pictures_are_of_the_kept_weights(networks, data, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("nmfdnn.views.figures.confusion_figure", lambda *arguments: drawn.append(arguments))
    play(networks, tmp_path, monkeypatch)
    ((labels, predicted, classes),) = drawn
    assert torch.equal(labels, data.test.labels)
    assert 100 * float((labels != predicted).double().mean()) == errors(networks[BEST], data)["test"]
    assert classes == data.classes


def test_without_validation_the_last_weights_are_reported(networks, tmp_path, monkeypatch):
    summary = play(networks, tmp_path, monkeypatch, "data.validation=0")
    kept = load_model(tmp_path)
    assert kept.information["epoch"] == summary["last"]["epoch"] == EPOCHS
    assert torch.equal(kept.network.weights[0], torch.tensor(networks[-1][0], dtype=torch.float32))
    assert {summary[key] for key in ("validation_error", "best_validation_epoch")} == {None}
    assert summary["test_error"] == summary["last"]["test_error"]


@pytest.mark.parametrize("part", PARTS)
def test_what_is_kept_depends_on_the_validation_part_alone(networks, data, part, tmp_path, monkeypatch):
    """Labels of one part are shuffled: only those of the validation part may change the choice."""
    split = getattr(data, part)
    other = replace(data, **{part: Memory(split.X, (split.labels + 1) % 3)})
    monkeypatch.setattr(experiment, "load", lambda *_, **__: other)
    summary = play(networks, tmp_path, monkeypatch)
    by_hand = [errors(weights, other)["validation"] for weights in networks]
    best = max(epoch for epoch, error in enumerate(by_hand) if error == min(by_hand))
    assert load_model(tmp_path).information["epoch"] == summary["best_validation_epoch"] == best
    assert (best == BEST) == (part != "validation")
    assert reported(summary) == pytest.approx(errors(networks[best], other))


@pytest.mark.parametrize("stop", range(EPOCHS))
def test_the_best_so_far_survives_a_break(networks, stop, folder, tmp_path_factory, monkeypatch):
    broken = tmp_path_factory.mktemp("broken")
    save = experiment.checkpoint.save

    def save_then_stop(folder, state):
        save(folder, state)
        if state["trainer"]["done"] == stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(experiment.checkpoint, "save", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        play(networks, broken, monkeypatch)
    monkeypatch.setattr(experiment.checkpoint, "save", save)
    play(networks, broken, monkeypatch, "resume=true")
    assert reported(read_summary(broken)) == reported(read_summary(folder))
    assert read_metrics(broken) == read_metrics(folder)
    kept = [load_model(path) for path in (folder, broken)]
    assert kept[0].information["epoch"] == kept[1].information["epoch"] == BEST
    assert all(map(torch.equal, kept[0].network.weights, kept[1].network.weights))


def test_the_model_holds_what_predicting_needs(folder, data):
    kept = load_model(folder)
    assert kept.network.bias is True
    assert kept.classes == data.classes
    assert kept.image_shape is None


@pytest.mark.parametrize("kind", ["standard", "minmax", "none"])
def test_the_model_predicts_from_the_numbers_of_the_file(kind, tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(300) % 3
    X = (np.eye(3)[y] + 0.4 * rng.random((300, 3))) * [1, 3, 0.5] + ([50, -7, 0] if kind != "none" else 0)
    np.savez(tmp_path / "mine.npz", X=X[:200], y=y[:200], X_test=X[200:], y_test=y[200:])
    settings = ["data=arrays", f"data.path={tmp_path / 'mine.npz'}", f"data.standardize={kind}"]
    settings += ["method=bp", "bp.learning_rate=0.02", "network.hidden=[9]", "network.start=he", "epochs=3"]
    summary = experiment.run(configured(*settings), tmp_path)
    kept = load_model(tmp_path)
    shift, scale = (T.double().numpy() for T in (kept.preprocessing.offset, kept.preprocessing.scale))
    Z = (X[200:] - shift) / scale
    W = [W.double().numpy() for W in kept.network.weights]
    Z = np.maximum(Z @ W[0][:-1] + W[0][-1], 0) @ W[1][:-1] + W[1][-1]
    named = np.array(kept.classes)[Z.argmax(axis=1)].astype(int)
    assert summary["test_error"] == pytest.approx(100 * (named != y[200:]).mean())
    assert summary["test_error"] < 60


def progress(*validation: float | None, train: float = 10.0) -> Progress:
    found = Progress()
    for epoch, error in enumerate(validation):
        found.add(Record(epoch, train, error, 50.0, 1.0, 0.0, 0.0), [torch.tensor(float(epoch))])
    return found


@pytest.mark.parametrize(
    ("validation", "kept", "stale"),
    [
        ((5.0, 3.0, 4.0), 1, 1),
        ((3.0, 3.0, 4.0), 1, 2),
        ((3.0, 3.0, 3.0), 2, 2),
        ((0.0, 1.0, 2.0), 0, 2),
        ((4.0, 2.0, 3.0, 2.0, 5.0), 3, 3),
        ((None, None, None), 2, 0),
    ],
)
def test_the_latest_of_equal_errors_is_kept_and_an_equal_one_is_no_progress(validation, kept, stale):
    found = progress(*validation)
    assert found.kept_epoch == found.kept.epoch == kept
    assert float(found.weights[0]) == kept
    assert found.stale_epochs == stale
    again = Progress.from_state(found.state())
    assert (again.kept, again.last, again.stale_epochs) == (found.kept, found.last, found.stale_epochs)


TRAIN = Memory(torch.zeros(100, 1), torch.tensor([0] * 60 + [1] * 40))


@pytest.mark.parametrize(
    ("validation", "train", "words"),
    [
        ((20.0, 10.0, 9.0), 10.0, []),
        ((20.0, 10.0, 14.0), 10.0, []),
        ((2.8, 61.0), 10.0, ["before any training", "rose from 2.80 % at epoch 0"]),
        ((20.0, 2.8, 61.0), 10.0, ["rose from 2.80 % at epoch 1, which is kept, to 61.00 %"]),
        ((0.0, 0.0, 1.0), 10.0, []),
        ((1.0, 2.0, 3.0), 10.0, ["before any training"]),
        ((50.0, 39.0, 38.0), 10.0, ["validation error of 38.00 % is hardly below 40.00 %"]),
        ((50.0, 30.0), 39.0, []),
        ((None, None), 39.0, ["training error of 39.00 % is hardly below 40.00 %"]),
        ((None, None), 20.0, []),
        ((39.0,), 39.0, []),
    ],
)
def test_a_doubtful_result_is_said_to_be_one(validation, train, words):
    found = warnings("bp", progress(*validation, train=train), TRAIN, held_out=1000)
    assert len(found) == len(words)
    for warning, part in zip(found, words, strict=True):
        assert part in warning
        assert "lower bp.learning_rate" in warning
        assert "\n" not in warning


def test_two_samples_of_a_small_validation_part_are_no_rise():
    for risen, count in ((100 / 7, 0), (150 / 7, 1)):
        assert len(warnings("bp", progress(20.0, 0.0, risen, train=9.0), TRAIN, held_out=14)) == count


def test_a_warning_is_logged_and_in_the_summary(networks, tmp_path, monkeypatch, caplog):
    rising = [networks[BEST], *(networks[-1] for _ in range(EPOCHS))]
    summary = play(rising, tmp_path, monkeypatch)
    assert summary["best_validation_epoch"] == 0
    assert "before any training" in summary["warnings"][0]
    assert all(warning in caplog.text for warning in summary["warnings"])
