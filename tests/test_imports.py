"""What is loaded when, and what is optional: help does not wait for PyTorch, and what lacks is named."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from runs import environment, forked
from test_model import made

import nmfdnn
from nmfdnn import cli
from nmfdnn.data.samples import read_samples
from nmfdnn.errors import ConfigError, DataError
from nmfdnn.export import export

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


def test_the_help_is_what_hydra_would_show(tmp_path):
    status, shown = forked("--help", cwd=tmp_path)
    assert (status, shown.split()) == (0, forked("--help", cwd=tmp_path, before=cli.main)[1].split())


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


EXTRAS = metadata.metadata("nmfdnn").get_all("Provides-Extra")


def named_extra(message: str) -> str:
    (found,) = re.findall(r"pip install ['\"]nmfdnn\[(\w+)\]['\"]", message)
    return found


@pytest.mark.parametrize(
    ("setting", "extra"),
    [
        ("hydra/launcher=joblib", "launchers"),
        ("hydra/launcher=submitit_slurm", "submitit"),
        ("hydra/launcher=submitit_local", "submitit"),
        ("hydra/launcher=ray", "ray"),
        ("hydra/sweeper=optuna", "launchers"),
        ("+search=jacobi", "launchers"),
    ],
)
def test_a_plugin_that_is_not_installed_is_named_with_what_brings_it(setting, extra, tmp_path):
    def without_plugins() -> None:
        Plugins.instance()  # loads those that there are
        groups = ConfigStore.instance().repo["hydra"]
        for kind in ("launcher", "sweeper"):
            groups[kind] = {"basic.yaml": groups[kind]["basic.yaml"]}

    status, shown = forked("-m", setting, "seed=1,2", cwd=tmp_path, before=without_plugins)
    assert status == 2
    assert "Traceback" not in shown
    assert named_extra(shown) == extra
    assert extra in EXTRAS


def test_a_library_that_is_not_installed_is_named_with_what_brings_it(tmp_path, monkeypatch):
    for name in ("pyarrow", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "a.parquet").touch()
    with pytest.raises(DataError) as caught:
        read_samples(str(tmp_path / "a.parquet"), 3, None)
    assert named_extra(str(caught.value)) == "tables"
    with pytest.raises(ConfigError) as refused:
        export(made(), tmp_path / "a.onnx", "onnx")
    assert named_extra(str(refused.value)) == "export"
