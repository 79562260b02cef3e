"""The penalty of each weight of a model, in records."""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import rich.table

if TYPE_CHECKING:
    import pandas

from l2keras import _tables
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


class Penalties(list[WeightPenalty]):
    """Records of weights, in a list that shows itself as a table.

    Of many weights those that are alike share a row, see `l2keras.summary`.
    """

    def __repr__(self) -> str:
        console = _tables.console(80)
        with console.capture() as captured:
            console.print(table_of(self, 80))
        return _tables.text(captured.get())

    def _repr_html_(self) -> str:
        return _tables.html_table(_COLUMNS, _rows(self))

    def to_frame(self) -> "pandas.DataFrame":
        """A data frame with a row for each weight, and its attributes.

        Raises:
            ImportError: If pandas is not installed.
        """
        return _tables.frame([vars(record) for record in self])


def penalties(model: keras.Model) -> Penalties:
    """The penalty of each weight of a model, in the order of its layers.

    Args:
        model: A built Keras model.

    Returns:
        List of `WeightPenalty`. It shows itself as a table, in notebooks too,
        and its `to_frame()` is a data frame of pandas.

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


def records_of(survey: Survey) -> Penalties:
    """The records of a surveyed model, at its step."""
    with steps.of(survey.layer):
        return _records_at_step(survey)


def _records_at_step(survey: Survey) -> Penalties:
    values = [_penalty(weight) for weight in survey.weights]
    total = sum(values)
    return Penalties(
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
    )


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


# Tables -----------------------------------------------------------------------

_COLUMNS = (
    "Weight",
    "Shape",
    "Regularizer",
    "Strength",
    "Penalty",
    "Share",
    "Decay",
)
# In tables with more rows than these, weights that are alike share one.
_MOST_ROWS = 20


def table_of(records: Sequence[WeightPenalty], width: int) -> rich.table.Table:
    """A table of records that is at most so wide."""
    # Constant strengths are shown with their regularizers as well.
    is_shown = all(
        not record.schedules and getattr(record.regularizer, "scale", 1.0) == 1
        for record in records
    )
    return _tables.of_paths(
        _COLUMNS,
        _rows(records),
        width,
        wrapped=["Regularizer"],
        dispensable=["Strength" if is_shown else "", "Share", "Shape"],
    )


def _rows(records: Sequence[WeightPenalty]) -> list[list[str]]:
    groups: dict[Any, list[WeightPenalty]] = {}
    for record in records:
        alike = (
            _pattern(record.path),
            _described(record),
            tuple(record.strengths.items()),
            record.trainable,
            record.weight_decay,
        )
        key = alike if len(records) > _MOST_ROWS else record.path
        groups.setdefault(key, []).append(record)
    return [_row(group) for group in groups.values()]


def _row(group: list[WeightPenalty]) -> list[str]:
    record, number = group[0], len(group)
    if number == 1:
        path, shape = record.path, str(record.shape)
    else:
        path, shape = _pattern(record.path), f"{number} weights"
    penalty = sum(record.penalty for record in group)
    return [
        path,
        shape,
        "-" if record.regularizer is None else _described(record),
        "\n".join(f"{value:.4g}" for value in record.strengths.values()),
        _shown_penalty(record, penalty),
        f"{sum(record.share for record in group):.1%}" if penalty else "",
        f"{record.weight_decay:.4g}" if record.weight_decay else "",
    ]


def _pattern(path: str) -> str:
    """A regular expression for a path and those with other numbers."""
    return r"\d+".join(map(re.escape, re.split(r"\d+", path)))


def _described(record: WeightPenalty) -> str:
    """The regularizer in short, with its schedules' names only."""
    text = describing.describe(record.regularizer)
    for schedule in record.schedules.values():
        name = getattr(schedule, "__name__", type(schedule).__name__)
        text = text.replace(repr(schedule), name)
    return text


def _shown_penalty(record: WeightPenalty, penalty: float) -> str:
    if record.regularizer is None:
        return ""
    return f"{penalty:.4g}" if record.trainable else "frozen"
