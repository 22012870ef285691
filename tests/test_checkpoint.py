"""Checkpoints: atomic, verified, with the previous one as a fallback."""

from __future__ import annotations

import pytest
import torch

from nmfdnn.errors import CheckpointError
from nmfdnn.runs import checkpoint

CPU = torch.device("cpu")


@pytest.fixture
def two(tmp_path):
    for epoch in (1, 2, 3):
        checkpoint.save(tmp_path, {"epoch": epoch, "weights": [torch.full((50, 50), float(epoch))]})
    return tmp_path


def damage(path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    elif how == "flipped":
        content[content.index(torch.full((4,), 3.0).numpy().tobytes()) + 5] ^= 1
    elif how == "empty":
        content = bytearray()
    path.write_bytes(content)


def test_the_newest_is_read_and_only_the_one_before_it_is_kept(two):
    assert checkpoint.load(two, CPU)["epoch"] == 3
    assert checkpoint.read(two / checkpoint.PREVIOUS, CPU)["epoch"] == 2
    assert sorted(path.name for path in two.iterdir()) == [checkpoint.CURRENT, checkpoint.PREVIOUS]


def test_none_where_there_is_none(tmp_path):
    assert checkpoint.load(tmp_path, CPU) is None


@pytest.mark.parametrize("how", ["truncated", "flipped", "empty"])
def test_a_damaged_one_is_named_and_the_previous_one_is_used(two, how, caplog):
    damage(two / checkpoint.CURRENT, how)
    state = checkpoint.load(two, CPU)
    assert state["epoch"] == 2
    assert torch.equal(state["weights"][0], torch.full((50, 50), 2.0))
    assert f"{checkpoint.CURRENT} is damaged" in caplog.text


def test_two_damaged_ones_are_refused(two):
    damage(two / checkpoint.CURRENT, "flipped")
    damage(two / checkpoint.PREVIOUS, "truncated")
    with pytest.raises(CheckpointError, match=r"checkpoint.pt and checkpoint_previous.pt damaged"):
        checkpoint.load(two, CPU)


def test_a_kill_between_the_two_renames_leaves_the_previous_one(two):
    (two / checkpoint.CURRENT).unlink()
    assert checkpoint.load(two, CPU)["epoch"] == 2


def test_no_code_in_a_checkpoint_is_executed(tmp_path):
    marker = tmp_path / "executed"

    class Payload:
        def __reduce__(self):
            return (marker.touch, ())

    torch.save({"state": Payload()}, tmp_path / checkpoint.CURRENT)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(tmp_path, CPU)
    assert not marker.exists()
