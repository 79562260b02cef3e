"""How often functions are traced."""

import keras
import pytest

import l2keras
from tests.support import (
    documented_data,
    documented_model,
    falling_schedule,
    rising_schedule,
)
from tests.support.numpy_trainings import compiled, fit
from tests.support.trace_counts import Counts, Traced, compiled_only, many_steps


def traced_model(first, second):
    return documented_model(first, second, between=[Traced()])


@compiled_only
@pytest.mark.parametrize(
    "mode",
    [
        {},
        pytest.param({"steps_per_execution": 2}, marks=many_steps),
        {"jit_compile": True},
    ],
    ids=str,
)
def test_nothing_is_traced_after_the_first_step(mode):
    x, y = documented_data(samples=64)
    model = compiled(
        traced_model(
            l2keras.L2(rising_schedule()), l2keras.L2(falling_schedule())
        ),
        **mode,
    )
    logger = l2keras.RegularizationLogger()

    def run():
        counts = Counts()
        fit(
            model,
            x,
            y,
            epochs=3,
            callbacks=[logger, counts],
            validation_data=(x[:32], y[:32]),
        )
        return counts

    counts = run()
    # Once for a step of training and once for one of validation.
    assert set(counts.train) == {counts.train[0], counts.test[0]}
    assert set(counts.test) == {counts.test[0]}
    before = Traced.count
    run()
    assert Traced.count == before, "A second fit has traced again."
    model.evaluate(x, y, batch_size=16, verbose=0)
    before = Traced.count
    run()
    assert Traced.count == before, "A third fit has traced again."
    model.evaluate(x, y, batch_size=16, verbose=0)
    assert Traced.count == before, "Evaluation has been traced again."


@compiled_only
def test_fits_with_and_without_the_logger_share_compiled_steps():
    x, y = documented_data(samples=64)
    model = compiled(traced_model(l2keras.L2(0.01), keras.regularizers.L2(0.1)))
    logger = l2keras.RegularizationLogger()
    fit(model, x, y, epochs=1, callbacks=[])
    fit(model, x, y, epochs=1, callbacks=[logger])
    model.evaluate(x, y, batch_size=16, verbose=0)
    before = Traced.count
    fit(model, x, y, epochs=1, callbacks=[])
    model.evaluate(x, y, batch_size=16, verbose=0)
    fit(model, x, y, epochs=1, callbacks=[logger])
    assert Traced.count == before


@compiled_only
def test_set_step_and_set_scale_retrace_at_most_once():
    x, y = documented_data(samples=64)
    model = compiled(traced_model(l2keras.L2(rising_schedule()), None))
    l2keras.set_step(model, 0)
    l2keras.set_scale(model, {"hidden/.*": 0.5})
    fit(model, x, y, epochs=1, callbacks=[])
    before = Traced.count
    for step in range(1, 4):
        l2keras.set_step(model, step)
        l2keras.set_scale(model, {"hidden/.*": 1.0 / step})
        fit(model, x, y, epochs=1, callbacks=[])
    assert Traced.count == before
