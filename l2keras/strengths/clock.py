"""What schedules read, and what multiplies strengths from outside."""

import warnings
from typing import Any

from keras import ops

from l2keras._keras import backends
from l2keras._keras.carried_state import State
from l2keras._types import Tensor


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

        return backends.on_gradient(penalty, warn)
