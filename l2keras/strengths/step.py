"""The step that schedules read: `optimizer.iterations`, with nothing to do.

A regularizer knows no optimizer. The model that asks for its penalty has one,
and is on the call stack (see `running`):

- On TensorFlow and PyTorch the iterations are read by reference, in compiled
  code too: the variable is captured, not its value.
- On JAX a training step is handed the values of the optimizer's variables, and
  they are read there. An evaluation is not: compiled code asks the host, which
  costs about as long as an operation, and is right whatever was compiled when.

Nothing is left on the model, but by `set_step`.
"""

import contextlib
import contextvars
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from l2keras._keras import (
    backends,
    layer_tree,
    optimizer_hooks,
    trainer_hooks,
)
from l2keras._keras.call_stack import Running, running_model
from l2keras._keras.carried_state import State
from l2keras._keras.optimizer_hooks import Counter
from l2keras._types import Tensor


class StepSetByHand(State):
    """What `set_step` puts into a model: a step, and since when it holds.

    It holds until the model's optimizer counts on: two integers, the step and
    the optimizer's iterations when it was set.
    """

    def __init__(self) -> None:
        super().__init__((0, 0), dtype="int", name="step")


class Clock(NamedTuple):
    """Where the step of a model's training is counted.

    Attributes:
        counter: Where the optimizer counts, `None` if there is none.
        by_hand: What `set_step` set, if it was called for the model.
    """

    counter: Counter | None
    by_hand: StepSetByHand | None

    def counted(self) -> int | None:
        """Returns the optimizer's iterations outside compiled code.

        `None` if they have no value: while Keras's JAX trainer runs, variables
        are empty.
        """
        if self.counter is None or not trainer_hooks.is_readable(
            self.counter.variable
        ):
            return None
        return self.counter.number()

    def number(self) -> int | None:
        """Returns the step outside compiled code, `None` if it has no value."""
        counted = self.counted()
        if self.by_hand is None or not trainer_hooks.is_readable(
            self.by_hand.state
        ):
            return counted
        step, since = self.by_hand.read()
        return int(step) if counted in (None, since) else counted


class Reading(NamedTuple):
    """A step, and what is known of it.

    Attributes:
        step: A float32 tensor of shape `()`, as schedules take it.
        clock: Where it was counted, to be looked at later.
        problem: Why nothing would move it on if a penalty that reads it were
            trained; empty if something does.
        is_doubtful: Whether that is only a guess, which the next step will
            confirm.
    """

    step: Tensor
    clock: Clock | None = None
    problem: str = ""
    is_doubtful: bool = False


# Optimizers that were not built yet when a function was traced.
_awaited: weakref.WeakSet[keras.optimizers.Optimizer] = weakref.WeakSet()

_given: contextvars.ContextVar[Callable[[], Tensor] | None] = (
    contextvars.ContextVar("given", default=None)
)


@contextlib.contextmanager
def given(step: Tensor) -> Iterator[None]:
    """Has every schedule read this step inside, whoever asks."""
    token = _given.set(lambda: ops.cast(step, "float32"))
    try:
        yield
    finally:
        _given.reset(token)


@contextlib.contextmanager
def of(model: keras.Model) -> Iterator[None]:
    """Has every schedule read the step of a model inside, outside its steps."""
    clock = clock_of(model)
    number = None if clock is None else clock.number()
    if number is None:
        yield
        return
    with given(number):
        yield


def read(weights: Any) -> Reading | None:
    """Returns the step at which a penalty on some weights is asked for.

    `None` if nobody knows it: no model is at work, or it has no optimizer and
    `set_step` was not called for it.

    Args:
        weights: What the regularizer was called with: a variable, or its value.
    """
    step = _given.get()
    if step is not None:
        return Reading(step())
    return backends.call_uncompiled(_read_of_running_model, weights)


def _read_of_running_model(weights: Any) -> Reading | None:
    running = running_model()
    if running is None:
        return None
    model = running.model
    by_hand = set_by_hand(model)
    optimizer, problem = optimizer_of(model, weights)
    if optimizer is None:
        if by_hand is None:
            return None
        step = ops.convert_to_tensor(by_hand.state)[0]
        return Reading(ops.cast(step, "float32"), Clock(None, by_hand))
    counter = optimizer_hooks.counter(optimizer)
    clock = Clock(counter, by_hand)
    own = getattr(model, "optimizer", None)
    if keras.backend.backend() == "jax":
        counted = _counted_on_jax(running, optimizer, counter)
        if counted is None:
            # A loop of one's own, which has the optimizer's values.
            if by_hand is not None:
                step = ops.convert_to_tensor(by_hand.state)[0]
                return Reading(ops.cast(step, "float32"), clock)
            counted = _counted_by_host(model, counter)
            problem = (
                "in a loop of your own on JAX the optimizer's values are in "
                "your hands alone"
            )
        elif optimizer is not own:
            problem = (
                "the model has several optimizers, and JAX hands Keras the "
                "values of one alone"
            )
    else:
        counted = counter.now()
    if by_hand is not None:
        step, since = ops.unstack(ops.convert_to_tensor(by_hand.state), 2)
        # It is noted of the model's own optimizer, whichever trains.
        counts = (
            counted
            if optimizer is own or own is None
            else (optimizer_hooks.counter(own).now())
        )
        counted = ops.where(ops.equal(counts, since), step, counted)
        problem = ""
    elif not problem and not running.step and not optimizer.built:
        problem = (
            "`model.optimizer` is not built, so it does not seem to be the one "
            "that trains (if it is, call "
            "`model.optimizer.build(model.trainable_variables)` first)"
        )
    return Reading(
        ops.cast(counted, "float32"),
        clock,
        problem,
        # The first step of a loop may build the optimizer, and be over then.
        is_doubtful=not backends.is_tracing(),
    )


def clock_of(model: keras.Model) -> Clock | None:
    """Returns where a model's step is counted, `None` if nowhere."""
    by_hand = set_by_hand(model)
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return None if by_hand is None else Clock(None, by_hand)
    return Clock(optimizer_hooks.counter(optimizer), by_hand)


def set_by_hand(model: keras.Model) -> StepSetByHand | None:
    """Returns what `set_step` put into a model, `None` if it was not called."""
    for state in layer_tree.carried(model):
        if isinstance(state, StepSetByHand):
            return state
    return None


def optimizer_of(model: keras.Model, weights: Any) -> tuple[Any, str]:
    """Returns the optimizer that trains some weights of a model.

    That is the model's own, or another of its attributes if it is that which
    was built for them, as in a GAN. Keras builds the model's own for all
    weights, so that of the fewest goes first. With it comes why it may be
    another, empty if it is known.
    """
    own = getattr(model, "optimizer", None)
    if type(model).train_step is keras.Model.train_step:
        return own, ""
    others = [
        each
        for each in list(vars(model).values())
        if isinstance(each, keras.optimizers.Optimizer) and each is not own
    ]
    if not others:
        return own, ""
    if not isinstance(weights, keras.Variable):
        return own, (
            "the model has several optimizers, and from the outputs of a layer "
            "nobody can tell which of them is at work"
        )
    fitting = [
        each
        for each in ([] if own is None else [own]) + others
        if optimizer_hooks.is_built_for(each, weights)
    ]
    found = min(fitting, key=optimizer_hooks.number_of_weights, default=own)
    # Compiled code keeps what is found when it is traced. Where all were built
    # by a first trace, those that were not are not at work.
    new = [each for each in others if not each.built and each not in _awaited]
    if found is own and new and backends.is_tracing():
        _awaited.update(new)
        if keras.backend.backend() == "jax" or not backends.trace_again():
            return found, (
                "the model has several optimizers, and one of them is not "
                "built yet, so that nobody knows its weights (call "
                "`optimizer.build(weights)` before training)"
            )
    return found, ""


def _counted_on_jax(
    running: Running, optimizer: Any, counter: Counter
) -> Tensor | None:
    """Returns an optimizer's iterations as they are when the code runs.

    `None` where the code is not Keras's, so that nobody knows.
    """
    model, state = running.model, running.state
    if (
        running.step == "train_step"
        and optimizer is model.optimizer
        and isinstance(state, tuple | list)
        and len(state) == 4
        and len(state[2]) == len(optimizer.variables)
    ):
        mapping = list(zip(optimizer.variables, state[2], strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return counter.now()
    if not backends.is_tracing():
        return counter.now()
    return _counted_by_host(model, counter) if running.step else None


def _counted_by_host(model: keras.Model, counter: Counter) -> Tensor:
    """Returns a model's iterations, which compiled code asks the host for.

    Of the optimizer that the model has then: it may be compiled anew with
    another, and JAX go on with what it compiled before.
    """
    weak = weakref.ref(model)

    def counted() -> np.ndarray:
        asked = weak()
        clock = None if asked is None else clock_of(asked)
        number = 0 if clock is None else clock.counted() or 0
        return np.asarray(number, counter.variable.dtype)

    return backends.ask_host(counted)
