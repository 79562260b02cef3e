"""A smaller model with the same outputs."""

import dataclasses
from typing import Any

import keras
import numpy as np

from l2keras import _validation
from l2keras._keras import graphs
from l2keras.compaction.graph import Graph
from l2keras.compaction.plan import Plan
from l2keras.compaction.rebuilding import rebuilt
from l2keras.compaction.report import CompactionReport, report_of


def compact(
    model: keras.Model, threshold: float = 0.0, drop_inputs: bool = False
) -> tuple[Any, CompactionReport]:
    """Removes units, filters and features that are off: a smaller model.

    A unit, a filter or a feature goes if all that it could change is multiplied
    by zero, or if it is the same for every example and can be added to a bias.
    Channels that only it has read are then unread, and go as well. The cause of
    the zeros makes no difference: `GroupLasso`, or any other.

    The outputs are the same to rounding. Where that is not sure, channels are
    left alone, and the report says why: layers that mix channels (`softmax`
    inside, `LayerNormalization`; of attention only heads go, and dimensions in
    them), parts of groups of channels, units of recurrent layers that are
    stateful or given a state, unknown layers and operations, kernels that are
    quantized or have LoRA, weights that are not finite, and channels to which
    live ones are added.

    Sequential and functional models, with such models inside them, keep their
    names, types, regularizers and frozen weights. The given model is not
    changed. The smaller one is not compiled. Its loss need not be the old one,
    since penalties lose the weights that went.

    Args:
        model: A built Keras model, sequential or functional.
        threshold: Finite number >= 0. Factors (kernels, embeddings, the gamma
            of a normalization) of at most this size count as zero. Those that
            stay are not changed. Above 0 the outputs are not the same: the
            report says by how much they changed on random inputs. Defaults to
            `0.0`.
        drop_inputs: Whether the smaller model has no unread inputs: call it on
            `x[..., report.inputs[name]]`, or where channels come first, on
            `x[:, report.inputs[name]]`. Each input keeps at least one index.
            Defaults to `False`.

    Returns:
        The smaller model, and a `CompactionReport`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `model` is not built, or neither sequential nor
            functional, if `threshold` is negative or not finite, or if a layer
            cannot be made anew from its config, or is in another layer and
            called elsewhere too.

    Example:

    >>> import keras, numpy as np, l2keras
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, activation="relu", name="hidden"),
    ...     keras.layers.Dense(3, name="output"),
    ... ])
    >>> kernel, bias = model.layers[0].get_weights()
    >>> kernel[:, :5] = 0.0  # Five units are off ...
    >>> model.layers[0].set_weights([kernel, bias + 0.1])  # ... but not zero.
    >>> small, report = l2keras.compact(model)
    >>> report.widths
    {'hidden': (8, 3), 'output': (3, 3)}
    >>> x = np.ones((2, 4), "float32")
    >>> np.allclose(small.predict(x, verbose=0), model.predict(x, verbose=0))
    True
    """
    if not isinstance(drop_inputs, bool):
        raise TypeError(
            "Argument `drop_inputs` must be a boolean. "
            f"Received: drop_inputs={drop_inputs!r}"
        )
    threshold = _validation.check_number(threshold, "threshold")
    small, report = compacted(model, threshold, drop_inputs)
    if threshold:
        change = _change(Graph(model), model, small, report)
        report = dataclasses.replace(report, change=change)
    return small, report


def compacted(
    model: keras.Model, threshold: float, drop_inputs: bool = False
) -> tuple[Any, CompactionReport]:
    """The result of `compact`, without the change of the outputs."""
    small: Any = model
    plans: list[Plan] = []
    # Where a `Reshape` makes (2, 3) of 6 units, the axis along which they go is
    # not known until there are (2, 1), say: that takes a second plan.
    while True:
        plan = Plan(Graph(small, threshold), drop_inputs)
        if plans and plan.keeps_all():
            return small, report_of(plans)
        plans.append(plan)
        small = rebuilt(plan, small)


def report_without_rebuilding(model: keras.Model) -> CompactionReport:
    """The report of `compact`, without a smaller model.

    Where a `Reshape` makes several axes of one, `compact` may find more to
    remove in the smaller model.

    Raises:
        TypeError: If `model` is not a Keras model.
        ValueError: If it is not built, or neither sequential nor functional.
    """
    return report_of([Plan(Graph(model))])


def _change(
    graph: Graph, model: Any, small: Any, report: CompactionReport
) -> float | None:
    """The largest change of an output, as a fraction of the largest output.

    `None` if the shapes of the inputs are not known.
    """
    function = graphs.function_of(model)
    rng = np.random.default_rng(0)
    given, fewer = [], []
    for tensor, (name, channels) in zip(
        function.inputs, graph.inputs.items(), strict=True
    ):
        shape = tuple(tensor.shape)[1:]
        if None in shape or tensor.dtype == "string":
            return None
        if "int" in tensor.dtype or tensor.dtype == "bool":
            rows = graph.rows_read(channels)
            x = rng.integers(0, rows, (32, *shape)).astype(tensor.dtype)
        else:
            x = rng.normal(size=(32, *shape)).astype("float32")
        given.append(x)
        if name in report.inputs:
            x = np.take(x, report.inputs[name], channels.axis)
        fewer.append(x)
    before, after = (
        [
            np.asarray(output, "float64")
            for output in keras.tree.flatten(
                either.predict_on_batch(
                    keras.tree.pack_sequence_as(function.input, inputs)
                )
            )
        ]
        for either, inputs in ((model, given), (small, fewer))
    )
    largest = max(np.abs(output).max() for output in before)
    change = max(
        np.abs(one - other).max()
        for one, other in zip(before, after, strict=True)
    )
    return float(change / largest) if largest else float(change)
