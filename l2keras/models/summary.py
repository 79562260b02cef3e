"""The summary of a model: a table of its penalties, and doubtful settings."""

import math
import shutil
from collections.abc import Callable, Iterable
from typing import Any

import keras

from l2keras import _tables
from l2keras._keras import layer_tree
from l2keras.models import regularized_layer
from l2keras.models.penalties import WeightPenalty, records_of, table_of
from l2keras.regularizers import describing
from l2keras.weights import kinds
from l2keras.weights.paths import Weight
from l2keras.weights.survey import Survey


def summary(
    model: keras.Model,
    line_length: int | None = None,
    print_fn: Callable[[str], Any] | None = None,
) -> None:
    """Prints a table of a model's penalties, and doubtful settings.

    The table has the kernels, and all other weights with a regularizer. In
    large models the layers that are alike, but for numbers in their names,
    share a row, with a regular expression for their paths. `penalties` returns
    the records of all weights.

    Below are totals, and settings that a careful reviewer would ask about:
    kernels without a penalty beside some that have one, penalties on biases or
    normalizations, a penalty and the optimizer's weight decay on the same
    weight, frozen weights, penalties that are not finite, and regularizers
    given to a layer after it was built, which Keras overlooks.

    Args:
        model: A built Keras model.
        line_length: Width in characters. Defaults to that of the terminal, or
            to 100 where there is none.
        print_fn: Function that is called with the whole text instead of
            printing it.

    Raises:
        TypeError: If `model` is not a Keras model.
        ValueError: If it is not built, or a regularizer cannot be computed.

    Example:

    >>> import keras, l2keras
    >>> dense = keras.layers.Dense(
    ...     1, name="hidden", kernel_initializer="ones",
    ...     kernel_regularizer=l2keras.L1(0.25),
    ... )
    >>> model = keras.Sequential([keras.Input((4,)), dense], name="small")
    >>> l2keras.summary(model, line_length=80)
    Regularization of "small"
    <BLANKLINE>
     Weight          Shape    Regularizer   Strength   Penalty    Share
     ──────────────────────────────────────────────────────────────────
     hidden/kernel   (4, 1)   L1(l1=0.25)       0.25         1   100.0%
    <BLANKLINE>
    Penalties: 1, on 1 of 2 weights (4 of 5 parameters)
    """
    survey = Survey.of(model)
    records = records_of(survey)
    shown = [
        record
        for weight, record in zip(survey.weights, records, strict=True)
        if record.regularizer is not None or kinds.is_kernel(weight)
    ]
    width = line_length or shutil.get_terminal_size((100, 24)).columns
    console = _tables.console(width)
    with console.capture() as captured:
        console.print(f'Regularization of "{model.name}"')
        console.print(table_of(shown, width))
        for line in _totals(records):
            console.print(line)
        for finding in _findings(survey, records):
            console.print(f"- {finding}")
    (print_fn or print)(_tables.text(captured.get()))


def _totals(records: list[WeightPenalty]) -> list[str]:
    penalized = [
        r for r in records if r.regularizer is not None and r.trainable
    ]
    parameters = sum(record.parameters for record in penalized)
    of_all = sum(record.parameters for record in records)
    lines = [
        f"Penalties: {sum(record.penalty for record in penalized):.6g}, on "
        f"{len(penalized)} of {len(records)} weights ({parameters:,} of "
        f"{of_all:,} parameters)"
    ]
    decayed = sum(record.weight_decay > 0 for record in records)
    if decayed:
        lines.append(f"Weight decay of the optimizer: on {decayed} weights")
    return lines


def _findings(survey: Survey, records: list[WeightPenalty]) -> Iterable[str]:
    """Yields the settings that a careful reviewer would ask about."""
    pairs = list(zip(survey.weights, records, strict=True))
    # Weights with regularizers that their layers' arguments do not hold.
    saved_by_class = {
        id(weight.variable)
        for _, layer in survey.layers
        if regularized_layer.saves_by_class(layer)
        for weight in Survey(layer).weights
    }
    kernels = [
        (weight, record) for weight, record in pairs if kinds.is_kernel(weight)
    ]
    if any(record.regularizer is not None for _, record in kernels):
        yield from _about(
            "No penalty, unlike other kernels",
            [r for _, r in kernels if r.regularizer is None and r.trainable],
        )
    regularized = [
        (weight, record)
        for weight, record in pairs
        if record.regularizer is not None
    ]
    yield from _about(
        "A penalty on a bias",
        [record for weight, record in regularized if kinds.is_bias(weight)],
    )
    yield from _about(
        "A penalty on a scale or an offset of a normalization",
        [r for weight, r in regularized if kinds.is_normalization(weight)],
    )
    yield from _about(
        "A penalty, and the optimizer's weight decay as well",
        [r for _, r in regularized if r.weight_decay and r.trainable],
    )
    yield from _about(
        "Frozen, and so without a penalty",
        [record for _, record in regularized if not record.trainable],
    )
    yield from _about(
        "The penalty is not finite",
        [record for record in records if not math.isfinite(record.penalty)],
    )
    yield from _about(
        "The layer was given another regularizer after it was built, which "
        "has no effect until the model is saved and loaded (see "
        "`l2keras.apply_regularizers`)",
        [
            r
            for weight, r in pairs
            if _was_given_in_vain(weight, saved_by_class)
        ],
    )


def _about(problem: str, records: list[WeightPenalty]) -> Iterable[str]:
    if records:
        paths = [record.path for record in records]
        more = f" and {len(paths) - 5} more" if len(paths) > 6 else ""
        listed = ", ".join(paths[:5] if more else paths)
        yield f"{problem}: {listed}{more}"


def _was_given_in_vain(weight: Weight, saved_by_class: set[int]) -> bool:
    name = kinds.argument(weight) if weight.is_trained else None
    if (
        name is None
        or not layer_tree.is_of_keras(weight.layer)
        or id(weight.variable) in saved_by_class
    ):
        return False
    return not describing.same(
        getattr(weight.layer, name), weight.variable.regularizer
    )
