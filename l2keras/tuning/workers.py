"""Several processes that train the chunks of a search, by way of joblib."""

import contextlib
import pickle
import sys
import uuid
import warnings
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any, Self

import keras

from l2keras._keras import backends
from l2keras.tuning import worker
from l2keras.tuning.settings import BuildModel, Settings
from l2keras.tuning.tasks import Task, Trained, WorkersError
from l2keras.tuning.trainer import Trainer

# Engines of joblib's own that search in this process, or in forks of it.
_NOT_PROCESSES = (
    "SequentialBackend",
    "ThreadingBackend",
    "MultiprocessingBackend",
)
_THREADS = "OMP_NUM_THREADS"  # joblib sets it for the processes of its own.


class Workers:
    """What a search asks of joblib, whose engines are many.

    Attributes:
        number: How many tasks they do at a time.
    """

    def __init__(self, number: int, is_local: bool, answers: bool) -> None:
        self.number = number
        self._is_local = is_local
        self._answers_one_by_one = answers

    @classmethod
    def asked_for(cls, n_jobs: int | None) -> Self | None:
        """Returns the workers that are asked for, `None` if there are none.

        Args:
            n_jobs: The argument of the search. `None` leaves it to
                `joblib.parallel_config`.

        Raises:
            ImportError: If joblib is needed, and not installed.
            ValueError: If it is to work by an engine that cannot do it.
        """
        # Without joblib nobody has called its `parallel_config`.
        if n_jobs == 1 or (n_jobs is None and "joblib" not in sys.modules):
            return None
        try:
            import joblib
        except ImportError as error:
            raise ImportError(
                f"Argument `n_jobs` needs joblib. Received: n_jobs={n_jobs}. "
                "Install it: `pip install joblib`"
            ) from error
        engine, of_config = joblib.parallel.get_active_backend()
        name = type(engine).__name__
        is_local = name == "LokyBackend"
        is_apart = not (
            is_local
            or name in _NOT_PROCESSES
            or getattr(engine, "supports_sharedmem", False)
        )
        asked = of_config if n_jobs is None else n_jobs
        if asked is None and is_apart:
            # Who names an engine means its workers, if it is ray's too, which
            # takes one unless it is told of more.
            asked = -1
        number = joblib.effective_n_jobs(asked)
        if name == "SequentialBackend" or not (
            number > 1 or (not is_local and asked not in (None, 1))
        ):
            return None
        _check_engine(engine, is_local)
        return cls(number, is_local, engine.supports_return_generator)

    def share_of(self, at_once: int, replicas: int) -> int:
        """Returns how many replicas one of them trains together.

        Args:
            at_once: How many the memory has room for.
            replicas: How many there are.
        """
        return max(1, min(at_once // self.number, -(-replicas // self.number)))

    def engine(
        self,
        trainer: Trainer,
        build_model: BuildModel,
        data: Any,
        settings: Settings,
    ) -> "ParallelEngine":
        """Returns what has the tasks of one search done.

        Args:
            trainer: What would train here.
            build_model: As the search was given it.
            data: The same.
            settings: The same.
        """
        job = worker.Job(
            name=uuid.uuid4().hex,
            backend=keras.backend.backend(),
            build_model=build_model,
            data=data,
            settings=settings,
            trainer=type(trainer).__name__,
            digests=[each.value for each in worker.digests_of(trainer)],
            keras_settings=worker.KerasSettings.now(),
            sender=worker.Process.this(),
            threads_from=_THREADS if self._is_local else None,
            device="cpu" if self._is_local and _is_on_torch_cpu() else None,
        )
        return ParallelEngine(job, self.number, self._answers_one_by_one)


def _is_on_torch_cpu() -> bool:
    """Tells whether it is so, maybe by a `keras.device` that none knows of."""
    return (
        keras.backend.backend() == "torch"
        and backends.torch_device().type == "cpu"
    )


def _check_engine(engine: Any, is_local: bool) -> None:
    """Raises a ValueError if an engine of joblib cannot train models."""
    name = type(engine).__name__
    if getattr(engine, "supports_sharedmem", False):
        what = "are threads, and Keras's random numbers belong to a process"
    elif name == "MultiprocessingBackend":
        what = "are forks of this process, in which a backend of Keras hangs"
    elif is_local and not backends.shares_memory():
        raise ValueError(
            "Argument `n_jobs` must be 1 where Keras computes on "
            f"{backends.device_name()}, as this process holds its memory. "
            "Leave it out: replicas that are trained together are dealt to all "
            "devices of the process."
        )
    else:
        return
    raise ValueError(
        "The engine of `joblib.parallel_config` must work by processes that "
        f"begin anew, as 'loky', 'dask' and 'ray' do. Received: {name}, whose "
        f"workers {what}."
    )


class ParallelEngine:
    """Has tasks done by other processes.

    Args:
        job: What is the same for all.
        number: How many are done at a time.
        answers_one_by_one: Whether joblib hands on what is done when it is.
    """

    def __init__(
        self, job: worker.Job, number: int, answers_one_by_one: bool
    ) -> None:
        self._job = job
        self._number = number
        self._answers_one_by_one = answers_one_by_one
        # Python notes here what was shown already.
        self._shown: dict[Any, Any] = {}

    def run(self, tasks: Sequence[Task]) -> Iterator[Trained]:
        with contextlib.closing(self._answers(tasks)) as answers:
            for index, answer in answers:
                task = tasks[index]
                self._warn(answer)
                if answer.error is not None:
                    answer.error.add_note(f"In a worker:\n{answer.trace}")
                    raise answer.error
                for epoch, means in enumerate(answer.epochs, task.epochs):
                    yield Trained(task.chunk, epoch, *means, state=None)

    def _warn(self, answer: worker.Answer) -> None:
        """Shows the warnings of a worker as if they were raised here."""
        for each in answer.warned:
            warnings.warn_explicit(*each, registry=self._shown)

    def _answers(
        self, tasks: Sequence[Task]
    ) -> Generator[tuple[int, worker.Answer], None, None]:
        """Yields what became of each task, by its index, as they are done."""
        import joblib

        parallel = joblib.Parallel(
            n_jobs=self._number,
            batch_size=1,
            # PyTorch warns of arrays that cannot be written.
            mmap_mode="c",
            return_as="generator_unordered"
            if self._answers_one_by_one
            else "list",
        )
        answer = joblib.delayed(_answer)
        calls = [
            answer(index, self._job, task) for index, task in enumerate(tasks)
        ]
        with _clear_errors():
            if self._answers_one_by_one:
                yield from _as_they_are_done(parallel, calls)
                return
            with parallel:  # Each call would begin with workers anew.
                for first in range(0, len(calls), self._number):
                    yield from parallel(calls[first:][: self._number])


def _as_they_are_done(
    parallel: Any, calls: Sequence[Any]
) -> Iterator[tuple[int, worker.Answer]]:
    found = parallel(calls)
    try:
        for each in found:  # noqa: UP028 (`found` is closed below.)
            yield each
    finally:
        # joblib warns that not all was taken, and is not through with the rest
        # if that is an error.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.close()


def _answer(
    index: int, job: worker.Job, task: Task
) -> tuple[int, worker.Answer]:
    return index, worker.answer(job, task)


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    """Says of errors of the engine what can be done about them."""
    try:
        yield
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        has_died = type(error).__name__ == "ActorDiedError"  # Of ray.
        if has_died or isinstance(error, BrokenExecutor):
            message = (
                "A worker of the search has died, or could not read what it "
                "was sent. It may have been killed for the memory that it "
                "took: a lower `n_jobs` or `at_once` takes less. With a "
                "`backup_dir` what was done is kept: called again, the search "
                "trains only the rest."
            )
            what = what.splitlines()[0]
        elif isinstance(error, pickle.PicklingError) or "pickle" in what:
            message = (
                "`build_model`, and all that it uses, must be able to be sent "
                "to another process. Make inside it what cannot be pickled, "
                "such as open files, locks and compiled functions."
            )
            # What could not, joblib says in the text of a trace.
            trace = str(error.__cause__ or error).strip('"\n ')
            what = trace.splitlines()[-1]
        else:
            message = "The workers of the search have failed."
        raise WorkersError(f"{message} Received: {what}") from error
