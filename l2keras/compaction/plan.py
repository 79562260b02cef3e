"""The channels that go, and the weights without them.

Dead channels are found as a compiler finds dead code: those that are live are
marked, from the outputs backward, and the rest is swept. Those that are
constant are folded into the layers that read them.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from l2keras.compaction.channels import Array, Channels, same_or_nan
from l2keras.compaction.consumers import Consumer, through
from l2keras.compaction.graph import Graph
from l2keras.compaction.nodes import arrays_of
from l2keras.compaction.rules import Call, Rule


@dataclasses.dataclass
class Made:
    """A layer as it will be.

    Attributes:
        config: The changes of its config.
        weights: Its weights by name, with a bias if it gets one.
    """

    config: dict[str, Any]
    weights: dict[str, Array]


class _Node:
    """A layer that reads channels, with the constants among its inputs.

    Attributes:
        inputs: The representative of each channel that it reads.
        outputs: Those of the channels that it makes.
        values: The constants; NaN for channels that vary.
    """

    def __init__(
        self,
        calls: list[Call],
        rule: Consumer,
        representatives: Array,
        is_removed: Array,
    ) -> None:
        call = calls[0]
        self.rule, self.layer, self.path = rule, call.layer, call.path
        self.inputs = representatives[rule.read(call)[0]]
        self.outputs = representatives[rule.made(call)]
        self.values = same_or_nan([rule.read(call)[1] for call in calls])
        self.values[is_removed[self.inputs]] = 0.0
        kernel = rule.kernel(self.layer, call.weights)
        self._can_add = rule.can_add(call.weights)
        self._connects = (kernel != 0).any(0)
        self._cached: tuple[bytes, Array] | None = None

    def is_read(self, live: Array) -> Array:
        """For each input, whether a live output is made of it."""
        outputs = live[self.outputs]
        key = outputs.tobytes()
        if self._cached is None or self._cached[0] != key:
            self._cached = key, self._connects[:, outputs].any(1)
        return self._cached[1]

    def live_and_constant(self, live: Array) -> tuple[Array, Array]:
        """The inputs that are live, and the constants of which one must be.

        The others are not read, or constants that can be folded into the bias.
        Where a layer pads its input with zeros, no constant can be, but the
        weights of one constant channel can serve for all of them.
        """
        is_read = self.is_read(live)
        varies = np.isnan(self.values)
        constant = is_read & (self.values != 0) & ~varies
        if self.rule.pads(self.layer):
            if self.rule.can_substitute:
                return is_read & varies, constant
            return is_read & (self.values != 0), np.zeros_like(is_read)
        if self._can_add:
            return is_read & varies, np.zeros_like(is_read)
        return (is_read & varies) | constant, np.zeros_like(is_read)


class Plan:
    """The channels of a model that go, and those that stay.

    A channel is live if the model returns it, or if a live channel is made of
    it and it is no constant that can be folded. The rest goes, except one
    unused channel of each tensor that has no live one.

    Args:
        graph: The model.
        drop_inputs: Whether inputs may go too.
        removed: Slots that are to go although outputs depend on them: those who
            read them read zeros.

    Attributes:
        removed: For each slot, whether it is one of those.
        live: For each slot, whether its values must be the same.
        stays: For each slot, whether it stays.
        is_read: For each slot, whether an output depends on it.
        why: The reasons why slots stay.
    """

    def __init__(
        self,
        graph: Graph,
        drop_inputs: bool = False,
        removed: Iterable[int] = (),
    ) -> None:
        self.graph = graph
        self._representatives = graph.slots.representatives()
        is_removed = np.zeros(len(self._representatives), bool)
        is_removed[self._representatives[list(removed)]] = True
        self.removed = is_removed[self._representatives]
        self._made: dict[int, Made] = {}
        self._by_layer: dict[int, list[tuple[Call, Rule]]] = {}
        for call, rule in zip(graph.calls, graph.rules, strict=True):
            if rule is not None:
                self._by_layer.setdefault(id(call.operation), []).append(
                    (call, rule)
                )
        self._nodes = {
            layer: _Node(
                [call for call, _ in calls],
                rule,
                self._representatives,
                is_removed,
            )
            for layer, calls in self._by_layer.items()
            if isinstance(rule := calls[0][1], Consumer)
            and all(call.reads for call, _ in calls)
        }
        self.why = {
            int(self._representatives[slot]): reason
            for slot, reason in reversed(graph.kept.items())
        }
        self._roots = np.zeros(len(self._representatives), bool)
        self._roots[list(self.why)] = True
        self.is_read = self._mark([])[self._representatives]
        if not drop_inputs:
            for channels in graph.inputs.values():
                slots = self._representatives[channels.slots]
                self._roots[slots] = True
                for slot in slots.tolist():
                    self.why.setdefault(slot, "they are inputs of the model")
        live = self._mark_with_substitutes()
        stays = self._with_one_per_tensor(live)
        while (averaged := self._averaged() & stays & ~live).any():
            self._roots |= averaged
            live = self._mark_with_substitutes()
            stays = self._with_one_per_tensor(live)
        self.live = live[self._representatives]
        self.stays = stays[self._representatives]

    def keeps(self, channels: Channels) -> Array:
        """For each channel, whether it stays."""
        return self.stays[channels.slots]

    def keeps_all(self) -> bool:
        """Tells whether no tensor loses a channel."""
        return all(
            self.keeps(channels).all()
            for call in self.graph.calls
            for channels in (*call.inputs, *call.outputs)
        )

    def must_stay(self, slots: Array) -> Array:
        """For each slot, whether it stays even if no layer reads it."""
        return self._roots[self._representatives[slots]]

    def groups(self, slots: Array) -> Array:
        """For each slot, one number of those that go or stay with it."""
        return self._representatives[slots]

    def reason(self, slot: int) -> str:
        """The reason why a slot stays."""
        return self.why[int(self._representatives[slot])]

    def layers(self) -> Iterator[tuple[Call, Rule]]:
        """Yields the layers that are not left alone, by their first calls."""
        for calls in self._by_layer.values():
            yield calls[0]

    def made(self, call: Call, rule: Rule) -> Made:
        """The layer as it will be."""
        key = id(call.operation)
        if key not in self._made:
            self._made[key] = self._make(call, rule)
        return self._made[key]

    def _make(self, call: Call, rule: Rule) -> Made:
        weights = arrays_of(call.operation)
        config = rule.without_dead_inside(call, weights)
        outputs = self.keeps(call.outputs[0])
        if isinstance(rule, Consumer) and id(call.operation) in self._nodes:
            had_bias = "bias" in weights
            self._fold_constants(self._nodes[id(call.operation)], weights)
            if "bias" in weights and not had_bias:
                config.update(rule.with_bias(call.layer))
        if not outputs.all():
            config.update(rule.config(call, outputs))
        for name, array in weights.items():
            for axis, along in rule.along(call, name, array.shape).items():
                kept, is_used = self.stays[along.slots], self.live[along.slots]
                # The values of a channel that stays unused make no difference.
                if along.is_read and not is_used[kept].all():
                    array = _zero_unused(array, axis, is_used)
                if not kept.all():  # Else along another axis, perhaps.
                    array = np.compress(kept, array, axis=axis)
            weights[name] = array
        rule.rescale(weights, outputs)
        return Made(config, weights)

    def _mark(self, substitutes: list[int]) -> Array:
        """The live slots, given the roots and some substitutes."""
        live = self._roots.copy()
        live[substitutes] = True
        changed = True
        while changed:
            changed = False
            for node in reversed(self._nodes.values()):
                must, _ = node.live_and_constant(live)
                slots = node.inputs[must]
                for slot in slots[~live[slots]].tolist():
                    self.why.setdefault(slot, f"{node.path} reads them")
                if not live[slots].all():
                    live[slots] = changed = True
        return live

    def _mark_with_substitutes(self) -> Array:
        """The live slots, with the constants that substitute for others."""
        substitutes: list[int] = []
        while True:
            live = self._mark(substitutes)
            slot = self._uncovered_constant(live)
            if slot is None:
                break
            substitutes.append(slot)
        for slot in list(substitutes):  # A later one may serve as well.
            others = [other for other in substitutes if other != slot]
            fewer = self._mark(others)
            if self._uncovered_constant(fewer) is None:
                substitutes, live = others, fewer
        return live

    def _averaged(self) -> Array:
        """Slots whose mean a layer takes: a zero must stay zero, or go."""
        found = np.zeros(len(self._roots), bool)
        for call in self.graph.calls:
            if call.live is not None:
                found[self._representatives[call.outputs[0].slots]] = True
        return found

    def _uncovered_constant(self, live: Array) -> int | None:
        """A constant that must be live, since no substitute for it is."""
        for node in reversed(self._nodes.values()):
            _, constant = node.live_and_constant(live)
            slots = node.inputs[constant]
            if len(slots) and not live[slots].any():
                sizes = np.abs(node.values[constant])
                slot = int(slots[np.argmax(sizes)])
                self.why.setdefault(
                    slot, f"{node.path} pads them, and they are not zero"
                )
                return slot
        return None

    def _with_one_per_tensor(self, live: Array) -> Array:
        """The slots that stay: live ones, and at least one of each tensor."""
        stays = live.copy()
        tensors = [
            self._representatives[channels.slots]
            for call in reversed(self.graph.calls)
            for channels in (*call.outputs, *call.states, *call.inputs)
            if len(channels.slots)
        ]
        added = []
        for slots in tensors:
            if not stays[slots].any():
                stays[slots[0]] = True
                added.append(slots[0])
        for slot in added:  # A later one may be in that tensor as well.
            stays[slot] = False
            if not all(stays[slots].any() for slots in tensors):
                stays[slot] = True
                self.why.setdefault(int(slot), "a layer must have one")
        return stays

    def _fold_constants(self, node: _Node, weights: dict[str, Array]) -> None:
        """Folds constants into the bias, or the weights of a substitute."""
        folded = ~self.live[node.inputs] & node.is_read(self.live)
        folded &= (node.values != 0) & ~np.isnan(node.values)
        if not folded.any():
            return
        rule, values = node.rule, np.where(folded, node.values, 0.0)
        kernel = rule.kernel(node.layer, weights)
        if rule.pads(node.layer):
            _, constant = node.live_and_constant(self.live)
            stays = constant & self.live[node.inputs]
            one = int(np.argmax(np.where(stays, np.abs(node.values), -1)))
            moved = np.einsum(
                "c,pco->po",
                values[folded] / node.values[one],
                kernel[:, folded],
                dtype=float,
            )
            kernel = kernel.copy()
            kernel[:, one] += moved
            rule.set_kernel(weights, kernel)
            return
        added = through(kernel, values)
        added[~self.live[node.outputs]] = 0
        if added.any():
            rule.add(weights, added)


def _zero_unused(array: Array, axis: int, is_used: Array) -> Array:
    """Weights with zeros for channels that are not used."""
    shape = [1] * array.ndim
    shape[axis] = -1
    return np.where(is_used.reshape(shape), array, 0)
