"""Trains replicas as one stack."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from l2keras._keras import backends, layer_tree, trainer_hooks
from l2keras.models.decay import strengths_in_use
from l2keras.strengths.tuned import Cell, NoValueError, TunedStrength
from l2keras.tuning.chunks import Chunk
from l2keras.tuning.fingerprint import digests_of_model, digests_of_start
from l2keras.tuning.grid.dealt_stack import DealtStack
from l2keras.tuning.grid.devices import deal, devices_for
from l2keras.tuning.grid.jax_stack import JaxStack
from l2keras.tuning.grid.replica import InitialState, Replica
from l2keras.tuning.grid.stack import (
    LearningStack,
    Means,
    Rows,
    Stack,
    batches,
)
from l2keras.tuning.grid.tensorflow_devices import DealtTensorflowStack
from l2keras.tuning.grid.tensorflow_stack import TensorflowStack
from l2keras.tuning.grid.torch_devices import DealtTorchStack
from l2keras.tuning.grid.torch_stack import TorchStack
from l2keras.tuning.object_walk import Digest
from l2keras.tuning.settings import BuildModel, Settings
from l2keras.tuning.trainer import Trainer, check_model, select_rows

_STACKS: dict[str, type[LearningStack]] = {
    "jax": JaxStack,
    "tensorflow": TensorflowStack,
    "torch": TorchStack,
}
# JAX's own stack can lie on several devices.
_DEALT_STACKS: dict[str, type[DealtStack]] = {
    "tensorflow": DealtTensorflowStack,
    "torch": DealtTorchStack,
}


class Prototype(NamedTuple):
    """A model that stands for all, and what those of a fold start from."""

    replica: Replica
    starts: list[InitialState]

    @property
    def model(self) -> keras.Model:
        return self.replica.model

    def digests(self) -> list[Digest]:
        """Returns what the model and the first weights come to."""
        return [
            *digests_of_model(self.model),
            *(
                digest
                for fold, start in enumerate(self.starts)
                for digest in digests_of_start(start, fold)
            ),
        ]


def build_prototype(
    build_model: BuildModel, data: Any, settings: Settings
) -> tuple[Prototype | None, str | None]:
    """Builds a model for each fold; or returns why none can stand for all."""
    cells = [Cell(key) for key in settings.keys or [None]]
    starts = []
    model: Any = None
    number = None
    rows = settings.folds[0].train[: settings.batch_size]
    for fold in range(len(settings.folds)):
        keras.utils.set_random_seed(settings.seed + fold)
        try:
            each = built(build_model, [TunedStrength(cell) for cell in cells])
        except NoValueError:
            return None, "`build_model` asks for the value of the strength"
        check_model(each)
        if len(each.variables) != number:
            random = backends.random_state()
            trainer_hooks.build_for_training(each, select_rows(data, rows))
            # Building may draw random numbers on PyTorch, as it does in `fit`.
            draws = not all(
                map(np.array_equal, random, backends.random_state())
            )
            number = None if draws else len(each.variables)
        if model is None:
            model = each
            replica = Replica(model, cells, data)
        starts.append(InitialState.of(each))
    _check_uses(model, cells)
    if keras.backend.backend() != "jax":  # There `fit` has none of it either.
        path = replica.assigned_by_layers(select_rows(data, rows))
        if path is not None:
            return None, f"a layer assigns weight {path!r} when it is called"
    return Prototype(replica, starts), None


def built(build_model: Callable[[Any], Any], strengths: Any) -> Any:
    """Returns what `build_model` makes of strengths that have no value.

    Raises:
        TypeError: If it hands one to a regularizer of Keras.
    """
    try:
        return build_model(strengths)
    except Exception as error:
        if not _is_raised_by_keras_regularizer(error):
            raise
        raise TypeError(
            "`build_model` must hand its strength to a regularizer of "
            "l2keras, as in `l2keras.L2(strength)`. Keras's own take "
            "nothing but a number."
        ) from error


def _is_raised_by_keras_regularizer(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None:
        if layer_tree.is_regularizers_module(trace.tb_frame.f_globals):
            return True
        trace = trace.tb_next
    return False


def _check_uses(model: keras.Model, cells: Sequence[Cell]) -> None:
    """Raises a ValueError unless a model uses the strengths of all cells."""
    used = [
        strength.cell
        for strength in strengths_in_use(model)
        if isinstance(strength, TunedStrength)
    ]
    for cell in cells:
        if cell in used:
            continue
        which = "the strength that it is given"
        if cell.key is not None:
            which = f"each strength that it asks for. Not used is {cell.key!r}"
        raise ValueError(
            f"`build_model` must use {which}. Received: a model that has it "
            "neither in a regularizer nor in a `DecoupledWeightDecay`"
        )


def new_stack(
    prototype: Prototype, data: Any, shape: tuple[int, int], batch_size: int
) -> Stack:
    """Returns a stack of so many folds and candidates, on all devices."""
    backend = keras.backend.backend()
    arguments = prototype.replica, _arrays(data), shape
    if backend in _DEALT_STACKS:
        of_devices = devices_for(prototype.model, math.prod(shape), batch_size)
        if of_devices and deal(shape, len(of_devices)) != (1, 1):
            return _DEALT_STACKS[backend](*arguments, of_devices)
    return _STACKS[backend](*arguments)


def new_learning_stack(
    prototype: Prototype, data: Any, folds: int
) -> LearningStack:
    """Returns a stack of so many folds, whose strengths can be learned."""
    stack = _STACKS[keras.backend.backend()]
    return stack(prototype.replica, _arrays(data), (folds, 1))


def _arrays(data: Any) -> list[Any]:
    return keras.tree.flatten([each for each in data if each is not None])


class StackTrainer(Trainer):
    """Trains a chunk as one stack."""

    def __init__(
        self, prototype: Prototype, data: Any, settings: Settings
    ) -> None:
        self._prototype = prototype
        self._data = data
        self._settings = settings
        self._stacks: dict[tuple[int, int], Stack] = {}
        self._stack: Any = None

    def digests_of_models(self) -> list[Digest]:
        """Returns what the models come to, and their first weights."""
        return self._prototype.digests()

    def begin(self, chunk: Chunk) -> None:
        shape = len(chunk.folds), len(chunk.candidates)
        starts = [self._prototype.starts[fold] for fold in chunk.folds]
        strengths = self._settings.candidates[chunk.candidates]
        is_new = shape not in self._stacks
        if is_new:
            self._stacks[shape] = new_stack(
                self._prototype, self._data, shape, self._settings.batch_size
            )
        self._stack = self._stacks[shape]
        if is_new:
            rows = self._rows(chunk, epoch=0)
            self._stack.start_checked(
                starts,
                strengths,
                lambda: self._stack.trains_as_alone(starts, strengths, rows),
            )
        else:
            self._stack.start(starts, strengths)

    def epoch(self, chunk: Chunk, epoch: int) -> tuple[Means, Means]:
        train = self._stack.train(self._rows(chunk, epoch))
        validation = np.stack(
            [self._settings.folds[fold].validation for fold in chunk.folds]
        )
        return train, self._stack.evaluate(
            batches(validation, self._settings.batch_size)
        )

    def state(self) -> list[np.ndarray]:
        return self._stack.state()

    def restore(self, state: list[np.ndarray]) -> None:
        self._stack.restore(state)

    def _rows(self, chunk: Chunk, epoch: int) -> Rows:
        orders = [
            self._settings.training_order(fold, epoch) for fold in chunk.folds
        ]
        return batches(np.stack(orders), self._settings.batch_size)
