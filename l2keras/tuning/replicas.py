"""Replicas: the models of a search, one for each candidate on each fold."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np

from l2keras._keras import layer_tree, trainer_hooks
from l2keras._keras.backend import backend
from l2keras.models.decay import strengths_in_use
from l2keras.strengths.placeholder import (
    PlaceholderStrength,
    StrengthVariable,
)
from l2keras.strengths.strength import placeholders_in
from l2keras.tuning.settings import Settings, select_rows
from l2keras.tuning.stack.replica import Replica, State, to_numpy


class Chunk(NamedTuple):
    """Replicas that are trained together: some candidates on some folds.

    Attributes:
        folds: The numbers of the folds.
        candidates: The strengths, of shape (candidates, keys).
    """

    folds: list[int]
    candidates: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of folds and candidates."""
        return len(self.folds), len(self.candidates)


class Means(NamedTuple):
    """Means over the rows of a pass, for the replicas of a chunk.

    Attributes:
        data_loss: Array of shape (folds, candidates).
        metrics: Arrays of shape (folds, candidates, ...), by name.
    """

    data_loss: np.ndarray
    metrics: Mapping[str, np.ndarray]


class Trainer(Protocol):
    """Trains the replicas of a chunk, epoch by epoch."""

    def begin(self, chunk: Chunk) -> None:
        """Sets the replicas of a chunk to their initial state."""

    def epoch(
        self, epoch: int, first_steps: bool = False
    ) -> tuple[Means, Means]:
        """Trains for an epoch; the means of training, and of validation.

        Args:
            epoch: The number of the epoch, from zero.
            first_steps: Whether to go over the first two batches and the
                last, smaller one only, and validate on the smaller one of
                the rows held out, or on the first batch if there is none.
        """

    def weights(self, fold: int, candidate: int) -> list[np.ndarray]:
        """The weights of one replica, by its place in the chunk."""

    def models(self) -> Iterator[keras.Model]:
        """Yields a model with the weights of each replica, fold by fold.

        It may be the same each time.
        """

    def state(self) -> list[np.ndarray] | None:
        """All arrays that training changes; `None` if they are not known."""

    def restore(self, state: list[np.ndarray]) -> None:
        """Goes back to a state that `state` returned."""

    def close(self) -> None:
        """Restores models that the user holds, and frees memory."""


class Start(NamedTuple):
    """The state of a fold's replicas before training.

    Attributes:
        state: The values of the model's variables.
        random: The state of the generators that no variable holds.
    """

    state: State
    random: list[np.ndarray]


class Prototype(NamedTuple):
    """One model for all replicas.

    Attributes:
        replica: The computation.
        starts: The initial state for each fold.
    """

    replica: Replica
    starts: list[Start]

    @property
    def model(self) -> keras.Model:
        return self.replica.model


# The most often that a model is built to have the same one twice.
_TRIES = 5


def build_model(settings: Settings, fold: int, values: Sequence[Any]) -> Any:
    """The model that `build_model` makes of strengths, on a fold's seed.

    Other threads, as those of dask, may draw from the generators meanwhile. So
    where there are any, it is built until it is the same twice.

    Raises:
        TypeError: If it returns no compiled model, or hands its strength to a
            regularizer of Keras.
        ValueError: If the model is compiled without a loss.
    """
    model = _built(settings, fold, values)
    for _ in range(_TRIES if threading.active_count() > 1 else 0):
        before, model = model, _built(settings, fold, values)
        if _bytes_of(before) == _bytes_of(model):
            break
    return model


def _bytes_of(model: keras.Model) -> list[bytes]:
    return [value.tobytes() for value in to_numpy(model.variables)]


def _built(settings: Settings, fold: int, values: Sequence[Any]) -> Any:
    keras.utils.set_random_seed(settings.seed + fold)
    try:
        model = settings.build_model(settings.strengths(values))
    except (TypeError, ValueError) as error:
        # A number is welcome there.
        if isinstance(values[0], float) or not _is_raised_by_keras(error):
            raise
        raise TypeError(
            "`build_model` must hand its strength to a regularizer of "
            "l2keras, as in `l2keras.L2(strength)`. Keras's own take "
            "nothing but a number."
        ) from error
    _check_model(model)
    return model


def build_prototype(settings: Settings) -> Prototype:
    """One model that serves all strengths, with the initial states of folds.

    Raises:
        NoValueError: If `build_model` asks for the number behind a strength.
        ValueError: If the model ignores a strength.
    """
    variables = [StrengthVariable(key) for key in settings.keys or [None]]
    replica: Any = None
    starts = []
    batch = select_rows(
        settings.data, settings.folds[0].train[: settings.batch_size]
    )
    for fold in range(len(settings.folds)):
        placeholders = [PlaceholderStrength(variable) for variable in variables]
        model = build_model(settings, fold, placeholders)
        # As `fit` does, which may draw random numbers on PyTorch.
        trainer_hooks.build_for_training(model, batch)
        if replica is None:
            _check_uses(model, variables)
            replica = Replica(model, variables, settings.data)
        else:
            for variable in variables:
                layer_tree.track(model, variable)
        starts.append(Start(State.of(model), backend.random_state()))
    return Prototype(replica, starts)


def _check_model(model: Any) -> None:
    """Raises an error unless `build_model` returned a compiled model."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`build_model` must return a Keras model. Received: {model!r}"
        )
    if not model.compiled or model.optimizer is None:
        raise TypeError(
            "`build_model` must return a compiled model. Call "
            f"`model.compile(...)` in it. Received: {model!r}"
        )
    if trainer_hooks.adds_losses_up(
        model
    ) and not trainer_hooks.is_compiled_with_a_loss(model):
        raise ValueError(
            "`build_model` must give `compile` a loss, by which the strengths "
            "are judged. What `add_loss` adds counts as regularization. "
            f"Received: {model!r}"
        )


def _is_raised_by_keras(error: BaseException) -> bool:
    """Whether a regularizer of Keras raised an error."""
    trace = error.__traceback__
    while trace is not None:
        if layer_tree.is_regularizers_module(trace.tb_frame.f_globals):
            return True
        trace = trace.tb_next
    return False


def _check_uses(
    model: keras.Model, variables: Sequence[StrengthVariable]
) -> None:
    """Raises a ValueError unless a model uses all its strengths."""
    used = [
        placeholder.variable
        for value in strengths_in_use(model)
        for placeholder in placeholders_in(value)
    ]
    for variable in variables:
        if any(other is variable for other in used):
            continue
        which = "the strength that it is given"
        if variable.key is not None:
            which = f"all of its strengths. Not used is {variable.key!r}"
        raise ValueError(
            f"`build_model` must use {which}. Received: a model that has it "
            "neither in a regularizer nor in a `DecoupledWeightDecay`"
        )
