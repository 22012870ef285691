"""From raw rows to what the network sees: fitted to the training part alone, right in any unit."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from data_files import CPU, load

from nmfdnn.data import Arrays, Digits, MNIST5k, Preprocessing, Synthetic
from nmfdnn.errors import ConfigError, DataError

DEVICES = [CPU] + ([torch.device("cuda")] if torch.cuda.is_available() else [])
N = 400
Y = np.arange(N) % 4


@pytest.fixture
def save(tmp_path):
    def save(X, **keys):
        np.savez(tmp_path / "mine.npz", X=X, y=Y, **keys.pop("arrays", {}))
        return Arrays(path=str(tmp_path / "mine.npz"), **keys)

    return save


def table():
    return np.random.default_rng(0).standard_normal((N, 5))


UNITS = {
    "as it is": (1, 0),
    "tiny": (1e-20, 0),
    "huge": (1e20, 0),
    "beyond float32": (1e-200, 0),
    "far beyond float32": (1e300, 0),
    "far from zero": (1, 1e6),
    "time stamps": (1e7, 1.6e9),
    "negative offset": (1e-3, -1e5),
}


@pytest.mark.parametrize("kind", ["standard", "minmax"])
@pytest.mark.parametrize("unit", UNITS)
def test_any_unit_gives_the_same(save, unit, kind):
    factor, offset = UNITS[unit]
    ours = load(save(table() * factor + offset, standardize=kind))
    plain = load(save(table(), standardize=kind))
    for part in ("train", "validation", "test"):
        torch.testing.assert_close(getattr(ours, part).X, getattr(plain, part).X, rtol=1e-5, atol=1e-6)


def test_standard_is_mean_and_deviation_of_the_training_part_alone(save):
    data = load(save(table() * [1, 2, 30, 400, 5e7] + 1e6), dtype=torch.float64)
    X = data.train.X
    torch.testing.assert_close(X.mean(dim=0), torch.zeros(5, dtype=X.dtype), rtol=0, atol=1e-8)
    torch.testing.assert_close(X.std(dim=0, correction=0), torch.ones(5, dtype=X.dtype))
    for held in (data.validation.X, data.test.X):
        assert not torch.isclose(held.std(dim=0, correction=0), torch.ones(5, dtype=X.dtype)).any()


def test_minmax_is_the_range_of_the_training_part_alone(save):
    X_test = np.full((2, 5), 1e3)
    data = load(
        save(table(), standardize="minmax", arrays={"X_test": X_test, "y_test": Y[:2]}), dtype=torch.float64
    )
    assert torch.equal(data.train.X.min(dim=0).values, torch.zeros(5, dtype=torch.float64))
    assert torch.equal(data.train.X.max(dim=0).values, torch.ones(5, dtype=torch.float64))
    assert data.test.X.min() > 100


def test_constant_features_become_zero_everywhere(save):
    X = table()
    X[:, 1], X[:, 2] = 0.1 + 0.2, 0
    X_test = table()[:8] + 5
    for kind in ("standard", "minmax"):
        data = load(save(X, standardize=kind, arrays={"X_test": X_test, "y_test": Y[:8]}))
        for part in (data.train, data.validation, data.test):
            assert part.X.isfinite().all()
            assert part.X[:, 1:3].count_nonzero() == 0
            assert part.X[:, 0].count_nonzero() > 0


def test_rounding_does_not_make_a_constant_vary(save):
    X = table()
    X[:, 3] = 0.3
    X[::2, 3] = 0.1 + 0.2  # one unit in the last place more
    assert load(save(X)).train.X[:, 3].count_nonzero() == 0


@pytest.mark.parametrize("kind", ["auto", "none", "minmax"])
def test_nothing_varies(save, kind):
    with pytest.raises(DataError, match=r"all features are constant in the 288 training samples"):
        load(save(np.ones((N, 5)), standardize=kind))


def test_a_range_beyond_float64(save):
    X = table()
    X[:, 2] = np.where(Y == 0, -1.7e308, 1.7e308)
    with pytest.raises(DataError, match="feature 2 of X varies by more than float64 can hold: rescale it"):
        load(save(X, standardize="minmax"))


PICTURES = np.random.default_rng(1).integers(256, size=(N, 4, 5), dtype=np.uint8)
AUTO = {
    "float table": (table(), "standard"),
    "integer table": ((table() * 9).astype(np.int64), "standard"),
    "truth values": (table() > 0, "standard"),
    "bytes of 0 and 1": ((table() > 0).astype(np.uint8), "standard"),
    "bytes": (PICTURES.reshape(N, 20), "none"),
    "pictures": (PICTURES, "none"),
    "pictures of floats": (PICTURES / 255, "none"),
}


@pytest.mark.parametrize("case", AUTO)
def test_the_default_standardizes_tables_and_leaves_pixels(save, case):
    X, kind = AUTO[case]
    data = load(save(X))
    assert data.preprocessing.kind == kind
    if kind == "none":
        assert data.train.X.min() == 0
        assert data.train.X.max() == 1


@pytest.mark.parametrize("factor", [1e-20, 1 / 255, 1, 4095, 1e30])
def test_pictures_of_any_numbers_are_divided_by_their_largest_magnitude(save, factor):
    pictures = PICTURES.astype(float)
    for X, largest in ((pictures, 255), (pictures - 200, 200)):
        data = load(save(X * factor, arrays={"X_test": X[:8] * factor, "y_test": Y[:8]}))
        torch.testing.assert_close(data.test.X, torch.from_numpy(X[:8].reshape(8, -1) / largest).float())
        untouched = load(save(X * factor, standardize="none")).train.X
        assert untouched.abs().max() == pytest.approx(largest * factor)


def test_integers_without_a_magnitude(save):
    X = PICTURES.astype(np.int8)
    X[0, 0, 0] = -128
    assert load(save(X, validation=0, test=0.01)).train.X.min() == -1


def test_bytes_of_0_and_1_are_no_pixels(save):
    X = (PICTURES > 127).astype(np.uint8)
    assert load(save(X)).train.X.max() == 1
    assert load(save(X[:, 0], standardize="none")).train.X.max() == 1
    X_test = X[:4] * 255  # but these are
    data = load(save(X, arrays={"X_test": X_test, "y_test": Y[:4]}))
    assert data.test.X.max() == 1
    assert data.train.X.max() == pytest.approx(1 / 255)


@pytest.mark.parametrize("config", [MNIST5k(), Digits(), Synthetic()], ids=lambda c: c.name)
def test_the_other_sets_are_left_alone_by_default(config):
    assert load(config).preprocessing.kind == "none"


def test_pixels_can_be_standardized():
    X = load(Digits(standardize="standard"), dtype=torch.float64).train.X
    deviations = X.std(dim=0, correction=0)
    torch.testing.assert_close(deviations, (deviations > 0).double())
    assert torch.equal(X, load(Digits(standardize="standard", scale=False), dtype=torch.float64).train.X)


def test_unknown_choice():
    with pytest.raises(ConfigError, match=r"data\.standardize must be one of auto, .* got 'zscore'"):
        Digits(standardize="zscore")


@pytest.mark.parametrize("kind", ["i8", "u8", "u4", "f2", ">f4", ">i2", "?", "longdouble", "i1"])
def test_types(save, kind):
    X = (table() * 3).clip(0).round().astype(kind)
    data = load(save(X, arrays={"X_test": X, "y_test": Y}, validation=0))
    assert torch.equal(data.train.X.sort(dim=0).values, data.test.X.sort(dim=0).values)
    reference = (X - X.astype(float).mean(axis=0)) / X.astype(float).std(axis=0)
    torch.testing.assert_close(data.test.X, torch.from_numpy(reference.astype(np.float32)))


def test_long_doubles_keep_the_precision_of_doubles(save):
    ours = load(save((table() + 1e6).astype("longdouble"))).train.X
    torch.testing.assert_close(ours, load(save(table())).train.X)


def test_huge_integers(save):
    X = (table() * 1e17).astype(np.int64) + 4 * 10**18
    torch.testing.assert_close(load(save(X)).train.X, load(save(table())).train.X, rtol=1e-4, atol=1e-4)


def test_values_beyond_the_type_and_both_remedies(save):
    X = table() * 1e300
    with pytest.raises(DataError, match=r"not finite in torch\.float32: .*dtype=float64 or data\.stand"):
        load(save(X, standardize="none"))
    assert load(save(X, standardize="none"), dtype=torch.float64).train.X.isfinite().all()
    assert load(save(X, standardize="standard")).train.X.isfinite().all()


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("config", [Digits(), Digits(standardize="minmax"), Synthetic(standardize="auto")])
def test_it_can_be_stored_and_applied_to_raw_rows(config, device, tmp_path):
    from sklearn.datasets import load_digits

    data = load(config, device=device)
    buffer = io.BytesIO()
    torch.save(data.preprocessing.state(), buffer)
    buffer.seek(0)
    restored = Preprocessing.from_state(torch.load(buffer, map_location=device, weights_only=True))
    raw = load_digits().images if config.name == "digits" else np.random.default_rng(0).random((9, 50))
    one = data.preprocessing.apply(raw, device=device)
    assert torch.equal(restored.apply(raw, device=device), one)
    assert torch.equal(restored.apply(torch.from_numpy(raw), np.arange(5), device=device), one[:5])
    if config.name == "digits":
        known = {tuple(row) for row in one.tolist()}
        assert {tuple(row) for row in data.test.X.tolist()} <= known


def test_many_rows_are_handled_in_parts(monkeypatch, save):
    whole = load(save(table()))
    monkeypatch.setattr("nmfdnn.data.preprocessing.VALUES_AT_ONCE", 37)
    torch.testing.assert_close(load(save(table())).train.X, whole.train.X)


@pytest.mark.parametrize("X", [np.ones((3, 4)), np.ones(5), np.ones((3, 5)).astype(str)], ids=str)
def test_rows_of_another_kind(save, X):
    preprocessing = load(save(table())).preprocessing
    with pytest.raises(DataError, match=r"samples must be real numbers, n × 5, got shape \(.*\) of"):
        preprocessing.apply(X)


def test_missing_values(save):
    preprocessing = load(save(table())).preprocessing
    with pytest.raises(DataError, match=r"not finite in torch\.float32: fill in what is missing"):
        preprocessing.apply(np.full((3, 5), np.nan))


@pytest.mark.parametrize("kind", ["standard", "minmax"])
def test_weights_are_repetitions(kind):
    rng = np.random.default_rng(0)
    X, counts = rng.random((30, 4)) * [1, 1e6, 1, 1e-9] + [0, 1e6, 3, 0], rng.integers(1, 4, 30)
    X[:, 2] = 3
    extremes = X.min(axis=0), X.max(axis=0)
    weighted = Preprocessing.fit(kind, X, np.arange(30), *extremes, weights=counts.astype(float))
    repeated = X.repeat(counts, axis=0)
    plain = Preprocessing.fit(kind, repeated, np.arange(len(repeated)), *extremes)
    np.testing.assert_allclose(weighted.offset, plain.offset, rtol=1e-12)
    np.testing.assert_allclose(weighted.scale, plain.scale, rtol=1e-12)
