"""Trains replicas one after another, by `fit`."""

import warnings
from typing import Any

import keras
import numpy as np

from l2keras._keras import backends, trainer_hooks
from l2keras.training.logger import RegularizationLogger
from l2keras.tuning.chunks import Chunk
from l2keras.tuning.fingerprint import digests_of_model
from l2keras.tuning.grid.replica import to_numpy
from l2keras.tuning.grid.stack import Means
from l2keras.tuning.object_walk import Digest
from l2keras.tuning.settings import BuildModel, Settings
from l2keras.tuning.trainer import Trainer, check_model, select_rows


class FitTrainer(Trainer):
    """Trains a replica by `fit`."""

    def __init__(
        self,
        build_model: BuildModel,
        data: Any,
        settings: Settings,
    ) -> None:
        self._build_model = build_model
        self._data = data
        self._settings = settings
        self._model: Any = None

    def check(self) -> None:
        """Raises an error, or warns, of models that had better not be searched.

        Raises:
            ValueError: If they do not use their strength.
        """
        self._check_strength_is_used()
        if not trainer_hooks.adds_losses_up(self.new_model(0, 0)):
            warnings.warn(
                "The model has a `compute_loss` of its own. Strengths are "
                "judged by what is left of it without `model.losses`, which is "
                "the data loss if `compute_loss` adds `sum(self.losses)` to "
                "it.",
                stacklevel=5,
            )

    def new_model(self, fold: int, candidate: int) -> keras.Model:
        """Returns a replica as it is before training."""
        keras.utils.set_random_seed(self._settings.seed + fold)
        model = self._build_model(self._settings.candidates[candidate].tolist())
        check_model(model)
        rows = self._settings.folds[fold].train[: self._settings.batch_size]
        trainer_hooks.build_for_training(model, select_rows(self._data, rows))
        return model

    def digests(self) -> list[Digest]:
        """Returns what the models come to: for all candidates, for all folds.

        Not for all pairs of them, which would take as long as to build all.
        """
        candidates, folds, _ = self._settings.shape
        pairs = [(0, candidate) for candidate in range(candidates)]
        pairs += [(fold, 0) for fold in range(1, folds)]
        found = []
        for fold, candidate in pairs:
            found += digests_of_model(
                self.new_model(fold, candidate),
                f"model[{self._settings.name_of(candidate)}, fold {fold}]",
            )
        return found

    def digests_of_models(self) -> list[Digest]:
        """Returns what one of the models comes to."""
        return digests_of_model(self.new_model(0, 0))

    def begin(self, chunk: Chunk) -> None:
        (fold,), (candidate,) = chunk
        self._model = self.new_model(fold, candidate)
        self._logger = RegularizationLogger()
        # With `use_ema`, `fit` would put the averages in place of the weights
        # after each epoch, as it is called for each.
        self._model.optimizer.finalize_variable_values = lambda variables: None

    def epoch(self, chunk: Chunk, epoch: int) -> tuple[Means, Means]:
        (fold,) = chunk.folds
        x, y, weight = select_rows(
            self._data, self._settings.training_order(fold, epoch)
        )
        held_out = select_rows(
            self._data, self._settings.folds[fold].validation
        )
        logs = self._model.fit(
            x,
            y,
            sample_weight=weight,
            batch_size=self._settings.batch_size,
            shuffle=False,
            initial_epoch=epoch,
            epochs=epoch + 1,
            validation_data=held_out if weight is not None else held_out[:2],
            validation_batch_size=self._settings.batch_size,
            callbacks=[self._logger],
            verbose=0,
        ).history
        ours = {"loss", "regularization_loss"}
        ours |= trainer_hooks.names_of_output_losses(self._model)
        values = {
            name: np.full((1, 1), each[0])
            for name, each in logs.items()
            if name.removeprefix("val_") not in ours
        }
        return (
            _to_means({k: v for k, v in values.items() if k[:4] != "val_"}),
            _to_means({k[4:]: v for k, v in values.items() if k[:4] == "val_"}),
        )

    def state(self) -> list[np.ndarray]:
        values = [to_numpy(each) for each in self._variables()]
        return [*backends.random_state(), *values]

    def restore(self, state: list[np.ndarray]) -> None:
        number = len(backends.random_state())
        backends.set_random_state(state[:number])
        for variable, value in zip(
            self._variables(), state[number:], strict=True
        ):
            variable.assign(value)

    def _variables(self) -> list[keras.Variable]:
        return [*self._model.variables, *self._model.optimizer.variables]

    def _check_strength_is_used(self) -> None:
        if len(self._settings.candidates) < 2:
            return
        one, other = (
            digests_of_model(self.new_model(0, index)) for index in (0, -1)
        )
        if one == other:
            raise ValueError(
                "`build_model` must use the strength that it is given. "
                f"Received: the same model for {self._settings.name_of(0)} "
                f"as for {self._settings.name_of(-1)}"
            )


def _to_means(values: dict[str, np.ndarray]) -> Means:
    return Means(values.pop("data_loss"), values)
