"""The documented model, and a linear one, trained by NumPy in float64.

Strengths are functions of the optimizer's step, as schedules are.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

from tests.support.backend import number


class Simulation(NamedTuple):
    """A training in NumPy: the last weights, and the means of each epoch."""

    weights: list[np.ndarray]
    data_losses: list[float]
    regularization_losses: list[float]
    step: int


def simulate(
    weights,
    x,
    y,
    *,
    first: Callable[[int], float],
    second: Callable[[int], float],
    epochs=1,
    batch_size=16,
    rate=0.1,
    accumulate=1,
    begin=0,
):
    """Trains the documented model by SGD, with L2 on both kernels.

    The losses of an epoch are the batches' means weighted by batch size, as in
    Keras. With `accumulate`, gradients are averaged over so many batches, and
    the step is the number of updates.
    """
    w1, _, w2, _ = weights = [each.astype("float64") for each in weights]
    seen, gradients = begin * accumulate, []
    means = []
    for _ in range(epochs):
        sizes, data, penalties = [], [], []
        for start in range(0, len(x), batch_size):
            xb = x[start : start + batch_size].astype("float64")
            yb = y[start : start + batch_size].astype("float64")
            step = seen // accumulate
            hidden, probabilities = _forward(weights, xb)
            sizes.append(len(xb))
            data.append(_cross_entropy(probabilities, yb))
            penalties.append(
                first(step) * np.sum(w1**2) + second(step) * np.sum(w2**2)
            )
            d2 = (probabilities - yb) / len(xb)
            d1 = (d2 @ w2.T) * (hidden > 0)
            gradients.append(
                [
                    xb.T @ d1 + 2 * first(step) * w1,
                    d1.sum(0),
                    hidden.T @ d2 + 2 * second(step) * w2,
                    d2.sum(0),
                ]
            )
            seen += 1
            if seen % accumulate == 0:
                for weight, *several in zip(weights, *gradients, strict=True):
                    weight -= rate * sum(several) / accumulate
                gradients = []
        means.append(
            (
                np.average(data, weights=sizes),
                np.average(penalties, weights=sizes),
            )
        )
    data_losses, regularization_losses = zip(*means, strict=True)
    return Simulation(
        weights,
        list(data_losses),
        list(regularization_losses),
        seen // accumulate,
    )


def simulated_losses(weights, x, y, first, second):
    """Returns data and regularization loss of the documented model."""
    weights = [weight.astype("float64") for weight in weights]
    _, probabilities = _forward(weights, x.astype("float64"))
    penalty = first * np.sum(weights[0] ** 2) + second * np.sum(weights[2] ** 2)
    return _cross_entropy(probabilities, y), penalty


def _forward(weights, x):
    w1, b1, w2, b2 = weights
    hidden = np.maximum(x @ w1 + b1, 0)
    logits = hidden @ w2 + b2
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return hidden, exponentials / exponentials.sum(1, keepdims=True)


def _cross_entropy(probabilities, y):
    return -np.log((probabilities * y).sum(1)).mean()


def simulate_linear(
    kernel,
    x,
    y,
    *,
    kernel_strength=lambda step: 0.0,
    activity_strength=lambda step: 0.0,
    epochs=1,
    batch_size=10,
    rate=0.1,
):
    """Trains `x @ kernel` by SGD on the mean squared error.

    With L2 on the kernel, and L2 on the outputs, which newer versions of Keras
    divide by the batch size.
    """
    divided = _divides_activity_penalties()
    kernel = kernel.astype("float64")
    step, means = 0, []
    for _ in range(epochs):
        sizes, data, penalties = [], [], []
        for start in range(0, len(x), batch_size):
            xb = x[start : start + batch_size].astype("float64")
            yb = y[start : start + batch_size].astype("float64")
            strength, activity = kernel_strength(step), activity_strength(step)
            outputs = xb @ kernel
            activity /= len(xb) if divided else 1
            sizes.append(len(xb))
            data.append(np.mean((outputs - yb) ** 2))
            penalties.append(
                strength * np.sum(kernel**2) + activity * np.sum(outputs**2)
            )
            slope = 2 * (outputs - yb) / yb.size
            slope += 2 * activity * outputs
            kernel = kernel - rate * (xb.T @ slope + 2 * strength * kernel)
            step += 1
        means.append(
            (
                np.average(data, weights=sizes),
                np.average(penalties, weights=sizes),
            )
        )
    data_losses, regularization_losses = zip(*means, strict=True)
    return Simulation(
        [kernel], list(data_losses), list(regularization_losses), step
    )


def _divides_activity_penalties():
    regularizer = keras.regularizers.L2(1.0)
    layer = keras.layers.Activation(None, activity_regularizer=regularizer)
    layer(np.ones((2, 1)))
    return number(layer.losses[0]) == 1.0


def assert_weights(model, expected, atol=1e-6):
    for ours, numpys in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(
            np.asarray(ours, "float64"), numpys, rtol=0, atol=atol
        )


def assert_means(history, simulation, atol=1e-5):
    """Asserts that the logs are the simulation's means, and add up."""
    data, regularization = (
        simulation.data_losses,
        simulation.regularization_losses,
    )
    for key, expected in {
        "data_loss": data,
        "regularization_loss": regularization,
        "loss": np.add(data, regularization),
    }.items():
        np.testing.assert_allclose(
            history[key], expected, rtol=0, atol=atol, err_msg=key
        )


def assert_splits(logs, prefix="", rtol=1e-6):
    """Asserts `loss == data_loss + regularization_loss`, in float32."""
    parts = np.add(
        logs[f"{prefix}data_loss"], logs[f"{prefix}regularization_loss"]
    )
    np.testing.assert_allclose(logs[f"{prefix}loss"], parts, rtol=rtol)
