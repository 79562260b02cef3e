"""`set_scale`: the penalties it multiplies, and the arguments it refuses."""

import copy

import keras
import numpy as np
import pytest

import l2keras
from tests.support import (
    assert_weights,
    documented_data,
    documented_model,
    number,
    simulate,
)
from tests.support.numpy_trainings import compiled, fit


def test_a_scale_multiplies_the_penalty_and_defaults_to_one():
    model = documented_model(l2keras.L2(0.1), l2keras.L2(0.2) + l2keras.L1(0.3))
    first, _, second, _ = model.get_weights()
    l2keras.set_scale(model, {"hidden/kernel": 0.25, "out.*": np.float32(2)})
    np.testing.assert_allclose(
        [number(loss) for loss in model.losses],
        [
            0.25 * 0.1 * np.sum(first**2),
            2 * (0.2 * np.sum(second**2) + 0.3 * np.sum(np.abs(second))),
        ],
        rtol=1e-6,
    )
    assert model.layers[0].kernel_regularizer.scale == 0.25
    assert model.layers[1].kernel_regularizer.scale == 2.0


@pytest.mark.parametrize("callbacks", [[], [l2keras.RegularizationLogger]])
def test_set_scale_takes_effect_after_compile_and_fit(callbacks):
    x, y = documented_data()
    model = compiled(documented_model(l2keras.L2(0.05), l2keras.L2(0.02)))
    callbacks = [callback() for callback in callbacks]
    for first, second in ((1.0, 1.0), (0.5, 3.0), (2.0, 0.0)):
        if (first, second) != (1.0, 1.0):
            l2keras.set_scale(model, {"hidden/.*": first, "output/.*": second})
        start = model.get_weights()
        fit(model, x, y, epochs=2, callbacks=callbacks)
        truth = simulate(
            start,
            x,
            y,
            first=lambda step, scale=first: 0.05 * scale,
            second=lambda step, scale=second: 0.02 * scale,
            epochs=2,
        )
        assert_weights(model, truth.weights)


def test_set_scale_takes_effect_while_fit_runs():
    class Halve(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            l2keras.set_scale(self.model, {"hidden/.*": 0.5**epoch})

    x, y = documented_data(samples=48)
    for logger in ([], [l2keras.RegularizationLogger()]):
        model = compiled(documented_model(l2keras.L2(0.05), None))
        start = model.get_weights()
        fit(model, x, y, callbacks=[Halve(), *logger])
        truth = simulate(
            start,
            x,
            y,
            first=lambda step: 0.05 * 0.5 ** (step // 3),
            second=lambda step: 0.0,
            epochs=3,
        )
        assert_weights(model, truth.weights)


@pytest.mark.parametrize(
    ("scales", "error", "message"),
    [
        (
            {"hidden/kernel": -1.0},
            ValueError,
            "Argument `scales['hidden/kernel']` must be a finite number >= 0. "
            "Received: scales['hidden/kernel']=-1.0",
        ),
        (
            {"hidden/kernel": float("inf")},
            ValueError,
            "Argument `scales['hidden/kernel']` must be a finite number >= 0. "
            "Received: scales['hidden/kernel']=inf",
        ),
        (
            {"hidden/kernel": "1"},
            TypeError,
            "Argument `scales['hidden/kernel']` must be a finite number >= 0. "
            "Received: scales['hidden/kernel']='1' (of type str)",
        ),
        (
            {"hiden/.*": 1.0},
            ValueError,
            "Pattern 'hiden/.*' matches no weight. Did you mean 'hidden/.*'? "
            "A pattern is a whole path or a regular expression for one. "
            "Paths: 'hidden/kernel', 'output/kernel'",
        ),
        (
            {"hidden/bias": 1.0},
            ValueError,
            "Weight 'hidden/bias' has no regularizer, so it cannot have a "
            "scale. Leave it out of the rules.",
        ),
        (
            {"hidden": 1.0},
            ValueError,
            "Pattern 'hidden' matches no weight. Did you mean 'hidden/.*'? A "
            "pattern is a whole path or a regular expression for one. Paths: "
            "'hidden/kernel', 'output/kernel'",
        ),
        (
            {"hidden/.*": 1.0, ".*/kernel": 2.0},
            ValueError,
            "Weight 'hidden/kernel' is matched by more than one pattern: "
            "'hidden/.*', '.*/kernel'. Make each weight match at most one.",
        ),
        (
            {"hidden/(": 1.0},
            ValueError,
            "Pattern 'hidden/(' is not a regular expression: missing ), "
            "unterminated subpattern at position 7.",
        ),
        (
            {3: 1.0},
            TypeError,
            "A pattern must be a string: a path, or a regular expression. "
            "Received: 3",
        ),
        (
            {"output/.*": 1.0},
            TypeError,
            "The regularizer of 'output/kernel' must be one of l2keras to have "
            "a scale. Received: <L1>",
        ),
    ],
)
def test_an_invalid_scale_is_refused_and_changes_nothing(
    scales, error, message
):
    class Named(keras.regularizers.L1):
        def __repr__(self):
            return "<L1>"

    model = documented_model(l2keras.L2(0.1), Named(0.1))
    before = [id(variable) for variable in model.variables]
    with pytest.raises(error) as caught:
        l2keras.set_scale(model, {"hidden/kernel": 9.0} | scales)
    if "more than one" not in message and "hidden/.*" not in scales:
        assert str(caught.value) == message
    with pytest.raises(error) as caught:
        l2keras.set_scale(model, scales)
    assert str(caught.value) == message
    assert model.layers[0].kernel_regularizer.scale == 1.0
    assert [id(variable) for variable in model.variables] == before


@pytest.mark.parametrize("scales", [[("hidden/kernel", 1.0)], 1.0, None])
def test_set_scale_requires_a_dictionary(scales):
    model = documented_model(l2keras.L2(0.1), None)
    with pytest.raises(TypeError) as caught:
        l2keras.set_scale(model, scales)
    assert str(caught.value).endswith(f"Received: {scales!r}") or str(
        caught.value
    ).endswith(f"Received: scales={scales!r}")


def test_a_shared_regularizer_cannot_have_two_scales():
    shared = l2keras.L2(0.1)
    model = documented_model(shared, shared)
    for scales in (
        {"hidden/kernel": 0.5},
        {"hidden/kernel": 0.5, "output/kernel": 0.25},
    ):
        with pytest.raises(ValueError, match="share one") as caught:
            l2keras.set_scale(model, scales)
        assert str(caught.value) == (
            "Weights 'hidden/kernel' and 'output/kernel' share one "
            "regularizer, L2(l2=0.1), which cannot have two scales. Give each "
            "layer a regularizer of its own, or match both weights with one "
            "pattern."
        )
        assert shared.scale == 1.0
    l2keras.set_scale(model, {".*": 0.5})
    assert shared.scale == 0.5


def made(regularizer):
    dense = keras.layers.Dense(
        1,
        name="hidden",
        kernel_initializer="ones",
        kernel_regularizer=regularizer,
    )
    model = keras.Sequential([keras.Input((4,)), dense])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    return model


@pytest.mark.parametrize("other", ["itself", "in a sum"])
@pytest.mark.parametrize("logged", [False, True])
def test_models_that_share_a_regularizer_share_its_scale(other, logged):
    shared = l2keras.L2(1.0)
    model = made(shared)
    also = made(shared if other == "itself" else shared + l2keras.L2(0.0))
    x, y = np.ones((8, 4), "float32"), np.zeros((8, 1), "float32")
    callbacks = [l2keras.RegularizationLogger()] if logged else []
    for scale in (1.0, 0.5, 3.0):
        if scale != 1.0:
            l2keras.set_scale(model, {"hidden/kernel": scale})
        for each in (model, also):  # The data loss is 16.
            logs = fit(each, x, y, callbacks=callbacks)
            assert logs["loss"][0] == 16 + 4 * scale
            assert each.evaluate(x, y, verbose=0) == 16 + 4 * scale


def test_a_model_built_later_on_a_shared_regularizer_has_its_scale():
    shared = l2keras.L2(1.0)
    model = made(shared)
    l2keras.set_scale(model, {"hidden/kernel": 1.0})
    later = made(shared)
    x, y = np.ones((8, 4), "float32"), np.zeros((8, 1), "float32")
    for scale in (1.0, 0.5, 3.0):
        l2keras.set_scale(model, {"hidden/kernel": scale})
        for each in (model, later):  # The data loss is 16.
            assert fit(each, x, y, epochs=1)["loss"] == [16 + 4 * scale]
            assert each.evaluate(x, y, verbose=0) == 16 + 4 * scale
    copied = copy.deepcopy(later)
    assert copied.evaluate(x, y, verbose=0) == 28
