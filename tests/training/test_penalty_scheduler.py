"""PenaltyScheduler: scales that follow the epoch."""

import keras
import numpy as np
import pytest

import l2keras
from tests.support import (
    assert_means,
    assert_splits,
    assert_weights,
    documented_data,
    documented_model,
    falling,
    rising,
    simulate,
    simulated_losses,
)
from tests.support.logged_trainings import (
    STEPS,
    VALIDATION,
    X,
    Y,
    compiled,
    constant_model,
    fit,
    scheduled_model,
)
from tests.support.trace_counts import Traced, compiled_only


def grow(epoch):
    return 0.5 + epoch


@pytest.mark.parametrize("order", ["alone", "before", "after"])
def test_the_scale_follows_the_epoch(order):
    model = scheduled_model() if order != "alone" else constant_model()
    start = model.get_weights()
    scheduler = l2keras.PenaltyScheduler({"hidden/.*": grow})
    logger = l2keras.RegularizationLogger(strengths=True)
    callbacks = {
        "alone": [scheduler],
        "before": [scheduler, logger],
        "after": [logger, scheduler],
    }[order]

    def first(step):
        strength = rising(step) if order != "alone" else 0.05
        return strength * grow(step // STEPS)

    def second(step):
        return falling(step) if order != "alone" else 0.02

    logs = fit(model, X, Y, callbacks, epochs=3, **VALIDATION)
    truth = simulate(start, X, Y, first=first, second=second, epochs=3)
    assert_weights(model, truth.weights)
    # Validation and later calls have the last epoch's scale.
    losses = simulated_losses(
        model.get_weights(),
        X[:32],
        Y[:32],
        2.5 * (rising(12) if order != "alone" else 0.05),
        second(12),
    )
    np.testing.assert_allclose(logs["val_loss"][-1], sum(losses), rtol=1e-5)
    np.testing.assert_allclose(
        model.evaluate(X[:32], Y[:32], verbose=0), sum(losses), rtol=1e-5
    )
    assert model.layers[0].kernel_regularizer.scale == 2.5
    assert model.layers[1].kernel_regularizer.scale == 1.0
    if order != "alone":
        assert_means(logs, truth)
        assert_splits(logs, "val_")
        np.testing.assert_allclose(
            logs["strength/hidden/kernel"],
            [rising(STEPS * (epoch + 1)) * grow(epoch) for epoch in range(3)],
            rtol=1e-5,
        )

    # A second training with the same callbacks counts epochs from 0 again.
    start = model.get_weights()
    fit(model, X, Y, callbacks, epochs=2)
    truth = simulate(
        start,
        X,
        Y,
        first=lambda step: (
            first(step) / grow(step // STEPS) * grow(step // STEPS - 3)
        ),
        second=second,
        epochs=2,
        begin=3 * STEPS,
    )
    assert_weights(model, truth.weights)


def test_the_scale_follows_initial_epoch():
    scales = []
    scheduler = l2keras.PenaltyScheduler(
        {"hidden/kernel": lambda epoch: scales.append(epoch) or 1.0}
    )
    fit(constant_model(), X, Y, [scheduler], epochs=5, initial_epoch=3)
    assert scales == [3, 4]


def test_an_exact_path_goes_before_a_pattern():
    model = constant_model()
    scheduler = l2keras.PenaltyScheduler(
        {".*/kernel": lambda epoch: 2.0, "output/kernel": lambda epoch: 3.0}
    )
    fit(model, X, Y, [scheduler])
    assert model.layers[0].kernel_regularizer.scale == 2.0
    assert model.layers[1].kernel_regularizer.scale == 3.0


def test_one_pattern_may_scale_a_shared_regularizer():
    shared = l2keras.L2(0.05)
    model = compiled(documented_model(shared, shared))
    fit(model, X, Y, [l2keras.PenaltyScheduler({".*": grow})], epochs=2)
    assert shared.scale == 1.5


@keras.saving.register_keras_serializable(package="l2keras_tests")
class Repr(keras.regularizers.L2):
    def __repr__(self):
        return "<Keras's L2>"


@pytest.mark.parametrize(
    ("scales", "error", "message"),
    [
        (
            {"hiden/.*": grow},
            ValueError,
            "Pattern 'hiden/.*' matches no weight. Did you mean 'hidden/.*'? A "
            "pattern is a whole path or a regular expression for one. Paths: "
            "'hidden/kernel', 'output/kernel'",
        ),
        (
            {"hidden/.*": grow, ".*kernel": grow},
            ValueError,
            "Weight 'hidden/kernel' is matched by more than one pattern: "
            "'hidden/.*', '.*kernel'. Make each weight match at most one.",
        ),
        (
            {"hidden/[": grow},
            ValueError,
            "Pattern 'hidden/[' is not a regular expression: unterminated "
            "character set at position 7.",
        ),
        (
            {"output/kernel": grow},
            TypeError,
            "The regularizer of 'output/kernel' must be one of l2keras to have "
            "a scale. Received: <Keras's L2>",
        ),
    ],
)
def test_patterns_are_checked_when_training_begins(scales, error, message):
    model = compiled(documented_model(l2keras.L2(0.1), Repr(0.1)))
    with pytest.raises(error) as caught:
        fit(model, X, Y, [l2keras.PenaltyScheduler(scales)])
    assert str(caught.value) == message
    assert model.layers[0].kernel_regularizer.scale == 1.0
    assert len(model.variables) == 4


def test_two_scales_for_a_shared_regularizer_are_refused():
    shared = l2keras.L2(0.1)
    model = compiled(documented_model(shared, shared))
    scheduler = l2keras.PenaltyScheduler(
        {"hidden/kernel": grow, "output/kernel": grow}
    )
    with pytest.raises(ValueError, match="share one regularizer") as caught:
        fit(model, X, Y, [scheduler])
    assert str(caught.value) == (
        "Weights 'hidden/kernel' and 'output/kernel' share one regularizer, "
        "L2(l2=0.1), which cannot have two scales. Give each layer a "
        "regularizer of its own, or match both weights with one pattern."
    )


@pytest.mark.parametrize(
    ("value", "error", "received"),
    [
        (-1.0, ValueError, "-1.0"),
        (float("nan"), ValueError, "nan"),
        (float("inf"), ValueError, "inf"),
        (None, TypeError, "None (of type NoneType)"),
        ("1", TypeError, "'1' (of type str)"),
    ],
)
def test_values_are_checked_when_an_epoch_begins(value, error, received):
    model = constant_model()
    scheduler = l2keras.PenaltyScheduler(
        {
            "output/.*": lambda epoch: 4.0,
            "hidden/.*": lambda epoch: [0.5, value][epoch],
        }
    )
    with pytest.raises(error) as caught:
        fit(model, X, Y, [scheduler, l2keras.RegularizationLogger()], epochs=2)
    assert str(caught.value) == (
        "Argument `scales['hidden/.*'](1)` must be a finite number >= 0. "
        f"Received: scales['hidden/.*'](1)={received}"
    )
    assert model.layers[0].kernel_regularizer.scale == 0.5
    assert isinstance(model.evaluate(X, Y, verbose=0), float)


@pytest.mark.parametrize(
    "scales",
    [None, 0.5, grow, [("hidden", grow)], {"hidden/.*": 0.5}],
    ids=["None", "number", "function", "list", "number by pattern"],
)
def test_scales_must_be_functions_by_pattern(scales):
    with pytest.raises(TypeError) as caught:
        l2keras.PenaltyScheduler(scales)
    assert str(caught.value) == (
        "Argument `scales` must be a dictionary from path or pattern to a "
        "function of the epoch. For a constant scale, call "
        "`l2keras.set_scale(model, scales)`. "
        f"Received: scales={scales!r}"
    )


def test_the_scale_is_saved(tmp_path):
    model = constant_model()
    fit(model, X, Y, [l2keras.PenaltyScheduler({"hidden/.*": grow})], epochs=2)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.layers[0].kernel_regularizer.scale == 1.5
    assert again.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)
    # And goes on to change.
    for each in (model, again):
        fit(each, X, Y, [l2keras.PenaltyScheduler({"hidden/.*": grow})])
    assert again.layers[0].kernel_regularizer.scale == 0.5
    assert_weights(again, model.get_weights(), atol=0)


@compiled_only
@pytest.mark.parametrize("order", ["alone", "before", "after"])
def test_changing_scales_does_not_retrace(order):
    class Counts(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            counts.append(Traced.count)

    x, y = documented_data(samples=32)
    model = compiled(
        documented_model(l2keras.L2(0.05), l2keras.L2(0.02), between=[Traced()])
    )
    scheduler = l2keras.PenaltyScheduler({"hidden/.*": grow})
    logger = l2keras.RegularizationLogger()
    callbacks = {
        "alone": [scheduler],
        "before": [scheduler, logger],
        "after": [logger, scheduler],
    }[order]
    counts = []
    fit(model, x, y, [*callbacks, Counts()], epochs=3)
    assert set(counts) == {counts[0]}
    # Beside the logger, a second training reuses the compiled functions if the
    # scales were there before it.
    fit(model, x, y, callbacks)
    before = Traced.count
    fit(model, x, y, callbacks, epochs=3)
    assert Traced.count == before
