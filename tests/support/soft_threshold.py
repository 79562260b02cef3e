"""A second wrapper round optimizers, to show the duties of any.

It has all that is difficult: it acts after the update, reads the state of the
innermost optimizer, and has a state of its own.
"""

import keras
from keras import ops

from l2keras import DecoupledWeightDecay
from l2keras._keras.backend import backend
from l2keras.optimizers.wrapper import OptimizerWrapper


@keras.saving.register_keras_serializable(package="l2keras_tests")
class SoftThreshold(OptimizerWrapper):
    """Takes kernels nearer to zero, and to exactly zero, after each update.

        memory <- momentum * memory + learning_rate
        w <- sign(w) * max(|w| - strength * memory / (sqrt(v) + 1), 0)

    `v` is the second moment of the gradient where the innermost optimizer, Adam
    or the like, has one, and else zero.
    """

    def __init__(self, optimizer, strength, momentum=0.5, name=None):
        super().__init__(optimizer, name=name)
        self.strength = strength
        self.momentum = momentum

    def build(self, variables):
        was_built = self.built
        super().build(variables)
        if not was_built:
            self.memory = self.add_variable((), name="memory")

    def around_update(self, update, variables, learning_rate):
        update()
        backend.update(
            lambda memory, rate: self.momentum * memory + rate,
            [self.memory],
            [learning_rate],
        )
        kernels = [
            variable for variable in variables if len(variable.shape) == 2
        ]
        backend.update(
            soft_threshold,
            kernels,
            [self.step_size(kernel) for kernel in kernels],
        )

    def step_size(self, variable):
        step_size = self.strength * ops.convert_to_tensor(self.memory)
        inner = self.innermost_optimizer
        if not hasattr(inner, "_velocities"):
            return step_size
        velocity = inner._velocities[inner._get_variable_index(variable)]
        return step_size / (ops.sqrt(velocity) + 1)

    def get_config(self):
        return {
            **super().get_config(),
            "strength": self.strength,
            "momentum": self.momentum,
        }


def soft_threshold(weights, threshold):
    return ops.sign(weights) * ops.maximum(ops.abs(weights) - threshold, 0.0)


STRENGTH = 0.1
DECAY = 0.3


def decay(optimizer, **arguments):
    return DecoupledWeightDecay(optimizer, default=DECAY, **arguments)


def threshold(optimizer):
    return SoftThreshold(optimizer, STRENGTH)


# Both orders, with the same optimizer inside.
NESTED = {
    "threshold outside": lambda optimizer: threshold(decay(optimizer)),
    "threshold inside": lambda optimizer: decay(threshold(optimizer)),
}
