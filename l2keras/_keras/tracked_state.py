"""State that compiled steps read and write.

Keras compiles a training step once. A number that is to change afterwards, and
not be compiled again, has to be a variable, and on JAX one that Keras tracks:
any other is baked into the compiled step without a word. Keras offers three
kinds of tracked variables to a layer. Weights are saved, counted and expected
in weight files, so a weight of ours would make files differ from plain Keras.
Metrics are not passed through the forward pass. Random state is: it is in
`layer.variables`, and not in `layer.weights`. Hence the base class below.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from l2keras._types import Tensor


class State(keras.random.SeedGenerator):
    """Numbers that Keras tracks in compiled steps as random state.

    Args:
        value: A number, a tuple of numbers, or an array.
        dtype: Their type.
        name: The variable's name.
    """

    def __init__(self, value: Any, dtype: str, name: str) -> None:
        # Not `super().__init__`: it would make the state a pair of integers.
        self.name = name
        self.state = keras.Variable(
            # A function, since Keras may build layers before values exist.
            lambda shape, dtype: ops.convert_to_tensor(value, dtype=dtype),
            shape=np.shape(value),
            dtype=dtype,
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            name=name,
        )

    def read(self) -> Any:
        """Returns the number or the list of numbers, outside compiled code."""
        # Not `int()` or `float()`, which fail on mirrored variables.
        tensor = ops.convert_to_tensor(self.state)
        return ops.convert_to_numpy(tensor).tolist()

    def write(self, value: Tensor) -> None:
        """Sets the numbers, in compiled code and outside."""
        self.state.assign(value)
