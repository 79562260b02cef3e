"""Layers and callbacks that count traces, and which tests have any to count."""

import keras
import pytest

from tests.support import BACKEND, runs_several_steps

compiled_only = pytest.mark.skipif(
    BACKEND == "torch", reason="PyTorch runs the step anew each time."
)
many_steps = pytest.mark.skipif(
    not runs_several_steps(),
    reason="Until 3.16 Keras refuses steps_per_execution > 1 on PyTorch.",
)
# PyTorch's own, where it compiles a step in several pieces.
several_pieces = pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor"
)


@keras.saving.register_keras_serializable(package="l2keras_tests")
class Traced(keras.layers.Layer):
    """Counts how often Python passes through it: once for a trace."""

    count = 0

    def call(self, x):
        Traced.count += 1
        return x


class Counts(keras.callbacks.Callback):
    """Notes the traces after each batch of training and of validation."""

    def __init__(self):
        super().__init__()
        self.train, self.test = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.train.append(Traced.count)

    def on_test_batch_end(self, batch, logs=None):
        self.test.append(Traced.count)
