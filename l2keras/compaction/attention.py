"""Heads of attention layers, which are channels of their own."""

from typing import Any

import numpy as np
from keras import layers

from l2keras._keras import layer_tree
from l2keras.compaction.channels import Array, Channels, Slots
from l2keras.compaction.nodes import variables_of
from l2keras.compaction.rules import Call, NotCompactable, Rule, check_plain

# The layers in an attention that have weights. Heads are the first axis of the
# outputs of the first ones, and of the inputs of the last one.
_PROJECTIONS = ("query", "key", "value", "gate")
_LAST = "attention_output"

_MASKS = ("attention_mask", "key_mask", "query_mask", "value_mask")


class Attention(Rule):
    """`MultiHeadAttention`, and `GroupQueryAttention` by its groups.

    Its inputs and outputs stay. A head goes if its values are zero, or if the
    output kernel has only zeros for it; and a group if all heads in it do.

    Args:
        names: The config's names for the number of heads, and the number of
            groups.
    """

    arguments = frozenset({"key", "use_causal_mask", "value", *_MASKS})

    def __init__(self, *names: str) -> None:
        self.names = names

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
        weights = {
            place: call.weights[name] for place, name in _places(call).items()
        }
        live: Array = np.any(weights["value", "kernel"], (0, 2))
        if ("value", "bias") in weights:
            live = live | np.any(weights["value", "bias"], 1)
        live &= np.any(weights[_LAST, "kernel"].reshape(len(live), -1), 1)
        live[0] |= not live.any()  # A layer must have one.
        return live

    def without_dead_inside(
        self, call: Call, weights: dict[str, Array]
    ) -> dict[str, Any]:
        live = self.inside(call)
        if live.all():
            return {}
        for (layer, kind), name in _places(call).items():
            array = weights[name]
            if layer == _LAST:
                axis = 0 if kind == "kernel" else None
            else:
                axis = 1 if kind == "kernel" else 0
            if axis is not None:
                kept = np.repeat(live, array.shape[axis] // len(live))
                weights[name] = np.compress(kept, array, axis)
        heads = weights[_places(call)["query", "kernel"]].shape[1]
        return dict(zip(self.names, (heads, int(live.sum())), strict=False))


def _places(call: Call) -> dict[tuple[str, str], str]:
    """The names of weights by their layers and their names in these."""
    names = {id(v): name for name, v in variables_of(call.layer).items()}
    return {
        (layer.name, variable.name): names[id(variable)]
        for _, layer in layer_tree.layers_by_path(call.layer)[1:]
        for variable in layer_tree.own_variables(layer)
    }
