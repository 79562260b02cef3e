"""What a process does that trains some of a search's chunks for another.

It is sent what the search was given, builds the models itself, and sees that
they are those of the process that sent it. What it trains does not depend on
what it trained before, so it does not matter who trains what.
"""

import contextlib
import os
import pickle
import socket
import threading
import traceback
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import keras
import numpy as np

from l2keras._keras import backends
from l2keras._keras.random_states import random_states_kept
from l2keras.tuning import fingerprint
from l2keras.tuning.fit_trainer import FitTrainer
from l2keras.tuning.grid.stack import Means
from l2keras.tuning.object_walk import Digest
from l2keras.tuning.settings import BuildModel, Settings
from l2keras.tuning.stack_trainer import StackTrainer, build_prototype
from l2keras.tuning.tasks import InTurn, Task, WorkersError
from l2keras.tuning.trainer import Trainer


class KerasSettings(NamedTuple):
    """What a person may have set in Keras, of one process."""

    floatx: str
    epsilon: float
    image_data_format: str
    dtype_policy: Any

    @classmethod
    def now(cls) -> Self:
        """Returns what is set here."""
        return cls(
            keras.config.floatx(),
            keras.config.epsilon(),
            keras.config.image_data_format(),
            keras.dtype_policies.serialize(keras.config.dtype_policy()),
        )

    def set(self) -> None:
        """Sets it here."""
        keras.config.set_floatx(self.floatx)
        keras.config.set_epsilon(self.epsilon)
        keras.config.set_image_data_format(self.image_data_format)
        keras.config.set_dtype_policy(
            keras.dtype_policies.get(self.dtype_policy)
        )

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Has it set, for a while."""
        before = type(self).now()
        self.set()
        try:
            yield
        finally:
            before.set()


class Process(NamedTuple):
    """Tells one process of all machines from others."""

    host: str
    number: int

    @classmethod
    def this(cls) -> Self:
        return cls(socket.gethostname(), os.getpid())


class Job(NamedTuple):
    """What is the same for all tasks of a search.

    Attributes:
        name: Tells it from other jobs.
        backend: What Keras computes by.
        build_model: As the search was given it.
        data: The same.
        settings: The same.
        trainer: The name of the class that trains.
        digests: What the models come to where the job is from.
        keras_settings: What is set there.
        sender: The process that it is from.
        threads_from: The environment variable that says how many threads there
            may be, where the process was made for such jobs.
        device: What has to compute, or `None` for what does in the process.
    """

    name: str
    backend: str
    build_model: BuildModel
    data: Any
    settings: Settings
    trainer: str
    digests: list[int]
    keras_settings: KerasSettings
    sender: Process
    threads_from: str | None
    device: str | None


class Warned(NamedTuple):
    """A warning, and where it was raised."""

    message: Warning
    category: type[Warning]
    filename: str
    lineno: int


class Answer(NamedTuple):
    """What became of a task.

    Attributes:
        epochs: The means of each epoch, and those of validation.
        warned: The warnings meanwhile.
        error: What was raised, if it was.
        trace: Where, as text.
    """

    epochs: list[tuple[Means, Means]]
    warned: list[Warned]
    error: Exception | None = None
    trace: str = ""


def digests_of(trainer: Trainer) -> list[Digest]:
    """Returns what tells whether two processes would train the same."""
    assert isinstance(trainer, StackTrainer | FitTrainer)
    return [*fingerprint.digests_of_versions(), *trainer.digests_of_models()]


# The last job that was worked at, and its trainer, which has compiled much.
_last: tuple[str, Trainer] | None = None

# Keras's random numbers belong to a process. Of tasks that one process is given
# at a time, as by dask, one waits for the other.
_ONE_AT_A_TIME = threading.Lock()


def answer(job: Job, task: Task) -> Answer:
    """Does a task."""
    with _ONE_AT_A_TIME, warnings.catch_warnings(record=True) as caught:
        # Which of them are shown is decided where the search was called.
        warnings.simplefilter("always")
        epochs: list[tuple[Means, Means]] = []
        found = Answer(epochs, [])
        try:
            _check_process(job)
            if job.threads_from is not None:
                backends.limit_threads(_number_in(job.threads_from))
            with (
                contextlib.nullcontext()
                if job.device is None
                else keras.device(job.device),
                random_states_kept(),
                job.keras_settings.in_use(),
            ):
                engine = InTurn(_trainer_of(job), job.settings.epochs)
                for trained in engine.run([task]):
                    epochs.append((trained.train, trained.validation))
        except Exception as error:
            trace = "".join(traceback.format_exception(error))
            found = Answer([], [], _sendable(error), trace)
    warned = [
        Warned(each.message, each.category, each.filename, each.lineno)
        for each in caught
        if isinstance(each.message, Warning)
    ]
    return found._replace(warned=warned)


def _check_process(job: Job) -> None:
    """Raises an error unless this process can do a job."""
    if (
        Process.this() == job.sender
        and threading.current_thread() is not threading.main_thread()
    ):
        raise WorkersError(
            "The workers of a search must be processes, as Keras's random "
            "numbers belong to a process. Received: a thread of the process "
            "that searches. Of dask, `LocalCluster(processes=True)` makes "
            "processes."
        )
    if keras.backend.backend() != job.backend:
        raise WorkersError(
            f"The workers of a search must run Keras on {job.backend}, as the "
            "process that searches does. Received: a worker on which it runs "
            f"on {keras.backend.backend()}. Start the workers with "
            f"`KERAS_BACKEND={job.backend}` in their environment."
        )


def _number_in(variable: str) -> int:
    """Returns the number in an environment variable, the first of several."""
    return int(os.environ[variable].split(",")[0])


def _trainer_of(job: Job) -> Trainer:
    global _last
    if _last is None or _last[0] != job.name:
        _last = None  # What it holds is given back before more is taken.
        trainer = _new_trainer(job)
        difference = fingerprint.first_difference(
            np.array(job.digests, "uint64"), digests_of(trainer)
        )
        if difference is not None:
            raise WorkersError(
                "`build_model` must return the same in every process. In a "
                "worker it returned something else than in the process that "
                f"searches. The first difference is in {difference}. What it "
                "depends on must be in the function, or in a module that the "
                "workers import and that nobody changes."
            )
        _last = job.name, trainer
    return _last[1]


def _new_trainer(job: Job) -> Trainer:
    if job.trainer == FitTrainer.__name__:
        return FitTrainer(job.build_model, job.data, job.settings)
    prototype, reason = build_prototype(job.build_model, job.data, job.settings)
    if prototype is None:
        raise WorkersError(
            "`build_model` must return the same in every process. Received: "
            f"in a worker, {reason}"
        )
    return StackTrainer(prototype, job.data, job.settings)


def _sendable(error: Exception) -> Exception:
    """Returns an error, or what stands for one that cannot be sent.

    An error whose class takes other arguments than it gives to its base can be
    pickled, but not read again.
    """
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
