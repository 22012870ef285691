"""Files that are whole or not there, a lock that the kernel opens, folders that nobody else has."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from runs import environment

from nmfdnn import files
from nmfdnn.errors import FolderBusyError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_the_place_of_another_which_may_be_kept(tmp_path):
    path, before = tmp_path / "now.txt", tmp_path / "before.txt"
    files.replace_text(path, "one")
    files.replace(path, lambda file: file.write(b"two"), previous=before)
    files.replace(path, lambda file: file.write(b"three"), previous=before)
    assert (path.read_text(), before.read_text()) == ("three", "two")
    assert names(tmp_path) == ["before.txt", "now.txt"]


def test_a_text_is_utf8_whatever_the_locale(tmp_path):
    text = ascii("λ ≥ 0")
    code = f"from pathlib import Path; from nmfdnn import files; files.replace_text(Path('a'), {text})"
    plain = {**environment(), "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=plain, check=True)
    assert (tmp_path / "a").read_text(encoding="utf-8") == "λ ≥ 0"


class Full:
    """A file on a disk without room."""

    def __init__(self, file):
        self.file = file

    def write(self, _data):
        raise OSError(errno.ENOSPC, "No space left on device")

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize(
    "write",
    [
        lambda file: Full(file).write(b"x"),
        lambda file: torch.save(
            {"W": torch.zeros(1000)}, Full(file)
        ),  # fails twice, once in closing its archive
    ],
    ids=["bytes", "torch.save"],
)
def test_a_write_that_fails_names_the_file_and_leaves_the_old_one(write, tmp_path):
    path, before = tmp_path / "a", tmp_path / "b"
    files.replace_text(path, "old")
    with pytest.raises(OSError, match="No space left") as caught:
        files.replace(path, write, previous=before)
    assert caught.value.filename == str(path)
    assert names(tmp_path) == ["a"]
    assert path.read_text() == "old"


def test_a_defect_while_writing_is_not_taken_for_the_disk(tmp_path):
    def fail(_file):
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        files.replace(tmp_path / "a", fail)


def test_a_folder_is_held_by_one_process_and_let_go_of(tmp_path):
    with files.locked(tmp_path):
        with pytest.raises(FolderBusyError, match="another process is running in"), files.locked(tmp_path):
            pass
        with files.locked(tmp_path.parent):
            pass
    with files.locked(tmp_path):
        pass


def test_a_killed_process_lets_go_of_its_folder(tmp_path):
    code = f"""
import sys, time
from pathlib import Path
from nmfdnn.files import locked
with locked(Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(600)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(FolderBusyError), files.locked(tmp_path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with files.locked(tmp_path):
        pass


def _ask(path: str, start: float, answers) -> None:
    time.sleep(max(0.0, start - time.time()))
    answers.put([files.fresh_folder(path) for _ in range(20)])


def test_everyone_gets_a_folder_of_his_own(tmp_path):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    path = str(tmp_path / "day" / "time")
    start = time.time() + 0.5
    processes = [context.Process(target=_ask, args=(path, start, answers)) for _ in range(4)]
    for process in processes:
        process.start()
    found = [folder for _ in processes for folder in answers.get(timeout=60)]
    for process in processes:
        process.join()
    assert len(set(found)) == len(found) == 80
    assert set(found) == {path, *(f"{path}_{number}" for number in range(2, 81))}
    assert all(os.path.isdir(folder) for folder in found)
