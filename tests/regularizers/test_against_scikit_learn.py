"""Linear models trained with penalties, judged by scikit-learn.

Keras's mean squared error is a mean over the samples `n` and the outputs `q`,
and l2keras's penalties are sums without factors:

    1/(n q) ||y - x w||**2  +  l1 |w|_1  +  l2 ||w||_2**2

Each test brings that to the form that scikit-learn documents.
"""

import keras
import numpy as np
import pytest

from l2keras import L1, L1L2, L2, CosineSchedule, GroupLasso

linear_model = pytest.importorskip(
    "sklearn.linear_model", reason="scikit-learn is not installed"
)

SAMPLES, FEATURES = 64, 5


def data(outputs=1):
    """Returns standardized features, and targets that two do not influence."""
    rng = np.random.default_rng(11)
    x = rng.normal(size=(SAMPLES, FEATURES))
    x[:, 1] += 0.5 * x[:, 0]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    kernel = rng.normal(size=(FEATURES, outputs))
    kernel[[2, 4]] = 0.0
    y = x @ kernel + 3.0 + 0.3 * rng.normal(size=(SAMPLES, outputs))
    return x, y


def train(x, y, regularizer, steps, learning_rate):
    """Returns kernel and bias of a linear model after steps on all the data.

    The data are repeated, a batch being all of them: one epoch of many steps
    costs far less than as many epochs.
    """
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            keras.layers.Dense(y.shape[1], kernel_regularizer=regularizer),
        ]
    )
    model.compile(keras.optimizers.SGD(learning_rate, momentum=0.5), "mse")
    x, y = (np.tile(each, (steps, 1)).astype("float32") for each in (x, y))
    model.fit(x, y, batch_size=SAMPLES, shuffle=False, verbose=0)
    return model.get_weights()


def descending(start, steps):
    """Returns a learning rate that falls to zero.

    A penalty with a kink needs it: at zero the weights would swing by the
    learning rate for ever.
    """
    return CosineSchedule(start, 0.0, steps=steps)


@pytest.mark.parametrize("l2", [0.0, 0.1, 1.0])
def test_l2_is_ridge(l2):
    # Ridge minimizes ||y - x w||**2 + alpha ||w||**2: times n.
    x, y = data()
    kernel, bias = train(x, y, L2(l2), steps=200, learning_rate=0.1)
    ridge = linear_model.Ridge(alpha=SAMPLES * l2).fit(x, y[:, 0])
    np.testing.assert_allclose(kernel[:, 0], ridge.coef_, atol=1e-5)
    np.testing.assert_allclose(bias, ridge.intercept_, atol=1e-5)


def test_l1_is_lasso():
    # Lasso minimizes 1/(2n) ||y - x w||**2 + alpha |w|_1: times 1/2.
    x, y = data()
    steps = 1500
    kernel, bias = train(x, y, L1(0.2), steps, descending(0.05, steps))
    lasso = linear_model.Lasso(alpha=0.2 / 2, tol=1e-8).fit(x, y[:, 0])
    assert (lasso.coef_ == 0.0).any()
    np.testing.assert_allclose(kernel[:, 0], lasso.coef_, atol=1e-3)
    np.testing.assert_allclose(bias, lasso.intercept_, atol=1e-3)


def test_l1l2_is_the_elastic_net():
    # The elastic net minimizes 1/(2n) ||y - x w||**2 + alpha * r * |w|_1
    # + alpha * (1 - r) / 2 * ||w||**2, with r for `l1_ratio`: times 1/2.
    x, y = data()
    l1, l2, steps = 0.2, 0.1, 1500
    kernel, bias = train(x, y, L1L2(l1, l2), steps, descending(0.05, steps))
    alpha = l1 / 2 + l2
    net = linear_model.ElasticNet(
        alpha=alpha, l1_ratio=l1 / 2 / alpha, tol=1e-8
    )
    net.fit(x, y[:, 0])
    assert (net.coef_ == 0.0).any()
    np.testing.assert_allclose(kernel[:, 0], net.coef_, atol=1e-3)
    np.testing.assert_allclose(bias, net.intercept_, atol=1e-3)


def test_group_lasso_of_inputs_is_the_multi_task_lasso():
    # The multi-task lasso minimizes 1/(2n) ||y - x w||**2 + alpha times the sum
    # of the norms of the rows of w, the weights of one input: times q/2.
    x, y = data(outputs=3)
    strength, steps = 0.2, 1500
    kernel, bias = train(
        x, y, GroupLasso(strength, axis=0), steps, descending(0.1, steps)
    )
    lasso = linear_model.MultiTaskLasso(alpha=strength * 3 / 2, tol=1e-8)
    lasso.fit(x, y)
    assert (lasso.coef_ == 0.0).all(axis=0).any()
    np.testing.assert_allclose(kernel.T, lasso.coef_, atol=2e-3)
    np.testing.assert_allclose(bias, lasso.intercept_, atol=2e-3)
