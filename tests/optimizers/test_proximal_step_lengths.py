"""A step is as long as the optimizer's own, whichever that is.

A gradient that is the same at every step moves the weights by the gradient
times the length. So with a penalty that no weight gets to zero by, the weights
end short of where the optimizer alone takes them by as much of that movement as
the strength is of the gradient: all that is known here of the optimizers is
what they do.
"""

import keras
import numpy as np
import pytest
from keras import ops

from l2keras import L1, Proximal
from tests.support.proximal_cases import linear, sgd

optimizers = keras.optimizers
RATE = optimizers.schedules.ExponentialDecay(0.1, 1, 0.8)

INNER = {
    "SGD": lambda: sgd(RATE),
    "momentum": lambda: sgd(RATE, momentum=0.9),
    "Nesterov": lambda: sgd(RATE, momentum=0.9, nesterov=True),
    "Nesterov without momentum": lambda: sgd(RATE, nesterov=True),
    "Adam": lambda: optimizers.Adam(RATE),
    "Adam's AMSGrad": lambda: optimizers.Adam(RATE, amsgrad=True, beta_2=0.5),
    "AdamW": lambda: optimizers.AdamW(RATE, weight_decay=0.0, epsilon=0.1),
    "Nadam": lambda: optimizers.Nadam(RATE, epsilon=0.1),
    "RMSprop": lambda: optimizers.RMSprop(RATE),
    "RMSprop, centered": lambda: optimizers.RMSprop(RATE, centered=True),
    "RMSprop, momentum": lambda: optimizers.RMSprop(RATE, momentum=0.8),
    "RMSprop, centered, momentum": lambda: optimizers.RMSprop(
        RATE, centered=True, momentum=0.8
    ),
    "Adagrad": lambda: optimizers.Adagrad(RATE),
}
# Of each sign, and of several sizes: Adam makes them all alike.
GRADIENT = np.resize([1.0, -2.0, 0.5, -0.25, 4.0], (10, 3)).astype("float32")


def movements(optimizer, regularizer, steps=6):
    """Returns the movement in each step that this gradient makes."""
    model = linear(regularizer)
    model.compile(optimizer, "mse")
    (variable,) = model.trainable_variables
    # Far from zero, and away from it: as much in float32 as near it.
    variable.assign(-8.0 * np.sign(GRADIENT))
    optimizer.build([variable])
    values = [ops.convert_to_numpy(variable).astype("float64")]
    for _ in range(steps):
        optimizer.apply([ops.array(GRADIENT)], [variable])
        values.append(ops.convert_to_numpy(variable).astype("float64"))
    return np.diff(values, axis=0)


@pytest.mark.parametrize("name", INNER)
def test_the_step_length_is_the_movement_under_a_constant_gradient(name):
    plain = movements(INNER[name](), None)
    both = movements(Proximal(INNER[name]()), L1(0.25))
    # The weights have the sign of their movement.
    length = plain / -GRADIENT
    assert (length > 0).all()
    np.testing.assert_allclose(
        both - plain, 0.25 * np.sign(GRADIENT) * length, rtol=0.01, atol=3e-6
    )


def test_accumulated_gradients_are_one_proximal_step():
    def inner(**arguments):
        return sgd(0.1, momentum=0.9, **arguments)

    once = movements(Proximal(inner()), L1(0.25), steps=3)
    gathered = movements(
        Proximal(inner(gradient_accumulation_steps=2)), L1(0.25), steps=6
    )
    np.testing.assert_allclose(gathered[1::2], once, atol=1e-6)
    np.testing.assert_array_equal(gathered[::2], np.zeros_like(once))
