"""Each optimizer of Keras decays by the formula, or is refused."""

import keras
import numpy as np
import pytest
from keras import ops

from l2keras import DecoupledWeightDecay
from tests.support import BACKEND
from tests.support.weight_decay_cases import single, zeros_for


class Averaging(keras.optimizers.Optimizer):
    """Weights from the sum of all gradients, as by dual averaging."""

    def build(self, variables):
        super().build(variables)
        self.sums = self.add_optimizer_variables(variables, "sum")

    def update_step(self, gradient, variable, learning_rate):
        total = self.sums[self._get_variable_index(variable)]
        self.assign_add(total, gradient)
        self.assign(variable, -learning_rate * ops.convert_to_tensor(total))


class Own(keras.optimizers.Adam):
    """An optimizer that is made of more than Keras's are."""

    def __init__(self, needed, **arguments):
        super().__init__(**arguments)


UNDOING = {"Ftrl", "ScheduleFreeAdamW", "Averaging"}


def optimizers_without_decay():
    for name in dir(keras.optimizers):
        kind = getattr(keras.optimizers, name)
        if name[0].isupper() and name not in (
            "LossScaleOptimizer",
            "MultiOptimizer",
            "Optimizer",
            "OptimizerMap",
        ):
            arguments = {
                argument: 0.0
                for argument in ("weight_decay", "adam_weight_decay")
                if argument in kind.__init__.__code__.co_varnames
            }
            # As large as a relative one may be.
            yield name, lambda k=kind, a=arguments: k(learning_rate=0.5, **a)
    yield "Averaging", lambda: Averaging(0.5)
    yield "Own", lambda: Own(1, learning_rate=0.5)


OPTIMIZERS = dict(optimizers_without_decay())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_decays_by_the_formula_or_is_refused(name):
    make = OPTIMIZERS[name]
    if name in UNDOING:
        with pytest.raises(ValueError, match="decay would be undone") as caught:
            DecoupledWeightDecay(make(), default=0.1)
        assert str(caught.value) == (
            f"`{name}` computes the weights anew at each update from states of "
            "its own, so decay would be undone. Take another optimizer, or "
            "give the weights an `l2keras.L2` penalty. Received: "
            f"{name}(...)"
        )
        return
    model = single()
    start = model.get_weights()[0]
    optimizer = DecoupledWeightDecay(make(), default=0.1)
    optimizer.build(model.trainable_variables)
    for _ in range(3):
        weights = model.trainable_variables
        optimizer.apply(zeros_for(weights), weights)
    np.testing.assert_allclose(
        model.get_weights()[0], start * (1 - 0.5 * 0.1) ** 3, rtol=1e-5
    )


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow")
def test_an_optimizer_made_in_the_scope_of_a_strategy():
    import tensorflow as tf

    class Fresh(keras.optimizers.SGD):
        """A class that was not asked before."""

    class FreshToo(Averaging):
        """Another."""

    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        DecoupledWeightDecay(Fresh(0.1), default=0.1)
        with pytest.raises(ValueError, match="decay would be undone"):
            DecoupledWeightDecay(FreshToo(0.1), default=0.1)
