"""Training with proximal steps equals NumPy's."""

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from l2keras import L1, L1L2, L2, GroupLasso, LinearSchedule, Proximal
from tests.support import BACKEND, number
from tests.support.proximal_cases import (
    BATCH,
    KERNEL,
    X,
    Y,
    assert_kernel,
    fit,
    kernel,
    linear,
    proximal_sgd,
    sgd,
    simulate,
    soft_threshold,
)

# The schedule at each step, in NumPy too.
RISING = LinearSchedule(0.0, 0.1, steps=6)


def rising(step):
    return 0.1 * min(step / 6, 1)


def decayed(optimizer, **arguments):
    return l2keras.DecoupledWeightDecay(optimizer, default=0.3, **arguments)


# A row: the regularizer, the optimizer, and the training in NumPy.
TRAININGS = {
    "SGD": (lambda: L1(0.05), proximal_sgd, {}),
    "momentum": (
        lambda: L1(0.05),
        lambda: proximal_sgd(momentum=0.8),
        {"momentum": 0.8},
    ),
    "the smooth part stays a gradient": (
        lambda: L1L2(0.05, 0.2),
        proximal_sgd,
        {"l2": 0.2},
    ),
    "a sum of several": (
        lambda: L2(0.1) + L1L2(0.02, 0.1) + L1(0.03),
        proximal_sgd,
        {"l2": 0.2},
    ),
    "Keras's own smooth one": (
        lambda: L1(0.05) + keras.regularizers.L2(0.2),
        proximal_sgd,
        {"l2": 0.2},
    ),
    "a schedule": (lambda: L1(RISING), proximal_sgd, {"strength": rising}),
    "gradients gathered": (
        lambda: L1(RISING),
        lambda: proximal_sgd(momentum=0.8, gradient_accumulation_steps=2),
        {"strength": rising, "momentum": 0.8, "accumulate": 2, "epochs": 4},
    ),
    "gradients clipped": (
        lambda: L1(0.05),
        lambda: proximal_sgd(clipvalue=0.1),
        {"clipvalue": 0.1},
    ),
    "decay inside": (
        lambda: L1(0.05),
        lambda: Proximal(decayed(sgd(momentum=0.8))),
        {"decay": 0.3, "momentum": 0.8},
    ),
    "decay outside": (
        lambda: L1(0.05),
        lambda: decayed(proximal_sgd(momentum=0.8)),
        {"decay": 0.3, "momentum": 0.8},
    ),
    "a scale of the loss": (
        lambda: L1(RISING),
        lambda: keras.optimizers.LossScaleOptimizer(proximal_sgd(momentum=0.8)),
        {"strength": rising, "momentum": 0.8},
    ),
    "both": (
        lambda: L1L2(0.05, 0.2),
        lambda: keras.optimizers.LossScaleOptimizer(decayed(proximal_sgd())),
        {"decay": 0.3, "l2": 0.2},
    ),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_training_equals_numpy(name):
    regularizer, optimizer, training = TRAININGS[name]
    model = linear(regularizer())
    logger = l2keras.RegularizationLogger()
    history = fit(
        model, optimizer(), training.get("epochs", 2), callbacks=[logger]
    )
    expected, losses = simulate(**{"strength": lambda step: 0.05, **training})
    assert_kernel(model, expected)
    # The penalty is in the loss as it was, and once.
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-5)
    np.testing.assert_allclose(
        history["loss"],
        np.add(history["data_loss"], history["regularization_loss"]),
        rtol=1e-5,
    )


# Strengths that are set from outside ------------------------------------------


def test_a_scale_set_by_a_callback_reaches_the_proximal_steps():
    model = linear(L1(0.1))
    scheduler = l2keras.PenaltyScheduler({"dense/kernel": lambda e: e / 2})
    fit(model, proximal_sgd(), epochs=3, callbacks=[scheduler])
    first, _ = simulate(lambda step: 0.05 * (step // 4), epochs=3)
    assert_kernel(model, first)


def test_set_scale_and_set_step_reach_the_proximal_steps():
    model = linear(L1(LinearSchedule(0.0, 1.0, steps=10)))
    model.compile(proximal_sgd(), "mse")
    l2keras.set_scale(model, {"dense/kernel": 0.5})
    l2keras.set_step(model, 2)  # For the first update.
    model.train_on_batch(X[:BATCH], Y[:BATCH])
    model.train_on_batch(X[BATCH : 2 * BATCH], Y[BATCH : 2 * BATCH])
    w = KERNEL.astype("float64")
    for first, strength in ((0, 0.1), (BATCH, 0.05)):
        x, y = X[first : first + BATCH], Y[first : first + BATCH]
        w = w - 0.1 * 2 * x.T @ (x @ w - y) / y.size
        w = soft_threshold(w, 0.1 * strength)
    assert_kernel(model, w)


def test_a_regularizer_applied_to_a_trained_model_takes_proximal_steps():
    model = linear(L1(0.05))
    fit(model, proximal_sgd(), epochs=1)
    l2keras.apply_regularizers(model, {"dense/kernel": L1(0.2)})
    fit(model, epochs=1)
    expected, _ = simulate(lambda step: 0.05 if step < 4 else 0.2)
    assert_kernel(model, expected)


# The gradient of everything else ----------------------------------------------


def test_compiling_without_proximal_restores_the_gradient():
    model, plain = linear(L1(0.05)), linear(L1(0.05))
    fit(model, proximal_sgd())
    assert (kernel(model) == 0).any()
    # Each has as many variables, so that JAX could take one for the other.
    for optimizer, other in ((sgd, sgd), (proximal_sgd, proximal_sgd)):
        plain.set_weights([KERNEL])
        model.set_weights([KERNEL])
        fit(model, optimizer())
        fit(plain, other())
        np.testing.assert_allclose(kernel(model), kernel(plain), atol=1e-7)
        assert (kernel(model) == 0).any() == (optimizer is proximal_sgd)


def test_penalties_without_a_proximal_step_keep_their_gradient():
    def trained(optimizer, **arguments):
        model = linear(L1(0.0), activity_regularizer=L1(0.2), **arguments)
        fit(model, optimizer)
        return kernel(model)

    np.testing.assert_allclose(
        trained(proximal_sgd()), trained(sgd()), atol=1e-6
    )
    # Called alone, by a model that has another optimizer, and by none.
    regularizer = L1(1.0)
    model = linear(regularizer)
    model.compile(proximal_sgd(), "mse")
    weight = model.trainable_variables[0]
    assert np.all(slopes(lambda: regularizer(weight), weight) != 0)
    assert np.all(slopes(lambda: sum(model.losses), weight) == 0)
    model.compile(sgd(), "mse")
    assert np.all(slopes(lambda: sum(model.losses), weight) != 0)


def slopes(function, variable):
    """Returns the gradient of a function with respect to a variable."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = function()
        found = tape.gradient(value, variable.value)
        return 0.0 if found is None else found.numpy()
    if BACKEND == "jax":
        import jax

        def of(value):
            with keras.StatelessScope(state_mapping=[(variable, value)]):
                return function()

        return np.asarray(jax.grad(of)(variable.value))
    import torch

    value = function()
    if not value.requires_grad:
        return 0.0
    gradient = torch.autograd.grad(value, variable.value)[0]
    return keras.ops.convert_to_numpy(gradient)


@pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="Since Keras 3.15."
)
def test_proximal_in_a_multi_optimizer_steps_for_its_own_weights():
    def trained(first, second):
        """Trains two regressions on the same inputs, apart."""
        keras.utils.set_random_seed(0)
        inputs = keras.Input((10,))
        model = keras.Model(
            inputs,
            [
                keras.layers.Dense(3, kernel_regularizer=L1(0.1), name=name)(
                    inputs
                )
                for name in ("first", "second")
            ],
        )
        several = keras.optimizers.MultiOptimizer(
            keras.optimizers.OptimizerMap(first, {".*second/kernel": second})
        )
        fit(model, several, epochs=4, y=[Y, Y], loss=["mse", "mse"])
        return model.get_weights()

    plain = trained(sgd(), sgd())
    first = trained(proximal_sgd(), sgd())
    second = trained(sgd(), proximal_sgd())
    assert not any((weights == 0).any() for weights in plain[::2])
    assert (first[0] == 0).any()
    assert (second[2] == 0).any()
    np.testing.assert_allclose(first[2], plain[2], atol=1e-6)
    np.testing.assert_allclose(second[0], plain[0], atol=1e-6)


# Models and precision ---------------------------------------------------------


@pytest.mark.parametrize(
    "policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"]
)
def test_half_precision_models_have_exact_zeros(policy):
    model = linear(L1(0.05) + GroupLasso(0.01, axis=0), dtype=policy)
    fit(model, Proximal(keras.optimizers.Adam(0.05)), epochs=3)
    assert 0 < np.mean(kernel(model) == 0) < 1
    assert np.isfinite(kernel(model)).all()


def test_nested_and_shared_weights_take_proximal_steps():
    shared = keras.layers.Dense(
        10, use_bias=False, kernel_regularizer=L1(0.5), name="shared"
    )
    inner = keras.Sequential([keras.Input((10,)), shared], name="inner")
    inputs = keras.Input((10,))
    outputs = keras.layers.Dense(3)(inner(shared(inputs)))
    model = keras.Model(inputs, outputs)
    history = fit(model, proximal_sgd(), epochs=1)
    assert 0 < np.mean(ops.convert_to_numpy(shared.kernel) == 0) < 1
    assert history["loss"][0] > 0
    assert len(model.losses) == 1
    assert number(model.losses[0]) > 0
