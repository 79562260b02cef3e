"""How far an optimizer moves a weight, per unit of a steady gradient.

That is how long its proximal step must be, for both to come to rest where the
loss and the penalty together are least. It is not the learning rate: momentum
adds it up, and Adam and its like divide by what the gradients were.

Reference:
    Yun, Lozano & Yang, *Adaptive Proximal Gradient Methods for Structured
    Neural Networks*, NeurIPS 2021, algorithm 1: proximal steps in the metric of
    the optimizer.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import keras
from keras import ops

from l2keras._keras import backends
from l2keras._keras.optimizer_hooks import public_class
from l2keras._keras.optimizer_slots import (
    learning_rate_schedule,
    product_of_momentums,
    slot,
)
from l2keras._types import Tensor

# The length for a weight, given the optimizer, what tells the slots of the
# weight, and the rate: the learning rate, added up by momentum.
Length: TypeAlias = Callable[[Any, Callable[[str], Tensor], Tensor], Tensor]


def adds_up(optimizer: Any) -> bool:
    """Tells whether an optimizer moves on by what it moved before."""
    return bool(getattr(optimizer, "momentum", 0.0))


def added_up(optimizer: Any, before: Tensor, learning_rate: Tensor) -> Tensor:
    """Returns what a steady gradient of 1 would move on now.

    The sum of `momentum**k` times the learning rate of `k` steps ago. Not
    `learning_rate / (1 - momentum)`, which a rate that falls would make too
    short: the last steps would bring back what is zero.
    """
    return optimizer.momentum * before + learning_rate


def mean_rates(optimizer: Any, updates: int) -> tuple[Tensor, Tensor]:
    """Returns about what `step_length` was given in so many updates."""
    schedule = learning_rate_schedule(optimizer)
    rates = (
        [optimizer.learning_rate]
        if schedule is None
        else [schedule(updates * share / 16) for share in range(16)]
    )
    mean = sum(float(ops.convert_to_numpy(each)) for each in rates) / len(rates)
    return (
        ops.convert_to_tensor(mean, "float32"),
        ops.convert_to_tensor(
            mean / (1 - getattr(optimizer, "momentum", 0.0)), "float32"
        ),
    )


def step_length(
    optimizer: keras.optimizers.Optimizer,
    variable: Any,
    learning_rate: Tensor,
    rate: Tensor,
) -> Tensor:
    """Returns how far the update that was just made moved a weight.

    Args:
        optimizer: A built optimizer, one that `is_known`.
        variable: The weight, as the optimizer was given it.
        learning_rate: That of the update.
        rate: The same, or what `added_up` made of it.

    Returns:
        Tensor of shape `()`, or one like the weight.
    """

    def own(name: str) -> Tensor:
        return backends.at_least_float32(slot(optimizer, name, variable))

    if getattr(optimizer, "nesterov", False) and adds_up(optimizer):
        rate = optimizer.momentum * rate + learning_rate
    return _LENGTHS[public_class(optimizer)](optimizer, own, rate)


def is_known(optimizer: keras.optimizers.Optimizer) -> bool:
    """Tells whether `step_length` knows an optimizer."""
    return public_class(optimizer) in _LENGTHS


def known_names() -> str:
    """Returns the names of those that are known, as one lists them."""
    *names, last = (f"`{each.__name__}`" for each in _LENGTHS)
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
    # What it makes of a first moment that is steady: nearly 1.
    count = _count(optimizer, rate)
    now, ahead = (
        optimizer.beta_1 * (1 - 0.5 * ops.power(0.96, each))
        for each in (count, count + 1)
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
    # Under momentum, as if the velocity had been what it is now.
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
    """Returns what corrects the bias of an average that began at zero."""
    return 1 - ops.power(beta, _count(optimizer, like))


def _count(optimizer: Any, like: Tensor) -> Tensor:
    """Returns the number of updates, that which was just made included."""
    return ops.cast(optimizer.iterations, like.dtype) + 1


_LENGTHS: dict[type, Length] = {
    keras.optimizers.SGD: _sgd,
    keras.optimizers.Adam: _adam,
    keras.optimizers.AdamW: _adam,
    keras.optimizers.Nadam: _nadam,
    keras.optimizers.RMSprop: _rmsprop,
    keras.optimizers.Adagrad: _adagrad,
}
