"""On real data the choice is that of scikit-learn, and of a loop of fits."""

import dataclasses

import keras
import numpy as np
import pytest

from l2keras import L2
from tests.support.searches import (
    EXPECTED_WARNINGS,
    layers,
    net,
    optimizers,
    plain_fit,
    tune,
)

model_selection = pytest.importorskip(
    "sklearn.model_selection", reason="scikit-learn is not installed"
)

pytestmark = [*EXPECTED_WARNINGS, pytest.mark.slow]


def test_losses_and_choice_equal_ridge_regression():
    linear_model = pytest.importorskip("sklearn.linear_model")
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    rows = np.random.default_rng(3).permutation(len(x))[:90]
    x, y = (
        (each - each.mean(axis=0)) / each.std(axis=0)
        for each in (x[rows][:, [0, 2, 3, 8]], y[rows])
    )
    alphas = np.array([0.6, 6.0, 60.0, 600.0])
    folds = list(model_selection.KFold(3).split(x))
    trained_on = len(folds[0][0])

    def build_model(strength):
        model = keras.Sequential(
            [
                keras.Input((4,)),
                layers.Dense(1, kernel_regularizer=L2(strength)),
            ]
        )
        # Keras divides the squares by the number of rows, Ridge does not.
        model.compile(optimizers.SGD(0.05, momentum=0.7), "mse")
        return model

    result = tune(
        build_model,
        x,
        y[:, None],
        alphas / trained_on,
        folds=folds,
        epochs=150,
        batch_size=trained_on,
    )
    for s, alpha in enumerate(alphas):
        for f, (train, validation) in enumerate(folds):
            ridge = linear_model.Ridge(alpha).fit(x[train], y[train])
            for ours, held in (
                (result.validation_loss, validation),
                (result.train_loss, train),
            ):
                error = np.mean((ridge.predict(x[held]) - y[held]) ** 2)
                assert ours[s, f, -1] == pytest.approx(error, abs=1e-5)
    truth = linear_model.RidgeCV(
        alphas, cv=folds, scoring="neg_mean_squared_error"
    ).fit(x, y)
    assert truth.alpha_ not in alphas[[0, -1]]
    # Trained to the end, which `best_epoch` need not be.
    ended = dataclasses.replace(
        result, validation_loss=result.validation_loss[:, :, -1:]
    )
    assert ended.best_strength == truth.alpha_ / trained_on


@pytest.mark.parametrize(("data", "every"), [("wine", 2), ("breast_cancer", 6)])
def test_the_choice_equals_a_loop_of_plain_fits(data, every):
    datasets = pytest.importorskip("sklearn.datasets")
    x, labels = getattr(datasets, f"load_{data}")(return_X_y=True)
    x = ((x - x.mean(axis=0)) / x.std(axis=0))[::every, :6]
    y = np.eye(3)[labels[::every]]
    build_model = net(
        optimizer=lambda: optimizers.Adam(0.03),
        loss="categorical_crossentropy",
    )
    strengths = [0.001, 0.01, 0.1]
    folds = model_selection.StratifiedKFold(3, shuffle=True, random_state=0)
    result = tune(build_model, x, y, strengths, folds=folds, epochs=4)
    truth = np.empty((3, 3, 4))
    accuracy = np.empty((3, 3, 4))
    for s, f in np.ndindex(3, 3):
        history = plain_fit(
            build_model, strengths[s], f, result.folds[f], x, y, epochs=4
        )
        truth[s, f] = history["val_data_loss"]
        accuracy[s, f] = history["val_accuracy"]
    np.testing.assert_allclose(result.validation_loss, truth, rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        result.metrics["val_accuracy"], accuracy, rtol=0, atol=1e-6
    )
    s, e = np.unravel_index(truth.mean(axis=1).argmin(), (3, 4))
    assert (result.best_strength, result.best_epoch) == (strengths[s], e + 1)
