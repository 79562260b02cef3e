"""What Keras compiled for a model, when it no longer holds.

Compiled steps hold the regularizers that there were. So whatever changes them
has to drop the steps, of the model that it was given and of those inside it.
Others may have the same layers, or the same regularizers. Those whose steps
were compiled with a strength of l2keras are known to that strength. Others,
with whose weights nothing of l2keras had to do yet, are looked for in memory.
"""

import functools
from collections.abc import Iterable

import keras

from l2keras._keras import trainer_hooks
from l2keras.models.terms import scheduled_terms, terms, track_states
from l2keras.strengths import step as steps
from l2keras.strengths.step import Clock
from l2keras.weights.survey import Survey


def compiled_with(survey: Survey) -> list[keras.Model]:
    """Returns the models that may hold the regularizers of a model.

    Itself, those inside it, and those that the strengths know of.
    """
    inside = [layer for _, layer in survey.layers]
    known = [model for term in terms(survey) for model in term.strength.models]
    return [each for each in [*inside, *known] if isinstance(each, keras.Model)]


def forget_compiled(models: Iterable[keras.Model]) -> None:
    """Drops what was compiled of models. Within `fit`, it is made again."""
    for model in {id(each): each for each in models}.values():
        training = model.train_function is not None
        drop_functions(model)
        if training:
            trainer_hooks.note_state(model)
            model.make_train_function(force=True)


def drop_functions(model: keras.Model) -> None:
    """Drops what was compiled of one model."""
    model.train_function = model.test_function = None
    if keras.backend.backend() != "jax":
        return
    # Of the same function JAX would find what it compiled before. So a step
    # that somebody put on the model becomes a function of its own.
    for name in ("train_step", "test_step"):
        step = vars(model).get(name)
        if step is not None:
            # Of a partial function it is as long as before.
            setattr(model, name, functools.partial(step))


def clock_or_step(model: keras.Model) -> Clock | int | None:
    """Returns where a model's schedules are, for those that come after them."""
    clock = steps.clock_of(model)
    if clock is not None:
        return clock
    before = scheduled_terms(Survey(model))
    return before[0].strength.step if before else None


def update(
    survey: Survey,
    holders: Iterable[keras.Model],
    step: Clock | int | None = None,
) -> None:
    """Has Keras carry what the regularizers need, and compile anew.

    Args:
        survey: Of a model whose regularizers were changed.
        holders: The models whose compiled functions hold the old ones.
        step: Where its schedules are; `None` leaves them where they are.
    """
    if step is not None:
        for term in scheduled_terms(survey):
            term.strength.remember(step)
    track_states(survey)
    forget_compiled(holders)
