"""The step that schedules read: `optimizer.iterations` of the running model.

A regularizer knows no optimizer. The model that computes its penalty has one,
and is on the call stack (see `call_stack`). The step is that of the model's own
optimizer, `model.optimizer`, or the one that `set_step` has set; no other
optimizer is looked for.

- On TensorFlow and PyTorch the iterations are read by reference, in compiled
  code too: the variable is captured, not its value.
- On JAX a training step is handed the values of the optimizer's variables, and
  they are read there. An evaluation is not: compiled code calls back to the
  host, which takes about as long as an operation and is never out of date.

Only `set_step` leaves anything on the model.
"""

import contextlib
import contextvars
import weakref
from collections.abc import Callable, Iterator
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from l2keras._keras import layer_tree, optimizer_hooks, trainer_hooks
from l2keras._keras.backend import backend
from l2keras._keras.call_stack import Running, running_model
from l2keras._keras.optimizer_hooks import Counter
from l2keras._keras.tracked_state import State
from l2keras._types import Tensor
from l2keras.strengths.watch import Calls, Watch

# Reasons for which a step stands still.
_NO_OPTIMIZER = "no model that is at work has an optimizer of its own"
_NOT_HANDED = (
    "in a loop of your own on JAX the optimizer's values are in your hands "
    "alone"
)
_STANDS_STILL = (
    "gradients are taken again and again, while `model.optimizer.iterations` "
    "stands still"
)


class StepSetByHand(State):
    """A step that `set_step` puts into a model.

    It holds until the model's optimizer counts on. So there are two integers:
    the step, and the optimizer's iterations when it was set.
    """

    def __init__(self) -> None:
        super().__init__((0, 0), dtype="int", name="step")

    def held(self, counted: Tensor | None) -> Tensor:
        """The step while it holds, and else the iterations.

        Args:
            counted: The iterations; `None` if they are not known.
        """
        step, since = ops.unstack(ops.convert_to_tensor(self.state), 2)
        if counted is None:
            return step
        counted = ops.cast(counted, step.dtype)
        return ops.where(ops.equal(counted, since), step, counted)


class Clock(NamedTuple):
    """The place where the step of a model's training is counted.

    Attributes:
        counter: Where the optimizer counts, `None` if there is none.
        by_hand: The step of `set_step`, if it was called for the model.
    """

    counter: Counter | None
    by_hand: StepSetByHand | None

    def counted(self) -> int | None:
        """The optimizer's iterations, outside compiled code.

        `None` if they have no value: while Keras's JAX trainer runs, variables
        are empty.
        """
        if self.counter is None or not trainer_hooks.is_readable(
            self.counter.variable
        ):
            return None
        return self.counter.number()

    def number(self) -> int | None:
        """The step, outside compiled code; `None` if it has no value."""
        counted = self.counted()
        if self.by_hand is None or not trainer_hooks.is_readable(
            self.by_hand.state
        ):
            return counted
        step, since = self.by_hand.read()
        return int(step) if counted in (None, since) else counted


class Reading(NamedTuple):
    """A step, and the knowledge about it.

    Attributes:
        step: An integer tensor of shape `()`; `None` if it is not known.
        clock: The place where it was counted, to be read later.
        watch: Warns if the step stands still in training; `None` if it moves,
            and if no model is running.
        problem: The reason for which it would stand still.
        calls: The number of the optimizer's calls, by which the watch sees
            whether the step moves. `None` if it is known to stand still.
    """

    step: Tensor | None
    clock: Clock | None = None
    watch: Watch | None = None
    problem: str = ""
    calls: Calls | None = None


# By model, where it is not known whether the step moves. Not an attribute,
# which would be copied with a model.
_watches: weakref.WeakKeyDictionary[keras.Model, Watch] = (
    weakref.WeakKeyDictionary()
)

_given: contextvars.ContextVar[Callable[[], Tensor] | None] = (
    contextvars.ContextVar("given", default=None)
)


@contextlib.contextmanager
def given(step: Tensor) -> Iterator[None]:
    """A context in which all schedules read this step."""
    token = _given.set(lambda: ops.convert_to_tensor(step))
    try:
        yield
    finally:
        _given.reset(token)


@contextlib.contextmanager
def of(model: keras.Model) -> Iterator[None]:
    """A context in which all schedules read the step of a model."""
    clock = clock_of(model)
    number = None if clock is None else clock.number()
    if number is None:
        yield
        return
    with given(number):
        yield


def read() -> Reading:
    """The step at which a penalty is computed, if it is known."""
    step = _given.get()
    if step is not None:
        return Reading(step())
    return backend.call_uncompiled(_read_of_running_model)


def _read_of_running_model() -> Reading:
    running = running_model()
    if running is None:
        return Reading(None, problem=_NO_OPTIMIZER)
    model = running.model
    clock = clock_of(model)
    if clock is None:
        return Reading(None, watch=_watch_of(model), problem=_NO_OPTIMIZER)
    counter = clock.counter
    # In a custom loop on JAX the loop alone has the optimizer's values.
    counted = None if counter is None else _counted(running, counter)
    if clock.by_hand is not None:
        return Reading(clock.by_hand.held(counted), clock)
    assert counter is not None  # Or else there would be no clock.
    if counted is None:
        step = _counted_by_host(model, counter)
        return Reading(step, clock, _watch_of(model), _NOT_HANDED)
    if running.is_of_keras or isinstance(
        # Steps that it leaves out are not counted.
        model.optimizer,
        keras.optimizers.LossScaleOptimizer,
    ):
        return Reading(counted, clock)
    each_call = counter._replace(steps_per_update=1)
    data = keras.tree.flatten(running.given)
    calls = Calls(
        counter.variable,
        _counted(running, each_call),
        data[0] if running.step and ops.is_tensor(data[0]) else None,
    )
    return Reading(counted, clock, _watch_of(model), _STANDS_STILL, calls)


def _watch_of(model: keras.Model) -> Watch:
    return _watches.setdefault(model, Watch())


def clock_of(model: keras.Model) -> Clock | None:
    """The clock of a model's step, `None` if nothing counts it."""
    by_hand = set_by_hand(model)
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return None if by_hand is None else Clock(None, by_hand)
    return Clock(optimizer_hooks.counter(optimizer), by_hand)


def set_by_hand(model: keras.Model) -> StepSetByHand | None:
    """The step that `set_step` put into a model, `None` if it did not."""
    for state in layer_tree.tracked_states(model):
        if isinstance(state, StepSetByHand):
            return state
    return None


def _counted(running: Running, counter: Counter) -> Tensor | None:
    """The iterations of a model's optimizer when the code runs.

    `None` on JAX in code that is not Keras's, where they are not known.
    """
    if keras.backend.backend() != "jax":
        return counter.now()
    optimizer, state = running.model.optimizer, running.given
    if running.step == "train_step":
        if (
            not isinstance(state, tuple | list)
            or len(state) != 4
            or len(state[2]) != len(optimizer.variables)
        ):
            return None
        mapping = list(zip(optimizer.variables, state[2], strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return counter.now()
    if not backend.is_tracing():
        is_readable = trainer_hooks.is_readable(counter.variable)
        return counter.now() if is_readable else None
    return _counted_by_host(running.model, counter) if running.step else None


def _counted_by_host(model: keras.Model, counter: Counter) -> Tensor:
    """A model's iterations, for which compiled code calls back to the host.

    Of the optimizer that the model has then: it may be compiled anew with
    another, and JAX go on with what it compiled before.
    """
    weak = weakref.ref(model)

    def counted() -> np.ndarray:
        asked = weak()
        clock = None if asked is None else clock_of(asked)
        number = 0 if clock is None else clock.counted() or 0
        return np.asarray(number, counter.variable.dtype)

    return backend.host_callback(counted)
