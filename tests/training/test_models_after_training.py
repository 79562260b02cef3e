"""Models after a training: one that ends, and one that is interrupted."""

import copy
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from tests.support import (
    BACKEND,
    assert_means,
    assert_splits,
    assert_weights,
    documented_model,
    falling,
    falling_schedule,
    number,
    rising,
    rising_schedule,
    simulate,
    simulated_losses,
)
from tests.support.logged_trainings import (
    VALIDATION,
    X,
    Y,
    compiled,
    constant_model,
    fit,
    generate,
    scheduled_model,
    warned,
)


@pytest.mark.parametrize("build", [constant_model, scheduled_model])
def test_everything_but_the_logs_is_unchanged_by_the_logger(build):
    model = build(metrics=["accuracy"])
    logger = l2keras.RegularizationLogger(penalties=True, strengths=True)
    fit(model, X, Y, [logger], **VALIDATION)
    loss, accuracy = model.evaluate(X, Y, verbose=0)
    named = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert named == {"loss": loss, "accuracy": accuracy}
    logs = fit(model, X, Y, [], **VALIDATION)
    assert list(logs) == ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert len(model.test_on_batch(X, Y)) == 2
    assert len(model.train_on_batch(X, Y)) == 2
    batch = model.train_on_batch(X, Y, return_dict=True)
    assert set(batch) == {"loss", "accuracy"}


@pytest.mark.parametrize("build", [constant_model, scheduled_model])
def test_compiling_again_removes_the_logger_from_the_model(build):
    model = build(metrics=["accuracy"])
    fit(model, X, Y, [])
    before = set(vars(model))
    metrics = [metric.name for metric in model.metrics]
    fit(model, X, Y, [l2keras.RegularizationLogger(penalties=True)])
    compiled(model, metrics=["accuracy"])
    assert set(vars(model)) == before
    assert [metric.name for metric in model.metrics] == metrics
    logs = fit(model, X, Y, [], **VALIDATION)
    assert list(logs) == ["accuracy", "loss", "val_accuracy", "val_loss"]


def test_a_logged_model_is_saved_and_copied_as_one_that_was_not(tmp_path):
    model, other = scheduled_model(), scheduled_model()
    start = model.get_weights()
    fit(model, X, Y, [l2keras.RegularizationLogger(penalties=True)])
    fit(other, X, Y, [])
    model.set_weights(start)
    names = []
    for each in (model, other):
        each.save(tmp_path / "model.keras")
        with zipfile.ZipFile(tmp_path / "model.keras") as file:
            file.extract("model.weights.h5", tmp_path)
        with h5py.File(tmp_path / "model.weights.h5") as file:
            names.append([])
            file.visit(names[-1].append)
        again = keras.saving.load_model(tmp_path / "model.keras")
        for copied in (again, copy.deepcopy(each)):
            assert set(vars(copied)) <= set(vars(other))
            assert [metric.name for metric in copied.metrics] == ["loss"]
    assert len(names[0]) == len(names[1]) > 4


def test_a_logged_model_has_no_more_weights_or_layers():
    model, other = scheduled_model(), scheduled_model()
    logger = l2keras.RegularizationLogger(penalties=True, strengths=True)
    fit(model, X, Y, [logger])
    assert len(model.weights) == len(other.weights) == 4
    assert model.count_params() == other.count_params()
    assert model.non_trainable_variables == []


class Breaks(keras.callbacks.Callback):
    """Raises, as Ctrl-C does, in the second call of one of its hooks."""

    def __init__(self, hook):
        super().__init__()
        self.calls = 0
        setattr(self, hook, self.count)

    def count(self, *args, **kwargs):
        self.calls += 1
        if self.calls == 2:
            raise KeyboardInterrupt


class Fails(keras.layers.Layer):
    """Raises in its second batch, if compiled code calls no Python."""

    armed = False

    def call(self, x):
        if Fails.armed:
            raise RuntimeError("This layer fails.")
        return x


def breaking_data():
    for index, batch in enumerate(generate()):
        if index == 2:
            raise OSError("This disk fails.")
        yield batch


def interrupt(hook):
    def run(model, logger):
        with pytest.raises(KeyboardInterrupt):
            fit(model, X, Y, [logger, Breaks(hook)], epochs=3, **VALIDATION)

    return run


def fail_in_data(model, logger):
    # TensorFlow makes an error of its own out of it.
    with pytest.raises(Exception, match="This disk fails"):
        fit(model, breaking_data(), None, [logger])


def fail_in_layer(model, logger):
    Fails.armed = True
    try:
        with pytest.raises(RuntimeError, match="This layer fails"):
            fit(model, X, Y, [logger])
    finally:
        Fails.armed = False


def interrupt_evaluation(model, logger):
    callbacks = [logger, Breaks("on_test_batch_end")]
    with pytest.raises(KeyboardInterrupt):
        model.evaluate(X, Y, batch_size=16, verbose=0, callbacks=callbacks)


FAILURES = [
    *(
        pytest.param(interrupt(hook), id=hook)
        for hook in (
            "on_epoch_begin",
            "on_train_batch_begin",
            "on_train_batch_end",
            "on_test_batch_end",
            "on_epoch_end",
        )
    ),
    pytest.param(
        interrupt_evaluation,
        id="evaluation",
        marks=pytest.mark.skipif(
            BACKEND == "jax",
            reason="Keras's JAX trainer loses the weights.",
        ),
    ),
    pytest.param(fail_in_data, id="data"),
    pytest.param(
        fail_in_layer,
        id="layer",
        marks=pytest.mark.skipif(
            BACKEND == "jax",
            reason="Keras's JAX trainer loses the weights if the first step "
            "fails, and a layer's Python runs in no other.",
        ),
    ),
]


def breakable_model():
    model = documented_model(
        l2keras.L2(rising_schedule()),
        l2keras.L2(falling_schedule()),
        between=[Fails()],
    )
    return compiled(model, metrics=["accuracy"])


@pytest.mark.parametrize("fail", FAILURES)
def test_a_model_works_after_an_interrupted_fit(fail):
    model = breakable_model()
    logger = l2keras.RegularizationLogger()
    fail(model, logger)
    step = number(model.optimizer.iterations)
    start = model.get_weights()

    # As it was before: two numbers, and those of NumPy.
    l2keras.set_step(model, step)
    loss, _ = model.evaluate(X, Y, verbose=0)
    truth = simulated_losses(start, X, Y, rising(step), falling(step))
    np.testing.assert_allclose(loss, sum(truth), rtol=1e-5)

    logs = fit(model, X, Y, [logger], epochs=2, **VALIDATION)
    truth = simulate(
        start, X, Y, first=rising, second=falling, epochs=2, begin=step
    )
    assert_weights(model, truth.weights)
    assert_means(logs, truth)
    assert_splits(logs, "val_")
    assert len(model.evaluate(X, Y, verbose=0)) == 2


def test_saving_and_evaluating_work_after_an_interrupted_fit(tmp_path):
    model = scheduled_model(metrics=["accuracy"])
    interrupt("on_train_batch_end")(model, l2keras.RegularizationLogger())
    assert len(model.evaluate(X, Y, verbose=0)) == 2
    assert len(model.test_on_batch(X, Y)) == 2
    assert model.predict(X, verbose=0).shape == (64, 3)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)
    assert len(warned(model.train_on_batch, X, Y)[0]) == 2


@pytest.mark.parametrize("other", [True, False], ids=["logger", "plain"])
def test_a_logged_fit_after_an_interrupted_fit(other):
    model = scheduled_model(metrics=["accuracy"])
    interrupt("on_train_batch_end")(model, l2keras.RegularizationLogger())
    callbacks = [l2keras.RegularizationLogger()] if other else []
    logs, _ = warned(fit, model, X, Y, callbacks)
    assert set(logs) == {"loss", "accuracy"} | (
        {"data_loss", "regularization_loss"} if other else set()
    )


@keras.saving.register_keras_serializable(package="l2keras_tests")
class BelowZeroLater(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        # Not at 0, 1, 1000 and 1000000, which are tried at once.
        return ops.where(ops.equal(step, 8.0), -0.5, 0.01)

    def get_config(self):
        return {}

    def __repr__(self):
        return "BelowZeroLater()"


def test_a_negative_schedule_is_an_error_at_the_end_of_the_epoch():
    model = compiled(
        documented_model(l2keras.L2(BelowZeroLater()), None),
        metrics=["accuracy"],
    )
    logger = l2keras.RegularizationLogger()
    with pytest.raises(ValueError, match="A schedule must return") as caught:
        fit(model, X, Y, [logger], epochs=3)
    value = BelowZeroLater()(ops.cast(8, "float32"))
    assert str(caught.value) == (
        "A schedule must return a finite number >= 0 at each step. Received: "
        f"l2=BelowZeroLater(), which returned {value!r} at step 8"
    )
    assert len(model.evaluate(X, Y, verbose=0)) == 2
    assert_splits(fit(compiled(model), X, Y, [logger]))


def test_compiling_after_an_interrupted_fit_takes_effect():
    model = constant_model()
    model.evaluate(X, Y, verbose=0)
    fit(model, X, Y, [])
    interrupt("on_train_batch_end")(model, l2keras.RegularizationLogger())
    start = model.get_weights()
    compiled(model, rate=0.0, loss="mse")
    expected = compiled(keras.models.clone_model(model), 0.0, loss="mse")
    expected.set_weights(start)
    np.testing.assert_allclose(
        model.evaluate(X, Y, verbose=0),
        expected.evaluate(X, Y, verbose=0),
        rtol=1e-6,
    )
    fit(model, X, Y, [])
    assert_weights(model, start, atol=0)


def test_compiling_after_a_fit_takes_effect():
    model = constant_model()
    logger = l2keras.RegularizationLogger()
    fit(model, X, Y, [logger], validation_data=(X, Y))
    model.evaluate(X, Y, verbose=0)
    compiled(model, loss="mse")
    expected = compiled(keras.models.clone_model(model), loss="mse")
    expected.set_weights(model.get_weights())
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(
        expected.evaluate(X, Y, verbose=0), rel=1e-6
    )


def test_loggers_with_equally_many_keys_log_their_own_values():
    # Both log four, which JAX tells apart by nothing but the function.
    logs = {}
    for options in ({"penalties": True}, {"strengths": True}):
        model = constant_model(rate=0.0)
        for each in ({"strengths": True}, {"penalties": True}, options):
            logger = l2keras.RegularizationLogger(**each)
            logs = fit(model, X, Y, [logger], validation_data=(X, Y))
        prefix = "strength" if "strengths" in options else "regularization_loss"
        first = logs[f"{prefix}/hidden/kernel"]
        regularizer = model.get_layer("hidden").kernel_regularizer
        truth = (
            regularizer.strength
            if "strengths" in options
            else number(regularizer(model.get_layer("hidden").kernel))
        )
        assert first == pytest.approx([truth], rel=1e-5)


@pytest.mark.parametrize(
    "hook", ["on_train_batch_end", "on_epoch_end", "on_epoch_begin"]
)
def test_evaluating_in_a_callback_without_a_logger_has_no_split(hook):
    class Looks(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.results = []
            setattr(self, hook, self.look)

        def look(self, *args, **kwargs):
            self.results.append(self.model.evaluate(X[:16], Y[:16], verbose=0))

    model = scheduled_model()
    start = model.get_weights()
    looks = Looks()
    logs = fit(
        model,
        X,
        Y,
        [looks, l2keras.RegularizationLogger()],
        epochs=2,
        **VALIDATION,
    )
    assert all(isinstance(result, float) for result in looks.results)
    truth = simulate(start, X, Y, first=rising, second=falling, epochs=2)
    assert_weights(model, truth.weights)
    if hook == "on_epoch_end":
        assert_means(logs, truth)
        np.testing.assert_allclose(
            looks.results[-1],
            sum(
                simulated_losses(
                    model.get_weights(), X[:16], Y[:16], rising(8), falling(8)
                )
            ),
            rtol=1e-5,
        )
