"""A search in a file, from which it is resumed after it was killed."""

import contextlib
import hashlib
import os
import pathlib
import tempfile
import time
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # Windows, where two searches do not notice each other.
    fcntl = None  # type: ignore[assignment]

# The seconds after which the file is written at the end of an epoch.
SECONDS = 10.0


def check_folder(folder: pathlib.Path) -> None:
    """Raises a ValueError unless a file can be written in the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            "Argument `backup_dir` must be a folder that can be written. "
            f"Received: backup_dir={str(folder)!r} ({error})"
        ) from error


@contextlib.contextmanager
def only_search_in(folder: pathlib.Path) -> Iterator[None]:
    """A context that keeps other searches out of a folder.

    Raises:
        ValueError: If there is one.
    """
    if fcntl is None:
        yield
        return
    path = folder / "search.lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                "Argument `backup_dir` must be a folder that no other search "
                f"uses. Received: {str(folder)!r}, in which one is running"
            ) from None
        except OSError:  # A file system that has no locks.
            pass
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


class Checkpoint:
    """A file of arrays, whole or not there, of one search only.

    Args:
        folder: The folder of the file.
        digest: The digest of the search's arguments, see `digest`.
    """

    def __init__(self, folder: pathlib.Path, digest: str) -> None:
        self._path = folder / "search.npz"
        self._digest = digest
        self._saved = time.monotonic()
        self._has_failed = False

    @property
    def is_due(self) -> bool:
        """Whether enough time has passed to write it."""
        return time.monotonic() - self._saved >= SECONDS

    def load(self) -> dict[str, np.ndarray] | None:
        """The arrays that were saved, `None` if there are none.

        Raises:
            ValueError: If the file is of another search, or cannot be read.
        """
        if not self._path.exists():
            return None
        try:
            with self._path.open("rb") as file, np.load(file) as saved:
                arrays = dict(saved)
            digest = str(arrays.pop("digest"))
        # As NumPy raises for a file that is cut off, empty, or another's.
        except (
            OSError,
            EOFError,
            KeyError,
            ValueError,
            TypeError,
            zipfile.BadZipFile,
        ) as error:
            raise self.refused(
                f"cannot be read ({type(error).__name__}: {error})"
            ) from error
        if digest != self._digest:
            raise self.refused("is of a search with other arguments or data")
        return arrays

    def refused(self, why: str) -> ValueError:
        """An error that says why the search cannot be resumed from the file."""
        return ValueError(
            f"The backup {str(self._path)!r} {why}. Remove it, or give another "
            "`backup_dir`."
        )

    def save(self, arrays: Mapping[str, Any]) -> None:
        """Writes arrays, and warns if that cannot be done."""
        self._saved = time.monotonic()
        part = None
        try:
            with tempfile.NamedTemporaryFile(
                dir=self._path.parent, suffix=".part", delete=False
            ) as file:
                part = pathlib.Path(file.name)
                np.savez(file, digest=self._digest, **arrays)
                file.flush()
                os.fsync(file.fileno())
            part.replace(
                self._path
            )  # Atomic: a kill leaves the one or the other.
        except OSError as error:
            if part is not None:
                with contextlib.suppress(OSError):
                    part.unlink(missing_ok=True)
            if not self._has_failed:
                self._has_failed = True
                warnings.warn(
                    f"The backup {str(self._path)!r} could not be written: "
                    f"{error}. The search continues, and tries again later.",
                    stacklevel=2,
                )

    def remove(self) -> None:
        """Removes the file of a search that is done."""
        self._path.unlink(missing_ok=True)


def digest(*values: Any) -> str:
    """A text that differs if the values do: arrays, or the `repr` of others."""
    found = hashlib.sha256()
    for value in values:
        if isinstance(value, np.ndarray):
            value = np.ascontiguousarray(value)
            found.update(repr((value.shape, value.dtype.str)).encode())
            found.update(value.view(np.uint8).data if value.size else b"")
        else:
            found.update(repr(value).encode())
    return found.hexdigest()


def numbered(name: str, arrays: Sequence[np.ndarray]) -> dict[str, Any]:
    """A list of arrays under one name each."""
    return {
        f"{name}_length": len(arrays),
        **{
            # NumPy's files know no bfloat16.
            f"{name}_{index}": array.astype("float32")
            if array.dtype.name == "bfloat16"
            else array
            for index, array in enumerate(arrays)
        },
    }


def listed(name: str, saved: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The list that `numbered` was given."""
    length = int(saved[f"{name}_length"])
    return [saved[f"{name}_{index}"] for index in range(length)]
