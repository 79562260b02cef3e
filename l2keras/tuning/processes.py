"""Several processes that train the chunks of a search, by joblib.

By joblib's documented interface only: `n_jobs` is the number of processes on
this machine, and by `joblib.parallel_config` the workers of dask or ray train.
"""

import contextlib
import os
import socket
import sys
import threading
import uuid
import warnings
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple, Self

import keras

from l2keras._keras.backend import backend
from l2keras._keras.random_states import random_states_kept
from l2keras.tuning.plan import Plan, Stacked
from l2keras.tuning.probe import Probe
from l2keras.tuning.replicas import Chunk, Trainer, build_prototype
from l2keras.tuning.sequential import SequentialTrainer
from l2keras.tuning.settings import Settings
from l2keras.tuning.sizes import Trained, train
from l2keras.tuning.stacked import StackedTrainer

_Epochs = list[Trained]
_WHEN_DONE = "generator_unordered"


class Workers(NamedTuple):
    """The processes that joblib offers.

    Attributes:
        number: The number of chunks that they train at a time.
        return_as: The order in which joblib returns results: as they are done,
            or, as with ray, all at the end.
    """

    number: int
    return_as: str

    @classmethod
    def of(cls, n_jobs: int | None) -> Self | None:
        """The workers for `n_jobs`, `None` if this process trains.

        Args:
            n_jobs: The argument of the search. `None` leaves it to
                `joblib.parallel_config`.

        Raises:
            ImportError: If joblib is needed, and not installed.
        """
        # If joblib is not imported, `parallel_config` was not called.
        if n_jobs == 1 or (n_jobs is None and "joblib" not in sys.modules):
            return None
        try:
            import joblib
        except ImportError as error:
            raise ImportError(
                f"Argument `n_jobs` needs joblib. Received: n_jobs={n_jobs}. "
                "Install it: `pip install joblib`"
            ) from error
        number = joblib.effective_n_jobs(n_jobs)
        if number == 1 and n_jobs is None:
            return None
        # Inside a worker, for example, joblib offers threads.
        calls, return_as = [joblib.delayed(_Process.this)()], _WHEN_DONE
        try:
            of_workers = joblib.Parallel(n_jobs, return_as=return_as)(calls)
        except ValueError:  # These workers cannot.
            return_as = "list"
            of_workers = joblib.Parallel(n_jobs)(calls)
        if list(of_workers) == [_Process.this()]:
            if number > 1:
                warnings.warn(
                    "joblib offers threads of this process here, and Keras's "
                    "random numbers belong to a process. The replicas are "
                    "trained by this process alone.",
                    stacklevel=5,
                )
            return None
        return cls(number, return_as)

    def epochs_of(
        self,
        chunks: Sequence[Chunk],
        settings: Settings,
        plan: Plan,
        probe: Probe,
    ) -> Generator[tuple[Chunk, int, Trained], None, None]:
        """The epochs of all chunks, those of each when it is done."""
        import joblib

        job = _Job(
            uuid.uuid4().hex,
            keras.backend.backend(),
            settings,
            plan,
            probe,
            _KerasSettings.now(),
            _Process.this(),
            "cpu" if backend.computes_on_torch_cpu() else None,
        )
        parallel = joblib.Parallel(
            n_jobs=settings.n_jobs,
            batch_size=1,
            # PyTorch warns of arrays that cannot be written.
            mmap_mode="c",
            return_as=self.return_as,
        )
        calls = [
            joblib.delayed(_train)(index, job, chunk)
            for index, chunk in enumerate(chunks)
        ]
        if self.return_as == _WHEN_DONE:
            parts = [calls]
        else:
            parts = [
                calls[first : first + self.number]
                for first in range(0, len(calls), self.number)
            ]
        shown: dict[Any, Any] = {}  # Python's registry of warnings shown.
        try:
            for part in parts:
                with contextlib.closing(_closing(parallel(part))) as answers:
                    for index, epochs, caught in answers:
                        for message, category, file, line in caught:
                            warnings.warn_explicit(
                                message, category, file, line, registry=shown
                            )
                        for epoch, results in enumerate(epochs):
                            yield chunks[index], epoch, results
        except Exception as error:
            error.add_note(
                "This happened in, or to, a process that trained replicas for "
                "`tune_strength` by joblib. `build_model` and all that it uses "
                "must be picklable: make files, locks and compiled functions "
                "inside it. A process that was killed may have run out of "
                "memory: give a lower `n_jobs` or `at_once`. With a "
                "`backup_dir`, replicas that are done are kept."
            )
            raise


def _closing(answers: Any) -> Generator[Any, None, None]:
    """Yields answers; closed early, it cancels the rest."""
    try:
        for answer in answers:  # noqa: UP028 (They are closed below.)
            yield answer
    finally:
        if hasattr(answers, "close"):
            # joblib warns that not all answers were taken.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                answers.close()


class _KerasSettings(NamedTuple):
    """The settings of Keras in one process."""

    floatx: str
    epsilon: float
    image_data_format: str
    dtype_policy: Any

    @classmethod
    def now(cls) -> Self:
        """Those of this process."""
        return cls(
            keras.config.floatx(),
            keras.config.epsilon(),
            keras.config.image_data_format(),
            keras.dtype_policies.serialize(keras.config.dtype_policy()),
        )

    def set(self) -> None:
        """Sets them in this process."""
        keras.config.set_floatx(self.floatx)
        keras.config.set_epsilon(self.epsilon)
        keras.config.set_image_data_format(self.image_data_format)
        keras.config.set_dtype_policy(
            keras.dtype_policies.get(self.dtype_policy)
        )

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """A context in which they are set."""
        before = type(self).now()
        self.set()
        try:
            yield
        finally:
            before.set()


class _Process(NamedTuple):
    """The identity of a process among those of all machines."""

    host: str
    number: int
    device: str
    visible_gpus: str | None

    @classmethod
    def this(cls) -> Self:
        return cls(
            socket.gethostname(),
            os.getpid(),
            backend.device_name(),
            os.environ.get("CUDA_VISIBLE_DEVICES"),
        )

    def shares_gpu(self, other: "_Process") -> bool:
        """Whether both compute on the same GPU."""
        return self.device not in ("CPU", "MPS") and (
            self.host,
            self.device,
            self.visible_gpus,
        ) == (other.host, other.device, other.visible_gpus)


class _Job(NamedTuple):
    """The part of a task that is the same for all chunks of a search.

    Attributes:
        name: A name that no other job has.
        backend: The backend of Keras.
        settings: The settings of the search.
        plan: The way replicas are trained.
        probe: The first steps, which the worker must reproduce.
        keras_settings: Those of the process that searches.
        sender: The process that searches.
        device: The device to compute on, `None` for the default one.
    """

    name: str
    backend: str
    settings: Settings
    plan: Plan
    probe: Probe
    keras_settings: _KerasSettings
    sender: _Process
    device: str | None


# The name of the last job, and its trainer, which is compiled.
_last: tuple[str, Trainer] | None = None

# If one process is given two chunks at a time, as by dask, one waits for the
# other.
_ONE_AT_A_TIME = threading.Lock()


def _train(index: int, job: _Job, chunk: Chunk) -> tuple[int, _Epochs, Any]:
    """The results of a chunk's epochs, trained in a worker, and warnings."""
    _check_process(job)
    with _ONE_AT_A_TIME, warnings.catch_warnings(record=True) as caught:
        # The process that searches decides which of them are shown.
        warnings.simplefilter("always")
        with (
            contextlib.nullcontext()
            if job.device is None
            else keras.device(job.device),
            random_states_kept(),
            job.keras_settings.in_use(),
        ):
            trainer = _trainer_of(job, chunk)
            trainer.begin(chunk)
            numbers = range(job.settings.epochs)
            epochs = [*train(trainer, chunk, numbers, job.probe.sizes)]
    return (
        index,
        epochs,
        [
            (record.message, record.category, record.filename, record.lineno)
            for record in caught
            if isinstance(record.message, Warning)
        ],
    )


def _check_process(job: _Job) -> None:
    """Raises an error unless this process can do a job."""
    if keras.backend.backend() != job.backend:
        raise RuntimeError(
            f"The workers of a search must run Keras on {job.backend}, as the "
            "process that searches does. Received: a worker on which it runs "
            f"on {keras.backend.backend()}. Start the workers with "
            f"`KERAS_BACKEND={job.backend}` in their environment."
        )
    if _Process.this().shares_gpu(job.sender):
        raise RuntimeError(
            "The workers of a search must have GPUs of their own: the process "
            f"that searches holds the memory of this one, {job.sender.device}. "
            "Leave `n_jobs` out, or start the workers with other "
            "`CUDA_VISIBLE_DEVICES`, as dask-cuda does."
        )
    # joblib sets it for its own processes.
    threads = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if threads.isdigit():
        backend.limit_threads(int(threads))


def _trainer_of(job: _Job, chunk: Chunk) -> Trainer:
    """The trainer of a job, the same for all its chunks.

    Raises:
        RuntimeError: If it does not reproduce the first steps of the probe.
    """
    global _last
    if _last is None or _last[0] != job.name:
        _last = None  # Its memory is freed before more is taken.
        trainer = _new_trainer(job)
        probed = job.probe.chunk
        if isinstance(job.plan, Stacked):
            # As large as the chunks, for which it is compiled.
            probed = job.probe.repeated(chunk.shape)
        difference = job.probe.difference(trainer, probed)
        if difference is not None:
            trainer.close()
            raise RuntimeError(
                "`build_model` must return the same model in every process. In "
                "a worker the first steps of training have another result than "
                f"in the process that searches: {difference}. All that the "
                "model depends on must be in the function, or in a module that "
                "the workers import and that does not change."
            )
        _last = job.name, trainer
    return _last[1]


def _new_trainer(job: _Job) -> Trainer:
    if isinstance(job.plan, Stacked) or not job.plan.builds_each:
        prototype = build_prototype(job.settings)
        if isinstance(job.plan, Stacked):
            return StackedTrainer(job.settings, prototype)
        return SequentialTrainer(job.settings, prototype)
    return SequentialTrainer(job.settings, None)
