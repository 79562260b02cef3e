"""Several strengths learned at once, while the folds are trained."""

import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from l2keras.models.relu_chains import relu_chains
from l2keras.tuning.backup_file import BackupFile, listed, numbered
from l2keras.tuning.folds import endless_rows
from l2keras.tuning.grid.hypergradient import Hypergradient
from l2keras.tuning.grid.learner import Learner
from l2keras.tuning.grid.stack import LearningStack
from l2keras.tuning.settings import Settings
from l2keras.tuning.stack_trainer import Prototype, new_learning_stack

# So that a fold's two series of rows have orders of their own.
_TRAIN, _HELD_OUT = 0, 1


class Learning(NamedTuple):
    """What was learned.

    Attributes:
        strengths: The strengths, of shape (strengths,).
        path: What they were after each epoch, of shape (epochs, strengths),
            NaN where there was none.
        signal_to_noise: The mean signal of each in units of its standard error.
        steps: How many steps there were.
        diverged: In how many folds the loss was no number at some time.
        was_interrupted: Whether Ctrl-C ended it.
    """

    strengths: np.ndarray
    path: np.ndarray
    signal_to_noise: np.ndarray
    steps: int
    diverged: int
    was_interrupted: bool


class Lessons:
    """The rows of all steps: of each fold to train on, and to judge by.

    All folds make their steps together, so all batches are full, and a fold
    that has seen all its rows begins anew: an epoch is one of the largest fold.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sizes = [
            min(settings.batch_size, min(map(len, rows)))
            for rows in zip(*settings.folds, strict=True)
        ]
        longest = max(len(fold.train) for fold in settings.folds)
        self.per_epoch = math.ceil(longest / self._sizes[_TRAIN])

    def of_epoch(self, epoch: int) -> list[np.ndarray]:
        """Returns two arrays of shape (folds, steps, batch size)."""
        settings = self._settings
        lessons = []
        for side, size in enumerate(self._sizes):
            number = self.per_epoch * size
            rows = [
                endless_rows(
                    fold[side],
                    epoch * number,
                    (epoch + 1) * number,
                    settings.shuffle,
                    (settings.seed, index, side),
                )
                for index, fold in enumerate(settings.folds)
            ]
            lessons.append(np.stack(rows).reshape(len(rows), -1, size))
        return lessons


def learn(
    prototype: Prototype,
    data: Any,
    settings: Settings,
    file: BackupFile | None,
) -> Learning:
    """Learns strengths; the settings' one candidate is what they begin with.

    Raises:
        StackingError: If the folds cannot be trained together.
        ValueError: If a strength penalizes no weight that is trained.
    """
    lessons = Lessons(settings)
    steps = settings.epochs * lessons.per_epoch
    hypergradient = Hypergradient(prototype.model, prototype.replica.cells)
    for cell in hypergradient.without_a_weight:
        raise ValueError(
            f"The strength {cell.key!r} cannot be learned: no weight that is "
            "trained is penalized by it, or decays. Of a penalty on what a "
            "layer puts out, give the strength as a number."
        )
    learner = Learner(hypergradient, steps)
    learned = learner.start(settings.candidates[0])
    path = np.full((settings.epochs, len(learned.logs)), np.nan)
    begun = 0
    saved = None if file is None else file.load()
    if saved is not None:
        begun, path = int(saved["epochs"]), saved["path"]
        learned = learner.restored(listed("learned", saved))
    bar = keras.utils.Progbar(settings.epochs, verbose=settings.verbose)
    was_interrupted = False
    try:
        if begun < settings.epochs:
            stack = _begun(prototype, data, settings, learner, lessons)
            if saved is not None:
                stack.restore(listed("state", saved))
        for epoch in range(begun, settings.epochs):
            learned = stack.learn(learner, learned, *lessons.of_epoch(epoch))
            path[epoch] = _to_numpy(learner.strengths(learned))
            bar.update(epoch + 1)
            is_over = epoch + 1 == settings.epochs
            if file is not None and (is_over or file.is_due()):
                file.save(
                    {
                        "epochs": epoch + 1,
                        "path": path,
                        **numbered("learned", list(map(_to_numpy, learned))),
                        **numbered("state", [] if is_over else stack.state()),
                    }
                )
    except KeyboardInterrupt:
        was_interrupted = True
    return Learning(
        learner.answer(learned),
        path,
        learner.signal_to_noise(learned),
        steps,
        int(_to_numpy(learned.diverged)),
        was_interrupted,
    )


def keys_in_chains(prototype: Prototype) -> list[tuple[str, ...]]:
    """Returns the keys of which only the product is determined.

    Those of the kernels in a chain, if they penalize nothing else.
    """
    model, cells = prototype.model, prototype.replica.cells
    places = {id(v): i for i, v in enumerate(model.trainable_variables)}
    terms = Hypergradient(model, cells).cells_by_weight
    found = []
    for chain in relu_chains(model):
        weights = {places.get(id(kernel)) for kernel in chain}
        inside = [c for w, each in terms.items() if w in weights for c in each]
        outside = {
            c for w, each in terms.items() if w not in weights for c in each
        }
        keys = [
            str(cells[index].key)
            for index in dict.fromkeys(inside)
            if index not in outside
        ]
        if len(keys) > 1:
            found.append(tuple(keys))
    return found


def _begun(
    prototype: Prototype,
    data: Any,
    settings: Settings,
    learner: Learner,
    lessons: Lessons,
) -> LearningStack:
    """Returns the folds as one stack, at their first weights."""
    stack = new_learning_stack(prototype, data, len(settings.folds))
    start = prototype.starts, settings.candidates
    stack.start_checked(
        *start,
        lambda: stack.learns_as_alone(*start, learner, *lessons.of_epoch(0)),
    )
    return stack


def _to_numpy(value: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(value))
