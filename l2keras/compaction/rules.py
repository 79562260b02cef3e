"""What a kind of layer does to channels, in general."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from l2keras.compaction.channels import Array, Channels, Slots


class LeftAlone(Exception):  # noqa: N818, since it is no error.
    """Says why the channels around a layer must stay."""


@dataclasses.dataclass(eq=False)
class Call:
    """One call of a layer in a graph.

    Attributes:
        operation: What is called: a layer, or an operation that is none.
        layer: What computes: the same, or for `TimeDistributed` the layer in
            it, which is called for each place along an axis.
        path: Its path in the model.
        inputs: The channels of the tensors that it is called on.
        shapes: The shapes of those that it returns.
        compute: Function from tensors, in the places of the inputs, to what
            it returns of them in evaluation.
        kwargs: The arguments that it is called with by name.
        dtype: The type that it computes in.
        weights: Its weights by name, where small ones count as zero.
        is_masked: Whether a mask comes with an input.
        outputs: The channels of the tensors that it returns.
        reads: Whether to ask, channel by channel, which inputs are read.
        live: Of each of its outputs, whether that must stay, though it need not
            be read.
        keeps_inputs: Why all of its inputs stay, if they do.
        keeps_outputs: Why all of its outputs stay, if they do.
    """

    operation: Any
    layer: Any
    path: str
    inputs: list[Channels]
    shapes: list[tuple[int | None, ...]]
    compute: Callable[..., Any]
    kwargs: dict[str, Any]
    dtype: str
    weights: dict[str, Array]
    is_masked: bool
    outputs: list[Channels] = dataclasses.field(default_factory=list)
    reads: bool = False
    live: Array | None = None
    keeps_inputs: str = ""
    keeps_outputs: str = ""

    @property
    def input(self) -> Channels:
        if len(self.inputs) != 1:
            raise LeftAlone("it is called on several tensors")
        return self.inputs[0]


# The channels along an axis of a weight.
INPUT, OUTPUT = "read", "made"
Axes = dict[int, str]


class Rule:
    """What a kind of layer does to channels, and how its weights have them.

    Attributes:
        has_widths: Whether the layer says in its config or by its weights how
            many channels there are, so that all its calls must agree.
        ignores_training: Whether it does the same in training.
        arguments: Names of those with which it may be called besides.
        axes: By the names of its weights, which axes are of which channels.
    """

    has_widths = True
    ignores_training = False
    arguments: frozenset[str] = frozenset()
    axes: dict[str, Axes] = {}

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        """Returns the channels of what a call returns.

        Raises:
            LeftAlone: If all channels must stay.
        """
        raise NotImplementedError

    def axes_of(self, call: Call, name: str) -> Axes:
        """Returns which axes of a weight are of which channels."""
        return self.axes.get(name, {})

    def config(self, call: Call, kept: Array) -> dict[str, Any]:
        """Returns what a config says otherwise if some channels are kept.

        Args:
            call: The call.
            kept: Of each channel that it makes, whether it is kept.
        """
        return {}

    def inside(self, call: Call) -> Array:
        """Tells which channels that no other layer has are live."""
        return np.ones(0, bool)

    def without_dead_inside(
        self, call: Call, weights: dict[str, Array]
    ) -> dict[str, Any]:
        """Takes those that are dead from the weights.

        Returns:
            What the config says otherwise.
        """
        return {}

    def rescale(self, weights: dict[str, Array], kept: Array) -> None:
        """Changes weights for the channels that go, others having theirs."""

    def multiplied(self, call: Call) -> int | None:
        """Returns at how many places of an example its kernels multiply."""
        return 0


def comes_first(layer: Any) -> bool:
    """Tells whether a layer has the channels before the places."""
    return getattr(layer, "data_format", None) == "channels_first"


def channel_axis(layer: Any, x: Channels) -> int:
    """Returns which axis of a tensor is that of channels to a layer."""
    return 1 if comes_first(layer) else len(x.shape) - 1


def check_plain(layer: Any) -> None:
    """Raises `LeftAlone` if a layer's weights are not what its class says."""
    if getattr(layer, "quantization_mode", None):
        raise LeftAlone("it is quantized")
    if getattr(layer, "lora_enabled", False):
        raise LeftAlone("it has LoRA")


def known(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """Returns a shape without that of the batch; empty if it is not known."""
    _, *sizes = shape
    known = tuple(size for size in sizes if size is not None)
    return known if len(known) == len(sizes) else ()


def places(x: Channels) -> int | None:
    """Returns how many places a tensor has, the channels left out."""
    sizes = [n for i, n in enumerate(x.shape) if i not in (0, x.axis)]
    known = [size for size in sizes if size is not None]
    return int(np.prod(known)) if len(known) == len(sizes) else None
