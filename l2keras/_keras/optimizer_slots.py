"""What Keras's optimizers keep for each weight, and for all of them."""

from typing import Any

import keras
from keras import ops

from l2keras._types import Tensor


def slot(
    optimizer: keras.optimizers.Optimizer, name: str, variable: Any
) -> Tensor:
    """Returns what an optimizer keeps for a weight under a name.

    Args:
        optimizer: A built optimizer of Keras.
        name: Such as `"velocities"`, as Keras has it behind an underscore.
        variable: A weight that it was built for, as it was given it.
    """
    index = optimizer._get_variable_index(variable)
    return ops.convert_to_tensor(getattr(optimizer, f"_{name}")[index])


def product_of_momentums(optimizer: keras.optimizers.Optimizer) -> Tensor:
    """Returns what `Nadam` has come to multiply by so far, this step's too."""
    return ops.convert_to_tensor(optimizer._u_product)


def learning_rate_schedule(optimizer: keras.optimizers.Optimizer) -> Any:
    """Returns the schedule of an optimizer's learning rate, `None` if none."""
    rate = optimizer._learning_rate
    is_schedule = isinstance(
        rate, keras.optimizers.schedules.LearningRateSchedule
    )
    return rate if is_schedule else None
