"""Decay equals that of Keras's AdamW, in every setting of its optimizers."""

import keras
import numpy as np
import pytest
from keras import ops

from l2keras import DecoupledWeightDecay
from tests.support import assert_weights, number, runs_several_steps
from tests.support.weight_decay_cases import (
    DECAY,
    X,
    adamw,
    distance,
    fit,
    fit_on,
    fit_peer,
    kernels_by_keras,
    kernels_by_us,
    network,
)


@pytest.mark.parametrize(
    ("excluded", "arguments"),
    [
        ({}, {"rules": {".*": DECAY}}),
        ({"var_names": ["bias"]}, {"default": DECAY}),
        ("hidden", {"rules": {"hidden/.*": 0, "output/.*": DECAY}}),
    ],
    ids=["everything", "kernels", "one layer"],
)
def test_decay_equals_the_adamw_of_keras(excluded, arguments):
    ours, theirs = network(), network()
    before = theirs.get_weights()
    peer = adamw(weight_decay=DECAY)
    if excluded == "hidden":
        excluded = {"var_list": theirs.layers[0].trainable_variables}
    peer.exclude_from_weight_decay(**excluded)
    fit_peer(theirs, peer)
    fit(ours, DecoupledWeightDecay(adamw(), **arguments))
    assert distance(ours, theirs) <= 1e-6
    assert np.abs(ours.get_weights()[0] - before[0]).max() > 0.01


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
def test_decay_equals_keras_in_every_setting_of_the_optimizer(name):
    arguments, compiling = SETTINGS[name]
    if "steps_per_execution" in compiling and not runs_several_steps():
        pytest.skip("Keras has none on PyTorch.")
    ours, theirs = network(), network()
    fit_peer(theirs, kernels_by_keras(**arguments))
    fit(ours, kernels_by_us(**arguments), **compiling)
    assert distance(ours, theirs) <= 1e-6


def test_decay_follows_the_learning_rate_of_the_wrapped_optimizer():
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
def test_decay_inside_a_loss_scale_optimizer(scaled):
    ours, theirs = network(), network()
    for model, make in ((theirs, kernels_by_keras), (ours, kernels_by_us)):
        # The scale is Keras's business: it sets that of the inner one to None.
        optimizer = make(loss_scale_factor=1024.0)
        if scaled == "by hand":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        else:
            # As if it had been made so.
            model.dtype_policy = keras.DTypePolicy("mixed_float16")
        (fit if model is ours else fit_peer)(model, optimizer)
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
def test_every_keras_optimizer_can_be_wrapped(name):
    make = getattr(keras.optimizers, name)
    ours, theirs = network(), network()
    peer = make(0.01, weight_decay=DECAY)
    peer.exclude_from_weight_decay(var_names=["bias"])
    fit_peer(theirs, peer, epochs=1)
    inner = make(0.01) if name != "Lion" else make(0.01, weight_decay=None)
    fit(ours, DecoupledWeightDecay(inner, default=DECAY), epochs=1)
    assert distance(ours, theirs) <= 1e-6
