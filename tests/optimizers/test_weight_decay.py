"""Decay by path: against NumPy, against PyTorch's optimizers, against AdamW."""

import json
import re
import signal
import zipfile

import h5py
import keras
import numpy as np
import pytest
from helpers import (
    BACKEND,
    assert_weights,
    documented_data,
    documented_model,
    linear_data,
    number,
    outputs,
    rising,
    rising_schedule,
    run_python,
    simulate,
    start_python,
)
from keras import ops

import l2keras
from l2keras import DecoupledWeightDecay, reference

torch_backend_only = pytest.mark.skipif(
    BACKEND != "torch", reason="Keras models are PyTorch modules there only."
)
X, Y = documented_data(samples=64)
DECAY = 0.1


def fit(model, optimizer, epochs=2, x=X, y=Y, **arguments):
    """Compiles the model and trains it for 4 steps in an epoch."""
    model.compile(optimizer, "categorical_crossentropy", **arguments)
    return fit_on(model, epochs, x, y)


def fit_on(model, epochs, x=X, y=Y, callbacks=()):
    model.fit(
        x,
        y,
        batch_size=16,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )
    return model


def network(first=None, second=None):
    return documented_model(first, second)


def distance(model, other):
    pairs = zip(model.get_weights(), other.get_weights(), strict=True)
    return max(np.abs(one - two).max() for one, two in pairs)


def adamw(**arguments):
    """Returns Keras's AdamW, as the peer, or without decay, to be wrapped."""
    return keras.optimizers.AdamW(0.01, **{"weight_decay": 0.0, **arguments})


# Against PyTorch's optimizers -------------------------------------------------

# Both divide by the root of a second moment plus this, but correct for the
# start before and after adding it.
EPSILON = 1e-12


def torch_training(start, optimizer, steps, penalty=None, x=X, y=Y):
    """Trains a network of dense layers in a plain PyTorch loop."""
    torch = pytest.importorskip("torch")
    weights = [
        torch.nn.Parameter(torch.tensor(np.array(each))) for each in start
    ]
    optimizer = optimizer(weights)
    for step in range(steps):
        first = 16 * step % len(x)
        outputs = torch.tensor(x[first : first + 16])
        for index in range(0, len(weights), 2):
            outputs = torch.relu(outputs) if index else outputs
            outputs = outputs @ weights[index] + weights[index + 1]
        targets = torch.tensor(y[first : first + 16])
        loss = torch.nn.functional.cross_entropy(outputs, targets)
        if penalty is not None:
            loss = loss + penalty(weights, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [each.detach().numpy() for each in weights]


def torch_sgd(**arguments):
    import torch

    return lambda weights: torch.optim.SGD(weights, lr=0.1, **arguments)


def torch_adam(name="Adam", **arguments):
    import torch

    return lambda weights: getattr(torch.optim, name)(
        weights, lr=0.01, eps=EPSILON, **arguments
    )


def keras_sgd(**arguments):
    return keras.optimizers.SGD(0.1, **arguments)


def keras_adam():
    return keras.optimizers.Adam(0.01, epsilon=EPSILON)


def everything(optimizer):
    """Decays all weights, as PyTorch does."""
    return DecoupledWeightDecay(optimizer, {".*": 0.02})


# PyTorch's optimizer, ours, and whether the decay is a penalty.
PEERS = {
    "SGD": (
        lambda: torch_sgd(weight_decay=0.02),
        keras_sgd,
        True,
    ),
    "SGD, plain, decoupled": (
        lambda: torch_sgd(weight_decay=0.02),
        lambda: everything(keras_sgd()),
        False,
    ),
    "SGD with momentum": (
        lambda: torch_sgd(momentum=0.9, weight_decay=0.02),
        lambda: keras_sgd(momentum=0.9),
        True,
    ),
    "Adam": (lambda: torch_adam(weight_decay=0.02), keras_adam, True),
    "AdamW": (
        lambda: torch_adam("AdamW", weight_decay=0.02),
        lambda: everything(keras_adam()),
        False,
    ),
}


@pytest.mark.parametrize("name", PEERS)
def test_200_steps_of_softmax_regression_equal_torch(name):
    pytest.importorskip("torch")
    theirs, ours, is_penalty = PEERS[name]
    penalty = None
    if is_penalty:
        penalty = l2keras.L2(l2keras.l2_from_weight_decay(0.02))
    model = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(
                3,
                activation="softmax",
                kernel_regularizer=penalty,
                bias_regularizer=penalty,
            ),
        ]
    )
    start = model.get_weights()
    fit(model, ours(), 1, np.tile(X, (50, 1)), np.tile(Y, (50, 1)))
    expected = torch_training(start, theirs(), steps=200)
    assert_weights(model, expected, atol=1e-5)
    without = torch_training(start, plain(theirs), steps=200)
    assert np.abs(without[0] - expected[0]).max() > 0.01


def plain(theirs):
    """Returns PyTorch's optimizer with its decay switched off."""

    def optimizer(weights):
        made = theirs()(weights)
        for group in made.param_groups:
            group["weight_decay"] = 0.0
        return made

    return optimizer


@pytest.mark.parametrize("name", ["SGD with momentum", "Adam", "AdamW"])
def test_the_first_steps_of_the_documented_network_equal_torch(name):
    # Later ones amplify rounding: a unit is on in one, and off in the other.
    pytest.importorskip("torch")
    theirs, ours, is_penalty = PEERS[name]
    penalty = l2keras.L2(0.01) if is_penalty else None
    model = network(penalty, penalty)
    if is_penalty:
        l2keras.apply_regularizers(model, {".*/bias": l2keras.L2(0.01)})
    start = model.get_weights()
    fit(model, ours(), epochs=1)
    assert_weights(model, torch_training(start, theirs(), steps=4), atol=1e-5)


def test_the_three_ways_agree():
    pytest.importorskip("torch")
    strength = 0.05
    model = network(keras.regularizers.L2(strength), l2keras.L2(strength))
    start = model.get_weights()
    fit(model, keras_sgd())
    by_hand = simulate(
        start,
        X,
        Y,
        first=lambda step: strength,
        second=lambda step: strength,
        epochs=2,
    )
    decay = l2keras.weight_decay_from_l2(strength)
    by_decay = torch_training(start, kernels_only(torch_sgd, decay), steps=8)
    assert_weights(model, by_hand.weights, atol=1e-5)
    assert_weights(model, by_decay, atol=1e-5)
    np.testing.assert_allclose(
        number(sum(model.losses)),
        reference.l2_regularization(by_hand.weights[::2], strength),
        rtol=1e-5,
    )


def kernels_only(optimizer, decay):
    """Returns a PyTorch optimizer that decays the kernels alone."""
    return lambda weights: optimizer()(
        [
            {"params": weights[::2], "weight_decay": decay},
            {"params": weights[1::2], "weight_decay": 0.0},
        ]
    )


def test_the_documented_loop_penalizes_twice():
    # It has `weight_decay=0.01`, and adds 0.01 * sum w**2 to the loss as well.
    pytest.importorskip("torch")
    start = network().get_weights()

    def penalty(weights, step):
        return 0.01 * sum(each.square().sum() for each in weights)

    documented = torch_training(
        start, torch_adam(weight_decay=0.01), steps=4, penalty=penalty
    )
    total = 0.01 + l2keras.weight_decay_from_l2(0.01, "adam")
    assert total == 0.03
    once = torch_training(start, torch_adam(weight_decay=total), steps=4)
    for one, other in zip(documented, once, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


# A model on the PyTorch backend is a module, and trains in a plain loop.


def plain_loop(model, penalty, steps=8):
    import torch

    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    for step in range(steps):
        first = 16 * step % len(X)
        xb = torch.tensor(X[first : first + 16])
        yb = torch.tensor(Y[first : first + 16])
        optimizer.zero_grad()
        probabilities = model(xb, training=True)
        loss = -(yb * torch.log(probabilities)).sum(1).mean()
        (loss + penalty(model, step)).backward()
        optimizer.step()


@torch_backend_only
def test_the_losses_of_a_model_go_into_a_plain_torch_loop():
    model = network(l2keras.L2(0.05), l2keras.L2(0.05))
    by_hand = network()

    def square_sum(model, step):
        kernels = model.trainable_variables[::2]
        return 0.05 * sum(each.value.square().sum() for each in kernels)

    plain_loop(model, lambda model, step: sum(model.losses))
    plain_loop(by_hand, square_sum)
    assert distance(model, by_hand) < 1e-6


@torch_backend_only
def test_set_step_drives_the_schedules_of_a_plain_torch_loop():
    model = network(l2keras.L2(rising_schedule()), l2keras.L2(0.0))
    by_hand, without = network(), network()

    def scheduled(model, step):
        l2keras.set_step(model, step)
        return sum(model.losses)

    def square_sum(model, step):
        kernel = model.trainable_variables[0].value
        return rising(step) * kernel.square().sum()

    plain_loop(model, scheduled)
    plain_loop(by_hand, square_sum)
    plain_loop(without, lambda model, step: 0.0)
    assert distance(model, by_hand) < 1e-6
    assert distance(model, without) > 1e-4


# Against Keras's AdamW --------------------------------------------------------


@pytest.mark.parametrize(
    ("excluded", "arguments"),
    [
        ({}, {"rules": {".*": DECAY}}),
        ({"var_names": ["bias"]}, {"default": DECAY}),
        ("hidden", {"rules": {"hidden/.*": 0, "output/.*": DECAY}}),
    ],
    ids=["everything", "kernels", "one layer"],
)
def test_it_equals_the_adamw_of_keras(excluded, arguments):
    ours, theirs = network(), network()
    before = theirs.get_weights()
    peer = adamw(weight_decay=DECAY)
    if excluded == "hidden":
        excluded = {"var_list": theirs.layers[0].trainable_variables}
    peer.exclude_from_weight_decay(**excluded)
    fit(theirs, peer)
    fit(ours, DecoupledWeightDecay(adamw(), **arguments))
    assert distance(ours, theirs) <= 1e-6
    assert np.abs(ours.get_weights()[0] - before[0]).max() > 0.01


def kernels_by_keras(**arguments):
    optimizer = adamw(weight_decay=DECAY, **arguments)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def kernels_by_us(**arguments):
    return DecoupledWeightDecay(adamw(**arguments), default=DECAY)


# How both are made, and how the model is compiled.
SETTINGS = {
    "clipping and a moving average": (
        {"clipnorm": 0.1, "use_ema": True, "ema_momentum": 0.5},
        {},
    ),
    "a moving average in use": (
        {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 3},
        {},
    ),
    "accumulation of all that": (
        {
            "gradient_accumulation_steps": 3,
            "use_ema": True,
            "global_clipnorm": 0.1,
        },
        {},
    ),
    "several steps in one": ({}, {"steps_per_execution": 4}),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_it_decays_when_keras_does(name):
    arguments, compiling = SETTINGS[name]
    if BACKEND == "torch" and "steps_per_execution" in compiling:
        pytest.skip("Keras has no such steps on PyTorch.")
    ours, theirs = network(), network()
    fit(theirs, kernels_by_keras(**arguments), **compiling)
    fit(ours, kernels_by_us(**arguments), **compiling)
    assert distance(ours, theirs) <= 1e-6


def test_the_learning_rate_is_that_of_the_wrapped_optimizer():
    optimizer = kernels_by_us()
    model = fit(network(), optimizer, epochs=1)
    before = model.get_weights()
    optimizer.learning_rate = 0.0
    assert number(ops.convert_to_tensor(optimizer.learning_rate)) == 0.0
    fit_on(model, 1)
    assert_weights(model, before, atol=0.0)
    inner = optimizer.inner_optimizer
    assert number(ops.convert_to_tensor(inner.learning_rate)) == 0.0


@pytest.mark.parametrize("scaled", ["by hand", "by Keras"])
def test_it_works_inside_a_loss_scale_optimizer(scaled):
    ours, theirs = network(), network()
    for model, make in ((theirs, kernels_by_keras), (ours, kernels_by_us)):
        # The scale is Keras's business: it sets that of the inner one to None.
        optimizer = make(loss_scale_factor=1024.0)
        if scaled == "by hand":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        else:
            # As if it had been made so.
            model.dtype_policy = keras.DTypePolicy("mixed_float16")
        fit(model, optimizer)
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert distance(ours, theirs) <= 1e-6
    wrapper = ours.optimizer.inner_optimizer
    assert wrapper.loss_scale_factor is None
    assert wrapper.inner_optimizer.loss_scale_factor is None
    assert set(wrapper.strengths()) == {"hidden/kernel", "output/kernel"}


def test_a_step_that_is_skipped_decays_nothing():
    model = network()
    x = np.full_like(X, np.inf)  # The gradients are not finite.
    before = model.get_weights()
    optimizer = keras.optimizers.LossScaleOptimizer(kernels_by_us())
    fit(model, optimizer, epochs=1, x=x)
    assert_weights(model, before, atol=0.0)
    assert number(ops.convert_to_tensor(optimizer.iterations)) == 0


@pytest.mark.parametrize("name", ["Nadam", "Lion"])
def test_it_wraps_any_optimizer(name):
    make = getattr(keras.optimizers, name)
    ours, theirs = network(), network()
    peer = make(0.01, weight_decay=DECAY)
    peer.exclude_from_weight_decay(var_names=["bias"])
    fit(theirs, peer, epochs=1)
    inner = make(0.01) if name != "Lion" else make(0.01, weight_decay=None)
    fit(ours, DecoupledWeightDecay(inner, default=DECAY), epochs=1)
    assert distance(ours, theirs) <= 1e-6


# Against NumPy ----------------------------------------------------------------


def learning_rate(step):
    return 0.5 * 0.9**step


def learning_rate_schedule():
    return keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.9)


# Our optimizer, and by what an update multiplies a weight without gradient.
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
    "by an optimizer that adapts": (
        lambda: DecoupledWeightDecay(keras_adam(), default=0.3),
        lambda step: 1 - 0.01 * 0.3,
    ),
}


def single():
    """Returns a softmax regression: zeros give its kernel no gradient."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(3, activation="softmax", name="output"),
        ]
    )


@pytest.mark.parametrize("name", FACTORS)
def test_each_update_multiplies_the_weights(name):
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
def test_weights_of_other_types_decay(dtype):
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
                zip(gradients, [each.value for each in weights], strict=True)
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
            optimizer.apply([each.value.grad for each in weights], weights)


@pytest.mark.parametrize("cautious", [False, True])
def test_a_loop_of_ones_own_equals_fit(cautious):
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


def zeros_for(variables):
    return [ops.zeros(each.shape, each.dtype) for each in variables]


# Paths and rules --------------------------------------------------------------


def mixed_model():
    """Returns a model with weights of all kinds, one of them in a model."""
    inner = keras.Sequential(
        [
            keras.Input((5, 4)),
            keras.layers.Dense(4, name="dense"),
            keras.layers.PReLU(name="prelu"),
        ],
        name="inner",
    )
    inputs = keras.Input((5,), dtype="int32")
    hidden = keras.layers.Embedding(7, 4, name="words")(inputs)
    hidden = keras.layers.LayerNormalization(name="norm")(inner(hidden))
    hidden = keras.layers.SimpleRNN(3, name="rnn")(hidden)
    hidden = keras.layers.BatchNormalization(name="batch")(hidden)
    outputs = keras.layers.Dense(2, name="dense")(hidden)
    return keras.Model(inputs, outputs, name="outer")


def test_the_default_goes_to_kernels_only():
    model = mixed_model()
    optimizer = DecoupledWeightDecay(keras_sgd(), default=0.5)
    kernels = {
        "inner/dense/kernel",
        "rnn/simple_rnn_cell/kernel",
        "rnn/simple_rnn_cell/recurrent_kernel",
        "dense/kernel",
    }
    assert optimizer.strengths(model) == dict.fromkeys(kernels, 0.5)
    # As `apply_regularizers` has it.
    applied = l2keras.apply_regularizers(model, default=l2keras.L2(0.5))
    assert set(applied) == kernels


def test_rules_go_before_the_default_and_paths_before_patterns():
    schedule = rising_schedule()
    optimizer = DecoupledWeightDecay(
        keras_sgd(),
        {
            "inner/.*": 0.1,
            "inner/dense/bias": 0.0,
            "words/embeddings": schedule,
            "batch/gamma": 0.2,
        },
        default=0.5,
    )
    model = mixed_model()
    assert optimizer.decayed(model) == {
        "words/embeddings": schedule,
        "inner/dense/kernel": 0.1,
        "inner/prelu/alpha": 0.1,
        "rnn/simple_rnn_cell/kernel": 0.5,
        "rnn/simple_rnn_cell/recurrent_kernel": 0.5,
        "batch/gamma": 0.2,
        "dense/kernel": 0.5,
    }
    model.compile(optimizer, "mse")
    optimizer.build(model.trainable_variables)
    assert optimizer.decayed() == optimizer.decayed(model)
    assert optimizer.strengths()["words/embeddings"] == 0.0
    optimizer.iterations.assign(6)
    strengths = optimizer.strengths()
    assert strengths["words/embeddings"] == pytest.approx(rising(6))
    dense, prelu = model.get_layer("inner").layers
    for weight, path in (
        (dense.kernel, "inner/dense/kernel"),
        (prelu.alpha, "inner/prelu/alpha"),
        (model.get_layer("words").embeddings, "words/embeddings"),
        (model.get_layer("dense").kernel, "dense/kernel"),
    ):
        assert optimizer.decay_of(weight) == strengths[path]
    assert optimizer.decay_of(dense.bias) == 0.0
    assert optimizer.decay_of(model.get_layer("batch").beta) == 0.0
    assert optimizer.decay_of(model.get_layer("batch").moving_mean) == 0.0


def test_weights_that_are_frozen_may_have_rules():
    model = network()
    model.layers[0].trainable = False
    before = model.layers[0].get_weights()
    optimizer = DecoupledWeightDecay(
        keras_sgd(), {"hidden/kernel": 0.5}, default=0.1
    )
    fit(model, optimizer, epochs=1)
    for one, other in zip(before, model.layers[0].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert optimizer.strengths() == {"output/kernel": 0.1}
    assert optimizer.decay_of(model.layers[0].kernel) == 0.0
    # Thawed, they are trained by another optimizer, as Keras wants it.
    model.layers[0].trainable = True
    again = DecoupledWeightDecay.from_config(optimizer.get_config())
    model.compile(again)
    again.build(model.trainable_variables)
    assert again.strengths() == {"hidden/kernel": 0.5, "output/kernel": 0.1}


def test_a_weight_that_layers_share_decays_once():
    shared = keras.layers.Dense(10, use_bias=False, name="shared")
    model = keras.Sequential([keras.Input((10,)), shared, shared])
    before = shared.get_weights()[0]
    optimizer = DecoupledWeightDecay(keras_sgd(), default=0.5)
    model.compile(optimizer, "mse")
    model.fit(np.zeros((4, 10)), np.zeros((4, 10)), batch_size=4, verbose=0)
    np.testing.assert_allclose(shared.get_weights()[0], before * 0.95, 1e-6)


# Which model it is.


def built(optimizer, variables):
    optimizer.build(variables)
    return set(optimizer.strengths())


def decay(**arguments):
    return DecoupledWeightDecay(keras_sgd(), default=0.1, **arguments)


def nested():
    inner = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="a")], name="inner"
    )
    return inner, keras.Sequential(
        [keras.Input((4,)), inner, keras.layers.Dense(2, name="b")]
    )


def test_in_a_loop_the_paths_are_those_of_the_outermost_model():
    inner, outer = nested()
    weights = inner.trainable_variables
    assert built(decay(), weights) == {"inner/a/kernel"}
    assert built(decay(), outer.trainable_variables) == {
        "inner/a/kernel",
        "b/kernel",
    }


def test_the_model_that_is_compiled_goes_first():
    inner, outer = nested()
    for optimizer, held in (
        (one := decay(), one),
        (two := decay(), keras.optimizers.LossScaleOptimizer(two)),
    ):
        inner.compile(held)
        assert built(optimizer, inner.trainable_variables) == {"a/kernel"}
    # Under any name, as where there are several optimizers.
    inner.compile(keras_sgd())
    inner.some_optimizer = decay()
    assert built(inner.some_optimizer, inner.trainable_variables) == {
        "a/kernel"
    }
    assert outer.built


def test_models_that_agree_are_no_trouble():
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(3, name="a")(inputs)
    outputs = keras.layers.Dense(2, name="b")(hidden)
    model = keras.Model(inputs, outputs)
    both = keras.Model(inputs, [hidden, outputs])
    assert built(decay(), model.trainable_variables) == {"a/kernel", "b/kernel"}
    assert both.built


def test_models_that_disagree_are_an_error():
    inner = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="a")], name="inner"
    )
    models = [
        keras.Sequential([keras.Input((4,)), inner], name="one"),
        keras.Sequential(
            [
                keras.Input((4,)),
                keras.Sequential([keras.Input((4,)), inner], name="deep"),
            ],
            name="two",
        ),
    ]
    with pytest.raises(ValueError, match="Models") as caught:
        decay().build(inner.trainable_variables)
    assert re.fullmatch(
        "Models '(one|two)' and '(one|two)' both have the variables that the "
        "optimizer was built for, and one is at '(deep/)?inner/a/kernel' in "
        "the first, at '(deep/)?inner/a/kernel' in the second. Say which model "
        r"it trains: `model.compile\(optimizer\)`\.",
        str(caught.value),
    )
    optimizer = decay()
    models[1].compile(optimizer)
    assert built(optimizer, inner.trainable_variables) == {
        "deep/inner/a/kernel"
    }


def test_variables_of_no_model_are_an_error():
    with pytest.raises(ValueError, match="no Keras model") as caught:
        decay().build([keras.Variable(np.ones((2, 2)))])
    assert str(caught.value) == (
        "The optimizer was built for variables that no Keras model in memory "
        "has all of, so it cannot tell the paths of the weights. Build it for "
        "those of one model: `model.compile(optimizer)` and `fit`, or "
        "`optimizer.build(model.trainable_variables)`."
    )


@pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="Since Keras 3.15."
)
def test_it_can_be_one_of_several_optimizers():
    start = network().get_weights()
    model = network()
    hidden = decay()
    optimizer = keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(keras_sgd(), {".*hidden/.*": hidden})
    )
    fit(model, optimizer, epochs=1, x=np.zeros_like(X))
    assert hidden.strengths() == {"hidden/kernel": 0.1}
    assert_weights(model, [start[0] * 0.99**4, *model.get_weights()[1:]])
    assert model.get_weights()[2] == pytest.approx(start[2])


# Bad input --------------------------------------------------------------------


def wrap(*arguments, **keywords):
    return lambda: DecoupledWeightDecay(*arguments, **keywords)


BAD = {
    "no optimizer": (
        wrap("adam", default=0.1),
        TypeError,
        "Argument `optimizer` must be an optimizer of Keras, as an instance "
        "such as `keras.optimizers.Adam(0.001)`. Received: optimizer='adam' "
        "(of type str)",
    ),
    "a wrapped wrapper": (
        lambda: DecoupledWeightDecay(decay(), default=0.1),
        ValueError,
        "Argument `optimizer` must not be a `DecoupledWeightDecay`, which "
        "would decay the weights twice. Wrap its `inner_optimizer`, and put "
        "all strengths into one dictionary of rules.",
    ),
    "a loss scale inside": (
        lambda: DecoupledWeightDecay(
            keras.optimizers.LossScaleOptimizer(keras_sgd()), default=0.1
        ),
        ValueError,
        "Argument `optimizer` must not wrap another. Wrap the inner one: "
        "`LossScaleOptimizer(DecoupledWeightDecay(optimizer, ...))`. Received: "
        "optimizer=LossScaleOptimizer(...)",
    ),
    "decay of its own": (
        lambda: DecoupledWeightDecay(keras.optimizers.AdamW(), default=0.1),
        ValueError,
        "The optimizer must not decay weights itself, which would then decay "
        "twice. Make it with `weight_decay=0.0`, and give "
        "`DecoupledWeightDecay` the strength, as in `default=0.004`. Received: "
        "AdamW(weight_decay=0.004)",
    ),
    "nothing": (
        lambda: DecoupledWeightDecay(keras_sgd()),
        ValueError,
        "There is nothing to decay. Give `rules`, a dictionary from path or "
        "pattern to strength, or a `default` for all kernels.",
    ),
    "a negative default": (
        lambda: DecoupledWeightDecay(keras_sgd(), default=-0.1),
        ValueError,
        "Argument `default` must be a finite number >= 0 or a schedule. "
        "Received: default=-0.1",
    ),
    "an infinite strength": (
        lambda: DecoupledWeightDecay(keras_sgd(), {"a": np.inf}),
        ValueError,
        "Argument `rules['a']` must be a finite number >= 0 or a schedule. "
        "Received: rules['a']=inf",
    ),
    "no strength": (
        lambda: DecoupledWeightDecay(keras_sgd(), {"a": None}),
        TypeError,
        "Argument `rules['a']` must be a finite number >= 0 or a schedule. "
        "Received: rules['a']=None (of type NoneType)",
    ),
    "a list of rules": (
        lambda: DecoupledWeightDecay(keras_sgd(), ["a"]),
        TypeError,
        "Rules must be a dictionary from path or pattern to strength. "
        "Received: ['a']",
    ),
    "no pattern": (
        lambda: DecoupledWeightDecay(keras_sgd(), {1: 0.1}),
        TypeError,
        "A pattern must be a string: a path, or a regular expression. "
        "Received: 1",
    ),
    "no boolean": (
        lambda: DecoupledWeightDecay(keras_sgd(), default=0.1, cautious=1),
        TypeError,
        "Argument `cautious` must be a boolean. Received: cautious=1",
    ),
    "exclusion by Keras": (
        lambda: decay().exclude_from_weight_decay(var_names=["bias"]),
        NotImplementedError,
        "Weights are left out of the decay by a rule of strength 0.0, as in "
        '`DecoupledWeightDecay(optimizer, {"output/.*": 0.0}, ...)`.',
    ),
    "too early": (
        lambda: decay().strengths(),
        ValueError,
        "The optimizer is not built, so it knows no weights yet. Give the "
        "model that it is to train: `optimizer.decayed(model)`, "
        "`optimizer.strengths(model)`.",
    ),
    "too early for one": (
        lambda: decay().decay_of(network().trainable_variables[0]),
        ValueError,
        "The optimizer is not built, so it knows no weights yet. See "
        "`optimizer.strengths(model)`.",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, error, message = BAD[name]
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


def test_a_schedule_that_cannot_be_saved_is_an_error():
    with pytest.raises(ValueError, match="must not be a lambda"):
        DecoupledWeightDecay(keras_sgd(), {"a": lambda step: 0.1})


def test_muon_decays_in_two_ways():
    muon = getattr(keras.optimizers, "Muon", None)
    if muon is None or "adam_weight_decay" not in vars(muon()):
        pytest.skip("This Keras has no such Muon.")
    with pytest.raises(ValueError, match=r"Make it with `weight_decay=0.0`"):
        DecoupledWeightDecay(muon(), default=0.1)
    half = muon(weight_decay=0.0)
    with pytest.raises(ValueError, match="with `adam_weight_decay="):
        DecoupledWeightDecay(half, default=0.1)


RULES_THAT_DO_NOT_FIT = {
    "unknown": (
        {"hiden/kernel": 0.1},
        "Pattern 'hiden/kernel' matches no weight. A pattern is a whole path "
        "or a regular expression for one. Paths: 'hidden/kernel', "
        "'hidden/bias', 'batch/gamma', 'batch/beta', 'output/kernel', "
        "'output/bias'",
    ),
    "two": (
        {"hidden/.*": 0.1, ".*/kernel": 0.2},
        "Weight 'hidden/kernel' is matched by more than one pattern: "
        "'hidden/.*', '.*/kernel'. Make each weight match at most one.",
    ),
    "never trained": (
        {"batch/moving_mean": 0.1},
        "Weight 'batch/moving_mean' is never trained, so it cannot decay. "
        "Leave it out of the rules.",
    ),
}


@pytest.mark.parametrize("name", RULES_THAT_DO_NOT_FIT)
def test_rules_that_do_not_fit_the_model(name):
    rules, message = RULES_THAT_DO_NOT_FIT[name]
    model = documented_model(
        None, None, between=[keras.layers.BatchNormalization(name="batch")]
    )
    optimizer = DecoupledWeightDecay(adamw(), rules)
    with pytest.raises(ValueError, match=r"match|trained") as caught:
        optimizer.strengths(model)
    assert str(caught.value) == message
    with pytest.raises(ValueError, match=r"match|trained") as caught:
        fit(model, optimizer)
    assert str(caught.value) == message
    assert not optimizer.inner_optimizer.built


def test_rules_for_the_weights_of_another_optimizer_are_an_error():
    model = network()
    model.optimizer = optimizer = DecoupledWeightDecay(
        adamw(), {"hidden/.*": 0.1}, default=0.1
    )
    with pytest.raises(ValueError, match="not built for") as caught:
        optimizer.build(model.layers[1].trainable_variables)
    assert str(caught.value) == (
        "Pattern 'hidden/.*' matches only weights that this optimizer was not "
        "built for. Leave it out of the rules, or build the optimizer for "
        f"those of {model.name!r} as well."
    )


def test_a_decay_that_the_wrapped_optimizer_is_given_later_is_an_error():
    optimizer = decay()
    optimizer.inner_optimizer.weight_decay = 0.1
    with pytest.raises(ValueError, match="must not decay weights itself"):
        fit(network(), optimizer)


# Saving -----------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="l2keras_tests")
def halved_each_time(step):
    return 0.2 * 0.5**step


def elaborate():
    return DecoupledWeightDecay(
        adamw(),
        {"hidden/.*": rising_schedule(), "output/bias": halved_each_time},
        default=keras.optimizers.schedules.CosineDecay(0.2, 12),
        coupled_to_learning_rate=False,
        cautious=True,
        name="mine",
    )


def test_the_config_says_it_all():
    optimizer = elaborate()
    config = json.loads(json.dumps(optimizer.get_config()))
    again = DecoupledWeightDecay.from_config(config)
    assert again.get_config() == optimizer.get_config()
    assert again.rules["output/bias"] is halved_each_time
    assert (again.cautious, again.coupled_to_learning_rate) == (True, False)
    assert again.name == "mine"
    assert list(optimizer.get_config()) == [
        "name",
        "optimizer",
        "rules",
        "default",
        "coupled_to_learning_rate",
        "cautious",
    ]
    serialized = keras.optimizers.serialize(optimizer)
    assert serialized["registered_name"] == "l2keras>DecoupledWeightDecay"
    other = keras.optimizers.deserialize(serialized)
    assert other.get_config() == optimizer.get_config()


def test_a_reloaded_model_trains_on_as_if_nothing_had_been(tmp_path):
    whole = fit(network(), elaborate(), epochs=4)
    half = fit(network(), elaborate(), epochs=2)
    half.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.optimizer.strengths() == half.optimizer.strengths()
    assert set(again.optimizer.decayed()) == {
        "hidden/kernel",
        "hidden/bias",
        "output/kernel",
        "output/bias",
    }
    fit_on(again, 2)
    assert distance(again, whole) == 0.0


def test_what_is_saved_is_the_state_of_the_wrapped_optimizer(tmp_path):
    files = []
    for name, optimizer in (("ours", kernels_by_us()), ("plain", adamw())):
        model = fit(network(), optimizer, epochs=1)
        model.save(tmp_path / f"{name}.keras")
        with zipfile.ZipFile(tmp_path / f"{name}.keras") as archive:
            archive.extract("model.weights.h5", tmp_path / name)
        found = {}
        with h5py.File(tmp_path / name / "model.weights.h5") as file:
            file.visititems(
                lambda key, value, found=found: found.update(
                    {key: getattr(value, "shape", None)}
                )
            )
        files.append(found)
    assert files[0] == files[1]
    wrapper = kernels_by_us()
    assert wrapper.variables == wrapper.inner_optimizer.variables
    assert "inner_optimizer" not in dir(wrapper)
    with pytest.raises(ValueError, match="not yet been built"):
        wrapper.set_weights([])


def test_a_backup_goes_on_where_it_was_made(tmp_path):
    class Breaks(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    def compiled():
        model = network()
        model.compile(elaborate(), "categorical_crossentropy")
        return model

    with pytest.raises(KeyboardInterrupt):
        fit_on(compiled(), 4, callbacks=[backup(), Breaks()])
    again = fit_on(compiled(), 4, callbacks=[backup()])
    assert distance(again, fit_on(compiled(), 4)) == 0.0


KILLED = """
import json
import os
import signal
import sys

import keras
from helpers import documented_data, documented_model, rising_schedule

import l2keras

x, y = documented_data(samples=64)


class Dies(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (2, 1):
            os.kill(os.getpid(), signal.SIGKILL)


def train(*callbacks):
    model = documented_model(None, None)
    model.compile(
        l2keras.DecoupledWeightDecay(
            keras.optimizers.Adam(0.01),
            {"hidden/.*": rising_schedule()},
            default=0.1,
        ),
        "categorical_crossentropy",
    )
    model.fit(
        x,
        y,
        batch_size=16,
        epochs=4,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )
    return model


def show(model):
    print(json.dumps([each.tolist() for each in model.get_weights()]))


backup = keras.callbacks.BackupAndRestore(sys.argv[1])
"""


def test_a_killed_training_ends_where_it_would_have(tmp_path):
    whole = start_python(KILLED + "show(train())", tmp_path / "none")
    killed = start_python(KILLED + "train(backup, Dies())", tmp_path / "b")
    outputs([killed], returncode=-signal.SIGKILL)
    assert (tmp_path / "b").exists()
    again = start_python(KILLED + "show(train(backup))", tmp_path / "b")
    one, other = (out.splitlines()[-1] for out in outputs([whole, again]))
    assert one == other


# On several devices -----------------------------------------------------------

DISTRIBUTED = """
import contextlib
import json

import keras
from helpers import documented_data, documented_model, rising_schedule

import l2keras

x, y = documented_data(samples=64)


def train(scope=contextlib.nullcontext, scaled=False, **arguments):
    with scope():
        model = documented_model(None, None)
        optimizer = l2keras.DecoupledWeightDecay(
            keras.optimizers.SGD(0.1, momentum=0.9),
            {"hidden/.*": rising_schedule()},
            default=0.3,
            **arguments,
        )
        if scaled:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        model.compile(optimizer, "categorical_crossentropy")
    model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    return [each.tolist() for each in model.get_weights()]


"""


def assert_pairs(out):
    pairs = json.loads(out.splitlines()[-1])
    assert len(pairs) == 2
    assert pairs[0][0] != pairs[1][0]
    for one, several in pairs:
        for ours, theirs in zip(one, several, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="It is TensorFlow's.")
def test_two_mirrored_devices_equal_one():
    assert_pairs(
        run_python(
            DISTRIBUTED
            + """
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
scope = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope
pairs = [
    (train(), train(scope)),
    (train(cautious=True), train(scope, scaled=True, cautious=True)),
]
print(json.dumps(pairs))
"""
        )
    )


# How the wrapped optimizer is made, and how the model is compiled.
MIRRORED = {
    # On each device, before gradients are added up: so Keras has it, and so two
    # devices do not equal one.
    "clipnorm": ({"clipnorm": 0.05}, {}),
    "global_clipnorm": ({"global_clipnorm": 0.05}, {}),
    "clipvalue": ({"clipvalue": 0.01}, {}),
    # Compiled, Keras itself cannot accumulate on several devices.
    "accumulation": (
        {"gradient_accumulation_steps": 2},
        {"run_eagerly": True},
    ),
}


@pytest.fixture(scope="module")
def mirrored():
    """Trains on two devices in all these settings, with each optimizer."""
    out = run_python(
        """
import json
import sys

import keras
import numpy as np
import tensorflow as tf
from helpers import documented_data, documented_model

import l2keras

x, y = documented_data(samples=64)
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def plain(decay=0.0):
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=decay, **arguments)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def ours(**options):
    return l2keras.DecoupledWeightDecay(plain(), default=0.3, **options)


def train(optimizer, *callbacks):
    with strategy.scope():
        model = documented_model(None, None)
        model.compile(optimizer(), "categorical_crossentropy", **compiling)
    model.fit(
        x,
        y,
        batch_size=16,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )
    return [each.tolist() for each in model.get_weights()]


class Cautiously(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.old = self.model.get_weights()

    def on_train_batch_end(self, batch, logs=None):
        new = self.model.get_weights()
        if np.array_equal(new[0], self.old[0]):  # It has but accumulated.
            return
        for index in (0, 2):
            old = self.old[index]
            shrinks = (old - new[index]) * old >= 0
            new[index] -= 0.01 * 0.3 * shrinks * old
        self.model.set_weights(new)
        self.old = new


found = {}
for name, (arguments, compiling) in json.loads(sys.argv[1]).items():
    found[name] = {
        "AdamW": train(lambda: plain(0.3)),
        "ours": train(ours),
    }
    if name in ("clipnorm", "accumulation"):  # Each training takes seconds.
        found[name]["cautious by hand"] = train(plain, Cautiously())
        found[name]["cautious"] = train(lambda: ours(cautious=True))
print(json.dumps(found))
""",
        json.dumps(MIRRORED),
    )
    return json.loads(out.splitlines()[-1])


@pytest.mark.skipif(BACKEND != "tensorflow", reason="It is TensorFlow's.")
@pytest.mark.parametrize("name", MIRRORED)
def test_what_keras_does_on_two_devices_stays_as_it_is(mirrored, name):
    found = mirrored[name]

    def apart(one, other):
        pairs = zip(one, other, strict=True)
        return max(np.abs(np.subtract(*pair)).max() for pair in pairs)

    assert apart(found["ours"], found["AdamW"]) <= 1e-6
    if "cautious" in found:
        assert apart(found["cautious"], found["cautious by hand"]) <= 1e-6
        assert apart(found["cautious"], found["ours"]) > 1e-3
    for other in MIRRORED:  # Each setting has an effect.
        if other != name:
            assert apart(found["ours"], mirrored[other]["ours"]) > 1e-3


@pytest.mark.skipif(BACKEND != "jax", reason="It trains on JAX.")
def test_four_devices_with_a_share_of_the_data_equal_one():
    assert_pairs(
        run_python(
            DISTRIBUTED
            + """
first = [train(), train(cautious=True)]
keras.distribution.set_distribution(keras.distribution.DataParallel())
assert len(keras.distribution.list_devices()) == 4
pairs = [
    (first[0], train()),
    (first[1], train(scaled=True, cautious=True)),
]
print(json.dumps(pairs))
""",
            XLA_FLAGS="--xla_force_host_platform_device_count=4",
        )
    )


# What is seen of it -----------------------------------------------------------


def test_the_audit_and_the_logger_tell_of_the_decay():
    model = documented_model(l2keras.L2(0.01), None)
    decay = l2keras.LinearSchedule(0.0, 0.1, steps=10)
    model.compile(
        l2keras.DecoupledWeightDecay(
            keras.optimizers.SGD(0.1), {"hidden/kernel": decay}, default=0.05
        ),
        "categorical_crossentropy",
    )
    x, y = documented_data(samples=64)
    logger = l2keras.RegularizationLogger(strengths=True)
    history = model.fit(
        x, y, batch_size=16, epochs=2, verbose=0, callbacks=[logger]
    ).history
    # Four steps an epoch.
    np.testing.assert_allclose(
        history["weight_decay/hidden/kernel"], [0.04, 0.08], rtol=1e-6
    )
    np.testing.assert_allclose(
        history["weight_decay/output/kernel"], [0.05, 0.05], rtol=1e-6
    )
    seen = {each.path: each.weight_decay for each in l2keras.penalties(model)}
    assert seen == pytest.approx(
        {
            "hidden/kernel": 0.08,
            "hidden/bias": 0.0,
            "output/kernel": 0.05,
            "output/bias": 0.0,
        }
    )
    printed = []
    l2keras.summary(model, print_fn=printed.append)
    assert (
        "- A penalty, and the optimizer's weight decay as well: hidden/kernel"
        in printed[0].splitlines()
    )
