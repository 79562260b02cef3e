"""Units that are removed although outputs depend on them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from l2keras import _validation
from l2keras.compaction.channels import Array
from l2keras.compaction.plan import Plan
from l2keras.compaction.rules import Call, Rule


def slots_by_name(plan: Plan, remove: Any) -> list[int]:
    """The slots of units that are given by their layers' paths.

    Args:
        plan: A plan by which they need not go.
        remove: Dictionary from paths to lists of indices.

    Raises:
        TypeError: If it is no dictionary, or an entry no list of integers.
        ValueError: If a layer has no such unit, or must keep it.
    """
    if not isinstance(remove, Mapping):
        raise TypeError(
            "Argument `remove` must be a dictionary from paths of layers to "
            f"lists of indices. Received: remove={remove!r}"
        )
    makers = {
        call.path: call.outputs[0].slots
        for call, rule in plan.layers()
        if rule.makes_channels
    }
    found: list[int] = []
    for path, indices in remove.items():
        if path not in makers:
            why = plan.graph.skipped.get(path, "")
            raise ValueError(
                "Argument `remove` must name layers whose units or filters "
                f"`compact` can remove: {', '.join(makers)}. "
                f"Received: {path!r}{why and f' ({why})'}"
            )
        if not isinstance(indices, Sequence | np.ndarray):
            raise TypeError(
                "Argument `remove` must have a list of indices for each layer. "
                f"Received: remove[{path!r}]={indices!r}"
            )
        slots = makers[path]
        for index in indices:
            number = _validation.check_integer(index, f"remove[{path!r}]", 0)
            if number >= len(slots):
                raise ValueError(
                    f"Argument `remove` must have indices below {len(slots)} "
                    f"for {path!r}. Received: {number}"
                )
            slot = int(slots[number])
            if plan.must_stay(slots[[number]])[0]:
                raise ValueError(
                    f"Unit {number} of {path!r} cannot be removed, since "
                    f"{plan.reason(slot)}."
                )
            found.append(slot)
    return found


def by_norm(plan: Plan) -> list[int]:
    """A slot of each group that may be removed, by norm, the smallest first.

    A group are the channels that go or stay together. The last one of a layer
    may not be removed.
    """
    sums: dict[int, float] = {}
    counts: dict[int, int] = {}
    makers: list[list[int]] = []
    for call, rule in plan.layers():
        if not rule.makes_channels:
            continue
        slots = call.outputs[0].slots
        groups = plan.groups(slots)
        squares, size = _squares(plan, call, rule)
        mean = squares.mean() / size
        may_go = plan.live[slots] & ~plan.must_stay(slots)
        for group, square in zip(
            groups[may_go].tolist(), squares[may_go].tolist(), strict=True
        ):
            sums[group] = sums.get(group, 0.0) + (square / mean if mean else 0)
            counts[group] = counts.get(group, 0) + size
        if may_go.any() and not plan.must_stay(slots).any():
            makers.append(groups[may_go].tolist())
    norms = {group: sums[group] / counts[group] for group in sums}
    kept = {max(groups, key=lambda group: norms[group]) for groups in makers}
    return sorted(norms.keys() - kept, key=lambda group: (norms[group], group))


def _squares(plan: Plan, call: Call, rule: Rule) -> tuple[Array, int]:
    """The sum of squares for each unit's weights, and their number."""
    groups = plan.groups(call.outputs[0].slots).tolist()
    places = {group: place for place, group in enumerate(groups)}
    sums, number = np.zeros(len(groups)), 0
    for name, array in call.weights.items():
        if "kernel" not in name and name != "embeddings":
            continue
        for axis, along in rule.along(call, name, array.shape).items():
            if along.is_read:
                continue
            squares = np.square(np.moveaxis(array, axis, -1).astype("float64"))
            squares = squares.reshape(-1, squares.shape[-1]).sum(0)
            # Of a unit of `LSTM` there are several, one for each gate.
            made = [places[group] for group in plan.groups(along.slots)]
            np.add.at(sums, made, squares)
            number += array.size
    return sums, number // len(groups)
