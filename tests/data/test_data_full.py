"""The genuine Fashion-MNIST, where Debian's package has put it."""

from __future__ import annotations

import pytest
import torch
from data_files import load

from nmfdnn.data import FashionMNIST
from nmfdnn.data.full import FILES

FOLDER = FILES["fashion_mnist"].system


@pytest.mark.full_data
@pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the Debian package dataset-fashion-mnist")
def test_fashion_mnist():
    data = load(FashionMNIST(root=str(FOLDER), validation=0))
    assert data.train.X.shape == (60000, 784)
    assert data.test.X.shape == (10000, 784)
    assert torch.bincount(data.train.labels).tolist() == [6000] * 10
    assert torch.bincount(data.test.labels).tolist() == [1000] * 10
    assert data.image_shape == (28, 28)
    assert data.train.X.min() == 0
    assert data.train.X.max() == 1
    # the first test image is an ankle boot
    assert data.classes[data.test.labels[0]] == "Ankle boot"
