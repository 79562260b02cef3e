"""Layers that hand channels on, each channel apart."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from l2keras.compaction import elementwise
from l2keras.compaction.channels import (
    Array,
    Channels,
    Slots,
    same_or_nan,
)
from l2keras.compaction.rules import (
    INPUT,
    OUTPUT,
    Axes,
    Call,
    NotCompactable,
    Rule,
    channel_axis,
    comes_first,
    known,
    places,
)


class Identity(Rule):
    """Does nothing in evaluation."""

    has_widths = False

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        x = call.input
        noise = getattr(call.layer, "noise_shape", None)
        if noise is not None and noise[x.axis] not in (None, 1):
            raise NotCompactable("its noise has a shape of its own")
        return [x.like(call.shapes[0])]


class Elementwise(Rule):
    """Computes each element of the same one of each tensor it is called on.

    Args:
        is_product: Whether a zero makes it zero, whatever the others are.
    """

    has_widths = False

    def __init__(self, is_product: bool = False) -> None:
        self.is_product = is_product

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        first, *others = call.inputs
        for other in others:
            if (
                len(other.shape) != len(first.shape)
                or other.axis != first.axis
                or len(other.slots) != len(first.slots)
            ):
                raise NotCompactable("it repeats one channel for several")
            slots.union(first.slots, other.slots)
        arrays = [x.values for x in call.inputs]
        values = np.full(len(first.slots), np.nan)
        # A mask may put other values in the places of several.
        if not (call.is_masked and others):
            values = elementwise.computed(call.compute, arrays, call.dtype)
            if self.is_product:
                values[np.any([array == 0 for array in arrays], axis=0)] = 0.0
        return [first.like(call.shapes[0], values=values)]


class Activation(Elementwise):
    """`Activation`, of a function that may mix channels."""

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        if not elementwise.is_activation(call.layer):
            raise NotCompactable("it may mix channels")
        return super().follow(call, slots)


class PReLURule(Rule):
    """`PReLU`, whose slopes may differ from place to place."""

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        if not call.input.axis:
            raise NotCompactable("its shape is not known")
        values = np.where(call.input.values >= 0, call.input.values, np.nan)
        return [call.input.like(call.shapes[0], values=values)]

    def axes_of(self, call: Call, name: str) -> Axes:
        axis = call.input.axis - 1
        shared = call.weights[name].shape[axis] < len(call.input.slots)
        return {} if shared else {axis: OUTPUT}


class Line(Rule):
    """Multiplies each channel by a number, and adds another."""

    def line(self, call: Call) -> tuple[Any, Any]:
        """The slope and the offset: for each channel, or one for all.

        Raises:
            NotCompactable: If they are of other elements than the channels.
        """
        raise NotImplementedError

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        x = call.input
        slope, offset = self.line(call)
        values = np.nan_to_num(x.values) * slope + offset
        # A value that is not finite is so for any example.
        unknown = np.isnan(x.values) & (slope != 0) & np.isfinite(values)
        return [
            x.like(call.shapes[0], values=np.where(unknown, np.nan, values))
        ]


class Normalization(Line):
    """`BatchNormalization`, in evaluation."""

    def line(self, call: Call) -> tuple[Any, Any]:
        layer, weights = call.layer, call.weights
        if call.input.axis != _the_axis(layer.axis) % len(call.input.shape):
            raise NotCompactable("its axis is not that of the channels")
        slope = weights.get("gamma", 1.0) / np.sqrt(
            np.asarray(weights["moving_variance"], float) + layer.epsilon
        )
        return slope, weights.get("beta", 0.0) - weights["moving_mean"] * slope

    def axes_of(self, call: Call, name: str) -> Axes:
        return {0: OUTPUT}


class RootMeanSquare(Rule):
    """`RMSNormalization`, from which zeros may go.

    With k of d channels left, the mean of their squares is d / k times as
    large. So epsilon is multiplied by d / k, and the scale by its root.
    """

    axes = {"scale": {0: OUTPUT}}

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        x = call.input
        if {axis % len(x.shape) for axis in call.layer.axis} != {x.axis}:
            raise NotCompactable("its axis is not that of the channels")
        call.live = x.values != 0
        values = np.where(call.live, np.nan, 0.0)
        return [x.like(call.shapes[0], values=values)]

    def config(self, call: Call, kept: Array) -> dict[str, Any]:
        return {"epsilon": float(call.layer.epsilon / kept.mean())}

    def rescale(self, weights: dict[str, Array], kept: Array) -> None:
        weights["scale"] = weights["scale"] / np.sqrt(kept.mean())


class UnitNorm(Rule):
    """`UnitNormalization`, from which zeros may go."""

    has_widths = False

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        x = call.input
        axes = call.layer.axis
        axes = axes if isinstance(axes, list | tuple) else [axes]
        if x.axis in {axis % len(x.shape) for axis in axes}:
            call.live = x.values != 0
        return [x.like(call.shapes[0], values=np.where(x.values, np.nan, 0.0))]


class Standardization(Line):
    """`Normalization`."""

    def line(self, call: Call) -> tuple[Any, Any]:
        layer, x = call.layer, call.input
        if {axis % len(x.shape) for axis in layer.axis} - {x.axis}:
            raise NotCompactable("its axes are not that of the channels alone")
        mean, variance = (
            np.asarray(ops.convert_to_numpy(tensor), float).reshape(-1)
            for tensor in (layer.mean, layer.variance)
        )
        deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
        if layer.invert:
            return deviation, mean
        return 1 / deviation, -mean / deviation

    def axes_of(self, call: Call, name: str) -> Axes:
        # Not if there is one number for all, or it counts examples.
        return {0: OUTPUT} if call.weights[name].ndim else {}

    def config(self, call: Call, kept: Array) -> dict[str, Any]:
        given = call.layer.get_config()
        return _kept_of_each(given, ("mean", "variance"), kept)


class Scaling(Line):
    """`Rescaling`."""

    def line(self, call: Call) -> tuple[Any, Any]:
        layer, x = call.layer, call.input
        slope, offset = np.asarray(layer.scale), np.asarray(layer.offset)
        ranks = {slope.ndim, offset.ndim}
        # Along the last axis, but where the image has the channels first.
        is_last = x.axis == len(x.shape) - 1 and not comes_first(layer)
        if ranks != {0} and not (is_last and ranks <= {0, 1}):
            raise NotCompactable("its numbers are not one for each channel")
        return slope, offset

    def config(self, call: Call, kept: Array) -> dict[str, Any]:
        given = call.layer.get_config()
        return _kept_of_each(given, ("scale", "offset"), kept)


class Spatial(Rule):
    """Pools, pads, crops or repeats along the axes that are not channels.

    Args:
        keeps_values: Function from the layer that tells whether a channel that
            is the same everywhere stays so. One of zeros always does.
    """

    has_widths = False
    ignores_training = True  # `Resizing` is called in training unless told.

    def __init__(
        self, keeps_values: Callable[[Any], bool] = lambda layer: True
    ) -> None:
        self.keeps_values = keeps_values

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        x, shape = call.input, call.shapes[0]
        if x.axis != channel_axis(call.layer, x):
            raise NotCompactable("it works along the axis of the channels")
        values = x.values
        if call.is_masked or not self.keeps_values(call.layer):
            values = np.where(values == 0, values, np.nan)
        axis = 1 if comes_first(call.layer) else len(shape) - 1
        return [x.like(shape, axis, values)]


class Rearranging(Rule):
    """`Flatten` and `Reshape`."""

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        x = call.input
        old, new = known(x.shape), known(call.shapes[0])
        if not (x.axis and old and new):
            raise NotCompactable("its shape is not known")
        order = list(range(len(old)))
        if isinstance(call.layer, layers.Flatten) and comes_first(call.layer):
            order = [*order[1:], 0]  # It puts the channels last.

        def rearranged(array: Array) -> Array:
            return x.over(array, old).transpose(order).reshape(new)

        labels = rearranged(x.slots)
        axis = _axis_of(labels)
        # As (channels, places). All places of a channel are one slot.
        labels, values = (
            np.moveaxis(array, axis, 0).reshape(new[axis], -1)
            for array in (labels, rearranged(x.values))
        )
        first = labels[:, 0]
        for others in labels.T[(first != labels.T).any(1)]:
            slots.union(first, others)
        same = (values == values[:, :1]).all(1)
        values = np.where(same, values[:, 0], np.nan)
        return [Channels(call.shapes[0], axis + 1, first, values)]

    def config(self, call: Call, kept: Array) -> dict[str, Any]:
        if isinstance(call.layer, layers.Flatten):
            return {}
        _, *shape = call.outputs[0].shape
        shape[call.outputs[0].axis - 1] = int(kept.sum())
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
        if not call.input.axis:
            raise NotCompactable("its shape is not known")
        return [call.input.like(call.shapes[0], 2)]


class Concatenating(Rule):
    """`Concatenate`."""

    has_widths = False

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        first, *others = call.inputs
        axis = first.axis
        if not axis or any(x.axis != axis for x in others):
            raise NotCompactable(
                "its inputs have their channels on several axes"
            )
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
            slots.union(first.slots, other.slots)
        values = same_or_nan([x.values for x in call.inputs])
        return [first.like(call.shapes[0], values=values)]


class Slicing(Rule):
    """`x[...]`, of all channels."""

    has_widths = False

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        x, (_, key) = call.input, call.args
        keys = list(key) if isinstance(key, list | tuple) else [key]
        if Ellipsis not in keys:
            keys.append(Ellipsis)
        place = keys.index(Ellipsis)
        indices = sum(each is not None for each in keys) - 1
        keys[place : place + 1] = [slice(None)] * (len(x.shape) - indices)
        # The axes of the input that are left, with those that are new.
        left: list[int | None] = []
        axes = iter(range(len(x.shape)))
        for each in keys:
            axis = None if each is None else next(axes)
            if isinstance(each, slice | None):
                left.append(axis)
            if axis == x.axis and not (
                isinstance(each, slice)
                and each.indices(len(x.slots)) == (0, len(x.slots), 1)
            ):
                raise NotCompactable("it takes some of the channels")
        if not x.axis or left[0] != 0:
            raise NotCompactable("its shape is not known")
        return [x.like(call.shapes[0], left.index(x.axis))]


class Reducing(Rule):
    """`ops.mean` and the like, of places.

    Args:
        keeps_values: Whether a channel that is the same everywhere stays so.
            One of zeros always does.
    """

    has_widths = False

    def __init__(self, keeps_values: bool = True) -> None:
        self.keeps_values = keeps_values

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        x, axes = call.input, call.operation.axis
        rank = len(x.shape)
        axes = axes if isinstance(axes, list | tuple) else [axes]
        # Of all axes, if there is none.
        gone = {axis % rank for axis in axes if axis is not None} or {x.axis}
        if not x.axis or gone & {0, x.axis}:
            raise NotCompactable("it mixes channels")
        axis = x.axis
        if not call.operation.keepdims:
            axis -= sum(each < x.axis for each in gone)
        values = x.values
        if not self.keeps_values:
            values = np.where(values == 0, values, np.nan)
        return [x.like(call.shapes[0], axis, values)]


class Depthwise(Rule):
    """`DepthwiseConv1D` and `DepthwiseConv2D`: each channel has a kernel."""

    axes = {"kernel": {-2: INPUT}, "bias": {0: OUTPUT}}

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        layer, x = call.layer, call.input
        if x.axis != channel_axis(layer, x):
            raise NotCompactable("it works along the axis of the channels")
        if not elementwise.is_activation(layer.activation):
            raise NotCompactable("its activation may mix channels")
        # As (places, channels made), those of one channel side by side.
        kernel = call.weights["kernel"]
        times = kernel.shape[-1]
        kernel = kernel.reshape(-1, kernel.shape[-2] * times)
        values = np.repeat(x.values, times)
        padded = layer.padding != "valid" and max(layer.kernel_size) > 1
        varies = np.isnan(values) | (padded & (values != 0))
        constant = np.where(varies, 0.0, values) * kernel.sum(0, dtype=float)
        constant = elementwise.activated(
            layer, constant + call.weights.get("bias", 0.0)
        )
        unknown = varies & (kernel != 0).any(0)
        return [
            Channels(
                call.shapes[0],
                x.axis,
                np.repeat(x.slots, times),
                np.where(unknown, np.nan, constant),
            )
        ]

    def multiplied(self, call: Call) -> int | None:
        return places(call.outputs[0])


def _kept_of_each(
    config: dict[str, Any], names: tuple[str, ...], kept: Array
) -> dict[str, Any]:
    """The lists in a config, without the numbers of channels that go."""
    return {
        name: np.asarray(config[name])[kept].tolist()
        for name in names
        if np.size(config[name]) == len(kept) > 1
    }


def _the_axis(axis: Any) -> int:
    return axis if isinstance(axis, int) else axis[0]


def _axis_of(labels: Array) -> int:
    """An axis that the labels depend on alone, or else the last."""
    for axis in reversed(range(labels.ndim)):
        along = np.moveaxis(labels, axis, -1).reshape(-1, labels.shape[axis])
        if (along == along[0]).all():
            return axis
    return labels.ndim - 1
