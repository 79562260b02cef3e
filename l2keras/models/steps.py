"""The step of a model's schedules, set by hand."""

import keras

from l2keras import _validation
from l2keras._keras import backends, layer_tree
from l2keras.models.compiled import forget_compiled
from l2keras.models.terms import scheduled_terms
from l2keras.strengths import step as steps
from l2keras.strengths.strength import Strength
from l2keras.weights.survey import Survey


def set_step(model: keras.Model, step: int) -> None:
    """Puts every schedule of a model at a step of the optimizer.

    For training loops of your own whose optimizer is not the one that the model
    is compiled with, and for all of them on JAX: call it before each step.
    Elsewhere there is nothing to do: schedules read
    `model.optimizer.iterations` by themselves. Models whose strengths are
    constant are left as they are.

    The step holds until `model.optimizer` counts on, if the model has one. It
    is saved with the model's regularizers.

    On JAX the step is one of `model.non_trainable_variables` from the first
    call: in a loop of your own, read their values after the call, and pass them
    to the compiled step.

    Args:
        model: A built Keras model.
        step: Integer >= 0, or `optimizer.iterations`.

    Raises:
        TypeError: If `model` is not a Keras model, or `step` not a number.
        ValueError: If `model` is not built, or `step` is negative.

    Example:

    >>> import keras, l2keras
    >>> ramp = l2keras.LinearSchedule(0.0, 1.0, steps=10)
    >>> dense = keras.layers.Dense(
    ...     1, kernel_initializer="ones", kernel_regularizer=l2keras.L2(ramp)
    ... )
    >>> model = keras.Sequential([keras.Input((4,)), dense])
    >>> l2keras.set_step(model, 5)
    >>> float(sum(model.losses))
    2.0
    """
    step = _validation.check_integer(step, "step", minimum=0)
    survey = Survey.of(model)
    terms = scheduled_terms(survey)
    if not terms:
        return
    by_hand = steps.set_by_hand(model)
    if by_hand is None:
        with backends.variable_scope(model):
            by_hand = steps.StepSetByHand()
        # In those inside too, whose losses may be asked for alone.
        carriers = [
            layer
            for _, layer in survey.layers
            if layer is model
            or (
                isinstance(layer, keras.Model)
                and getattr(layer, "optimizer", None) is None
            )
        ]
        for layer in carriers:
            layer_tree.carry(layer, by_hand)
        forget_compiled(carriers)
    clock = steps.clock_of(model)
    assert clock is not None  # Since a step was set.
    by_hand.write((step, clock.counted() or 0))
    for term in terms:
        term.strength.remember(clock)
    # The cure is known now, so its absence deserves a word again.
    Strength.warned = False
