"""What several test files need: small models, data, and NumPy's truth.

The simulations train the same models in float64, without Keras. Strengths are
functions of the optimizer's step, as schedules are.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest

import l2keras
from l2keras._keras.backend import backend

BACKEND = keras.backend.backend()
ROOT = Path(__file__).resolve().parent.parent

# On JAX most of the time goes into compiling, and many tests compile the same.
COMPILED = tempfile.TemporaryDirectory(prefix="l2keras-tests-")
if BACKEND == "jax":
    import jax

    jax.config.update("jax_compilation_cache_dir", COMPILED.name)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def documented_model(first, second, inputs=10, between=()):
    """Returns Dense(64), the layers `between`, and Dense(3)."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            keras.layers.Dense(
                64, activation="relu", kernel_regularizer=first, name="hidden"
            ),
            *between,
            keras.layers.Dense(
                3,
                activation="softmax",
                kernel_regularizer=second,
                name="output",
            ),
        ]
    )


def documented_data(samples=75, inputs=10, seed=0):
    """Returns inputs and one-hot targets; 75 leave a batch of 11 behind."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, inputs)).astype("float32")
    y = np.eye(3, dtype="float32")[rng.integers(0, 3, samples)]
    return x, y


def linear_data(samples=40, inputs=4, outputs=2, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, inputs)).astype("float32")
    y = rng.normal(size=(samples, outputs)).astype("float32")
    return x, y


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
    weights = [each.astype("float64") for each in weights]
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

    With L2 on the kernel, and L2 on what the layer returns: that Keras divides
    by the batch size, in newer versions.
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


def rising(step):
    """What `rising_schedule()` returns, in NumPy."""
    return 0.05 * float(np.clip((step - 2) / 8, 0, 1))


def rising_schedule():
    return l2keras.LinearSchedule(0.0, 0.05, steps=8, begin=2)


def falling(step):
    """What `falling_schedule()` returns, in NumPy."""
    return 0.02 * 0.5 * (1 + np.cos(np.pi * min(step, 12) / 12))


def falling_schedule():
    return keras.optimizers.schedules.CosineDecay(0.02, 12)


def number(tensor):
    """Returns a scalar tensor's number; PyTorch warns at `float(tensor)`."""
    return keras.ops.convert_to_numpy(tensor).item()


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


def devices(number):
    """Returns the flags of XLA that make so many devices of the processor."""
    count = f"--xla_force_host_platform_device_count={number}"
    return f"{os.environ.get('XLA_FLAGS', '')} {count}"


def run_python(program, *arguments, **environment):
    """Runs a program in a fresh process; returns what it prints."""
    return outputs([start_python(program, *arguments, **environment)])[0]


def outputs(processes, timeout=600, returncode=0):
    """Returns what processes print, when they have ended as they should."""
    found = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=timeout)
            assert process.returncode == returncode, f"{out}\n{err}"
            found.append(out)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return found


def start_python(program, *arguments, **environment):
    """Starts a program in a fresh process, on the same backend.

    It is a file `programs/...`, which may import what lies in the folder of its
    tests.
    """
    paths = [
        str(ROOT),
        str(ROOT / "tests"),
        str(program.parent.parent),
        os.environ.get("PYTHONPATH", ""),
    ]
    return subprocess.Popen(
        [sys.executable, *map(str, [program, *arguments])],
        env={
            **os.environ,
            "KERAS_BACKEND": BACKEND,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def takes_functions():
    """Tells whether a function may be a regularizer: newer Keras has it so."""
    try:
        keras.Variable(0.0).regularizer = keras.ops.sum
    except ValueError:
        return False
    return True


def runs_several_steps():
    """Tells whether Keras runs several steps at once on this backend."""
    version = tuple(map(int, keras.__version__.split(".")[:2]))
    return BACKEND != "torch" or version >= (3, 16)


torch_compile_only = pytest.mark.skipif(
    BACKEND != "torch" or backend.device_name() == "MOCK",
    reason="This is `torch.compile`, which does not know the mock device.",
)
