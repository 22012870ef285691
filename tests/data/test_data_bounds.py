"""Files that are larger than they may be, or claim to be: refused before they fill the memory."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tracemalloc
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
from data_files import IDX_NAMES, idx_bytes, image_set, load, md5, save_folder, write

from nmfdnn.data import CIFAR10, MNIST, Arrays, Synthetic
from nmfdnn.data.files import check_memory, read_bytes
from nmfdnn.data.idx import LARGEST, read_idx
from nmfdnn.errors import DataError

MB = 1 << 20
HUGE = 20 << 30


@contextmanager
def at_most(size):
    """Fails where more than ``size`` bytes are allocated at once."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= size


def sparse_file(path, size=HUGE):
    path.touch()
    os.truncate(path, size)


def bomb(size):
    """Some hundred MB of zeros in a few hundred kB, as several members."""
    return gzip.compress(bytes(16 * MB)) * (size // (16 * MB))


@pytest.mark.parametrize("ndim", LARGEST)
def test_a_file_that_inflates_beyond_its_format(tmp_path, ndim):
    (tmp_path / "file").write_bytes(bomb(256 * MB))
    with at_most(2 * LARGEST[ndim]), pytest.raises(DataError, match=rf"at most {LARGEST[ndim]} bytes, found"):
        read_idx(tmp_path / "file", ndim, "")


def test_a_bomb_behind_genuine_contents(tmp_path):
    content = idx_bytes(np.zeros(60_000, np.uint8))
    (tmp_path / "file").write_bytes(gzip.compress(content) + bomb(32 * MB))
    with pytest.raises(DataError, match="at most 60008 bytes, found"):
        read_idx(tmp_path / "file", 1, md5(content))


def test_one_byte_too_many_is_noticed_and_none_too_many_is_not(tmp_path):
    for packed in (bytes, gzip.compress):
        (tmp_path / "file").write_bytes(packed(bytes(1000)))
        assert read_bytes(tmp_path / "file", 1000) == bytes(1000)
        with pytest.raises(DataError, match="at most 999 bytes"):
            read_bytes(tmp_path / "file", 999)
    noise = np.random.default_rng(0).bytes(1 * MB)
    (tmp_path / "file").write_bytes(gzip.compress(noise))  # larger than what it holds
    assert read_bytes(tmp_path / "file", 1 * MB) == noise


@pytest.mark.parametrize("start", [b"", b"\x1f\x8b\x08"], ids=["plain", "gzip"])
def test_huge_sparse_files(tmp_path, start):
    for name in (*IDX_NAMES, *(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (tmp_path / name).write_bytes(start)
        os.truncate(tmp_path / name, HUGE)
    for config in (MNIST(root=str(tmp_path)), CIFAR10(root=str(tmp_path))):
        with at_most(MB), pytest.raises(DataError, match=rf"at most \d+ bytes, found {HUGE} bytes; delete"):
            load(config)


def test_huge_sparse_binary_batches(tmp_path):
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        sparse_file(tmp_path / name)
    with at_most(MB), pytest.raises(DataError, match=rf"at most 30730000 bytes, found {HUGE} bytes"):
        load(CIFAR10(root=str(tmp_path)))


def test_an_idx_header_that_claims_too_much(tmp_path):
    contents = image_set(0)
    contents[IDX_NAMES[0]] = struct.pack(">4I", 0x0803, 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(50)
    with at_most(MB), pytest.raises(DataError, match=r"bytes for the shape \(4294967295, .*found 66 bytes"):
        load(MNIST(root=str(write(tmp_path, contents))))


def npy(header, body=b""):
    """An .npy file of version 1 with any text for a header."""
    text = header.encode()
    text = text.ljust(-(-(len(text) + 11) // 64) * 64 - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def described(shape, dtype="<f8"):
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}"


def array(values):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, values)
    return buffer.getvalue()


LABELS = array(np.arange(100) % 2)
HOSTILE = {
    "many rows": npy(described("(1000000000000, 5)"), bytes(99)),
    "rows beyond 64 bits": npy(described(f"(1{'0' * 30}, 5)"), bytes(99)),
    "dimensions beyond 64 bits": npy(described("(4294967296, 4294967296, 0)"), bytes(99)),
    "negative": npy(described("(-1, -8)"), bytes(64)),
    "fewer rows than bytes": npy(described("(100, 5)"), bytes(8000)),
    "parentheses": npy("(" * 9000),
    "long header": npy(" " * 60_000 + described("(100, 5)"), bytes(4000)),
    "an expression": npy("__import__('os').getcwd()"),
    "objects": npy(described("(100, 5)", "|O"), bytes(4000)),
    "fields": npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (100, 5)}", bytes(4000)),
    "no such type": npy(described("(100, 5)", "<f9"), bytes(4000)),
    "wide items": npy(described("(100, 5)", "<U2000000000"), bytes(4000)),
    "future version": npy(described("(100, 5)"), bytes(4000)).replace(b"NUMPY\x01", b"NUMPY\x09"),
    "endless header": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + bytes(4000),
    "no header": b"\x93NUMPY",
    "nothing": b"",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, None], ids=["stored", "deflated", "folder"]
)
def test_hostile_headers(tmp_path, case, method):
    path = tmp_path / "a.npz"
    if method is None:
        path = write(path, {"X.npy": HOSTILE[case], "y.npy": LABELS})
    else:
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("X.npy", HOSTILE[case])
            archive.writestr("y.npy", LABELS)
    with at_most(8 * MB), pytest.raises(DataError, match=r"a\.npz(/X\.npy)?: expected .* in X, found "):
        load(Arrays(path=str(path)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_headers_of_labels(tmp_path, case):
    path = write(tmp_path / "a", {"X.npy": array(np.eye(100)), "y.npy": HOSTILE[case]})
    with at_most(8 * MB), pytest.raises(DataError, match=r"a(/y\.npy)?: expected .* in y, found "):
        load(Arrays(path=str(path)))


def test_labels_of_a_folder_that_are_larger_than_the_memory(tmp_path):
    rows = 10**12
    path = write(
        tmp_path / "a",
        {"X.npy": npy(described(f"({rows}, 1)", "|u1")), "y.npy": npy(described(f"({rows},)"))},
    )
    for name, size in (("X.npy", rows), ("y.npy", 8 * rows)):
        os.truncate(path / name, (path / name).stat().st_size + size)
    message = r"y\.npy: reading these labels would take 32,000 GB, and this machine .*; store one number"
    with at_most(MB), pytest.raises(DataError, match=message):
        load(Arrays(path=str(path)))


def test_a_folder_is_loaded_with_less_memory_than_it_has_samples(tmp_path, monkeypatch):
    """What stays in memory are the labels and the order of the samples."""
    monkeypatch.setattr("nmfdnn.data.preprocessing.VALUES_AT_ONCE", 1 << 16)
    X = np.random.default_rng(0).random((20_000, 200), dtype=np.float32)
    path = save_folder(tmp_path / "a", [12_000], X=X, y=np.arange(20_000) % 2)
    with at_most(X.nbytes / 4):
        data = load(Arrays(path=str(path), standardize="standard", memory_gb=1e-3))
        for batch in data.train.passes():
            assert len(batch.X) < 1000


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["bzip2", "lzma"])
def test_ways_of_packing_that_inflate_without_bounds(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("X.npy", npy(described("(100, 5)"), bytes(4000)))
        archive.writestr("y.npy", LABELS)
    with pytest.raises(DataError, match="X as NumPy packs it, found another way of packing"):
        load(Arrays(path=str(tmp_path / "a.npz")))


def patched(content, size, fields):
    """The archive with ``size`` in place of its first member's sizes, in both of its directories."""
    content = bytearray(content)
    central = content.index(b"PK\x01\x02")
    for field in fields:
        offset = {"compressed": 18, "size": 22}[field]
        for start, shift in ((0, 0), (central, 2)):
            content[start + offset + shift : start + offset + shift + 4] = struct.pack("<I", size)
    return bytes(content)


@pytest.mark.parametrize("shape", ["(100, 5)", "(100000, 5)"], ids=["more than it says", "less than it says"])
def test_a_directory_that_does_not_tell_the_size(tmp_path, shape):
    inside = npy(described(shape), bytes(4_000_000 if shape == "(100, 5)" else 4000))
    claimed = len(npy(described(shape))) + (4000 if shape == "(100, 5)" else 4_000_000)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", inside)
        archive.writestr("y.npy", LABELS)
    (tmp_path / "a.npz").write_bytes(patched(buffer.getvalue(), claimed, ["size"]))
    with at_most(8 * MB), pytest.raises(DataError, match=r"a plain array in X, found a damaged one \("):
        load(Arrays(path=str(tmp_path / "a.npz")))


def test_arrays_larger_than_the_memory(tmp_path):
    rows = 10**15
    header = npy(described(f"({rows}, 1)", "|u1"))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("y.npy", LABELS)
        archive.writestr("X.npy", header)
        archive.infolist()[1].file_size = rows + len(header)  # goes into the directory
    message = r"a\.npz: training on it would take 2,000,000 GB, and this machine has \d+ GB of memory; store"
    with at_most(MB), pytest.raises(DataError, match=message):
        load(Arrays(path=str(tmp_path / "a.npz")))


def test_planted_data_larger_than_the_memory():
    with at_most(MB), pytest.raises(DataError, match=r"planting .* would take .* GB.*data\.samples"):
        load(Synthetic(samples=10**12))


def test_the_bound_on_memory_lets_pass_what_fits():
    check_memory(1, "one byte", "")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("standardize", ["standard", "none"])
def test_loading_needs_the_arrays_and_the_result_and_little_more(tmp_path, monkeypatch, order, standardize):
    """Tensors are not traced: what is traced are the arrays of the file and what is copied of them."""
    monkeypatch.setattr("nmfdnn.data.preprocessing.VALUES_AT_ONCE", 1 << 16)
    X = np.asarray(np.random.default_rng(0).random((20_000, 100)), order=order)
    np.savez(tmp_path / "a.npz", X=X, y=np.arange(20_000) % 2)
    with at_most(X.nbytes * 1.3):
        load(Arrays(path=str(tmp_path / "a.npz"), standardize=standardize))
