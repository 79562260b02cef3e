"""Layers whose channels are in groups, which stay or go as a whole."""

from typing import Any

import numpy as np

from l2keras.compaction import elementwise
from l2keras.compaction.channels import Array, Channels, Slots
from l2keras.compaction.consumers import Convolution
from l2keras.compaction.rules import (
    OUTPUT,
    Axes,
    Call,
    NotCompactable,
    Rule,
    channel_axis,
    check_plain,
    places,
)


class Grouped(Rule):
    """The base of their rules: a group has one slot, where it is made too."""

    def united(self, call: Call, slots: Slots) -> Array:
        """The slots of the groups, after those in a group are united."""
        grouped = call.input.slots.reshape(call.layer.groups, -1)
        for others in grouped.T[1:]:
            slots.union(grouped[:, 0], others)
        return grouped[:, 0]

    def kept_groups(self, call: Call, kept: Array) -> int:
        """The number of groups among some channels."""
        return int(kept.reshape(call.layer.groups, -1).any(1).sum())


class GroupedConvolution(Grouped):
    """`Conv1D` to `Conv3D`, of groups."""

    makes_channels = True
    axes = {"kernel": {-1: OUTPUT}, "bias": {0: OUTPUT}}

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        layer, x = call.layer, call.input
        check_plain(layer)
        if x.axis != channel_axis(layer, x):
            raise NotCompactable("it reads along another axis")
        if not elementwise.is_activation(layer.activation):
            raise NotCompactable("its activation may mix channels")
        *_, read, made = call.weights["kernel"].shape
        # As (places, channels read of a group, groups, channels made of one).
        kernel = call.weights["kernel"].reshape(
            -1, read, layer.groups, made // layer.groups
        )
        values = x.values.reshape(layer.groups, read).T
        varies = np.isnan(values)
        if Convolution().pads(layer):
            varies |= values != 0
        constant = np.einsum(
            "prgm,rg->gm", kernel, np.where(varies, 0.0, values), dtype=float
        )
        constant = elementwise.activated(
            layer, constant.reshape(-1) + call.weights.get("bias", 0.0)
        )
        unknown = ((kernel != 0).any(0) & varies[..., None]).any(0).reshape(-1)
        return [
            Channels(
                call.shapes[0],
                x.axis,
                np.repeat(self.united(call, slots), made // layer.groups),
                np.where(unknown, np.nan, constant),
            )
        ]

    def config(self, call: Call, kept: Array) -> dict[str, Any]:
        groups = self.kept_groups(call, kept)
        return {"filters": int(kept.sum()), "groups": groups}

    def multiplied(self, call: Call) -> int | None:
        return places(call.outputs[0])


class GroupStandardization(Grouped):
    """`GroupNormalization`."""

    def follow(self, call: Call, slots: Slots) -> list[Channels]:
        layer, x = call.layer, call.input
        if x.axis != layer.axis % len(x.shape):
            raise NotCompactable("its axis is not that of the channels")
        self.united(call, slots)
        # Other constants have a variance of rounding errors.
        is_zero = (x.values == 0) & (layer.epsilon > 0)
        are_zero = is_zero.reshape(layer.groups, -1).all(1)
        is_beta = np.repeat(are_zero, len(is_zero) // layer.groups)
        is_beta |= call.weights.get("gamma", np.ones(1)) == 0
        beta = call.weights.get("beta", np.zeros(1))
        return [x.like(call.shapes[0], values=np.where(is_beta, beta, np.nan))]

    def axes_of(self, call: Call, name: str) -> Axes:
        return {0: OUTPUT}

    def config(self, call: Call, kept: Array) -> dict[str, Any]:
        return {"groups": self.kept_groups(call, kept)}
