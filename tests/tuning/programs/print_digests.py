"""Prints what some models come to, after others have used up names."""

import sys

import keras
import test_fingerprint
from keras import ops

from l2keras.tuning import fingerprint

for _ in range(int(sys.argv[1])):
    keras.layers.Dense(1)
    keras.metrics.AUC()


class Constants(keras.layers.Layer):
    """Has sets, whose order is another in each process."""

    names = frozenset({"relu", "tanh", "gelu", "silu"})

    def __init__(self):
        super().__init__()
        self.flags = {"b", "a", "c", "d"}
        self.functions = {name: getattr(ops, name) for name in self.names}

    def call(self, inputs):
        if "relu" in {"relu", "tanh", "gelu"}:
            return self.functions["relu"](inputs)
        return inputs


changes = {
    "constants": [test_fingerprint.regression(Constants)],
    **test_fingerprint.CHANGES,
}
for name in (
    "constants",
    "delta of Huber",
    "a function that a loss calls",
    "a partial function",
    "what an optimizer does not decay",
    "what an optimizer does not decay, by name",
    "how layers are connected",
    "a schedule",
):
    for each in test_fingerprint.digests(changes[name][0]):
        print(each.path, each.value)
for each in fingerprint.digests_of_versions():
    print(each.path, each.value)
