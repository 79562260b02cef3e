"""Properties of `compact`, on random models of many kinds.

For more of them than each run has time for, set the environment variable
`L2KERAS_EXAMPLES` to their number.
"""

import os

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st

import l2keras
from l2keras.compaction.compact import report_without_rebuilding
from tests.support import BACKEND
from tests.support.random_architectures import (
    ARCHITECTURES,
    computed,
    examples,
    switch_off,
    without_dropped,
)

pytestmark = [
    pytest.mark.slow,
    # Keras 3.16's, of a `Bidirectional` behind a mask.
    pytest.mark.filterwarnings("ignore:.*this layer does not support masking"),
]

# One or two for each kind of model: JAX compiles each for seconds.
EACH = 1 if BACKEND == "jax" else 2
EXAMPLES = int(os.environ.get("L2KERAS_EXAMPLES", EACH * len(ARCHITECTURES)))


def assert_same(some, others, rtol=1e-5):
    for one, other in zip(some, others, strict=True):
        assert one.shape == other.shape
        size = max(np.abs(one).max(), 1e-3)
        np.testing.assert_allclose(other, one, rtol=0, atol=rtol * size)


def assert_never_larger(report):
    assert report.parameters[1] <= report.parameters[0]
    for before, after in report.widths.values():
        assert 1 <= after <= before
    if report.flops is not None:
        assert report.flops[1] <= report.flops[0]


@pytest.mark.parametrize(
    "make",
    [pytest.param(each, id=each.__name__) for each in ARCHITECTURES],
)
@hypothesis.settings(
    max_examples=-(-EXAMPLES // len(ARCHITECTURES)),
    deadline=None,
    database=None,
    phases=[hypothesis.Phase.generate],  # To shrink one takes minutes.
    derandomize="L2KERAS_EXAMPLES" not in os.environ,
    suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(
    data=st.data(),
    seed=st.integers(0, 1000),
    share=st.sampled_from([0.5, 0.3, 0.8, 0.95, 0.0]),
    drop_inputs=st.sampled_from([True, False]),
)
def test_random_models_compute_the_same_after_compaction(
    make, data, seed, share, drop_inputs
):
    keras.utils.clear_session(free_memory=False)
    model = switch_off(make(data.draw), seed, share)
    x = examples(model, seed)
    before = computed(model, x)
    expected = report_without_rebuilding(model)
    small, report = l2keras.compact(model, drop_inputs=drop_inputs)
    assert expected.unread_inputs == report.unread_inputs
    if not drop_inputs:
        assert expected.parameters == report.parameters
    assert small.count_params() == report.parameters[1]
    assert model.count_params() == report.parameters[0]
    assert_never_larger(report)
    assert_same(computed(model, x), before, rtol=0)  # It is not changed.
    fewer = without_dropped(small, x, report.inputs) if drop_inputs else x
    assert_same(before, computed(small, fewer))

    again, second = l2keras.compact(small, drop_inputs=drop_inputs)
    assert second.widths == {
        name: (after, after) for name, (_, after) in report.widths.items()
    }
    assert second.parameters == (report.parameters[1],) * 2
    for one, other in zip(
        small.get_weights(), again.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
