"""Recurrent layers, whose units read each other."""

from typing import Any

import numpy as np
from keras import layers

from l2keras.compaction import elementwise
from l2keras.compaction.channels import Array, Channels, Slots
from l2keras.compaction.consumers import Consumer, through
from l2keras.compaction.rules import (
    Along,
    Call,
    NotCompactable,
    check_plain,
    comes_first,
    places,
)

LAYERS = (layers.LSTM, layers.GRU, layers.SimpleRNN)
CELLS = (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)


class Recurrent(Consumer):
    """`LSTM`, `GRU`, `SimpleRNN`: units read the inputs, and each other.

    The state of a unit is zero at first, and stays zero if it is made of zeros
    alone.
    """

    can_substitute = False

    def directions(self, layer: Any) -> list[Any]:
        """The recurrent layers in a layer."""
        return [layer]

    def check(self, layer: Any) -> None:
        """Raises `NotCompactable` if the layers in it are not known."""

    def size(self, layer: Any, units: int) -> dict[str, Any]:
        """The change of a config for some number of units."""
        return {"units": units}

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        self.check(call.layer)
        x, directions = call.input, self.directions(call.layer)
        cells = [layer.cell for layer in directions]
        for each in (*directions, *cells):
            check_plain(each)
        self.is_reading(call, self.axis(call.layer, x.shape))
        if not call.reads:
            call.keeps_outputs = call.keeps_inputs
        elif any(layer.stateful for layer in directions):
            call.keeps_outputs = "its states stay for the next batch"
        elif not all(
            elementwise.is_activation(getattr(cell, name, None))
            for cell in cells
            for name in ("activation", "recurrent_activation")
        ):
            call.keeps_outputs = "its activations may mix channels"
        for number, cell in enumerate(cells):
            units = call.weights[_name("recurrent_kernel", number)].shape[-2]
            state = Channels.varying((None, None, units), slots)
            if not call.keeps_outputs:
                is_zero = self._are_zero(call, cell, number)
                state.values = np.where(is_zero, 0.0, np.nan)
            call.states.append(state)
        return self.returned(call, slots)

    def returned(self, call: Call, slots: Slots) -> list[Channels]:
        """The channels of the tensors that it returns."""
        (state,) = call.states
        return [
            state.like(shape, self.axis(call.layer, shape))
            for shape in call.shapes
        ]

    def axis(self, layer: Any, shape: tuple[int | None, ...]) -> int:
        """The axis of the channels of a tensor that it reads or returns."""
        return len(shape) - 1

    def read(self, call: Call) -> tuple[Array, Array]:
        every = [call.input, *call.states]
        return (
            np.concatenate([channels.slots for channels in every]),
            np.concatenate([channels.values for channels in every]),
        )

    def made(self, call: Call) -> Array:
        return np.concatenate(
            [
                self._of_gates(call, number)
                for number, _ in enumerate(call.states)
            ]
        )

    def along(
        self, call: Call, name: str, shape: tuple[int, ...]
    ) -> dict[int, Along]:
        number = int(name.endswith("_2"))
        kind = name.removesuffix("_2")
        made = Along(self._of_gates(call, number))
        if kind == "kernel":
            return {-2: Along(call.input.slots, is_read=True), -1: made}
        if kind == "recurrent_kernel":
            read = call.states[number].slots
            return {-2: Along(read, is_read=True), -1: made}
        return {-1: made} if kind == "bias" else {}

    def config(self, call: Call, kept: Array) -> dict[str, Any]:
        return self.size(call.layer, int(kept.sum()))

    def kernel(self, layer: Any, weights: dict[str, Array]) -> Array:
        of_inputs, of_states = (
            [
                array.reshape(-1, *array.shape[-2:])
                for name, array in weights.items()
                if name.removesuffix("_2") == kind
            ]
            for kind in ("kernel", "recurrent_kernel")
        )
        rows = [np.concatenate(of_inputs, -1)]
        for one in of_states:  # Each direction reads its own.
            blocks = [
                one if other is one else np.zeros_like(one, shape=shape)
                for other in of_states
                for shape in [(*one.shape[:-1], other.shape[-1])]
            ]
            rows.append(np.concatenate(blocks, -1))
        return np.concatenate(rows, 1)

    def can_add(self, weights: dict[str, Array]) -> bool:
        # To give it a bias may cost more weights than it saves.
        kernels, biases = self._names(weights)
        return len(biases) == len(kernels)

    def add(self, weights: dict[str, Array], constant: Array) -> None:
        kernels, biases = self._names(weights)
        ends = np.cumsum([weights[name].shape[-1] for name in kernels])
        for name, part in zip(
            biases, np.split(constant, ends[:-1]), strict=True
        ):
            bias = weights[name]
            if bias.ndim == 2:  # Of `GRU`: one for inputs, one for states.
                part = np.stack([part, np.zeros_like(part)])
            weights[name] = bias + part

    def multiplied(self, call: Call) -> int | None:
        return call.input.shape[1]

    def _names(self, weights: dict[str, Array]) -> tuple[list[str], list[str]]:
        """The names of kernels and biases, one for each direction."""
        kernels = [name for name in weights if name.startswith("kernel")]
        return kernels, [name for name in weights if name.startswith("bias")]

    def _of_gates(self, call: Call, number: int) -> Array:
        """The slots of units, once for each of their gates."""
        slots = call.states[number].slots
        gates = call.weights[_name("kernel", number)].shape[-1] // len(slots)
        return np.tile(slots, gates)

    def _are_zero(self, call: Call, cell: Any, number: int) -> Array:
        """For each unit, whether its state is always zero."""
        names = [
            _name(kind, number)
            for kind in ("kernel", "recurrent_kernel", "bias")
        ]
        kernel, states = (call.weights[name] for name in names[:2])
        units = states.shape[-2]
        gates = states.shape[-1] // units
        # The gate whose activation is added to the state.
        new = min(gates - 1, 2)
        kernel, states = (
            array.reshape(-1, array.shape[-2], gates, units)[:, :, new]
            for array in (kernel, states)
        )
        bias = call.weights.get(names[2], np.zeros(gates * units))
        bias, *others = bias.reshape(-1, gates, units)[:, new]
        values = call.input.values
        varies = np.isnan(values) | (self.pads(call.layer) & (values != 0))
        constant = through(kernel, np.where(varies, 0.0, values)) + bias
        is_zero = elementwise.activated(cell, constant) == 0
        is_zero &= ~(kernel != 0).any(0)[varies].any(0)
        for other in others:  # Of `GRU`, multiplied by a gate.
            is_zero &= other == 0
        reads = (states != 0).any(0)
        while (changed := is_zero & reads[~is_zero].any(0)).any():
            is_zero &= ~changed
        return is_zero


class BidirectionalRule(Recurrent):
    """`Bidirectional` around one of these."""

    def directions(self, layer: Any) -> list[Any]:
        return [layer.forward_layer, layer.backward_layer]

    def check(self, layer: Any) -> None:
        one, other = self.directions(layer)
        if type(one) is not type(other) or type(one) not in LAYERS:
            raise NotCompactable("the layer in it is not known")

    def returned(self, call: Call, slots: Slots) -> list[Channels]:
        one, other = call.states
        mode = call.layer.merge_mode
        if len(one.slots) != len(other.slots):
            call.keeps_outputs = "its directions differ in their units"
        elif mode in ("concat", None):
            # Keras wants as many in both. Those that are zero come first.
            first, second = (
                state.slots[np.argsort(np.isnan(state.values), kind="stable")]
                for state in call.states
            )
            slots.union(first, second)
        else:
            slots.union(one.slots, other.slots)
        if mode == "concat":
            merged = [
                Channels(
                    call.shapes[0],
                    0,
                    np.concatenate([one.slots, other.slots]),
                    np.concatenate([one.values, other.values]),
                )
            ]
        elif mode is None:
            merged = [one, other]
        else:  # Zero, where both are.
            merged = [one.like((), values=one.values + other.values)]
        number = (len(call.shapes) - len(merged)) // 2
        every = [*merged, *[one] * number, *[other] * number]
        return [
            channels.like(shape, len(shape) - 1)
            for channels, shape in zip(every, call.shapes, strict=True)
        ]

    def config(self, call: Call, kept: Array) -> dict[str, Any]:
        one = kept[: len(call.states[0].slots)]  # Of both, as many stay.
        size = {"config": self.size(call.layer, int(one.sum()))}
        return {"layer": size, "backward_layer": size}


class CellRule(Recurrent):
    """`RNN` of one of the cells of these."""

    def check(self, layer: Any) -> None:
        if type(layer.cell) not in CELLS:
            raise NotCompactable("the cell in it is not known")

    def size(self, layer: Any, units: int) -> dict[str, Any]:
        return {"cell": {"config": super().size(layer, units)}}


class RecurrentConvolution(Recurrent):
    """`ConvLSTM1D` to `ConvLSTM3D`."""

    def size(self, layer: Any, units: int) -> dict[str, Any]:
        return {"filters": units}

    def pads(self, layer: Any) -> bool:
        return layer.padding != "valid" and max(layer.kernel_size) > 1

    def axis(self, layer: Any, shape: tuple[int | None, ...]) -> int:
        places_after = len(layer.kernel_size) if comes_first(layer) else 0
        return super().axis(layer, shape) - places_after

    def multiplied(self, call: Call) -> int | None:
        # The places of the last output, at each step.
        made, steps = call.outputs[0], call.input.shape[1]
        number = places(made)
        if number is None or steps is None:
            return None
        return number if call.layer.return_sequences else number * steps


def _name(kind: str, number: int) -> str:
    """The name of a weight of the first direction, or of the second."""
    return f"{kind}_2" if number else kind
