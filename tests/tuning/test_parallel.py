"""Several processes train the replicas of a search, as one would have."""

import concurrent.futures
import itertools
import os
import signal
import sys
import threading
import warnings

import joblib
import keras
import numpy as np
import pytest
import searches
from helpers import BACKEND, outputs
from searches import (
    EXPECTED_WARNINGS,
    FOLDS,
    assert_same,
    by_fit,
    interrupt,
    net,
    optimizers,
    start_program,
    tune,
    with_momentum,
)

import l2keras
from l2keras._keras import backends
from l2keras.tuning import backup_file, worker, workers
from l2keras.tuning.learning_curves import LearningCurves

pytestmark = [
    *EXPECTED_WARNINGS,
    pytest.mark.skipif(
        backends.device_name() != "CPU",
        reason="Processes of one machine would share its GPU.",
    ),
    pytest.mark.filterwarnings("ignore:The replicas are trained one after"),
    # joblib begins a worker anew whose memory has grown, as by compiling.
    pytest.mark.filterwarnings("ignore:A worker stopped while some jobs"),
]

THREE = [0.01, 0.1, 0.3]

# How many rounds of a matrix product differ in, added up by other threads.
ROUNDING = {"rtol": 1e-5, "atol": 1e-6}


class OwnError(Exception):
    """Is pickled, and cannot be read again."""

    def __init__(self, strength, reason):
        super().__init__(f"{strength} is {reason}")


@pytest.mark.slow
def test_replicas_are_trained_by_fit_as_in_one_process():
    searcher = os.getpid()
    before = np.random.get_state()[1].copy()  # noqa: NPY002

    def build_model(strength):
        if os.getpid() != searcher:
            warnings.warn("a word from a worker", stacklevel=1)
        return by_fit(strength)

    one = tune(by_fit, strengths=THREE)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("default")
        two = tune(build_model, strengths=THREE, n_jobs=2)
    assert_same(two, one, **ROUNDING)
    assert two.one_by_one == one.one_by_one
    assert [str(e.message) for e in warned].count("a word from a worker") == 1
    now = np.random.get_state()[1]  # noqa: NPY002
    np.testing.assert_array_equal(now, before)


def test_stacks_are_trained_as_in_one_process():
    one = tune(with_momentum, strengths=THREE, epochs=3, at_once=2)
    with joblib.parallel_config("loky", n_jobs=2):
        two = tune(with_momentum, strengths=THREE, epochs=3)
    assert_same(two, one, **ROUNDING)
    assert two.one_by_one is None


@pytest.mark.slow
def test_an_engine_may_answer_when_all_is_done(monkeypatch):
    # As that of ray does. Asked for more, joblib raises an error.
    engine, _ = joblib.parallel.get_active_backend()
    monkeypatch.setattr(type(engine), "supports_return_generator", False)
    one = tune(with_momentum, strengths=THREE, at_once=1)
    two = tune(with_momentum, strengths=THREE, at_once=1, n_jobs=2)
    assert_same(two, one, **ROUNDING)


@pytest.mark.slow
def test_the_check_of_learned_strengths_is_done_by_several(monkeypatch):
    asked = []
    engine = workers.Workers.engine

    def noted(self, *arguments):
        asked.append(self.number)
        return engine(self, *arguments)

    monkeypatch.setattr(workers.Workers, "engine", noted)
    options = {
        "folds": FOLDS,
        "epochs": 1,
        "multiples": [0, 1],
        "single_strengths": [],
        "verbose": 0,
    }

    def build_model(strengths):
        return net()(strengths["hidden"])

    results = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # There are few steps.
        for n_jobs in (1, 2):
            results.append(
                l2keras.tune_strengths(
                    build_model,
                    searches.X,
                    searches.LABELS,
                    n_jobs=n_jobs,
                    **options,
                )
            )
    assert_same(*results, **ROUNDING)
    assert asked == [2]


@pytest.mark.slow
def test_what_is_done_is_kept_and_the_rest_is_trained(monkeypatch, tmp_path):
    options = {"strengths": THREE, "epochs": 3}
    whole = tune(by_fit, **options)
    monkeypatch.setattr(backup_file, "SECONDS", 0)
    with monkeypatch.context() as context:
        interrupt(context, 3, "FitTrainer")
        with pytest.warns(UserWarning, match="interrupted"):
            tune(by_fit, backup_dir=tmp_path, **options)
    # Ctrl-C, when three replicas are done, of which others are none.
    record, calls = LearningCurves.record, itertools.count()
    with monkeypatch.context() as context:

        def broken_off(self, *arguments):
            if next(calls) == 2 + 3 + 3:
                raise KeyboardInterrupt
            record(self, *arguments)

        context.setattr(LearningCurves, "record", broken_off)
        with pytest.warns(UserWarning, match="was interrupted: 3 of 6"):
            part = tune(by_fit, backup_dir=tmp_path, n_jobs=2, **options)
    done = np.isfinite(part.validation_loss[:, :, -1])
    np.testing.assert_allclose(
        part.validation_loss[done], whole.validation_loss[done], **ROUNDING
    )
    trained = []
    begin = searches.fit_trainer.FitTrainer.begin
    monkeypatch.setattr(
        searches.fit_trainer.FitTrainer,
        "begin",
        lambda self, chunk: (trained.append(chunk), begin(self, chunk)),
    )
    result = tune(by_fit, backup_dir=tmp_path, **options)
    assert len(trained) == 3
    assert_same(result, whole, **ROUNDING)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def in_this_process(monkeypatch):
    """Has what workers do done here: to start them takes its time."""

    def answers(self, tasks):
        job = self._job._replace(threads_from=None)
        for index, task in enumerate(tasks):
            yield index, worker.answer(changed_on_the_way(job), task)

    monkeypatch.setattr(workers.ParallelEngine, "_answers", answers)


def changed_on_the_way(job):
    """Returns a job as a worker gets it. Tests have it changed on the way."""
    return job


def test_errors_come_through(in_this_process):
    def build_model(strength):
        if float(strength) == 0.1:
            raise KeyError("there is none")
        return by_fit(strength)

    with pytest.raises(KeyError, match="'there is none'") as error:
        tune(build_model, strengths=THREE, n_jobs=2)
    assert "in build_model" in "".join(error.value.__notes__)


def test_an_error_that_cannot_be_sent_is_told_in_words(in_this_process):
    def build_model(strength):
        if float(strength) == 0.1:
            raise OwnError(strength, "not to be")
        return by_fit(strength)

    with pytest.raises(RuntimeError, match=r"^OwnError: 0.1 is not to be\n"):
        tune(build_model, strengths=THREE, n_jobs=2)


def other_model(job):
    def build_model(strengths):
        return net(optimizer=lambda: optimizers.SGD(0.2))(float(strengths[0]))

    return job._replace(build_model=build_model)


def other_backend(job):
    return job._replace(backend="numpy")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            other_model,
            "`build_model` must return the same in every process. In a worker "
            "it returned something else than in the process that searches. The "
            "first difference is in model",
        ),
        (
            other_backend,
            "The workers of a search must run Keras on numpy, as the process "
            "that searches does. Received: a worker on which it runs on "
            f"{BACKEND}. Start the workers with `KERAS_BACKEND=numpy`",
        ),
    ],
)
def test_workers_that_would_train_something_else_are_found_out(
    in_this_process, monkeypatch, changed, message
):
    monkeypatch.setitem(globals(), "changed_on_the_way", changed)
    with pytest.raises(RuntimeError) as error:
        tune(by_fit, n_jobs=2)
    assert str(error.value).startswith(message)


def test_a_thread_of_the_same_process_is_no_worker(
    in_this_process, monkeypatch
):
    answer = worker.answer

    def in_a_thread(*arguments):
        with concurrent.futures.ThreadPoolExecutor() as threads:
            return threads.submit(answer, *arguments).result()

    monkeypatch.setattr(worker, "answer", in_a_thread)
    with pytest.raises(RuntimeError, match="must be processes"):
        tune(by_fit, n_jobs=2)


def test_what_cannot_be_sent_is_told():
    lock = threading.Lock()

    def build_model(strength):
        with lock:
            return by_fit(strength)

    with pytest.raises(RuntimeError, match="able to be sent") as error:
        tune(build_model, n_jobs=2)
    assert "'_thread.lock' object" in str(error.value)


@pytest.mark.slow
def test_a_worker_that_dies_loses_nothing_that_was_done(tmp_path):
    searcher, options = os.getpid(), {"strengths": THREE}

    def build_model(strength):
        here = keras.config.floatx()  # Not a part of what the model comes to.
        if os.getpid() != searcher and float(strength) == 0.3 and here:
            os.kill(os.getpid(), signal.SIGKILL)
        return by_fit(strength)

    with pytest.raises(RuntimeError, match="has died") as error:
        tune(build_model, backup_dir=tmp_path, n_jobs=2, **options)
    assert "trains only the rest" in str(error.value)
    (file,) = tmp_path.iterdir()
    with np.load(file) as saved:
        done = saved["done"]
    assert done[:2].any()
    result = tune(build_model, backup_dir=tmp_path, **options)
    assert_same(result, tune(by_fit, **options), **ROUNDING)


def test_dask_loses_nothing_when_a_worker_dies(tmp_path):
    pytest.importorskip("distributed")
    outputs([start_program("search_on_dask", tmp_path)], timeout=300)


def test_ray_keeps_what_was_done_when_a_worker_dies(tmp_path):
    pytest.importorskip("ray")
    outputs([start_program("search_on_ray", tmp_path)], timeout=300)


def test_naming_an_engine_asks_for_its_workers(monkeypatch):
    # Unless it is told how many, that of ray takes one.
    class OtherEngine(joblib.parallel.LokyBackend):
        def effective_n_jobs(self, n_jobs):
            return 7 if n_jobs == -1 else n_jobs or 1

    monkeypatch.setitem(joblib.parallel.BACKENDS, "other", OtherEngine)
    for options, number in [({}, 7), ({"n_jobs": 3}, 3), ({"n_jobs": -1}, 7)]:
        with joblib.parallel_config("other", **options):
            assert workers.Workers.asked_for(None).number == number
            assert workers.Workers.asked_for(1) is None
    assert workers.Workers.asked_for(None) is None


@pytest.mark.parametrize(
    ("n_jobs", "error"), [(0, ValueError), (True, TypeError), (1.5, TypeError)]
)
def test_a_number_of_processes_is_one(n_jobs, error):
    with pytest.raises(error) as raised:
        tune(net(), n_jobs=n_jobs)
    assert str(raised.value) == (
        "Argument `n_jobs` must be a number of processes, or -1 for one on "
        f"each core, or `None`. Received: n_jobs={n_jobs}"
    )


@pytest.mark.parametrize(
    ("engine", "what"),
    [("threading", "are threads"), ("multiprocessing", "are forks")],
)
def test_engines_that_cannot_train_are_refused(engine, what):
    with (
        joblib.parallel_config(engine, n_jobs=2),
        pytest.raises(ValueError, match=what),
    ):
        tune(net())


def test_threads_of_an_engine_that_is_not_joblibs_are_not_asked_for():
    class Threads(joblib.parallel.ThreadingBackend):
        """Another name than joblib's."""

    with joblib.parallel_config(Threads()):
        assert workers.Workers.asked_for(None) is None


def test_joblib_is_needed_by_several_only(monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(ImportError, match="pip install joblib"):
        workers.Workers.asked_for(2)
    assert workers.Workers.asked_for(1) is None
    monkeypatch.delitem(sys.modules, "joblib")
    assert workers.Workers.asked_for(None) is None


def test_each_of_several_has_its_share():
    some = workers.Workers(4, is_local=True, answers=True)
    assert some.share_of(1000, replicas=18) == 5
    assert some.share_of(12, replicas=18) == 3
    assert some.share_of(1, replicas=18) == 1
