"""The penalty of each weight of a model, in records."""

import dataclasses
import math
from typing import Any

import keras

from l2keras._keras import optimizer_hooks
from l2keras._types import Schedule
from l2keras.models.decay import decay_strengths
from l2keras.regularizers import describing
from l2keras.regularizers.base import Regularizer, strengths_of
from l2keras.strengths import step as steps
from l2keras.weights.paths import Weight
from l2keras.weights.survey import Survey


@dataclasses.dataclass(frozen=True)
class WeightPenalty:
    """The penalty of one weight, and its regularizer.

    Attributes:
        path: Its path in the model, without the model's own name.
        shape: Its shape.
        parameters: The number of its elements.
        trainable: Whether it is trained now. If not, it has no penalty.
        regularizer: Its regularizer, or `None`.
        strengths: The strength times scale of each term of the regularizer at
            the current step, by the name of the term's class: `{"L2": 0.01}`.
            Empty for regularizers that have no strength known to l2keras.
        schedules: Those of the strengths that are schedules, by the same names.
        penalty: Its part of the loss now, 0.0 if it has none.
        share: `penalty` as a fraction of that of all weights, 0.0 if that is 0.
        weight_decay: The optimizer's weight decay on it now, as in
            `w -= learning_rate * weight_decay * w`, or without the learning
            rate if it is not coupled to it. 0.0 if there is none, or no
            optimizer.

    Example:

    >>> import keras, l2keras
    >>> dense = keras.layers.Dense(
    ...     1, kernel_initializer="ones", kernel_regularizer=l2keras.L2(0.5)
    ... )
    >>> model = keras.Sequential([keras.Input((4,)), dense])
    >>> kernel, bias = l2keras.penalties(model)
    >>> kernel.penalty, kernel.share, kernel.strengths
    (2.0, 1.0, {'L2': 0.5})
    """

    path: str
    shape: tuple[int, ...]
    parameters: int
    trainable: bool
    regularizer: Any
    strengths: dict[str, float]
    schedules: dict[str, Schedule]
    penalty: float
    share: float
    weight_decay: float


def penalties(model: keras.Model) -> list[WeightPenalty]:
    """The penalty of each weight of a model, in the order of its layers.

    Args:
        model: A built Keras model.

    Raises:
        TypeError: If `model` is not a Keras model.
        ValueError: If it is not built, or a regularizer cannot be computed.

    Example:

    >>> import keras, l2keras
    >>> dense = keras.layers.Dense(
    ...     1, name="hidden", kernel_initializer="ones",
    ...     kernel_regularizer=l2keras.L1(0.25),
    ... )
    >>> model = keras.Sequential([keras.Input((4,)), dense])
    >>> [(weight.path, weight.penalty) for weight in l2keras.penalties(model)]
    [('hidden/kernel', 1.0), ('hidden/bias', 0.0)]
    """
    return records_of(Survey.of(model))


def records_of(survey: Survey) -> list[WeightPenalty]:
    with steps.of(survey.layer):
        return _records_at_step(survey)


def _records_at_step(survey: Survey) -> list[WeightPenalty]:
    values = [_penalty(weight) for weight in survey.weights]
    total = sum(values)
    return [
        WeightPenalty(
            path=path,
            shape=tuple(variable.shape),
            parameters=math.prod(variable.shape),
            trainable=variable.trainable,
            regularizer=variable.regularizer,
            strengths=_strengths(variable.regularizer),
            schedules=_schedules(variable.regularizer),
            penalty=penalty,
            share=penalty / total if total else 0.0,
            weight_decay=decay,
        )
        for (path, variable, _), penalty, decay in zip(
            survey.weights, values, _decays(survey), strict=True
        )
    ]


def _decays(survey: Survey) -> list[float]:
    """The optimizer's weight decay on each weight."""
    strengths = decay_strengths(survey.layer)
    return [
        strengths.get(
            weight.path,
            optimizer_hooks.weight_decay(survey.layer, weight.variable),
        )
        if weight.variable.trainable
        else 0.0
        for weight in survey.weights
    ]


def _penalty(weight: Weight) -> float:
    variable = weight.variable
    regularizer = variable.regularizer
    if regularizer is None or not variable.trainable:
        return 0.0
    try:
        # The sum, since Keras adds up a tensor of any shape.
        return float(keras.ops.convert_to_numpy(regularizer(variable)).sum())
    except Exception as error:
        raise describing.cannot_compute(
            regularizer, weight.path, variable.shape, error
        ) from error


def _strengths(regularizer: Any) -> dict[str, float]:
    if isinstance(regularizer, Regularizer):
        return {
            name: strength.number()
            for name, strength in strengths_of(regularizer).items()
        }
    parts = describing.constant_parts(regularizer)
    if parts is None:
        return {}
    config = regularizer.get_config()
    return {
        name: value
        for name, value in zip(("L1", "L2"), parts, strict=True)
        if name.lower() in config
    }


def _schedules(regularizer: Any) -> dict[str, Schedule]:
    return {
        name: strength.value
        for name, strength in strengths_of(regularizer).items()
        if strength.is_scheduled
    }
