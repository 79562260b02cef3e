"""Prints the trainings of one device, and of two that are mirrored."""

import json

import keras
from several_devices import train

import l2keras
from tests.support import documented_data, documented_model, rising_schedule


def main():
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
    found.append(uneven_logs(strategy))
    print(json.dumps([strategy.num_replicas_in_sync, *found]))


def uneven_logs(strategy):
    """Returns the logs where a last batch of 11 is 6 and 5 for the two."""
    with strategy.scope():
        model = documented_model(l2keras.L2(rising_schedule()), l2keras.L2(0.1))
        model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
    x, y = documented_data(samples=75)
    return model.fit(
        x,
        y,
        batch_size=16,
        epochs=2,
        verbose=0,
        callbacks=[l2keras.RegularizationLogger()],
    ).history


if __name__ == "__main__":
    main()
