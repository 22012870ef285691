"""The command line, by subprocess: what a user types and sees."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import torch
from runs import TINY, command, environment, nmfdnn

from nmfdnn.model import load as load_model
from nmfdnn.runs.tracking import EVENTS

REPOSITORY = Path(__file__).parents[1]
QUICK = [*TINY, "epochs=2"]


def folders(root: Path) -> list[Path]:
    return sorted(path.parent for path in root.rglob("summary.json"))


def test_a_run_prints_its_figures_and_where_to_look(tmp_path):
    done = nmfdnn(*QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = folders(tmp_path / "outputs")
    summary = json.loads((folder / "summary.json").read_text())
    assert f"test {summary['test_error']:.2f} %" in done.stdout
    assert f"tensorboard --logdir {folder}" in done.stdout
    assert "\r" not in done.stdout + done.stderr, "a progress bar belongs on a terminal only"
    for name in ("config.yaml", "metrics.csv", "checkpoint.pt", "model.safetensors", "nmfdnn.log", EVENTS):
        assert (folder / name).exists(), name
    assert "epoch   2" in (folder / "nmfdnn.log").read_text()
    assert summary["overrides"] == QUICK


def test_the_script_is_the_same_program(tmp_path):
    script = [sys.executable, str(REPOSITORY / "scripts" / "train.py")]
    printed = [
        subprocess.run(
            [*start, "--cfg", "job"], cwd=tmp_path, env=environment(), capture_output=True, text=True
        )
        for start in (script, command())
    ]
    assert printed[0].returncode == 0, printed[0].stderr
    assert printed[0].stdout == printed[1].stdout
    assert "experiment: quickstart" in printed[0].stdout


def test_help_explains_itself(tmp_path):
    shown = nmfdnn("--help", cwd=tmp_path)
    assert shown.returncode == 0
    for needle in (
        "experiment=",
        "fashion_mnist",
        "nmfdnn -m",
        "resume=true",
        "tensorboard --logdir",
        "outputs/",
    ):
        assert needle in shown.stdout
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("nmf.omega=-1", "nmf.omega must be in (0, 2], got -1.0"),
        ("nmf.omgea=1", "no key nmf.omgea: did you mean nmf.omega?"),
        ("network.convolution=[{chanels: 3, kernel: 3}]", "no key chanels: did you mean channels?"),
        (  # what bash leaves of network.convolution=[{channels:4,kernel:3}]
            "network.convolution=[kernel:3]",
            "network.convolution[0] must be {KEY:VALUE,…}, got 'kernel:3': if a shell has taken "
            "the braces, quote it: 'network.convolution=[{…}]'",
        ),
        (
            "network.hidden=[a]",
            "network.hidden[0]: Value 'a' ",
        ),
        ("+nmf.steps=1", "no key nmf.steps: did you mean nmf.code_steps?"),
        ("init.from=RUN", "no key init: did you mean init_from?"),
        ("data.tsak=regression", "no key data.tsak: there are name, "),
        ("data=synthetik", "no data=synthetik: did you mean synthetic?"),
        ("experiment=nothing", "no experiment=nothing: there are arai2018_cifar10, "),
        ("+x=1", "no key x: there are data, experiment, method"),
        ("nmf.batch_size=9999", "nmf.batch_size must be at most the 144 training samples, got 9999"),
    ],
)
def test_bad_input_stops_with_a_message_and_no_traceback(override, message, tmp_path):
    done = nmfdnn(*QUICK, override, cwd=tmp_path)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not folders(tmp_path)


def test_missing_data_stops_with_every_place_that_was_looked_in(tmp_path):
    done = nmfdnn("data=mnist", f"data.root={tmp_path / 'nowhere'}", cwd=tmp_path)
    assert done.returncode == 2
    assert "nowhere" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_failed_job_of_a_sweep_leaves_the_others(tmp_path):
    done = nmfdnn("-m", *QUICK, "method=nmf,bp", "network.start=he", "nmf.omega=1,-1", "seed=1", cwd=tmp_path)
    assert done.returncode != 0
    assert "nmf.omega must be in (0, 2], got -1.0" in done.stdout + done.stderr
    summaries = [json.loads((f / "summary.json").read_text()) for f in folders(tmp_path / "multirun")]
    assert [summary["method"] for summary in summaries] == ["nmf", "bp"]


def test_a_sweep_over_methods_and_seeds_then_compare(tmp_path):
    done = nmfdnn("-m", *QUICK, "method=nmf,bp", "seed=1,2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    runs = folders(tmp_path / "multirun")
    assert len(runs) == 4
    peaks = [json.loads((run / "summary.json").read_text())["peak_memory_mb"] for run in runs]
    assert all(peak > 0 for peak in peaks)
    script = REPOSITORY / "scripts" / "compare.py"
    picture = tmp_path / "curves.png"
    compared = subprocess.run(
        [sys.executable, str(script), "multirun", "--output", str(picture)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert compared.returncode == 0, compared.stderr
    assert compared.stdout.count("±") >= 4
    assert picture.read_bytes().startswith(b"\x89PNG")


LONG = [
    *("data=digits", "network.hidden=[60,40]", "data.validation=0.1", "pretraining.outer_iterations=3"),
    *("nmf.averaging=0.5", "nmf.batch_size=300", "bp.dropout=0.1", "epochs=12"),
]


def kill_when(process: subprocess.Popen[str], ready) -> None:
    deadline = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("method", ["nmf", "bp"])
def test_kill_and_resume_ends_bit_identical(method, tmp_path):
    overrides = [*LONG, f"method={method}"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert nmfdnn(*overrides, f"hydra.run.dir={whole}", cwd=tmp_path).returncode == 0

    def rows() -> int:
        path = killed / "metrics.csv"
        return path.read_text().count("\n") if path.exists() else 0

    # First in the pre-training (the folder exists, nothing is recorded), then twice in the middle.
    moments = [lambda: (killed / "config.yaml").exists(), lambda: rows() >= 3, lambda: rows() >= 7]
    extra: list[str] = []
    for ready in moments:
        arguments = [*(extra or overrides), f"hydra.run.dir={killed}"]
        kill_when(subprocess.Popen(command(*arguments), cwd=tmp_path, env=environment(), text=True), ready)
        extra = ["resume=true"]
    done = nmfdnn("resume=true", f"hydra.run.dir={killed}", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    results = [load_model(folder).network.weights for folder in (whole, killed)]
    assert all(map(torch.equal, *results))
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (whole, killed)]
    for key in ("test_error", "train_error", "validation_error", "epochs", "best_validation_epoch"):
        assert summaries[0][key] == summaries[1][key]
    assert (killed / "config.yaml").read_text() == (whole / "config.yaml").read_text()


def test_resume_refuses_another_configuration_and_a_second_run_in_the_folder(tmp_path):
    folder = f"hydra.run.dir={tmp_path / 'run'}"
    assert nmfdnn(*QUICK, folder, cwd=tmp_path).returncode == 0
    other = nmfdnn(*QUICK, "nmf.omega=0.5", "resume=true", folder, cwd=tmp_path)
    assert other.returncode == 2
    assert "has nmf.omega=1.0, not 0.5" in other.stdout + other.stderr
    again = nmfdnn(*QUICK, folder, cwd=tmp_path)
    assert again.returncode == 2
    assert "already holds a run: add resume=true" in again.stdout + again.stderr
    longer = nmfdnn("epochs=4", "resume=true", folder, cwd=tmp_path)
    assert longer.returncode == 0, longer.stdout + longer.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["epochs"] == 4


def test_a_progress_bar_on_a_terminal(tmp_path):
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = subprocess.Popen(
        command(*QUICK), cwd=tmp_path, env=environment(), stdout=follower, stderr=follower, close_fds=True
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            block = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        if not block:
            break
        shown += block
    assert process.wait() == 0
    assert b"2/2" in shown
    assert b"\r" in shown
