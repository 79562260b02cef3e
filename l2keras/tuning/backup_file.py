"""A file of arrays that is there whole or not at all, for one purpose only."""

import os
import pathlib
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from l2keras.tuning.fingerprint import first_difference
from l2keras.tuning.object_walk import Digest

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


class BackupFile:
    """Keeps arrays in a file, and gives them back for the same purpose only.

    Args:
        path: Of the file, which ends in `.npz`.
        arguments: What the arguments and the data come to.
        models: What the models come to.
    """

    def __init__(
        self, path: pathlib.Path, arguments: str, models: Sequence[Digest]
    ) -> None:
        self._path = path
        self._arguments = arguments
        self._models = list(models)
        self._saved = time.monotonic()

    def is_due(self) -> bool:
        """Tells whether so much time has passed that it had better be saved."""
        return time.monotonic() - self._saved >= SECONDS

    def load(self) -> dict[str, np.ndarray] | None:
        """Returns what was saved, `None` if nothing was.

        Raises:
            ValueError: If the file is of another search, or cannot be read.
        """
        if not self._path.exists():
            return None
        try:
            with self._path.open("rb") as file, np.load(file) as saved:
                arrays = dict(saved)
            arguments, models = arrays.pop("arguments"), arrays.pop("models")
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
                f"{self._path} must be what a search wrote. Received: a file "
                f"that cannot be read as such ({type(error).__name__}: "
                f"{error}). Remove it, or give another `backup_dir`."
            ) from error
        self._check(str(arguments), models)
        return arrays

    def _check(self, arguments: str, models: np.ndarray) -> None:
        """Raises an error unless the file is of this search."""
        if arguments != self._arguments:
            raise ValueError(
                f"{self._path} is of a search with other arguments or other "
                "data. Remove it, or give another `backup_dir`."
            )
        difference = first_difference(models, self._models)
        if difference is not None:
            raise ValueError(
                f"{self._path} is of a search that trained something else "
                "than `build_model` returns now. The first difference is in "
                f"{difference}. Remove it, or give another `backup_dir`."
            )

    def save(self, arrays: Mapping[str, Any]) -> None:
        """Writes arrays, and what else NumPy makes an array of."""
        part = self._path.with_suffix(".part.npz")
        with part.open("wb") as file:
            np.savez(
                file,
                arguments=self._arguments,
                models=np.array([e.value for e in self._models], "uint64"),
                **arrays,
            )
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path)  # At once: a kill leaves one or the other.
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Leaves nothing of a search that is done."""
        self._path.unlink(missing_ok=True)


def numbered(name: str, arrays: Sequence[np.ndarray]) -> dict[str, Any]:
    """Returns a list of arrays under one name each."""
    return {
        f"{name}_length": len(arrays),
        **{
            # NumPy's files know no bfloat16.
            f"{name}_{index}": each.astype("float32")
            if each.dtype.name == "bfloat16"
            else each
            for index, each in enumerate(arrays)
        },
    }


def listed(name: str, saved: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Returns the list that `numbered` was given."""
    length = int(saved[f"{name}_length"])
    return [saved[f"{name}_{index}"] for index in range(length)]
