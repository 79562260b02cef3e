"""The sizes of trained replicas: the parameters that `compact` would leave."""

from collections.abc import Iterator
from typing import NamedTuple, Self

import keras
import numpy as np

from l2keras.compaction.compact import report_without_rebuilding
from l2keras.compaction.report import CompactionReport
from l2keras.regularizers.base import terms_of
from l2keras.regularizers.proximal_steps import has_proximal, optimizers_of
from l2keras.tuning.replicas import Chunk, Means, Trainer
from l2keras.weights import paths


class Sizes(NamedTuple):
    """The numbers that describe the size of a model, in one vector.

    First its parameters, then the widths of its layers, then for each index of
    each input whether it is read. All are NaN if the weights are not finite.

    Attributes:
        layers: The paths of layers that have a width.
        inputs: By the name of an input, the number of its indices.
        unknown: Why sizes are not counted, `None` if they are.
    """

    layers: list[str]
    inputs: dict[str, int]
    unknown: str | None = None

    @classmethod
    def of(cls, model: keras.Model) -> Self:
        """The vector for models such as this one."""
        if not _makes_zeros(model):
            return cls(
                [],
                {},
                "no weight has a penalty with a proximal step, such as "
                "`GroupLasso`, in a model that is compiled with `Proximal`",
            )
        try:
            report = report_without_rebuilding(model)
        except ValueError as error:
            return cls([], {}, f"`compact` refuses the model: {error}")
        lengths = {name: len(kept) for name, kept in report.inputs.items()}
        return cls([*report.widths], lengths)

    @property
    def length(self) -> int:
        """The length of the vector, 0 if sizes are not counted."""
        if self.unknown is not None:
            return 0
        return 1 + len(self.layers) + sum(self.inputs.values())

    def at_end(self, trainer: Trainer, shape: tuple[int, int]) -> np.ndarray:
        """The vectors of a trainer's replicas.

        Args:
            trainer: The trainer, with trained replicas.
            shape: The numbers of folds and candidates.

        Returns:
            An array of shape (folds, candidates, length).
        """
        if not self.length:
            return np.zeros((*shape, 0))
        vectors = [self._vector(model) for model in trainer.models()]
        return np.array(vectors).reshape(*shape, self.length)

    def _vector(self, model: keras.Model) -> np.ndarray:
        for variable in model.weights:
            if not np.isfinite(
                keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32"))
            ).all():
                return np.full(self.length, np.nan)
        report = report_without_rebuilding(model)
        # By their places: Keras counts up the names of layers.
        widths = [width for _, width in report.widths.values()]
        reads = [*map(np.array, _reads(report))]
        return np.concatenate([[report.parameters[1]], widths, *reads])

    def parameters(self, vectors: np.ndarray) -> np.ndarray | None:
        """The numbers of parameters, `None` if they are not counted."""
        return vectors[..., 0] if self.length else None

    def widths(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """The widths, by the path of a layer."""
        return {
            path: vectors[..., place]
            for place, path in enumerate(self.layers, start=1)
        }

    def inputs_read(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """For each index of an input, 1 where it is read, and 0 where not."""
        found, begin = {}, 1 + len(self.layers)
        for name, length in self.inputs.items():
            found[name] = vectors[..., begin : begin + length]
            begin += length
        return found


class Trained(NamedTuple):
    """The results of an epoch of a chunk.

    Attributes:
        train: The means of training.
        validation: The means of validation.
        sizes: After the last epoch, the vectors of `Sizes`.
    """

    train: Means
    validation: Means
    sizes: np.ndarray | None


def train(
    trainer: Trainer, chunk: Chunk, epochs: range, sizes: Sizes
) -> Iterator[Trained]:
    """Trains a chunk that was begun, and counts its sizes at the end."""
    for epoch in epochs:
        means = trainer.epoch(epoch)
        vectors = None
        if epoch == epochs[-1]:
            vectors = sizes.at_end(trainer, chunk.shape)
        yield Trained(*means, vectors)


def _reads(report: CompactionReport) -> list[list[float]]:
    """For each index of each input, 1 if it is read, and 0 if not."""
    return [
        [float(index not in report.unread_inputs[name]) for index in kept]
        for name, kept in report.inputs.items()
    ]


def _makes_zeros(model: keras.Model) -> bool:
    """Whether proximal steps are taken on some weight."""
    return any(
        getattr(optimizer, "takes_proximal_steps", False)
        for weight in paths.weights(model)
        if any(map(has_proximal, terms_of(weight.variable.regularizer)))
        for optimizer in optimizers_of(model, weight.variable)
    )
