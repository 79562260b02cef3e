"""The report of a compaction, in numbers and in words."""

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas

from l2keras import _tables
from l2keras.compaction.nodes import variables_of
from l2keras.compaction.plan import Plan

_COLUMNS = ("Layer", "Width", "Compacted")


@dataclasses.dataclass(frozen=True, repr=False)
class CompactionReport:
    """The changes that `compact` made to a model. Shows itself as a table.

    Attributes:
        widths: By the path of a layer that has units, filters, an embedding, or
            heads (groups of them, where they share keys and values): their
            number before and after.
        unread_inputs: By the name of an input: the indices that the outputs
            do not depend on, along its last axis, or that of the channels where
            layers have them first.
        inputs: By the name of an input: the indices that the smaller model
            has. All, without `drop_inputs`.
        skipped: By the path of a layer: the reason why channels stay that are
            off, or all its channels.
        parameters: The number of parameters before and after.
        flops: Floating-point operations for one example, before and after: two
            for each multiplication by a weight of a kernel, at each place, and
            for those of queries, keys and values in attention. `None` if a
            layer is not known, or a shape.
        threshold: The size up to which weights counted as zero.
        change: Where the threshold is above 0, or units were removed that were
            not off, the largest change of an output on the given data, or else
            on random inputs, as a fraction of the largest output. `None` where
            it is 0 and nothing was removed, so that there is none but rounding,
            or where the shape of an input is not known.
        removed: By the path of a layer: the units or filters that are gone
            although outputs depended on them, by `remove=` or by `prune`.

    Example:

    >>> import keras, l2keras
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, kernel_initializer="zeros", name="hidden"),
    ...     keras.layers.Dense(3, name="output"),
    ... ])
    >>> _, report = l2keras.compact(model)
    >>> report.widths["hidden"], report.parameters
    ((8, 1), (67, 11))
    """

    widths: dict[str, tuple[int, int]]
    unread_inputs: dict[str, list[int]]
    inputs: dict[str, list[int]]
    skipped: dict[str, str]
    parameters: tuple[int, int]
    flops: tuple[int, int] | None
    threshold: float
    change: float | None
    removed: dict[str, list[int]] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        console = _tables.console(100)
        with console.capture() as captured:
            console.print(_tables.of_paths(_COLUMNS, self._rows(), 100))
            for line in (*self._totals(), *remarks(self)):
                console.print(line)
        return _tables.text(captured.get())

    def _repr_html_(self) -> str:
        lines = [*self._totals(), *remarks(self)]
        table = _tables.html_table(_COLUMNS, self._rows())
        return table + _tables.html_lines(lines)

    def to_frame(self) -> "pandas.DataFrame":
        """A data frame with a row for each layer: its width before and after.

        Raises:
            ImportError: If pandas is not installed.
        """
        return _tables.frame(
            [
                {"layer": path, "width": before, "compacted": after}
                for path, (before, after) in self.widths.items()
            ]
        )

    def _rows(self) -> list[list[str]]:
        return [
            [path, f"{before:,}", f"{after:,}"]
            for path, (before, after) in self.widths.items()
        ]

    def _totals(self) -> list[str]:
        lines = [f"Parameters: {saved(self.parameters)}"]
        if self.flops is not None:
            lines.append(f"FLOPs: {saved(self.flops)}")
        if self.change is not None:
            lines.append(f"Outputs changed by {self.change:.2g} of the largest")
        elif self.threshold or self.removed:
            lines.append("The change of the outputs is not known")
        return lines


def remarks(report: CompactionReport) -> list[str]:
    """Lines about unread inputs, and about layers that were skipped."""
    return [
        f"- Unread inputs of {name!r}: {_listed(unread)}"
        for name, unread in report.unread_inputs.items()
        if unread
    ] + [
        f"- Skipped {path}: {reason}" for path, reason in report.skipped.items()
    ]


def saved(numbers: tuple[int, int]) -> str:
    """A number before and after, in words."""
    before, after = numbers
    times = f" ({before / after:.3g}x)" if 0 < after < before else ""
    return f"{before:,} -> {after:,}{times}"


def report_of(plans: list[Plan]) -> CompactionReport:
    """The report of several plans, without the change of the outputs.

    Args:
        plans: The first is for the model, each other one for the result of the
            one before.
    """
    first, last = plans[0], plans[-1]
    unread, inputs = _inputs(plans)
    before, after = _widths(first), _widths(last)
    flops = [_flops(plan) for plan in (first, last)]
    return CompactionReport(
        widths={
            path: (number, after[path][1])
            for path, (number, _) in before.items()
        },
        unread_inputs=unread,
        inputs=inputs,
        skipped=_skipped(last),
        parameters=(_parameters(first)[0], _parameters(last)[1]),
        flops=(flops[0][0], flops[1][1]) if flops[0] and flops[1] else None,
        threshold=first.graph.threshold,
        change=None,
        removed=_removed(first),
    )


def _widths(plan: Plan) -> dict[str, tuple[int, int]]:
    found = {}
    for call, rule in plan.layers():
        kept = rule.inside(call)
        if rule.makes_channels:
            kept = plan.keeps(call.outputs[0])
        if len(kept):
            found[call.path] = len(kept), int(kept.sum())
    return found


def _removed(plan: Plan) -> dict[str, list[int]]:
    found = {}
    for call, rule in plan.layers():
        if rule.makes_channels:
            indices = np.flatnonzero(plan.removed[call.outputs[0].slots])
            if len(indices):
                found[call.path] = indices.tolist()
    return found


def _inputs(
    plans: list[Plan],
) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """The indices of inputs that are unread, and those that are kept."""
    unread: dict[str, list[int]] = {}
    given: dict[str, np.ndarray] = {}
    for plan in plans:
        for name, channels in plan.graph.inputs.items():
            if channels.axis:
                indices = given.get(name, np.arange(len(channels.slots)))
                off = indices[~plan.is_read[channels.slots]].tolist()
                unread[name] = sorted({*unread.get(name, ()), *off})
                given[name] = indices[plan.keeps(channels)]
    return unread, {name: kept.tolist() for name, kept in given.items()}


def _skipped(plan: Plan) -> dict[str, str]:
    reasons = dict(plan.graph.skipped)
    for call in plan.graph.calls:
        if not call.keeps_inputs and all(
            channels in plan.graph.outputs for channels in call.outputs
        ):
            reasons.pop(call.path, None)  # They are outputs anyway.
    for call, rule in plan.layers():
        if not rule.makes_channels or call.path in reasons:
            continue
        made = call.outputs[0]
        off = plan.keeps(made) & ~np.isnan(made.values)
        if off.any():
            why = {plan.reason(slot) for slot in made.slots[off].tolist()}
            reasons[call.path] = (
                f"{int(off.sum())} of {len(off)} are off, but "
                f"{'; '.join(sorted(why))}"
            )
    return reasons


def _parameters(plan: Plan) -> tuple[int, int]:
    sizes = {
        id(variable): math.prod(variable.shape)
        for call in plan.graph.calls
        for variable in variables_of(call.operation).values()
    }
    before = after = sum(sizes.values())
    for call, rule in plan.layers():
        arrays = plan.made(call, rule).weights.values()
        after += sum(array.size for array in arrays)
        variables = variables_of(call.operation).values()
        after -= sum(sizes[id(variable)] for variable in variables)
    return before, after


def _flops(plan: Plan) -> tuple[int, int] | None:
    """The operations for one example before and after, `None` if unknown."""
    made = {
        id(call.operation): plan.made(call, rule)
        for call, rule in plan.layers()
    }
    before = after = 0
    for call, rule in zip(plan.graph.calls, plan.graph.rules, strict=True):
        weights = variables_of(call.operation)
        if rule is None:
            if any(len(variable.shape) > 1 for variable in weights.values()):
                return None
            continue
        smaller = made[id(call.operation)].weights if weights else {}
        numbers = [
            rule.flops(
                call, {name: tuple(some[name].shape) for name in weights}
            )
            for some in (weights, smaller)
        ]
        if numbers[0] is None or numbers[1] is None:
            return None
        before += numbers[0]
        after += numbers[1]
    return before, after


def _listed(numbers: list[int]) -> str:
    more = f" and {len(numbers) - 10} more" if len(numbers) > 11 else ""
    return ", ".join(map(str, numbers[:10] if more else numbers)) + more
