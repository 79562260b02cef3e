"""Which weights decay, how strongly, and how it is shown."""

import keras
import numpy as np
import pytest

import l2keras
from l2keras import DecoupledWeightDecay
from tests.support import (
    documented_data,
    documented_model,
    rising,
    rising_schedule,
)
from tests.support.weight_decay_cases import adamw, fit, keras_sgd, network


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


def test_the_default_decays_kernels_only():
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


def test_paths_precede_patterns_and_patterns_the_default():
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


RULES_THAT_DO_NOT_FIT = {
    "unknown": (
        {"hiden/kernel": 0.1},
        "Pattern 'hiden/kernel' matches no weight. Did you mean "
        "'hidden/kernel'? A pattern is a whole path or a regular expression "
        "for one. The nearest of 6 paths: 'hidden/kernel', 'output/kernel', "
        "'hidden/bias', 'batch/beta', 'batch/gamma'",
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
def test_rules_that_match_no_weight_are_refused(name):
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


# In records and logs ----------------------------------------------------------


def test_penalties_and_the_logger_show_the_decay():
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
    seen = {
        record.path: record.weight_decay for record in l2keras.penalties(model)
    }
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
