"""Console text in every encoding, and runs and comparisons where the locale knows ASCII only."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import TINY, command, environment
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nmfdnn.text import label, one_line, print_anything

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
COMPARE = [sys.executable, "-m", "nmfdnn.views.compare"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "koi8-r", "utf-8", "utf-16"])
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_anything_can_be_printed(encoding: str, errors: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding, errors)
        monkeypatch.setattr(sys, name, stream)
    print_anything()
    for stream in (sys.stdout, sys.stderr):
        print("5.00 ± 1.41 ≤ 6 → é 日 \ud800 ok", file=stream, flush=True)
        written = stream.buffer.getvalue().decode(encoding)
        assert written.endswith(" \\ud800 ok\n")
        assert "1.41" in written


def test_signs_are_spelled_and_bytes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    print_anything()
    print("nmf.omega ≥ 0, 2 × 3, mean ± std … → 日 " + "/tmp/\udcc3\udca9", flush=True)
    assert (
        sys.stdout.buffer.getvalue() == b"nmf.omega >= 0, 2 x 3, mean +- std ... -> \\u65e5 /tmp/\xc3\xa9\n"
    )


def test_closed_streams_swallow_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    print_anything()
    for stream in (sys.stdout, sys.stderr):
        stream.write("unheard ± of")
        stream.close()


def test_one_line() -> None:
    assert one_line(" a\n b\t\u3000c ") == "a b c"
    assert one_line("\x1b[31mred\x00\udcff\ud800é日") == r"\x1b[31mred\x00\udcff\ud800é日"
    assert one_line("abcdefghij", 10) == "abcdefghij"
    assert one_line("abcdefghijk", 10) == "abcde…hijk"
    assert one_line("abcdefghijk", 5) == "ab…jk"


def test_labels_are_no_formulas_and_not_hidden() -> None:
    assert label("a $x^$ b", 20) == r"a \$x^\$ b"
    assert label("_x", 20) == " _x"


def call(arguments: list[str], cwd: Path, **variables: str) -> str:
    done = subprocess.run(
        arguments, cwd=cwd, env={**environment(), **variables}, capture_output=True, timeout=300
    )
    printed = (done.stdout + done.stderr).decode(errors="backslashreplace")
    for trouble in ("Traceback", "Logging error", "Error:"):
        assert trouble not in printed, printed
    assert done.returncode in (0, 2), printed
    return printed


@pytest.mark.parametrize("name", ["é ± 日", os.fsdecode(b"\xe9\xff")], ids=ascii)
def test_a_run_and_a_comparison_where_the_locale_knows_ascii_only(name: str, tmp_path: Path) -> None:
    folder, plain = tmp_path / name, tmp_path / "plain"
    override = f"hydra.run.dir='{folder}'"
    printed = call(command(*TINY, "epochs=1", override), tmp_path, **ASCII)
    assert "test " in printed
    call(command("epochs=2", "resume=true", override), tmp_path, **ASCII)
    compared = call([*COMPARE, str(folder), "--csv", "table.csv"], tmp_path, **ASCII)
    assert "+-" in compared
    assert (tmp_path / "compare.png").stat().st_size > 10_000
    folder.rename(plain)
    assert "INFO epoch   1" in (plain / "nmfdnn.log").read_text(encoding="utf-8")
    events = EventAccumulator(str(plain / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("error/test")] == [0, 1, 2]
    assert "images/confusion_matrix" in events.Tags()["images"]


def test_help_and_messages_in_another_encoding(tmp_path: Path) -> None:
    variables = {"PYTHONIOENCODING": "ascii"}
    assert "KEY=VALUE ..." in call(command("--help"), tmp_path, **variables)
    assert "epochs must be >= 0" in call(command(*TINY, "epochs=-1"), tmp_path, **variables)
    assert "DIR ..." in call([*COMPARE, "--help"], tmp_path, **variables)
