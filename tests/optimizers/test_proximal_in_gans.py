"""Models that train their parts by several optimizers, as a GAN does."""

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from l2keras import L1, Proximal
from tests.support import BACKEND
from tests.support.proximal_cases import proximal_sgd, sgd

Z = np.random.default_rng(0).normal(size=(8, 2)).astype("float32")
X = np.ones((8, 4), "float32")
STRENGTH = 0.3


class Gan(keras.Model):
    """Two parts, of which each has kernels with `L1`.

    Args:
        names: Those of the attributes that the optimizers become.
        compiled: Whether the parts are compiled with them.
    """

    def __init__(self, names=("d_optimizer", "g_optimizer"), compiled=True):
        super().__init__()
        self.judge = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(1, kernel_regularizer=L1(STRENGTH)),
            ],
            name="judge",
        )
        self.maker = keras.Sequential(
            [
                keras.Input((2,)),
                keras.layers.Dense(4, kernel_regularizer=L1(STRENGTH)),
            ],
            name="maker",
        )
        self.judge.layers[0].kernel.assign([[0.9], [-0.7], [0.5], [-1.1]])
        self.maker.layers[0].kernel.assign(
            [[0.01, -0.5, 0.02, 0.8], [-0.6, 0.03, 0.7, -0.01]]
        )
        self.built = True
        self.names, self.compiles_parts = names, compiled

    def compile(self, *optimizers, **arguments):
        super().compile(**arguments)
        for name, part, optimizer in zip(
            self.names, (self.judge, self.maker), optimizers, strict=True
        ):
            if name:
                setattr(self, name, optimizer)
            if self.compiles_parts:
                part.compile(optimizer)
            self.trained = list(
                zip((self.judge, self.maker), optimizers, strict=True)
            )

    def call(self, z):
        return self.judge(self.maker(z))

    @property
    def metrics(self):
        return []

    def loss_of(self, part):
        scores = ops.mean(self.judge(self.maker(Z))) - ops.mean(self.judge(X))
        return scores + sum(part.losses)

    def train_step(self, data):
        for part, optimizer in self.trained:
            weights = part.trainable_variables
            if BACKEND == "tensorflow":
                import tensorflow as tf

                with tf.GradientTape() as tape:
                    loss = self.loss_of(part)
                optimizer.apply(tape.gradient(loss, weights), weights)
            elif BACKEND == "torch":
                import torch

                self.zero_grad()
                self.loss_of(part).backward()
                with torch.no_grad():
                    optimizer.apply(
                        [weight.value.grad for weight in weights], weights
                    )
        return {"loss": ops.mean(self.judge.layers[0].kernel)}

    def train_for(self, steps=4):
        if BACKEND == "jax":
            train_on_jax(self, steps)
        else:
            self.fit(X, batch_size=8, epochs=steps, verbose=0)


def train_on_jax(gan, steps):
    """A loop of one's own, since Keras's step has one optimizer's state."""
    import jax

    for part, optimizer in gan.trained:
        optimizer.build(part.trainable_variables)

    def loss_of(values, part):
        mapping = list(zip(part.trainable_variables, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return gan.loss_of(part)

    for _ in range(steps):
        for part, optimizer in gan.trained:
            values = [variable.value for variable in part.trainable_variables]
            gradients = jax.grad(loss_of)(values, part)
            optimizer.apply(gradients, part.trainable_variables)


def kernels(gan):
    return [
        ops.convert_to_numpy(layer.layers[0].kernel) for layer in gan.layers
    ]


def in_numpy(steps=4, rate=0.1):
    """The kernels after as many steps: the judge's by the gradient of `L1`."""
    gan = Gan()
    (judge, _), (maker, c) = (
        [weight.astype("float64") for weight in part.get_weights()]
        for part in (gan.judge, gan.maker)
    )
    for _ in range(steps):
        made = Z @ maker + c
        gradient = (made.mean(0) - X.mean(0))[:, None]
        judge = judge - rate * (gradient + STRENGTH * np.sign(judge))
        moved = maker - rate * np.outer(Z.mean(0), judge[:, 0])
        c = c - rate * judge[:, 0]
        maker = np.sign(moved) * np.maximum(np.abs(moved) - rate * STRENGTH, 0)
    return judge, maker


def test_only_the_part_trained_by_proximal_takes_proximal_steps():
    gan = Gan()
    gan.compile(sgd(0.1), proximal_sgd(rate=0.1))
    gan.train_for()
    for found, expected in zip(kernels(gan), in_numpy(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (kernels(gan)[1] == 0).any()
    assert (kernels(gan)[0] != 0).all()


def test_a_part_may_be_trained_by_the_compiled_optimizer():
    gan = Gan(names=("d_optimizer", "optimizer"))
    gan.compile(sgd(0.1), proximal_sgd(rate=0.1))
    gan.train_for()
    for found, expected in zip(kernels(gan), in_numpy(), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (kernels(gan)[1] == 0).any()
    assert (kernels(gan)[0] != 0).all()


def test_both_parts_may_be_trained_by_proximal():
    gan = Gan()
    for part in gan.layers:
        part.layers[0].kernel.regularizer = L1(10.0)
    gan.compile(proximal_sgd(), Proximal(keras.optimizers.Adam(0.1)))
    gan.train_for()
    for kernel in kernels(gan):
        np.testing.assert_array_equal(kernel, np.zeros_like(kernel))


@pytest.mark.parametrize(
    "arguments",
    [{"compiled": False}, {"names": ("d_optimizer", None)}],
    ids=["no part is compiled", "no attribute"],
)
def test_a_proximal_of_an_unknown_part_is_refused(arguments):
    if BACKEND == "jax" and "names" in arguments:
        pytest.skip("No step of the whole is at work in the loop.")
    gan = Gan(**arguments)
    gan.compile(sgd(0.1), proximal_sgd(rate=0.1))
    before = gan.get_weights()
    with pytest.raises(ValueError, match="If the model trains its parts by"):
        gan.train_for()
    np.testing.assert_array_equal(before[2], gan.get_weights()[2])


def test_a_part_trained_by_proximal_before_has_its_gradient_back():
    gan = Gan()
    gan.maker.compile(proximal_sgd(rate=1.0), "mse")
    gan.maker.fit(Z, np.zeros_like(X), epochs=20, verbose=0)
    # Its own optimizer is not at work in the whole.
    whole = keras.Sequential([keras.Input((2,)), gan.maker])
    plain = keras.models.clone_model(gan.maker)
    plain.set_weights(gan.maker.get_weights())
    for model in (whole, plain):
        model.compile(sgd(0.1), "mse")
        model.fit(Z, X, epochs=2, verbose=0)
    np.testing.assert_allclose(
        gan.maker.get_weights()[0], plain.get_weights()[0], atol=1e-6
    )
    assert l2keras.penalties(whole)[0].penalty > 0
