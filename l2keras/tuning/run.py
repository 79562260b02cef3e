"""The run of a search: replicas trained chunk by chunk, saved in a file."""

import contextlib
import threading
import warnings
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple, Self

import keras
import numpy as np

from l2keras._keras.backend import backend
from l2keras._keras.random_states import random_states_kept
from l2keras.tuning import checkpoint, processes
from l2keras.tuning.checkpoint import Checkpoint
from l2keras.tuning.curves import LearningCurves
from l2keras.tuning.monitor import Monitor
from l2keras.tuning.plan import (
    Plan,
    Sequential,
    Stacked,
    chunks_of,
    make_plan,
)
from l2keras.tuning.probe import FirstSteps, Probe
from l2keras.tuning.replicas import Chunk
from l2keras.tuning.settings import Settings
from l2keras.tuning.sizes import Sizes, Trained, train

# The generators of random numbers belong to the process.
_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def random_numbers_kept() -> Iterator[None]:
    """Has one thread at a time seed the generators, and puts them back."""
    with _ONE_AT_A_TIME, random_states_kept():
        yield


class Search:
    """Trains candidates on all folds, and keeps their losses and metrics.

    Args:
        settings: The arguments.
        candidates: The first to be trained, of shape (candidates, keys).

    Attributes:
        curves: The losses and metrics so far.
        plan: The way the replicas are trained.
    """

    def __init__(self, settings: Settings, candidates: np.ndarray) -> None:
        self._settings = settings
        self._first = candidates
        self.curves = LearningCurves(
            candidates.shape[1], len(settings.folds), settings.epochs
        )
        self._length: int | None = None
        self._unfinished: _Unfinished | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(random_numbers_kept())
            self._file = self._open_file(stack)
            saved = None if self._file is None else self._file.load()
            self._workers = processes.Workers.of(self._settings.n_jobs)
            planned = make_plan(
                self._settings,
                self._first,
                1 if self._workers is None else self._workers.number,
            )
            self.plan, self._trainer, self._probe = planned
            stack.callback(self._trainer.close)
            self.curves.name_metrics(self._probe.metric_names)
            self.curves.set_length_of_sizes(self._probe.sizes.length)
            if saved is not None:
                self._resume(saved)
            _warn_of(self.plan, self._probe)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._file is not None and kind is None:
            self._file.remove()
        self._stack.close()

    @property
    def monitor(self) -> Monitor:
        """The metric by which candidates are compared."""
        return self._probe.monitor

    @property
    def sizes(self) -> Sizes:
        """The numbers in `curves.sizes`."""
        return self._probe.sizes

    @property
    def fallback_reason(self) -> str | None:
        """The reason why replicas were not stacked, if that is slower."""
        plan = self.plan
        return plan.reason if isinstance(plan, Sequential) else None

    def losses_of(self, candidates: np.ndarray) -> np.ndarray:
        """The lowest ranked mean of each candidate over its epochs."""
        rows = self.train(candidates)
        values = self.monitor.values(
            self.curves.validation_loss, self.curves.metrics
        )
        return self.monitor.ranked(values[rows].mean(axis=1)).min(axis=1)

    def train(self, candidates: np.ndarray) -> np.ndarray:
        """Trains candidates to their end; their rows in the curves."""
        rows = self.curves.indices(candidates)
        new = list(dict.fromkeys(rows[~self.curves.done[rows].all(axis=1)]))
        while new:
            try:
                self._train(self.curves.candidates[new])
            except Exception as error:
                if (
                    not backend.is_out_of_memory(error)
                    or self.plan.at_once == 1
                ):
                    raise
                half = self.plan.at_once // 2
                warnings.warn(
                    f"Out of memory with {self.plan.at_once} replicas at once. "
                    f"The search continues with {half}.",
                    stacklevel=4,
                )
                self._trainer.close()
                self.plan, self._length = Stacked(half), None
                self._unfinished = None
                self.curves.forget_undone()
            else:
                break
        return rows

    def _train(self, candidates: np.ndarray) -> None:
        chunks = chunks_of(
            self._settings, candidates, self.plan.at_once, self._length
        )
        self._length = len(chunks[0].candidates)
        waiting = [chunk for chunk in chunks if not self.curves.is_done(chunk)]
        epochs = self._settings.epochs
        bar = keras.utils.Progbar(
            len(chunks) * epochs, verbose=self._settings.verbose
        )
        passed = (len(chunks) - len(waiting)) * epochs
        with contextlib.closing(self._epochs_of(waiting)) as trained:
            for chunk, epoch, results in trained:
                self.curves.record(chunk, epoch, *results)
                passed += 1
                bar.update(passed)
                self._save(chunk, epoch + 1)

    def _epochs_of(
        self, chunks: Sequence[Chunk]
    ) -> Generator[tuple[Chunk, int, Trained], None, None]:
        """Trains chunks, epoch by epoch, here or in other processes."""
        if self._workers is not None:
            yield from self._workers.epochs_of(
                chunks, self._settings, self.plan, self._probe
            )
            return
        for chunk in chunks:
            begun = self._begin(chunk)
            epochs = range(begun, self._settings.epochs)
            for epoch, results in zip(
                epochs,
                train(self._trainer, chunk, epochs, self._probe.sizes),
                strict=True,
            ):
                yield chunk, epoch, results

    def _begin(self, chunk: Chunk) -> int:
        """The number of epochs that a chunk was trained before; begins it."""
        self._trainer.begin(chunk)
        unfinished = self._unfinished
        if unfinished is None or not unfinished.is_of(chunk):
            return 0
        self._unfinished = None
        self._trainer.restore(unfinished.state)
        return unfinished.epochs

    def _open_file(self, stack: contextlib.ExitStack) -> Checkpoint | None:
        settings = self._settings
        if settings.backup_dir is None:
            return None
        stack.enter_context(checkpoint.only_search_in(settings.backup_dir))
        arrays = keras.tree.flatten([settings.data, settings.folds])
        return Checkpoint(
            settings.backup_dir,
            checkpoint.digest(
                keras.backend.backend(),
                settings.keys,
                settings.epochs,
                settings.batch_size,
                settings.shuffle,
                settings.seed,
                self._first,
                # Of several strengths, it decides which are tried.
                settings.keys and (settings.monitor, settings.mode),
                *(array for array in arrays if array is not None),
            ),
        )

    def _save(self, chunk: Chunk, epochs: int) -> None:
        """Saves the search, when a chunk is done or some time has passed."""
        file, curves = self._file, self.curves
        is_done = epochs == self._settings.epochs
        if file is None or not (is_done or file.is_due):
            return
        unfinished = None
        if not is_done and self._workers is None:
            state = self._trainer.state()
            if state is not None:
                unfinished = _Unfinished(chunk, epochs, state)
        elif self._unfinished is not None:
            unfinished = self._unfinished
        rest = unfinished or _Unfinished(
            Chunk([], curves.candidates[:0]), 0, []
        )
        file.save(
            {
                "candidates": curves.candidates,
                "validation_loss": curves.validation_loss,
                "train_loss": curves.train_loss,
                "sizes": curves.sizes,
                "done": curves.done,
                **checkpoint.numbered("metrics", [*curves.metrics.values()]),
                "at_once": self.plan.at_once,
                "length": self._length,
                "model": self._probe.description,
                **checkpoint.numbered(
                    "first_weights", self._probe.expected.weights
                ),
                **checkpoint.numbered(
                    "first_results", [*self._probe.expected.results.values()]
                ),
                "folds": np.array(rest.chunk.folds, int),
                "strengths": rest.chunk.candidates,
                "epochs": rest.epochs,
                **checkpoint.numbered("state", rest.state),
            }
        )

    def _resume(self, saved: dict[str, np.ndarray]) -> None:
        """Resumes the search from the arrays of a file.

        Raises:
            ValueError: If the file is of other models.
        """
        assert self._file is not None
        difference = self._probe.difference_from(
            FirstSteps(
                checkpoint.listed("first_weights", saved),
                dict(
                    zip(
                        self._probe.expected.results,
                        checkpoint.listed("first_results", saved),
                        strict=False,
                    )
                ),
            )
        )
        if (
            difference is None
            and str(saved["model"]) != self._probe.description
        ):
            difference = "the optimizer or a regularizer is another"
        if difference is not None:
            raise self._file.refused(
                "is of a search for another model than `build_model` returns "
                f"now: {difference}"
            )
        curves = self.curves
        curves.candidates = saved["candidates"]
        curves.validation_loss = saved["validation_loss"]
        curves.train_loss = saved["train_loss"]
        curves.sizes = saved["sizes"]
        curves.done = saved["done"]
        curves.set_metrics(checkpoint.listed("metrics", saved))
        at_once, epochs = int(saved["at_once"]), int(saved["epochs"])
        if (
            isinstance(self.plan, Stacked)
            and self._settings.at_once is None
            and at_once > 1
        ):
            # The memory that is free may be another by now.
            self.plan = Stacked(at_once)
        if at_once == self.plan.at_once:
            self._length = int(saved["length"])
            if epochs and self._workers is None:
                chunk = Chunk(saved["folds"].tolist(), saved["strengths"])
                state = checkpoint.listed("state", saved)
                self._unfinished = _Unfinished(chunk, epochs, state)
                return
        elif epochs:
            warnings.warn(
                f"The search was interrupted while it trained {at_once} "
                f"replicas at once, and is resumed with {self.plan.at_once}. "
                f"The {epochs} epochs of replicas that were in training are "
                "trained again.",
                stacklevel=5,
            )
        curves.forget_undone()


class _Unfinished(NamedTuple):
    """A chunk whose training was interrupted.

    Attributes:
        chunk: The replicas.
        epochs: The number of epochs that they were trained.
        state: All arrays that training had changed by then.
    """

    chunk: Chunk
    epochs: int
    state: list[np.ndarray]

    def is_of(self, chunk: Chunk) -> bool:
        return self.chunk.folds == chunk.folds and np.array_equal(
            self.chunk.candidates, chunk.candidates
        )


def _warn_of(plan: Plan, probe: Probe) -> None:
    """Warns of slow training, and of a loss that is split by subtraction."""
    if isinstance(plan, Stacked):
        return
    if probe.splits_own_loss:
        warnings.warn(
            "The model has its own `compute_loss`. Strengths are compared by "
            "its value without `model.losses`, which is the data loss if "
            "`compute_loss` adds `sum(self.losses)` to it.",
            stacklevel=4,
        )
    if plan.reason is not None:
        warnings.warn(
            f"Falling back to sequential training: {plan.reason}. It takes "
            "as long as a `fit` for each strength and fold.",
            stacklevel=4,
        )
