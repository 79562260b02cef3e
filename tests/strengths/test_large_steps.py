"""Steps beyond 2**24, which float32 does not hold, up to 2**31."""

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from l2keras import (
    CosineSchedule,
    CyclicSchedule,
    JoinedSchedule,
    LinearSchedule,
)
from tests.support import number

FAR = 2**24
LAST = 2**31 - 1


def triangle(step, steps):
    """Returns the share of the way, to and fro."""
    return 1 - abs(steps - step % (2 * steps)) / steps


SCHEDULES = {
    "linear": (
        LinearSchedule(0.0, 1.0, steps=8, begin=FAR + 1),
        lambda step: min(max(step - FAR - 1, 0) / 8, 1),
    ),
    "cosine": (
        CosineSchedule(0.0, 1.0, steps=8, begin=FAR + 1),
        lambda step: (
            (1 - np.cos(np.pi * min(max(step - FAR - 1, 0) / 8, 1))) / 2
        ),
    ),
    "cyclic": (
        CyclicSchedule(0.0, 1.0, steps=5),
        lambda step: triangle(step, 5),
    ),
    "cyclic, long": (
        CyclicSchedule(0.0, 1.0, steps=LAST),
        lambda step: step / LAST,
    ),
    "joined": (
        JoinedSchedule(
            [0.5, CyclicSchedule(0.0, 1.0, steps=5)], boundaries=[FAR + 3]
        ),
        lambda step: 0.5 if step < FAR + 3 else triangle(step - FAR - 3, 5),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_exact_at_large_steps(name, compiled):
    schedule, truth = SCHEDULES[name]
    strength = compiled(schedule)
    for step in [*range(FAR - 2, FAR + 14), LAST]:
        for call in (schedule, strength):
            found = number(call(ops.convert_to_tensor(step, "int32")))
            assert found == pytest.approx(truth(step), abs=1e-6), step


def dense_model(schedule):
    dense = keras.layers.Dense(
        1, kernel_initializer="ones", kernel_regularizer=l2keras.L2(schedule)
    )
    model = keras.Sequential([keras.Input((4,)), dense])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


X, Y = np.ones((1, 4), "float32"), np.full((1, 1), 4.0, "float32")


def test_a_model_follows_its_optimizer_at_large_steps():
    schedule, truth = SCHEDULES["cyclic"]
    model = dense_model(schedule)
    model.optimizer.iterations.assign(FAR - 2)
    for step in range(FAR - 2, FAR + 4):
        logs = model.fit(X, Y, verbose=0).history
        assert logs["loss"][0] == pytest.approx(4 * truth(step), abs=1e-5)


@pytest.mark.parametrize("reloaded", [False, True])
def test_a_step_set_by_hand_holds_until_the_next_update(reloaded, tmp_path):
    schedule, truth = SCHEDULES["cyclic"]
    model = dense_model(schedule)
    model.optimizer.iterations.assign(FAR)
    l2keras.set_step(model, FAR + 5)
    if reloaded:
        model.save(tmp_path / "model.keras")
        model = keras.saving.load_model(tmp_path / "model.keras")
    for step in (FAR + 5, FAR + 1, FAR + 2):
        assert number(sum(model.losses)) == pytest.approx(4 * truth(step))
        logs = model.fit(X, Y, verbose=0).history
        assert logs["loss"][0] == pytest.approx(4 * truth(step), abs=1e-5)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda step: LinearSchedule(0.0, 1.0, steps=step), "steps"),
        (lambda step: CosineSchedule(0.0, 1.0, 1, begin=step), "begin"),
        (lambda step: CyclicSchedule(0.0, 1.0, steps=step), "steps"),
        (lambda step: JoinedSchedule([0.0, 1.0], [step]), "boundaries[0]"),
    ],
)
def test_steps_beyond_int32_are_refused(make, name):
    make(LAST)
    with pytest.raises(ValueError, match="less than") as caught:
        make(2**31)
    assert str(caught.value) == (
        f"Argument `{name}` must be less than 2**31, since optimizers count "
        f"no further. Received: {name}=2147483648"
    )


def test_set_step_beyond_int32_changes_nothing():
    model = dense_model(SCHEDULES["cyclic"][0])
    l2keras.set_step(model, LAST)
    assert number(sum(model.losses)) == pytest.approx(4 * triangle(LAST, 5))
    model = dense_model(SCHEDULES["cyclic"][0])
    before = [id(variable) for variable in model.variables]
    with pytest.raises(ValueError, match=r"`step` must be less than 2\*\*31"):
        l2keras.set_step(model, 2**31)
    assert [id(variable) for variable in model.variables] == before
