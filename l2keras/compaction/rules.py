"""The base of the rules by which layers act on channels."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from l2keras.compaction.channels import Array, Channels, Slots


class NotCompactable(Exception):  # noqa: N818, since it is no error.
    """Says why the channels around a layer must stay."""


@dataclasses.dataclass(eq=False)
class Call:
    """One call of a layer in a graph.

    Attributes:
        operation: The layer that is called, or an operation that is none.
        layer: The layer that computes: the same, or for `TimeDistributed` the
            layer in it, which is called for each place along an axis.
        path: Its path in the model.
        inputs: The channels of the tensors that it is called on.
        shapes: The shapes of the tensors that it returns.
        compute: Function from tensors, in the places of the inputs, to its
            outputs in evaluation.
        args: The arguments that it is called with.
        kwargs: Those by name.
        dtype: The type that it computes in.
        weights: Its weights by name, with small ones rounded to zero.
        is_masked: Whether a mask comes with an input.
        outputs: The channels of the tensors that it returns.
        states: Those of tensors that it keeps to itself and reads again.
        reads: Whether some inputs may be unread, channel by channel.
        live: For each of its outputs, whether it must stay, even if unread.
        keeps_inputs: Why all of its inputs stay, if they do.
        keeps_outputs: Why all of its outputs stay, if they do.
    """

    operation: Any
    layer: Any
    path: str
    inputs: list[Channels]
    shapes: list[tuple[int | None, ...]]
    compute: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    dtype: str
    weights: dict[str, Array]
    is_masked: bool
    outputs: list[Channels] = dataclasses.field(default_factory=list)
    states: list[Channels] = dataclasses.field(default_factory=list)
    reads: bool = False
    live: Array | None = None
    keeps_inputs: str = ""
    keeps_outputs: str = ""

    @property
    def input(self) -> Channels:
        if len(self.inputs) != 1:
            raise NotCompactable("it is called on several tensors")
        return self.inputs[0]


# The channels along an axis of a weight.
INPUT, OUTPUT = "read", "made"
Axes = dict[int, str]


@dataclasses.dataclass(frozen=True)
class Along:
    """The channels along an axis of a weight.

    Attributes:
        slots: The slot of each index.
        is_read: Whether the channels are read, and not made.
    """

    slots: Array
    is_read: bool = False


class Rule:
    """The rule of a kind of layer: how it acts on channels.

    Attributes:
        has_widths: Whether its config or its weights fix the number of
            channels, so that all its calls must agree.
        makes_channels: Whether it has a number of units, filters or the like.
        ignores_training: Whether it acts the same in training.
        arguments: Names of further arguments of its calls.
        axes: By the names of its weights, the axes of input and of output
            channels.
    """

    has_widths = True
    makes_channels = False
    ignores_training = False
    arguments: frozenset[str] = frozenset()
    axes: dict[str, Axes] = {}

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        """The channels of a call's outputs.

        Raises:
            NotCompactable: If all channels must stay.
        """
        raise NotImplementedError

    def axes_of(self, call: Call, name: str) -> Axes:
        """The axes of input and of output channels of a weight."""
        return self.axes.get(name, {})

    def along(
        self, call: Call, name: str, shape: tuple[int, ...]
    ) -> dict[int, Along]:
        """The channels along the axes of a weight of some shape."""
        found = {}
        for axis, which in self.axes_of(call, name).items():
            sides = call.inputs if which == INPUT else call.outputs
            # Several in a row may be of one channel.
            times = shape[axis] // max(len(sides[0].slots), 1)
            slots = np.repeat(sides[0].slots, times)
            found[axis] = Along(slots, which == INPUT)
        return found

    def config(self, call: Call, kept: Array) -> dict[str, Any]:
        """The changes of a config if some channels are kept.

        Args:
            call: The call.
            kept: For each output channel, whether it is kept.

        Returns:
            The new values by their names. A dictionary among them has those of
            a config in the config.
        """
        return {}

    def inside(self, call: Call) -> Array:
        """For each channel inside the layer alone, whether it is live."""
        return np.ones(0, bool)

    def without_dead_inside(
        self, call: Call, weights: dict[str, Array]
    ) -> dict[str, Any]:
        """Removes the dead channels inside the layer from the weights.

        Returns:
            The changes of the config.
        """
        return {}

    def rescale(self, weights: dict[str, Array], kept: Array) -> None:
        """Changes weights that depend on the number of channels."""

    def multiplied(self, call: Call) -> int | None:
        """The number of places of an example where its kernels multiply."""
        return 0

    def flops(
        self, call: Call, shapes: Mapping[str, tuple[int, ...]]
    ) -> int | None:
        """The operations for one example, `None` if they are not known.

        Two for each weight of a kernel at each place.

        Args:
            call: The call.
            shapes: The shapes of the weights by name, which may be smaller.
        """
        places = self.multiplied(call)
        if places is None:
            return None
        return 2 * places * weights_of_kernels(shapes)


def weights_of_kernels(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The number of weights in kernels."""
    return sum(
        math.prod(shape) for name, shape in shapes.items() if "kernel" in name
    )


def comes_first(layer: Any) -> bool:
    """Tells whether a layer has the channels before the places."""
    return getattr(layer, "data_format", None) == "channels_first"


def channel_axis(layer: Any, x: Channels) -> int:
    """The axis of a tensor that is that of channels to a layer."""
    return 1 if comes_first(layer) else len(x.shape) - 1


def check_plain(layer: Any) -> None:
    """Raises `NotCompactable` if a layer is quantized or has LoRA."""
    if getattr(layer, "quantization_mode", None):
        raise NotCompactable("it is quantized")
    if getattr(layer, "lora_enabled", False):
        raise NotCompactable("it has LoRA")


def known(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """A shape without the batch's dimension; empty if it is not known."""
    _, *sizes = shape
    known = tuple(size for size in sizes if size is not None)
    return known if len(known) == len(sizes) else ()


def places(x: Channels) -> int | None:
    """The number of places of a tensor, without the channels."""
    sizes = [n for i, n in enumerate(x.shape) if i not in (0, x.axis)]
    known = [size for size in sizes if size is not None]
    return int(np.prod(known)) if len(known) == len(sizes) else None
