"""Networks as estimators: what users give them, what they leave, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_iris, load_wine, make_classification
from sklearn.linear_model import LinearRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

import nmfdnn
from nmfdnn.errors import ConfigError, DataError
from nmfdnn.estimators import NMFNetworkClassifier, NMFNetworkRegressor
from nmfdnn.estimators.settings import RECIPES

SMALL = {"hidden_layer_sizes": (20, 10), "max_epochs": 20, "random_state": 0}


def classifier(**settings):
    return NMFNetworkClassifier(**{**SMALL, **settings})


def regressor(**settings):
    return NMFNetworkRegressor(**{**SMALL, **settings})


@pytest.fixture(scope="module")
def wine():
    return train_test_split(*load_wine(return_X_y=True), random_state=0)


@pytest.fixture(scope="module")
def diabetes():
    return train_test_split(*load_diabetes(return_X_y=True), random_state=0)


@pytest.mark.parametrize("method", list(RECIPES))
def test_every_method_learns_classes_and_values(method, wine, diabetes):
    X, X_test, y, y_test = wine
    settings = {"method": method, "max_epochs": 60}
    assert classifier(**settings).fit(X, y).score(X_test, y_test) > 0.9
    X, X_test, y, y_test = diabetes
    assert regressor(**settings).fit(X, y).score(X_test, y_test) > 0.2


def test_units_of_features_and_values_do_not_matter(wine, diabetes):
    X, X_test, y, _ = wine
    units = 10.0 ** np.arange(-6, 7)
    plain, moved = classifier().fit(X, y), classifier().fit(X * units + units, y)
    np.testing.assert_allclose(
        plain.decision_function(X_test), moved.decision_function(X_test * units + units), atol=1e-3
    )
    X, X_test, y, _ = diabetes
    plain, moved = regressor().fit(X, y), regressor().fit(X, 1e6 * y - 3e7)
    np.testing.assert_allclose(1e6 * plain.predict(X_test) - 3e7, moved.predict(X_test), rtol=1e-6)


def test_bytes_are_pixels():
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    X = (100 * y[:, None] + rng.integers(0, 100, (40, 6))).astype(np.uint8)
    model = classifier().fit(X, y)
    assert (model.model_.preprocessing.kind, float(model.model_.preprocessing.scale)) == ("none", 255)
    assert model.score(X, y) == 1
    truths = classifier().fit((X > 100).astype(np.uint8), y).model_.preprocessing
    assert truths.kind == "standard"


@pytest.mark.parametrize("names", [["ant", "bee", "cow"], [3, 10, 2], [2.0, -1.0, 0.0]])
def test_labels_of_every_kind_come_back(names, wine):
    X, X_test, y, _ = wine
    labels = np.array(names)[y]
    model = classifier().fit(X, labels)
    assert list(model.classes_) == sorted(names)
    found = model.predict(X_test)
    assert found.dtype == labels.dtype
    assert set(found) == set(names)
    assert (found == model.classes_[model.decision_function(X_test).argmax(axis=1)]).all()
    tensor = model.predict(torch.from_numpy(X_test))
    assert isinstance(tensor, np.ndarray if isinstance(names[0], str) else torch.Tensor)
    assert list(tensor) == list(found)


@pytest.mark.parametrize("name", ["kept.safetensors", "kept.pt"])
def test_its_model_is_a_file_that_predicts_the_same(name, wine, tmp_path):
    X, X_test, y, _ = wine
    estimator = classifier().fit(X, np.array(["ant", "bee", "cow"])[y])
    estimator.model_.save(tmp_path / name)
    model = nmfdnn.load(tmp_path / name)
    np.testing.assert_array_equal(model.predict(X_test), estimator.predict(X_test))
    np.testing.assert_allclose(model.predict_proba(X_test), estimator.predict_proba(X_test))
    assert model.information["epoch"] == 20
    assert model.information["estimator"] == "NMFNetworkClassifier"
    assert model.information["parameters"]["hidden_layer_sizes"] == "(20, 10)"


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_file_of_a_regressor_predicts_in_the_unit_of_its_values(outputs, diabetes, tmp_path):
    X, X_test, y, _ = diabetes
    y = y if outputs == 1 else np.stack([y, 1e6 * y], axis=1)
    estimator = regressor().fit(X, y)
    estimator.model_.save(tmp_path / "kept.safetensors")
    found = nmfdnn.load(tmp_path / "kept.safetensors").predict(X_test)
    np.testing.assert_array_equal(found, estimator.predict(X_test))
    assert found.shape == (len(X_test), *y.shape[1:])
    assert regressor().fit(X, y.reshape(len(y), -1)).predict(X_test).shape == (len(X_test), outputs)


def test_probabilities_say_how_sure_to_be():
    X, y = make_classification(1000, 10, n_informative=5, flip_y=0.2, random_state=0)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    for settings in ({}, {"validation_fraction": 0.2}):
        model = classifier(**settings).fit(X, y)
        shares = model.predict_proba(X_test)
        np.testing.assert_allclose(shares.sum(axis=1), 1)
        np.testing.assert_allclose(np.log(shares), model.predict_log_proba(X_test))
        loss = log_loss(y_test, shares)
        V = model.decision_function(X_test)
        assert ((V > 0) == (model.predict(X_test) == 1)).all()
        for factor in (0.5, 2):
            other = model.model_.temperature * factor
            assert loss < log_loss(y_test, 1 / (1 + np.exp(-V / other))) + 0.02


def test_what_is_held_out_is_judged_by_and_not_trained_on():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((200, 30)), rng.integers(0, 2, 200)
    settings = {"options": {"ridge": 0.0, "input_ridge": 0.0}, "max_epochs": 60}
    whole, held = classifier(**settings).fit(X, y), classifier(validation_fraction=0.3, **settings).fit(X, y)
    assert whole.score(X, y) > 0.95
    assert 0.6 < held.score(X, y) < 0.95
    assert min(held.validation_errors_) > 20
    # Outputs say nothing about such labels but where these have been learnt.
    assert held.model_.temperature > 3 * whole.model_.temperature


def test_the_lowest_validation_error_is_kept(wine):
    X, _, y, _ = wine
    model = classifier(validation_fraction=0.3, options={"omega": 100.0, "averaging": 0.0}).fit(X, y)
    assert len(model.validation_errors_) == len(model.loss_curve_) == model.n_epochs_ == 20
    assert model.validation_errors_[model.kept_epoch_ - 1] == min(model.validation_errors_)
    assert classifier().fit(X, y).validation_errors_ is None
    stopped = classifier(validation_fraction=0.3, patience=2, max_epochs=200).fit(X, y)
    assert stopped.n_epochs_ < 200
    assert min(stopped.validation_errors_) < min(stopped.validation_errors_[-2:]) or stopped.kept_epoch_ > 0


def test_validation_errors_of_values_are_in_their_unit(diabetes):
    X, _, y, _ = diabetes
    model = regressor(validation_fraction=0.2).fit(X, y)
    assert 30 < min(model.validation_errors_) < np.std(y) < 100
    several = regressor(validation_fraction=0.2).fit(X, np.stack([y, 1000 * y], axis=1))
    assert min(several.validation_errors_) > 500 * 30
    assert several.predict(X[:5]).shape == (5, 2)


def test_class_weights_move_the_boundary():
    rng = np.random.default_rng(0)
    y = (np.arange(300) % 10 == 0).astype(int)
    X = rng.standard_normal((300, 4)) + y[:, None]
    named = np.array(["usual", "rare"])[y]
    counts = {
        str(w): int((classifier(class_weight=w).fit(X, named).predict(X) == "rare").sum())
        for w in (None, "balanced", {"rare": 30.0}, {"usual": 0.0})
    }
    assert counts["None"] < counts["balanced"] <= counts["{'rare': 30.0}"] <= counts["{'usual': 0.0}"] == 300
    with pytest.raises(ConfigError, match="about classes that there are"):
        classifier(class_weight={"none of them": 2}).fit(X, named)


@pytest.mark.parametrize("method", ["jacobi", "seidel", "bp"])
def test_weights_are_repetitions(method, diabetes):
    X, X_test, y, _ = diabetes
    X, y = X[:60], y[:60]
    w = np.arange(60) % 4
    whole = {"validation_fraction": 0.0, "batch_size": 10_000, "method": method}
    if method == "bp":
        whole["options"] = {"dropout": 0.0}
    a = regressor(**whole).fit(X, y, sample_weight=w).predict(X_test)
    b = regressor(**whole).fit(X.repeat(w, axis=0), y.repeat(w)).predict(X_test)
    c = regressor(**whole).fit(X, y).predict(X_test)
    np.testing.assert_allclose(a, b, rtol=1e-6)
    assert np.abs(a - c).max() > 1


@pytest.mark.parametrize("make", [classifier, regressor])
def test_samples_of_weight_zero_are_not_there(make, wine):
    X, X_test, y, _ = wine
    w = (np.arange(len(y)) % 3 > 0).astype(float)
    settings = {"validation_fraction": 0.2}
    a = make(**settings).fit(X, y, sample_weight=w).predict(X_test)
    b = make(**settings).fit(X[w > 0], y[w > 0], sample_weight=w[w > 0]).predict(X_test)
    np.testing.assert_array_equal(a, b)


def test_partial_fit_goes_on():
    X, y = load_iris(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0, stratify=y)
    model = classifier()
    model.partial_fit(X[:20], np.minimum(y[:20], 1), classes=[0, 1, 2])
    for _ in range(10):
        for rows in (slice(0, 50), slice(50, None)):
            model.partial_fit(X[rows], y[rows])
    assert model.score(X_test, y_test) > 0.85
    assert model.n_epochs_ == len(model.loss_curve_) == 21
    with pytest.raises(DataError, match=r"y has the labels \[7\], which were not among the first"):
        model.partial_fit(X[:20], np.full(20, 7))
    values = regressor()
    for _ in range(20):
        values.partial_fit(X[:, :3], X[:, 3])
    assert values.score(X_test[:, :3], X_test[:, 3]) > 0.9 * LinearRegression().fit(X[:, :3], X[:, 3]).score(
        X_test[:, :3], X_test[:, 3]
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "adam"}, "method must be one of jacobi, seidel, nmf, bp, got 'adam'"),
        ({"method": "dfa"}, "method must be one of jacobi, seidel, nmf, bp, got 'dfa'"),
        ({"options": {"rate": 1}}, r"options of method='jacobi' are omega, .*; got 'rate'"),
        ({"options": {"omega": -1.0}}, r"jacobi\.omega must be > 0"),
        ({"hidden_layer_sizes": ()}, "hidden_layer_sizes must be at least one width"),
        ({"hidden_layer_sizes": (10, 0)}, "hidden_layer_sizes must be an integer ≥ 1, got 0"),
        ({"max_epochs": 0}, "max_epochs must be an integer ≥ 1, got 0"),
        ({"batch_size": 0}, "batch_size must be an integer ≥ 1, got 0"),
        ({"batch_size": "all"}, "batch_size must be 'auto' or an integer ≥ 1, got 'all'"),
        ({"start": "zeros"}, r"start must be one of .*, got 'zeros'"),
        ({"standardize": "log"}, "standardize must be one of auto, standard, minmax, none, got 'log'"),
        ({"validation_fraction": 1.0}, r"validation_fraction must be in \[0, 1\), got 1.0"),
        (
            {"patience": 3},
            "patience needs a validation part: raise validation_fraction, or set patience=None",
        ),
    ],
)
@pytest.mark.parametrize("make", [classifier, regressor])
def test_what_is_refused(make, settings, message, wine):
    X, _, y, _ = wine
    with pytest.raises(ConfigError, match=message):
        make(**settings).fit(X, y)


def test_data_that_teach_nothing_are_refused(wine):
    X, _, y, _ = wine
    with pytest.raises(DataError, match="y has one class alone"):
        classifier().fit(X, np.zeros(len(X)))
    with pytest.raises(DataError, match="there is nothing to learn"):
        regressor().fit(X, np.ones(len(X)))
    with pytest.raises(DataError, match="all features are constant"):
        classifier().fit(np.ones_like(X), y)
    with pytest.raises(ConfigError, match="sample_weight must be ≥ 0, not all 0"):
        classifier().fit(X, y, sample_weight=-np.ones(len(X)))


def test_widths_may_be_one_number(wine):
    X, _, y, _ = wine
    assert classifier(hidden_layer_sizes=7).fit(X, y).model_.network.widths == [13, 7, 3]
    assert classifier(hidden_layer_sizes=np.array([7, 5])).fit(X, y).model_.network.widths == [13, 7, 5, 3]


def test_a_fit_can_be_repeated_and_draws_can_differ(wine):
    X, X_test, y, _ = wine
    first, again, other = (
        classifier(random_state=seed).fit(X, y).decision_function(X_test) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_the_model_of_a_data_frame_knows_its_columns():
    table = load_wine(as_frame=True).frame
    X, y = table.drop(columns="target"), table["target"]
    estimator = classifier().fit(X, y)
    turned = table[table.columns[::-1]]
    np.testing.assert_array_equal(estimator.model_.predict(turned).astype(int), estimator.predict(X))
    assert classifier().fit(X.to_numpy(), y).model_.preprocessing.names == ()
