"""Figures. They need matplotlib: `pip install "l2keras[plots]"`."""

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from l2keras import _validation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, RED, BLACK = "#4477AA", "#EE6677", "#222222"


def new_axes(figsize: tuple[float, float] | None = None) -> Any:
    """Axes in a new figure of pyplot, which notebooks and `plt.show()` show.

    Args:
        figsize: Width and height in inches. Defaults to matplotlib's.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Figures need matplotlib. Install it with "
            '`pip install "l2keras[plots]"`.'
        ) from error
    _, ax = plt.subplots(figsize=figsize, layout="constrained")
    return ax


def png(draw: Callable[[Any], Any], description: str) -> str:
    """A figure as an image in HTML, nothing where there is no matplotlib.

    Args:
        draw: Function that draws on the axes that it is given.
        description: The text in place of the image.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return ""
    # Not by pyplot, which would show the figure once more.
    figure, file = Figure(layout="constrained"), io.BytesIO()
    draw(figure.subplots())
    figure.savefig(file, format="png")
    data = base64.b64encode(file.getvalue()).decode()
    source = f"data:image/png;base64,{data}"
    return f'<img src="{source}" alt="{html.escape(description)}">'


def plot_loss_split(
    history: Mapping[str, Sequence[float]],
    ax: "Axes | None" = None,
    validation_freq: int | Sequence[int] = 1,
) -> "Axes":
    """Draws the training loss over the epochs as a stack of its two parts.

    The lower area is the data loss and the upper one the regularization loss,
    so that the upper edge is the loss. The validation data loss, where there is
    one, is a line. So is the data loss of `RegularizationLogger(train_data=)`:
    the distance between the two lines is the gap. Without it compare with the
    lower area's edge, which is a mean over an epoch in which weights move.

    Args:
        history: The `History` that `model.fit(...)` with a
            `RegularizationLogger` returns, or its `history` attribute. Only the
            former knows of `initial_epoch`: epochs of the latter count from 1.
        ax: Matplotlib axes to draw on. Defaults to those of a new figure of
            pyplot.
        validation_freq: The argument of `fit`: an integer, or a list of epochs.
            The history does not say after which epochs validation ran. Defaults
            to `1`, after each.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If `validation_freq` is neither an integer nor a list of
            integers.
        ValueError: If `history` has no split of the loss, or no epoch, or
            another number of validation losses than `validation_freq` leads to.

    Example:

    >>> import l2keras
    >>> ax = l2keras.plot_loss_split(
    ...     {"data_loss": [2.0, 1.0], "regularization_loss": [0.5, 0.25]}
    ... )
    >>> ax.get_xlabel()
    'epoch'
    """
    logs: Mapping[str, Any] = getattr(history, "history", history)
    if not {"data_loss", "regularization_loss"} <= set(logs):
        raise ValueError(
            "Argument `history` must have `data_loss` and "
            "`regularization_loss`. Train with "
            "`callbacks=[l2keras.RegularizationLogger()]`. "
            f"Received: history with keys {sorted(logs)}"
        )
    if not len(logs["data_loss"]):
        raise ValueError(
            "Argument `history` must have at least one epoch. "
            f"Received: history={logs!r}"
        )
    epochs = _epochs(history, len(logs["data_loss"]))
    validation = logs.get("val_data_loss", ())
    validated = _validated(epochs, len(validation), validation_freq)
    if ax is None:
        ax = new_axes()
    edges: list[float] = [*epochs]
    parts = [logs["data_loss"], logs["regularization_loss"]]
    if len(epochs) == 1:  # An area without a width would not be seen.
        edges = [epochs[0] - 0.5, epochs[0] + 0.5]
        parts = [[part[0], part[0]] for part in parts]
        ax.set_xticks(epochs)
    ax.stackplot(
        edges,
        *parts,
        labels=["data loss", "regularization loss"],
        colors=[BLUE, RED],
        alpha=0.8,
    )
    if validated:
        ax.plot(
            validated,
            validation,
            color=BLACK,
            linestyle="--",
            # Between the points nothing was measured.
            marker="o" if len(validated) < max(2, len(epochs)) else None,
            clip_on=False,  # Nor is half a point to be cut off at an edge.
            label="validation data loss",
        )
    if "train_data_loss" in logs:
        ax.plot(
            epochs,
            logs["train_data_loss"],
            color=BLACK,
            linestyle=":",
            marker="o" if len(epochs) == 1 else None,
            clip_on=False,
            label="training data loss when the epoch ends",
        )
    ax.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    ax.margins(x=0)
    if len(epochs) > 1:
        ax.locator_params(axis="x", integer=True)
    ax.legend()
    return ax


def _epochs(history: Any, number: int) -> list[int]:
    """Returns the epochs as Keras prints them, the first of which is 1."""
    epochs = [epoch + 1 for epoch in getattr(history, "epoch", ())]
    # A `History` that is given to several fits keeps the losses of all, and the
    # epochs of the last.
    return epochs if len(epochs) == number else list(range(1, number + 1))


def _validated(
    epochs: list[int], number: int, validation_freq: int | Sequence[int]
) -> list[int]:
    """Returns the epochs after which Keras validated."""
    if not number:
        return []
    if isinstance(validation_freq, list | tuple):
        chosen = {
            _validation.check_integer(
                epoch, f"validation_freq[{index}]", minimum=1
            )
            for index, epoch in enumerate(validation_freq)
        }
        validated = [epoch for epoch in epochs if epoch in chosen]
    else:
        every = _validation.check_integer(
            validation_freq, "validation_freq", minimum=1
        )
        validated = [epoch for epoch in epochs if epoch % every == 0]
    if len(validated) != number:
        raise ValueError(
            "Argument `validation_freq` must be that of `fit`: "
            f"{validation_freq!r} leads to {len(validated)} validation losses "
            f"in the epochs {epochs[0]} to {epochs[-1]}. "
            f"Received: history with {number} of them"
        )
    return validated


def plot_strength_path(result: Any, ax: "Axes | None" = None) -> "Axes":
    """Draws the monitored metric by strength, as glmnet's users know it.

    Each strength at its best epoch: the mean over the folds, one standard error
    on both sides, and both choices. Of several strengths, a point for each
    candidate by each of its strengths, and the choice.

    Args:
        result: The result of `l2keras.tune_strength`.
        ax: Matplotlib axes to draw on. Defaults to those of a new figure of
            pyplot.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is not installed.

    Example:

    >>> import l2keras, numpy as np
    >>> loss = np.array([[[0.4], [0.6]], [[0.3], [0.5]]])
    >>> result = l2keras.TuningResult(np.array([0.1, 1.0]), loss, loss, {}, [])
    >>> l2keras.plot_strength_path(result).get_xlabel()
    'strength'
    """
    if ax is None:
        ax = new_axes()
    metric = result.monitor.removeprefix("val_").replace("_", " ")
    ax.set(xlabel="strength", ylabel=f"validation {metric}")
    strengths, (loss, error) = result.strengths, result.path()
    if result.keys is not None:
        for key, values in zip(result.keys, strengths.T, strict=True):
            points = ax.scatter(values, loss, s=12, label=key)
            ax.axvline(
                result.best_strength[key],
                color=points.get_facecolor()[0],
                linestyle="--",
            )
        ax.set_xscale("log")
        ax.legend()
        return ax
    ax.fill_between(
        strengths,
        loss - error,
        loss + error,
        color=BLUE,
        alpha=0.25,
        linewidth=0,
        label="± one standard error",
    )
    ax.plot(strengths, loss, color=BLUE, marker=".", label="mean over folds")
    ax.axvline(result.best_strength, color=BLACK, linestyle="--", label="best")
    if result.validation_loss.shape[1] > 1:
        ax.axvline(
            result.one_standard_error_strength,
            color=RED,
            linestyle=":",
            label="strongest within one standard error",
        )
    positive = strengths[strengths > 0]
    if len(positive) > 1:
        if len(positive) == len(strengths):
            ax.set_xscale("log")
        else:
            ax.set_xscale("symlog", linthresh=positive[0])
        ax.margins(x=0.02)  # A choice at an edge is to be seen.
    ax.legend()
    return ax


def plot_size(
    result: Any, ax: "Axes | None" = None, within: float | str = 0.02
) -> "Axes":
    """Draws the monitored metric by the parameters that `compact` would leave.

    A point for each candidate, at the end of training: the means over the
    folds, with one standard deviation over the folds on each side. The choice
    of `result.smallest(within)` is marked.

    Args:
        result: The result of `l2keras.tune_strength`, with known sizes.
        ax: Matplotlib axes to draw on. Defaults to those of a new figure of
            pyplot.
        within: The argument of `result.smallest`. Defaults to `0.02`.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If `within` is neither a number nor a string.
        ValueError: If sizes are not known, or there is no choice for `within`.

    Example:

    >>> import l2keras, numpy as np
    >>> loss = np.array([[[0.50], [0.52]], [[0.51], [0.52]]])
    >>> result = l2keras.TuningResult(
    ...     np.array([0.1, 1.0]), loss, loss, {}, [],
    ...     parameters=np.array([[90, 80], [40, 50]]),
    ... )
    >>> l2keras.plot_size(result).get_xlabel()
    'parameters'
    """
    choice = result.smallest(within)
    if ax is None:
        ax = new_axes()
    sizes, losses = result.parameters, result.monitored[:, :, -1]
    x, y = sizes.mean(axis=1), losses.mean(axis=1)
    several = sizes.shape[1] > 1  # One fold has no spread.
    ax.errorbar(
        x,
        y,
        xerr=sizes.std(axis=1, ddof=1) if several else None,
        yerr=losses.std(axis=1, ddof=1) if several else None,
        color=BLUE,
        marker=".",
        linestyle="none",
        elinewidth=0.8,
        label="mean over folds ± one standard deviation"
        if several
        else "one fold",
    )
    values = list(choice.values()) if result.keys is not None else [choice]
    strengths = result.strengths.reshape(len(result.strengths), -1)
    (index, *_) = (strengths == values).all(axis=1).nonzero()[0]
    text = ", ".join(f"{value:.3g}" for value in values)
    ax.plot(
        x[index],
        y[index],
        color=RED,
        marker="o",
        markersize=10,
        fillstyle="none",
        linestyle="none",
        label=f"smallest: strength {text}",
    )
    metric = result.monitor.removeprefix("val_").replace("_", " ")
    ax.set(xlabel="parameters", ylabel=f"validation {metric}")
    ax.legend()
    return ax
