"""What Keras's optimizers keep to themselves: the update, and its variables."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import keras

from l2keras._types import Tensor

AroundUpdates: TypeAlias = Callable[
    [Callable[[], None], list[keras.Variable], Tensor], None
]


def weight_decay(model: keras.Model, variable: keras.Variable) -> float:
    """Returns the weight decay of the model's optimizer on a variable.

    `exclude_from_weight_decay` is public, but not what it excluded.
    """
    optimizer: Any = getattr(model, "optimizer", None)
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    decay = getattr(optimizer, "weight_decay", None)
    if not decay or not variable.trainable:
        return 0.0
    return float(decay) if optimizer._use_weight_decay(variable) else 0.0


def public_class(optimizer: keras.Optimizer) -> type:
    """Returns the class under which Keras offers an optimizer.

    On PyTorch it derives classes of its own from these, for speed.
    """
    cls = type(optimizer)
    if not cls.__module__.startswith("keras."):
        return cls
    return getattr(keras.optimizers, cls.__name__, cls)


_around_updates: contextvars.ContextVar[AroundUpdates | None] = (
    contextvars.ContextVar("around_updates", default=None)
)


class _UpdateStep:
    """Stands for the update step of one optimizer."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    def __call__(
        self, grads: Any, trainable_variables: Any, learning_rate: Any
    ) -> None:
        def update() -> None:
            type(self.optimizer)._backend_update_step(
                self.optimizer, grads, trainable_variables, learning_rate
            )

        around = _around_updates.get()
        if around is None:
            update()
        else:
            around(update, trainable_variables, learning_rate)


def allow_around_updates(optimizer: keras.optimizers.Optimizer) -> None:
    """Lets `around_updates` reach the updates of an optimizer.

    Whether a call of `apply` changes the weights is known inside only: it may
    accumulate gradients, and decides that in the compiled step. All optimizers
    of Keras come by this method exactly once for each change, on all backends,
    with the variables that have gradients and the learning rate of the step.
    """
    if not isinstance(
        getattr(optimizer, "_backend_update_step", None), _UpdateStep
    ):
        optimizer._backend_update_step = _UpdateStep(optimizer)


def is_update_step_prepared(value: Any) -> bool:
    """Tells whether an attribute is what `allow_around_updates` put there."""
    return isinstance(value, _UpdateStep)


@contextlib.contextmanager
def around_updates(function: AroundUpdates) -> Iterator[None]:
    """Has each update of a prepared optimizer made by `function`.

    It is called with what makes the update, the variables, and the learning
    rate. Only while the scope is open, and in this thread: on TensorFlow each
    replica has a thread of its own.
    """
    token = _around_updates.set(function)
    try:
        yield
    finally:
        _around_updates.reset(token)


def variable_key(optimizer: keras.optimizers.Optimizer, variable: Any) -> Any:
    """Returns by what an optimizer knows a variable.

    On TensorFlow it may be given its own variables or those of Keras.
    """
    try:
        return optimizer._var_key(variable)
    except AttributeError:  # One that has no value yet, on TensorFlow.
        return id(variable)
