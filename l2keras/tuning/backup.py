"""Keeps a search in a file, to go on after it was killed."""

import os
import pathlib
import tempfile
import time
import zipfile
from typing import Any

import numpy as np

from l2keras.tuning.chunks import Chunk
from l2keras.tuning.fingerprint import first_difference
from l2keras.tuning.object_walk import Digest
from l2keras.tuning.progress import Progress, Unfinished, Way
from l2keras.tuning.settings import Settings
from l2keras.tuning.trainer import Trainer

# Written when an epoch ends, after at least so many seconds.
SECONDS = 10.0


def check_folder(folder: pathlib.Path) -> None:
    """Raises an error unless a file can be written in the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            "Argument `backup_dir` must be a folder that can be written. "
            f"Received: backup_dir={str(folder)!r} ({error})"
        ) from error


class Backup:
    """Keeps a search in a file, to go on after it was killed.

    Args:
        folder: Where the file is kept.
        arguments: What the arguments and the data come to.
        models: What the models come to.
    """

    def __init__(
        self, folder: pathlib.Path, arguments: str, models: list[Digest]
    ) -> None:
        self._file = folder / "search.npz"
        self._arguments = arguments
        self._models = models
        self._saved = time.monotonic()

    def load(self, settings: Settings) -> Progress:
        """Returns how far the search had come.

        Raises:
            ValueError: If the file is of another search, or cannot be read.
        """
        progress = Progress(settings)
        if not self._file.exists():
            return progress
        try:
            with self._file.open("rb") as file, np.load(file) as saved:
                arrays = dict(saved)
            arguments, models = arrays["arguments"], arrays["models"]
        # What NumPy raises for a file that is cut off, empty, or another's.
        except (
            OSError,
            EOFError,
            KeyError,
            ValueError,
            TypeError,
            zipfile.BadZipFile,
        ) as error:
            raise ValueError(
                f"{self._file} must be what a search wrote. Received: a file "
                f"that cannot be read as such ({type(error).__name__}: "
                f"{error}). Remove it, or give another `backup_dir`."
            ) from error
        self._check(str(arguments), models)
        _read(arrays, progress)
        return progress

    def _check(self, arguments: str, models: np.ndarray) -> None:
        """Raises an error unless the file is of this search."""
        if arguments != self._arguments:
            raise ValueError(
                f"{self._file} is of a search with other arguments or other "
                "data. Remove it, or give another `backup_dir`."
            )
        difference = first_difference(models, self._models)
        if difference is not None:
            raise ValueError(
                f"{self._file} is of a search that trained something else "
                "than `build_model` returns now. The first difference is in "
                f"{difference}. Remove it, or give another `backup_dir`."
            )

    def save(
        self, progress: Progress, trainer: Trainer, chunk: Chunk, epochs: int
    ) -> None:
        """Writes the file, when a chunk is done or some time has passed."""
        is_done = progress.is_done(chunk)
        if not is_done and time.monotonic() - self._saved < SECONDS:
            return
        # NumPy's files know no bfloat16.
        state = [
            each.astype("float32") if each.dtype.name == "bfloat16" else each
            for each in ([] if is_done else trainer.state())
        ]
        assert progress.way is not None
        curves, way = progress.curves, progress.way
        arrays: dict[str, Any] = {
            "arguments": self._arguments,
            "models": np.array([e.value for e in self._models], dtype="uint64"),
            "validation_loss": curves.validation_loss,
            "train_loss": curves.train_loss,
            "names": np.array(list(curves.metrics), dtype=str),
            "metrics": np.array(list(curves.metrics.values())),
            "done": progress.done,
            "trainer": way.trainer,
            "at_once": way.at_once,
            "why_one_by_one": way.why_one_by_one or "",
            "folds": chunk.folds,
            "strengths": chunk.strengths,
            "epochs": 0 if is_done else epochs,
            "length_of_state": len(state),
        }
        for index, each in enumerate(state):
            arrays[f"state_{index}"] = each
        part = self._file.with_suffix(".part.npz")
        with part.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._file)  # At once: a kill leaves one or the other.
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Leaves nothing of a search that is done."""
        self._file.unlink(missing_ok=True)


def _read(arrays: dict[str, np.ndarray], progress: Progress) -> None:
    """Puts what was written back."""
    progress.curves.validation_loss[:] = arrays["validation_loss"]
    progress.curves.train_loss[:] = arrays["train_loss"]
    for name, values in zip(arrays["names"], arrays["metrics"], strict=True):
        progress.curves.metrics[str(name)] = values
    progress.done[:] = arrays["done"]
    progress.way = Way(
        str(arrays["trainer"]),
        int(arrays["at_once"]),
        str(arrays["why_one_by_one"]) or None,
    )
    if int(arrays["epochs"]):
        progress.unfinished = Unfinished(
            Chunk(arrays["folds"].tolist(), arrays["strengths"].tolist()),
            int(arrays["epochs"]),
            [
                arrays[f"state_{index}"]
                for index in range(int(arrays["length_of_state"]))
            ],
        )
