"""The factorizations as transformers: what they find is what the functions find."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import decomposition

from nmfdnn.errors import ConfigError, DataError
from nmfdnn.estimators import NMF, NMFAutoencoder, NonlinearSemiNMF, SemiNMF
from nmfdnn.factorization import nmf, nonlinear_semi_nmf, semi_nmf

LONG = {"max_iter": 2000, "tol": 1e-9, "random_state": 0}


@pytest.fixture
def planted(rng):
    return rng.random((50, 3)) @ rng.random((3, 12))


@pytest.mark.parametrize(
    ("estimator", "function", "options"),
    [
        (NMF(3, random_state=0), nmf, {"start": "nndsvda"}),
        (NMF(3, random_state=0, update="multiplicative", start="random"), nmf, {"update": "multiplicative"}),
        (SemiNMF(3, random_state=0, bias=True), semi_nmf, {"bias": True}),
        (NonlinearSemiNMF(3, random_state=0), nonlinear_semi_nmf, {}),
    ],
)
def test_components_are_those_of_the_function(estimator, function, options, planted):
    A = torch.from_numpy(planted)
    if "start" in estimator.get_params() and estimator.start == "random" and function is nmf:
        options = {**options, "start": "random"}
    seed = np.random.RandomState(0).randint(np.iinfo(np.int32).max)
    found = function(A, 3, generator=torch.Generator().manual_seed(int(seed)), **options)
    estimator.fit(planted)
    np.testing.assert_allclose(estimator.components_, found.W[:3], rtol=1e-9)
    if len(found.W) > 3:
        np.testing.assert_allclose(estimator.intercept_, found.W[3], rtol=1e-9)
    assert estimator.reconstruction_err_**2 == pytest.approx(2 * min(found.objective))
    assert estimator.n_iter_ >= found.iterations


def test_nmf_is_as_good_as_scikit_learns(planted):
    A = planted + 0.1 * np.random.default_rng(1).random(planted.shape)
    ours, theirs = (
        NMF(4, **LONG),
        decomposition.NMF(4, max_iter=2000, tol=1e-9, init="nndsvda", random_state=0),
    )
    Z = ours.fit_transform(A)
    theirs.fit(A)
    assert np.linalg.norm(A - ours.inverse_transform(Z)) < 1.02 * theirs.reconstruction_err_
    assert (Z >= 0).all()
    assert (ours.components_ >= 0).all()


@pytest.mark.parametrize(
    "estimator",
    [
        NMF(3, **LONG),
        SemiNMF(3, **LONG),
        SemiNMF(3, bias=True, **LONG),
        NonlinearSemiNMF(3, bias=True, **LONG),
    ],
)
def test_new_rows_of_what_was_planted_are_met(estimator, planted):
    estimator.fit(planted[:40])
    back = estimator.inverse_transform(estimator.transform(planted[40:]))
    assert np.linalg.norm(back - planted[40:]) < 0.02 * np.linalg.norm(planted[40:])


def test_what_nmf_refuses(planted):
    for A in (-planted, -torch.from_numpy(planted)):
        with pytest.raises(DataError, match=r"Negative values in data passed to NMF: .* or use SemiNMF"):
            NMF(3).fit(A)
    SemiNMF(3).fit(-planted)
    for settings, message in (
        ({"n_components": 0}, "n_components must be an integer ≥ 1, got 0"),
        ({"max_iter": 0}, "max_iter must be an integer ≥ 1, got 0"),
        ({"tol": 1.0}, r"tol must be in \[0, 1\), got 1.0"),
        ({"update": "newton"}, "update must be one of"),
        ({"start": "ones"}, "start must be a pair"),
    ):
        with pytest.raises(ConfigError, match=message):
            NMF(**settings).fit(planted)
    with pytest.raises(ConfigError, match="X must be n × 3"):
        NMF(3).fit(planted).inverse_transform(np.ones((2, 4)))


def test_codes_of_a_row_do_not_depend_on_the_others(planted):
    for estimator in (
        NMF(5, random_state=0),
        SemiNMF(5, random_state=0),
        NonlinearSemiNMF(5, random_state=0),
    ):
        estimator.fit(planted)
        whole = estimator.transform(planted)
        np.testing.assert_allclose(
            np.concatenate([estimator.transform(planted[:7]), estimator.transform(planted[7:])]),
            whole,
            atol=1e-5,
        )


def test_an_autoencoder_rebuilds_samples(planted):
    model = NMFAutoencoder((8, 4), random_state=0).fit(planted)
    Z = model.transform(planted)
    assert Z.shape == (50, 4)
    assert (Z >= 0).all()
    error = np.linalg.norm(model.inverse_transform(Z) - planted) / np.linalg.norm(planted)
    assert error < 0.1
    one = NMFAutoencoder(8, random_state=0).fit(planted)
    error = np.linalg.norm(one.inverse_transform(one.transform(planted)) - planted) / np.linalg.norm(planted)
    assert one.reconstruction_err_ == [pytest.approx(error, rel=1e-6)]
    signed = NMFAutoencoder(8, random_state=0).fit(planted - planted.mean(axis=0))
    assert signed.reconstruction_err_[0] < 0.3


def test_factors_of_floats_are_floats(planted):
    for estimator in (NMF(3), SemiNMF(3), NMFAutoencoder(3, max_iter=2)):
        assert estimator.fit_transform(planted.astype(np.float32)).dtype == np.float32
        assert estimator.fit_transform((10 * planted).astype(int)).dtype == np.float64
        assert estimator.set_params(dtype="float32").fit_transform(planted).dtype == np.float32
    assert NMF(3).fit(torch.from_numpy(planted).half()).components_.dtype == torch.float32
