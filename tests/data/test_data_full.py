"""The genuine files of the full sets, wherever `data.root` null finds them; skipped where they are not."""

from __future__ import annotations

import gzip

import pytest
import torch
from data_files import load, md5

from nmfdnn.data import MNIST, FashionMNIST
from nmfdnn.data.full import FILES
from nmfdnn.data.idx import read_idx
from nmfdnn.data.locate import locate
from nmfdnn.errors import DataError

pytestmark = pytest.mark.full_data

# Images of each class, and the names of the first labels.
MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
SETS = {
    "mnist": (MNIST, MNIST_TRAIN, MNIST_TEST, "5 0 4 1 9", "7 2 1 0 4"),
    "fashion_mnist": (
        FashionMNIST,
        [6000] * 10,
        [1000] * 10,
        "Ankle boot T-shirt/top T-shirt/top Dress T-shirt/top",
        "Ankle boot Pullover Trouser Trouser Shirt",
    ),
}


@pytest.fixture(params=SETS)
def genuine(request):
    """The name and the files of a set."""
    try:
        return request.param, list(locate(FILES[request.param], None, False))
    except DataError as error:
        pytest.skip(str(error).partition(". ")[0])


def test_the_set_as_published(genuine):
    schema, train, test, _, first_test = SETS[genuine[0]]
    data = load(schema(validation=0), seed=1)
    assert (data.train.X.shape, data.test.X.shape) == ((60000, 784), (10000, 784))
    assert data.image_shape == (28, 28)
    assert torch.bincount(data.train.labels).tolist() == train
    assert torch.bincount(data.test.labels).tolist() == test
    assert " ".join(data.classes[label] for label in data.test.labels[:5]) == first_test
    assert data.train.X.min() == 0
    assert data.train.X.max() == 1
    assert load(schema(validation=0.5), seed=2, dtype=torch.float16).digest == data.digest


def test_each_file_plain_and_packed(genuine, tmp_path):
    name, paths = genuine
    classes = load(SETS[name][0]()).classes
    for path, digest in zip(paths, FILES[name].variants[0].values(), strict=True):
        content = path.read_bytes()
        plain = gzip.decompress(content) if path.suffix == ".gz" else content
        assert md5(plain) == digest
        ndim, train = 1 if "labels" in path.name else 3, "train" in path.name
        for packed in (False, True):
            copy = tmp_path / path.name
            copy.write_bytes(gzip.compress(plain, 1) if packed else plain)
            array = read_idx(copy, ndim, digest)
            assert array.shape == (60000 if train else 10000, 28, 28)[:ndim]
            if ndim == 1:
                assert " ".join(classes[label] for label in array[:5]) == SETS[name][3 if train else 4]


def test_a_changed_byte_is_noticed(genuine, tmp_path):
    name, paths = genuine
    path, digest = paths[3], FILES[name].variants[0]["t10k-labels-idx1-ubyte"]
    content = path.read_bytes()
    content = bytearray(gzip.decompress(content) if path.suffix == ".gz" else content)
    content[5000] ^= 1
    (tmp_path / "labels").write_bytes(content)
    with pytest.raises(DataError, match=f"labels: expected contents with MD5 {digest}"):
        read_idx(tmp_path / "labels", 1, digest)
