"""Training on several devices equals training on one.

Devices are set up when a process starts, so each test runs programs of its own.
"""

import json
import socket

import numpy as np
import pytest
from helpers import BACKEND, assert_splits, outputs, run_python, start_python

tensorflow_only = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="`tf.distribute` is TensorFlow's."
)
jax_only = pytest.mark.skipif(
    BACKEND != "jax", reason="`keras.distribution` trains on JAX."
)

# Each program prints JSON: whatever `train` found, on several devices and on
# one. The losses are compared with NumPy too.
PROGRAM = """
import contextlib
import json
import tempfile

import keras
import numpy as np
from helpers import (
    documented_data,
    documented_model,
    falling,
    falling_schedule,
    rising,
    rising_schedule,
    simulate,
)

import l2keras

x, y = documented_data(samples=64)


def grow(epoch):
    return 0.5 + epoch


def train(scope=contextlib.nullcontext):
    with scope():
        model = documented_model(
            l2keras.L2(rising_schedule()), l2keras.L2(falling_schedule())
        )
        model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
    start = model.get_weights()
    callbacks = [
        l2keras.PenaltyScheduler({"hidden/.*": grow}),
        l2keras.RegularizationLogger(penalties=True, strengths=True),
    ]
    logs = [
        model.fit(
            x,
            y,
            batch_size=16,
            epochs=2,
            shuffle=False,
            verbose=0,
            validation_data=(x, y),
            validation_batch_size=32,
            callbacks=callbacks,
        ).history
        for _ in range(2)
    ]
    found = {
        "logs": {key: logs[0][key] + logs[1][key] for key in logs[0]},
        "step": int(keras.ops.convert_to_numpy(model.optimizer.iterations)),
        "scale": model.layers[0].kernel_regularizer.scale,
        "loss": model.evaluate(x, y, batch_size=32, verbose=0),
        "weights": [each.tolist() for each in model.get_weights()],
    }
    l2keras.set_step(model, 5)
    found["set"] = model.evaluate(x, y, batch_size=32, verbose=0)
    l2keras.set_step(model, found["step"])
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        again = keras.saving.load_model(f"{folder}/model.keras")
    found["reloaded"] = again.evaluate(x, y, batch_size=32, verbose=0)
    truth = simulate(
        start,
        x,
        y,
        first=lambda step: rising(step) * grow(step // 4 % 2),
        second=falling,
        epochs=4,
    )
    found["data_loss"] = truth.data_losses
    found["regularization_loss"] = truth.regularization_losses
    found["simulated"] = [each.tolist() for each in truth.weights]
    return found


"""


def assert_same_training(found, other):
    """Asserts that a training equals another, NumPy's, and its own reload."""
    assert found["step"] == other["step"] == 16
    assert found["scale"] == other["scale"] == 1.5
    for key in ("weights", "simulated"):
        for ours, theirs in zip(found["weights"], other[key], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    assert set(found["logs"]) == set(other["logs"])
    assert "strength/output/kernel" in found["logs"]
    for key, values in other["logs"].items():
        np.testing.assert_allclose(
            found["logs"][key], values, rtol=1e-5, atol=1e-6, err_msg=key
        )
    for key in ("data_loss", "regularization_loss"):
        np.testing.assert_allclose(found["logs"][key], other[key], rtol=1e-5)
    assert_splits(found["logs"])
    assert_splits(found["logs"], "val_")
    for key in ("loss", "set"):
        np.testing.assert_allclose(found[key], other[key], rtol=1e-5)
    np.testing.assert_allclose(found["reloaded"], found["loss"], rtol=1e-6)


@tensorflow_only
def test_two_mirrored_devices_equal_one():
    out = run_python(
        PROGRAM
        + """
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
found = [train(), train(strategy.scope)]
# Keras's guide fits outside of the scope, many a program inside.
with strategy.scope():
    found.append(train())
# A last batch of 11 is 6 and 5 for the two.
with strategy.scope():
    model = documented_model(l2keras.L2(rising_schedule()), l2keras.L2(0.1))
    model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
logger = l2keras.RegularizationLogger()
x, y = documented_data(samples=75)
logs = model.fit(
    x, y, batch_size=16, epochs=2, verbose=0, callbacks=[logger]
).history
found.append(logs)
print(json.dumps([strategy.num_replicas_in_sync, *found]))
"""
    )
    replicas, one, two, inside, uneven = json.loads(out.splitlines()[-1])
    assert replicas == 2
    assert_same_training(two, one)
    assert_same_training(inside, one)
    assert_splits(uneven)


@tensorflow_only
def test_a_loop_on_two_workers_equals_numpy():
    # `fit` does not work with this strategy in Keras 3, with or without l2keras
    # (https://github.com/keras-team/keras/issues/20585).
    program = (
        PROGRAM
        + """
import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()
worker = strategy.cluster_resolver.task_id
with strategy.scope():
    model = documented_model(
        l2keras.L2(rising_schedule()), l2keras.L2(falling_schedule())
    )
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)
start = model.get_weights()


@tf.function
def train_step(xb, yb):
    def replica_step(xb, yb):
        with tf.GradientTape() as tape:
            losses = keras.losses.categorical_crossentropy(yb, model(xb))
            loss = tf.reduce_sum(losses) / 16 + sum(model.losses) / 2
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)

    strategy.run(replica_step, args=(xb, yb))


for step in range(8):
    l2keras.set_step(model, optimizer.iterations)
    # Each worker has its half of the batch.
    begin = 16 * (step % 4) + 8 * worker
    where = slice(begin, begin + 8)
    train_step(tf.constant(x[where]), tf.constant(y[where]))
truth = simulate(start, x, y, first=rising, second=falling, epochs=2)
weights = zip(model.get_weights(), truth.weights, strict=True)
print(strategy.num_replicas_in_sync)
print(max(np.abs(one - other).max() for one, other in weights))
"""
    )
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    processes = [
        start_python(
            program,
            TF_CONFIG=json.dumps(
                {
                    "cluster": {"worker": workers},
                    "task": {"type": "worker", "index": index},
                }
            ),
        )
        for index in range(2)
    ]
    for out in outputs(processes):
        replicas, difference = out.split()[-2:]
        assert replicas == "2"
        assert float(difference) < 1e-6


def free_ports(count):
    """Returns ports that nobody listens to."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@jax_only
def test_four_devices_with_a_share_of_the_data_equal_one():
    out = run_python(
        PROGRAM
        + """
one = train()
keras.distribution.set_distribution(keras.distribution.DataParallel())
four = train()
print(json.dumps([len(keras.distribution.list_devices()), one, four]))
""",
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
    )
    devices, one, four = json.loads(out.splitlines()[-1])
    assert devices == 4
    assert_same_training(four, one)
