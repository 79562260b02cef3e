"""Under `KeepZeros` zeros stay zero, and the other weights are trained."""

import json
import re

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from l2keras import KeepZeros
from tests.support import BACKEND, runs_several_steps
from tests.support.training_loops import batches

RNG = np.random.default_rng(11)
X = RNG.normal(size=(96, 8)).astype("float32")
TRUE = RNG.normal(size=(8, 2)) * (RNG.uniform(size=(8, 2)) > 0.4)
Y = (X @ TRUE + 0.3 * RNG.normal(size=(96, 2))).astype("float32")
MASK = RNG.uniform(size=(8, 2)) > 0.5


def linear(**arguments):
    dense = keras.layers.Dense(2, use_bias=False, name="dense", **arguments)
    return keras.Sequential([keras.Input((8,)), dense])


def with_zeros(model=None):
    """A linear model some of whose weights are zero."""
    model = model or linear()
    start = RNG.permutation(np.linspace(0.5, 1.5, 16)).reshape(8, 2)
    model.layers[0].kernel.assign((start * MASK).astype("float32"))
    return model


def fit(model, optimizer=None, epochs=2, **arguments):
    if optimizer is not None:
        model.compile(optimizer, "mse", **arguments)
    model.fit(X, Y, batch_size=16, epochs=epochs, shuffle=False, verbose=0)
    return model


def kernel(model):
    return ops.convert_to_numpy(model.layers[0].kernel)


def assert_kept(model, start):
    after = kernel(model)
    np.testing.assert_array_equal(after[start == 0], 0.0)
    assert np.any(after[start != 0] != start[start != 0])


def optimizers_of_keras():
    for name in dir(keras.optimizers):
        if name[0].isupper() and name not in (
            "LossScaleOptimizer",
            "MultiOptimizer",
            "Optimizer",
            "OptimizerMap",
        ):
            kind = getattr(keras.optimizers, name)
            yield pytest.param(
                lambda kind=kind: kind(learning_rate=0.1), id=name
            )


@pytest.mark.parametrize(
    "make",
    [
        *optimizers_of_keras(),
        pytest.param(
            lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
            id="momentum",
        ),
        pytest.param(
            lambda: keras.optimizers.AdamW(0.1, weight_decay=0.1), id="decay"
        ),
        pytest.param(
            lambda: keras.optimizers.Adam(0.1, use_ema=True), id="ema"
        ),
        pytest.param(
            lambda: keras.optimizers.Adam(0.1, gradient_accumulation_steps=3),
            id="accumulation",
        ),
        pytest.param(
            lambda: l2keras.DecoupledWeightDecay(
                keras.optimizers.SGD(0.1), default=0.1, cautious=True
            ),
            id="DecoupledWeightDecay",
        ),
    ],
)
def test_zeros_stay_under_each_optimizer_and_other_weights_train(make):
    model = with_zeros()
    start = kernel(model)
    assert_kept(fit(model, KeepZeros(make())), start)


def test_momentum_of_earlier_training_moves_no_zero():
    model = with_zeros()
    optimizer = KeepZeros(keras.optimizers.SGD(0.05, momentum=0.99))
    fit(model, optimizer, epochs=1)
    model.layers[0].kernel.assign(
        kernel(model) * (RNG.uniform(size=(8, 2)) > 0.3)
    )
    start = kernel(model)
    assert_kept(fit(model, epochs=1), start)


def test_without_zeros_the_training_is_that_of_the_optimizer():
    plain, ours = linear(), linear()
    ours.set_weights(plain.get_weights())
    fit(plain, keras.optimizers.Adam(0.1))
    fit(ours, KeepZeros(keras.optimizers.Adam(0.1)))
    np.testing.assert_array_equal(kernel(ours), kernel(plain))


def test_relaxed_lasso_equals_least_squares_on_the_support():
    """`Proximal` chooses the support, `numpy.linalg.lstsq` knows the rest."""
    model = linear(kernel_regularizer=l2keras.L1(0.3))
    fit(model, l2keras.Proximal(keras.optimizers.SGD(0.05)), epochs=30)
    support = kernel(model) != 0
    assert 2 <= support.sum() <= 14
    model = l2keras.strip_regularizers(model)
    fit(model, KeepZeros(keras.optimizers.SGD(0.05)), epochs=1)
    # Full batches, so that it converges.
    model.fit(X, Y, batch_size=96, epochs=400, verbose=0)
    expected = np.zeros((8, 2))
    for output in range(2):
        on = support[:, output]
        columns = X[:, on].astype("float64")
        expected[on, output] = np.linalg.lstsq(columns, Y[:, output])[0]
    np.testing.assert_allclose(kernel(model), expected, atol=1e-5)
    np.testing.assert_array_equal(kernel(model) != 0, support)


def test_around_proximal_no_unit_comes_back():
    model = with_zeros(linear(kernel_regularizer=l2keras.L1(0.01)))
    start = kernel(model)
    optimizer = KeepZeros(l2keras.Proximal(keras.optimizers.Adam(0.05)))
    after = kernel(fit(model, optimizer))
    np.testing.assert_array_equal(after[start == 0], 0.0)
    assert np.any(after != start)


@pytest.mark.parametrize(
    "arguments",
    [
        {"jit_compile": True},
        {"run_eagerly": True},
        {"steps_per_execution": 3},
        {"auto_scale_loss": True},
    ],
    ids=str,
)
def test_zeros_stay_however_steps_are_executed(arguments):
    if BACKEND == "torch" and "jit_compile" in arguments:
        pytest.skip("It would take torch.compile, and a C++ compiler.")
    if "steps_per_execution" in arguments and not runs_several_steps():
        pytest.skip("This Keras makes single steps on PyTorch.")
    half = "auto_scale_loss" in arguments
    model = with_zeros(linear(dtype="mixed_float16" if half else "float32"))
    start = kernel(model)
    assert_kept(
        fit(model, KeepZeros(keras.optimizers.Adam(0.1)), **arguments), start
    )


def test_zeros_stay_in_a_loss_scale_optimizer_and_in_one_of_several():
    for outer in (
        keras.optimizers.LossScaleOptimizer,
        *(
            [lambda inner: keras.optimizers.MultiOptimizer(lambda _: inner)]
            if hasattr(keras.optimizers, "MultiOptimizer")
            else []
        ),
    ):
        model = with_zeros()
        start = kernel(model)
        fit(model, outer(KeepZeros(keras.optimizers.Adam(0.1))))
        np.testing.assert_array_equal(kernel(model)[start == 0], 0.0)


def custom_loop(model, optimizer):
    optimizer.build(model.trainable_variables)
    if BACKEND != "jax":
        for x, y in batches(X, Y):
            minimize_squares(model, optimizer, x, y)
        return
    import jax

    def loss_of(trainable, x, y):
        outputs, _ = model.stateless_call(trainable, [], x)
        return ops.mean(ops.square(outputs - y))

    trainable = [weight.value for weight in model.trainable_variables]
    state = [variable.value for variable in optimizer.variables]
    for x, y in batches(X, Y):
        gradients = jax.jit(jax.grad(loss_of))(trainable, x, y)
        trainable, state = optimizer.stateless_apply(
            state, gradients, trainable
        )
    for weight, value in zip(model.trainable_variables, trainable, strict=True):
        weight.assign(value)


def minimize_squares(model, optimizer, x, y):
    weights = model.trainable_variables
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = ops.mean(ops.square(model(x) - y))
        optimizer.apply(tape.gradient(loss, weights), weights)
        return
    import torch

    model.zero_grad()
    y = ops.convert_to_tensor(y)
    ops.mean(ops.square(model(x) - y)).backward()
    with torch.no_grad():
        optimizer.apply([weight.value.grad for weight in weights], weights)


def test_zeros_stay_in_a_custom_loop():
    model = with_zeros()
    start = kernel(model)
    optimizer = KeepZeros(keras.optimizers.SGD(0.05, momentum=0.9))
    model.compile(optimizer)
    custom_loop(model, optimizer)
    assert_kept(model, start)


def test_a_reloaded_model_trains_as_if_never_saved(tmp_path):
    start = kernel(with_zeros())

    def begun(epochs):
        model = linear()
        model.layers[0].kernel.assign(start)
        return fit(model, KeepZeros(keras.optimizers.Adam(0.1)), epochs)

    whole, half = begun(4), begun(2)
    half.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again.optimizer, KeepZeros)
    fit(again, epochs=2)
    np.testing.assert_array_equal(kernel(again), kernel(whole))
    assert_kept(again, start)


def test_the_optimizer_is_rebuilt_from_its_config():
    optimizer = KeepZeros(
        keras.optimizers.Adam(0.1), {"dense/kernel": False}, default=True
    )
    config = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    again = keras.optimizers.deserialize(config)
    assert again.get_config() == optimizer.get_config()
    assert again.kept(linear()) == []


def network():
    return keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(4, name="hidden"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dense(2, name="output"),
        ]
    )


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        ({}, ["hidden/kernel", "output/kernel"]),
        ({"rules": {"output/.*": False}}, ["hidden/kernel"]),
        (
            {"rules": {"hidden/bias": True}, "default": False},
            ["hidden/bias"],
        ),
    ],
    ids=str,
)
def test_rules_say_whose_zeros_stay(arguments, kept):
    model = network()
    for weight in model.trainable_variables:
        weight.assign(np.zeros(weight.shape))
    model.layers[1].gamma.assign(np.ones(4))
    optimizer = KeepZeros(keras.optimizers.Adam(0.1), **arguments)
    assert optimizer.kept(model) == kept
    listed = ", ".join(map(repr, kept))
    message = f"All elements of {listed} are zero, and `KeepZeros` leaves"
    with pytest.warns(UserWarning, match=re.escape(message)):
        fit(model, optimizer)
    still_zero = [
        path
        for path in ("hidden/kernel", "hidden/bias", "output/kernel")
        if not np.any(
            ops.convert_to_numpy(
                getattr(model.get_layer(path.split("/")[0]), path.split("/")[1])
            )
        )
    ]
    assert set(kept) <= set(still_zero)
    # Biases begin with zeros, and are trained by default.
    assert np.any(ops.convert_to_numpy(model.get_layer("output").bias))


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_values_that_are_no_booleans_are_refused(value):
    with pytest.raises(TypeError, match="must be a boolean"):
        KeepZeros(keras.optimizers.Adam(), {"dense/kernel": value})


def test_a_pattern_that_matches_no_weight_is_refused():
    with pytest.raises(ValueError, match="'densee/kernel'"):
        fit(
            with_zeros(),
            KeepZeros(keras.optimizers.Adam(), {"densee/kernel": True}),
        )


def test_strip_regularizers_leaves_the_plain_optimizer():
    model = fit(with_zeros(), KeepZeros(keras.optimizers.Adam(0.1)))
    l2keras.strip_regularizers(model)
    assert type(model.optimizer).__name__ == "Adam"
