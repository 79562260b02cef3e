"""Prints how two mirrored devices train and evaluate, without callbacks."""

from two_devices import report


def main():
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    report(strategy.num_replicas_in_sync, strategy.scope)


if __name__ == "__main__":
    main()
