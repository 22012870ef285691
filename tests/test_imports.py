"""What is loaded when: help and versions do not wait for PyTorch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from runs import environment, forked

import nmfdnn
from nmfdnn import cli

HEAVY = {
    "torch",
    "torchvision",
    "tensorboard",
    "matplotlib",
    "pandas",
    "scipy",
    "sklearn",
    "mlxtend",
    "hydra",
}


def loaded_by(code: str) -> set[str]:
    """The heavy libraries that a new process has loaded after this code, which may end it."""
    last = f"lambda: print('\\n', *sorted({HEAVY} & set(sys.modules)))"
    lines = f"import atexit, sys\natexit.register({last})\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", lines], env=environment(), capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_the_package_loads_nothing_before_it_is_needed():
    assert loaded_by("import nmfdnn; nmfdnn.__version__; dir(nmfdnn)") == set()
    assert "torch" in loaded_by("from nmfdnn import load")


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], set()),
        (["-h"], set()),
        (["--version"], set()),
        (["predict", "--help"], set()),
        (["compare", "--help"], set()),
        (["report", "--help"], set()),
        (["export", "--help"], {"torch"}),
    ],
)
def test_help_and_version_load_no_more_than_pytorch(arguments, allowed):
    assert (
        loaded_by(f"import sys; sys.argv[1:] = {arguments}; from nmfdnn.__main__ import main; main()")
        <= allowed
    )


@pytest.mark.parametrize("name", nmfdnn.__all__)
def test_every_public_name_is_there(name):
    assert name in dir(nmfdnn)
    assert getattr(nmfdnn, name) is not None


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="'nmfdnn' has no attribute 'trian'"):
        nmfdnn.trian  # noqa: B018


def test_the_help_is_what_hydra_would_show(tmp_path, monkeypatch, capsys):
    status, shown = forked("--help", cwd=tmp_path)
    assert status == 0
    monkeypatch.setattr(sys, "argv", ["nmfdnn", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    assert shown.split() == capsys.readouterr().out.split()


@pytest.mark.parametrize("name", ["predict", "export", "compare", "report"])
def test_a_subcommand_is_the_command_of_that_name(name, tmp_path):
    status, shown = forked(name, "--help", cwd=tmp_path)
    assert status == 0
    assert f"usage: nmfdnn-{name} " in shown


def test_a_command_that_is_not_there_is_answered_by_those_that_are(tmp_path):
    status, shown = forked("repot", "outputs", cwd=tmp_path)
    assert (status, shown) == (
        2,
        "no command 'repot': predict, export, compare, report, or KEY=VALUE to train\n",
    )
