"""Prints how two mirrored devices train and evaluate, without callbacks."""

import tensorflow as tf
from two_devices import report

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
report(strategy.num_replicas_in_sync, strategy.scope)
