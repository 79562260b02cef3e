"""As parts of Keras's `MultiOptimizer`."""

import keras
import numpy as np
import pytest

import l2keras
from l2keras import L1, DecoupledWeightDecay, Proximal
from tests.support import assert_weights
from tests.support.weight_decay_cases import X, Y, fit, fit_on, network

optimizers = keras.optimizers

pytestmark = pytest.mark.skipif(
    not hasattr(optimizers, "MultiOptimizer"), reason="Since Keras 3.15."
)


def several(default, **parts):
    """An optimizer for each layer that is named, and one for the rest."""
    # Keras's paths lose the model's name when it is loaded.
    patterns = {f"(.*/)?{name}/.*": part for name, part in parts.items()}
    return optimizers.MultiOptimizer(optimizers.OptimizerMap(default, patterns))


def sgd():
    return optimizers.SGD(0.1, momentum=0.9)


def decaying(inner=None, **arguments):
    return DecoupledWeightDecay(inner or sgd(), **arguments)


def proximal(inner=None):
    return Proximal(inner or sgd())


def adam(**arguments):
    return optimizers.Adam(0.01, **arguments)


# A row: the optimizer, and the decay of each kernel.
DECAYS = {
    "one part": (
        lambda: several(sgd(), output=decaying(default=0.5)),
        (0.0, 0.5),
    ),
    "the default": (
        lambda: several(decaying(default=0.5), output=sgd()),
        (0.5, 0.0),
    ),
    "both": (
        lambda: several(
            decaying(default=0.5), output=decaying(rules={"output/.*": 0.25})
        ),
        (0.5, 0.25),
    ),
    "inside another": (
        lambda: several(sgd(), hidden=proximal(decaying(default=0.5))),
        (0.5, 0.0),
    ),
    "Keras's own beside it": (
        lambda: several(adam(weight_decay=0.125), output=decaying(default=0.5)),
        (0.125, 0.5),
    ),
}


@pytest.mark.parametrize("name", DECAYS)
@pytest.mark.parametrize("built", [False, True])
def test_penalties_shows_the_decay_of_each_optimizer(name, built):
    optimizer, expected = DECAYS[name]
    model = network(L1(0.1), L1(0.1))
    model.compile(optimizer(), "categorical_crossentropy")
    if built:
        fit_on(model, epochs=1)
    shown = {
        record.path: record.weight_decay for record in l2keras.penalties(model)
    }
    assert (shown["hidden/kernel"], shown["output/kernel"]) == expected
    text = []
    l2keras.summary(model, print_fn=text.append)
    assert ("Weight decay of the optimizer" in text[0]) == any(expected)


def test_the_decay_of_each_optimizer_is_logged():
    model = network()
    optimizer = several(
        decaying(default=0.5),
        output=decaying(default=keras.optimizers.schedules.CosineDecay(0.2, 8)),
    )
    logger = l2keras.RegularizationLogger(strengths=True)
    model.compile(optimizer, "categorical_crossentropy")
    history = model.fit(
        X, Y, batch_size=16, epochs=2, verbose=0, callbacks=[logger]
    ).history
    assert history["weight_decay/hidden/kernel"] == [0.5, 0.5]
    np.testing.assert_allclose(
        history["weight_decay/output/kernel"], [0.1, 0.0], atol=1e-7
    )


def test_a_function_may_make_the_optimizer_of_each_weight():
    model = network(L1(10.0), L1(10.0))

    def optimizer_for(variable):
        return proximal() if "kernel" in variable.path else sgd()

    fit(model, optimizers.MultiOptimizer(optimizer_for))
    hidden, _, output, _ = model.get_weights()
    assert (hidden == 0).all()
    assert (output == 0).all()


PARTS = {
    "Keras's own": (sgd, adam),
    "proximal": (proximal, lambda: proximal(adam())),
    "proximal beside Keras's": (adam, proximal),
    "a length for each weight": (
        lambda: proximal(optimizers.RMSprop(0.01, momentum=0.5)),
        sgd,
    ),
    "decay": (
        lambda: decaying(default=0.5),
        lambda: decaying(adam(), default=0.3),
    ),
    "decay beside Keras's": (lambda: decaying(default=0.5), adam),
    "both": (lambda: proximal(decaying(default=0.5)), proximal),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_reloaded_model_trains_as_if_never_saved(tmp_path, name):
    default, output = PARTS[name]
    model = network(L1(0.05), L1(0.05))
    fit(model, several(default(), output=output()))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, again):
        fit_on(each, epochs=2)
    assert_weights(again, model.get_weights(), atol=0.0)
