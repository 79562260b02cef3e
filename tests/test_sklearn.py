"""The estimators of scikit-learn, and scikit-learn's own as judges."""

import copy
import importlib
import pickle
import sys

import keras
import numpy as np
import pytest

import l2keras
from l2keras import L2

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.base import clone
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_wine,
    make_regression,
)
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from l2keras.sklearn import StrengthCVClassifier, StrengthCVRegressor

pytestmark = [
    # Where a choice lies is of no concern here.
    pytest.mark.filterwarnings("ignore:The best strength"),
    # Some checks have fewer rows of a class than folds.
    pytest.mark.filterwarnings("ignore:The least populated class"),
]


def linear(strength, X, y, optimizer=None, activation=None, hidden=None):
    """A linear model, or one with a hidden layer."""
    model = keras.Sequential([keras.Input(X.shape[1:])])
    if len(X.shape) > 2:
        model.add(keras.layers.Flatten())
    if hidden:
        model.add(keras.layers.Dense(hidden, "relu"))
    model.add(
        keras.layers.Dense(
            y.shape[1], activation, kernel_regularizer=L2(strength)
        )
    )
    model.compile(
        optimizer() if optimizer else keras.optimizers.Adam(0.1),
        "mse" if activation is None else "categorical_crossentropy",
        metrics=["mae" if activation is None else "accuracy"],
    )
    return model


def softmax(strength, X, y, **arguments):
    return linear(strength, X, y, activation="softmax", **arguments)


def classifier(strengths=(0.0, 0.01), **arguments):
    arguments = {"epochs": 15, "cv": 2, "random_state": 0, **arguments}
    return StrengthCVClassifier(softmax, list(strengths), **arguments)


def regressor(strengths=(0.0, 0.01), **arguments):
    arguments = {"epochs": 15, "cv": 2, "random_state": 0, **arguments}
    return StrengthCVRegressor(linear, list(strengths), **arguments)


# What scikit-learn asks of an estimator ---------------------------------------

EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": (
        "Keras divides the loss of a batch by its number of rows and not by "
        "the sum of their weights, and repeated rows change the batches."
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("make", [classifier, regressor])
def test_scikit_learn_takes_it_for_an_estimator(make):
    check_estimator(
        make(), expected_failed_checks=EXPECTED_FAILURES, on_skip=None
    )


# Against scikit-learn's own ---------------------------------------------------
#
# With one batch for all rows and enough epochs the models are at their
# optimum, which is scikit-learn's: the penalized loss is strictly convex.

STRENGTHS = np.logspace(-2, 0, 5)


def at_optimum(make, X, rate, **arguments):
    """An estimator whose models are trained until nothing moves."""
    return make(
        STRENGTHS,
        epochs=400,
        batch_size=len(X),
        model_kwargs={
            "optimizer": lambda: keras.optimizers.SGD(rate, momentum=0.9)
        },
        **arguments,
    )


@pytest.mark.parametrize(
    "load",
    [
        load_wine,
        pytest.param(load_breast_cancer, marks=[pytest.mark.slow]),
    ],
)
def test_a_linear_classifier_has_the_losses_of_logistic_regression(load):
    X, y = load(return_X_y=True)
    rows = len(X) // 5 * 5  # So that the folds have as many rows.
    X, y = StandardScaler().fit_transform(X)[:rows], y[:rows]
    folds = list(KFold(5, shuffle=True, random_state=0).split(X))
    # Of two classes scikit-learn has one vector of weights, the difference
    # of our two: `(d / 2)**2 + (d / 2)**2` is half of `d**2`.
    halves = 1 if len(set(y)) > 2 else 2
    theirs = GridSearchCV(
        LogisticRegression(tol=1e-8, max_iter=10_000),
        {"C": halves / (2 * rows * 4 // 5 * STRENGTHS)},
        cv=folds,
        scoring="neg_log_loss",
    ).fit(X, y)
    ours = at_optimum(classifier, X, 0.1, cv=folds).fit(X, y)
    losses = ours.result_.validation_loss[:, :, -1]
    for fold in range(5):
        np.testing.assert_allclose(
            losses[:, fold],
            -theirs.cv_results_[f"split{fold}_test_score"],
            rtol=1e-3,
        )
    # The choice is theirs, or better by an earlier end.
    assert losses.mean(axis=1).argmin() == theirs.best_index_
    assert ours.cv_results_["mean_test_score"].max() > theirs.best_score_ - 1e-5
    accuracy = theirs.best_estimator_.score(X, y)
    assert ours.score(X, y) > accuracy - 0.02


def rank_of_ten():
    return make_regression(
        200, 30, effective_rank=10, noise=1.0, random_state=0
    )


@pytest.mark.parametrize(
    "load",
    [
        lambda: load_diabetes(return_X_y=True),
        pytest.param(rank_of_ten, marks=[pytest.mark.slow]),
    ],
    ids=["diabetes", "rank of ten"],
)
def test_a_linear_regressor_has_the_losses_of_ridge(load):
    X, y = load()
    rows = len(X) // 5 * 5
    X, y = StandardScaler().fit_transform(X)[:rows], y[:rows]
    y = (y - y.mean()) / y.std()
    folds = list(KFold(5, shuffle=True, random_state=0).split(X))
    theirs = RidgeCV(
        alphas=rows * 4 // 5 * STRENGTHS,
        cv=folds,
        scoring="neg_mean_squared_error",
    ).fit(X, y)
    ours = at_optimum(regressor, X, 0.03, cv=folds).fit(X, y)
    losses = ours.result_.validation_loss[:, :, -1].mean(axis=1)
    np.testing.assert_allclose(losses.min(), -theirs.best_score_, rtol=1e-4)
    assert STRENGTHS[losses.argmin()] == pytest.approx(
        theirs.alpha_ / (rows * 4 // 5)
    )
    assert ours.cv_results_["mean_test_score"].max() >= -losses.min() - 1e-6
    assert ours.score(X, y) > theirs.score(X, y) - 0.05


# What a fit is ----------------------------------------------------------------

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
NUMBERS = (X[:, 0] + 0.3 * RNG.normal(size=60) > 0).astype(int) + (X[:, 1] > 1)
LABELS = np.array(["no", "perhaps", "yes"])[NUMBERS]


@pytest.fixture(scope="module")
def fitted():
    return classifier(monitor="val_accuracy").fit(X, LABELS)


def test_labels_of_any_kind_are_predicted(fitted):
    assert fitted.classes_.tolist() == ["no", "perhaps", "yes"]
    probabilities = fitted.predict_proba(X)
    assert probabilities.shape == (60, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(
        fitted.predict(X), fitted.classes_[probabilities.argmax(axis=1)]
    )
    assert fitted.score(X, LABELS) > 0.7


def test_the_attributes_are_those_of_the_search(fitted):
    result, table = fitted.result_, fitted.cv_results_
    assert isinstance(result, l2keras.TuningResult)
    assert (result.monitor, result.mode) == ("val_accuracy", "max")
    assert fitted.best_strength_ == result.best_strength
    assert fitted.best_epoch_ == result.best_epoch
    assert fitted.n_features_in_ == 4
    assert table["params"] == [
        {"strength": strength, "epochs": int(epoch)}
        for strength, epoch in zip([0.0, 0.01], result.best_epochs, strict=True)
    ]
    splits = np.array([table[f"split{k}_test_score"] for k in (0, 1)])
    for index, epoch in enumerate(result.best_epochs):
        np.testing.assert_array_equal(
            splits[:, index],
            result.metrics["val_accuracy"][index, :, epoch - 1],
        )
    np.testing.assert_array_equal(table["mean_test_score"], splits.mean(axis=0))
    np.testing.assert_array_equal(table["std_test_score"], splits.std(axis=0))
    best = table["params"][int(np.argmin(table["rank_test_score"]))]
    assert best == {
        "strength": fitted.best_strength_,
        "epochs": fitted.best_epoch_,
    }


def test_a_fit_is_a_search_and_a_training_on_all_rows(fitted):
    targets = np.eye(3, dtype="float32")[NUMBERS]
    x = X.astype("float32")

    def build_model(strength):
        return softmax(strength, x, targets)

    expected = l2keras.tune_strength(
        build_model,
        x,
        targets,
        [0.0, 0.01],
        folds=StratifiedKFold(2),
        epochs=15,
        monitor="val_accuracy",
        verbose=0,
    )
    np.testing.assert_allclose(
        fitted.result_.validation_loss, expected.validation_loss, rtol=1e-5
    )
    keras.utils.set_random_seed(0)
    model = build_model(expected.best_strength)
    model.fit(x, targets, epochs=expected.best_epoch, verbose=0)
    np.testing.assert_allclose(
        fitted.predict_proba(X), model.predict(x, verbose=0), rtol=1e-5
    )


def test_a_fitted_one_is_pickled_and_copied(fitted):
    expected = fitted.predict_proba(X)
    for again in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(again.predict_proba(X), expected)
        assert again.best_strength_ == fitted.best_strength_
        regularizer = again.model_.layers[-1].kernel_regularizer
        assert regularizer.strength == fitted.best_strength_


def test_a_clone_is_not_fitted_and_fits_alike(fitted):
    again = clone(fitted)
    assert not hasattr(again, "model_")
    assert again.get_params() == fitted.get_params()
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    again.fit(X, LABELS)
    # The random numbers of the process go on as if nothing had been.
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    np.testing.assert_array_equal(
        again.predict_proba(X), fitted.predict_proba(X)
    )


def test_weights_of_rows_count_in_the_search_and_in_the_end():
    # Rows without a weight say the opposite.
    weight = np.repeat([1.0, 0.0], 60)
    both = np.concatenate([X, X])
    flipped = np.concatenate([NUMBERS == 0, NUMBERS != 0])
    folds = KFold(2, shuffle=True, random_state=0)
    estimator = classifier(cv=folds, epochs=30)
    estimator.fit(both, flipped, sample_weight=weight)
    # Without weights it would be 0.5.
    assert estimator.score(X, NUMBERS == 0) > 0.7


@pytest.mark.slow
def test_it_is_part_of_pipelines_and_searches():
    pipeline = make_pipeline(StandardScaler(), regressor())
    y = X @ [1.0, -2.0, 0.5, 0.0]
    scores = cross_val_score(pipeline, 100 * X + 7, y, cv=3)
    assert scores.min() > 0.5
    search = GridSearchCV(
        regressor(), {"model_kwargs": [None, {"hidden": 8}]}, cv=2
    ).fit(X, np.abs(X[:, 0]))
    assert search.best_params_ == {"model_kwargs": {"hidden": 8}}


def test_inputs_may_have_more_axes_and_targets_may_be_several():
    images = X.reshape(60, 2, 2)
    y = X @ RNG.normal(size=(4, 3))
    estimator = regressor(epochs=40).fit(images, y)
    assert estimator.predict(images).shape == (60, 3)
    assert estimator.score(images, y) > 0.9
    assert estimator.n_features_in_ == 2


def test_a_function_of_the_strength_alone_is_given_nothing_else():
    def build_model(strength):
        return linear(strength, X, X[:, :1])

    estimator = StrengthCVRegressor(
        build_model, [0.0, 0.1], epochs=2, cv=2, random_state=0
    )
    assert estimator.fit(X, X[:, 0]).predict(X).shape == (60,)


@pytest.mark.slow
def test_several_strengths_are_chosen_by_name():
    def build_model(strengths, X, y):
        return linear(strengths["kernel"], X, y, hidden=3)

    estimator = StrengthCVRegressor(
        build_model, {"kernel": (1e-3, 1.0)}, epochs=2, cv=2, random_state=0
    ).fit(X, X[:, 0])
    assert estimator.best_strength_ == estimator.result_.best_strength
    table = estimator.cv_results_
    assert len(table["params"]) == len(table["param_kernel"]) >= 9
    assert set(table["params"][0]) == {"kernel", "epochs"}


def test_groups_reach_the_splitter():
    groups = np.repeat(np.arange(6), 10)
    estimator = regressor(cv=GroupKFold(3), epochs=1)
    estimator.fit(X, X[:, 0], groups=groups)
    for fold in estimator.result_.folds:
        assert not {*groups[fold.train]} & {*groups[fold.validation]}


@pytest.mark.parametrize(
    ("estimator", "y", "kind", "message"),
    [
        (
            StrengthCVRegressor("model", [0.1], epochs=1),
            X[:, 0],
            TypeError,
            "Argument `build_model` must be a function from a strength to a "
            "compiled model. Received: build_model='model'",
        ),
        (
            classifier(),
            np.zeros(60),
            ValueError,
            "`y` must have at least two classes. Received: one class, "
            "np.float64(0.0)",
        ),
    ],
)
def test_mistakes_are_told(estimator, y, kind, message):
    with pytest.raises(kind) as error:
        estimator.fit(X, y)
    assert str(error.value) == message


def test_without_scikit_learn_the_cure_is_told(monkeypatch):
    monkeypatch.delitem(sys.modules, "l2keras.sklearn")
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(ImportError) as error:
        importlib.import_module("l2keras.sklearn")
    assert str(error.value) == (
        "`l2keras.sklearn` needs scikit-learn 1.6 or newer. Install it with "
        '`pip install "l2keras[sklearn]"`.'
    )
