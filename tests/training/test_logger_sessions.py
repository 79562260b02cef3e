"""The life of a loss split: installed, kept and removed."""

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from tests.support import (
    BACKEND,
    assert_means,
    assert_splits,
    documented_data,
    documented_model,
    falling,
    rising,
    rising_schedule,
    simulate,
)
from tests.support.logged_trainings import (
    compiled,
    constant_model,
    fit,
    scheduled_model,
    warned,
)
from tests.support.trace_counts import Traced, compiled_only

X, Y = documented_data(samples=64)


class Does(keras.callbacks.Callback):
    """Calls a function when an epoch ends, or another hook is called."""

    def __init__(self, function, hook="on_epoch_end"):
        super().__init__()
        setattr(self, hook, lambda *arguments, **keywords: function())


def traced_model():
    model = documented_model(
        l2keras.L2(rising_schedule()), l2keras.L2(0.02), between=[Traced()]
    )
    return compiled(model)


def unbuilt_model():
    class Unbuilt(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(
                3, "softmax", kernel_regularizer=l2keras.L2(rising_schedule())
            )

        def call(self, x):
            return self.dense(x)

    return compiled(Unbuilt())


def assert_evaluates_plainly(model):
    """Asserts that an evaluation is as if nothing had ever been logged."""
    names = [metric.name for metric in model.metrics]
    number = 2 if "compile_metrics" in names else 1
    assert np.size(model.evaluate(X, Y, verbose=0)) == number


# Compiled functions -----------------------------------------------------------


@compiled_only
def test_ten_fits_with_ten_loggers_compile_once():
    model = traced_model()
    fit(model, X, Y, validation_data=(X, Y))
    before = Traced.count
    for _ in range(9):
        logs = fit(
            model,
            X,
            Y,
            [l2keras.RegularizationLogger()],
            validation_data=(X, Y),
        )
        assert_splits(logs)
        assert_splits(logs, "val_")
    assert Traced.count == before


@compiled_only
def test_evaluating_with_the_logger_in_each_epoch_compiles_once():
    model = traced_model()
    logger = l2keras.RegularizationLogger()
    counts = []

    def evaluate():
        model.evaluate(X, Y, batch_size=16, verbose=0, callbacks=[logger])
        counts.append(Traced.count)

    logs = fit(model, X, Y, [logger, Does(evaluate)], epochs=5)
    assert_splits(logs)
    assert counts[1:] == counts[1:2] * 4
    fit(model, X, Y, [logger, Does(evaluate)], epochs=2)
    assert counts[-1] == counts[1]


# After a fit ------------------------------------------------------------------


@pytest.mark.parametrize("build", [unbuilt_model, scheduled_model])
@pytest.mark.parametrize("scheduled", [False, True])
def test_a_fit_of_no_epochs_leaves_the_model_unchanged(build, scheduled):
    model = build()
    callbacks = [l2keras.RegularizationLogger()]
    if scheduled:
        scheduler = l2keras.PenaltyScheduler({".*kernel": lambda epoch: 0.5})
        callbacks.insert(0, scheduler)
    fit(model, X, Y, callbacks, epochs=0)
    assert_evaluates_plainly(model)
    assert np.ndim(model.train_on_batch(X, Y)) == 0
    assert set(fit(model, X, Y, [])) == {"loss"}
    assert_splits(fit(model, X, Y, callbacks))
    assert_evaluates_plainly(model)


@pytest.mark.parametrize("build", [unbuilt_model, scheduled_model])
@pytest.mark.parametrize("hook", ["on_train_begin", "on_epoch_begin"])
@pytest.mark.parametrize("then", ["train_on_batch", "fit", "logged"])
def test_a_callback_that_raises_before_the_first_step(build, hook, then):
    def fail():
        raise OSError("This disk fails.")

    model = build()
    scheduler = l2keras.PenaltyScheduler({".*kernel": lambda epoch: 0.5})
    logger = l2keras.RegularizationLogger()
    with pytest.raises(OSError, match="This disk fails"):
        fit(model, X, Y, [scheduler, logger, Does(fail, hook)])
    if then == "train_on_batch":
        assert np.ndim(model.train_on_batch(X, Y)) == 0
    elif then == "fit":
        assert set(fit(model, X, Y, [])) == {"loss"}
        assert_evaluates_plainly(model)
    else:
        assert_splits(fit(model, X, Y, [l2keras.RegularizationLogger()]))
        assert_evaluates_plainly(model)
    if build is unbuilt_model and BACKEND == "tensorflow":
        # A scale that waited for the weights does not reach another training.
        assert model.dense.kernel_regularizer.scale == 1.0


# Evaluations and trainings from callbacks -------------------------------------


def test_evaluating_in_a_callback_with_the_logger_of_the_fit():
    model = scheduled_model(metrics=["accuracy"])
    start = model.get_weights()
    logger = l2keras.RegularizationLogger()
    found = []

    def evaluate():
        found.append(
            model.evaluate(
                X, Y, verbose=0, callbacks=[logger], return_dict=True
            )
        )

    logs = fit(
        model,
        X,
        Y,
        [logger, Does(evaluate)],
        epochs=2,
        validation_data=(X, Y),
    )
    assert_means(
        logs, simulate(start, X, Y, first=rising, second=falling, epochs=2)
    )
    assert_splits(logs, "val_")
    for each, value in zip(found, logs["val_loss"], strict=True):
        assert_splits(each)
        np.testing.assert_allclose(each["loss"], value, rtol=1e-5)
    assert_evaluates_plainly(model)
    assert len(model.evaluate(X, Y, verbose=0)) == 2


def test_a_logger_used_for_an_inner_fit_releases_both_models():
    model, other = scheduled_model(), constant_model()
    logger = l2keras.RegularizationLogger()
    start = model.get_weights()

    def train():
        assert_splits(fit(other, X, Y, [logger]))
        assert_evaluates_plainly(other)

    callbacks = [logger, Does(train)]
    logs = fit(model, X, Y, callbacks, epochs=2, validation_data=(X, Y))
    assert_means(
        logs, simulate(start, X, Y, first=rising, second=falling, epochs=2)
    )
    assert_splits(logs, "val_")
    assert_evaluates_plainly(model)
    assert_evaluates_plainly(other)
    assert set(fit(model, X, Y, [])) == {"loss"}


# Warnings and errors ----------------------------------------------------------


@keras.saving.register_keras_serializable(package="l2keras_tests")
class BelowZeroInside(keras.optimizers.schedules.LearningRateSchedule):
    """Negative at steps 2 and 3 of an epoch of 4, not at its ends."""

    def __call__(self, step):
        inside = ops.logical_and(step >= 2.0, step <= 3.0)
        return ops.where(inside, -0.5, 0.01)

    def get_config(self):
        return {}


def test_a_schedule_that_is_negative_only_within_an_epoch_is_an_error():
    model = compiled(documented_model(l2keras.L2(BelowZeroInside()), None))
    with pytest.raises(ValueError, match=r"which returned .* at step 2"):
        fit(model, X, Y)
    assert_evaluates_plainly(model)


def test_an_epoch_that_loss_scaling_skips_does_not_warn():
    model = documented_model(l2keras.L2(rising_schedule()), None)
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1), initial_scale=1e38
    )
    model.compile(optimizer, "categorical_crossentropy")
    x = 100 * X  # The scaled gradients overflow.
    _, messages = warned(fit, model, x[:16], Y[:16])
    assert int(ops.convert_to_numpy(optimizer.iterations)) == 0
    assert messages == []


def test_a_custom_loop_with_callbacks_does_not_warn():
    model = scheduled_model()
    logger = l2keras.RegularizationLogger()
    callbacks = keras.callbacks.CallbackList([logger], model=model)

    def train():
        callbacks.on_train_begin()
        for epoch in range(2):
            callbacks.on_epoch_begin(epoch)
            for batch in range(0, 64, 16):
                callbacks.on_train_batch_begin(batch)
                rows = slice(batch, batch + 16)
                model.train_on_batch(X[rows], Y[rows])
                callbacks.on_train_batch_end(batch)
            callbacks.on_epoch_end(epoch)
        callbacks.on_train_end()

    assert warned(train)[1] == []
    assert_evaluates_plainly(model)


@pytest.mark.parametrize(
    ("regularizer", "text"),
    [
        (l2keras.L2(0.5), "L2(l2=0.5, scale=0.25)"),
        (
            l2keras.L1(0.5) + l2keras.L2(1.0),
            "Sum(regularizers=[L1(l1=0.5), L2(l2=1.0)], scale=0.25)",
        ),
    ],
)
def test_repr_shows_the_scale(regularizer, text):
    model = constant_model()
    l2keras.apply_regularizers(model, {"hidden/kernel": regularizer})
    plain = repr(model.layers[0].kernel_regularizer)
    assert "scale" not in plain
    l2keras.set_scale(model, {"hidden/kernel": 0.25})
    assert repr(model.layers[0].kernel_regularizer) == text
    l2keras.set_scale(model, {"hidden/kernel": 1.0})
    assert repr(model.layers[0].kernel_regularizer) == plain
