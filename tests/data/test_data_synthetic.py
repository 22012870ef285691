"""The planted problem."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from data_files import load

from nmfdnn.data import Synthetic
from nmfdnn.errors import ConfigError


@pytest.mark.parametrize("hidden", [[], [30], [40, 20, 30]], ids=str)
def test_sizes_ranges_and_balance(hidden):
    data = load(Synthetic(samples=1500, features=17, classes=4, hidden=hidden, test=0.3, validation=0.2))
    assert (len(data.train), len(data.validation), len(data.test)) == (840, 210, 450)
    assert (data.features, data.outputs, data.image_shape) == (17, 4, None)
    assert data.train.X.min() >= 0
    assert data.train.X.max() <= 1
    counts = torch.bincount(data.train.labels, minlength=4)
    assert counts.min() > 840 / 4 / 4
    assert counts.max() < 840 / 4 * 4


def test_a_linear_teacher_can_be_learnt_by_a_linear_map():
    data = load(Synthetic(samples=4000, features=10, classes=3, hidden=[], validation=0), dtype=torch.float64)
    design = torch.cat([data.train.X, torch.ones(len(data.train), 1, dtype=torch.float64)], dim=1)
    weights = torch.linalg.lstsq(design, torch.eye(3, dtype=torch.float64)[data.train.labels]).solution
    predicted = (data.test.X @ weights[:-1] + weights[-1]).argmax(dim=1)
    assert (predicted == data.test.labels).double().mean() > 0.85


def test_noise_redraws_that_fraction_of_the_labels():
    clean, noisy = (load(Synthetic(samples=4000, classes=4, noise=noise, validation=0)) for noise in (0, 0.4))

    def labels(data):
        X = torch.cat([data.train.X, data.test.X]).numpy()
        y = torch.cat([data.train.labels, data.test.labels]).numpy()
        return y[np.lexsort(X.T)]

    # a redrawn label is the old one in a quarter of the cases
    assert (labels(clean) != labels(noisy)).mean() == pytest.approx(0.3, abs=0.03)


def test_a_teacher_too_narrow_for_its_classes():
    with pytest.raises(ConfigError, match=r"data\.hidden=\[1\].* of data\.classes=8 classes .* wider layers"):
        load(Synthetic(samples=200, features=4, classes=8, hidden=[1]))
