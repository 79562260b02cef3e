"""A callback that scales penalties by epoch."""

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras

from l2keras import _validation
from l2keras._keras.call_stack import trained_by
from l2keras.models.manual import connect_scales
from l2keras.strengths.strength import Scale
from l2keras.training.patching import replace_method
from l2keras.weights.rules import Rules


class PenaltyScheduler(keras.callbacks.Callback):
    """Scales the penalties of some weights, epoch by epoch.

    The schedules stand outside the layers, and multiply the strength of each
    regularizer: when an epoch begins, the `scale` of every regularizer whose
    weight matches a pattern is set. The training step is not compiled again.
    The scale is saved with the model.

    Args:
        scales: Dictionary from the path of a weight, such as `hidden/kernel`,
            or a regular expression for some, `hidden/.*`, to a function from
            the epoch, an integer from 0, to a finite number >= 0. The model's
            own name is not part of a path. Any function will do: it is not
            saved.

    Raises:
        TypeError: If `scales` is not such a dictionary. When training begins:
            if a regularizer is not one of l2keras. When an epoch begins: if a
            function returns no number.
        ValueError: When training begins: if a pattern matches no regularized
            weight, two match one, or one regularizer would have to have two
            scales. When an epoch begins: if a function returns a number that is
            negative or not finite.

    Example:

    >>> import keras, l2keras, numpy as np
    >>> hidden = keras.layers.Dense(
    ...     1, name="hidden", kernel_regularizer=l2keras.L2(0.01)
    ... )
    >>> model = keras.Sequential([keras.Input((2,)), hidden])
    >>> model.compile("sgd", "mse")
    >>> ramp = l2keras.PenaltyScheduler(
    ...     {"hidden/.*": lambda epoch: min(1.0, epoch / 8)}
    ... )
    >>> fit = model.fit(
    ...     np.ones((8, 2)), np.ones(8), epochs=3, callbacks=[ramp], verbose=0
    ... )
    >>> hidden.kernel_regularizer.scale
    0.25
    """

    def __init__(self, scales: Mapping[str, Callable[[int], float]]):
        super().__init__()
        if not isinstance(scales, Mapping) or not all(
            callable(schedule) for schedule in scales.values()
        ):
            raise TypeError(
                "Argument `scales` must be a dictionary from path or pattern "
                "to a function of the epoch. For a constant scale, call "
                "`l2keras.set_scale(model, scales)`. "
                f"Received: scales={scales!r}"
            )
        self.scales = dict(scales)
        self._rules = Rules(scales, check=lambda value, name: value)
        self._states: dict[str, Scale] = {}
        self._values: dict[str, float] = {}
        self._waiting: Callable[[], None] | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._states, self._values = {}, {}
        if self.model.built:
            self._connect()
        else:
            self._connect_when_built()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._values = {
            pattern: _validation.check_number(
                schedule(epoch), f"scales[{pattern!r}]({epoch})"
            )
            for pattern, schedule in self.scales.items()
        }
        if self._states or (self.model.built and self._waiting is None):
            # Anew, since a regularizer may have been replaced meanwhile.
            self._connect()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._waiting is None:
            return
        self._stop_waiting()
        if any(value != 1.0 for value in self._values.values()):
            warnings.warn(
                f"Model {self.model.name!r} was built while it trained, by a "
                "`train_step` that calls no `compute_loss`, so the scales of "
                "its first epoch came too late. Build the model before "
                "`fit`.",
                stacklevel=2,
            )

    def on_train_end(self, logs: Any = None) -> None:
        self._stop_waiting()

    def _connect(self) -> None:
        self._states = connect_scales(self.model, self._rules)
        for pattern, value in self._values.items():
            self._states[pattern].write(value)

    def _connect_when_built(self) -> None:
        """Waits for the weights.

        On TensorFlow Keras makes those of a model without inputs in the first
        training step, while it compiles it. They are there when the loss is
        computed, before the penalties are.
        """
        model = self.model
        compute_loss = model.compute_loss

        @functools.wraps(compute_loss)
        def connecting(*args: Any, **kwargs: Any) -> Any:
            undo()
            # Not in another training, if this one was broken off before.
            if self._waiting is undo and trained_by(self) is model:
                self._waiting = None
                self._connect()
            return compute_loss(*args, **kwargs)

        undo = replace_method(model, "compute_loss", connecting)
        self._waiting = undo

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting()
            self._waiting = None
