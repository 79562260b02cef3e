"""The values of strengths while an optimizer updates the weights.

The optimizer knows the step. But scales, and a step that was set by hand, are
states that a model carries, and on JAX an update is handed the values of the
optimizer's variables and of the weights alone.
"""

import contextlib
from collections.abc import Iterator, Sequence

import keras
import numpy as np
from keras import ops

from l2keras._keras import pure_updates
from l2keras._keras.backend import backend
from l2keras._keras.call_stack import running_model
from l2keras._keras.tracked_state import State
from l2keras._types import Tensor
from l2keras.strengths import step as steps
from l2keras.strengths.strength import Strength


def strengths_at_update(
    model: keras.Model | None, counted: Tensor, strengths: Sequence[Strength]
) -> list[Tensor | float]:
    """The values of strengths in an update, the same as in the penalties.

    Args:
        model: The model that is trained, `None` if it is gone.
        counted: The optimizer's iterations before the update.
        strengths: The strengths.
    """
    by_hand = None if model is None else steps.set_by_hand(model)
    states: list[State] = [] if by_hand is None else [by_hand]
    states += [state for strength in strengths for state in strength.states]
    # Read here: inside, variables of the optimizer have no values on JAX.
    step = ops.convert_to_tensor(counted)
    with readable(states):
        if by_hand is not None:
            step = by_hand.held(step)
        return [strength.at(step) for strength in strengths]


@contextlib.contextmanager
def readable(states: list[State]) -> Iterator[None]:
    """A context in which states have values, in compiled code too."""
    if not states or keras.backend.backend() != "jax" or pure_updates.is_pure():
        yield  # They are read by reference, or have values already.
        return
    running = running_model()
    if (
        running is not None
        and running.step == "train_step"
        and isinstance(running.given, tuple | list)
        and len(running.given) == 4
    ):
        mapping = list(
            zip(
                running.model.non_trainable_variables,
                running.given[1],
                strict=True,
            )
        )
    elif backend.is_tracing():
        mapping = [(state.state, _value_on_host(state)) for state in states]
    else:
        yield
        return
    with keras.StatelessScope(state_mapping=mapping):
        yield


def _value_on_host(state: State) -> Tensor:
    dtype = state.state.dtype
    return backend.host_callback(lambda: np.asarray(state.read(), dtype))
