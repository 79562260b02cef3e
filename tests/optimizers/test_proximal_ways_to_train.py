"""However Keras is asked to train, the proximal steps are the same."""

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from l2keras import L1, Proximal
from tests.support import runs_several_steps, torch_compile_only
from tests.support.custom_train_steps import by_guide
from tests.support.proximal_cases import (
    BATCH,
    INPUTS,
    OUTPUTS,
    X,
    Y,
    assert_kernel,
    fit,
    kernel,
    linear,
    proximal_sgd,
    simulate,
)


def test_a_custom_train_step_takes_proximal_steps():
    model = by_guide(linear(L1(0.05)))
    history = fit(model, proximal_sgd(momentum=0.8))
    expected, losses = simulate(momentum=0.8)
    assert_kernel(model, expected)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-5)


# Arguments of `compile` and others --------------------------------------------


def assert_proximal(**arguments):
    """Asserts that training equals NumPy's, at a strength for each step."""
    schedule = l2keras.LinearSchedule(0.0, 0.1, steps=6)
    model = linear(L1(schedule))
    model.compile(proximal_sgd(momentum=0.8), "mse", **arguments)
    history = fit(model, callbacks=[l2keras.RegularizationLogger()])
    expected, losses = simulate(
        lambda step: 0.1 * min(step / 6, 1.0), momentum=0.8
    )
    assert_kernel(model, expected)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-5)
    np.testing.assert_allclose(
        np.add(history["data_loss"], history["regularization_loss"]),
        losses,
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    "arguments",
    [{"run_eagerly": True}, {"steps_per_execution": 3}],
    ids=["eagerly", "several steps at once"],
)
def test_training_equals_numpy_however_steps_are_executed(arguments):
    if "steps_per_execution" in arguments and not runs_several_steps():
        pytest.skip("Keras has none on PyTorch.")
    assert_proximal(**arguments)


@torch_compile_only
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_training_equals_numpy_with_torch_compile():
    assert_proximal(jit_compile=True)


def test_train_on_batch_equals_fit():
    model = linear(L1(0.05))
    model.compile(proximal_sgd(momentum=0.8), "mse")
    for _ in range(2):
        for first in range(0, len(X), BATCH):
            rows = slice(first, first + BATCH)
            model.train_on_batch(X[rows], Y[rows])
    assert_kernel(model, simulate(momentum=0.8)[0])


def test_a_frozen_weight_takes_no_proximal_step():
    hidden = keras.layers.Dense(10, kernel_regularizer=L1(0.2), name="hidden")
    model = keras.Sequential(
        [
            keras.Input((INPUTS,)),
            hidden,
            keras.layers.Dense(OUTPUTS, kernel_regularizer=L1(0.2)),
        ]
    )
    hidden.trainable = False
    before = kernel(model)
    fit(model, proximal_sgd())
    np.testing.assert_array_equal(kernel(model), before)
    hidden.trainable = True
    fit(model, proximal_sgd(), epochs=4)
    assert (kernel(model) == 0).any()


# Layers that are not dense ----------------------------------------------------

RNG = np.random.default_rng(0)
WORDS = RNG.integers(0, 20, (64, 6)).astype("int32")
SERIES = RNG.normal(size=(64, 6, 4)).astype("float32")
IMAGES = RNG.normal(size=(64, 6, 6, 2)).astype("float32")
TARGETS = RNG.normal(size=(64, 1)).astype("float32")


def recurrent():
    return keras.layers.LSTM(
        6, kernel_regularizer=L1(0.02), recurrent_regularizer=L1(0.02)
    )


def both_ways():
    return keras.layers.Bidirectional(
        keras.layers.GRU(4, kernel_regularizer=L1(0.02))
    )


def separable():
    return keras.layers.SeparableConv2D(
        4,
        3,
        depthwise_regularizer=L1(0.05),
        pointwise_regularizer=L1(0.05),
    )


def embedding():
    return keras.layers.Embedding(20, 8, embeddings_regularizer=L1(0.01))


LAYERS = {
    "recurrent": (recurrent, SERIES),
    "both ways": (both_ways, SERIES),
    "convolution": (separable, IMAGES),
    "embedding": (embedding, WORDS),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_of_layer_has_exact_zeros_and_is_penalized_once(name):
    layer, x = LAYERS[name]
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:], dtype=x.dtype.name),
            layer(),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    model.compile(
        Proximal(keras.optimizers.SGD(0.05, momentum=0.8)),
        "mse",
        metrics=["mse"],
    )
    fit(model, epochs=6, x=x, y=TARGETS)
    sizes = [
        (variable.regularizer.l1, np.abs(ops.convert_to_numpy(variable)))
        for variable in model.trainable_variables
        if variable.regularizer is not None
    ]
    assert all(0 < np.mean(size == 0) < 1 for _, size in sizes)
    logs = model.evaluate(x, TARGETS, verbose=0, return_dict=True)
    penalty = sum(float(strength) * size.sum() for strength, size in sizes)
    np.testing.assert_allclose(logs["loss"] - logs["mse"], penalty, rtol=1e-4)
