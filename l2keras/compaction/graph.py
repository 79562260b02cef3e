"""A model as calls of layers, with the channels of all tensors."""

import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from l2keras._keras import graphs, layer_tree
from l2keras.compaction import kinds, rules
from l2keras.compaction.channels import Array, Channels, Slots
from l2keras.compaction.rules import Call, LeftAlone, Rule
from l2keras.weights.paths import check_built

# Whose small weights count as zero, where any do: those that multiply.
_FACTORS = (
    "kernel",
    "embeddings",
    "gamma",
    "depthwise_kernel",
    "pointwise_kernel",
)

# Types of which NumPy knows how large their numbers are.
_FLOATS = ("float16", "float32", "float64")

_NUMBERED = re.compile(r"_\d+$")


class Graph:
    """The calls of layers in a model, those of models inside it among them.

    Args:
        model: A built sequential or functional model.
        threshold: Weights of which size count as zero.

    Attributes:
        calls: In an order in which they can be made.
        inputs: The channels of the model's inputs, by name.
        outputs: The channels of its outputs.
        slots: What numbers the channels.
        rules: The rule of each call, `None` where it is left alone.
        left_alone: Why, by the layer's path.
        entries: For each model inside and the model itself, by `id`: the
            channels that its own input layers are given.

    Raises:
        TypeError: If `model` is not a Keras model.
        ValueError: If it is not built, or neither sequential nor functional.
    """

    def __init__(self, model: keras.Model, threshold: float = 0.0) -> None:
        check_built(model)
        function = graphs.function_of(model)
        if function is None:
            raise ValueError(
                "Only a sequential or functional model, whose graph is known, "
                f"can be compacted. Received: model={model.name!r} of class "
                f"`{type(model).__name__}`. Compact the functional models in "
                "it, or build it as one."
            )
        self.threshold = threshold
        # A mask made in one model is there in others, where no graph shows it.
        self._is_masked = _has_masks(function)
        self._opaque = _opaque_models(function)
        self._ranks_of_first = _ranks_of_first(function)
        _check_nothing_is_shared_inside(function, self._opaque)
        self.calls: list[Call] = []
        self.rules: list[Rule | None] = []
        self.left_alone: dict[str, str] = {}
        self.slots = Slots()
        self.kept: dict[int, str] = {}  # Slots, and why they stay.
        self.entries: dict[int, list[list[Channels]]] = {}
        self._weights: dict[int, dict[str, Array]] = {}
        given = [
            self._varying(tuple(tensor.shape)) for tensor in function.inputs
        ]
        names = [graphs.input_layer(each).name for each in function.inputs]
        self.inputs = dict(zip(names, given, strict=True))
        self.outputs = self._follow(model, function, given, "")
        for channels in self.outputs:
            self._keep(channels, "they are outputs of the model")
        self._unite_calls()

    def rounded(self, layer: Any) -> dict[str, Array]:
        """Returns a layer's weights, where small ones count as zero."""
        weights = self._weights.get(id(layer))
        if weights is None:
            weights = arrays_of(layer)
            for name, array in weights.items() if self.threshold else ():
                if _NUMBERED.sub("", name) in _FACTORS:
                    small = np.abs(array) <= self.threshold
                    weights[name] = np.where(small, 0, array)
            self._weights[id(layer)] = weights
        return weights

    def rows_read(self, channels: Channels) -> int:
        """Returns how many numbers of an input an `Embedding` can look up."""
        rows = [
            len(call.weights["embeddings"])
            for call in self.calls
            if any(each is channels for each in call.inputs)
            and "embeddings" in call.weights
        ]
        return min(rows, default=2)

    def _follow(
        self, model: Any, function: Any, given: list[Channels], place: str
    ) -> list[Channels]:
        """Makes the calls in a model, and returns what its outputs have."""
        self.entries.setdefault(id(model), []).append(given)
        tensors = {
            id(tensor): channels
            for tensor, channels in zip(function.inputs, given, strict=True)
        }
        for node in graphs.nodes(function):
            if all(id(tensor) in tensors for tensor in node.outputs):
                continue  # An input.
            if any(id(tensor) not in tensors for tensor in node.inputs):
                continue  # Keras does not run it either.
            outputs = self._called(node, tensors, place)
            for tensor, channels in zip(node.outputs, outputs, strict=True):
                tensors[id(tensor)] = channels
        return [tensors[id(tensor)] for tensor in function.outputs]

    def _called(
        self, node: graphs.Node, tensors: dict[int, Channels], place: str
    ) -> list[Channels]:
        """Returns the channels of what a node of the graph returns."""
        operation, path = node.operation, f"{place}{node.operation.name}"
        arguments = keras.tree.flatten(node.args)
        given = [tensors[id(t)] for t in node.inputs if _is_in(t, arguments)]
        for tensor in node.inputs:  # Masks, and what else there may be.
            if not _is_in(tensor, arguments):
                self._keep(tensors[id(tensor)], f"{path} is given them")
        inside = graphs.function_of(operation)
        if inside is not None and id(operation) not in self._opaque:
            return self._follow(operation, inside, given, f"{path}/")
        call = Call(
            layer=operation,
            path=path,
            inputs=given,
            shapes=[tuple(tensor.shape) for tensor in node.outputs],
            compute=_computes(node, arguments),
            dtype=getattr(operation, "compute_dtype", None) or _dtype(node),
            weights={},
            is_masked=self._is_masked,
        )
        rule: Rule | None = None
        try:
            rule = kinds.rule_of(operation)
            call.weights = self.rounded(operation)
            _check_finite(call.weights)
            _check_arguments(node)
            with np.errstate(all="ignore"):  # What overflows is kept.
                call.outputs = rule.follow(call, self.slots)
        except LeftAlone as reason:
            rule = None
            call.reads = False
            call.keeps_inputs = call.keeps_outputs = str(reason)
            call.outputs = list(map(self._varying, call.shapes))
        self.calls.append(call)
        self.rules.append(rule)
        if getattr(operation, "activity_regularizer", None) is not None:
            call.keeps_outputs = "its activity pays a penalty"
        self._keep_around(call)
        for tensor, channels in zip(node.outputs, call.outputs, strict=True):
            self._keep_not_finite(channels, tensor.dtype, path)
        return call.outputs

    def _keep_not_finite(
        self, channels: Channels, dtype: str, path: str
    ) -> None:
        """Keeps constants that are too large for their type: 0 * inf is NaN."""
        largest = np.finfo(dtype if dtype in _FLOATS else "float32").max
        is_finite = ~(np.abs(channels.values) > largest)
        for slot in channels.slots[~is_finite].tolist():
            self.kept.setdefault(slot, f"in {path} they are not finite")
        channels.values = np.where(is_finite, channels.values, np.nan)

    def _varying(self, shape: tuple[int | None, ...]) -> Channels:
        """Returns new channels of a tensor of which nothing is known.

        Along the axis along which layers read tensors of that rank.
        """
        axis = 1 if len(shape) in self._ranks_of_first else -1
        return Channels.varying(shape, self.slots, axis)

    def _keep_around(self, call: Call) -> None:
        if call.keeps_inputs:
            for channels in call.inputs:
                self._keep(channels, f"{call.path} reads them all")
        if call.keeps_outputs:
            for channels in call.outputs:
                self._keep(channels, call.keeps_outputs)
        for reason in (call.keeps_inputs, call.keeps_outputs):
            if reason:
                self.left_alone.setdefault(call.path, reason)

    def _keep(self, channels: Channels, why: str) -> None:
        for slot in channels.slots.tolist():
            self.kept.setdefault(slot, why)

    def _unite_calls(self) -> None:
        """Makes the channels of a layer's several calls the same."""
        by_layer: dict[int, list[Call]] = {}
        for call, rule in zip(self.calls, self.rules, strict=True):
            if rule is None or rule.has_widths:
                by_layer.setdefault(id(call.layer), []).append(call)
        for calls in by_layer.values():
            self._unite(
                [[*call.inputs, *call.outputs] for call in calls],
                [calls[0].path],
            )
        for entries in self.entries.values():
            self._unite(entries, [])

    def _unite(self, several: list[list[Channels]], paths: list[str]) -> None:
        first, *others = several
        alike = all(
            [(x.axis, len(x.slots)) for x in first]
            == [(x.axis, len(x.slots)) for x in other]
            for other in others
        )
        if not alike:
            why = "it is called on several kinds of tensors"
            self.left_alone.update(dict.fromkeys(paths, why))
            for each in several:
                for channels in each:
                    self._keep(channels, why)
            return
        for other in others:
            for one, another in zip(first, other, strict=True):
                self.slots.unite(one.slots, another.slots)


def variables_of(layer: Any) -> dict[str, Any]:
    """Returns the weights of a layer by name; an operation has none."""
    found: dict[str, Any] = {}
    for variable in getattr(layer, "weights", ()):
        name, number = variable.name, 1
        while name in found:  # Those of `Bidirectional`.
            number += 1
            name = f"{variable.name}_{number}"
        found[name] = variable
    return found


def arrays_of(layer: Any) -> dict[str, Array]:
    """Returns them as arrays."""
    arrays = {}
    for name, variable in variables_of(layer).items():
        array = ops.convert_to_numpy(variable)
        if array.dtype.kind == "V":  # NumPy itself has no bfloat16.
            array = array.astype("float32")
        arrays[name] = array
    return arrays


def _has_masks(function: Any) -> bool:
    """Tells whether a mask is made in a functional model, or in one in it."""
    for node in graphs.nodes(function):
        if any(graphs.is_masked(tensor) for tensor in node.outputs):
            return True
        inside = graphs.function_of(node.operation)
        if inside is not None and _has_masks(inside):
            return True
    return False


def _ranks_of_first(function: Any) -> set[int]:
    """Returns the ranks of tensors whose channels come before the places."""
    found: set[int] = set()
    for node in graphs.nodes(function):
        inside = graphs.function_of(node.operation)
        if inside is not None:
            found |= _ranks_of_first(inside)
        # `Flatten` is told it by Keras's settings, whatever it flattens.
        elif rules.comes_first(node.operation) and not isinstance(
            node.operation, keras.layers.Flatten
        ):
            found |= {len(tensor.shape) for tensor in node.inputs}
    return found


def _opaque_models(function: Any) -> set[int]:
    """Returns the models inside that cannot be followed, by `id`.

    One that is called where it cannot be followed stays as it is, so it does
    wherever else it is called.
    """
    found: set[int] = set()
    for node in graphs.nodes(function):
        inside = graphs.function_of(node.operation)
        if inside is not None:
            if not _fits(node, inside):
                found.add(id(node.operation))
            found |= _opaque_models(inside)
    return found


def _check_nothing_is_shared_inside(function: Any, opaque: set[int]) -> None:
    """Raises a ValueError if layers that are made anew share a layer in them.

    Made from their configs, each would have one of its own.
    """
    operations: dict[int, Any] = {}

    def collect(function: Any) -> None:
        for node in graphs.nodes(function):
            operation = node.operation
            if id(operation) in operations:
                continue
            operations[id(operation)] = operation
            inside = graphs.function_of(operation)
            if inside is not None and id(operation) not in opaque:
                collect(inside)

    collect(function)
    owners: dict[int, Any] = {}
    for operation in operations.values():
        inside = graphs.function_of(operation)
        if not isinstance(operation, keras.layers.Layer) or (
            inside is not None and id(operation) not in opaque
        ):
            continue
        for _, layer in layer_tree.layers_by_path(operation)[1:]:
            other = operations.get(id(layer), owners.get(id(layer)))
            owners[id(layer)] = operation
            if other is not None and layer.weights:
                raise ValueError(
                    f"Layer {layer.name!r} must not be in layer "
                    f"{operation.name!r} and be called elsewhere too, by "
                    "itself or in another layer: the smaller model could not "
                    "share its weights between them. Give each its own layer."
                )


def _is_in(tensor: Any, tensors: list[Any]) -> bool:
    return any(each is tensor for each in tensors)


def _dtype(node: graphs.Node) -> str:
    return node.inputs[0].dtype if node.inputs else "float32"


def _computes(node: graphs.Node, arguments: list[Any]) -> Callable[..., Any]:
    """Returns what a node computes in evaluation, of its positional tensors."""
    places = [id(each) for each in node.inputs if _is_in(each, arguments)]

    def compute(*tensors: Any) -> Any:
        args, _ = node.fill_in(dict(zip(places, tensors, strict=True)))
        return node.operation.call(*args)

    return compute


def _check_finite(weights: dict[str, Array]) -> None:
    """Raises `LeftAlone` if a weight is not finite: 0 times it is not 0."""
    for name, array in weights.items():
        if not np.all(np.isfinite(array)):
            raise LeftAlone(f"its {name} is not finite everywhere")


def _check_arguments(node: graphs.Node) -> None:
    """Raises `LeftAlone` if a layer is called with more than its inputs.

    An operation that is no layer may be called with numbers.
    """
    others = {
        name: value
        for name, value in node.kwargs.items()
        # `training=False` is how it is followed here.
        if not (name == "training" and (value is None or value is False))
        and name != "mask"
    }
    is_layer = isinstance(node.operation, keras.layers.Layer)
    if others or (
        len(node.args) != 1
        if is_layer
        else not all(map(_is_number_or_tensor, keras.tree.flatten(node.args)))
    ):
        raise LeftAlone("it is called with more than its inputs")


def _is_number_or_tensor(argument: Any) -> bool:
    return isinstance(argument, keras.KerasTensor) or np.ndim(argument) == 0


def _fits(node: graphs.Node, inside: Any) -> bool:
    """Tells whether a model inside can be followed for what it is called on.

    It may change tensors before it runs, and run otherwise in training.
    """
    try:
        _check_arguments(node)
    except LeftAlone:
        return False
    given = keras.tree.flatten(node.args[0])
    return (
        isinstance(node.args[0], dict) == isinstance(inside.input, dict)
        and len(given) == len(inside.inputs)
        and all(
            len(tensor.shape) == len(own.shape)
            and ("float" in tensor.dtype) == ("float" in own.dtype)
            and all(
                size in (own_size, None) or own_size is None
                for size, own_size in zip(
                    tensor.shape[1:], own.shape[1:], strict=True
                )
            )
            for tensor, own in zip(given, inside.inputs, strict=True)
        )
    )
