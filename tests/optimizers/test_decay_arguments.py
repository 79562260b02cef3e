"""Bad input, and the errors that say so."""

import keras
import numpy as np
import pytest

from l2keras import DecoupledWeightDecay
from tests.support.weight_decay_cases import decay, fit, keras_sgd, network


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
        "Argument `optimizer` must not be a `DecoupledWeightDecay`, nor wrap "
        "one: the weights would decay twice. Put all strengths into one "
        "dictionary of rules.",
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
        "Argument `rules` must be a dictionary from path or pattern to a "
        "strength. Received: rules=['a']",
    ),
    "a strength in place of rules": (
        lambda: DecoupledWeightDecay(keras_sgd(), 0.1),
        TypeError,
        "Argument `rules` must be a dictionary from path or pattern to a "
        "strength. Received: rules=0.1. For all kernels, write `default=0.1`",
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
    "a peak of nothing": (
        lambda: DecoupledWeightDecay(
            keras_sgd(), default=0.1, peak_learning_rate=0
        ),
        ValueError,
        "Argument `peak_learning_rate` must be a finite number > 0. "
        "Received: peak_learning_rate=0",
    ),
    "a peak that is not followed": (
        lambda: DecoupledWeightDecay(
            keras_sgd(),
            default=0.1,
            coupled_to_learning_rate=False,
            peak_learning_rate=0.5,
        ),
        ValueError,
        "With `coupled_to_learning_rate=False` the decay does not follow the "
        "learning rate, so it has no peak to be measured by. Leave one of "
        "them out. Received: peak_learning_rate=0.5",
    ),
    "exclusion by Keras": (
        lambda: decay().exclude_from_weight_decay(var_names=["bias"]),
        NotImplementedError,
        "Weights are left out of the decay by a rule of strength 0.0, as in "
        '`DecoupledWeightDecay(optimizer, {"output/.*": 0.0}, ...)`.',
    ),
    "decay by Keras": (
        lambda: setattr(decay(), "weight_decay", 0.01),
        AttributeError,
        "A weight decay for all weights alike cannot be set: they would then "
        "decay twice. Give the strength to the constructor, as in "
        "`DecoupledWeightDecay(optimizer, default=0.01)`, a schedule if it is "
        "to change.",
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
def test_invalid_arguments_are_explained(name):
    call, error, message = BAD[name]
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


def test_a_schedule_that_cannot_be_saved_is_an_error():
    with pytest.raises(ValueError, match="must not be a lambda"):
        DecoupledWeightDecay(keras_sgd(), {"a": lambda step: 0.1})


def test_both_decays_of_muon_are_refused():
    muon = getattr(keras.optimizers, "Muon", None)
    if muon is None or "adam_weight_decay" not in vars(muon()):
        pytest.skip("This Keras has no such Muon.")
    with pytest.raises(ValueError, match=r"Make it with `weight_decay=0.0`"):
        DecoupledWeightDecay(muon(), default=0.1)
    half = muon(weight_decay=0.0)
    with pytest.raises(ValueError, match="with `adam_weight_decay="):
        DecoupledWeightDecay(half, default=0.1)


def test_a_decay_set_later_on_the_wrapped_optimizer_is_an_error():
    optimizer = decay()
    optimizer.inner_optimizer.weight_decay = 0.1
    with pytest.raises(ValueError, match="must not decay weights itself"):
        fit(network(), optimizer)
