"""The metric by which the candidates of a search are compared."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Self

import keras
import numpy as np

DATA_LOSS = "val_data_loss"


class Monitor(NamedTuple):
    """A metric on the rows held out, and which of its values are better.

    Attributes:
        name: The name in the logs, such as `val_accuracy`.
        mode: `"min"` if lower is better, `"max"` if higher is.
    """

    name: str = DATA_LOSS
    mode: str = "min"

    @classmethod
    def of(
        cls,
        name: str,
        mode: str | None,
        known: Collection[str],
        model: keras.Model,
    ) -> Self:
        """The monitor that a user named, its mode guessed if it is `None`.

        Args:
            name: The argument `monitor`.
            mode: The argument `mode`.
            known: The names that could be monitored.
            model: A compiled model, whose metrics have been built.

        Raises:
            ValueError: If there is no such metric, or Keras does not know
                which of its values are better.
        """
        if name not in known:
            raise ValueError(
                "Argument `monitor` must be the name of a number that is "
                f"computed on the rows held out, one of {sorted(known)}. "
                f"Received: monitor={name!r}"
            )
        if mode is None:
            mode = "min" if name == DATA_LOSS else _guessed_mode(name, model)
        return cls(name, mode)

    def values(
        self, validation_loss: np.ndarray, metrics: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """The monitored values of the replicas, (candidates, folds, epochs).

        NaN where the data loss is not finite: of a model that diverged, the
        accuracy still is a number.
        """
        if self.name == DATA_LOSS:
            return validation_loss
        return np.where(
            np.isfinite(validation_loss), metrics[self.name], np.nan
        )

    def ranked(self, means: np.ndarray) -> np.ndarray:
        """Means, negated if higher is better; infinity for those not finite."""
        signed = -means if self.mode == "max" else means
        return np.where(np.isfinite(means), signed, np.inf)


def check_mode(mode: Any) -> str | None:
    """The argument `mode`.

    Raises:
        ValueError: If it is no mode.
    """
    if mode not in (None, "min", "max"):
        raise ValueError(
            "Argument `mode` must be 'min', 'max' or `None`, to have Keras "
            f"guess. Received: mode={mode!r}"
        )
    return mode


def _guessed_mode(name: str, model: keras.Model) -> str:
    """The mode that `EarlyStopping` finds out, asked of its behaviour."""
    stopping = keras.callbacks.EarlyStopping(name, patience=2)
    stopping.set_model(model)
    stopping.on_train_begin()
    try:
        stopping.on_epoch_end(0, {name: 0.0})
    except ValueError:
        raise ValueError(
            "Argument `mode` must be 'min' or 'max', since Keras does not know "
            f"which values of {name!r} are better. Received: mode=None"
        ) from None
    stopping.on_epoch_end(1, {name: 1.0})
    return "max" if stopping.best == 1.0 else "min"
