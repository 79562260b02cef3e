"""Several processes train the replicas of a search, as one would have."""

import os
import signal
import sys
import threading
import warnings

import joblib
import numpy as np
import pytest

from l2keras._keras.backend import backend
from l2keras.tuning import checkpoint
from l2keras.tuning.processes import Workers
from tests.support import outputs, start_program
from tests.support.searches import (
    EXPECTED_WARNINGS,
    assert_same,
    by_fit,
    interrupt,
    net,
    tune,
    with_momentum,
)

pytestmark = [
    *EXPECTED_WARNINGS,
    pytest.mark.skipif(
        backend.device_name() != "CPU",
        reason="Processes of one machine would share its GPU.",
    ),
    pytest.mark.filterwarnings("ignore:Falling back to sequential training"),
    # joblib begins a worker anew whose memory has grown, as by compiling.
    pytest.mark.filterwarnings("ignore:A worker stopped while some jobs"),
]

THREE = [0.01, 0.1, 0.3]

# How many rounds of a matrix product differ in, added up by other threads.
ROUNDING = {"rtol": 1e-5, "atol": 1e-6}


@pytest.mark.slow
def test_workers_train_sequential_replicas_as_one_process_does():
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
    assert two.fallback_reason == one.fallback_reason
    assert [str(e.message) for e in warned].count("a word from a worker") == 1
    now = np.random.get_state()[1]  # noqa: NPY002
    np.testing.assert_array_equal(now, before)


def test_workers_train_stacks_as_one_process_does():
    one = tune(with_momentum, strengths=THREE, epochs=3, at_once=2)
    with joblib.parallel_config("loky", n_jobs=2):
        two = tune(with_momentum, strengths=THREE, epochs=3)
    assert_same(two, one, **ROUNDING)
    assert two.fallback_reason is None


@pytest.mark.slow
def test_an_interrupted_parallel_search_resumes_from_its_backup(
    monkeypatch, tmp_path
):
    options = {"strengths": THREE, "epochs": 3}
    whole = tune(by_fit, **options)
    monkeypatch.setattr(checkpoint, "SECONDS", 0)
    with monkeypatch.context() as context:
        interrupt(context, 2 * 3 + 2)
        with pytest.warns(UserWarning, match="was interrupted: 4 of 6"):
            part = tune(by_fit, backup_dir=tmp_path, n_jobs=2, **options)
    done = np.isfinite(part.validation_loss[:, :, -1])
    np.testing.assert_allclose(
        part.validation_loss[done], whole.validation_loss[done], **ROUNDING
    )
    with np.load(tmp_path / "search.npz") as saved:
        np.testing.assert_array_equal(saved["done"], done)
    result = tune(by_fit, backup_dir=tmp_path, **options)
    assert_same(result, whole, **ROUNDING)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_errors_of_build_model_are_raised():
    searcher = os.getpid()

    def build_model(strength):
        if os.getpid() != searcher and float(strength) == 0.1:
            raise KeyError("there is none")
        return by_fit(strength)

    with pytest.raises(KeyError, match="'there is none'") as error:
        tune(build_model, strengths=THREE, n_jobs=2)
    assert "by joblib" in "".join(error.value.__notes__)


@pytest.mark.slow
def test_a_worker_that_trains_another_model_is_an_error():
    searcher = os.getpid()

    def build_model(strength):
        return by_fit(strength if os.getpid() == searcher else 100 * strength)

    with pytest.raises(RuntimeError, match="same model in every") as error:
        tune(build_model, strengths=THREE, n_jobs=2)
    assert "have another result than" in str(error.value)


@pytest.mark.slow
def test_a_layer_defined_in_the_script_can_be_used(tmp_path):
    outputs([start_program("search_with_own_layer")])


@pytest.mark.slow
def test_an_unpicklable_build_model_is_explained():
    lock = threading.Lock()

    def build_model(strength):
        with lock:
            return by_fit(strength)

    with pytest.raises(Exception, match="pickle") as error:
        tune(build_model, n_jobs=2)
    assert "must be picklable" in "".join(error.value.__notes__)


@pytest.mark.slow
def test_finished_replicas_survive_a_killed_worker(tmp_path):
    searcher, options = os.getpid(), {"strengths": THREE}

    def build_model(strength):
        if os.getpid() != searcher and (tmp_path / "search.npz").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return by_fit(strength)

    with pytest.raises(Exception, match="terminated") as error:
        tune(build_model, backup_dir=tmp_path, n_jobs=2, **options)
    assert "replicas that are done are kept" in "".join(error.value.__notes__)
    with np.load(tmp_path / "search.npz") as saved:
        assert saved["done"].any()
    result = tune(build_model, backup_dir=tmp_path, **options)
    assert_same(result, tune(by_fit, **options), **ROUNDING)


def test_a_search_on_dask_survives_a_killed_worker(tmp_path):
    pytest.importorskip("distributed")
    outputs([start_program("search_on_dask", tmp_path)])


def test_a_search_on_ray_keeps_finished_replicas_when_a_worker_is_killed(
    tmp_path,
):
    pytest.importorskip("ray")
    outputs([start_program("search_on_ray", tmp_path)])


def search_in_a_worker():
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        result = tune(net(), n_jobs=2)
    return result, [str(warning.message) for warning in warned]


@pytest.mark.slow
def test_a_search_inside_a_joblib_worker_uses_one_process():
    ((result, messages),) = joblib.Parallel(n_jobs=2)(
        [joblib.delayed(search_in_a_worker)()]
    )
    assert_same(result, tune(net()), **ROUNDING)
    assert any(
        "trained by this process alone" in message for message in messages
    )


def test_thread_backends_fall_back_to_one_process():
    with (
        joblib.parallel_config("threading", n_jobs=2),
        pytest.warns(UserWarning, match="by this process alone"),
    ):
        result = tune(net())
    assert np.isfinite(result.validation_loss).all()


@pytest.mark.parametrize(
    ("n_jobs", "error"), [(0, ValueError), (True, TypeError), (1.5, TypeError)]
)
def test_n_jobs_must_be_a_number_of_processes(n_jobs, error):
    with pytest.raises(error) as raised:
        tune(net(), n_jobs=n_jobs)
    assert str(raised.value) == (
        "Argument `n_jobs` must be a number of processes, or -1 for one on "
        f"each core, or `None`. Received: n_jobs={n_jobs}"
    )


def test_joblib_is_required_for_several_processes_only(monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(ImportError, match="pip install joblib"):
        Workers.of(2)
    assert Workers.of(1) is None
    monkeypatch.delitem(sys.modules, "joblib")
    assert Workers.of(None) is None
