"""At full batch, training ends where scikit-learn's solvers do."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from l2keras import L1, L1L2, GroupLasso, Proximal
from tests.support import number

datasets = pytest.importorskip("sklearn.datasets")
linear_model = pytest.importorskip("sklearn.linear_model")

optimizers = keras.optimizers
ROWS = 178  # As many as there are wines: the problems are solved at once.


def standardized(values):
    return (values - values.mean(0)) / values.std(0)


def diabetes():
    x, y = datasets.load_diabetes(return_X_y=True)
    return standardized(x[:ROWS]), standardized(y[:ROWS, None])


def wine():
    x, y = datasets.load_wine(return_X_y=True)
    return standardized(x), standardized(np.eye(3)[y])


def cancer():
    x, y = datasets.load_breast_cancer(return_X_y=True)
    return standardized(x[:ROWS, ::3]), y[:ROWS, None]


EXACT = {"fit_intercept": False, "tol": 1e-12, "max_iter": 100_000}

# A row: the data, the loss and its factor, the regularizer, and the
# solver. scikit-learn halves the mean of the squares, and takes the mean
# over rows only; Keras's is over all numbers. And it multiplies the data loss
# of a logistic regression by `C`, and sums it.
PROBLEMS = {
    "Lasso": (
        diabetes,
        ("mse", 1.0),
        L1(0.2),
        linear_model.Lasso(0.1, **EXACT),
    ),
    "Lasso, of two": (
        diabetes,
        ("mse", 1.0),
        L1(0.15) + L1(0.05),
        linear_model.Lasso(0.1, **EXACT),
    ),
    "ElasticNet": (
        diabetes,
        ("mse", 1.0),
        L1L2(0.12, 0.08),
        linear_model.ElasticNet(0.14, l1_ratio=0.06 / 0.14, **EXACT),
    ),
    "MultiTaskLasso": (
        wine,
        ("mse", 3.0),
        GroupLasso(0.3, axis=0) + GroupLasso(0.1, axis=-2),
        linear_model.MultiTaskLasso(0.2, **EXACT),
    ),
    "LogisticRegression": (
        cancer,
        ("binary_crossentropy", 12.0),
        L1(0.36),
        linear_model.LogisticRegression(
            C=1 / (0.03 * ROWS),
            l1_ratio=1.0,
            solver="saga",
            fit_intercept=False,
            tol=1e-9,
            max_iter=100_000,
        ),
    ),
}
STEPS = 500
OPTIMIZERS = {
    "SGD": lambda: optimizers.SGD(0.2),
    "momentum": lambda: optimizers.SGD(0.05, momentum=0.9),
    "Adam": lambda: optimizers.Adam(
        optimizers.schedules.CosineDecay(0.1, STEPS)
    ),
}


@functools.cache
def solved(name):
    data, _, _, solver = PROBLEMS[name]
    x, y = data()
    found = solver.fit(x, y if y.shape[1] > 1 else y[:, 0]).coef_
    return x, y, np.atleast_2d(found).T


def model_of_all():
    """Returns a model that has a layer for each of the problems."""
    keras.utils.set_random_seed(0)
    inputs, outputs = [], []
    for name, (_, (loss, _), regularizer, _) in PROBLEMS.items():
        x, y, _ = solved(name)
        inputs.append(keras.Input((x.shape[1],)))
        layer = keras.layers.Dense(
            y.shape[1],
            use_bias=False,
            activation=None if loss == "mse" else "sigmoid",
            kernel_regularizer=regularizer,
        )
        outputs.append(layer(inputs[-1]))
    return keras.Model(inputs, outputs)


@pytest.mark.filterwarnings("ignore:Objective did not converge")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_converges_to_the_solutions_of_scikit_learn(optimizer):
    model = model_of_all()
    losses, weights = zip(*(row[1] for row in PROBLEMS.values()), strict=True)
    model.compile(
        Proximal(OPTIMIZERS[optimizer]()),
        loss=list(losses),
        loss_weights=list(weights),
    )
    # One epoch of as many full batches: between epochs Keras takes its time.
    xs, ys = (
        [np.tile(solved(name)[place], (STEPS, 1)) for name in PROBLEMS]
        for place in (0, 1)
    )
    model.fit(xs, ys, batch_size=ROWS, shuffle=False, verbose=0)
    for name, found in zip(PROBLEMS, model.get_weights(), strict=True):
        x, y, expected = solved(name)
        assert 0 < np.mean(expected == 0) < 1
        np.testing.assert_array_equal(found == 0, expected == 0, name)
        if name != "LogisticRegression":
            np.testing.assert_allclose(
                found, expected, rtol=0, atol=1e-5, err_msg=name
            )
            continue

        def objective(weights, x=x, y=y):
            margins = (2 * y - 1) * (x @ weights)
            penalty = 0.03 * np.abs(weights).sum()
            return np.logaddexp(0, -margins).mean() + penalty

        assert abs(objective(found) - objective(expected)) <= 1e-5
    # The reported loss is the objective, penalties included.
    assert number(sum(model.losses)) == pytest.approx(
        sum(
            number(row[2](ops.array(solved(name)[2], "float32")))
            for name, row in PROBLEMS.items()
        ),
        rel=1e-4,
    )


@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize("centered", [False, True])
def test_every_variant_of_rmsprop_converges_to_the_solution(momentum, centered):
    # Where it is centered, the lengths grow as the training comes to rest.
    steps = 1000
    x, y, expected = solved("MultiTaskLasso")
    model = keras.Sequential(
        [
            keras.Input((x.shape[1],)),
            keras.layers.Dense(
                y.shape[1],
                use_bias=False,
                kernel_initializer="zeros",
                kernel_regularizer=GroupLasso(0.4, axis=0),
            ),
        ]
    )
    inner = optimizers.RMSprop(
        optimizers.schedules.CosineDecay(0.01, steps),
        momentum=momentum,
        centered=centered,
    )
    model.compile(Proximal(inner), "mse", loss_weights=3.0)
    model.fit(
        np.tile(x, (steps, 1)),
        np.tile(y, (steps, 1)),
        batch_size=len(x),
        shuffle=False,
        verbose=0,
    )
    (found,) = model.get_weights()
    np.testing.assert_array_equal(found == 0, expected == 0)

    def objective(weights):
        norms = np.sqrt((weights.astype("float64") ** 2).sum(1))
        return ((x @ weights - y) ** 2).sum() / len(x) + 0.4 * norms.sum()

    assert objective(found) - objective(expected) <= 1e-4
