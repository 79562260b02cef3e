"""Replicas trained one after another, each by its own `fit`."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from l2keras._keras import trainer_hooks
from l2keras._keras.backend import backend
from l2keras.training.logger import RegularizationLogger
from l2keras.tuning.replicas import (
    Chunk,
    Means,
    Prototype,
    build_model,
)
from l2keras.tuning.settings import Settings, select_rows
from l2keras.tuning.stack.replica import to_numpy


class SequentialTrainer:
    """Trains one replica at a time by `fit`.

    Args:
        settings: The settings of the search.
        prototype: The model that all replicas are trained in, which is compiled
            once; or `None`, and each is built by `build_model`.
        compiles: Whether Keras compiles the training. If not, it takes less
            time for a few steps.
    """

    def __init__(
        self,
        settings: Settings,
        prototype: Prototype | None,
        compiles: bool = True,
    ) -> None:
        self._settings = settings
        self._prototype = prototype
        self._compiles = compiles
        self._fold = 0
        self.model: Any = None
        # To be restored: the user may hold the layers of a model.
        self._before: list[tuple[keras.Variable, np.ndarray]] = []

    def begin(self, chunk: Chunk) -> None:
        (self._fold,), (strengths,) = chunk
        self.close()
        self._logger = RegularizationLogger()
        if self._prototype is None:
            self.model = build_model(
                self._settings, self._fold, strengths.tolist()
            )
            self._keep()
            if not self._compiles:
                backend.train_uncompiled(self.model)
            return
        self.model = self._prototype.model
        self._keep()
        start = self._prototype.starts[self._fold]
        state = self._prototype.replica.with_strengths(start.state, strengths)
        self._assign([value for part in state for value in part])
        backend.set_random_state(start.random)

    def epoch(
        self, epoch: int, first_steps: bool = False
    ) -> tuple[Means, Means]:
        settings, size = self._settings, self._settings.batch_size
        train = settings.training_order(self._fold, epoch)
        held_out = settings.folds[self._fold].validation
        if first_steps:
            train = first_rows(train, size, full=2)
            held_out = first_rows(held_out, size, full=0)
        x, y, weight = select_rows(settings.data, train)
        validation = select_rows(settings.data, held_out)
        logs = self.model.fit(
            x,
            y,
            sample_weight=weight,
            batch_size=size,
            shuffle=False,
            initial_epoch=epoch,
            epochs=epoch + 1,
            validation_data=validation[: 2 if weight is None else 3],
            validation_batch_size=size,
            callbacks=[self._logger],
            verbose=0,
        ).history
        losses = {"loss", "regularization_loss"}
        losses |= trainer_hooks.names_of_output_losses(self.model)
        values = {
            name: _logged(name, value[0])[None, None]
            for name, value in logs.items()
            if name.removeprefix("val_") not in losses
        }
        return (
            _to_means({k: v for k, v in values.items() if k[:4] != "val_"}),
            _to_means({k[4:]: v for k, v in values.items() if k[:4] == "val_"}),
        )

    def weights(self, fold: int, candidate: int) -> list[np.ndarray]:
        return to_numpy(self.model.trainable_variables)

    def models(self) -> Iterator[keras.Model]:
        yield self.model

    def state(self) -> list[np.ndarray] | None:
        if self._prototype is None:
            # A model of `build_model` may have a hidden state.
            return None
        return [*backend.random_state(), *to_numpy(self._variables())]

    def restore(self, state: list[np.ndarray]) -> None:
        number = len(backend.random_state())
        backend.set_random_state(state[:number])
        self._assign(state[number:])

    def close(self) -> None:
        if self.model is not None:
            for variable, value in self._before:
                variable.assign(value)
            vars(self.model.optimizer).pop("finalize_variable_values", None)
            self.model = None

    def _keep(self) -> None:
        variables = self._variables()
        self._before = list(zip(variables, to_numpy(variables), strict=True))
        # With `use_ema`, `fit` would put the averages in place of the weights
        # after each epoch, as it is called for each.
        self.model.optimizer.finalize_variable_values = lambda variables: None

    def _assign(self, values: Sequence[np.ndarray]) -> None:
        for variable, value in zip(self._variables(), values, strict=True):
            variable.assign(value)

    def _variables(self) -> list[keras.Variable]:
        """The variables of `State`, in its order."""
        model = self.model
        return [
            *model.trainable_variables,
            *model.non_trainable_variables,
            *model.optimizer.variables,
        ]


def first_rows(rows: np.ndarray, batch_size: int, full: int) -> np.ndarray:
    """The rows of the first batches, and of the smaller one at the end.

    Args:
        rows: Array of shape (rows,).
        batch_size: Number of rows in a batch.
        full: The number of full batches; at least one without a smaller one.
    """
    whole = len(rows) - len(rows) % batch_size
    if whole == len(rows):
        full = max(full, 1)
    first = min(whole, full * batch_size)
    return np.concatenate([rows[:first], rows[whole:]])


def _logged(name: str, value: Any) -> np.ndarray:
    """A value that `fit` logged, NaN if it is not known.

    Of a metric whose `result` is a variable, Keras logs the variable, which has
    been set anew by the validation since.
    """
    if isinstance(value, keras.Variable):
        (value,) = to_numpy([value])
        return value if name[:4] == "val_" else np.full_like(value, np.nan)
    return np.asarray(value)


def _to_means(values: dict[str, np.ndarray]) -> Means:
    return Means(values.pop("data_loss"), values)
