"""The step that a schedule reads, when a model is copied, saved, or changed.

And in other ways to train than a plain `fit`; all without a callback of ours.
"""

import copy
import pickle

import keras
import numpy as np
import pytest

import l2keras
from tests.support import (
    BACKEND,
    assert_weights,
    linear_data,
    number,
    rising,
    rising_schedule,
)
from tests.support.logged_trainings import warned
from tests.support.schedule_steps import (
    X,
    Y,
    assert_evaluates_at,
    fit,
    scheduled_model,
    simulated,
)
from tests.support.trace_counts import many_steps

own_loops = pytest.mark.skipif(
    BACKEND == "jax", reason="A loop on JAX has the optimizer's values."
)


# Copies and files -------------------------------------------------------------


def pickled(model):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_a_copied_model_counts_its_own_steps(copied):
    model = scheduled_model()
    start = model.get_weights()
    fit(model)
    again = copied(model)
    assert_evaluates_at(again, 4)
    fit(model)  # The copy stays where it was.
    assert_evaluates_at(again, 4)
    fit(again, 2)
    assert_weights(again, simulated(start, epochs=3).weights)
    assert_evaluates_at(model, 8)


def test_compiling_with_another_optimizer_starts_at_its_step():
    model = scheduled_model()
    fit(model, 2)
    assert_evaluates_at(model, 8)
    start = model.get_weights()
    model.compile(keras.optimizers.SGD(0.05), "categorical_crossentropy")
    assert_evaluates_at(model, 0)
    fit(model, 2)
    assert_weights(model, simulated(start, epochs=2, rate=0.05).weights)
    assert_evaluates_at(model, 8)


def test_backup_and_restore(tmp_path):
    class Breaks(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    model = scheduled_model()
    start = model.get_weights()
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        fit(model, 4, callbacks=[backup, Breaks()])
    again = scheduled_model()
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    fit(again, 4, callbacks=[backup])
    # Of the second epoch, the backup knows nothing or all.
    assert number(again.optimizer.iterations) == 16
    assert_weights(again, simulated(start, epochs=4).weights)
    assert_evaluates_at(again, 16)


def test_loading_weights_keeps_the_step(tmp_path):
    model = scheduled_model()
    start = model.get_weights()
    path = tmp_path / "at.weights.h5"
    save = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    fit(model, 2, callbacks=[save])
    again = scheduled_model()
    again.optimizer.build(again.trainable_variables)
    again.evaluate(X, Y, verbose=0)  # Compiled before it is restored.
    again.load_weights(path)
    assert_evaluates_at(again, number(again.optimizer.iterations))
    fit(again)
    truth = simulated(start, epochs=2)
    begin = number(again.optimizer.iterations) - 4
    truth = simulated(truth.weights, begin=begin)
    assert_weights(again, truth.weights)


def test_an_evaluation_follows_a_step_that_is_assigned():
    model = scheduled_model()
    fit(model)
    assert_evaluates_at(model, 4)
    for step in (0, 6, 11):
        model.optimizer.iterations.assign(step)
        assert_evaluates_at(model, step)
    start = model.get_weights()
    model.optimizer.iterations.assign(2)
    fit(model)
    assert_weights(model, simulated(start, begin=2).weights)


# Ways to train ----------------------------------------------------------------


@pytest.mark.parametrize("steps", [2, 4])
def test_the_step_counts_updates_of_accumulated_gradients(steps):
    model = scheduled_model()
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=steps)
    model.compile(optimizer, "categorical_crossentropy")
    start = model.get_weights()
    fit(model, 3)
    truth = simulated(start, epochs=3, accumulate=steps)
    assert truth.step == 12 // steps
    assert_weights(model, truth.weights)
    assert_evaluates_at(model, truth.step)


def test_the_step_is_that_of_the_optimizer_inside_loss_scaling():
    model = scheduled_model()
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    model.compile(optimizer, "categorical_crossentropy")
    start = model.get_weights()
    fit(model, 3)
    assert_weights(model, simulated(start, epochs=3).weights)
    assert_evaluates_at(model, 12)


@many_steps
def test_the_step_advances_within_steps_per_execution():
    model = scheduled_model()
    model.compile(
        keras.optimizers.SGD(0.1),
        "categorical_crossentropy",
        steps_per_execution=3,
    )
    start = model.get_weights()
    fit(model, 3)
    assert_weights(model, simulated(start, epochs=3).weights)
    assert_evaluates_at(model, 12)


def loop_step(model):
    """Returns a training step of one's own, as the backend's users write it."""
    loss_of = keras.losses.CategoricalCrossentropy()
    weights = model.trainable_weights
    if BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function
        def step(x, y):
            with tf.GradientTape() as tape:
                loss = loss_of(y, model(x, training=True)) + sum(model.losses)
            model.optimizer.apply(tape.gradient(loss, weights), weights)

        return step
    import torch

    def step(x, y):
        model.zero_grad()
        (loss_of(y, model(x, training=True)) + sum(model.losses)).backward()
        with torch.no_grad():
            model.optimizer.apply([w.value.grad for w in weights], weights)

    return step


@own_loops
def test_a_custom_loop_with_the_optimizer_of_the_model():
    model = scheduled_model()
    model.optimizer.build(model.trainable_variables)
    start = model.get_weights()
    step = loop_step(model)

    def train():
        for begin in [0, 16, 32, 48] * 2:
            rows = slice(begin, begin + 16)
            step(
                keras.ops.convert_to_tensor(X[rows]),
                keras.ops.convert_to_tensor(Y[rows]),
            )

    assert warned(train)[1] == []
    assert_weights(model, simulated(start, epochs=2).weights)
    assert_evaluates_at(model, 8)


# Predictions and exported models ----------------------------------------------


def active_model():
    """Returns a model whose activity regularizer has a schedule."""
    inputs = keras.Input((4,))
    dense = keras.layers.Dense(
        2, activity_regularizer=l2keras.L2(rising_schedule())
    )
    model = keras.Model(inputs, dense(inputs))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


def test_activity_regularizers_follow_the_step_in_evaluate_but_not_in_predict():
    x, y = linear_data()
    model = active_model()
    model.fit(x, y, batch_size=10, epochs=2, verbose=0)
    kernel, bias = model.get_weights()
    outputs = x @ kernel + bias
    predicted, messages = warned(model.predict, x, verbose=0)
    assert messages == []
    np.testing.assert_allclose(predicted, outputs, atol=1e-5)
    losses = []
    for step in (4, 8):
        model.optimizer.iterations.assign(step)
        losses.append(model.evaluate(x, y, batch_size=40, verbose=0))
    data = np.mean((outputs - y) ** 2)
    penalties = np.subtract(losses, data)
    np.testing.assert_allclose(
        penalties[1] / penalties[0], rising(8) / rising(4), rtol=1e-3
    )


def test_a_model_with_a_scheduled_activity_regularizer_is_exported(tmp_path):
    tf = pytest.importorskip("tensorflow")
    if BACKEND == "torch":
        pytest.skip("Its way is by another package.")
    x, y = linear_data()
    model = active_model()
    model.fit(x, y, batch_size=10, verbose=0)
    model.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(
        served.serve(tf.constant(x)).numpy(),
        model.predict(x, verbose=0),
        atol=1e-5,
    )
