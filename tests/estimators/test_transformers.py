"""The factorizations as transformers: what they find is what the functions find."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn import decomposition
from sklearn.utils import get_tags

from nmfdnn.errors import ConfigError, DataError
from nmfdnn.estimators import NMF, NMFAutoencoder, NMFNetworkClassifier, NonlinearSemiNMF, SemiNMF
from nmfdnn.factorization import Objective, Penalty, Stopping, nmf, nonlinear_semi_nmf, semi_nmf

LONG = {"max_iter": 2000, "tol": 1e-9, "random_state": 0}


@pytest.fixture
def planted(rng):
    return rng.random((50, 3)) @ rng.random((3, 12))


@pytest.mark.parametrize(
    ("estimator", "function", "options"),
    [
        (NMF(3, random_state=0), nmf, {"start": "nndsvda"}),
        (NMF(3, random_state=0, update="multiplicative", start="random"), nmf, {"update": "multiplicative"}),
        (NMF(3, random_state=0, beta=1, tol=0), nmf, {"beta": 1, "stopping": Stopping(tolerance=0)}),
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
        ({"beta": 3}, "beta must be 0, 1 or 2, got 3"),
        ({"l1": -1}, "l1 must be finite and ≥ 0"),
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


@pytest.mark.parametrize("beta", [0, 1])
def test_divergences_are_as_low_as_scikit_learns(beta, planted):
    A = planted + 0.1 * np.random.default_rng(1).random(planted.shape)
    ours = NMF(4, beta=beta, **LONG).fit(A)
    theirs = decomposition.NMF(
        4, solver="mu", beta_loss=beta, max_iter=2000, tol=1e-9, init="nndsvda", random_state=0
    ).fit(A)
    assert ours.reconstruction_err_ < 1.05 * theirs.reconstruction_err_
    back = torch.from_numpy(ours.inverse_transform(ours.transform(A)))
    found = float(2 * Objective(torch.from_numpy(A), beta=beta).divergence(back)) ** 0.5
    assert found == pytest.approx(ours.reconstruction_err_, rel=0.01)


@pytest.mark.parametrize("missing", [None, "nan"])
def test_codes_of_a_penalised_fit_come_back_whatever_they_are_with(missing, planted):
    if missing:
        planted[np.random.default_rng(1).random(planted.shape) < 0.2] = np.nan
    model = NMF(3, l1=0.02, l2=0.01, missing=missing, **LONG).fit(planted)
    long = Stopping(2000, 1e-9)
    fitted = nmf(torch.from_numpy(planted), 3, missing=missing, penalty=Penalty(0.02, 0.01), stopping=long)
    np.testing.assert_allclose(model.components_, fitted.W, rtol=1e-6)
    codes = model.transform(planted)
    np.testing.assert_allclose(codes, fitted.Z, atol=0.01)
    bright = np.nanmean(planted, axis=1) > np.nanmean(planted)
    for rows in (bright, slice(0, 1)):
        np.testing.assert_allclose(model.transform(planted[rows]), codes[rows], atol=1e-6)
    assert np.abs(NMF(3, **LONG, missing=missing).fit(planted).transform(planted) - codes).max() > 0.05
    error = np.sqrt(np.nansum((planted - fitted.Z.numpy() @ model.components_) ** 2))
    assert model.reconstruction_err_ == pytest.approx(error, rel=1e-6)
    assert not model.transform(0 * planted[:2]).any()


def test_what_is_missing_is_met(planted):
    holes = planted.copy()
    unknown = np.random.default_rng(1).random(planted.shape) < 0.2
    unknown[3] = True
    holes[unknown] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        NMF(3).fit(holes)
    model = NMF(3, missing="nan", **LONG)
    assert get_tags(model).input_tags.allow_nan
    assert not get_tags(NMF(3)).input_tags.allow_nan
    for given in (holes, torch.from_numpy(holes)):
        codes = model.fit(given).transform(given)
        back = np.asarray(model.inverse_transform(codes))
        assert not codes[3].any()
        assert not model.transform(given[3:4]).any()
        known = np.delete(np.arange(50), 3)
        assert np.linalg.norm((back - planted)[known]) < 0.02 * np.linalg.norm(planted[known])
        given[0, 0] = np.inf
        with pytest.raises(ValueError, match="infinity"):
            model.fit(given)
        given[0, 0] = np.nan
    with pytest.raises(TypeError, match="Sparse data was passed"):
        model.fit(scipy.sparse.csr_array(planted))
    with pytest.raises(ConfigError, match="missing must be None or one of nan, got 'drop'"):
        NMF(3, missing="drop").fit(planted)


def test_masks_are_not_lost(planted):
    masked = np.ma.masked_less(planted, 0.2)
    network = NMFNetworkClassifier(3, max_epochs=1)
    y = np.arange(len(planted)) % 2
    for estimator in (NMF(3), NMF(3, missing="nan"), SemiNMF(3), NMFAutoencoder(3), network):
        with pytest.raises(DataError, match=r"masked array.*X.filled\(np.nan\)"):
            estimator.fit(masked, y)
    with pytest.raises(DataError, match="masked array"):
        network.fit(planted, y).predict(masked)
    NMF(3, missing="nan").fit(masked.filled(np.nan))
    NMF(3).fit(np.ma.array(planted))  # masks nothing


def test_zeros_are_refused_where_errors_are_relative(planted):
    model = NMF(3, beta=0, tol=0).fit(planted)
    planted[2, 3] = 0
    for use in (NMF(3, beta=0).fit, model.transform):
        with pytest.raises(DataError, match=r"X has zeros.*NaN in their place and missing='nan'"):
            use(planted)
    NMF(3, beta=0, missing="nan", tol=0).fit(np.where(planted == 0, np.nan, planted))


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
