"""The idx reader and the sets in that format."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import torch
from data_files import IDX_NAMES, expect, idx_bytes, image_set, load, md5, pixels, write

from nmfdnn.data import MNIST, FashionMNIST
from nmfdnn.data.idx import read_idx
from nmfdnn.errors import DataError

IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_content_decides_whether_it_is_gzip(tmp_path, packed, name):
    content = idx_bytes(IMAGES)
    (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)
    assert np.array_equal(read_idx(tmp_path / name, 3, md5(content)), IMAGES)


LABELS = idx_bytes(IMAGES[0, 0])
BAD = {
    "empty": (b"", r"an idx header of 16 bytes, found 0 bytes"),
    "wrong magic": (b"\x89PNG" + bytes(100), r"magic number 0x0803, found 0x89504e47"),
    "labels for images": (LABELS + bytes(20), r"magic number 0x0803, found 0x0801"),
    "too short": (
        idx_bytes(IMAGES)[:-1],
        r"76 bytes for the shape \(3, 4, 5\) in its header, found 75 bytes",
    ),
    "too long": (idx_bytes(IMAGES) + b"\0", r"76 bytes for the shape .*, found 77 bytes"),
    "truncated gzip": (gzip.compress(idx_bytes(IMAGES))[:-12], r"a whole gzip file, found a damaged one"),
    "damaged gzip": (gzip.compress(idx_bytes(IMAGES))[:-8] + bytes(8), r"a whole gzip file, .*CRC"),
    "other contents": (idx_bytes(IMAGES[::-1].copy()), r"contents with MD5 \w{32}, found MD5 \w{32}"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path, case):
    content, message = BAD[case]
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(
        DataError, match=rf"images: expected .*{message}.*; delete this file and fetch it again"
    ):
        read_idx(tmp_path / "images", 3, md5(idx_bytes(IMAGES)))


def test_absent_file(tmp_path):
    with pytest.raises(DataError, match="images: expected a readable file, found No such file"):
        read_idx(tmp_path / "images", 3, "")


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("schema", [MNIST, FashionMNIST], ids=lambda s: s.name)
def test_sets_keep_the_official_test_part(tmp_path, monkeypatch, schema, packed):
    contents = image_set(1)
    expect(monkeypatch, schema.name, contents)
    data = load(schema(root=str(write(tmp_path, contents, packed)), scale=False))
    assert (data.name, data.image_shape, data.outputs) == (schema.name, (4, 5), 10)
    assert torch.equal(data.test.X.to(torch.uint8), pixels(contents, 2))
    together = torch.cat([data.train.X, data.validation.X]).to(torch.uint8)
    assert sorted(together.tolist()) == sorted(pixels(contents, 0).tolist())
    assert torch.bincount(data.train.labels).tolist() == [9] * 10
    other = load(schema(root=str(tmp_path), scale=False), seed=1)
    assert torch.equal(other.test.X, data.test.X)
    assert not torch.equal(other.train.X, data.train.X)


def test_pixels_are_scaled_to_one(tmp_path, monkeypatch):
    contents = image_set(1)
    expect(monkeypatch, "mnist", contents)
    data = load(MNIST(root=str(write(tmp_path, contents))))
    torch.testing.assert_close(data.test.X, pixels(contents, 2) / 255)


def test_genuine_digests_refuse_a_fabricated_set(tmp_path):
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte: expected contents with MD5 6bbc9ace"):
        load(MNIST(root=str(write(tmp_path, image_set(1)))))


def test_labels_must_fit_the_images(tmp_path, monkeypatch):
    contents = image_set(1)
    for labels, found in ((np.zeros(99), "99 labels up to 0"), (np.full(100, 10), "100 labels up to 10")):
        contents[IDX_NAMES[1]] = idx_bytes(labels.astype(np.uint8))
        expect(monkeypatch, "mnist", contents)
        with pytest.raises(DataError, match=rf"labels.*: expected 100 labels 0\.\.9, .* found {found}"):
            load(MNIST(root=str(write(tmp_path, contents))))
