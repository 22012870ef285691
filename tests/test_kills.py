"""Killed at any moment, continued: the folder is that of a run that was never killed, bit by bit."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from runs import TINY, configured
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nmfdnn import files
from nmfdnn.model import FORMER, MODEL
from nmfdnn.model import load as load_model
from nmfdnn.records import read_metrics, read_summary
from nmfdnn.runs.experiment import run
from nmfdnn.runs.tracking import EVENTS, Tracker

SETTINGS = [*TINY, "method=nmf", "nmf.averaging=0.5", "nmf.batch_size=50", "network.start=pretrained"]
EPOCHS = 2

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process to kill is made by a fork")


def train(folder: Path, epochs: int = EPOCHS, **keys: Any) -> None:
    settings = [*SETTINGS, f"epochs={epochs}"]
    run(configured(*settings, *(f"{key}={value}" for key, value in keys.items())), folder, "text", settings)


def at_moment(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None]) -> list[str]:
    """Call `act` with 0, 1, 2, … at the moments when a death would matter; returns the list of those so far.

    They are those before anything reaches the disk: before a file is complete, before it takes its place,
    before and after each part of the curves.
    """
    moments: list[str] = []

    def reached(name: str) -> None:
        moments.append(name)
        act(len(moments) - 1)

    def before(module: Any, name: str, after: bool = False) -> None:
        original = getattr(module, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            reached(f"before {name}")
            result = original(*args, **kwargs)
            if after:
                reached(f"after {name}")
            return result

        monkeypatch.setattr(module, name, wrapped)

    before(files.os, "replace")
    before(files.os, "fsync")
    for name in ("start", "epoch", "end"):
        before(Tracker, name, after=True)
    return moments


def killed(action: Callable[[], None]) -> bool:
    """Run `action` in a process of its own; whether that was killed."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:  # whatever happens, this process must not go on with the tests
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def kill_at(moment: int, action: Callable[[], None]) -> bool:
    def do() -> None:
        with pytest.MonkeyPatch.context() as patch:
            at_moment(patch, lambda now: os.kill(os.getpid(), signal.SIGKILL) if now == moment else None)
            action()

    return killed(do)


def events(folder: Path) -> dict[str, list[tuple[int, Any]]]:
    """Everything that TensorBoard shows; of what is measured in seconds only where it is."""
    sizes = {"scalars": 0, "images": 0, "tensors": 0}
    found = EventAccumulator(str((folder / EVENTS).parent), size_guidance=sizes).Reload()
    shown: dict[str, list[tuple[int, Any]]] = {}
    for tag in found.Tags()["scalars"]:
        shown[tag] = [(e.step, None if "seconds" in tag else e.value) for e in found.Scalars(tag)]
    for tag in found.Tags()["images"]:
        shown[tag] = [(e.step, e.encoded_image_string) for e in found.Images(tag)]
    for tag in found.Tags()["tensors"]:
        texts = [(e.step, e.tensor_proto.string_val[0]) for e in found.Tensors(tag)]
        shown[tag] = [(step, re.sub(rb"seconds \| [^|]*", b"", text)) for step, text in texts]
    return shown


def outcome(folder: Path) -> dict[str, Any]:
    """All that must not depend on kills."""
    model = load_model(folder)
    measured = ("train_seconds", "pretrain_seconds", "peak_memory_mb")
    return {
        "weights": [W.tolist() for W in model.network.weights],
        "model": [model.classes, model.temperature, model.information, model.preprocessing.scale.tolist()],
        "metrics": [{k: v for k, v in row.items() if k != "train_seconds"} for row in read_metrics(folder)],
        "summary": {k: v for k, v in read_summary(folder).items() if k not in measured},
        "events": events(folder),
        "files": sorted(path.name for path in folder.rglob("*") if path.is_file()),
    }


def good_so_far(folder: Path) -> None:
    """Whatever is there is whole, and a summary is there only beside its network."""
    if (folder / "metrics.csv").exists():
        assert len({len(row) for row in csv.reader((folder / "metrics.csv").read_text().splitlines())}) == 1
    for name in ("network.pt", "checkpoint.pt", "checkpoint_previous.pt"):
        if (folder / name).exists():
            torch.load(folder / name)
    if (folder / MODEL).exists():
        load_model(folder)
    if (folder / "summary.json").exists():
        json.loads((folder / "summary.json").read_text())
        assert (folder / MODEL).exists()
        assert (folder / "network.pt").exists()


@pytest.fixture(scope="module", autouse=True)
def fast():
    """A picture is a picture; what it shows is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nmfdnn.views.figures.confusion_figure", lambda *_: Figure(figsize=(1, 1), dpi=10))
        patch.setattr("nmfdnn.runs.results.git_commit", lambda: None)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, list[str]]:
    """A run that nothing happens to, and the moments when something could have."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        moments = at_moment(patch, lambda now: None)
        train(folder)
    assert len(moments) > 20
    return folder, moments


def test_a_run_killed_at_any_moment_ends_as_if_it_had_not_been(whole, tmp_path):
    expected, moments = outcome(whole[0]), whole[1]
    for moment, name in enumerate(moments):
        folder = tmp_path / str(moment)
        folder.mkdir()
        assert kill_at(moment, lambda folder=folder: train(folder)), name
        good_so_far(folder)
        train(folder, resume="true")
        assert outcome(folder) == expected, f"killed {name}, moment {moment}"


@pytest.mark.parametrize("stride", [1, 4, 7])
def test_a_run_killed_again_and_again_ends_too(whole, stride, tmp_path):
    moment = 0
    while kill_at(moment, lambda: train(tmp_path, resume="true")):
        good_so_far(tmp_path)
        moment += stride
        assert moment < 1000
    assert outcome(tmp_path) == outcome(whole[0])


def test_a_finished_run_that_is_continued_stays_good_at_every_moment(whole, tmp_path):
    longer = tmp_path / "longer"
    longer.mkdir()
    train(longer, EPOCHS + 1)
    expected = outcome(longer)
    for moment in range(0, 12, 2):
        folder = tmp_path / str(moment)
        folder.mkdir()
        train(folder)
        assert kill_at(moment, lambda folder=folder: train(folder, EPOCHS + 1, resume="true"))
        good_so_far(folder)
        assert (folder / "summary.json").exists()
        train(folder, EPOCHS + 1, resume="true")
        assert outcome(folder) == expected


def test_a_finished_run_is_left_as_it_is(whole, tmp_path):
    train(tmp_path)
    contents = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.MonkeyPatch.context() as patch:
        moments = at_moment(patch, lambda now: None)
        train(tmp_path, resume="true")
    assert moments == []
    assert contents == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("names", [(MODEL, FORMER), ("summary.json",)])
@pytest.mark.parametrize("how", ["removed", "cut"])
def test_a_finished_run_that_lost_a_file_gets_it_back(whole, names, how, tmp_path):
    train(tmp_path)
    for path in (tmp_path / name for name in names):
        path.unlink() if how == "removed" else path.write_bytes(path.read_bytes()[:-20])
    train(tmp_path, resume="true")
    assert outcome(tmp_path) == outcome(whole[0])


@pytest.mark.parametrize("tail", [b"\x07", b"\x20\0\0\0\0\0\0\0 half an event"])
def test_half_an_event_at_the_end_of_the_curves_does_no_harm(whole, tail, tmp_path):
    assert kill_at(len(whole[1]) - 3, lambda: train(tmp_path))
    with (tmp_path / EVENTS).open("ab") as file:
        file.write(tail)
    train(tmp_path, resume="true")
    assert outcome(tmp_path) == outcome(whole[0])


def test_curves_that_are_gone_start_anew(whole, tmp_path):
    assert kill_at(len(whole[1]) - 3, lambda: train(tmp_path))
    (tmp_path / EVENTS).unlink()
    train(tmp_path, EPOCHS + 1, resume="true")
    assert [step for step, _ in events(tmp_path)["error/test"]] == [EPOCHS + 1]


def test_an_error_of_the_disk_at_any_moment_costs_nothing_that_was_there(whole, tmp_path):
    expected, moments = outcome(whole[0]), whole[1]

    for moment, name in enumerate(moments):
        if name not in ("before replace", "before fsync"):
            continue
        folder = tmp_path / str(moment)
        folder.mkdir()

        def fail(now: int, moment: int = moment) -> None:
            if now == moment:
                raise OSError(28, "No space left on device")

        with pytest.MonkeyPatch.context() as patch:
            at_moment(patch, fail)
            with pytest.raises(OSError, match="No space left") as caught:
                train(folder)
        assert str(folder) in caught.value.filename
        assert not [path.name for path in folder.iterdir() if path.name.startswith(".")], "no litter"
        good_so_far(folder)
        train(folder, resume="true")
        assert outcome(folder) == expected, f"failed {name}, moment {moment}"
