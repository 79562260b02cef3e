"""Compiled functions of a model, which a change of regularizers outdates.

Compiled steps hold the regularizers of the time. So every change of these drops
the steps of the model that it was given, and of those inside it. Other models
may have the same layers, or the same regularizers. Models with steps that were
compiled with a strength of l2keras are known to that strength. All others are
looked for in memory.
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
    """The models that may hold the regularizers of a model.

    Itself, those inside it, and those that the strengths know of.
    """
    inside = [layer for _, layer in survey.layers]
    known = [model for term in terms(survey) for model in term.strength.models]
    return [m for m in [*inside, *known] if isinstance(m, keras.Model)]


def forget_compiled(models: Iterable[keras.Model]) -> None:
    """Drops the compiled functions of models. `fit` makes them again."""
    for model in {id(model): model for model in models}.values():
        training = model.train_function is not None
        drop_functions(model)
        if training:
            trainer_hooks.note_state(model)
            model.make_train_function(force=True)


def drop_functions(model: keras.Model) -> None:
    """Drops the compiled functions of one model."""
    model.train_function = model.test_function = None
    if keras.backend.backend() != "jax":
        return
    # JAX would find the compiled form of the same function again. So a step
    # that was set as an attribute of the model becomes another function.
    for name in ("train_step", "test_step"):
        step = vars(model).get(name)
        if step is not None:
            # A partial function of a partial function is no longer than one.
            setattr(model, name, functools.partial(step))


def clock_or_step(model: keras.Model) -> Clock | int | None:
    """The step of a model's schedules, for those that come after them."""
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
    """Has Keras track the regularizers' states, and compile anew.

    Args:
        survey: The survey of a model, after its regularizers were changed.
        holders: The models with compiled functions that hold the old ones.
        step: The step for its schedules; `None` leaves them at theirs.
    """
    if step is not None:
        for term in scheduled_terms(survey):
            term.strength.remember(step)
    track_states(survey)
    forget_compiled(holders)
