"""What each kind of layer does to channels.

A layer that is not in the table at the end is left alone: all channels that it
is given stay, and all that it makes.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from l2keras.models.compaction import elementwise
from l2keras.models.compaction.channels import (
    Array,
    Channels,
    Slots,
    same_or_nan,
)
from l2keras.models.compaction.elementwise import Function


class LeftAlone(Exception):  # noqa: N818, since it is no error.
    """Says why the channels around a layer must stay."""


@dataclasses.dataclass(eq=False)
class Call:
    """One call of a layer in a graph.

    Attributes:
        layer: The layer.
        path: Its path in the model.
        inputs: The channels of the tensors that it is called on.
        shapes: The shapes of those that it returns.
        weights: Its weights by name, where small ones count as zero.
        is_masked: Whether a mask comes with an input.
        outputs: The channels of the tensors that it returns.
        reads: Whether to ask, channel by channel, which inputs are read.
        keeps_inputs: Why all of its inputs stay, if they do.
        keeps_outputs: Why all of its outputs stay, if they do.
    """

    layer: Any
    path: str
    inputs: list[Channels]
    shapes: list[tuple[int | None, ...]]
    weights: dict[str, Array]
    is_masked: bool
    outputs: list[Channels] = dataclasses.field(default_factory=list)
    reads: bool = False
    keeps_inputs: str = ""
    keeps_outputs: str = ""

    @property
    def input(self) -> Channels:
        if len(self.inputs) != 1:
            raise LeftAlone("it is called on several tensors")
        return self.inputs[0]


# The channels along an axis of a weight.
READ, MADE = "read", "made"
Axes = dict[int, str]


class Rule:
    """What a kind of layer does to channels, and how its weights have them.

    Attributes:
        has_widths: Whether the layer says in its config or by its weights how
            many channels there are, so that all its calls must agree.
        axes: By the names of its weights, which axes are of which channels.
    """

    has_widths = True
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

    def config(self, call: Call, made: int) -> dict[str, Any]:
        """Returns what a config says otherwise for so many output channels."""
        return {}

    def multiplied(self, call: Call) -> int | None:
        """Returns at how many places of an example its kernels multiply."""
        return 0


class Elementwise(Rule):
    """Works on each element alone, or does nothing in evaluation.

    Args:
        function: Function from the layer to what it computes, in NumPy.
    """

    has_widths = False

    def __init__(self, function: Callable[[Any], Function | None]) -> None:
        self.function = function

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        function = self.function(call.layer)
        if function is None:
            raise LeftAlone("it may mix channels")
        values = _finite(function(np.nan_to_num(call.input.values)))
        values = np.where(np.isnan(call.input.values), np.nan, values)
        return [call.input.like(call.shapes[0], values=values)]


class Slopes(Rule):
    """`PReLU`, whose slopes may differ from place to place."""

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        if not call.input.axis:
            raise LeftAlone("its shape is not known")
        values = np.where(call.input.values >= 0, call.input.values, np.nan)
        return [call.input.like(call.shapes[0], values=values)]

    def axes_of(self, call: Call, name: str) -> Axes:
        axis = call.input.axis - 1
        shared = call.weights[name].shape[axis] < len(call.input.slots)
        return {} if shared else {axis: MADE}


class Normalization(Rule):
    """`BatchNormalization`, which in evaluation is a line for each channel."""

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        x, weights = call.input, call.weights
        if x.axis != _the_axis(call.layer.axis) % len(x.shape):
            raise LeftAlone("its axis is not that of the channels")
        slope = weights.get("gamma", 1.0) / np.sqrt(
            np.asarray(weights["moving_variance"], float) + call.layer.epsilon
        )
        offset = weights.get("beta", 0.0) - weights["moving_mean"] * slope
        values = np.nan_to_num(x.values) * slope + offset
        unknown = np.isnan(x.values) & (slope != 0)
        if getattr(call.layer, "renorm", False):
            unknown = np.ones_like(unknown)
        values = _finite(np.where(unknown, np.nan, values))
        return [x.like(call.shapes[0], values=values)]

    def axes_of(self, call: Call, name: str) -> Axes:
        return {0: MADE}


class Spatial(Rule):
    """Pools, pads, crops or repeats along the axes that are not channels.

    Args:
        keeps_values: Function from the layer that tells whether a channel that
            is the same everywhere stays so. One of zeros always does.
    """

    has_widths = False

    def __init__(
        self, keeps_values: Callable[[Any], bool] = lambda layer: True
    ) -> None:
        self.keeps_values = keeps_values

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        x, shape = call.input, call.shapes[0]
        if x.axis != _channel_axis(call.layer, x):
            raise LeftAlone("it works along the axis of the channels")
        values = x.values
        if call.is_masked or not self.keeps_values(call.layer):
            values = np.where(values == 0, values, np.nan)
        axis = 1 if _comes_first(call.layer) else len(shape) - 1
        return [x.like(shape, axis, values)]


class Rearranging(Rule):
    """`Flatten` and `Reshape`."""

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        x = call.input
        old, new = _known(x.shape), _known(call.shapes[0])
        if not (x.axis and old and new):
            raise LeftAlone("its shape is not known")
        order = list(range(len(old)))
        if isinstance(call.layer, layers.Flatten) and _comes_first(call.layer):
            order = [*order[1:], 0]  # It puts them last, whatever they are.

        def rearranged(array: Array) -> Array:
            return x.over(array, old).transpose(order).reshape(new)

        labels = rearranged(x.slots)
        axis = _axis_of(labels)
        # As (channels, places). What is at any place of one is one slot.
        labels, values = (
            np.moveaxis(array, axis, 0).reshape(new[axis], -1)
            for array in (labels, rearranged(x.values))
        )
        first = labels[:, 0]
        for others in labels.T[1:]:
            if (others != first).any():
                slots.unite(first, others)
        values = same_or_nan(list(values.T))
        return [Channels(call.shapes[0], axis + 1, first, values)]

    def config(self, call: Call, made: int) -> dict[str, Any]:
        if isinstance(call.layer, layers.Flatten):
            return {}
        _, *shape = call.outputs[0].shape
        shape[call.outputs[0].axis - 1] = made
        return {"target_shape": tuple(shape)}


class Permuting(Rule):
    """`Permute`."""

    has_widths = False

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        x = call.input
        axis = [0, *call.layer.dims].index(x.axis)
        return [x.like(call.shapes[0], axis)]


class Repeating(Rule):
    """`RepeatVector`."""

    has_widths = False

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        return [call.input.like(call.shapes[0], 2)]


class Merging(Rule):
    """Adds tensors up, multiplies them and the like, channel by channel.

    Args:
        function: What it does to several arrays, in NumPy.
    """

    has_widths = False

    def __init__(self, function: Callable[[list[Array]], Array]) -> None:
        self.function = function

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        first, *others = call.inputs
        for other in others:
            if (
                len(other.shape) != len(first.shape)
                or other.axis != first.axis
                or len(other.slots) != len(first.slots)
            ):
                raise LeftAlone("it repeats one channel for several")
            slots.unite(first.slots, other.slots)
        # A mask may put other values in their places.
        values = np.full(len(first.slots), np.nan)
        if not call.is_masked:
            values = _finite(self.function([x.values for x in call.inputs]))
        return [first.like(call.shapes[0], values=values)]


class Concatenating(Rule):
    """`Concatenate`."""

    has_widths = False

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        first, *others = call.inputs
        axis = first.axis
        if not axis or any(x.axis != axis for x in others):
            raise LeftAlone("its inputs have their channels on several axes")
        if call.layer.axis % len(first.shape) == axis:
            return [
                Channels(
                    call.shapes[0],
                    axis,
                    np.concatenate([x.slots for x in call.inputs]),
                    np.concatenate([x.values for x in call.inputs]),
                )
            ]
        for other in others:
            slots.unite(first.slots, other.slots)
        values = same_or_nan([x.values for x in call.inputs])
        return [first.like(call.shapes[0], values=values)]


class Table(Rule):
    """`Embedding`."""

    axes = {"embeddings": {1: MADE}}

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        _check_plain(call.layer)
        call.keeps_inputs = "it looks them up"
        made = Channels.varying(call.shapes[0], slots)
        rows = call.weights["embeddings"]
        made.values = np.where((rows == rows[0]).all(0), rows[0], np.nan)
        return [made]

    def config(self, call: Call, made: int) -> dict[str, Any]:
        return {"output_dim": made}


class Reading(Rule):
    """Multiplies the channels that it is given by a kernel.

    Attributes:
        stands_in: Whether one channel can do for others, by its weights.
    """

    stands_in = True

    def kernel(self, layer: Any, weights: dict[str, Array]) -> Array:
        """Returns its kernel as (places, channels read, channels made)."""
        raise NotImplementedError

    def set_kernel(self, weights: dict[str, Array], kernel: Array) -> None:
        """Puts a kernel of that shape among the weights."""
        weights["kernel"] = kernel.reshape(weights["kernel"].shape)

    def pads(self, layer: Any) -> bool:
        """Tells whether it sees zeros around what it is given."""
        return False

    def can_add(self, weights: dict[str, Array]) -> bool:
        """Tells whether it can add a constant to what it makes."""
        return True

    def add(self, weights: dict[str, Array], constant: Array) -> None:
        """Adds a constant to what it makes."""
        weights["bias"] = weights.get("bias", 0.0) + constant

    def with_bias(self, layer: Any) -> dict[str, Any]:
        """Returns what its config says otherwise if it gets a bias."""
        return {"use_bias": True}

    def reading_axis(self, layer: Any, x: Channels) -> int:
        return _channel_axis(layer, x)

    def is_reading(self, call: Call, axis: int) -> bool:
        """Tells whether it reads the channels, and keeps them if it does not.

        It may read along another axis than that of the channels.
        """
        call.reads = call.input.axis == axis
        if not call.reads:
            call.keeps_inputs = "it reads along another axis"
        return call.reads


class Mixing(Reading):
    """`Dense`, convolutions: each channel made is of all that are read."""

    axes = {"kernel": {-2: READ, -1: MADE}, "bias": {0: MADE}}
    width = "filters"

    def check(self, call: Call) -> None:
        """Raises `LeftAlone` if it is not what it seems to be."""
        _check_plain(call.layer)

    def kernel(self, layer: Any, weights: dict[str, Array]) -> Array:
        kernel = weights["kernel"]
        return kernel.reshape(-1, *kernel.shape[-2:])

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        layer, x = call.layer, call.input
        self.check(call)
        first = _comes_first(layer)
        made = Channels.varying(call.shapes[0], slots, 1 if first else -1)
        kernel = self.kernel(layer, call.weights)
        # Of channels that cannot be told apart nothing is known.
        values = np.full(kernel.shape[1], np.nan)
        if self.is_reading(call, self.reading_axis(layer, x)):
            values = x.values
        activation = elementwise.activation(layer.activation)
        if activation is None:
            call.keeps_outputs = "its activation may mix channels"
            return [made]
        varies = np.isnan(values) | (self.pads(layer) & (values != 0))
        constant = np.where(varies, 0.0, values) @ kernel.sum(0, dtype=float)
        constant = activation(constant + call.weights.get("bias", 0.0))
        unknown = (kernel != 0).any(0)[varies].any(0)
        made.values = _finite(np.where(unknown, np.nan, constant))
        return [made]

    def config(self, call: Call, made: int) -> dict[str, Any]:
        return {self.width: made}

    def multiplied(self, call: Call) -> int | None:
        return _places(call.outputs[0])


class Units(Mixing):
    """`Dense`."""

    width = "units"


class Einsum(Mixing):
    """`EinsumDense` where it does what `Dense` does."""

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
            raise LeftAlone("its equation is not that of a Dense")

    def config(self, call: Call, made: int) -> dict[str, Any]:
        *others, _ = call.layer.get_config()["output_shape"]
        return {"output_shape": (*others, made)}

    def with_bias(self, layer: Any) -> dict[str, Any]:
        return {"bias_axes": layer.equation.replace(" ", "")[-1]}


class Convolution(Mixing):
    """`Conv1D` to `Conv3D`."""

    def check(self, call: Call) -> None:
        super().check(call)
        if call.layer.groups > 1:
            raise LeftAlone("its channels are in groups")

    def pads(self, layer: Any) -> bool:
        return layer.padding != "valid" and max(layer.kernel_size) > 1


class TransposedConvolution(Mixing):
    """`Conv1DTranspose` to `Conv3DTranspose`."""

    axes = {"kernel": {-2: MADE, -1: READ}, "bias": {0: MADE}}

    def kernel(self, layer: Any, weights: dict[str, Array]) -> Array:
        return super().kernel(layer, weights).swapaxes(1, 2)

    def set_kernel(self, weights: dict[str, Array], kernel: Array) -> None:
        super().set_kernel(weights, kernel.swapaxes(1, 2))

    def pads(self, layer: Any) -> bool:
        return True  # What is the same everywhere does not stay so.

    def multiplied(self, call: Call) -> int | None:
        return _places(call.inputs[0])


class SeparableConvolution(Convolution):
    """`SeparableConv1D` and `SeparableConv2D`."""

    axes = {
        "depthwise_kernel": {-2: READ},
        "pointwise_kernel": {-2: READ, -1: MADE},
        "bias": {0: MADE},
    }
    stands_in = False

    def check(self, call: Call) -> None:
        _check_plain(call.layer)

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


class Recurrent(Reading):
    """`LSTM`, `GRU`, `SimpleRNN`: of what they read, some may go.

    Their units stay: each reads all others.
    """

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        self.is_reading(call, 2)
        call.keeps_outputs = "its units read each other"
        return [Channels.varying(shape, slots) for shape in call.shapes]

    def axes_of(self, call: Call, name: str) -> Axes:
        return {0: READ} if name.startswith("kernel") else {}

    def kernel(self, layer: Any, weights: dict[str, Array]) -> Array:
        kernels = [w for n, w in weights.items() if n.startswith("kernel")]
        return np.concatenate(kernels, axis=1)[None]

    def can_add(self, weights: dict[str, Array]) -> bool:
        # To give it a bias may cost more weights than it saves.
        return "bias" in weights

    def add(self, weights: dict[str, Array], constant: Array) -> None:
        names = [name for name in weights if name.startswith("bias")]
        for name, part in zip(
            names, np.split(constant, len(names)), strict=True
        ):
            bias = weights[name]
            if bias.ndim == 2:  # Of `GRU`: that of inputs, that of states.
                part = np.stack([part, np.zeros_like(part)])
            weights[name] = bias + part

    def multiplied(self, call: Call) -> int | None:
        return call.input.shape[1]


class BothWays(Recurrent):
    """`Bidirectional` around one of these."""

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        kinds = {
            type(call.layer.forward_layer),
            type(call.layer.backward_layer),
        }
        if len(kinds) > 1 or not isinstance(RULES.get(kinds.pop()), Recurrent):
            raise LeftAlone("the layer in it is not known")
        return super().follow(call, slots)


class Depthwise(Rule):
    """`DepthwiseConv1D` and `DepthwiseConv2D`: each channel has a kernel."""

    axes = {"kernel": {-2: READ}, "bias": {0: MADE}}

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        layer, x = call.layer, call.input
        if x.axis != _channel_axis(layer, x):
            raise LeftAlone("it works along the axis of the channels")
        activation = elementwise.activation(layer.activation)
        if activation is None:
            raise LeftAlone("its activation may mix channels")
        # As (places, channels made), those of one channel side by side.
        kernel = call.weights["kernel"]
        times = kernel.shape[-1]
        kernel = kernel.reshape(-1, kernel.shape[-2] * times)
        values = np.repeat(x.values, times)
        padded = layer.padding != "valid" and max(layer.kernel_size) > 1
        varies = np.isnan(values) | (padded & (values != 0))
        constant = np.where(varies, 0.0, values) * kernel.sum(0, dtype=float)
        constant = activation(constant + call.weights.get("bias", 0.0))
        unknown = varies & (kernel != 0).any(0)
        return [
            Channels(
                call.shapes[0],
                x.axis,
                np.repeat(x.slots, times),
                _finite(np.where(unknown, np.nan, constant)),
            )
        ]

    def multiplied(self, call: Call) -> int | None:
        return _places(call.outputs[0])


def _comes_first(layer: Any) -> bool:
    return getattr(layer, "data_format", None) == "channels_first"


def _channel_axis(layer: Any, x: Channels) -> int:
    return 1 if _comes_first(layer) else len(x.shape) - 1


def _the_axis(axis: Any) -> int:
    return axis if isinstance(axis, int) else axis[0]


def _check_plain(layer: Any) -> None:
    if getattr(layer, "quantization_mode", None):
        raise LeftAlone("it is quantized")
    if getattr(layer, "lora_enabled", False):
        raise LeftAlone("it has LoRA")


def _known(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """Returns a shape without that of the batch; empty if it is not known."""
    _, *sizes = shape
    known = tuple(size for size in sizes if size is not None)
    return known if len(known) == len(sizes) else ()


def _places(x: Channels) -> int | None:
    """Returns how many places a tensor has, the channels left out."""
    sizes = [n for i, n in enumerate(x.shape) if i not in (0, x.axis)]
    known = [size for size in sizes if size is not None]
    return int(np.prod(known)) if len(known) == len(sizes) else None


def _axis_of(labels: Array) -> int:
    """Returns an axis that the labels depend on alone, or else the last."""
    for axis in reversed(range(labels.ndim)):
        along = np.moveaxis(labels, axis, -1).reshape(-1, labels.shape[axis])
        if (along == along[0]).all():
            return axis
    return labels.ndim - 1


def _finite(values: Array) -> Array:
    return np.where(np.isfinite(values), values, np.nan)


def _product(arrays: list[Array]) -> Array:
    zero = np.any([array == 0 for array in arrays], axis=0)
    return np.where(zero, 0.0, np.prod(arrays, axis=0))


def _identity(layer: Any) -> Function:
    return lambda x: x


def _rescaling(layer: layers.Rescaling) -> Function | None:
    if np.ndim(layer.scale) or np.ndim(layer.offset):
        return None
    return lambda x: x * layer.scale + layer.offset


def _named(*names: str) -> list[type]:
    """Returns those of these layers that this version of Keras has."""
    found = [getattr(layers, name, None) for name in names]
    return [each for each in found if each is not None]


RULES: dict[type, Rule] = {
    layers.Activation: Elementwise(
        lambda layer: elementwise.activation(layer.activation)
    ),
    layers.ReLU: Elementwise(elementwise.relu),
    layers.LeakyReLU: Elementwise(elementwise.leaky_relu),
    layers.ELU: Elementwise(elementwise.elu),
    layers.PReLU: Slopes(),
    layers.Rescaling: Elementwise(_rescaling),
    **dict.fromkeys(
        _named(
            "AlphaDropout",
            "Dropout",
            "GaussianDropout",
            "GaussianNoise",
            "Identity",
            "SpatialDropout1D",
            "SpatialDropout2D",
            "SpatialDropout3D",
        ),
        Elementwise(_identity),
    ),
    layers.BatchNormalization: Normalization(),
    **dict.fromkeys(
        _named(
            *(
                f"{which}{kind}Pooling{rank}D"
                for which in ("", "Global")
                for kind in ("Average", "Max")
                for rank in (1, 2, 3)
            ),
            "Cropping1D",
            "Cropping2D",
            "Cropping3D",
        ),
        Spatial(),
    ),
    **dict.fromkeys(
        _named("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"),
        Spatial(lambda layer: not np.any(layer.padding)),
    ),
    **dict.fromkeys(
        _named("UpSampling1D", "UpSampling2D", "UpSampling3D"),
        Spatial(
            lambda layer: (
                getattr(layer, "interpolation", "nearest")
                in ("nearest", "bilinear")
            )
        ),
    ),
    layers.Flatten: Rearranging(),
    layers.Reshape: Rearranging(),
    layers.Permute: Permuting(),
    layers.RepeatVector: Repeating(),
    layers.Add: Merging(lambda arrays: np.sum(arrays, axis=0)),
    layers.Average: Merging(lambda arrays: np.mean(arrays, axis=0)),
    layers.Maximum: Merging(lambda arrays: np.max(arrays, axis=0)),
    layers.Minimum: Merging(lambda arrays: np.min(arrays, axis=0)),
    layers.Multiply: Merging(_product),
    layers.Subtract: Merging(lambda arrays: arrays[0] - arrays[1]),
    layers.Concatenate: Concatenating(),
    layers.Embedding: Table(),
    layers.Dense: Units(),
    layers.EinsumDense: Einsum(),
    layers.Conv1D: Convolution(),
    layers.Conv2D: Convolution(),
    layers.Conv3D: Convolution(),
    **dict.fromkeys(
        _named("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
        TransposedConvolution(),
    ),
    **dict.fromkeys(
        _named("SeparableConv1D", "SeparableConv2D"), SeparableConvolution()
    ),
    **dict.fromkeys(_named("DepthwiseConv1D", "DepthwiseConv2D"), Depthwise()),
    **dict.fromkeys(_named("LSTM", "GRU", "SimpleRNN"), Recurrent()),
    layers.Bidirectional: BothWays(),
}


def rule_of(layer: Any) -> Rule:
    """Returns the rule of a layer.

    Raises:
        LeftAlone: If there is none.
    """
    rule = RULES.get(type(layer))
    if rule is None:
        name = type(layer).__name__
        if not isinstance(layer, keras.layers.Layer):
            raise LeftAlone(f"{name} is an operation and no layer")
        raise LeftAlone(f"{name} mixes channels, or is not known")
    return rule
