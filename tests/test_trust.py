"""What can happen to a run from outside: it is stopped, its disk fills, folder, data or configuration change.

Each time a line says what to do, and what it says is done here.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import TINY, Forked, forked

from nmfdnn import __version__
from nmfdnn.__main__ import main as start
from nmfdnn.files import locked
from nmfdnn.model import MODEL
from nmfdnn.model import load as load_model
from nmfdnn.runs import checkpoint
from nmfdnn.runs.experiment import _Running

SETTINGS = [*TINY, "method=nmf", "nmf.batch_size=50", "network.start=he", "epochs=3"]


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def weights(folder: Path) -> list[torch.Tensor]:
    return load_model(folder).network.weights


def one_line(printed: str, *words: str) -> str:
    """The last line, which holds the words; nothing that was printed is a traceback."""
    assert "Traceback" not in printed, printed
    last = printed.rstrip().splitlines()[-1]
    for word in words:
        assert word in last
    return last


def followed(line: str, cwd: Path) -> None:
    """Do what a line says."""
    command = shlex.split(re.search(r"nmfdnn resume=true .*$", line)[0])
    status, printed = forked(*command[1:], cwd=cwd)
    assert status == 0, printed


@pytest.fixture
def run_folder(tmp_path):
    """A finished run, in a folder whose name a shell and Hydra would take apart."""
    folder = tmp_path / "it's, a=(run) $HOME"
    quoted = "hydra.run.dir='" + str(folder).replace("'", "\\'") + "'"
    status, printed = forked(*SETTINGS, quoted, cwd=tmp_path)
    assert status == 0, printed
    return folder, quoted


def test_the_version_is_our_own(tmp_path):
    assert forked("--version", cwd=tmp_path) == (0, f"nmfdnn {__version__}\n")


def test_an_interruption_while_the_libraries_load_is_said_in_a_line(monkeypatch, capsys):
    class Interrupting:
        def find_spec(self, name, *_):
            if name == "nmfdnn.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "nmfdnn.cli")
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        start()
    assert ended.value.code == 130
    one_line(capsys.readouterr().err, "interrupted before a run began")


def stop_after(epochs: int, number: int):
    """Send this process a signal after so many epochs; -1 is before anything is recorded."""

    def prepare() -> None:
        method = "record" if epochs >= 0 else "__init__"
        original = getattr(_Running, method)

        def wrapped(self, *arguments):
            result = original(self, *arguments)
            if epochs < 0 or self.progress.last.epoch == epochs:
                os.kill(os.getpid(), number)
                time.sleep(60)
            return result

        setattr(_Running, method, wrapped)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    return prepare


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_says_how_to_continue(number, status, run_folder, tmp_path):
    whole, _ = run_folder
    folder = tmp_path / "a (broken) run"
    quoted = f"hydra.run.dir='{folder}'"
    for epochs in (0, 2):
        again = ["resume=true"] if epochs else SETTINGS
        ended, printed = forked(*again, quoted, cwd=tmp_path, before=stop_after(epochs, number))
        assert ended == status, printed
        line = one_line(printed, "continue with")
    followed(line, tmp_path)
    assert all(map(torch.equal, weights(folder), weights(whole)))
    assert summary(folder)["overrides"] == summary(whole)["overrides"] == SETTINGS


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_before_a_checkpoint_can_only_start_again(number, status, tmp_path):
    folder = f"hydra.run.dir={tmp_path / 'run'}"
    ended, printed = forked(*SETTINGS, folder, cwd=tmp_path, before=stop_after(-1, number))
    assert ended == status
    one_line(printed, "nothing is to be continued", "start the run again")
    assert forked(*SETTINGS, folder, cwd=tmp_path)[0] == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_a_job_ends_its_sweep(number, status, tmp_path):
    sweep = ["-m", *SETTINGS, "seed=1,2,3", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    ended, printed = forked(*sweep, cwd=tmp_path, before=stop_after(1, number))
    assert ended == status
    followed(one_line(printed, "continue with"), tmp_path)
    assert len(list((tmp_path / "sweep").rglob("checkpoint.pt"))) == 1
    assert len(list((tmp_path / "sweep").rglob("summary.json"))) == 1
    # The sweep itself goes on with the same command.
    ended, printed = forked(*sweep, "resume=true", cwd=tmp_path)
    assert ended == 0, printed
    assert len(list((tmp_path / "sweep").rglob("summary.json"))) == 3


@pytest.mark.parametrize("kilobytes", [0, 1, 3, 6, 12, 24])
def test_a_full_disk_is_said_in_a_line_and_costs_nothing(kilobytes, run_folder, tmp_path):
    """A limit on the size of files stands for it: every file meets it at another moment."""
    folder = tmp_path / "run"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * kilobytes, resource.RLIM_INFINITY))

    status, printed = forked(*SETTINGS, f"hydra.run.dir={folder}", cwd=tmp_path, before=limit)
    assert "Traceback" not in printed, printed
    assert status == 2
    assert not (folder / "summary.json").exists()
    assert not list(folder.glob(".*.*"))
    begun = checkpoint.exists(folder)
    if begun:
        one_line(printed, "File too large", "continue with")
    again = ["resume=true"] if begun else SETTINGS
    status, printed = forked(*again, f"hydra.run.dir={folder}", cwd=tmp_path)
    assert status == 0, printed
    assert all(map(torch.equal, weights(folder), weights(run_folder[0])))


def test_a_folder_that_cannot_be_made_or_vanishes_is_said_in_a_line(tmp_path):
    (tmp_path / "file").touch()
    status, printed = forked(*SETTINGS, f"hydra.run.dir={tmp_path / 'file' / 'run'}", cwd=tmp_path)
    assert status == 2
    one_line(printed, "file", "check that path")
    folder = tmp_path / "run"

    def vanish() -> None:
        record = _Running.record

        def wrapped(self, epoch):
            record(self, epoch)
            shutil.rmtree(folder)

        _Running.record = wrapped

    status, printed = forked(*SETTINGS, f"hydra.run.dir={folder}", cwd=tmp_path, before=vanish)
    assert status == 2
    one_line(printed, str(folder), "No such file or directory", "nothing is to be continued")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_permission_is_said_in_a_line(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir(mode=0o500)
    status, printed = forked(*SETTINGS, f"hydra.run.dir={folder}", cwd=tmp_path)
    assert status == 2
    one_line(printed, "Permission denied", "change its permissions")


def test_a_second_process_is_refused_and_harms_nothing(run_folder, tmp_path):
    folder, quoted = run_folder
    contents = {
        path: path.read_bytes() for path in folder.iterdir() if path.suffix != ".log" and path.is_file()
    }
    with locked(folder):
        for command in (SETTINGS, ["resume=true"], ["resume=true", "epochs=9"]):
            status, printed = forked(*command, quoted, cwd=tmp_path)
            assert status == 2
            one_line(printed, "another process is running in", "wait until it ends")
    assert contents == {path: path.read_bytes() for path in contents}
    assert forked("resume=true", quoted, cwd=tmp_path)[0] == 0


def test_runs_and_sweeps_that_start_together_have_folders_of_their_own(tmp_path):
    runs = [Forked(*SETTINGS, f"nmf.omega=0.{i}", cwd=tmp_path) for i in (1, 2, 3)]
    sweeps = [Forked("-m", *SETTINGS, f"nmf.omega=0.{i},0.9", cwd=tmp_path) for i in (1, 2)]
    for process in (*runs, *sweeps):
        status, printed = process.wait()
        assert status == 0, printed
    for place, number in (("outputs", 3), ("multirun", 4)):
        found = [summary(path.parent)["overrides"] for path in (tmp_path / place).rglob("summary.json")]
        assert len(found) == number
    assert len(list((tmp_path / "multirun").rglob("multirun.yaml"))) == 2


def test_a_run_cannot_start_where_one_is(run_folder, tmp_path):
    status, printed = forked(*SETTINGS, run_folder[1], cwd=tmp_path)
    assert status == 2
    one_line(printed, "already holds a run: add resume=true to continue it, or change hydra.run.dir")


@pytest.mark.parametrize(
    "command",
    [
        ["resume=true"],
        ["resume=true", *SETTINGS],
        ["resume=true", "hydra.run.dir=nowhere"],
        ["resume=true", "epochs=9", "hydra.run.dir=nowhere"],
    ],
)
def test_there_must_be_a_run_to_continue(command, tmp_path):
    status, printed = forked(*command, cwd=tmp_path)
    assert status == 2
    one_line(printed, "holds no run: set hydra.run.dir to the folder of the run to continue")
    assert not list(tmp_path.rglob("config.yaml"))


def test_one_command_may_start_and_continue_a_run(run_folder, tmp_path):
    command = [*SETTINGS, "resume=true", f"hydra.run.dir={tmp_path / 'run'}"]
    status, printed = forked(*command, cwd=tmp_path)
    assert status == 0
    assert "holds no run yet: starting one" in printed
    assert summary(tmp_path / "run")["overrides"] == SETTINGS
    status, printed = forked(*command, cwd=tmp_path)
    assert status == 0
    assert "there is nothing to continue" in printed


def test_what_was_asked_for_at_first_stays_in_the_summary(run_folder, tmp_path):
    folder, quoted = run_folder
    assert forked("resume=true", quoted, cwd=tmp_path)[0] == 0
    assert summary(folder)["overrides"] == SETTINGS
    assert forked("resume=true", "epochs=4", quoted, cwd=tmp_path)[0] == 0
    assert summary(folder)["overrides"] == [*SETTINGS[:-1], "epochs=4"]
    assert forked("resume=true", *SETTINGS[:-1], "threads=1", "epochs=5", quoted, cwd=tmp_path)[0] == 0
    assert summary(folder)["overrides"] == [*SETTINGS[:-1], "threads=1", "epochs=5"]


def refused(run_folder, tmp_path, *words: str, command: tuple[str, ...] = ()) -> None:
    folder, quoted = run_folder
    names = (MODEL, "network.pt", "summary.json", "checkpoint.pt")
    good = {name: (folder / name).read_bytes() for name in names}
    status, printed = forked("resume=true", *command, quoted, cwd=tmp_path)
    assert status == 2, printed
    one_line(printed, *words)
    assert good == {name: (folder / name).read_bytes() for name in good}


@pytest.mark.parametrize("name", ["config.yaml", "overrides.yaml"])
@pytest.mark.parametrize(
    "content", [None, b"", b"\xff\xfe\0", b"- {", b"a: 1", b"data: 3", b"data: {name: no}"]
)
def test_a_run_without_its_configuration_is_not_continued(name, content, run_folder, tmp_path):
    path = run_folder[0] / name
    if content is None:
        path.unlink()
        refused(run_folder, tmp_path, name, "is missing", "start the run again in another hydra.run.dir")
    else:
        path.write_bytes(content)
        refused(run_folder, tmp_path, name, "damaged", "start the run again in another hydra.run.dir")


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("  omega: 1.0", "nmf.omega=1.0"),
        ("seed: 1", "seed=1"),
        ("method: nmf", "method=nmf"),
        ("dtype: float32", "dtype=float32"),
        ("  samples: 200", "data.samples=200"),
    ],
)
def test_a_run_with_the_configuration_of_another_is_not_continued(line, key, run_folder, tmp_path):
    other = {"1.0": "0.5", "1": "2", "nmf": "bp", "float32": "float64", "200": "220"}
    path = run_folder[0] / "config.yaml"
    text = path.read_text()
    label, value = line.split(": ")
    assert text.count(f"\n{line}\n") == 1 or key == "nmf.omega=1.0"
    changed = text.replace(f"\n{line}\n", f"\n{label}: {other[value]}\n")
    path.write_text(changed)
    refused(run_folder, tmp_path, f"was written with {key}", f"says {other[value]}")
    path.write_text(text)
    assert forked("resume=true", run_folder[1], cwd=tmp_path)[0] == 0


def test_epochs_that_are_over_cannot_be_undone(run_folder, tmp_path):
    refused(run_folder, tmp_path, "has trained 3 epochs", "set epochs=3 or more", command=("epochs=2",))
    assert forked("resume=true", "epochs=3", run_folder[1], cwd=tmp_path)[0] == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            ["method=nmf"],
            "the learning rate does not depend on it, so the result is that of a run of 4 epochs",
        ),
        (["method=jacobi"], "so the result is not that of a run of 4 epochs from the start"),
    ],
)
def test_more_epochs_say_what_becomes_of_the_schedule(settings, words, tmp_path):
    folder = f"hydra.run.dir={tmp_path / 'run'}"
    assert forked(*SETTINGS, *settings, folder, cwd=tmp_path)[0] == 0
    status, printed = forked("resume=true", "epochs=4", folder, cwd=tmp_path)
    assert status == 0
    assert "epochs was 3, now 4" in printed
    assert words in printed


def arrays(path: Path, seed: int = 1, rows: int = 120, features: int = 6, classes: int = 3) -> None:
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(rows) % classes)
    np.savez(path, X=rng.random((rows, features)), y=y)


@pytest.mark.parametrize("epochs", [(), ("epochs=3",)])
@pytest.mark.parametrize("change", [{"seed": 2}, {"rows": 150}, {"features": 7}, {"classes": 4}])
def test_a_run_whose_data_changed_is_not_continued(change, epochs, tmp_path):
    path, folder = tmp_path / "mine.npz", f"hydra.run.dir={tmp_path / 'run'}"
    arrays(path)
    settings = [
        "data=arrays",
        f"data.path={path}",
        "network.hidden=[8]",
        "network.start=he",
        "nmf.batch_size=40",
    ]
    assert forked(*settings, "epochs=2", folder, cwd=tmp_path)[0] == 0
    arrays(path, **change)
    status, printed = forked("resume=true", *epochs, folder, cwd=tmp_path)
    assert status == 2
    one_line(printed, "the data are not those", "bring those back to continue it")
    # Where they lie does not matter.
    arrays(path.with_name("moved.npz"))
    moved = f"data.path={path.with_name('moved.npz')}"
    status, printed = forked("resume=true", *epochs, "data=arrays", moved, folder, cwd=tmp_path)
    assert status == 0, printed


def test_the_checkpoint_of_another_version_is_not_continued(run_folder, tmp_path):
    for path in run_folder[0].glob("checkpoint*.pt"):
        state = torch.load(path)
        del state["format"]
        torch.save(state, path)
    refused(run_folder, tmp_path, "is not of this version of nmfdnn")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed=${nope}", "Interpolation key 'nope' not found"),
        ("nmf.omega=${nope}", "nmf.omega: Interpolation key 'nope' not found"),
        ("nmf.omega=${oc.env:NOPE}", "Environment variable 'NOPE' not found"),
        ("epochs=${oc.decode:abc}", "epochs: While dereferencing interpolation"),
        ("experiment=0", "no configuration can be made of"),
        ("data=nope", "no data=nope: there are arrays, cifar10, digits"),
        ("nonsense", "nonsense"),
        ("hydra.run.dir=${nope}", "hydra.run.dir: Interpolation key 'nope' not found"),
        ("threads=1000000", "threads must be null or ≥ 1 and at most"),
    ],
)
def test_a_value_that_is_none_stops_with_its_message(override, words, tmp_path):
    status, printed = forked(*SETTINGS, override, cwd=tmp_path)
    assert status == 2
    assert words in printed
    assert "Traceback" not in printed
