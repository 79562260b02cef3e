"""Step lengths: how far optimizers move a weight, per unit of gradient.

Proximal steps must have the same length, for both to come to rest where the
loss and the penalty together are least. It is not the learning rate: momentum
adds it up, and Adam and its like divide it by the size of past gradients.

Reference:
    Yun, Lozano & Yang, *Adaptive Proximal Gradient Methods for Structured
    Neural Networks*, NeurIPS 2021, algorithm 1: proximal steps in the metric of
    the optimizer.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import keras
from keras import ops

from l2keras._keras import precision
from l2keras._keras.backend import backend
from l2keras._keras.optimizer_hooks import (
    learning_rate_schedule,
    product_of_momentums,
    public_class,
    slot,
    variable_key,
)
from l2keras._types import Tensor

# The length without momentum, given the optimizer, a function from the names of
# the weight's slots to their values, and the learning rate.
Length: TypeAlias = Callable[[Any, Callable[[str], Tensor], Tensor], Tensor]


class StepLengths:
    """The lengths of an optimizer's updates, for each of its weights.

    With momentum the length is, for a steady gradient of 1, the sum of
    `momentum**k` times the plain length of `k` steps ago. This sum is kept, in
    variables of the optimizer. The plain length now, divided by `1 - momentum`,
    would be wrong: too short where the learning rate falls, so that the last
    steps would bring zeros back; and far too long under
    `RMSprop(centered=True)`, whose lengths grow from step to step.

    Args:
        optimizer: An optimizer that `is_known`.
        sums: The variables that `build` makes, by the weights' keys; by `None`
            where the lengths are all alike.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        sums: dict[Any, keras.Variable],
    ) -> None:
        self._optimizer = optimizer
        self._sums = sums

    def build(self, variables: list[keras.Variable]) -> None:
        """Makes the sums of lengths, for an optimizer that was built."""
        if not self._momentum:
            return
        if self._are_alike:
            self._sums[None] = self._optimizer.add_variable((), name="memory")
            return
        for variable in variables:
            self._sums[self._key(variable)] = (
                self._optimizer.add_variable_from_reference(
                    variable, name="memory"
                )
            )

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables that `build` added to the optimizer."""
        return list(self._sums.values())

    def note_update(self, variables: list[Any], learning_rate: Tensor) -> None:
        """Adds the lengths of an update that was just made.

        Args:
            variables: The weights that were updated.
            learning_rate: The learning rate of the update.
        """
        if self._are_alike:
            variables = variables[:1]
        kept = {
            key: variable
            for variable in variables
            if (key := self._key(variable)) in self._sums
        }
        if kept:
            backend.update(
                lambda before, now: self._momentum * before + now,
                [self._sums[key] for key in kept],
                [
                    self._alone(weight, learning_rate)
                    for weight in kept.values()
                ],
            )

    def of(self, variable: Any, learning_rate: Tensor) -> Tensor:
        """The length of the update that was just made.

        Args:
            variable: The weight, as the optimizer was given it.
            learning_rate: The learning rate of the update.

        Returns:
            Tensor of shape `()`, or one like the weight.
        """
        kept = self._sums.get(self._key(variable))
        if kept is None:
            return self._alone(variable, learning_rate)
        length = precision.at_least_float32(ops.convert_to_tensor(kept))
        return self._looking_ahead(length, variable, learning_rate)

    def mean(self, variable: Any, updates: int) -> Tensor:
        """The mean length over so many updates, approximately."""
        schedule = learning_rate_schedule(self._optimizer)
        rates = (
            [self._optimizer.learning_rate]
            if schedule is None
            else [schedule(updates * share / 16) for share in range(16)]
        )
        numbers = [float(ops.convert_to_numpy(rate)) for rate in rates]
        rate = ops.convert_to_tensor(sum(numbers) / len(numbers), "float32")
        alone = self._alone(variable, rate)
        return self._looking_ahead(alone / (1 - self._momentum), variable, rate)

    @property
    def _momentum(self) -> float:
        return getattr(self._optimizer, "momentum", 0.0)

    @property
    def _are_alike(self) -> bool:
        return public_class(self._optimizer) is keras.optimizers.SGD

    def _key(self, variable: Any) -> Any:
        return (
            None if self._are_alike else variable_key(self._optimizer, variable)
        )

    def _alone(self, variable: Any, learning_rate: Tensor) -> Tensor:
        """The length without momentum."""

        def own(name: str) -> Tensor:
            return precision.at_least_float32(
                slot(self._optimizer, name, variable)
            )

        formula = _LENGTHS[public_class(self._optimizer)]
        return formula(self._optimizer, own, learning_rate)

    def _looking_ahead(
        self, length: Tensor, variable: Any, learning_rate: Tensor
    ) -> Tensor:
        """The length with Nesterov's momentum, given that without it."""
        if not (self._momentum and getattr(self._optimizer, "nesterov", False)):
            return length
        return self._momentum * length + self._alone(variable, learning_rate)


def is_known(optimizer: keras.optimizers.Optimizer) -> bool:
    """Tells whether the length of an optimizer's steps is known."""
    return public_class(optimizer) in _LENGTHS


def known_names() -> str:
    """The names of the known optimizers, in a list for messages."""
    *names, last = (f"`{known.__name__}`" for known in _LENGTHS)
    return f"{', '.join(names)} and {last}"


def _sgd(optimizer: Any, own: Callable[[str], Tensor], rate: Tensor) -> Tensor:
    return rate


def _adam(optimizer: Any, own: Callable[[str], Tensor], rate: Tensor) -> Tensor:
    # The bias of the first moment and its correction cancel each other.
    velocity = own("velocity_hats" if optimizer.amsgrad else "velocities")
    correction = _correction(optimizer, optimizer.beta_2, rate)
    return _divided(
        rate * ops.sqrt(correction), ops.sqrt(velocity) + optimizer.epsilon
    )


def _nadam(
    optimizer: Any, own: Callable[[str], Tensor], rate: Tensor
) -> Tensor:
    # The factor that it applies to a steady first moment is nearly 1.
    count = _count(optimizer, rate)
    now, ahead = (
        optimizer.beta_1 * (1 - 0.5 * ops.power(0.96, step))
        for step in (count, count + 1)
    )
    product = ops.cast(product_of_momentums(optimizer), rate.dtype)
    moment = ahead * _correction(optimizer, optimizer.beta_1, rate) / (
        1 - product * ahead
    ) + (1 - now) / (1 - product)
    root = ops.sqrt(_correction(optimizer, optimizer.beta_2, rate))
    return _divided(
        rate * moment * root,
        ops.sqrt(own("velocities"))
        + optimizer.epsilon * ops.cast(root, own("velocities").dtype),
    )


def _rmsprop(
    optimizer: Any, own: Callable[[str], Tensor], rate: Tensor
) -> Tensor:
    velocity = own("velocities")
    if optimizer.centered:
        mean = own("average_gradients")
        # Negative only by rounding.
        velocity = ops.maximum(velocity - ops.square(mean), 0.0)
    return _divided(rate, ops.sqrt(velocity + optimizer.epsilon))


def _adagrad(
    optimizer: Any, own: Callable[[str], Tensor], rate: Tensor
) -> Tensor:
    return _divided(rate, ops.sqrt(own("accumulators") + optimizer.epsilon))


def _divided(rate: Tensor, by: Tensor) -> Tensor:
    return ops.cast(rate, by.dtype) / by


def _correction(optimizer: Any, beta: float, like: Tensor) -> Tensor:
    """The correction for the bias of an average that began at zero."""
    return 1 - ops.power(beta, _count(optimizer, like))


def _count(optimizer: Any, like: Tensor) -> Tensor:
    """The number of updates, with the one that was just made."""
    return ops.cast(optimizer.iterations, like.dtype) + 1


_LENGTHS: dict[type, Length] = {
    keras.optimizers.SGD: _sgd,
    keras.optimizers.Adam: _adam,
    keras.optimizers.AdamW: _adam,
    keras.optimizers.Nadam: _nadam,
    keras.optimizers.RMSprop: _rmsprop,
    keras.optimizers.Adagrad: _adagrad,
}
