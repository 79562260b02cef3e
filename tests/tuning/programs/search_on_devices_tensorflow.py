"""A search on four devices, and on one."""

import tensorflow as tf
from search_on_devices import compare

from l2keras.tuning.grid import tensorflow_devices

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 4,
)
used = []
start = tensorflow_devices.DealtStack.start


def noted(self, *arguments):
    start(self, *arguments)
    stacks = [part.stack for part in self._parts]
    on = [{v.value.device for v in stack._variables} for stack in stacks]
    assert all(len(each) == 1 for each in on)
    assert [len(stack._non_trainable) > 0 for stack in stacks]
    used.append(len(set.union(*on)))


tensorflow_devices.DealtStack.start = noted
# On each device is one fold of six candidates, of which one is repeated.
compare(4, used, lambda: tf.device("CPU:1"))
