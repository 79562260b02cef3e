"""Which channels go, and what the weights are without them."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from l2keras.compaction.channels import Array, Channels, same_or_nan
from l2keras.compaction.graph import Graph, arrays_of
from l2keras.compaction.reading import Mixing, Reading, Table, through
from l2keras.compaction.rules import READ, Call, Rule


@dataclasses.dataclass
class Made:
    """A layer as it will be.

    Attributes:
        config: What its config says otherwise.
        weights: Its weights by name. One more than there were if it gets a
            bias.
    """

    config: dict[str, Any]
    weights: dict[str, Array]


class _Reader:
    """A layer that reads channels, with what is known of those it is given."""

    def __init__(self, calls: list[Call], rule: Reading, roots: Array) -> None:
        self.rule, self.layer, self.path = (
            rule,
            calls[0].layer,
            calls[0].path,
        )
        self.read = roots[calls[0].input.slots]
        # Those of units that all stay are not asked for.
        made = calls[0].outputs[0].slots if isinstance(rule, Mixing) else None
        self.made = None if made is None else roots[made]
        self.values = same_or_nan([call.input.values for call in calls])
        kernel = rule.kernel(self.layer, calls[0].weights)
        self._can_add = rule.can_add(calls[0].weights)
        self._connects = (kernel != 0).any(0)
        self._asked: tuple[bytes, Array] | None = None

    def reads(self, needed: Array) -> Array:
        """Tells of each channel whether one that is needed is made of it."""
        made = needed[self.made] if self.made is not None else np.ones(0, bool)
        key = made.tobytes()
        if self._asked is None or self._asked[0] != key:
            connects = self._connects
            if self.made is not None:
                connects = connects[:, made]
            self._asked = key, connects.any(1)
        return self._asked[1]

    def splits(self, needed: Array) -> tuple[Array, Array]:
        """Returns what it must be given, and of what one may do for all.

        The rest is not read, or a constant that is added to what it makes.
        Where there are zeros around a constant, none can be added, but the
        weights of one such channel can do for the others too.
        """
        reads = self.reads(needed)
        constant = reads & (self.values != 0) & ~np.isnan(self.values)
        if self.rule.pads(self.layer):
            if self.rule.stands_in:
                return reads & np.isnan(self.values), constant
            return reads & (self.values != 0), np.zeros_like(reads)
        must = reads & np.isnan(self.values)
        if not self._can_add:
            must |= constant
        return must, np.zeros_like(reads)


class Plan:
    """Which channels of a model go.

    A channel is needed if the model returns it, or if something that is needed
    is made of it and there is no way around. It is found from the outputs
    backward; the rest goes. Where nothing of a tensor is needed one channel
    stays, which nobody listens to, so that it needs nothing either.

    Args:
        graph: The model.
        drop_inputs: Whether inputs may go too.

    Attributes:
        needed: Of each slot, whether it must be what it was.
        stays: Of each slot, whether it stays.
        why: Of slots that stay, why.
    """

    def __init__(self, graph: Graph, drop_inputs: bool = False) -> None:
        self.graph = graph
        self._roots = graph.slots.roots()
        self._made: dict[int, Made] = {}
        self._by_layer: dict[int, list[tuple[Call, Rule]]] = {}
        for call, rule in zip(graph.calls, graph.rules, strict=True):
            if rule is not None:
                self._by_layer.setdefault(id(call.layer), []).append(
                    (call, rule)
                )
        self._readers = {
            layer: _Reader([call for call, _ in calls], rule, self._roots)
            for layer, calls in self._by_layer.items()
            if isinstance(rule := calls[0][1], Reading)
            and all(call.reads for call, _ in calls)
        }
        self.why = {
            int(self._roots[slot]): reason
            for slot, reason in reversed(graph.kept.items())
        }
        self._base = np.zeros(len(self._roots), bool)
        self._base[list(self.why)] = True
        self.read = self._marked([])[self._roots]
        if not drop_inputs:
            for channels in graph.inputs.values():
                roots = self._roots[channels.slots]
                self._base[roots] = True
                for root in roots.tolist():
                    self.why.setdefault(root, "they are inputs of the model")
        needed = self._solved()
        self.needed = needed[self._roots]
        self.stays = self._filled(needed)[self._roots]

    def keeps(self, channels: Channels) -> Array:
        """Tells of each channel whether it stays."""
        return self.stays[channels.slots]

    def keeps_all(self) -> bool:
        """Tells whether no tensor loses a channel."""
        return all(
            self.keeps(channels).all()
            for call in self.graph.calls
            for channels in (*call.inputs, *call.outputs)
        )

    def reason(self, slot: int) -> str:
        """Returns why a slot stays."""
        return self.why[int(self._roots[slot])]

    def layers(self) -> Iterator[tuple[Call, Rule]]:
        """Yields the layers that are not left alone, by their first calls."""
        for calls in self._by_layer.values():
            yield calls[0]

    def made(self, call: Call, rule: Rule) -> Made:
        """Returns what becomes of a layer."""
        key = id(call.layer)
        if key not in self._made:
            self._made[key] = self._make(call, rule)
        return self._made[key]

    def _make(self, call: Call, rule: Rule) -> Made:
        weights = arrays_of(call.layer)
        config: dict[str, Any] = {}
        made = self.keeps(call.outputs[0])
        read = self.keeps(call.inputs[0])
        is_heard = np.ones_like(read)
        if isinstance(rule, Reading) and id(call.layer) in self._readers:
            had_bias = "bias" in weights
            is_heard = ~self._fold(self._readers[id(call.layer)], weights)
            if "bias" in weights and not had_bias:
                config.update(rule.with_bias(call.layer))
        if not made.all():
            config.update(rule.config(call, made))
        for name, array in weights.items():
            for axis, which in rule.axes_of(call, name).items():
                kept = read if which == READ else made
                if which == READ and not is_heard[kept].all():
                    array = _silenced(array, axis, is_heard)
                if kept.all():
                    continue  # Along another axis, perhaps.
                # Several in a row may be of one channel.
                times = array.shape[axis] // len(kept)
                array = np.compress(np.repeat(kept, times), array, axis=axis)
            weights[name] = array
        return Made(config, weights)

    def _marked(self, chosen: list[int]) -> Array:
        """Returns what is needed for the outputs, and for some channels."""
        needed = self._base.copy()
        needed[chosen] = True
        changed = True
        while changed:
            changed = False
            for reader in reversed(self._readers.values()):
                must, _ = reader.splits(needed)
                slots = reader.read[must]
                for slot in slots[~needed[slots]].tolist():
                    self.why.setdefault(slot, f"{reader.path} reads them")
                if not needed[slots].all():
                    needed[slots] = changed = True
        return needed

    def _solved(self) -> Array:
        """Returns what is needed where one of some must do for the others."""
        chosen: list[int] = []
        while (one := self._unmet(needed := self._marked(chosen))) is not None:
            chosen.append(one)
        for one in list(chosen):  # What came later may do for it as well.
            others = [each for each in chosen if each != one]
            fewer = self._marked(others)
            if self._unmet(fewer) is None:
                chosen, needed = others, fewer
        return needed

    def _unmet(self, needed: Array) -> int | None:
        """Returns a constant that must stay because all like it would go."""
        for reader in reversed(self._readers.values()):
            _, constant = reader.splits(needed)
            slots = reader.read[constant]
            if len(slots) and not needed[slots].any():
                sizes = np.abs(reader.values[constant])
                slot = int(slots[np.argmax(sizes)])
                self.why.setdefault(
                    slot, f"{reader.path} pads them, and they are not zero"
                )
                return slot
        return None

    def _filled(self, needed: Array) -> Array:
        """Returns what stays: what is needed, and one of each tensor."""
        stays = needed.copy()
        tensors = [
            self._roots[channels.slots]
            for call in reversed(self.graph.calls)
            for channels in (*call.outputs, *call.inputs)
            if len(channels.slots)
        ]
        added = []
        for slots in tensors:
            if not stays[slots].any():
                stays[slots[0]] = True
                added.append(slots[0])
        for slot in added:  # What came later may do for it as well.
            stays[slot] = False
            if not all(stays[slots].any() for slots in tensors):
                stays[slot] = True
                self.why.setdefault(int(slot), "a layer must have one")
        return stays

    def _fold(self, reader: _Reader, weights: dict[str, Array]) -> Array:
        """Puts constants into the bias, or into what is read of another one.

        Returns:
            Of the channels that are read, which are put there. They need not be
            read any more.
        """
        goes = ~self.needed[reader.read] & reader.reads(self.needed)
        goes &= (reader.values != 0) & ~np.isnan(reader.values)
        if not goes.any():
            return goes
        rule, values = reader.rule, np.where(goes, reader.values, 0.0)
        kernel = rule.kernel(reader.layer, weights)
        if rule.pads(reader.layer):
            _, constant = reader.splits(self.needed)
            stays = constant & self.needed[reader.read]
            one = int(np.argmax(np.where(stays, np.abs(reader.values), -1)))
            moved = np.einsum(
                "c,pco->po",
                values[goes] / reader.values[one],
                kernel[:, goes],
                dtype=float,
            )
            kernel = kernel.copy()
            kernel[:, one] += moved
            rule.set_kernel(weights, kernel)
            return goes
        added = through(kernel, values)
        if reader.made is not None:
            added[~self.needed[reader.made]] = 0
        if added.any():
            rule.add(weights, added)
        return goes


def _silenced(array: Array, axis: int, is_heard: Array) -> Array:
    """Returns weights with zeros for channels that are not to be heard."""
    shape = [1] * array.ndim
    shape[axis] = -1
    times = array.shape[axis] // len(is_heard)
    return np.where(np.repeat(is_heard, times).reshape(shape), array, 0)


def makes_channels(rule: Rule) -> bool:
    """Tells whether a layer has a number of units, filters or the like."""
    return isinstance(rule, Mixing | Table)
