"""What a model needs after its regularizers were changed."""

from collections.abc import Iterable

import keras

from l2keras.models.compiled import forget_compiled
from l2keras.models.terms import carry_states, scheduled_terms
from l2keras.strengths import step as steps
from l2keras.strengths.step import Clock
from l2keras.weights.survey import Survey


def steps_of_schedules(model: keras.Model) -> Clock | int | None:
    """Returns where a model's schedules are, for those that come after them."""
    clock = steps.clock_of(model)
    if clock is not None:
        return clock
    before = scheduled_terms(Survey(model))
    return before[0].strength.step if before else None


def update_states(
    survey: Survey,
    changed: Iterable[keras.layers.Layer | keras.Variable],
    step: Clock | int | None = None,
) -> None:
    """Has Keras carry what the regularizers need, and compile anew.

    Args:
        survey: Of a model whose regularizers were changed.
        changed: The weights whose regularizer was changed, and the layers
            whose activities' was.
        step: Where its schedules are; `None` leaves them where they are.
    """
    if step is not None:
        for term in scheduled_terms(survey):
            term.strength.remember(step)
    carry_states(survey)
    forget_compiled(changed)
