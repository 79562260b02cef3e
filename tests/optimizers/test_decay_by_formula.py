"""Each update decays by the formula, in `fit` and in loops of one's own."""

import keras
import numpy as np
import pytest
from keras import ops

from l2keras import DecoupledWeightDecay
from tests.support import (
    BACKEND,
    assert_weights,
    linear_data,
    number,
    rising,
    rising_schedule,
)
from tests.support.weight_decay_cases import (
    X,
    Y,
    adamw,
    distance,
    fit,
    keras_adam,
    keras_sgd,
    network,
    single,
    zeros_for,
)


def learning_rate(step):
    return 0.5 * 0.9**step


def learning_rate_schedule():
    return keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.9)


# Our optimizer, and the factor of an update of a weight without gradient.
FACTORS = {
    "scheduled": (
        lambda: DecoupledWeightDecay(
            keras_sgd(), {"output/.*": rising_schedule()}
        ),
        lambda step: 1 - 0.1 * rising(step),
    ),
    "with a schedule of the learning rate": (
        lambda: DecoupledWeightDecay(
            keras.optimizers.SGD(learning_rate_schedule()),
            default=rising_schedule(),
        ),
        lambda step: 1 - learning_rate(step) * rising(step),
    ),
    "uncoupled": (
        lambda: DecoupledWeightDecay(
            keras_sgd(), default=0.3, coupled_to_learning_rate=False
        ),
        lambda step: 1 - 0.3,
    ),
    "uncoupled, with two schedules": (
        lambda: DecoupledWeightDecay(
            keras.optimizers.SGD(learning_rate_schedule()),
            default=rising_schedule(),
            coupled_to_learning_rate=False,
        ),
        lambda step: 1 - rising(step),
    ),
    "that follows the learning rate twice": (
        lambda: DecoupledWeightDecay(
            keras.optimizers.SGD(learning_rate_schedule()),
            default=rising_schedule(),
            peak_learning_rate=0.5,
        ),
        lambda step: 1 - learning_rate(step) ** 2 / 0.5 * rising(step),
    ),
    "by an optimizer that adapts": (
        lambda: DecoupledWeightDecay(keras_adam(), default=0.3),
        lambda step: 1 - 0.01 * 0.3,
    ),
}


@pytest.mark.parametrize("name", FACTORS)
def test_each_update_multiplies_the_weights_by_one_minus_rate_times_decay(name):
    make, factor = FACTORS[name]
    model = single()
    start = model.get_weights()[0].astype("float64")
    fit(model, make(), epochs=3, x=np.zeros_like(X))
    expected = start * np.prod([factor(step) for step in range(12)])
    np.testing.assert_allclose(model.get_weights()[0], expected, rtol=1e-5)


@pytest.mark.parametrize("cautious", [False, True])
def test_accumulated_gradients_decay_once(cautious):
    model = single()
    start = model.get_weights()[0].astype("float64")
    optimizer = DecoupledWeightDecay(
        keras_sgd(gradient_accumulation_steps=3),
        default=rising_schedule(),
        coupled_to_learning_rate=False,
        cautious=cautious,
    )
    fit(model, optimizer, epochs=5, x=np.zeros_like(X))  # 20 batches.
    expected = start * np.prod([1 - rising(step) for step in range(6)])
    np.testing.assert_allclose(model.get_weights()[0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("cautious", "coupled"), [(True, True), (True, False), (False, True)]
)
def test_linear_regression_equals_numpy(cautious, coupled):
    x, y = linear_data()
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(2, use_bias=False)]
    )
    optimizer = DecoupledWeightDecay(
        keras_sgd(),
        default=rising_schedule(),
        cautious=cautious,
        coupled_to_learning_rate=coupled,
    )
    model.compile(optimizer, "mse")
    kernel = model.get_weights()[0].astype("float64")
    model.fit(x, y, batch_size=10, epochs=3, shuffle=False, verbose=0)
    masks = []
    for step in range(12):
        first = 10 * (step % 4)
        xb, yb = x[first : first + 10], y[first : first + 10]
        update = 0.1 * 2 * xb.T @ (xb @ kernel - yb) / yb.size
        mask = update * kernel >= 0 if cautious else np.ones_like(kernel)
        factor = rising(step) * (0.1 if coupled else 1.0)
        kernel = kernel - update - factor * mask * kernel
        masks.append(mask)
    assert_weights(model, [kernel])
    if cautious:
        assert 0.1 < np.mean(masks) < 0.9


@pytest.mark.parametrize(
    "dtype",
    [
        "float16",
        "bfloat16",
        pytest.param(
            "float64",
            marks=pytest.mark.skipif(
                BACKEND == "jax", reason="JAX has to be told to have it."
            ),
        ),
    ],
)
def test_half_precision_weights_decay(dtype):
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    for cautious in (False, True):
        model = single()
        start = model.get_weights()[0].astype("float64")
        optimizer = DecoupledWeightDecay(
            keras_sgd(), default=0.3, cautious=cautious
        )
        weights = model.trainable_variables
        assert weights[0].dtype == dtype
        for _ in range(4):
            optimizer.apply(zeros_for(weights), weights)
        np.testing.assert_allclose(
            np.asarray(model.get_weights()[0], "float64"),
            start * 0.97**4,
            rtol={"float64": 1e-12, "float16": 4e-3, "bfloat16": 3e-2}[dtype],
        )


# In loops of one's own --------------------------------------------------------


def own_loop(model, optimizer, steps=4):
    """Trains without `fit`, compiled where there is a compiler."""
    batches = [
        (X[first : first + 16], Y[first : first + 16])
        for first in range(0, 16 * steps, 16)
    ]
    loss_of = keras.losses.CategoricalCrossentropy()
    if BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function
        def step(x, y):
            with tf.GradientTape() as tape:
                loss = loss_of(y, model(x, training=True))
            weights = model.trainable_variables
            gradients = tape.gradient(loss, weights)
            # TensorFlow's own variables are taken too.
            optimizer.apply_gradients(
                zip(
                    gradients, [weight.value for weight in weights], strict=True
                )
            )

        for x, y in batches:
            step(tf.constant(x), tf.constant(y))
    elif BACKEND == "jax":
        import jax

        optimizer.build(model.trainable_variables)

        def loss_from(trained, others, x, y):
            predicted, others = model.stateless_call(trained, others, x)
            return loss_of(y, predicted), others

        @jax.jit
        def step(trained, others, state, x, y):
            gradients, others = jax.grad(loss_from, has_aux=True)(
                trained, others, x, y
            )
            trained, state = optimizer.stateless_apply(
                state, gradients, trained
            )
            return trained, others, state

        lists = (
            model.trainable_variables,
            model.non_trainable_variables,
            optimizer.variables,
        )
        state = [[each.value for each in variables] for variables in lists]
        for x, y in batches:
            state = step(*state, x, y)
        for variables, values in zip(lists, state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
    else:
        import torch

        for x, y in batches:
            model.zero_grad()
            loss_of(torch.tensor(y), model(torch.tensor(x))).backward()
            weights = model.trainable_variables
            optimizer.apply([weight.value.grad for weight in weights], weights)


@pytest.mark.parametrize("cautious", [False, True])
def test_a_custom_loop_equals_fit(cautious):
    def optimizer():
        return DecoupledWeightDecay(
            adamw(), default=rising_schedule(), cautious=cautious
        )

    ours, theirs = network(), network()
    fit(theirs, optimizer(), epochs=1)
    own = optimizer()
    own_loop(ours, own)
    assert number(ops.convert_to_tensor(own.iterations)) == 4
    assert own.strengths() == theirs.optimizer.strengths()
    assert distance(ours, theirs) <= 1e-6


def test_the_wrapped_optimizer_alone_decays_nothing():
    model, inner = single(), keras_sgd()
    weights = model.trainable_variables
    start = model.get_weights()[0]
    wrappers = [
        DecoupledWeightDecay(inner, default=strength) for strength in (1, 5)
    ]
    expected = 1.0
    for optimizer, factor in (
        (wrappers[0], 0.9),
        (inner, 1.0),
        (wrappers[1], 0.5),
        (wrappers[0], 0.9),
        (inner, 1.0),
    ):
        optimizer.build(weights)
        optimizer.apply(zeros_for(weights), weights)
        expected *= factor
        np.testing.assert_allclose(
            model.get_weights()[0], start * expected, rtol=1e-6
        )
