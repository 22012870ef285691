"""What a terminal shows of work that takes long: bars within epochs and in pre-training; else nothing."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
import threading
from functools import partial

import pytest
import torch
from runs import TINY, Forked, forked
from tqdm import tqdm

from nmfdnn.network import dense
from nmfdnn.runs import experiment
from nmfdnn.source import Memory, Order
from nmfdnn.training import PretrainingConfig, SolverConfig, pretrain
from nmfdnn.training.pretraining import steps

RUN = [*TINY, "experiment=quickstart", "epochs=2", "nmf.batch_size=20", "hydra.run.dir=run"]


def shown(folder) -> str:
    """What a terminal gets from a run."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 120, 0, 0))
    found = bytearray()

    def read() -> None:
        try:
            while part := os.read(ours, 65536):
                found.extend(part)
        except OSError:  # all have closed it
            pass

    def before() -> None:
        for stream in (1, 2):
            os.dup2(theirs, stream)

    reader = threading.Thread(target=read)
    run = Forked(*RUN, cwd=folder, before=before)
    os.close(theirs)
    reader.start()
    status, _ = run.wait()
    reader.join()
    os.close(ours)
    text = found.decode()
    assert status == 0, text
    return text


def test_a_terminal_sees_how_far_training_is_and_how_long_it_will_take(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "tqdm", partial(tqdm, mininterval=0))
    text = shown(tmp_path)
    epochs = {float(n) for n in re.findall(r"training *\d+%\|[^|]*\| ([\d.]+)/2 \[[\d:]+<[\d:?]+", text)}
    assert {0.0, 1.0, 2.0} <= epochs
    assert any(n % 1 for n in epochs)
    assert re.search(r"test error \d+\.\d\d %", text)
    before = [float(n) for n in re.findall(r"pre-training *\d+%\|[^|]*\| ([\d.]+)/16 ", text)]
    assert before[-1] == 16
    assert any(0 < n < 16 for n in before)


def test_elsewhere_there_are_log_lines_alone(tmp_path):
    status, text = forked(*RUN, cwd=tmp_path)
    assert status == 0
    assert "epoch   2" in text
    assert "|" not in text
    assert "\r" not in text


def test_an_order_tells_the_shares_of_its_batches():
    order = Order(
        Memory(torch.zeros(10, 2), torch.zeros(10, dtype=torch.int64)), 4, torch.Generator(), parts=2
    )
    told: list[float] = []
    order.tick = told.append
    for _ in range(2):
        list(order.part())
    assert sum(told) == pytest.approx(1)
    assert len(told) == 3


def test_pre_training_tells_of_each_step():
    source = Memory(torch.rand(30, 6), torch.zeros(30, dtype=torch.int64))
    config, layers = PretrainingConfig(None, 2, 3, 5), dense(6, 5, 4)
    told: list[None] = []
    pretrain(source, layers, True, config, SolverConfig(), torch.Generator(), tick=lambda: told.append(None))
    assert len(told) == steps(config, layers) == 2 * 2 * 8
