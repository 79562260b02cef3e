"""Layers that make channels of others, or of numbers that they look up."""

from typing import Any

import numpy as np

from l2keras.compaction import elementwise
from l2keras.compaction.channels import Array, Channels, Slots
from l2keras.compaction.rules import (
    INPUT,
    OUTPUT,
    Call,
    NotCompactable,
    Rule,
    channel_axis,
    check_plain,
    comes_first,
    places,
)


class EmbeddingRule(Rule):
    """`Embedding`."""

    makes_channels = True
    axes = {"embeddings": {1: OUTPUT}}

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        check_plain(call.layer)
        call.keeps_inputs = "it looks them up"
        made = Channels.varying(call.shapes[0], slots)
        rows = call.weights["embeddings"]
        made.values = np.where((rows == rows[0]).all(0), rows[0], np.nan)
        return [made]

    def config(self, call: Call, kept: Array) -> dict[str, Any]:
        return {"output_dim": int(kept.sum())}


class Consumer(Rule):
    """Multiplies the channels that it is given by a kernel.

    Attributes:
        can_substitute: Whether the weights of one channel can serve for others.
    """

    can_substitute = True
    makes_channels = True

    def read(self, call: Call) -> tuple[Array, Array]:
        """The slots and the values of the channels that it reads."""
        return call.input.slots, call.input.values

    def made(self, call: Call) -> Array:
        """The slots of the channels that it makes."""
        return call.outputs[0].slots

    def kernel(self, layer: Any, weights: dict[str, Array]) -> Array:
        """The kernel, of shape (places, channels read, channels made)."""
        raise NotImplementedError

    def set_kernel(self, weights: dict[str, Array], kernel: Array) -> None:
        """Puts a kernel of that shape among the weights."""
        weights["kernel"] = kernel.reshape(weights["kernel"].shape)

    def pads(self, layer: Any) -> bool:
        """Tells whether it pads its inputs with zeros."""
        return False

    def can_add(self, weights: dict[str, Array]) -> bool:
        """Tells whether it can add a constant to its outputs."""
        return True

    def add(self, weights: dict[str, Array], constant: Array) -> None:
        """Adds a constant to its outputs."""
        weights["bias"] = weights.get("bias", 0.0) + constant

    def with_bias(self, layer: Any) -> dict[str, Any]:
        """The change of its config if it gets a bias."""
        return {"use_bias": True}

    def is_reading(self, call: Call, axis: int) -> bool:
        """Tells whether it reads the channels, and keeps them if it does not.

        It may read along another axis than that of the channels.
        """
        call.reads = call.input.axis == axis
        if not call.reads:
            call.keeps_inputs = "it reads along another axis"
        return call.reads


class DenseLike(Consumer):
    """`Dense`, convolutions: each output channel is made of all inputs."""

    axes = {"kernel": {-2: INPUT, -1: OUTPUT}, "bias": {0: OUTPUT}}
    width = "filters"

    def check(self, call: Call) -> None:
        """Raises `NotCompactable` if it differs from its class."""
        check_plain(call.layer)

    def kernel(self, layer: Any, weights: dict[str, Array]) -> Array:
        kernel = weights["kernel"]
        return kernel.reshape(-1, *kernel.shape[-2:])

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        layer, x = call.layer, call.input
        self.check(call)
        first = comes_first(layer)
        made = Channels.varying(call.shapes[0], slots, 1 if first else -1)
        kernel = self.kernel(layer, call.weights)
        # Unknown, if the channels are not those that it reads.
        values = np.full(kernel.shape[1], np.nan)
        if self.is_reading(call, channel_axis(layer, x)):
            values = x.values
        if not elementwise.is_activation(layer.activation):
            call.keeps_outputs = "its activation may mix channels"
            return [made]
        varies = np.isnan(values) | (self.pads(layer) & (values != 0))
        constant = through(kernel, np.where(varies, 0.0, values))
        constant = elementwise.activated(
            layer, constant + call.weights.get("bias", 0.0)
        )
        unknown = (kernel != 0).any(0)[varies].any(0)
        made.values = np.where(unknown, np.nan, constant)
        return [made]

    def config(self, call: Call, kept: Array) -> dict[str, Any]:
        return {self.width: int(kept.sum())}

    def multiplied(self, call: Call) -> int | None:
        return places(call.outputs[0])


class DenseRule(DenseLike):
    """`Dense`."""

    width = "units"


class EinsumDenseRule(DenseLike):
    """`EinsumDense` where it is equivalent to a `Dense`."""

    def check(self, call: Call) -> None:
        super().check(call)
        operands, made = call.layer.equation.replace(" ", "").split("->")
        x, kernel = operands.split(",")
        if not (
            len(kernel) == 2
            and kernel[0] == x[-1]
            and kernel[1] not in x
            and made == x[:-1] + kernel[1]
            and call.layer.bias_axes in (None, kernel[1])
        ):
            raise NotCompactable("its equation is not that of a Dense")

    def config(self, call: Call, kept: Array) -> dict[str, Any]:
        *others, _ = call.layer.get_config()["output_shape"]
        return {"output_shape": (*others, int(kept.sum()))}

    def with_bias(self, layer: Any) -> dict[str, Any]:
        return {"bias_axes": layer.equation.replace(" ", "")[-1]}


class Convolution(DenseLike):
    """`Conv1D` to `Conv3D`."""

    def pads(self, layer: Any) -> bool:
        return layer.padding != "valid" and max(layer.kernel_size) > 1


class TransposedConvolution(DenseLike):
    """`Conv1DTranspose` to `Conv3DTranspose`."""

    axes = {"kernel": {-2: OUTPUT, -1: INPUT}, "bias": {0: OUTPUT}}

    def kernel(self, layer: Any, weights: dict[str, Array]) -> Array:
        return super().kernel(layer, weights).swapaxes(1, 2)

    def set_kernel(self, weights: dict[str, Array], kernel: Array) -> None:
        super().set_kernel(weights, kernel.swapaxes(1, 2))

    def pads(self, layer: Any) -> bool:
        return True  # A constant channel does not stay constant.

    def multiplied(self, call: Call) -> int | None:
        return places(call.inputs[0])


class SeparableConvolution(Convolution):
    """`SeparableConv1D` and `SeparableConv2D`."""

    axes = {
        "depthwise_kernel": {-2: INPUT},
        "pointwise_kernel": {-2: INPUT, -1: OUTPUT},
        "bias": {0: OUTPUT},
    }
    can_substitute = False

    def kernel(self, layer: Any, weights: dict[str, Array]) -> Array:
        depthwise = weights["depthwise_kernel"]
        depthwise = depthwise.reshape(-1, *depthwise.shape[-2:])
        pointwise = weights["pointwise_kernel"]
        made = pointwise.shape[-1]
        return np.einsum(
            "pcm,cmo->pco",
            depthwise,
            pointwise.reshape(*depthwise.shape[1:], made),
            dtype=float,
        )


def through(kernel: Array, constants: Array) -> Array:
    """The outputs of a kernel for channels that are the same everywhere.

    In float64, and without zeros among them: a kernel may be large.
    """
    some = constants != 0
    return constants[some] @ kernel[:, some].sum(0, dtype=float)
