"""Heads of attention layers, which are channels of their own."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import layers

from l2keras._keras import layer_tree
from l2keras.compaction.channels import Array, Channels, Slots
from l2keras.compaction.nodes import variables_of
from l2keras.compaction.rules import (
    Call,
    NotCompactable,
    Rule,
    check_plain,
    known,
    places,
)

# The layers in an attention that have weights. Heads are the first axis of the
# outputs of the first ones, and of the inputs of the last one.
_PROJECTIONS = ("query", "key", "value", "gate")
_LAST = "attention_output"

_MASKS = ("attention_mask", "key_mask", "query_mask", "value_mask")


class Attention(Rule):
    """`MultiHeadAttention`, and `GroupQueryAttention` by its groups.

    Its inputs and outputs stay. A dimension within a head goes if the products
    of queries and keys are zero in it, or the products of values and the output
    kernel. All heads keep as many, and keys as many as values where they had.
    A head without dimensions of values goes, and a group if all heads in it do.

    Args:
        heads: The config's names for the number of heads, and the number of
            groups.
        sizes: Its names for the size of keys, and the size of values.
    """

    arguments = frozenset({"key", "use_causal_mask", "value", *_MASKS})

    def __init__(self, heads: tuple[str, ...], sizes: tuple[str, str]) -> None:
        self.heads = heads
        self.sizes = sizes

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        for _, layer in layer_tree.layers_by_path(call.layer)[1:]:
            check_plain(layer)
            if layer.name not in (*_PROJECTIONS, _LAST) and not isinstance(
                layer, layers.Dropout | layers.Softmax
            ):
                raise NotCompactable(f"layer {layer.name!r} in it is not known")
        for name in set(_MASKS) & set(call.kwargs):
            # One with more dimensions may be another for each head.
            if len(np.shape(call.kwargs[name])) > len(call.inputs[0].shape):
                raise NotCompactable(f"its {name} may be another for each head")
        call.keeps_inputs = call.keeps_outputs = "it mixes channels"
        return [Channels.varying(shape, slots) for shape in call.shapes]

    def inside(self, call: Call) -> Array:
        _, values = _live_dimensions(call)
        live: Array = np.any(values, 1)
        live[0] |= not live.any()  # A layer must have one.
        return live

    def without_dead_inside(
        self, call: Call, weights: dict[str, Array]
    ) -> dict[str, Any]:
        live, names = self.inside(call), _places(call)
        changes = {}
        if not live.all():
            for (layer, kind), name in names.items():
                array = weights[name]
                if layer == _LAST:
                    axis = 0 if kind == "kernel" else None
                else:
                    axis = 1 if kind == "kernel" else 0
                if axis is not None:
                    kept = np.repeat(live, array.shape[axis] // len(live))
                    weights[name] = np.compress(kept, array, axis)
            heads = weights[names["query", "kernel"]].shape[1]
            numbers = heads, int(live.sum())
            changes = dict(zip(self.heads, numbers, strict=False))
        return changes | self._without_dead_dimensions(call, weights, live)

    def flops(
        self, call: Call, shapes: Mapping[str, tuple[int, ...]]
    ) -> int | None:
        names = _places(call)
        queries = places(call.inputs[0])
        if "value" in call.kwargs:
            sizes = known(tuple(call.kwargs["value"].shape))
            keys = math.prod(sizes[:-1]) if sizes else None
        else:
            keys = places(call.inputs[1])
        axes = call.layer.get_config().get("attention_axes")
        if queries is None or keys is None:
            return None
        if axes is not None and len(axes) < len(call.inputs[0].shape) - 2:
            return None  # Not each place attends to each.
        kernels = {
            layer: math.prod(shapes[name])
            for (layer, kind), name in names.items()
            if kind == "kernel"
        }
        projections = sum(
            (keys if layer in ("key", "value") else queries) * number
            for layer, number in kernels.items()
        )
        # The scores, and the means of the values.
        _, heads, size = shapes[names["query", "kernel"]]
        size += shapes[names["value", "kernel"]][2]
        return 2 * (projections + queries * keys * heads * size)

    def _without_dead_dimensions(
        self, call: Call, weights: dict[str, Array], live: Array
    ) -> dict[str, Any]:
        """Removes dimensions within the heads that are left."""
        every = [each[live] for each in _live_dimensions(call)]
        sizes = [each.shape[1] for each in every]
        numbers = [max(1, int(each.sum(1).max())) for each in every]
        if sizes[0] == sizes[1]:  # JAX's attention takes no others.
            numbers = [max(numbers)] * 2
        changes = {}
        for name, number, size, each, parts in zip(
            self.sizes,
            numbers,
            sizes,
            every,
            (("query", "key"), ("value", "gate", _LAST)),
            strict=True,
        ):
            if number == size:
                continue
            changes[name] = number
            # The live ones, in their order, and others to fill up.
            chosen = np.argsort(~each, axis=1, kind="stable")[:, :number]
            for (layer, kind), weight in _places(call).items():
                if layer not in parts or (layer, kind) == (_LAST, "bias"):
                    continue
                weights[weight] = array = _chosen(
                    weights[weight], chosen, 0 if layer == _LAST else -2
                )
                if layer == "query":  # The products are divided by its root.
                    weights[weight] = array * np.sqrt(number / size)
        return changes


def _live_dimensions(call: Call) -> tuple[Array, Array]:
    """For each group of heads, the dimensions of keys, and those of values.

    Whether they make a difference.
    """
    weights = {
        place: call.weights[name] for place, name in _places(call).items()
    }

    def is_made(layer: str) -> Array:
        made: Array = np.any(weights[layer, "kernel"], 0)
        if (layer, "bias") in weights:
            made = made | (weights[layer, "bias"] != 0)
        return made

    def of_groups(heads: Array) -> Array:
        found: Array = np.any(heads.reshape(groups, -1, heads.shape[-1]), 1)
        return found

    # A bias of keys adds the same to all scores, which makes no difference.
    keys: Array = np.any(weights["key", "kernel"], 0)
    values = is_made("value")
    groups = len(values)
    kernel = weights[_LAST, "kernel"]
    read = np.any(kernel.reshape(*kernel.shape[:2], -1), -1)
    return of_groups(is_made("query")) & keys, of_groups(read) & values


def _chosen(array: Array, chosen: Array, axis: int) -> Array:
    """An array with some dimensions of heads, which are along an axis.

    Args:
        array: The dimensions are along the next axis.
        chosen: The indices of the dimensions for each group of heads.
        axis: The axis of the heads.
    """
    array = np.moveaxis(array, (axis, axis + 1), (0, 1))
    chosen = np.repeat(chosen, len(array) // len(chosen), axis=0)
    taken = array[np.arange(len(array))[:, None], chosen]
    return np.moveaxis(taken, (0, 1), (axis, axis + 1))


def _places(call: Call) -> dict[tuple[str, str], str]:
    """The names of weights by their layers and their names in these."""
    names = {id(v): name for name, v in variables_of(call.layer).items()}
    return {
        (layer.name, variable.name): names[id(variable)]
        for _, layer in layer_tree.layers_by_path(call.layer)[1:]
        for variable in layer_tree.own_variables(layer)
    }
