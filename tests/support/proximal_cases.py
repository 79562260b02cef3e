"""Linear models under `Proximal`, and their trainings by NumPy."""

import keras
import numpy as np

from l2keras import Proximal

ROWS, INPUTS, OUTPUTS = 64, 10, 3
RNG = np.random.default_rng(3)
X = RNG.normal(size=(ROWS, INPUTS)).astype("float32")
TRUE = RNG.normal(size=(INPUTS, OUTPUTS)) * (
    RNG.uniform(size=(INPUTS, OUTPUTS)) > 0.5
)
Y = (X @ TRUE + 0.1 * RNG.normal(size=(ROWS, OUTPUTS))).astype("float32")
BATCH = 16  # 4 steps in an epoch.
KERNEL = (0.4 * RNG.normal(size=(INPUTS, OUTPUTS))).astype("float32")


def linear(regularizer, **arguments):
    """Returns a linear regression, which begins with `KERNEL`."""
    model = keras.Sequential(
        [
            keras.Input((INPUTS,)),
            keras.layers.Dense(
                OUTPUTS,
                use_bias=False,
                kernel_regularizer=regularizer,
                name="dense",
                **arguments,
            ),
        ]
    )
    model.set_weights([KERNEL])
    return model


def sgd(rate=0.1, **arguments):
    return keras.optimizers.SGD(rate, **arguments)


def fit(model, optimizer=None, epochs=2, callbacks=(), x=X, y=Y, loss="mse"):
    """Compiles the model if there is an optimizer, and trains it."""
    if optimizer is not None:
        model.compile(optimizer, loss)
    return model.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    ).history


def kernel(model):
    return model.get_weights()[0].astype("float64")


def soft_threshold(weights, threshold):
    return np.sign(weights) * np.maximum(np.abs(weights) - threshold, 0)


def simulate(
    strength=lambda step: 0.05,
    *,
    l2=0.0,
    rate=0.1,
    momentum=0.0,
    accumulate=1,
    clipvalue=np.inf,
    decay=0.0,
    epochs=2,
    start=KERNEL,
):
    """Trains by SGD and proximal steps of L1, in NumPy and float64.

    Returns the kernel, and the means of the loss over each epoch.
    """
    w, moved, memory = start.astype("float64"), 0.0, 0.0
    gradients, means, seen = [], [], 0
    for _ in range(epochs):
        losses = []
        for first in range(0, ROWS, BATCH):
            x, y = (
                each[first : first + BATCH].astype("float64") for each in (X, Y)
            )
            step = seen // accumulate
            residual = x @ w - y
            penalty = strength(step) * np.abs(w).sum() + l2 * (w**2).sum()
            losses.append((residual**2).mean() + penalty)
            gradients.append(2 * x.T @ residual / residual.size + 2 * l2 * w)
            seen += 1
            if seen % accumulate:
                continue
            gradient = np.mean(gradients, axis=0).clip(-clipvalue, clipvalue)
            gradients = []
            w = w * (1 - rate * decay)
            moved = momentum * moved - rate * gradient
            memory = momentum * memory + rate
            w = soft_threshold(w + moved, strength(step) * memory)
        means.append(np.mean(losses))
    return w, means


def assert_kernel(model, expected, atol=2e-6):
    """Asserts that the weights are those, and the same ones are zero."""
    np.testing.assert_allclose(kernel(model), expected, rtol=0, atol=atol)
    np.testing.assert_array_equal(kernel(model) == 0, expected == 0)
    assert 0 < np.mean(expected == 0) < 1


def proximal_sgd(**arguments):
    return Proximal(sgd(**arguments))
