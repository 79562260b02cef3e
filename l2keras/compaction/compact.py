"""A smaller model with the same outputs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from l2keras import _validation
from l2keras._keras import graphs
from l2keras.compaction.graph import Graph
from l2keras.compaction.groups import Grouped
from l2keras.compaction.plan import Plan
from l2keras.compaction.rebuilding import rebuilt
from l2keras.compaction.removal import slots_by_name
from l2keras.compaction.report import CompactionReport, report_of


def compact(
    model: keras.Model,
    threshold: float = 0.0,
    drop_inputs: bool = False,
    remove: Mapping[str, Sequence[int]] | None = None,
    x: Any = None,
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
    quantized or have LoRA, weights that are not finite or have a start
    (`FromStart`), and channels to which live ones are added.

    Sequential and functional models, with such models inside them, keep their
    names, types, regularizers and frozen weights. The given model is not
    changed. The smaller one is not compiled. Its loss need not be the old one,
    since penalties lose the weights that went.

    Args:
        model: A built Keras model, sequential or functional.
        threshold: Finite number >= 0. Factors (kernels, embeddings, the gamma
            of a normalization) of at most this size count as zero. Those that
            stay are not changed. Above 0 the outputs are not the same:
            `report.change` says by how much they changed. Defaults to `0.0`.
        drop_inputs: Whether the smaller model has no unread inputs: call it on
            `x[..., report.inputs[name]]`, or where channels come first, on
            `x[:, report.inputs[name]]`. Each input keeps at least one index.
            Defaults to `False`.
        remove: Units or filters that go although they are not off, by the paths
            of their layers, such as `{"hidden": [3, 7]}`. The layers after them
            read zeros in their place. Channels that are added to them or
            multiplied by them go as well. The outputs are not the same, as with
            a threshold. To remove those of smallest norm, see `prune`. Defaults
            to `None`.
        x: Inputs, as for `predict`, on which `report.change` is measured.
            Defaults to `None`, random inputs.

    Returns:
        The smaller model, and a `CompactionReport`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `model` is not built, or neither sequential nor
            functional, if `threshold` is negative or not finite, if `remove`
            names a unit that does not exist or must stay, if `x` has other
            inputs than the model, or if a layer cannot be made anew from its
            config, or is in another layer and called elsewhere too.

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
    graph = Graph(model, threshold)
    plan = Plan(graph, drop_inputs)
    if remove is not None:
        plan = Plan(graph, drop_inputs, slots_by_name(plan, remove))
    check_data(model, x)
    small, report = compacted(model, threshold, plan, drop_inputs)
    if threshold or report.removed:
        report = with_change(report, model, small, x)
    return small, report


def compacted(
    model: keras.Model,
    threshold: float,
    first: Plan | None = None,
    drop_inputs: bool = False,
) -> tuple[Any, CompactionReport]:
    """The result of `compact`, without the change of the outputs.

    Args:
        model: The model.
        threshold: The size up to which weights count as zero.
        first: The plan for the model, if there is one already.
        drop_inputs: Whether inputs may go too.
    """
    small: Any = model
    plans = [first or Plan(Graph(model, threshold), drop_inputs)]
    # Where a `Reshape` makes (2, 3) of 6 units, the axis along which they go is
    # not known until there are (2, 1), say: that takes a second plan.
    while True:
        small = rebuilt(plans[-1], small)
        plan = Plan(Graph(small, threshold), drop_inputs)
        if plan.keeps_all():
            return small, report_of(plans)
        plans.append(plan)


def report_without_rebuilding(model: keras.Model) -> CompactionReport:
    """The report of `compact`, without a smaller model where it needs none.

    Raises:
        TypeError: If `model` is not a Keras model.
        ValueError: If it is not built, or neither sequential nor functional.
    """
    graph = Graph(model)
    # Where one plan may not be enough: see `compacted`.
    if any(
        isinstance(call.layer, keras.layers.Reshape)
        or isinstance(rule, Grouped)
        for call, rule in zip(graph.calls, graph.rules, strict=True)
    ):
        return compacted(model, 0.0)[1]
    return report_of([Plan(graph)])


def check_data(model: Any, x: Any) -> None:
    """Raises a ValueError if data has not the inputs of a model."""
    if x is not None:
        _arrays(model, x)


def with_change(
    report: CompactionReport, model: Any, small: Any, x: Any = None
) -> CompactionReport:
    """A report with the change of the outputs on data, or random inputs.

    It is the largest change, as a fraction of the largest output; `None` if no
    data is given, and the shapes of the inputs are not known.
    """
    graph = Graph(model)
    given = _random_inputs(model, graph) if x is None else _arrays(model, x)
    if given is None:
        return report
    fewer = [
        np.take(array, report.inputs[name], channels.axis)
        if name in report.inputs
        else array
        for array, (name, channels) in zip(
            given, graph.inputs.items(), strict=True
        )
    ]
    before, after = (
        _outputs(either, arrays)
        for either, arrays in ((model, given), (small, fewer))
    )
    largest = max(np.abs(output).max() for output in before)
    change = max(
        np.abs(one - other).max()
        for one, other in zip(before, after, strict=True)
    )
    return dataclasses.replace(
        report, change=float(change / largest if largest else change)
    )


def _arrays(model: Any, x: Any) -> list[Any]:
    """Data as an array for each input of a model."""
    function = graphs.function_of(model)
    if isinstance(x, Mapping):
        names = [graphs.input_layer(each).name for each in function.inputs]
        arrays = [x[name] for name in names if name in x]
    else:
        arrays = keras.tree.flatten(x)
    if len(arrays) != len(function.inputs):
        raise ValueError(
            "Argument `x` must have an array for each input of the model: "
            f"{len(function.inputs)}. Received: {len(arrays)}"
        )
    return [
        keras.ops.convert_to_numpy(array)
        if keras.ops.is_tensor(array)
        else np.asarray(array)
        for array in arrays
    ]


def _outputs(model: Any, arrays: list[Any]) -> list[np.ndarray[Any, Any]]:
    structure = graphs.function_of(model).input
    returned = model.predict(
        keras.tree.pack_sequence_as(structure, arrays), verbose=0
    )
    return [
        np.asarray(output, "float64") for output in keras.tree.flatten(returned)
    ]


def _random_inputs(model: Any, graph: Graph) -> list[Any] | None:
    function = graphs.function_of(model)
    rng = np.random.default_rng(0)
    given = []
    for tensor, channels in zip(
        function.inputs, graph.inputs.values(), strict=True
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
    return given
