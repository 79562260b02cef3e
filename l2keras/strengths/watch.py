"""Whether a step moves while gradients of penalties are taken at it.

In Keras's own training step the model's optimizer counts. Elsewhere another one
may train the model, which shows at the next gradient only: by then the model's
optimizer has counted on, or it has not.
"""

import functools
import warnings
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from l2keras._keras.backend import backend
from l2keras._types import Tensor

# How often gradients may be taken at one step. Some ways to train take them
# twice before each update.
_GRADIENTS_AT_A_STEP = 2


class Calls(NamedTuple):
    """The number of calls of an optimizer.

    Attributes:
        variable: The variable that counts them.
        number: The number now.
        data: A tensor that was given to the training step under way, `None` in
            a loop of one's own.
    """

    variable: keras.Variable
    number: Tensor
    data: Any


class Watch:
    """Warns, once, if a step stands still while gradients are taken at it."""

    def __init__(self) -> None:
        self._was_told = False
        # A training step may have several penalties, and take gradients more
        # than once. All that are taken in it are one: those that come before
        # the next penalty is asked for, or with the same data.
        self._is_due = False
        self._data: Callable[[], Any] = lambda: None
        self._count: int | None = None
        self._gradients = 0

    def watched(
        self, value: Tensor, of: Any, problem: str, calls: Calls | None
    ) -> Tensor:
        """The value, watched for gradients that are taken of it.

        Args:
            value: The value, computed with the step.
            of: The regularizer, for the message.
            problem: The reason for which the step stands still, if it does.
            calls: Show whether it moves; `None` if it is known to stand still.
        """
        if self._was_told:
            return value
        if calls is None:
            return backend.on_gradient(value, lambda: self._warn(of, problem))
        if calls.data is not None and self._data() is calls.data:
            return value
        self._is_due = True

        def is_due() -> bool:
            was_due, self._is_due = self._is_due, False
            if was_due and calls.data is not None:
                self._data = weakref.ref(calls.data)
            return was_due

        return backend.on_each_gradient(
            value,
            is_due,
            functools.partial(self._gradient, of, problem),
            calls.variable,
            calls.number,
            key=self,
        )

    def _gradient(self, of: Any, problem: str, count: int) -> None:
        if count != self._count:
            self._count, self._gradients = count, 0
        self._gradients += 1
        if self._gradients > _GRADIENTS_AT_A_STEP:
            self._warn(of, problem)

    def _warn(self, of: Any, problem: str) -> None:
        if self._was_told:
            return
        self._was_told = True
        warnings.warn(
            f"{of!r} is being trained, but nothing moves its schedule on, so "
            f"its strength stays what it was: {problem}. Call "
            "`l2keras.set_step(model, step)` before each step, or train by "
            "`model.fit`, with the optimizer that the model is compiled with.",
            stacklevel=2,
        )
