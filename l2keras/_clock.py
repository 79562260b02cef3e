"""State that compiled steps read and write: the step, and the scales.

Keras compiles a training step once. What must change afterwards without being
compiled again has to be a variable, and on JAX one that Keras knows of: any
other is baked into the compiled step without a word. Keras offers three kinds
of known variables to a layer. Weights are saved, counted and expected in weight
files, so a weight of ours would make files differ from plain Keras. Metrics are
not carried through the forward pass. Random state is: it is in
`layer.variables`, and not in `layer.weights`. Hence the base class below.
"""

import warnings
from typing import Any

import keras
from keras import ops

from l2keras import _backend
from l2keras._types import Tensor


class State(keras.random.SeedGenerator):
    """A number that Keras carries through compiled steps as random state."""

    def __init__(self, value: float, dtype: str, name: str) -> None:
        # Not `super().__init__`: it would make the state a pair of integers.
        self.name = name
        self.state = keras.Variable(
            # A function, since Keras may build layers before values exist.
            lambda shape, dtype: ops.full(shape, value, dtype=dtype),
            shape=(),
            dtype=dtype,
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            name=name,
        )

    def read(self) -> Any:
        """Returns the number, outside compiled code."""
        # Not `int()` or `float()`, which fail on mirrored variables.
        tensor = ops.convert_to_tensor(self.state)
        return ops.convert_to_numpy(tensor).item()

    def write(self, value: Tensor) -> None:
        """Sets the number, in compiled code and outside."""
        self.state.assign(value)


class Scale(State):
    """What multiplies the strength of one regularizer, or of several."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__(value, dtype="float32", name="scale")


class Clock(State):
    """The step that schedules read: a copy of `optimizer.iterations`.

    A copy, because a regularizer knows no optimizer, and on JAX could not read
    one: the forward pass is given the model's variables only.

    Attributes:
        driven: Whether something moves the clock. If not, it warns when the
            gradient of a penalty that reads it is taken.
    """

    _warned = False

    def __init__(self, step: int = 0) -> None:
        # "int" is the type of `optimizer.iterations` on each backend.
        super().__init__(step, dtype="int", name="step")
        self._driven = False

    @property
    def driven(self) -> bool:
        return self._driven

    @driven.setter
    def driven(self, value: bool) -> None:
        self._driven = value
        if value:
            # The cure is known now, so its absence deserves a word again.
            Clock._warned = False

    def now(self) -> Tensor:
        """Returns the step as schedules receive it: float32, shape `()`.

        Whole numbers up to 2**24 are exact in float32, and a function like
        `lambda step: 0.01 * step` fails on TensorFlow if `step` is an integer.
        """
        return ops.cast(self.state, "float32")

    def watch(self, penalty: Tensor, regularizer: Any) -> Tensor:
        """Returns `penalty`, which will warn if trained with nobody driving."""

        def warn() -> None:
            if self.driven or Clock._warned:
                return
            Clock._warned = True
            warnings.warn(
                f"{regularizer!r} is being trained, but nothing moves its "
                "schedule on, so its strength stays what it was. Train with "
                "`model.fit(..., callbacks=[l2keras.RegularizationLogger()])`, "
                "or call `l2keras.set_step(model, step)` in your own loop, "
                "before each step.",
                stacklevel=2,
            )

        return _backend.on_gradient(penalty, warn)
