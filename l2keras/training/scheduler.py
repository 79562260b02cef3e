"""A callback that scales penalties by epoch."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from l2keras import _validation
from l2keras.models import control
from l2keras.strengths.clock import Scale
from l2keras.training import instrumentation


class PenaltyScheduler(keras.callbacks.Callback):
    """Scales the penalties of some weights, epoch by epoch.

    The schedules stand outside the layers, and multiply the strength that each
    regularizer has: at the beginning of an epoch the `scale` of every
    regularizer whose weight a pattern names is set. The training step is not
    compiled again. The scale is saved with the model.

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
        self._states: dict[str, Scale] = {}
        self._values: dict[str, float] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        self._states, self._values = {}, {}
        instrumentation.when_built(self.model, self._connect)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._values = {
            pattern: _validation.check_number(
                schedule(epoch), f"scales[{pattern!r}]({epoch})"
            )
            for pattern, schedule in self.scales.items()
        }
        if self._states:
            # Anew, since a regularizer may have been replaced meanwhile.
            self._connect()

    def _connect(self) -> None:
        self._states = control.connect_scales(self.model, self.scales)
        self._apply()

    def _apply(self) -> None:
        for pattern, value in self._values.items():
            if pattern in self._states:
                self._states[pattern].write(value)
