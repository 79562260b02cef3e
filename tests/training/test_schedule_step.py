"""A schedule reads the step of the model at work, with no callback at all.

Whose step it is: where models share layers, hold one another, or have several
optimizers. For models that are copied, saved, or compiled again, see
`test_schedule_step_kept.py`.
"""

import json
import threading
import warnings

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from tests.support import (
    BACKEND,
    assert_weights,
    devices,
    falling,
    falling_schedule,
    linear_data,
    number,
    rising,
    rising_schedule,
    run_program,
    simulated_losses,
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

XL, YL = linear_data()


# Layers in several models -----------------------------------------------------


def test_models_that_share_layers_read_their_own_steps():
    one = scheduled_model()
    other = keras.Sequential([keras.Input((10,)), *one.layers])
    other.compile(keras.optimizers.SGD(0.05), "categorical_crossentropy")
    steps = {one: 0, other: 0}
    for model, rate, epochs in [
        (one, 0.1, 1),
        (other, 0.05, 2),
        (one, 0.1, 2),
        (other, 0.05, 1),
    ]:
        truth = simulated(
            model.get_weights(), epochs=epochs, rate=rate, begin=steps[model]
        )
        fit(model, epochs)
        steps[model] = truth.step
        assert_weights(model, truth.weights)
        for each, step in steps.items():
            assert_evaluates_at(each, step)


def test_an_inner_model_reads_the_step_of_the_outer_one_that_trains():
    inner = scheduled_model()
    outer = keras.Sequential([keras.Input((10,)), inner])
    outer.compile(keras.optimizers.SGD(0.05), "categorical_crossentropy")
    start = inner.get_weights()
    fit(outer, 2)
    truth = simulated(start, epochs=2, rate=0.05)
    assert_weights(inner, truth.weights)
    assert_evaluates_at(inner, 0)
    assert_evaluates_at(outer, 8)
    fit(inner)
    truth = simulated(truth.weights, rate=0.1)
    assert_weights(inner, truth.weights)
    assert_evaluates_at(inner, 4)
    assert_evaluates_at(outer, 8)


def test_an_inner_model_is_evaluated_at_its_own_step_while_the_outer_trains():
    inner = scheduled_model()
    fit(inner)
    outer = keras.Sequential([keras.Input((10,)), inner])
    outer.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
    start = inner.get_weights()

    class Evaluates(keras.callbacks.Callback):
        found = ()

        def on_epoch_end(self, epoch, logs=None):
            assert self.model is outer  # On JAX, this fills the variables.
            loss = inner.evaluate(X, Y, verbose=0)
            self.found = (*self.found, (loss, inner.get_weights()))

    evaluates = Evaluates()
    fit(outer, 3, callbacks=[evaluates])
    assert_weights(inner, simulated(start, epochs=3).weights)
    assert len(evaluates.found) == 3
    for loss, weights in evaluates.found:
        truth = simulated_losses(weights, X, Y, rising(4), falling(4))
        np.testing.assert_allclose(loss, sum(truth), rtol=1e-5)


def test_models_that_train_in_two_threads_read_their_own_steps():
    models = [scheduled_model(rate) for rate in (0.1, 0.05)]
    starts = [model.get_weights() for model in models]
    barrier = threading.Barrier(2)

    def train(model, epochs):
        barrier.wait()
        fit(model, epochs)

    threads = [
        threading.Thread(target=train, args=(model, epochs))
        for model, epochs in zip(models, (3, 5), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model, start, epochs, rate in zip(
        models, starts, (3, 5), (0.1, 0.05), strict=True
    ):
        truth = simulated(start, epochs=epochs, rate=rate)
        assert_weights(model, truth.weights)


# Several optimizers -----------------------------------------------------------


def unit_model(inputs, strength):
    """Returns `x @ kernel`; the penalty alone moves the kernel below."""
    dense = keras.layers.Dense(2, use_bias=False, kernel_regularizer=strength)
    return keras.Sequential([keras.Input((inputs,)), dense])


def test_two_compiled_models_trained_in_turn_read_their_own_steps():
    # As in a GAN: the outer model trains the generator alone, by freezing.
    generator = unit_model(3, l2keras.L2(rising_schedule()))
    critic = unit_model(2, l2keras.L2(falling_schedule()))
    gan = keras.Sequential([keras.Input((3,)), generator, critic])
    critic.trainable = False
    gan.compile(keras.optimizers.SGD(0.2), NoLoss())
    critic.trainable = True
    critic.compile(keras.optimizers.SGD(0.1), NoLoss())
    g, c = generator.get_weights()[0], critic.get_weights()[0]
    ones = np.ones((4, 3), "float32")
    for step in range(4):
        for inner in range(2):
            critic.trainable = True
            critic.train_on_batch(ones[:, :2], ones[:, :2])
            c = c * (1 - 2 * 0.1 * falling(2 * step + inner))
        critic.trainable = False
        gan.train_on_batch(ones, ones[:, :2])
        g = g * (1 - 2 * 0.2 * rising(step))
    np.testing.assert_allclose(critic.get_weights()[0], c, atol=1e-6)
    np.testing.assert_allclose(generator.get_weights()[0], g, atol=1e-6)


class NoLoss(keras.losses.Loss):
    """A loss of zero, which has a gradient."""

    def call(self, y_true, y_pred):
        return 0.0 * ops.sum(y_pred, axis=-1)


class TwoOptimizers(keras.Model):
    """A GAN in the manner of Keras's guides; only the penalties train it."""

    def __init__(self, make_layer):
        super().__init__()
        self.discriminator = make_layer(falling_schedule())
        self.generator = make_layer(rising_schedule())
        self.built = True

    def compile(self, d_optimizer, g_optimizer):
        super().compile()
        self.d_optimizer = d_optimizer
        self.g_optimizer = g_optimizer

    def call(self, x):
        return self.discriminator(self.generator(x))

    def penalize(self, model, optimizer, x):
        if BACKEND == "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                loss = 0.0 * ops.sum(model(x)) + sum(model.losses)
            weights = model.trainable_weights
            gradients = tape.gradient(loss, weights)
        else:
            self.zero_grad()
            loss = 0.0 * ops.sum(model(x)) + sum(model.losses)
            loss.backward()
            weights = model.trainable_weights
            gradients = [weight.value.grad for weight in weights]
        if BACKEND == "torch":
            import torch

            with torch.no_grad():
                optimizer.apply(gradients, weights)
        else:
            optimizer.apply(gradients, weights)

    def train_step(self, data):
        x = data[0] if isinstance(data, tuple) else data
        for _ in range(2):
            self.penalize(self.discriminator, self.d_optimizer, x)
        self.penalize(self.generator, self.g_optimizer, x)
        return {"loss": ops.zeros(())}


def sequential(schedule):
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(
                3, use_bias=False, kernel_regularizer=l2keras.L2(schedule)
            ),
        ]
    )


def dense(schedule):
    layer = keras.layers.Dense(
        3, use_bias=False, kernel_regularizer=l2keras.L2(schedule)
    )
    layer.build((None, 3))
    return layer


@pytest.mark.skipif(BACKEND == "jax", reason="It has one optimizer's values.")
@pytest.mark.parametrize("make_layer", [sequential, dense])
@pytest.mark.parametrize("built", [True, False])
def test_schedules_of_a_model_with_two_optimizers_read_model_optimizer(
    make_layer, built
):
    model = TwoOptimizers(make_layer)
    model.compile(keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.2))
    model.optimizer = model.g_optimizer
    if built:
        model.d_optimizer.build(model.discriminator.trainable_weights)
        model.g_optimizer.build(model.generator.trainable_weights)
    d = model.discriminator.get_weights()[0]
    g = model.generator.get_weights()[0]
    logger = l2keras.RegularizationLogger(strengths=True)
    _, messages = warned(
        model.fit,
        np.ones((12, 3)),
        batch_size=2,
        epochs=2,
        verbose=0,
        callbacks=[logger],
    )
    assert not any("nothing moves" in message for message in messages)
    for step in range(12):
        for _ in range(2):
            d = d * (1 - 2 * 0.1 * falling(step))
        g = g * (1 - 2 * 0.2 * rising(step))
    found = model.discriminator.get_weights()[0]
    np.testing.assert_allclose(found, d, atol=1e-6)
    found = model.generator.get_weights()[0]
    np.testing.assert_allclose(found, g, atol=1e-6)
    shown = [
        record.strengths["L2"]
        for record in l2keras.penalties(model)
        if record.regularizer is not None
    ]
    assert shown == pytest.approx([falling(12), rising(12)])


@pytest.mark.skipif(BACKEND == "jax", reason="It has one optimizer's values.")
def test_set_step_serves_a_model_without_a_compiled_optimizer():
    class Tells(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            l2keras.set_step(self.model, self.model.g_optimizer.iterations)

    model = TwoOptimizers(dense)
    model.compile(keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.2))
    g = model.generator.get_weights()[0]
    logger = l2keras.RegularizationLogger(strengths=True)
    logs, messages = warned(
        model.fit,
        np.ones((12, 3)),
        batch_size=2,
        epochs=2,
        verbose=0,
        callbacks=[Tells(), logger],
    )
    assert not any("nothing moves" in message for message in messages)
    for step in range(12):
        g = g * (1 - 2 * 0.2 * rising(step))
    found = model.generator.get_weights()[0]
    np.testing.assert_allclose(found, g, atol=1e-6)
    _, logged = (
        values
        for name, values in logs.history.items()
        if name.startswith("strength/")
    )
    # The strength in the last step of each epoch.
    assert logged == pytest.approx([rising(5), rising(11)])


@pytest.mark.parametrize("activity", [False, True])
def test_a_teacher_called_within_fit_reads_its_own_step(activity):
    arguments = {"kernel_initializer": "ones"}
    kind = "activity_regularizer" if activity else "kernel_regularizer"
    arguments[kind] = l2keras.L2(rising_schedule())
    teacher = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(2, **arguments)]
    )
    teacher.compile(keras.optimizers.SGD(0.0), "mse")
    teacher.fit(XL, YL, batch_size=10, verbose=0)
    assert number(teacher.optimizer.iterations) == len(XL) // 10

    def paid():
        teacher(XL)
        return number(sum(teacher.losses))

    expected, asked = paid(), []
    student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])

    def data():
        while True:
            asked.append(paid())
            yield XL[:10], YL[:10]

    metrics = []
    if BACKEND != "jax":  # Keras itself cannot read another model there.
        metrics = [lambda y, y_pred: [teacher(XL), sum(teacher.losses)][1]]
    student.compile("sgd", "mse", metrics=metrics)
    history = student.fit(
        data(), steps_per_epoch=4, epochs=2, shuffle=False, verbose=0
    )
    assert asked == pytest.approx([expected] * len(asked))
    logged = [
        value
        for name, values in history.history.items()
        if name != "loss"
        for value in values
    ]
    assert logged == pytest.approx([expected] * len(logged))
    assert len(logged) == 2 * len(metrics)


# Kinds of models and of training ----------------------------------------------


def test_a_subclassed_model_built_by_fit_reads_its_step():
    layers = scheduled_model().layers

    class Unbuilt(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [
                keras.layers.Dense.from_config(layer.get_config())
                for layer in layers
            ]

        def call(self, x):
            return self.blocks[1](self.blocks[0](x))

    model = Unbuilt()
    model.compile(keras.optimizers.SGD(0.0), "categorical_crossentropy")
    fit(model)  # It is built, and stays as it was made.
    assert_evaluates_at(model, 4)
    model.optimizer.learning_rate = 0.1
    start = model.get_weights()
    fit(model, 2)
    assert_weights(model, simulated(start, epochs=2, begin=4).weights)


def test_models_in_the_scikit_learn_wrapper_of_keras():
    # Of which Keras 3.10 forgets to import the part that it uses.
    pytest.importorskip("sklearn.utils.multiclass")
    wrapper = keras.wrappers.SKLearnClassifier(
        scheduled_model(),
        fit_kwargs={
            "batch_size": 16,
            "shuffle": False,
            "verbose": 0,
            "epochs": 2,
        },
    )
    keras.utils.set_random_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of scikit-learn and Keras alone.
        wrapper.fit(X, Y.argmax(1))
    assert_evaluates_at(wrapper.model_, 8)
    assert number(wrapper.model_.optimizer.iterations) == 8


@pytest.mark.skipif(BACKEND == "torch", reason="Keras trains on one device.")
def test_two_devices_equal_one():
    found = json.loads(
        run_program(
            f"two_devices_{BACKEND}",
            XLA_FLAGS=devices(2),
        ).splitlines()[-1]
    )
    assert found["devices"] == 2
    assert found["difference"] < 1e-6
    np.testing.assert_allclose(found["losses"], found["truth"], rtol=1e-5)
