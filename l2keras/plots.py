"""Figures. They need matplotlib: `pip install "l2keras[plots]"`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DATA, _REGULARIZATION, _VALIDATION = "#4477AA", "#EE6677", "#222222"


def _figure_class() -> Any:
    # Not pyplot: it would keep the figures, and may want a display.
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Figures need matplotlib. Install it with "
            '`pip install "l2keras[plots]"`.'
        ) from error
    return Figure


def plot_loss_split(
    history: Mapping[str, Sequence[float]], ax: "Axes | None" = None
) -> "Axes":
    """Draws the training loss over the epochs as a stack of its two parts.

    The lower area is the data loss and the upper one the regularization loss,
    so that the upper edge is the loss. The validation data loss, where there is
    one, is a line: compare it with the lower area's edge.

    Args:
        history: What `model.fit(...)` with a `RegularizationLogger` returns, or
            its `history` attribute.
        ax: Matplotlib axes to draw on. Defaults to new ones.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If `history` has no split of the loss.

    Example:

    >>> import l2keras
    >>> ax = l2keras.plot_loss_split(
    ...     {"data_loss": [2.0, 1.0], "regularization_loss": [0.5, 0.25]}
    ... )
    >>> ax.get_xlabel()
    'epoch'
    """
    figure_class = _figure_class()
    logs: Mapping[str, Any] = getattr(history, "history", history)
    if not {"data_loss", "regularization_loss"} <= set(logs):
        raise ValueError(
            "Argument `history` must have `data_loss` and "
            "`regularization_loss`. Train with "
            "`callbacks=[l2keras.RegularizationLogger()]`. "
            f"Received: history with keys {sorted(logs)}"
        )
    if ax is None:
        ax = figure_class(layout="constrained").subplots()
    epochs = range(1, len(logs["data_loss"]) + 1)
    ax.stackplot(
        epochs,
        logs["data_loss"],
        logs["regularization_loss"],
        labels=["data loss", "regularization loss"],
        colors=[_DATA, _REGULARIZATION],
        alpha=0.8,
    )
    validation = logs.get("val_data_loss")
    if validation is not None:
        # Of its own length: validation need not follow every epoch.
        stride = max(1, len(epochs) // len(validation))
        ax.plot(
            list(epochs)[stride - 1 :: stride][: len(validation)],
            validation,
            color=_VALIDATION,
            linestyle="--",
            label="validation data loss",
        )
    ax.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    ax.margins(x=0)
    ax.locator_params(axis="x", integer=True)
    ax.legend()
    return ax


def plot_strength_path(result: Any, ax: "Axes | None" = None) -> "Axes":
    """Draws the validation loss by strength, as glmnet's users know it.

    Each strength at its best epoch: the mean over the folds, one standard error
    on both sides, and both choices.

    Args:
        result: What `l2keras.tune_strength` returns.
        ax: Matplotlib axes to draw on. Defaults to new ones.

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
    figure_class = _figure_class()
    if ax is None:
        ax = figure_class(layout="constrained").subplots()
    strengths, (loss, error) = result.strengths, result.path()
    ax.fill_between(
        strengths,
        loss - error,
        loss + error,
        color=_DATA,
        alpha=0.25,
        linewidth=0,
        label="± one standard error",
    )
    ax.plot(strengths, loss, color=_DATA, marker=".", label="mean over folds")
    ax.axvline(
        result.best_strength, color=_VALIDATION, linestyle="--", label="best"
    )
    ax.axvline(
        result.one_standard_error_strength,
        color=_REGULARIZATION,
        linestyle=":",
        label="strongest within one standard error",
    )
    positive = strengths[strengths > 0]
    if len(positive) > 1:
        # Logarithmic, but for a zero at its left end.
        ax.set_xscale("symlog", linthresh=positive[0])
        ax.set_xlim(strengths[0], strengths[-1])
    ax.set(xlabel="strength", ylabel="validation data loss")
    ax.legend()
    return ax
