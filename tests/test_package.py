"""What is handed out: sdist and wheel, and what the wheel does in another environment and another folder."""

from __future__ import annotations

import email
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from runs import TINY, environment

import nmfdnn

REPOSITORY = Path(__file__).parents[1]
SOURCES = ("nmfdnn", "configs", "pyproject.toml", "README.md", "LICENSE")
BESIDES_CODE = {".yaml", ".html", ".css", ".js", ".c", ".typed"}

pytestmark = pytest.mark.skipif(
    not find_spec("build") or not find_spec("setuptools"), reason="needs pip install 'nmfdnn[test]'"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The sdist, and the wheel that is built from it, without a network."""
    source = tmp_path_factory.mktemp("source")  # a copy, because building leaves files in the source tree
    for name in SOURCES:
        path = REPOSITORY / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source)
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    (found,) = built.glob("*.whl")
    return found


def test_both_hold_every_file_that_the_package_needs(built, wheel):
    needed = {
        path.relative_to(REPOSITORY).as_posix()
        for folder in ("nmfdnn", "configs")
        for path in (REPOSITORY / folder).rglob("*")
        if path.suffix in {".py", *BESIDES_CODE} or path.name == "py.typed"
    }
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        assert needed <= {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {re.sub("^configs/", "nmfdnn/configs/", name) for name in needed} <= names


def test_one_version_and_only_what_was_tried(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    assert metadata["Version"] == nmfdnn.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", nmfdnn.__version__)
    pythons = [c for c in metadata.get_all("Classifier") if re.search(r"Python :: \d\.", c)]
    assert pythons == ["Programming Language :: Python :: 3.11"]
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == nmfdnn.__version__
    assert f"## {nmfdnn.__version__}\n" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not find_spec("twine"), reason="needs pip install 'nmfdnn[test]'")
def test_an_index_would_take_both(built):
    files = map(str, built.iterdir())
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_in_another_environment_run_from_another_folder(wheel, tmp_path):
    other = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(other)], check=True)
    programs = other / "bin"
    install = [str(programs / "python"), "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True)
    # The dependencies come from this environment: a path in a .pth file makes its packages importable, but
    # does not run its own .pth files, so the source tree stays out of sight.
    (site,) = (other / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(f"{Path(torch.__file__).parents[1]}\n", encoding="utf-8")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def installed(program: str, *arguments: str) -> str:
        command = [str(programs / program), *arguments]
        done = subprocess.run(command, cwd=elsewhere, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert str(site) in installed("python", "-c", "import nmfdnn; print(nmfdnn.__file__)")
    assert "experiment=NAME" in installed("nmfdnn", "--help")
    built_kernel = "import torch; from nmfdnn.kernels.native import descend; print(descend(torch.float32))"
    assert "descend" in installed("python", "-c", built_kernel)
    installed("nmfdnn", "-m", *TINY, "epochs=2", "seed=1,2", "hydra.sweep.dir=sweep")
    runs = [path.parent for path in sorted(elsewhere.glob("sweep/*/summary.json"))]
    assert len(runs) == 2
    assert json.loads((runs[0] / "summary.json").read_text(encoding="utf-8"))["git_commit"] is None
    installed("nmfdnn-compare", "sweep", "--output", "curves.png")
    installed("nmfdnn", "report", "sweep", "--output", "page.html")
    installed("nmfdnn", "export", str(runs[0]), "--to", "safetensors", "--output", "model.safetensors")
    assert {"curves.png", "page.html", "model.safetensors"} <= {path.name for path in elsewhere.iterdir()}
