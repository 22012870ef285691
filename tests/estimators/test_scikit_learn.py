"""The estimators are scikit-learn's: its own checks, and the tools that people put them into."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pandas
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris, load_linnerud
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from nmfdnn.estimators import (
    NMF,
    NMFAutoencoder,
    NMFNetworkClassifier,
    NMFNetworkRegressor,
    NonlinearSemiNMF,
    SemiNMF,
)

SMALL = {"hidden_layer_sizes": (20, 10), "random_state": 0}
TRANSFORMERS = [
    NMF(2, random_state=0),
    SemiNMF(2, bias=True, random_state=0),
    NonlinearSemiNMF(2, bias=True, random_state=0),
    NMFAutoencoder((5, 2), max_iter=3, random_state=0),
]
NETWORKS = [NMFNetworkClassifier(**SMALL, max_epochs=20), NMFNetworkRegressor(**SMALL, max_epochs=20)]
ALL = [*TRANSFORMERS, *NETWORKS]

DRAWN = (
    "which samples share a mini-batch is drawn, and draws are others where samples are repeated; on all "
    "samples at once weights are exact"
)
"""Of the one check that a default network cannot pass; it passes on all samples at once."""

FULL_BATCH = {"validation_fraction": 0.0, "batch_size": 1000}


def name(estimator):
    return type(estimator).__name__


def samples():
    """Nonnegative rows, numbers of classes and values, that have something to do with each other."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    X = np.eye(3)[y] @ rng.random((3, 6)) + 0.1 * rng.random((60, 6))
    return X, y


def fitted(estimator, X=None):
    given, y = samples()
    return clone(estimator).fit(given if X is None else X, y)


@parametrize_with_checks(
    [
        *TRANSFORMERS,
        NMF(),
        NMF(2, beta=1),
        NMF(2, l1=0.01, l2=0.01, missing="nan"),
        SemiNMF(),
        NonlinearSemiNMF(),
        *NETWORKS,
        *[clone(network).set_params(**FULL_BATCH) for network in NETWORKS],
    ],
    expected_failed_checks=lambda estimator: (
        {"check_sample_weight_equivalence_on_dense_data": DRAWN}
        if getattr(estimator, "batch_size", None) == "auto"
        else {}
    ),
)
def test_its_checks(estimator, check):
    check(estimator)


def test_pipelines_and_searches():
    X, y = load_iris(return_X_y=True)
    codes = make_pipeline(MinMaxScaler(), NMFAutoencoder((8,), max_iter=3, random_state=0))
    whole = make_pipeline(codes, NMFNetworkClassifier(**SMALL, max_epochs=20))
    assert cross_val_score(whole, X, y, cv=3).mean() > 0.8
    grid = {
        "hidden_layer_sizes": [(5,), (20, 10)],
        "options": [None, {"omega": 1.0}],
        "method": ["jacobi"],
    }
    search = GridSearchCV(NMFNetworkClassifier(random_state=0, max_epochs=10), grid, cv=2).fit(X, y)
    assert search.best_score_ > 0.9
    assert set(search.best_params_) == set(grid)
    parts = GridSearchCV(
        make_pipeline(NMF(random_state=0), NMFNetworkClassifier(**SMALL, max_epochs=10)),
        {"nmf__n_components": [1, 3]},
        cv=2,
    ).fit(X, y)
    assert parts.best_params_ == {"nmf__n_components": 3}


@pytest.mark.parametrize("estimator", ALL, ids=name)
def test_pickles_predict_the_same_and_know_their_version(estimator, monkeypatch):
    X, _ = samples()
    before = fitted(estimator)
    content = pickle.dumps(before)
    after = pickle.loads(content)
    method = "predict" if hasattr(before, "predict") else "transform"
    np.testing.assert_array_equal(getattr(before, method)(X), getattr(after, method)(X))
    assert clone(after).get_params() == estimator.get_params()
    monkeypatch.setattr("nmfdnn.estimators.base.__version__", "99.0")
    with pytest.warns(UserWarning, match=r"was pickled by nmfdnn .*, this is 99\.0"):
        pickle.loads(content)


@pytest.mark.parametrize("estimator", TRANSFORMERS, ids=name)
def test_names_of_features_come_in_and_go_out(estimator):
    X, _ = samples()
    frame = pandas.DataFrame(X, columns=[f"length {i}" for i in range(6)], index=range(100, 160))
    model = clone(estimator).set_output(transform="pandas").fit(frame)
    codes = model.transform(frame)
    assert list(model.feature_names_in_) == list(frame.columns)
    assert list(codes.columns) == [f"{name(estimator).lower()}{i}" for i in range(2)]
    assert list(codes.index) == list(frame.index)
    np.testing.assert_array_equal(codes, fitted(estimator).transform(X))
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(frame.rename(columns=str.upper))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("estimator", ALL, ids=name)
def test_tensors_in_tensors_out(estimator, dtype, device):
    X, y = samples()
    tensor = torch.as_tensor(X, dtype=dtype, device=device)
    model = clone(estimator).fit(tensor, torch.as_tensor(y, device=device))
    arrays = fitted(estimator, tensor.cpu().numpy())
    for method in ("transform", "predict", "predict_proba", "decision_function"):
        if hasattr(model, method):
            found = getattr(model, method)(tensor)
            assert isinstance(found, torch.Tensor)
            assert found.device.type == device.type
            expected = getattr(arrays, method)(tensor.cpu().numpy())
            assert isinstance(expected, np.ndarray)
            np.testing.assert_allclose(found.cpu(), expected, rtol=1e-3, atol=1e-3)
    if hasattr(model, "score"):
        score = model.score(tensor, torch.as_tensor(y, device=device))
        assert score == pytest.approx(arrays.score(tensor.cpu().numpy(), y), abs=0.02)
    else:
        back = model.inverse_transform(model.transform(tensor))
        assert isinstance(back, torch.Tensor)
        assert back.dtype == dtype
        assert back.shape == tensor.shape


SPARSE = {
    **{
        form: getattr(scipy.sparse, form)
        for form in ("csr_matrix", "csr_array", "csc_array", "coo_array", "lil_matrix")
    },
    **{
        str(layout): lambda X, layout=layout: torch.from_numpy(X).to_sparse(layout=layout)
        for layout in (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)
    },
    "entries given twice": lambda X: given_twice(torch.from_numpy(X).to_sparse()),
}


def given_twice(A):
    places, values = A.indices(), A.values() / 2
    return torch.sparse_coo_tensor(torch.cat([places, places], 1), torch.cat([values, values]), A.shape)


@pytest.mark.filterwarnings("ignore:Sparse")  # PyTorch calls compressed rows a beta feature
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", SPARSE)
@pytest.mark.parametrize(
    "estimator",
    [
        NMF(2, random_state=0),
        NMF(2, beta=1, random_state=0),
        *(SemiNMF(2, bias=b, random_state=0) for b in (False, True)),
    ],
)
def test_sparse_samples_give_what_dense_samples_give(estimator, form, dtype):
    X = np.where(samples()[0] > 0.5, samples()[0], 0).astype(dtype)
    A = SPARSE[form](X)
    assert get_tags(estimator).input_tags.sparse
    dense, model = clone(estimator).fit(X), clone(estimator).fit(A)
    close = {"rtol": 1e-3, "atol": 1e-3} if dtype == "float32" else {"rtol": 1e-7, "atol": 1e-9}
    codes = model.transform(A)
    assert type(codes) is (torch.Tensor if isinstance(A, torch.Tensor) else np.ndarray)
    assert str(codes.dtype).endswith(dtype)
    codes = np.asarray(codes)
    np.testing.assert_allclose(codes, dense.transform(X), **close)
    # Either model takes either kind of samples.
    np.testing.assert_allclose(np.asarray(dense.transform(A)), dense.transform(X), **close)
    back = np.asarray(model.inverse_transform(codes))
    np.testing.assert_allclose(back, dense.inverse_transform(dense.transform(X)), **close)
    assert model.reconstruction_err_ == pytest.approx(dense.reconstruction_err_, rel=1e-4)


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("form", SPARSE)
def test_sparse_samples_that_are_refused(form):
    X = np.eye(6)
    for value, estimators in ((np.nan, [NMF(2), SemiNMF(2)]), (-1, [NMF(2)])):
        X[1, 2] = value
        for estimator in estimators:
            with pytest.raises(ValueError, match="NaN" if value is np.nan else "Negative values"):
                estimator.fit(SPARSE[form](X))
    model = NMF(2).fit(SPARSE[form](np.eye(6)))
    with pytest.raises(ValueError, match="6 features"):
        model.transform(SPARSE[form](np.eye(5)))


def test_texts_go_in_as_they_are_counted():
    texts = ["to be or not to be", "that is the question", "not to be is the question"] * 5
    model = make_pipeline(TfidfVectorizer(), NMF(2, random_state=0))
    assert model.fit_transform(texts).shape == (15, 2)


@pytest.mark.parametrize("estimator", ALL, ids=name)
def test_sparse_and_impossible_samples_are_refused(estimator):
    X, y = samples()
    if not estimator.sparse:
        message = r"Sparse data was passed for X, but dense data is required.*toarray"
        with pytest.raises(TypeError, match=message):
            clone(estimator).fit(scipy.sparse.csr_matrix(X), y)
        with pytest.raises((ValueError, TypeError), match=r"to_dense\(\)"):
            clone(estimator).fit(torch.as_tensor(X).to_sparse(), y)
    bad = torch.as_tensor(X).clone()
    bad[3, 2] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        clone(estimator).fit(bad, y)
    model = fitted(estimator)
    use = model.predict if hasattr(model, "predict") else model.transform
    with pytest.raises(ValueError, match="6 features"):
        use(torch.ones(2, 5))


@pytest.mark.parametrize("estimator", ALL, ids=name)
def test_a_device_or_a_type_that_is_not_there(estimator):
    X, y = samples()
    with pytest.raises(ValueError, match=r"PyTorch cannot use device=nowhere here: .*; leave it out"):
        clone(estimator).set_params(device="nowhere").fit(X, y)
    with pytest.raises(ValueError, match="dtype must be None or one of float32, float64, got 'int8'"):
        clone(estimator).set_params(dtype="int8").fit(X, y)
    clone(estimator).set_params(device="cpu", dtype="float32").fit(X, y)


def test_what_fits_the_tables_of_scikit_learn():
    X, y = load_linnerud(return_X_y=True)
    model = NMFNetworkRegressor(**SMALL).fit(X, y)
    assert model.predict(X).shape == y.shape
    frame, target = load_breast_cancer(return_X_y=True, as_frame=True)
    assert NMFNetworkClassifier(**SMALL).fit(frame, target).score(frame, target) > 0.97


@pytest.mark.parametrize("estimator", [NMF(3, max_iter=2), SemiNMF(3, start="random", max_iter=1)], ids=name)
def test_what_has_not_settled_says_so(estimator):
    X = np.random.default_rng(0).random((40, 8))
    with pytest.warns(
        ConvergenceWarning, match="has not settled after max_iter=. iterations: raise max_iter"
    ):
        estimator.fit(X)


def test_importing_the_estimators_loads_neither_hydra_nor_tensorboard():
    code = (
        "import sys, nmfdnn.estimators; "
        "assert not {'hydra', 'omegaconf', 'tensorboard', 'matplotlib', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
