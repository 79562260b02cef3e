"""Under `Hyperball` kernels keep their norm, and follow its formula."""

import json
import re

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from l2keras import Hyperball
from tests.support import BACKEND, runs_several_steps

RNG = np.random.default_rng(11)
X = RNG.normal(size=(96, 8)).astype("float32")
Y = (X @ RNG.normal(size=(8, 2))).astype("float32")
START = RNG.normal(size=(8, 2)).astype("float32")
RATE, EPSILON = 0.03, 1e-7


def linear(**arguments):
    dense = keras.layers.Dense(2, name="dense", **arguments)
    model = keras.Sequential([keras.Input((8,)), dense])
    dense.kernel.assign(START)
    return model


def fit(model, optimizer=None, epochs=2, **arguments):
    if optimizer is not None:
        model.compile(optimizer, "mse", **arguments)
    model.fit(X, Y, batch_size=16, epochs=epochs, shuffle=False, verbose=0)
    return model


def kernel(model):
    return ops.convert_to_numpy(model.layers[0].kernel).astype("float64")


def norm(model):
    return np.linalg.norm(kernel(model))


def assert_turned(model, rtol=1e-6):
    """Asserts that a kernel has the initial norm and another direction."""
    np.testing.assert_allclose(norm(model), np.linalg.norm(START), rtol=rtol)
    assert np.abs(kernel(model) - START).max() > 0.01


# The formula, in float64 ------------------------------------------------------


class NumpyAdam:
    def __init__(self):
        self.step, self.mean, self.square = 0, 0.0, 0.0

    def __call__(self, gradient):
        self.step += 1
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient**2
        mean = self.mean / (1 - 0.9**self.step)
        square = self.square / (1 - 0.999**self.step)
        return mean / (np.sqrt(square) + EPSILON)


class NumpyMomentum:
    def __init__(self):
        self.velocity = 0.0

    def __call__(self, gradient):
        self.velocity = 0.9 * self.velocity + gradient
        return self.velocity


class NumpySGD:
    def __call__(self, gradient):
        return gradient


def normalized(array):
    return array / np.linalg.norm(array)


def numpy_training(make, steps, decay=0.0):
    """Kernel and bias of the linear model after training by the formula."""
    weights, bias = START.astype("float64"), np.zeros(2)
    radius = np.linalg.norm(weights)
    of_weights, of_bias = make(), make()
    for step in range(steps):
        rows = slice(16 * step % 96, 16 * step % 96 + 16)
        errors = 2 * (X[rows] @ weights + bias - Y[rows]) / (16 * 2)
        update = of_weights(X[rows].T.astype("float64") @ errors)
        update = update + decay * weights
        weights = weights - RATE * radius * normalized(update)
        weights = radius * normalized(weights)
        bias = bias - RATE * of_bias(errors.sum(axis=0))
    return weights, bias


@pytest.mark.parametrize(
    ("inner", "truth"),
    [
        (lambda: keras.optimizers.SGD(RATE), NumpySGD),
        (lambda: keras.optimizers.SGD(RATE, momentum=0.9), NumpyMomentum),
        (lambda: keras.optimizers.Adam(RATE, epsilon=EPSILON), NumpyAdam),
    ],
    ids=["SGD", "momentum", "Adam"],
)
def test_training_equals_the_formula_in_numpy(inner, truth):
    model = fit(linear(), Hyperball(inner()), epochs=2)
    weights, bias = numpy_training(truth, steps=12)
    np.testing.assert_allclose(kernel(model), weights, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model.layers[0].bias), bias, rtol=1e-5, atol=1e-5
    )


def test_decoupled_decay_inside_is_part_of_the_update():
    decayed = l2keras.DecoupledWeightDecay(
        keras.optimizers.SGD(RATE), {"dense/kernel": 0.2}
    )
    model = linear()
    model.compile(Hyperball(decayed), "mse")
    model.fit(X[:16], Y[:16], batch_size=16, verbose=0)
    # The decay goes first, so the gradient of one step is the same.
    weights, _ = numpy_training(NumpySGD, steps=1, decay=0.2)
    np.testing.assert_allclose(kernel(model), weights, rtol=1e-5, atol=1e-6)


# However it is trained --------------------------------------------------------


def optimizers_of_keras():
    for name in dir(keras.optimizers):
        if name[0].isupper() and name not in (
            "AdamW",  # Its default is to decay weights.
            "Ftrl",
            "LossScaleOptimizer",
            "MultiOptimizer",
            "Muon",
            "Optimizer",
            "OptimizerMap",
            "ScheduleFreeAdamW",
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
            lambda: keras.optimizers.AdamW(0.1, weight_decay=0.0), id="AdamW"
        ),
        pytest.param(
            lambda: keras.optimizers.Adam(0.1, use_ema=True), id="average"
        ),
        pytest.param(
            lambda: keras.optimizers.Adam(0.1, gradient_accumulation_steps=3),
            id="accumulation",
        ),
    ],
)
def test_the_norm_stays_under_each_optimizer(make):
    model = linear()
    # Nothing is compiled, for time's sake.
    model.compile(Hyperball(make()), "mse", run_eagerly=True)
    for _ in range(2):  # Not by `fit`, which ends with averages as weights.
        for row in range(0, 96, 16):
            model.train_on_batch(X[row : row + 16], Y[row : row + 16])
    assert_turned(model)


def test_the_norm_drifts_by_rounding_alone():
    model = linear()
    model.compile(Hyperball(keras.optimizers.Adam(0.1)), "mse")
    model.fit(np.tile(X, (20, 1)), np.tile(Y, (20, 1)), batch_size=1, verbose=0)
    assert_turned(model, rtol=1e-5)


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
def test_the_norm_stays_however_steps_are_executed(arguments):
    if BACKEND == "torch" and "jit_compile" in arguments:
        pytest.skip("It would take torch.compile, and a C++ compiler.")
    if "steps_per_execution" in arguments and not runs_several_steps():
        pytest.skip("This Keras makes single steps on PyTorch.")
    half = "auto_scale_loss" in arguments
    model = linear(dtype="mixed_float16" if half else "float32")
    fit(model, Hyperball(keras.optimizers.Adam(0.1)), **arguments)
    assert_turned(model)


def test_the_norm_of_a_float16_kernel_stays_where_its_squares_overflow():
    model = linear(dtype="float16")
    large = 200 * START
    model.layers[0].kernel.assign(large)
    optimizer = Hyperball(keras.optimizers.SGD(0.01))
    optimizer.build(model.trainable_variables)
    gradients = [
        ops.ones(weight.shape, "float16")
        for weight in model.trainable_variables
    ]
    optimizer.apply(gradients, model.trainable_variables)
    before = large.astype("float16").astype("float64")
    np.testing.assert_allclose(norm(model), np.linalg.norm(before), rtol=1e-3)
    assert np.any(kernel(model) != before)


def test_a_kernel_whose_gradient_is_zero_is_left_alone():
    model = linear()
    model.compile(Hyperball(keras.optimizers.SGD(0.1)), "mse")
    model.fit(np.zeros((16, 8)), np.ones((16, 2)), verbose=0)
    np.testing.assert_allclose(kernel(model), START, rtol=1e-6)
    assert np.all(ops.convert_to_numpy(model.layers[0].bias) != 0)


def test_the_norm_stays_in_a_loss_scale_optimizer_and_in_one_of_several():
    for outer in (
        keras.optimizers.LossScaleOptimizer,
        *(
            [lambda inner: keras.optimizers.MultiOptimizer(lambda _: inner)]
            if hasattr(keras.optimizers, "MultiOptimizer")
            else []
        ),
    ):
        model = linear()
        fit(model, outer(Hyperball(keras.optimizers.Adam(0.1))))
        assert_turned(model)


def test_round_keep_zeros_both_zeros_and_norm_stay():
    model = linear()
    start = START * (np.arange(16).reshape(8, 2) % 3 > 0)
    model.layers[0].kernel.assign(start)
    fit(model, Hyperball(l2keras.KeepZeros(keras.optimizers.Adam(0.1))))
    np.testing.assert_array_equal(kernel(model)[start == 0], 0.0)
    np.testing.assert_allclose(norm(model), np.linalg.norm(start), rtol=1e-6)


# Saving -----------------------------------------------------------------------


def test_a_reloaded_model_trains_as_if_never_saved(tmp_path):
    def begun(epochs):
        return fit(linear(), Hyperball(keras.optimizers.Adam(0.1)), epochs)

    whole, half = begun(4), begun(2)
    half.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again.optimizer, Hyperball)
    fit(again, epochs=2)
    np.testing.assert_array_equal(kernel(again), kernel(whole))
    l2keras.strip_regularizers(again)
    assert type(again.optimizer).__name__ == "Adam"


def test_the_optimizer_is_rebuilt_from_its_config():
    optimizer = Hyperball(
        keras.optimizers.Adam(0.1), {"dense/kernel": False}, default=True
    )
    config = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    again = keras.optimizers.deserialize(config)
    assert again.get_config() == optimizer.get_config()
    assert again.kept(linear()) == []
    assert Hyperball(keras.optimizers.Adam(0.1)).kept(linear()) == [
        "dense/kernel"
    ]


def test_a_kernel_that_a_rule_leaves_out_is_trained_as_without():
    plain = fit(linear(), keras.optimizers.Adam(0.1))
    optimizer = Hyperball(keras.optimizers.Adam(0.1), {"dense/kernel": False})
    np.testing.assert_array_equal(
        kernel(fit(linear(), optimizer)), kernel(plain)
    )


# Mistakes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Hyperball(keras.optimizers.AdamW(weight_decay=0.1)),
            "Make it with `weight_decay=0.0`, and let other weights decay by",
        ),
        (
            lambda: Hyperball(l2keras.Proximal(keras.optimizers.SGD())),
            "the two cannot be combined",
        ),
        (
            lambda: l2keras.KeepZeros(Hyperball(keras.optimizers.SGD())),
            "must be the outermost of the wrappers: "
            "`Hyperball(KeepZeros(optimizer, ...))`",
        ),
        (
            lambda: l2keras.Proximal(Hyperball(keras.optimizers.SGD())),
            "must be the outermost of the wrappers",
        ),
        (
            lambda: Hyperball(Hyperball(keras.optimizers.SGD())),
            "must be the outermost of the wrappers",
        ),
        (
            lambda: Hyperball(keras.optimizers.Ftrl()),
            "`Ftrl` computes the weights anew",
        ),
    ],
    ids=["decay", "Proximal", "in KeepZeros", "in Proximal", "twice", "Ftrl"],
)
def test_optimizers_that_would_not_keep_the_norm_are_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_a_kernel_of_zeros_is_warned_of():
    model = linear()
    model.layers[0].kernel.assign(np.zeros((8, 2)))
    with pytest.warns(
        UserWarning, match="All elements of 'dense/kernel' are zero, and `Hyper"
    ):
        fit(model, Hyperball(keras.optimizers.SGD(0.1)))
    np.testing.assert_array_equal(kernel(model), 0.0)
