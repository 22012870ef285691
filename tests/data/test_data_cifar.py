"""CIFAR-10 in both formats, and the unpickler that runs no code."""

from __future__ import annotations

import pickle
import struct

import numpy as np
import pytest
import torch
from data_files import expect, load, md5, write

from nmfdnn.data import CIFAR10, cifar
from nmfdnn.errors import DataError

N = 20
NAMES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(cifar, "RECORDS", N)


def batch(seed):
    rng = np.random.default_rng(seed)
    return rng.integers(256, size=(N, 3072), dtype=np.uint8), (rng.permutation(N) % 10).tolist()


def python2_pickle(data, labels):
    """What Python 2 wrote: byte strings without a marked encoding, and NumPy's old module names."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
        b"(K\x01" + struct.pack("<BHBH", ord("M"), len(data), ord("M"), 3072) + b"\x86"
        b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<I", data.nbytes) + data.tobytes() + b"tb"
    )
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels" + numbers + b"u."


def python3_pickle(data, labels):
    return pickle.dumps({"data": data, "labels": labels}, protocol=2)


def binary(data, labels):
    return np.column_stack([np.array(labels, np.uint8), data]).tobytes()


def python_set(write_batch=python2_pickle):
    return {name: write_batch(*batch(i)) for i, name in enumerate(NAMES)}


def binary_set():
    return {f"{name}.bin": binary(*batch(i)) for i, name in enumerate(NAMES)}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("write_batch", [python2_pickle, python3_pickle])
def test_pickles_of_either_python(tmp_path, write_batch):
    data, labels = batch(0)
    content = write_batch(data, labels)
    (tmp_path / "batch").write_bytes(content)
    X, y = cifar.read_python_batch(tmp_path / "batch", md5(content))
    assert np.array_equal(X.reshape(N, -1), data)
    assert y.tolist() == labels
    assert X.shape == (N, 3, 32, 32)


@pytest.mark.parametrize("below", ["", "named"], ids=["in root", "in the archive's folder"])
def test_both_formats_give_the_same_set(tmp_path, monkeypatch, below):
    contents = python_set()
    expect(monkeypatch, "cifar10", contents)
    write(tmp_path / "one" / ("cifar-10-batches-py" if below else ""), contents)
    write(tmp_path / "two" / ("cifar-10-batches-bin" if below else ""), binary_set())
    one, two = (load(CIFAR10(root=str(tmp_path / root), scale=False)) for root in ("one", "two"))
    assert (one.features, one.image_shape, one.outputs) == (3072, (3, 32, 32), 10)
    assert (len(one.train), len(one.validation), len(one.test)) == (90, 10, 20)
    for a, b in ((one.train, two.train), (one.validation, two.validation), (one.test, two.test)):
        assert torch.equal(a.X, b.X)
        assert torch.equal(a.labels, b.labels)
    data, labels = batch(5)
    assert np.array_equal(one.test.X.numpy(), data)
    assert one.test.labels.tolist() == labels


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return exec, (f"open({str(self.marker)!r}, 'w').close()",)


def test_malicious_pickle_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "executed"
    data, labels = batch(0)
    content = pickle.dumps({"data": data, "labels": labels, "more": Malicious(marker)}, protocol=2)
    pickle.loads(content)
    assert marker.exists()  # it would do harm
    marker.unlink()
    (tmp_path / "batch").write_bytes(content)
    with pytest.raises(DataError, match=r"found a reference to __builtin__\.exec; do not trust this file"):
        cifar.read_python_batch(tmp_path / "batch", md5(content))
    assert not marker.exists()


@pytest.mark.parametrize(
    "name", ["numpy.load", "numpy.core.multiarray.fromstring", "numpy._core.multiarray.scalar", "os.system"]
)
def test_other_names_are_refused(tmp_path, name):
    module, _, attribute = name.rpartition(".")
    content = f"c{module}\n{attribute}\n.".encode()
    (tmp_path / "batch").write_bytes(content)
    with pytest.raises(DataError, match=f"reference to {name}"):
        cifar.read_python_batch(tmp_path / "batch", md5(content))


DATA, LABELS = batch(0)
BAD_PICKLES = {
    "no pickle": (b"\x00\x01", r"a pickled batch with 'data' and 'labels', found UnpicklingError"),
    "empty": (b"", r"found EOFError"),
    "truncated": (python2_pickle(DATA, LABELS)[:-100], r"a pickled batch .*found \w+"),
    "no labels": (pickle.dumps({"data": DATA}), r"found KeyError: 'labels'"),
    "no dictionary": (pickle.dumps([1, 2]), r"found TypeError"),
    "few images": (
        python3_pickle(DATA[1:], LABELS),
        r"20 × 3072 bytes and 20 labels, found data \(19, 3072\)",
    ),
    "signed": (python3_pickle(DATA.astype(np.int8), LABELS), r"found data \(20, 3072\) of int8"),
    "large": (python3_pickle(DATA.astype(float), LABELS), r"at most 122880 bytes, found \d{6} bytes"),
    "few labels": (python3_pickle(DATA, LABELS[1:]), r"and labels \(19,\)"),
    "text labels": (python3_pickle(DATA, ["a"] * N), r"labels \(20,\) of <U1"),
    "bad label": (python3_pickle(DATA, [*LABELS[1:], 10]), r"labels 0\.\.9, found \d\.\.10"),
}


@pytest.mark.parametrize("case", BAD_PICKLES)
def test_bad_pickles(tmp_path, case):
    content, message = BAD_PICKLES[case]
    (tmp_path / "batch").write_bytes(content)
    with pytest.raises(DataError, match=rf"batch: expected .*{message}.*; delete this file"):
        cifar.read_python_batch(tmp_path / "batch", md5(content))


def test_wrong_digest(tmp_path):
    with pytest.raises(DataError, match=r"data_batch_1: expected contents with MD5 c99cafc1\w+, found MD5"):
        load(CIFAR10(root=str(write(tmp_path, python_set()))))


def test_bad_binary_batches(tmp_path):
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(binary(DATA, LABELS)[:-1])
    with pytest.raises(
        DataError, match=r"_1\.bin: expected 61460 bytes, found 61459 bytes; delete this file"
    ):
        cifar.read_binary_batch(path)
    path.write_bytes(binary(DATA, [*LABELS[1:], 11]))
    with pytest.raises(DataError, match=r"_1\.bin: expected labels 0\.\.9, found \d\.\.11"):
        cifar.read_binary_batch(path)


def test_published_size_of_a_binary_batch(tmp_path, monkeypatch):
    monkeypatch.undo()
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(b"")
    with pytest.raises(DataError, match="expected 30730000 bytes"):
        cifar.read_binary_batch(path)


@pytest.mark.parametrize("make", [python_set, binary_set])
def test_missing_batch(tmp_path, monkeypatch, make):
    expect(monkeypatch, "cifar10", python_set())
    contents = make()
    name = list(contents)[3]
    del contents[name]
    with pytest.raises(DataError, match=rf"expected .* of CIFAR-10, found .*; missing: {name}\. Complete"):
        load(CIFAR10(root=str(write(tmp_path, contents))))
