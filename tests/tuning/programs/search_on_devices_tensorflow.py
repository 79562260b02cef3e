"""A search on four devices, and on one."""

import tensorflow as tf
from search_on_devices import compare, note_starts

from l2keras.tuning.grid import tensorflow_devices

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 4,
)
used = note_starts(tensorflow_devices.DealtTensorflowStack)
# On each device is one fold of six candidates, of which one is repeated.
compare(4, used, lambda: tf.device("CPU:1"))
