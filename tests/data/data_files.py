"""Fabricates the files of small full sets for the tests of `nmfdnn.data`."""

from __future__ import annotations

import gzip
import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from nmfdnn import data
from nmfdnn.data import full

CPU = torch.device("cpu")
IDX_NAMES = tuple(full.FILES["fashion_mnist"].variants[0])


def load(config, *, seed=0, device=CPU, dtype=torch.float32):
    return data.load(config, seed=seed, device=device, dtype=dtype)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def image_set(seed: int, train: int = 100, test: int = 20) -> dict[str, bytes]:
    """Contents of the four idx files of a set of 4 × 5 pixels with ten balanced classes."""
    rng = np.random.default_rng(seed)
    arrays = []
    for n in (train, test):
        arrays += [
            rng.integers(256, size=(n, 4, 5), dtype=np.uint8),
            (rng.permutation(n) % 10).astype(np.uint8),
        ]
    return dict(zip(IDX_NAMES, map(idx_bytes, arrays), strict=True))


def write(folder: Path, contents: dict[str, bytes], packed: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


def expect(monkeypatch, name: str, contents: dict[str, bytes], system: Path | None = None) -> None:
    """Make these contents the genuine ones of the set ``name``."""
    digests = {key: md5(content) for key, content in contents.items()}
    others = full.FILES[name].variants[1:]
    fake = replace(full.FILES[name], variants=(digests, *others), system=system)
    monkeypatch.setitem(full.FILES, name, fake)


def pixels(contents: dict[str, bytes], part: int) -> torch.Tensor:
    """The images of the training (0) or test (2) part as rows of whole numbers."""
    content = contents[IDX_NAMES[part]]
    return torch.frombuffer(bytearray(content[16:]), dtype=torch.uint8).reshape(-1, 20)


def values(source) -> torch.Tensor:
    """All samples of a source, in order."""
    return torch.cat([batch.X for batch in source.passes()])


def save_folder(folder: Path, cuts=(), **arrays: np.ndarray) -> Path:
    """Write arrays as .npy files, cut into shards at these rows if there are any."""
    folder.mkdir(parents=True, exist_ok=True)
    for key, array in arrays.items():
        shards = np.split(array, cuts) if cuts else [array]
        for number, shard in enumerate(shards):
            np.save(folder / (f"{key}_{number:03}.npy" if cuts else f"{key}.npy"), shard)
    return folder
