"""A probe: does a trainer give the same results as a model's own `fit`?

Behaviour is compared and not code: one replica is trained for its first steps
as a user would train it, and other ways to train it must end with the same
weights and losses. The same numbers tell whether a search that is resumed, or a
worker in another process, still trains the same. Differences that begin later
than in the first steps are not found.
"""

import re
from typing import Any, NamedTuple, Self

import keras
import numpy as np

from l2keras._keras import layer_tree, trainer_hooks
from l2keras._keras.backend import backend
from l2keras.tuning.monitor import Monitor
from l2keras.tuning.replicas import Chunk, Trainer
from l2keras.tuning.sequential import SequentialTrainer
from l2keras.tuning.settings import Settings
from l2keras.tuning.sizes import Sizes
from l2keras.weights import paths

# Rounding is far below these, and real differences are far above. A metric such
# as the accuracy jumps where rounding decides.
_OF_STEPS = 0.1
_OF_LOSS = 1e-3
_OF_METRIC = 0.05


class FirstSteps(NamedTuple):
    """The results of the first steps of one replica.

    Attributes:
        weights: The trainable weights.
        results: Losses and metrics, by name.
    """

    weights: list[np.ndarray]
    results: dict[str, np.ndarray]

    @classmethod
    def of(cls, trainer: Trainer, fold: int, candidate: int) -> Self:
        """Trains the replica in a place of the trainer's chunk."""
        train, validation = trainer.epoch(0, first_steps=True)
        return cls(
            trainer.weights(fold, candidate),
            {
                f"{prefix}{name}": np.asarray(values[fold, candidate])
                for prefix, means in (("", train), ("val_", validation))
                for name, values in (
                    ("data_loss", means.data_loss),
                    *means.metrics.items(),
                )
            },
        )


class Probe:
    """The first steps of one replica, trained alone, to compare with.

    Args:
        settings: The settings of the search.
        strengths: The replica's, of shape (keys,). Its fold is the last.

    Attributes:
        expected: The first steps.
        changed: A number in Python that changes with each step, such as a
            counter of a layer's own, in words; `None` if there is none.
        description: The config, which may begin to matter later.
        monitor: The metric by which candidates are compared.
        splits_own_loss: Whether the data loss is split off from a
            `compute_loss` of the model's own.
        sizes: The numbers that are counted at the end of training.
    """

    def __init__(self, settings: Settings, strengths: np.ndarray) -> None:
        self.chunk = Chunk([len(settings.folds) - 1], strengths[None])
        alone = SequentialTrainer(settings, None, compiles=False)
        with backend.compiled_quickly():
            try:
                alone.begin(self.chunk)
                self.expected = FirstSteps.of(alone, 0, 0)
                # Again, since much is new to a model the first time.
                before = _numbers_in(alone.model)
                again = FirstSteps.of(alone, 0, 0)
                self.changed = _changed(before, _numbers_in(alone.model))
                by_id = {
                    id(weight.variable): weight.path
                    for weight in paths.weights(alone.model)
                }
                self.description = _description(alone.model)
                self.sizes = Sizes.of(alone.model)
                # Keras logs a variable after it has been set anew.
                results = alone.model.get_metrics_result()
                self._unknown = {
                    name
                    for name, value in results.items()
                    if isinstance(value, keras.Variable)
                }
                self.monitor = Monitor.of(
                    settings.monitor,
                    settings.mode,
                    [
                        name
                        for name, value in self.expected.results.items()
                        # A number for each class has no order.
                        if name.startswith("val_") and value.ndim == 0
                    ],
                    alone.model,
                )
                self.splits_own_loss = not trainer_hooks.adds_losses_up(
                    alone.model
                )
                self._paths = [
                    by_id.get(id(variable), variable.path)
                    for variable in alone.model.trainable_variables
                ]
            finally:
                alone.close()
        self._step = _distance(again.weights, self.expected.weights)

    @property
    def metric_names(self) -> list[str]:
        """The names of the metrics, those of validation last."""
        names = self.expected.results
        return [name for name in names if not name.endswith("data_loss")]

    def placed_in(self, chunk: Chunk) -> Chunk:
        """A chunk with the probe's candidate in the place of its last."""
        candidates = [chunk.candidates[:-1], self.chunk.candidates]
        return chunk._replace(candidates=np.concatenate(candidates))

    def repeated(self, shape: tuple[int, int]) -> Chunk:
        """A chunk of so many folds and candidates, all those of the probe."""
        folds, candidates = shape
        return Chunk(
            self.chunk.folds * folds,
            self.chunk.candidates.repeat(candidates, 0),
        )

    def difference(self, trainer: Trainer, chunk: Chunk) -> str | None:
        """A description of the first difference of a trainer, `None` if none.

        Args:
            trainer: The trainer to try.
            chunk: Replicas, of which the last is that of the probe.
        """
        # Twice, since a run may leave something behind that changes the next.
        for _ in range(2):
            trainer.begin(chunk)
            difference = self.difference_from(FirstSteps.of(trainer, -1, -1))
            if difference is not None:
                return difference
        return None

    def difference_from(self, found: FirstSteps) -> str | None:
        """A description of the first difference, `None` if there is none."""
        expected = self.expected
        # By their places, as Keras counts up the names of metrics.
        if len(found.results) != len(expected.results):
            return f"has metrics {list(found.results)}"
        pairs = zip(
            expected.results.items(), found.results.values(), strict=True
        )
        for (name, right), value in pairs:
            tolerance = _OF_LOSS if name.endswith("data_loss") else _OF_METRIC
            if name not in self._unknown and (
                value.shape != right.shape
                or not np.allclose(
                    value, right, rtol=tolerance, atol=tolerance, equal_nan=True
                )
            ):
                return f"{name} is {value} and not {right}"
        if [weight.shape for weight in found.weights] != [
            weight.shape for weight in expected.weights
        ]:
            return "the weights have other shapes"
        # Weights that are not finite cannot be compared.
        total = _distance(found.weights, expected.weights)
        if total > _OF_STEPS * self._step + 1e-6:
            far = map(_distance_of_one, found.weights, expected.weights)
            path = self._paths[int(np.argmax(list(far)))]
            return f"weight {path!r} is another"
        return None


def _description(model: keras.Model) -> str:
    """The config of the optimizer, and the regularizers.

    They may begin to matter later than in the first steps.
    """
    try:
        optimizer = model.optimizer.get_config()
    except NotImplementedError:
        optimizer = type(model.optimizer).__name__
    regularizers = [
        repr(weight.variable.regularizer) for weight in paths.weights(model)
    ]
    return re.sub(r"'name': '[^']*'", "", repr((optimizer, regularizers)))


def _distance_of_one(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one.astype("float64") - other))


def _distance(ones: list[np.ndarray], others: list[np.ndarray]) -> float:
    """The norm of the difference of all weights together.

    That of one weight says little: where a normalization cancels a bias,
    rounding decides where Adam moves it.
    """
    return float(np.hypot.reduce([*map(_distance_of_one, ones, others)]))


def _numbers_in(model: keras.Model) -> dict[str, Any]:
    """The plain numbers among the attributes of layers and optimizer."""
    found = {}
    owners = [
        (f"layer {layer.name!r}", layer)
        for _, layer in layer_tree.layers_by_path(model)
    ]
    for owner, holder in [*owners, ("the optimizer", model.optimizer)]:
        for name, value in vars(holder).items():
            if isinstance(
                value, bool | int | float | np.ndarray | np.number | list | dict
            ):
                found[f"{owner} changes its attribute `{name}`"] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    """A copy of numbers, arrays, and containers of these; to compare."""
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return [(str(key), _plain(entry)) for key, entry in value.items()]
    if isinstance(value, bool | int | float | str | np.number):
        return repr(value)  # NaN is not equal to itself.
    return None


def _changed(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    return next(
        (name for name, value in after.items() if before.get(name) != value),
        None,
    )
