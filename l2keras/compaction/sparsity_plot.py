"""A figure of the sizes of a model's groups."""

from typing import TYPE_CHECKING

import keras
import numpy as np

from l2keras import _validation, plots
from l2keras.compaction.sparsity import axes_inside_groups, shown_weights
from l2keras.weights.survey import Survey

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_sparsity(
    model: keras.Model, threshold: float = 0.0, ax: "Axes | None" = None
) -> "Axes":
    """Draws the sizes of the groups of a model's weights, one line a weight.

    Each mark is a group: one unit, one filter, or a group of the weight's
    `GroupLasso`, as in `l2keras.sparsity`. Its place is the root mean square of
    the group's weights, on a logarithmic axis. Groups that are zero have no
    place on it; the number of groups that are off is written at the line, and
    the number of those that are not finite, if the model diverged.

    A gap shows a `threshold` for `sparsity` and `compact`, if one is wanted:
    groups to the left of it are nearly zero. A threshold is for single weights,
    the largest of which is more than the root mean square; groups that are off
    by the given one are red. Without a gap, every threshold takes away groups
    that the model uses.

    Args:
        model: A built Keras model.
        threshold: Finite number >= 0. Groups whose weights are all of at most
            this size are off, and drawn in red. Defaults to `0.0`.
        ax: Matplotlib axes to draw on. Defaults to those of a new figure of
            pyplot.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If `model` is not a Keras model, or `threshold` no number.
        ValueError: If it is not built, or `threshold` is negative or not
            finite.

    Example:

    >>> import keras, l2keras
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8, name="hidden")
    ... ])
    >>> kernel, bias = model.layers[0].get_weights()
    >>> kernel[:, :5] = 0.0
    >>> model.layers[0].set_weights([kernel, bias])
    >>> ax = l2keras.plot_sparsity(model)
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['hidden/kernel: 5 of 8 off']
    """
    weights = shown_weights(Survey.of(model))
    threshold = _validation.check_number(threshold, "threshold")
    if ax is None:
        ax = plots.new_axes(figsize=(6.4, max(2.4, 0.9 + 0.25 * len(weights))))
    labels: list[str] = []
    positive: list[float] = []
    for line, weight in enumerate(weights):
        values = keras.ops.convert_to_numpy(weight.variable).astype("float64")
        inside = axes_inside_groups(weight)
        off = np.all(np.abs(values) <= threshold, axis=inside).ravel()
        squares = np.sum(np.square(values), axis=inside).ravel()
        sizes = np.sqrt(squares * off.size / max(values.size, 1))
        label = f"{weight.path}: {off.sum():,} of {off.size:,} off"
        if number := np.sum(~np.isfinite(sizes)):
            label += f", {number:,} not finite"
        labels.append(label)
        for shown, color in ((~off, plots.BLUE), (off, plots.RED)):
            shown = shown & (sizes > 0) & np.isfinite(sizes)
            positive.extend(sizes[shown])
            ax.plot(
                sizes[shown],
                np.full(shown.sum(), line),
                color=color,
                marker="|",
                markersize=9,
                linestyle="",
            )
    ax.set_xscale("log")
    if positive:  # Whole decades, as one label or none would not be enough.
        ax.set_xlim(
            10 ** np.floor(np.log10(0.99 * min(positive))),
            10 ** np.ceil(np.log10(1.01 * max(positive))),
        )
    ax.xaxis.set_minor_formatter("")
    ax.set_yticks(range(len(labels)), labels)
    ax.set(
        xlabel="root mean square of a group's weights",
        ylim=(max(len(labels), 1) - 0.5, -0.5),
    )
    return ax
