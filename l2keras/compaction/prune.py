"""A model of a given number of parameters, with other outputs."""

from typing import Any

import keras

from l2keras import _validation
from l2keras.compaction.compact import check_data, compacted, with_change
from l2keras.compaction.graph import Graph
from l2keras.compaction.plan import Plan
from l2keras.compaction.removal import by_norm
from l2keras.compaction.report import CompactionReport, report_of


def prune(
    model: keras.Model, parameters: float, x: Any = None
) -> tuple[Any, CompactionReport]:
    """Removes the units and filters of smallest norm, down to a size.

    Structured magnitude pruning, for networks that were not trained to zeros:
    the outputs change, and training goes on with the smaller model. Where some
    are zero, `compact` takes those away without a change.

    Units and filters of all layers are ordered by the root mean square of
    their kernel weights over that of the layer's kernel:

        norm = sqrt(mean w**2 over the unit / mean w**2 over the layer)

    so that neither the sizes of layers nor their scales decide. Channels that
    are added or multiplied go together, by the mean over all their layers. As
    few are removed, the smallest first, as the number of parameters takes;
    no layer loses all, and none that the model returns. Heads of attention are
    not among them.

    Args:
        model: A built Keras model, sequential or functional.
        parameters: The largest number of parameters of the smaller model: an
            integer > 0, or as a fraction of those of `model` a float between 0
            and 1.
        x: Inputs, as for `predict`, on which `report.change` is measured.
            Defaults to `None`, random inputs.

    Returns:
        The smaller model, and a `CompactionReport`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the model cannot be as small, or in the cases in which
            `compact` raises one.

    Reference:
        Li et al., *Pruning Filters for Efficient ConvNets*, ICLR 2017.

    Example:

    >>> import keras, l2keras
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, activation="relu", name="hidden"),
    ...     keras.layers.Dense(3, name="output"),
    ... ])
    >>> small, report = l2keras.prune(model, parameters=0.5)
    >>> report.parameters, report.widths
    ((67, 27), {'hidden': (8, 3), 'output': (3, 3)})
    """
    graph = Graph(model)
    plan = Plan(graph)
    budget = _budget(parameters, report_of([plan]).parameters[0])
    check_data(model, x)
    order = by_norm(plan)
    few, many = 0, len(order)
    plan = Plan(graph, removed=order)
    smallest = report_of([plan]).parameters[1]
    if smallest > budget:
        raise ValueError(
            "Argument `parameters` must be at least the number that is left "
            f"if each layer keeps one unit, {smallest}. "
            f"Received: parameters={parameters!r}"
        )
    while few < many:
        number = (few + many) // 2
        plan = Plan(graph, removed=order[:number])
        if report_of([plan]).parameters[1] <= budget:
            many = number
        else:
            few = number + 1
    small, report = compacted(model, 0.0, Plan(graph, removed=order[:many]))
    return small, with_change(report, model, small, x)


def _budget(parameters: Any, before: int) -> int:
    if isinstance(parameters, float) and 0 < parameters < 1:
        return int(parameters * before)
    if isinstance(parameters, float):
        raise ValueError(
            "Argument `parameters` must be an integer, or a float between 0 "
            f"and 1. Received: parameters={parameters!r}"
        )
    return _validation.check_integer(parameters, "parameters", 1)
