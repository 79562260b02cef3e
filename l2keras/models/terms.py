"""The terms of a whole model's regularizers, and the states that they need."""

from typing import Any, NamedTuple

import keras

from l2keras._keras import layer_tree
from l2keras.regularizers.base import Regularizer, terms_of
from l2keras.regularizers.from_start import FromStart, StartValues
from l2keras.regularizers.terms import Term
from l2keras.strengths.strength import Scale
from l2keras.weights.survey import Survey


class Placed(NamedTuple):
    """A regularizer, and the layer whose weights or outputs it penalizes."""

    layer: keras.layers.Layer
    regularizer: Any


def placed_regularizers(
    survey: Survey, *, only_penalized: bool = False
) -> list[Placed]:
    """The regularizers of a model's weights and of its activities.

    Args:
        survey: The survey of the model.
        only_penalized: Whether to leave out those of frozen weights.
    """
    of_weights = [
        Placed(weight.layer, weight.variable.regularizer)
        for weight in (
            survey.penalized if only_penalized else survey.regularized
        )
    ]
    of_activities = [
        Placed(layer, layer.activity_regularizer)
        for _, layer in survey.layers
        if getattr(layer, "activity_regularizer", None) is not None
    ]
    return of_weights + of_activities


def terms(survey: Survey) -> list[Term]:
    """All terms of a model's regularizers."""
    return [
        term
        for placed in placed_regularizers(survey)
        for term in terms_of(placed.regularizer)
    ]


def scheduled_terms(survey: Survey) -> list[Term]:
    """The terms with a schedule for a strength."""
    return [term for term in terms(survey) if term.strength.is_scheduled]


def starts_in(regularizer: Any) -> list[FromStart]:
    """The `FromStart` in a regularizer whose starts are the weight's own."""
    found = {id(term.start): term.start for term in terms_of(regularizer)}
    return [
        start
        for start in found.values()
        if start is not None and start.follows_weight
    ]


def track_states(survey: Survey) -> bool:
    """Has Keras track the states that terms need, and no others of ours.

    Those are the states of strengths, and of starts.

    Returns whether any was untracked before, so that compiled functions are
    out of date.
    """
    needed: dict[int, dict[int, Any]] = {}
    for layer, regularizer in placed_regularizers(survey):
        if isinstance(regularizer, Regularizer):
            states = needed.setdefault(id(layer), {})
            for term in regularizer.terms:
                of_start = [] if term.start is None else term.start.states
                for state in [*term.strength.states, *of_start]:
                    states[id(state)] = state
    changed = False
    for _, layer in survey.layers:
        states = needed.get(id(layer), {})
        for state in layer_tree.tracked_states(layer):
            if (
                isinstance(state, Scale | StartValues)
                and id(state) not in states
            ):
                layer_tree.untrack(layer, state)
        for state in states.values():
            changed |= layer_tree.track(layer, state)
    return changed
