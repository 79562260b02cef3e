"""The private parts of Keras's optimizers: the update, and its variables."""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self, TypeAlias

import keras
from keras import ops

from l2keras._types import Tensor

# Makes an optimizer's update, given the function of the plain update, the
# variables that have gradients, and the learning rate of the step.
AroundUpdate: TypeAlias = Callable[
    [Callable[[], None], list[keras.Variable], Tensor], None
]


def weight_decay(model: keras.Model, variable: keras.Variable) -> float:
    """The weight decay of the model's optimizer on a variable.

    `exclude_from_weight_decay` is public, but not the list of the excluded.
    """
    own: Any = getattr(model, "optimizer", None)
    optimizer: Any = optimizers_of(own, variable)[-1]
    decay = getattr(optimizer, "weight_decay", None)
    if not decay or not variable.trainable:
        return 0.0
    return 0.0 if _is_excluded(optimizer, variable) else float(decay)


def _is_excluded(optimizer: Any, variable: keras.Variable) -> bool:
    is_excluded = getattr(optimizer, "_is_excluded_from_weight_decay", None)
    if is_excluded is not None:  # From Keras 3.16 on.
        return is_excluded(variable)
    return not optimizer._use_weight_decay(variable)


def public_class(optimizer: keras.Optimizer) -> type:
    """The class under which Keras offers an optimizer.

    On PyTorch it derives classes of its own from these, for speed.
    """
    cls = type(optimizer)
    if not cls.__module__.startswith("keras."):
        return cls
    return getattr(keras.optimizers, cls.__name__, cls)


def variable_key(optimizer: keras.optimizers.Optimizer, variable: Any) -> Any:
    """The key by which an optimizer looks a variable up.

    On TensorFlow it may be given its own variables or those of Keras.
    """
    try:
        return optimizer._var_key(variable)
    except AttributeError:  # One that has no value yet, on TensorFlow.
        return id(variable)


# The optimizer's own variables ------------------------------------------------


def slot(
    optimizer: keras.optimizers.Optimizer, name: str, variable: Any
) -> Tensor:
    """The slot of an optimizer for a weight, such as its velocity.

    Args:
        optimizer: A built optimizer of Keras.
        name: Such as `"velocities"`, as Keras has it behind an underscore.
        variable: A weight that it was built for, as it was given it.
    """
    index = optimizer._get_variable_index(variable)
    return ops.convert_to_tensor(getattr(optimizer, f"_{name}")[index])


def product_of_momentums(optimizer: keras.optimizers.Optimizer) -> Tensor:
    """The product of `Nadam`'s momentums so far, with this step's."""
    return ops.convert_to_tensor(optimizer._u_product)


def learning_rate_schedule(optimizer: keras.optimizers.Optimizer) -> Any:
    """The schedule of an optimizer's learning rate, `None` if it has none."""
    rate = optimizer._learning_rate
    is_schedule = isinstance(
        rate, keras.optimizers.schedules.LearningRateSchedule
    )
    return rate if is_schedule else None


def remove_variables(
    optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable]
) -> None:
    """Undoes `add_variable`."""
    added = {id(variable) for variable in variables}
    optimizer._variables = [
        own for own in optimizer._variables if id(own) not in added
    ]


# Around an update -------------------------------------------------------------

# The outermost first.
_around_updates: contextvars.ContextVar[tuple[AroundUpdate, ...]] = (
    contextvars.ContextVar("around_updates", default=())
)


class _UpdateStep:
    """The update step of one optimizer, with the functions around it."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    def __call__(
        self, grads: Any, trainable_variables: Any, learning_rate: Any
    ) -> None:
        def update() -> None:
            type(self.optimizer)._backend_update_step(
                self.optimizer, grads, trainable_variables, learning_rate
            )

        for around in reversed(_around_updates.get()):
            update = functools.partial(
                around, update, trainable_variables, learning_rate
            )
        update()


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


def forbid_around_updates(optimizer: keras.optimizers.Optimizer) -> None:
    """Undoes `allow_around_updates`."""
    if is_update_step_prepared(vars(optimizer).get("_backend_update_step")):
        del optimizer._backend_update_step


def is_update_step_prepared(value: Any) -> bool:
    """Tells whether `allow_around_updates` has set an attribute."""
    return isinstance(value, _UpdateStep)


@contextlib.contextmanager
def around_updates(function: AroundUpdate) -> Iterator[None]:
    """Has each update of a prepared optimizer made by `function`.

    It is called with the function of the plain update, the variables, and the
    learning rate. Scopes nest: the plain update of the outer one is the inner
    one's function. Only while the scope is open, and in this thread: on
    TensorFlow each replica has a thread of its own.
    """
    token = _around_updates.set((*_around_updates.get(), function))
    try:
        yield
    finally:
        _around_updates.reset(token)


# Of another optimizer ---------------------------------------------------------


class OfInnerOptimizer:
    """An attribute or method that an optimizer has from its `inner_optimizer`.

    Reading, calling and setting it reach the inner one. Values that Keras's
    constructor sets, before there is an inner one, are dropped.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, optimizer: Any, owner: type) -> Any | Self:
        if optimizer is None:
            return self
        return getattr(optimizer.inner_optimizer, self.name)

    def __set__(self, optimizer: Any, value: Any) -> None:
        if "inner_optimizer" in vars(optimizer):
            setattr(optimizer.inner_optimizer, self.name, value)


class SharesVariables:
    """Mixed into an optimizer that has the variables of the inner one.

    `keras.callbacks.SwapEMAWeights` and others of Keras look for them there.
    """

    _trainable_variables = OfInnerOptimizer()
    _trainable_variables_indices = OfInnerOptimizer()
    _model_variables_moving_average = OfInnerOptimizer()


def chain(optimizer: Any) -> list[Any]:
    """The optimizer and those that it wraps, the outermost first.

    Through Keras's `LossScaleOptimizer` as well.
    """
    found = [optimizer]
    while (inner := getattr(found[-1], "inner_optimizer", None)) is not None:
        found.append(inner)
    return found


def optimizers_of(optimizer: Any, variable: keras.Variable) -> list[Any]:
    """The optimizer, and those in it that update a variable.

    Through Keras's `MultiOptimizer` too, which has another for each variable.
    """
    found = chain(optimizer)
    if hasattr(found[-1], "optimizers"):
        found += chain(_part_of(found[-1], variable))
    return found


def _part_of(several: Any, variable: keras.Variable) -> Any:
    """The part of a `MultiOptimizer` that updates a variable.

    Its map is asked only before it is built: it may be a function that makes
    another optimizer at each call. `None` where that cannot be made, in Keras's
    symbolic build, which trains nothing.
    """
    indices = getattr(several, "_var_to_optimizer_idx", {})
    index = indices.get(variable_key(several, variable))
    if index is not None:
        return several.optimizers[index]
    try:
        return several._optimizer_map(variable)
    except ValueError:
        return None


def all_optimizers(optimizer: Any) -> list[Any]:
    """The optimizer and all in it, those of a `MultiOptimizer` too."""
    found = chain(optimizer)
    for part in getattr(found[-1], "optimizers", []):
        found += chain(part)
    return found


def replace_optimizers(
    model: keras.Model, replace: Callable[[Any], Any]
) -> bool:
    """Puts other optimizers in place of those that a model has.

    Those among its attributes, and the one that it is saved with. Returns
    whether any was replaced.

    Args:
        model: The model.
        replace: Function from an optimizer to the other, or to itself.
    """
    places = [vars(model)]
    if model.compiled:
        places.append(model._compile_config.config)
    changed = False
    for place in places:
        for name, value in list(place.items()):
            if not isinstance(value, keras.optimizers.Optimizer):
                continue
            new = replace(value)
            if new is not value:
                changed = True
                place[name] = new
    return changed


def replace_inner_optimizers(
    optimizer: Any, replace: Callable[[Any], Any]
) -> None:
    """Puts others in place of the optimizers in one of Keras's own.

    In a `LossScaleOptimizer`, or a `MultiOptimizer` that is made of a map.
    """
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        optimizer.inner_optimizer = replace(inner)
    if hasattr(optimizer, "optimizers"):
        parts = optimizer._inner_optimizers
        parts[:] = [replace(part) for part in parts]
        by_path = optimizer._optimizer_map
        if isinstance(by_path, keras.optimizers.OptimizerMap):
            by_path._default_optimizer = replace(by_path._default_optimizer)
            for pattern, part in by_path._optimizer_map.items():
                by_path._optimizer_map[pattern] = replace(part)


# The count of steps -----------------------------------------------------------


class Counter(NamedTuple):
    """The count of an optimizer's steps, without the optimizer.

    A reference to it keeps one number alive, and not all the slots.
    """

    variable: Any
    steps_per_update: int

    def now(self) -> Tensor:
        """The steps so far, in compiled code at the time when it runs."""
        # Not `convert_to_tensor`, which gives the variable on TensorFlow.
        counted = ops.cast(self.variable, self.variable.dtype)
        if self.steps_per_update > 1:
            counted = ops.floor_divide(counted, self.steps_per_update)
        return counted

    def number(self) -> int:
        """The steps so far, outside compiled code.

        By NumPy, since JAX would compile an operation of its own.
        """
        # Not `int()` of the variable, which fails on mirrored ones.
        counted = ops.convert_to_numpy(ops.convert_to_tensor(self.variable))
        return int(counted.item()) // self.steps_per_update


def counter(optimizer: Any) -> Counter:
    """The count that `optimizer.iterations` are computed of.

    With gradient accumulation they are no variable, but computed from one.
    """
    optimizer = chain(optimizer)[-1]
    steps = getattr(optimizer, "gradient_accumulation_steps", None)
    return Counter(optimizer._iterations, steps or 1)
