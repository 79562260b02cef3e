"""Proximal steps in loops of one's own, in files, and in searches."""

import json

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from l2keras import L1, GroupLasso, LinearSchedule, Proximal
from tests.support import BACKEND
from tests.support.proximal_cases import (
    BATCH,
    X,
    Y,
    assert_kernel,
    fit,
    kernel,
    linear,
    proximal_sgd,
    simulate,
)

# Loops of one's own -----------------------------------------------------------


def batches():
    for first in range(0, len(X), BATCH):
        yield X[first : first + BATCH], Y[first : first + BATCH]


def tensorflow_loop(model, before):
    import tensorflow as tf

    @tf.function
    def train_step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x) - y)) + sum(model.losses)
        weights = model.trainable_variables
        gradients = tape.gradient(loss, weights)
        model.optimizer.apply_gradients(zip(gradients, weights, strict=True))

    for step, (x, y) in enumerate(batches()):
        before(step)
        train_step(x, y)


def jax_loop(model, before):
    import jax

    model.optimizer.build(model.trainable_variables)

    def loss_of(trainable, rest, x, y):
        outputs, _, losses = model.stateless_call(
            trainable, rest, x, return_losses=True
        )
        return ops.mean(ops.square(outputs - y)) + sum(losses)

    @jax.jit
    def train_step(trainable, rest, state, x, y):
        gradients = jax.grad(loss_of)(trainable, rest, x, y)
        return model.optimizer.stateless_apply(state, gradients, trainable)

    trainable = [variable.value for variable in model.trainable_variables]
    state = [variable.value for variable in model.optimizer.variables]
    for step, (x, y) in enumerate(batches()):
        before(step)
        rest = [variable.value for variable in model.non_trainable_variables]
        trainable, state = train_step(trainable, rest, state, x, y)
    model.trainable_variables[0].assign(trainable[0])


def torch_loop(model, before):
    import torch

    for step, (x, y) in enumerate(batches()):
        before(step)
        model.zero_grad()
        loss = torch.square(model(x) - ops.convert_to_tensor(y)).mean()
        (loss + sum(model.losses)).backward()
        weights = model.trainable_variables
        with torch.no_grad():
            model.optimizer.apply(
                [weight.value.grad for weight in weights], weights
            )


LOOPS = {"tensorflow": tensorflow_loop, "jax": jax_loop, "torch": torch_loop}


def test_a_custom_loop_takes_proximal_steps():
    model = linear(L1(0.05))
    model.compile(proximal_sgd(momentum=0.8))
    LOOPS[BACKEND](model, before=lambda step: None)
    assert_kernel(model, simulate(momentum=0.8, epochs=1)[0])


def test_strengths_changed_in_a_custom_loop_reach_the_proximal_steps():
    model = linear(L1(LinearSchedule(0.0, 0.2, steps=4)))
    model.compile(proximal_sgd())
    l2keras.set_scale(model, {"dense/kernel": 1.0})
    l2keras.set_step(model, 0)

    def before(step):
        l2keras.set_scale(model, {"dense/kernel": 2.0 if step == 3 else 1.0})
        # On JAX the model's own optimizer does not count, and a step that is
        # set holds; elsewhere for one update.
        l2keras.set_step(model, step)

    LOOPS[BACKEND](model, before)
    strengths = [0.0, 0.05, 0.1, 0.3]
    assert_kernel(model, simulate(strengths.__getitem__, epochs=1)[0])


def test_applying_the_optimizer_alone_equals_the_formula():
    model = linear(GroupLasso(1.3, axis=0))
    model.compile(proximal_sgd(rate=0.5))
    (variable,) = model.trainable_variables
    before = kernel(model)
    model.optimizer.apply([ops.zeros(variable.shape)], [variable])
    norms = np.sqrt((before**2).sum(1, keepdims=True))
    expected = before * np.maximum(1 - 0.65 / norms, 0)
    np.testing.assert_allclose(kernel(model), expected, atol=1e-7)
    assert 0 < (expected == 0).mean() < 1


# Files ------------------------------------------------------------------------


def elaborate():
    return keras.optimizers.LossScaleOptimizer(
        Proximal(
            l2keras.DecoupledWeightDecay(
                keras.optimizers.SGD(0.05, momentum=0.8), default=0.1
            ),
            name="mine",
        )
    )


def scheduled():
    return L1(LinearSchedule(0.0, 0.1, steps=10)) + GroupLasso(0.02, axis=0)


def test_the_optimizer_is_rebuilt_from_its_config():
    optimizer = elaborate().inner_optimizer
    config = json.loads(json.dumps(optimizer.get_config()))
    again = Proximal.from_config(config)
    assert again.get_config() == optimizer.get_config()
    assert list(config) == ["name", "optimizer"]
    serialized = keras.optimizers.serialize(optimizer)
    assert serialized["registered_name"] == "l2keras>Proximal"
    assert keras.optimizers.deserialize(serialized).name == "mine"


def test_a_reloaded_model_trains_as_if_never_saved(tmp_path):
    whole, half = linear(scheduled()), linear(scheduled())
    fit(whole, elaborate(), epochs=4)
    fit(half, elaborate(), epochs=2)
    half.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    fit(again, epochs=2)
    np.testing.assert_array_equal(kernel(again), kernel(whole))
    assert (kernel(again) == 0).any()
    fit(half, epochs=2)
    np.testing.assert_array_equal(kernel(half), kernel(whole))


def test_training_resumes_from_a_backup(tmp_path):
    class Breaks(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def trained(*callbacks):
        model = linear(scheduled())
        fit(model, elaborate(), epochs=4, callbacks=callbacks)
        return kernel(model)

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    with pytest.raises(KeyboardInterrupt):
        trained(backup(), Breaks())
    np.testing.assert_array_equal(trained(backup()), trained())


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_a_legacy_file_is_loaded(tmp_path):
    model = linear(L1(0.1))
    # Keras cannot find its own by their short names there.
    fit(model, proximal_sgd(), loss=keras.losses.MeanSquaredError())
    model.save(tmp_path / "model.h5")
    again = keras.models.load_model(tmp_path / "model.h5")
    np.testing.assert_array_equal(kernel(again), kernel(model))
    fit(again, proximal_sgd())
    assert (kernel(again) == 0).any()
