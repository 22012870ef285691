import io
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.backend_context import _sort_and_reduce_to_hparams_limit

from nmfdnn.data import Dataset, Digits
from nmfdnn.network import Convolution, Dense, Network, dense, random_weights
from nmfdnn.records import Record
from nmfdnn.runs import tracking
from nmfdnn.runs.config import Config
from nmfdnn.runs.results import hyperparameters
from nmfdnn.runs.tracking import EVENTS, FIRST, Tracker, read_pictures, weights_figure
from nmfdnn.source import Memory
from nmfdnn.targets import Classes
from nmfdnn.training import PretrainedLayer, Start
from nmfdnn.views import figures

HPARAMS = {"method": "nmf", "nmf.omega": 0.5, "network.bias": True, "bp.learning_rate": None}
RECONSTRUCTION = [0.5, 0.25, 0.125, 0.0625]


def dataset(image_shape: tuple[int, ...] | None, features: int) -> Dataset:
    generator = torch.Generator().manual_seed(0)

    def split(n: int) -> Memory:
        return Memory(torch.rand(n, features, generator=generator), torch.arange(n) % 3)

    classes = ("ankle boot", "bag", "coat")
    return Dataset("tiny", split(12), None, split(9), Classes(classes), image_shape)


def network(features: int, bias: bool = True) -> Network:
    generator = torch.Generator().manual_seed(1)
    return Network(random_weights(dense(features, 5, 3), bias, "he", generator, like=torch.zeros(1)), bias)


def layer(features: int, bias: bool = True) -> PretrainedLayer:
    return PretrainedLayer(network(features, bias).weights[0], torch.rand(5, features), RECONSTRUCTION)


def start(layers: list[PretrainedLayer], features: int = 16, bias: bool = True) -> Start:
    return Start(network(features, bias), 0.0, layers)


def record(epoch: int, validation: float | None = 4.0, offset: float = 0.0) -> Record:
    return Record(
        epoch=epoch,
        train_error=10.0 - epoch + offset,
        validation_error=validation,
        test_error=20.0 - epoch + offset,
        objective=0.5,
        train_seconds=1.5 * epoch,
        learning_rate=0.75,
        residuals=[0.1, 0.2],
        weight_norms=[3.0, 4.0],
    )


def end(tracker: Tracker, net: Network, data: Dataset, *arguments: Any) -> None:
    """With the outputs that this network has for the test part."""
    tracker.end(net, data, net.outputs(data.test.X), *arguments)


def drawn_by(monkeypatch: pytest.MonkeyPatch, name: str, draw: Any) -> None:
    """Put something in the place of a function that draws, for those that call it."""
    for module in (tracking, figures):
        monkeypatch.setattr(module, name, draw, raising=False)


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str((folder / EVENTS).parent), size_guidance={"scalars": 0, "images": 0}).Reload()


def curve(events: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(tag)]


def pictures(events: EventAccumulator) -> dict[str, np.ndarray]:
    return {
        tag: imread(io.BytesIO(events.Images(tag)[-1].encoded_image_string))
        for tag in events.Tags()["images"]
    }


def track(folder: Path, data: Dataset, layers: list[PretrainedLayer], validation: float | None = 4.0) -> None:
    with Tracker(folder) as tracker:
        tracker.start("method: nmf\nepochs: 2\n", data, start(layers, data.features))
        for epoch in range(3):
            tracker.epoch(record(epoch, validation))
        end(tracker, network(data.features), data, 2, HPARAMS, {"test_error": 18.5, "train_seconds": 3.0})


def test_a_run_can_be_read_back(tmp_path: Path) -> None:
    track(tmp_path, dataset((4, 4), 16), [layer(16)])
    events = read(tmp_path)
    assert curve(events, "error/train") == [(0, 10), (1, 9), (2, 8)]
    assert curve(events, "error/validation") == [(0, 4), (1, 4), (2, 4)]
    assert curve(events, "error/test") == [(0, 20), (1, 19), (2, 18)]
    assert curve(events, "objective/train")[2] == (2, 0.5)
    assert curve(events, "residual/layer_2")[1] == (1, pytest.approx(0.2))
    assert curve(events, "weight_norm/layer_1")[0] == (0, 3)
    assert curve(events, "time/train_seconds") == [(0, 0), (1, 1.5), (2, 3)]
    assert curve(events, "optimisation/learning_rate")[1] == (1, 0.75)
    assert curve(events, "pretraining/reconstruction_layer_1") == list(enumerate(RECONSTRUCTION, start=1))
    (text,) = events.Tensors("setup/configuration/text_summary")
    assert text.tensor_proto.string_val[0].decode() == "```yaml\nmethod: nmf\nepochs: 2\n```"


def test_pictures_are_images_of_a_sensible_size_with_content(tmp_path: Path) -> None:
    track(tmp_path, dataset((4, 4), 16), [layer(16)])
    found = pictures(read(tmp_path))
    assert set(found) == {
        "images/nmf_parts",
        "images/reconstructions",
        "images/first_layer_weights",
        "images/misclassified",
        "images/confusion_matrix",
    }
    for tag, pixels in found.items():
        assert 150 < pixels.shape[0] < 1600, tag
        assert 500 < pixels.shape[1] < 1600, tag
        assert np.ptp(pixels) > 0.5, tag


def test_plain_vectors_give_no_pictures_but_the_confusion_matrix(tmp_path: Path) -> None:
    track(tmp_path, dataset(None, 7), [layer(7)], validation=None)
    events = read(tmp_path)
    assert list(pictures(events)) == ["images/confusion_matrix"]
    assert "error/validation" not in events.Tags()["scalars"]
    assert "pretraining/reconstruction_layer_1" in events.Tags()["scalars"]


def test_a_start_without_pretraining(tmp_path: Path) -> None:
    track(tmp_path, dataset((3, 4, 4), 48), [])
    events = read(tmp_path)
    assert set(pictures(events)) == {
        "images/first_layer_weights",
        "images/misclassified",
        "images/confusion_matrix",
    }
    assert not [tag for tag in events.Tags()["scalars"] if tag.startswith("pretraining/")]


def test_hyperparameters_are_one_row_of_the_run_itself(tmp_path: Path) -> None:
    track(tmp_path, dataset(None, 7), [])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / EVENTS]
    events = read(tmp_path)
    content = events.PluginTagToContent("hparams")
    start = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG])
    values = {key: getattr(value, value.WhichOneof("kind")) for key, value in start.hparams.items()}
    assert values == {"method": "nmf", "nmf.omega": 0.5, "network.bias": True}
    experiment = metadata.parse_experiment_plugin_data(content[metadata.EXPERIMENT_TAG])
    assert {info.name for info in experiment.hparam_infos} == set(HPARAMS)
    metrics = {info.name.tag for info in experiment.metric_infos}
    assert metrics == {"hparam/test_error", "hparam/train_seconds"}
    assert curve(events, "hparam/test_error") == [(2, 18.5)]
    assert metadata.SESSION_END_INFO_TAG in content


@pytest.mark.parametrize("method", ["nmf", "jacobi", "bp"])
def test_the_columns_that_are_ticked_say_which_run_it_is(tmp_path: Path, method: str) -> None:
    hparams = hyperparameters(Config(Digits(), method=method))
    with Tracker(tmp_path) as tracker:
        end(tracker, network(7), dataset(None, 7), 2, hparams, {"train_error": 1.0, "test_error": 18.5})
    content = read(tmp_path).PluginTagToContent("hparams")
    experiment = metadata.parse_experiment_plugin_data(content[metadata.EXPERIMENT_TAG])
    _sort_and_reduce_to_hparams_limit(experiment)  # what TensorBoard does before it shows them
    names = [info.name for info in experiment.hparam_infos]
    assert tuple(names[:5]) == FIRST
    assert {"data", "experiment", "method", "seed"} < set(FIRST) < set(hparams) == set(names)
    assert [info.display_name for info in experiment.metric_infos] == ["test error", "train error"]


def test_one_chart_overlays_the_errors(tmp_path: Path) -> None:
    track(tmp_path, dataset(None, 7), [])
    events = read(tmp_path)
    (text,) = events.Tensors("custom_scalars__config__")
    (category,) = Layout.FromString(text.tensor_proto.string_val[0]).category
    (chart,) = category.chart
    (pattern,) = chart.multiline.tag
    shown = [tag for tag in events.Tags()["scalars"] if re.match(pattern, tag)]
    assert shown == ["error/train", "error/validation", "error/test"]


def test_every_tag_says_what_it_is(tmp_path: Path) -> None:
    track(tmp_path, dataset((4, 4), 16), [layer(16)])
    events = read(tmp_path)
    tags = events.Tags()
    shown = [tag for kind in ("scalars", "images", "tensors") for tag in tags[kind]]
    assert len(shown) > 15
    for tag in shown:
        if tag != "custom_scalars__config__":
            assert events.SummaryMetadata(tag).summary_description, tag


def card(folder: Path) -> str:
    (text,) = read(folder).Tensors("result/text_summary")
    return text.tensor_proto.string_val[0].decode()


def test_a_card_has_the_result_the_command_and_what_is_doubtful(tmp_path: Path) -> None:
    with Tracker(tmp_path) as tracker:
        command = "nmfdnn 'data.path=a\nb' seed=2"
        end(tracker, network(7), dataset(None, 7), 2, {}, {"test_error": 18.5}, command, ["chance\nlevel"])
    assert "| test error | 18.5 |" in card(tmp_path)
    assert "\n\n    nmfdnn 'data.path=a\n    b' seed=2" in card(tmp_path)
    assert "\n- **warning**: chance level\n" in card(tmp_path)


def test_a_card_without_a_command_names_none(tmp_path: Path) -> None:
    track(tmp_path, dataset(None, 7), [])
    assert "Repeat" not in card(tmp_path)


def test_pictures_can_be_read_back(tmp_path: Path) -> None:
    assert read_pictures(tmp_path) == {}
    track(tmp_path, dataset((4, 4), 16), [layer(16)])
    events, found = read(tmp_path), read_pictures(tmp_path)
    assert found == {tag: events.Images(tag)[-1].encoded_image_string for tag in events.Tags()["images"]}
    assert len(found) == 5


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-30], lambda b: b[:-50] + b"x" * 50, lambda b: b + b"\xff" * 99]
)
def test_what_precedes_a_damaged_event_is_read(tmp_path: Path, damage) -> None:
    track(tmp_path, dataset((4, 4), 16), [layer(16)])
    path = tmp_path / EVENTS
    path.write_bytes(damage(path.read_bytes()))
    assert len(read_pictures(tmp_path)) == 5


@pytest.mark.parametrize("content", [b"", b"\xff" * 200, b"\0" * 200, b"text" * 100, b"\x10" + b"\0" * 60])
def test_any_file_in_the_place_of_events_has_no_pictures(tmp_path: Path, content: bytes) -> None:
    (tmp_path / EVENTS).parent.mkdir()
    (tmp_path / EVENTS).write_bytes(content)
    assert read_pictures(tmp_path) == {}


def test_parts_are_in_the_order_of_what_they_contribute(tmp_path: Path, monkeypatch) -> None:
    data, seen = dataset((2, 2), 4), []
    monkeypatch.setattr(
        "nmfdnn.runs.tracking.parts_figure", lambda U, shape: seen.append(U) or weights_figure(U, shape)
    )
    # The second unit has the smaller part and the larger code; the third is never active.
    W, U = torch.tensor([1.0, 30.0, -1.0]).expand(4, 3), torch.tensor([[10.0], [1.0], [99.0]]).expand(3, 4)
    with Tracker(tmp_path) as tracker:
        tracker.start("", data, Start(Network([W, torch.ones(3, 3)]), 0.0, [PretrainedLayer(W, U, [])]))
    (shown,) = seen
    assert shown.norm(dim=1).argsort(descending=True).tolist() == [1, 0, 2]
    assert shown[2].norm() == 0


def test_a_killed_run_keeps_its_curves(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    tracker.epoch(record(0))
    tracker.epoch(record(1))
    assert curve(read(tmp_path), "error/test") == [(0, 20), (1, 19)]  # neither closed nor ended
    tracker.__exit__(None, None, None)


def test_resuming_replaces_what_came_later_and_nothing_else(tmp_path: Path) -> None:
    data = dataset((4, 4), 16)
    with Tracker(tmp_path) as tracker:
        tracker.start("epochs: 2", data, start([layer(16)]))
        for epoch in range(2):
            tracker.epoch(record(epoch))
        size = tracker.size()  # the checkpoint is of epoch 1
        for epoch in (2, 3):
            tracker.epoch(record(epoch))
        end(tracker, network(16), data, 3, HPARAMS, {"test_error": 18.5})
    with Tracker(tmp_path, size) as tracker:
        for epoch in (2, 3):
            tracker.epoch(record(epoch, offset=0.5))
        end(tracker, network(16), data, 3, HPARAMS, {"test_error": 17.5})
    events = read(tmp_path)
    assert curve(events, "error/test") == [(0, 20), (1, 19), (2, 18.5), (3, 17.5)]
    assert curve(events, "hparam/test_error") == [(3, 17.5)]
    assert curve(events, "pretraining/reconstruction_layer_1") == list(enumerate(RECONSTRUCTION, start=1))
    assert len(events.Tensors("setup/configuration/text_summary")) == 1
    assert [image.step for image in events.Images("images/nmf_parts")] == [0]
    assert [image.step for image in events.Images("images/confusion_matrix")] == [3]


def test_a_start_without_a_checkpoint_forgets_everything(tmp_path: Path) -> None:
    track(tmp_path, dataset((4, 4), 16), [layer(16)])
    with Tracker(tmp_path) as tracker:
        tracker.start("epochs: 1", dataset((4, 4), 16), start([layer(16)]))
    events = read(tmp_path)
    assert set(events.Tags()["images"]) == {"images/nmf_parts", "images/reconstructions"}
    assert [len(events.Images(tag)) for tag in events.Tags()["images"]] == [1, 1]
    assert curve(events, "pretraining/reconstruction_layer_1") == list(enumerate(RECONSTRUCTION, start=1))


def test_what_was_recorded_is_on_the_disk_at_once_and_no_thread_is_needed(tmp_path: Path) -> None:
    before = threading.active_count()
    with Tracker(tmp_path) as tracker:
        for epoch in range(3):
            tracker.epoch(record(epoch))
            assert curve(read(tmp_path), "error/train")[-1] == (epoch, 10 - epoch)
            assert tracker.size() == (tmp_path / EVENTS).stat().st_size
        assert threading.active_count() == before


@pytest.mark.parametrize("figure", ["parts_figure", "reconstruction_figure", "confusion_figure"])
def test_a_picture_that_cannot_be_drawn_is_left_out(figure, tmp_path: Path, monkeypatch, caplog) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("too many pixels")

    drawn_by(monkeypatch, figure, fail)
    track(tmp_path, dataset((4, 4), 16), [layer(16)])
    assert len(pictures(read(tmp_path))) == 4
    assert "left out: MemoryError: too many pixels" in caplog.text


@pytest.mark.parametrize("bias", [False, True])
def test_reconstruction_errors_are_those_of_the_autoencoder(tmp_path: Path, bias: bool, monkeypatch) -> None:
    data, given = dataset((4, 4), 16), layer(16, bias)
    seen = []
    monkeypatch.setattr(
        "nmfdnn.runs.tracking.reconstruction_figure",
        lambda X, fit, shape: seen.append((X, fit)) or weights_figure(X, shape),
    )
    with Tracker(tmp_path) as tracker:
        tracker.start("", data, start([given], bias=bias))
    ((X, fit),) = seen
    inputs = torch.cat([X, torch.ones(len(X), 1)], dim=1) if bias else X
    torch.testing.assert_close(fit, (inputs @ given.W).clamp(min=0) @ given.U)
    torch.testing.assert_close(X, data.test.X[[0, 1, 3, 4, 6, 8]])  # from the first to the last


@pytest.mark.parametrize("shape", [(8, 6), (3, 8, 6)], ids=["grey", "colours"])
def test_convolutions_are_drawn_as_kernels_and_samples_as_wholes(tmp_path: Path, shape, monkeypatch) -> None:
    """Parts and weights are as large as kernels; reconstructions put the patches' together."""
    channels, seen, original = shape[0] if len(shape) > 2 else 1, {}, weights_figure
    for name in ("parts_figure", "weights_figure", "reconstruction_figure"):

        def draw(*arguments: object, name: str = name) -> object:
            seen[name] = arguments
            return original(dataset((4, 4), 16).train.X, (4, 4))

        drawn_by(monkeypatch, name, draw)
    data = dataset(shape, 48 * channels)
    layers = (Convolution(8, 6, channels, 5, 3, planar=True), Dense(6 * 4 * 5, 3))
    weights = random_weights(layers, True, "he", torch.Generator().manual_seed(1), torch.zeros(1))
    net = Network(weights, True, layers)
    U = torch.eye(9 * channels)[:5]
    with Tracker(tmp_path) as tracker:
        tracker.start("", data, Start(net, 0.0, [PretrainedLayer(weights[0], U, RECONSTRUCTION)]))
        end(tracker, net, data, 2, HPARAMS, {"test_error": 18.5})
    parts, size = seen["parts_figure"]
    assert size == (channels, 3, 3)
    # The second part is the second number of a patch: of one channel its second pixel, else its first.
    place = (0, 0, 1) if channels == 1 else (1, 0, 0)
    assert parts[1].view(size)[place] == parts[1].sum() > 0
    rows, size = seen["weights_figure"]
    assert (rows.shape, size) == ((5, 9 * channels), (channels, 3, 3))
    X, fit, size = seen["reconstruction_figure"]
    assert (fit.shape, size) == (X.shape, shape)
    codes = (layers[0].rows(X) @ weights[0][:-1]).clamp(min=0)
    torch.testing.assert_close(fit, layers[0].fold(codes @ U))


@pytest.mark.parametrize("error", [MemoryError(), ValueError("no such colour"), RuntimeError("freetype")])
def test_a_picture_that_fails_is_left_out_and_named(
    tmp_path: Path, monkeypatch, caplog, error: Exception
) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    for name in ("confusion_figure", "parts_figure", "mistakes_figure"):
        drawn_by(monkeypatch, name, fail)
    track(tmp_path, dataset((4, 4), 16), [layer(16)])
    events = read(tmp_path)
    assert set(pictures(events)) == {"images/reconstructions", "images/first_layer_weights"}
    assert curve(events, "hparam/test_error") == [(2, 18.5)]
    for tag in ("confusion_matrix", "nmf_parts", "misclassified"):
        assert f"the picture images/{tag} is left out: {type(error).__name__}" in caplog.text


def test_time_series_are_pictures_too(tmp_path: Path) -> None:
    track(tmp_path, dataset((3000, 1), 3000), [layer(3000)])
    for pixels in pictures(read(tmp_path)).values():
        assert max(pixels.shape) < 2500
