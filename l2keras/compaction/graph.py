"""A model as calls of layers, with the channels of all tensors."""

import re
from typing import Any

import keras
import numpy as np

from l2keras._keras import graphs
from l2keras.compaction import kinds, nodes
from l2keras.compaction.channels import Array, Channels, Slots
from l2keras.compaction.rules import Call, NotCompactable, Rule
from l2keras.regularizers import describing
from l2keras.weights.paths import check_built

# The weights, all factors, that count as zero where they are small.
_FACTORS = (
    "kernel",
    "recurrent_kernel",
    "embeddings",
    "gamma",
    "depthwise_kernel",
    "pointwise_kernel",
)

# Types whose largest number NumPy knows.
_FLOATS = ("float16", "float32", "float64")

_NUMBERED = re.compile(r"_\d+$")


class Graph:
    """The calls of layers in a model, those of models inside it among them.

    Args:
        model: A built sequential or functional model.
        threshold: The size up to which weights count as zero.

    Attributes:
        calls: In an order in which they can be made.
        inputs: The channels of the model's inputs, by name.
        outputs: The channels of its outputs.
        slots: The numbers of the channels.
        rules: The rule of each call, `None` where it is left alone.
        skipped: The reasons for that, by the layers' paths.
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
        self._is_masked = nodes.has_masks(function)
        self._opaque = nodes.opaque_models(function)
        self._ranks_of_first = nodes.ranks_of_first(function)
        nodes.check_nothing_is_shared_inside(function, self._opaque)
        self.calls: list[Call] = []
        self.rules: list[Rule | None] = []
        self.skipped: dict[str, str] = {}
        self.slots = Slots()
        self.kept: dict[int, str] = {}  # Slots that stay, and why.
        self.entries: dict[int, list[list[Channels]]] = {}
        self._weights: dict[int, dict[str, Array]] = {}
        given = [
            self._varying(tuple(tensor.shape)) for tensor in function.inputs
        ]
        names = [graphs.input_layer(tensor).name for tensor in function.inputs]
        self.inputs = dict(zip(names, given, strict=True))
        self.outputs = self._follow(model, function, given, "")
        for channels in self.outputs:
            self._keep(channels, "they are outputs of the model")
        self._union_calls()

    def rounded(self, layer: Any) -> dict[str, Array]:
        """A layer's weights, with small ones rounded to zero."""
        weights = self._weights.get(id(layer))
        if weights is None:
            weights = nodes.arrays_of(layer)
            for name, array in weights.items() if self.threshold else ():
                if _NUMBERED.sub("", name) in _FACTORS:
                    small = np.abs(array) <= self.threshold
                    weights[name] = np.where(small, 0, array)
            self._weights[id(layer)] = weights
        return weights

    def rows_read(self, channels: Channels) -> int:
        """The number of rows that any `Embedding` of an input has."""
        rows = [
            len(call.weights["embeddings"])
            for call in self.calls
            if any(given is channels for given in call.inputs)
            and "embeddings" in call.weights
        ]
        return min(rows, default=2)

    def _follow(
        self, model: Any, function: Any, given: list[Channels], place: str
    ) -> list[Channels]:
        """Makes a model's calls, and returns the channels of its outputs."""
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
        """The channels of the outputs of a node of the graph."""
        operation, path = node.operation, f"{place}{node.operation.name}"
        positional = [id(tensor) for tensor in nodes.positional(node)]
        given = [tensors[tensor] for tensor in positional]
        for tensor in node.inputs:  # Masks and other arguments.
            if id(tensor) not in positional:
                self._keep(tensors[id(tensor)], f"{path} is given them")
        inside = graphs.function_of(operation)
        if inside is not None and id(operation) not in self._opaque:
            return self._follow(operation, inside, given, f"{path}/")
        call = Call(
            operation=operation,
            layer=kinds.computing(operation),
            path=path,
            inputs=given,
            shapes=[tuple(tensor.shape) for tensor in node.outputs],
            compute=nodes.computed_by(node),
            args=node.args,
            kwargs=node.kwargs,
            dtype=nodes.dtype_of(node),
            weights={},
            is_masked=self._is_masked,
        )
        rule: Rule | None = None
        try:
            rule = kinds.rule_of(operation)
            call.weights = self.rounded(operation)
            nodes.check_finite(call.weights)
            nodes.check_arguments(node, rule)
            with np.errstate(all="ignore"):  # Overflows are kept.
                call.outputs = rule.follow(call, self.slots)
        except NotCompactable as reason:
            rule = None
            call.reads = False
            call.keeps_inputs = call.keeps_outputs = str(reason)
            call.outputs = list(map(self._varying, call.shapes))
        self.calls.append(call)
        self.rules.append(rule)
        self._keep_penalized(call)
        self._keep_around(call)
        for tensor, channels in zip(node.outputs, call.outputs, strict=True):
            self._keep_not_finite(channels, tensor.dtype, path)
        return call.outputs

    def _keep_penalized(self, call: Call) -> None:
        """Keeps channels that an activity regularizer may penalize."""
        for layer in (call.operation, call.layer):
            regularizer = getattr(layer, "activity_regularizer", None)
            if regularizer is None:
                continue
            if describing.constant_parts(regularizer) is None:
                call.keeps_outputs = "its activity pays a penalty"
                continue
            # The penalty of each element is its own, and that of zero is 0.
            for channels in call.outputs:
                penalized = channels.slots[channels.values != 0]
                for slot in penalized.tolist():
                    why = f"in {call.path} their activity pays a penalty"
                    self.kept.setdefault(slot, why)

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
        """New channels of an unknown tensor.

        On the axis along which layers read tensors of that rank.
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
        if call.live is not None:
            for slot in call.outputs[0].slots[call.live].tolist():
                self.kept.setdefault(slot, f"{call.path} reads them all")
        for reason in (call.keeps_inputs, call.keeps_outputs):
            if reason:
                self.skipped.setdefault(call.path, reason)

    def _keep(self, channels: Channels, why: str) -> None:
        for slot in channels.slots.tolist():
            self.kept.setdefault(slot, why)

    def _union_calls(self) -> None:
        """Unites the channels of a layer's several calls."""
        by_layer: dict[int, list[Call]] = {}
        for call, rule in zip(self.calls, self.rules, strict=True):
            if rule is None or rule.has_widths:
                by_layer.setdefault(id(call.operation), []).append(call)
        for calls in by_layer.values():
            self._union(
                [[*call.inputs, *call.outputs, *call.states] for call in calls],
                [calls[0].path],
            )
        for entries in self.entries.values():
            self._union(entries, [])

    def _union(self, several: list[list[Channels]], paths: list[str]) -> None:
        first, *others = several
        alike = all(
            [(x.axis, len(x.slots)) for x in first]
            == [(x.axis, len(x.slots)) for x in other]
            for other in others
        )
        if not alike:
            why = "it is called on several kinds of tensors"
            self.skipped.update(dict.fromkeys(paths, why))
            for group in several:
                for channels in group:
                    self._keep(channels, why)
            return
        for other in others:
            for one, another in zip(first, other, strict=True):
                self.slots.union(one.slots, another.slots)
