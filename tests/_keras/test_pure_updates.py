"""An optimizer's functional twin makes the updates of the optimizer."""

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from l2keras._keras.pure_updates import functional_twin, pure_scope

optimizers = keras.optimizers
pytestmark = pytest.mark.filterwarnings("ignore:No weight of .* is zero")


class WithFriction(optimizers.SGD):
    """Has a variable of its own, and asks the class that it derives from."""

    def build(self, variables):
        super().build(variables)
        self.friction = self.add_variable((), name="friction")

    def update_step(self, gradient, variable, learning_rate):
        self.assign_add(self.friction, ops.ones(()))
        super().update_step(
            gradient, variable, learning_rate / (1 + self.friction)
        )


OPTIMIZERS = {
    "SGD": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "Adam": lambda: optimizers.Adam(0.01, amsgrad=True),
    "AdamW": lambda: optimizers.AdamW(0.01, weight_decay=0.1),
    "RMSprop": lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "Adadelta": lambda: optimizers.Adadelta(1.0),
    "Adagrad": lambda: optimizers.Adagrad(0.1),
    "Adamax": lambda: optimizers.Adamax(0.01),
    "Nadam": lambda: optimizers.Nadam(0.01),
    "Ftrl": lambda: optimizers.Ftrl(0.1),
    "Lion": lambda: optimizers.Lion(0.01),
    "Lamb": lambda: optimizers.Lamb(0.01),
    "Adafactor": lambda: optimizers.Adafactor(0.1),
    "clipping by norm": lambda: optimizers.Adam(0.01, clipnorm=0.1),
    "clipping by the norm of all": lambda: optimizers.Adam(
        0.01, global_clipnorm=0.1
    ),
    "gradient accumulation": lambda: optimizers.SGD(
        0.1, momentum=0.9, gradient_accumulation_steps=2
    ),
    "averages of weights": lambda: optimizers.SGD(
        0.1, use_ema=True, ema_overwrite_frequency=2
    ),
    "a schedule": lambda: optimizers.SGD(
        optimizers.schedules.CosineDecay(0.1, 6)
    ),
    "a subclass": lambda: WithFriction(0.1, momentum=0.9),
    "weight decay by path": lambda: l2keras.DecoupledWeightDecay(
        optimizers.Adam(0.01), default=0.1
    ),
    "cautious weight decay": lambda: l2keras.DecoupledWeightDecay(
        optimizers.Adam(0.01), default=0.1, cautious=True
    ),
    "proximal steps": lambda: l2keras.Proximal(optimizers.Adam(0.01)),
    "proximal steps with momentum": lambda: l2keras.Proximal(
        optimizers.SGD(0.1, momentum=0.9)
    ),
    "proximal steps of accumulated gradients": lambda: l2keras.Proximal(
        optimizers.Adam(0.01, gradient_accumulation_steps=2)
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_twin_makes_the_same_updates_and_changes_no_variable(name):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(
                5,
                kernel_regularizer=l2keras.L1(0.02),
                kernel_constraint=keras.constraints.MaxNorm(1.0),
            ),
            keras.layers.Dense(1),
        ]
    )
    model.compile(OPTIMIZERS[name](), "mse")
    weights = model.trainable_variables
    model.optimizer.build(weights)
    variables = [*weights, *model.optimizer.variables]
    twin = functional_twin(model.optimizer)
    rng = np.random.default_rng(0)
    gradients = [
        [
            ops.convert_to_tensor(
                rng.normal(size=weight.shape).astype("float32")
            )
            for weight in weights
        ]
        for _ in range(4)
    ]
    before = [np.array(each) for each in map(to_numpy, variables)]
    values = [ops.copy(ops.convert_to_tensor(each)) for each in variables]
    for gradient in gradients:
        with pure_scope(list(zip(variables, values, strict=True))) as scope:
            twin.apply(gradient, weights)
            values = [scope.get_current_value(each) for each in variables]
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)
    for gradient in gradients:
        model.optimizer.apply(gradient, weights)
    for variable, value in zip(variables, values, strict=True):
        np.testing.assert_allclose(
            to_numpy(value), to_numpy(variable), rtol=1e-5, atol=1e-6
        )


def to_numpy(value):
    return ops.convert_to_numpy(value)
