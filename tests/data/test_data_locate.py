"""Where full sets are looked for, in which order, and what is said if they are not there."""

from __future__ import annotations

import sys

import pytest
import torch
from data_files import IDX_NAMES, expect, image_set, load, pixels, write

from nmfdnn.data import CIFAR10, MNIST, Arrays, FashionMNIST
from nmfdnn.errors import ConfigError, DataError

RAW = "FashionMNIST/raw"


@pytest.fixture(autouse=True)
def empty_place(tmp_path, monkeypatch):
    """A working directory without data, no variable set, no system folder with the genuine set."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("NMFDNN_DATA", raising=False)
    expect(monkeypatch, "fashion_mnist", image_set(0), system=tmp_path / "system")


@pytest.fixture
def torchvision(tmp_path, monkeypatch):
    """Puts a stand-in for torchvision first on the path; its argument is the code of its `datasets`."""

    def forget():
        kept = {name: m for name, m in sys.modules.items() if name.partition(".")[0] == "torchvision"}
        for name in kept:
            del sys.modules[name]
        return kept

    def install(datasets, package=""):
        folder = tmp_path / "site" / "torchvision"
        write(folder, {"__init__.py": package.encode(), "datasets.py": datasets.encode()})
        monkeypatch.syspath_prepend(str(folder.parent))

    genuine = forget()
    yield install
    forget()
    sys.modules.update(genuine)


def holds(data, seed):
    """Whether this is the fabricated set of that seed."""
    return torch.equal(data.test.X.to(torch.uint8), pixels(image_set(seed), 2))


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("place", ["", RAW], ids=["direct", "torchvision's layout"])
def test_root(tmp_path, place, packed):
    write(tmp_path / "root" / place, image_set(0), packed)
    assert holds(load(FashionMNIST(root=str(tmp_path / "root"), scale=False)), 0)


def test_relative_root_and_home(tmp_path, monkeypatch):
    write(tmp_path / "here" / "sets", image_set(0))
    assert holds(load(FashionMNIST(root="sets", scale=False)), 0)
    monkeypatch.setenv("HOME", str(tmp_path / "here"))
    monkeypatch.chdir(tmp_path)
    assert holds(load(FashionMNIST(root="~/sets", scale=False)), 0)


@pytest.mark.parametrize(
    ("schema", "folder"),
    [
        (MNIST, "mnist"),
        (MNIST, "MNIST/raw"),
        (FashionMNIST, "fashion_mnist"),
        (FashionMNIST, "fashion-mnist"),
    ],
)
def test_folders_in_the_name_of_a_set(tmp_path, monkeypatch, schema, folder):
    contents = image_set(5)
    expect(monkeypatch, schema.name, contents)
    monkeypatch.setenv("NMFDNN_DATA", str(tmp_path / "variable"))
    write(tmp_path / "variable" / folder, contents, packed=True)
    assert holds(load(schema(scale=False)), 5)
    assert holds(load(schema(scale=False, root=str(tmp_path / "variable"))), 5)


@pytest.mark.parametrize("location", ["~nosuchuser/x", "a\0b"])
def test_what_cannot_be_a_path(monkeypatch, location):
    with pytest.raises(ConfigError, match=r"data\.root must be a path, got .*: write it in full"):
        load(MNIST(root=location))
    with pytest.raises(ConfigError, match=r"data\.path must be a path, got .*: write it in full"):
        load(Arrays(path=location))
    if "\0" not in location:
        monkeypatch.setenv("NMFDNN_DATA", location)
        with pytest.raises(ConfigError, match=r"\$NMFDNN_DATA must be a path, got"):
            load(MNIST())


def test_a_path_beyond_all_lengths(tmp_path):
    with pytest.raises(DataError, match=r"File name too long"):
        load(MNIST(root=str(tmp_path / ("x" * 300))))


def test_order_of_places(tmp_path, monkeypatch):
    """Each place holds another set; filled from the last to the first, the newest always wins."""
    monkeypatch.setenv("NMFDNN_DATA", str(tmp_path / "variable"))
    order = ["system", f"here/data/{RAW}", f"variable/{RAW}"]
    for seed, place in enumerate(order):
        expect(monkeypatch, "fashion_mnist", image_set(seed), system=tmp_path / "system")
        write(tmp_path / place, image_set(seed), packed=place == "system")
        assert holds(load(FashionMNIST(scale=False)), seed)
    expect(monkeypatch, "fashion_mnist", image_set(9), system=tmp_path / "system")
    write(tmp_path / "root", image_set(9))
    assert holds(load(FashionMNIST(scale=False, root=str(tmp_path / "root"))), 9)


def test_root_without_the_data_is_an_error_even_if_other_places_have_it(tmp_path):
    write(tmp_path / "system", image_set(0))
    assert holds(load(FashionMNIST(scale=False)), 0)
    (tmp_path / "root").mkdir()
    with pytest.raises(
        DataError, match=r"Fashion-MNIST was not found(.|\n)*/root \(empty\)(.|\n)*set data\.root"
    ):
        load(FashionMNIST(root=str(tmp_path / "root")))
    (tmp_path / "root" / "notes.txt").touch()
    with pytest.raises(DataError, match=r"/root \(notes\.txt\)"):
        load(FashionMNIST(root=str(tmp_path / "root")))
    with pytest.raises(DataError, match=r"/absent \(No such file or directory\)"):
        load(FashionMNIST(root=str(tmp_path / "absent")))
    with pytest.raises(DataError, match=r"/notes\.txt \(Not a directory\)"):
        load(FashionMNIST(root=str(tmp_path / "root" / "notes.txt")))


def test_nothing_found_lists_places_and_remedies(tmp_path, monkeypatch):
    monkeypatch.setenv("NMFDNN_DATA", str(tmp_path / "variable"))
    with pytest.raises(DataError) as caught:
        load(FashionMNIST())
    message = str(caught.value)
    for place in (f"variable/{RAW}", f"here/data/{RAW}", "system"):
        assert str(tmp_path / place) in message
    for remedy in ("data.root=", "dataset-fashion-mnist", "data.download=true"):
        assert remedy in message
    with pytest.raises(DataError) as caught:
        load(MNIST())
    assert "dataset-fashion-mnist" not in str(caught.value)
    with pytest.raises(DataError, match=r"cifar-10-batches-py(.|\n)*cifar-10-batches-bin"):
        load(CIFAR10())


@pytest.mark.parametrize("name", IDX_NAMES)
def test_one_of_the_four_files_is_missing(tmp_path, name):
    contents = image_set(0)
    del contents[name]
    with pytest.raises(DataError, match=rf"root: expected .* of Fashion-MNIST, found .*missing: {name}\."):
        load(FashionMNIST(root=str(write(tmp_path / "root", contents))))


def test_mnist_is_not_taken_for_fashion(tmp_path):
    """Both use the same file names: a data folder that holds files directly says nothing about which set."""
    write(tmp_path / "here" / "data", image_set(0))
    with pytest.raises(DataError, match="Fashion-MNIST was not found"):
        load(FashionMNIST())


DOWNLOADS = """
import gzip, pathlib
class FashionMNIST:
    def __init__(self, root, download):
        source, target = pathlib.Path({source!r}), pathlib.Path(root) / "FashionMNIST" / "raw"
        target.mkdir(parents=True, exist_ok=True)
        for file in source.iterdir():
            (target / file.name).write_bytes(file.read_bytes())
"""


def fails(error):
    return (
        f"import urllib.error\nclass FashionMNIST:\n    def __init__(self, root, download): raise {error}\n"
    )


@pytest.mark.parametrize("target", ["root", "variable", "here/data"])
def test_download_fills_the_first_place(tmp_path, monkeypatch, torchvision, target):
    torchvision(DOWNLOADS.format(source=str(write(tmp_path / "server", image_set(0)))))
    if target == "variable":
        monkeypatch.setenv("NMFDNN_DATA", str(tmp_path / "variable"))
    root = str(tmp_path / "root") if target == "root" else None
    assert holds(load(FashionMNIST(root=root, download=True, scale=False)), 0)
    assert (tmp_path / target / RAW / IDX_NAMES[0]).is_file()
    assert holds(load(FashionMNIST(root=root, scale=False)), 0)  # and is found without it from now on


def test_download_completes_what_was_left_unfinished(tmp_path, torchvision):
    contents = image_set(0)
    torchvision(DOWNLOADS.format(source=str(write(tmp_path / "server", contents))))
    write(tmp_path / "here" / "data" / RAW, {IDX_NAMES[0]: contents[IDX_NAMES[0]]})
    with pytest.raises(DataError, match="missing: train-labels"):
        load(FashionMNIST())
    assert holds(load(FashionMNIST(download=True, scale=False)), 0)


def test_download_is_not_tried_if_the_files_are_there(tmp_path, torchvision):
    torchvision(fails("AssertionError"))
    write(tmp_path / "system", image_set(0))
    assert holds(load(FashionMNIST(download=True, scale=False)), 0)


@pytest.mark.parametrize(
    "error", ["RuntimeError('operator torchvision::nms does not exist')", "ImportError('no')"]
)
def test_torchvision_that_does_not_load(torchvision, error):
    torchvision("", package=f"raise {error}")
    message = r"needs torchvision, which does not load here .*matches your torch, or place train-images"
    with pytest.raises(DataError, match=message):
        load(FashionMNIST(download=True))


@pytest.mark.parametrize("error", ["urllib.error.URLError('no route')", "RuntimeError('Error downloading')"])
def test_no_network(torchvision, error):
    torchvision(fails(error))
    message = (
        rf"Fashion-MNIST could not be downloaded .*check the network, or place .* in .*/here/data/{RAW}$"
    )
    with pytest.raises(DataError, match=message):
        load(FashionMNIST(download=True))
