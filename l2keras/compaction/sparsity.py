"""The sparsity of a model: zeros, groups that are off, and savings."""

import math
import shutil
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from l2keras import _tables, _validation
from l2keras.compaction.compact import compacted
from l2keras.compaction.report import CompactionReport, remarks, saved
from l2keras.regularizers.base import terms_of
from l2keras.regularizers.grouped import GroupLasso, GroupMCP
from l2keras.weights import kinds
from l2keras.weights.paths import Weight
from l2keras.weights.survey import Survey


def sparsity(
    model: keras.Model,
    threshold: float = 0.0,
    line_length: int | None = None,
    print_fn: Callable[[str], Any] | None = None,
) -> None:
    """Prints a table of the zeros in a model, and the savings by `compact`.

    The table has the kernels, the embeddings, and all other weights with a
    regularizer: the share of zeros; the number of groups that are off, all
    zero; and the shape that `compact` would leave. Groups are those of the
    weight's `GroupLasso`, if it has one, and else its units or filters: the
    indices of its last axis, or of the last two where a convolution has filters
    for each channel. Below are totals, and the layers that `compact` would
    skip, with the reasons.

    Zeros alone make no model of Keras smaller or faster. Groups that are off
    do, once `compact` has taken them away.

    Args:
        model: A built Keras model. If `compact` refuses it, the savings are not
            known.
        threshold: Finite number >= 0. Weights of at most this size count as
            zero. Defaults to `0.0`.
        line_length: Width in characters. Defaults to that of the terminal, or
            to 100 where there is none.
        print_fn: Function that is called with the whole text instead of
            printing it.

    Raises:
        TypeError: If `model` is not a Keras model, or `threshold` no number.
        ValueError: If it is not built, or `threshold` is negative or not
            finite.

    Example:

    >>> import keras, l2keras
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, name="hidden"),
    ...     keras.layers.Dense(3, name="output"),
    ... ], name="small")
    >>> kernel, bias = model.layers[0].get_weights()
    >>> kernel[:, :5] = 0.0
    >>> model.layers[0].set_weights([kernel, bias])
    >>> l2keras.sparsity(model, line_length=80)
    Sparsity of "small"
    <BLANKLINE>
     Weight          Shape    Zeros      Off   Compacted
     ───────────────────────────────────────────────────
     hidden/kernel   (4, 8)   62.5%   5 of 8      (4, 3)
     output/kernel   (8, 3)    0.0%   0 of 3      (3, 3)
    <BLANKLINE>
    Zeros: 20 of 56 weights (35.7%)
    Parameters: 67 -> 27 (2.48x)
    FLOPs: 112 -> 42 (2.67x)
    """
    survey = Survey.of(model)
    threshold = _validation.check_number(threshold, "threshold")
    small, report, reason = None, None, ""
    try:  # Whether a layer can be made anew is known when it has been.
        small, report = compacted(model, threshold)
    except ValueError as error:
        reason = str(error)
    rows, zeros, weights = _rows(survey, small, threshold)
    share = zeros / weights if weights else 0.0
    width = line_length or shutil.get_terminal_size((100, 24)).columns
    names = ["Weight", "Shape", "Zeros", "Off", "Compacted"]
    console = _tables.console(width)
    with console.capture() as captured:
        console.print(f'Sparsity of "{model.name}"')
        console.print(_tables.of_paths(names, rows, width))
        console.print(f"Zeros: {zeros:,} of {weights:,} weights ({share:.1%})")
        if report is None:
            console.print(f"Savings by `compact` are not known: {reason}")
        else:
            for line in _savings(report):
                console.print(line)
    (print_fn or print)(_tables.text(captured.get()))


def _rows(
    survey: Survey, small: Any, threshold: float
) -> tuple[list[list[str]], int, int]:
    """The rows of the table, and the numbers of zeros and of all weights."""
    shapes = {}
    if small is not None:
        shapes = {
            weight.path: tuple(weight.variable.shape)
            for weight in Survey.of(small).weights
        }
    rows = []
    zeros = weights = 0
    for weight in shown_weights(survey):
        array = keras.ops.convert_to_numpy(weight.variable)
        zero = np.abs(array) <= threshold
        zeros += int(zero.sum())
        weights += zero.size
        off, groups = _groups_off(weight, zero)
        rows.append(
            [
                weight.path,
                str(zero.shape),
                f"{zero.mean():.1%}" if zero.size else "",
                f"{off:,} of {groups:,}",
                str(shapes.get(weight.path, "")),
            ]
        )
    return rows, zeros, weights


def shown_weights(survey: Survey) -> list[Weight]:
    """The kernels, the embeddings, and all weights with a regularizer."""
    return [
        weight
        for weight in survey.weights
        if kinds.is_kernel(weight)
        or kinds.is_embedding(weight)
        or weight.variable.regularizer is not None
    ]


def axes_inside_groups(weight: Weight) -> tuple[int, ...]:
    """The axes of a weight along which its groups extend.

    Groups are those of its `GroupLasso`, or else its units or filters.
    """
    axes = [-2, -1] if kinds.is_depthwise_kernel(weight) else [-1]
    for term in terms_of(weight.variable.regularizer):
        if isinstance(term.regularizer, GroupLasso | GroupMCP):
            axis = term.regularizer.axis
            axes = axis if isinstance(axis, list) else [axis]
            break
    number = len(weight.variable.shape)
    kept = {axis % max(number, 1) for axis in axes}
    return tuple(axis for axis in range(number) if axis not in kept)


def _groups_off(weight: Weight, zero: Any) -> tuple[int, int]:
    """The number of groups of a weight that are zero, and of all groups."""
    off = zero.all(axis=axes_inside_groups(weight))
    return int(off.sum()), math.prod(off.shape)


def _savings(report: CompactionReport) -> list[str]:
    lines = [f"Parameters: {saved(report.parameters)}"]
    if report.flops is not None:
        lines.append(f"FLOPs: {saved(report.flops)}")
    return lines + remarks(report)
