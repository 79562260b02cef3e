"""Loops that are not `fit`, in the manner of each backend."""

import keras
from keras import ops

import l2keras
from tests.support import BACKEND


def batches(x, y, size=16):
    return [
        (x[start : start + size], y[start : start + size])
        for start in range(0, len(x), size)
    ]


def train_on_batches(model, x, y, drive):
    for step, (xb, yb) in enumerate(batches(x, y)):
        if drive:
            l2keras.set_step(model, step)
        model.train_on_batch(xb, yb)


def train_in_a_loop(model, x, y, drive):
    """Trains without `model.fit`, in the manner of the backend."""
    loops = {
        "tensorflow": tensorflow_loop,
        "jax": jax_loop,
        "torch": torch_loop,
    }
    loops[BACKEND](model, x, y, drive)


def tensorflow_loop(model, x, y, drive):
    import tensorflow as tf

    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)

    @tf.function(reduce_retracing=True)
    def train_step(xb, yb):
        with tf.GradientTape() as tape:
            outputs = model(xb, training=True)
            loss = tf.reduce_mean(
                keras.losses.categorical_crossentropy(yb, outputs)
            ) + sum(model.losses)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)

    for xb, yb in batches(x, y):
        if drive:
            l2keras.set_step(model, optimizer.iterations)
        train_step(tf.constant(xb), tf.constant(yb))


def jax_loop(model, x, y, drive):
    import jax

    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)

    def loss_of(trainable, non_trainable, xb, yb):
        outputs, non_trainable, losses = model.stateless_call(
            trainable, non_trainable, xb, training=True, return_losses=True
        )
        loss = keras.losses.categorical_crossentropy(yb, outputs)
        return ops.mean(loss) + sum(losses), non_trainable

    gradient = jax.jit(jax.grad(loss_of, has_aux=True))
    trainable = [each.value for each in model.trainable_variables]
    state = [each.value for each in optimizer.variables]
    for step, (xb, yb) in enumerate(batches(x, y)):
        if drive:
            l2keras.set_step(model, step)
        non_trainable = [each.value for each in model.non_trainable_variables]
        gradients, _ = gradient(trainable, non_trainable, xb, yb)
        trainable, state = optimizer.stateless_apply(
            state, gradients, trainable
        )
    for variable, value in zip(
        model.trainable_variables, trainable, strict=True
    ):
        variable.assign(value)


def torch_loop(model, x, y, drive):
    import torch

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step, (xb, yb) in enumerate(batches(x, y)):
        if drive:
            l2keras.set_step(model, step)
        optimizer.zero_grad()
        outputs = model(torch.from_numpy(xb))
        loss = keras.losses.categorical_crossentropy(
            torch.from_numpy(yb), outputs
        ).mean()
        (loss + sum(model.losses)).backward()
        optimizer.step()


def gradient_of(function, variable):
    """Returns the gradient of a function of a variable."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = function(variable)
        return tape.gradient(value, variable.value)
    if BACKEND == "jax":
        import jax

        return jax.grad(function)(variable.value)
    variable.value.grad = None
    function(variable).backward()
    return variable.value.grad


def minimize(model, optimizer, x, y):
    """Makes one step with an optimizer; not for JAX."""
    loss_of = keras.losses.CategoricalCrossentropy()
    weights = model.trainable_variables
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = loss_of(y, model(x, training=True)) + sum(model.losses)
        optimizer.apply(tape.gradient(loss, weights), weights)
        return loss
    import torch

    model.zero_grad()
    x, y = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
    loss = loss_of(y, model(x, training=True)) + sum(model.losses)
    loss.backward()
    with torch.no_grad():
        optimizer.apply([weight.value.grad for weight in weights], weights)
    return loss


class Stepping(keras.Sequential):
    """Has a training step of its own, with an optimizer that is chosen."""

    def train_step(self, *arguments):
        if BACKEND == "jax":
            return self.jax_train_step(*arguments)
        (data,) = arguments
        loss = minimize(self, self.optimizer_of(self), *data)
        return {"loss": ops.stop_gradient(loss)}

    def jax_train_step(self, state, data):
        import jax

        trainable, non_trainable, own, metrics = state
        x, y = data

        def loss_of(trainable):
            outputs, _, losses = self.stateless_call(
                trainable, non_trainable, x, training=True, return_losses=True
            )
            loss = keras.losses.categorical_crossentropy(y, outputs)
            return ops.mean(loss) + sum(losses)

        loss, gradients = jax.value_and_grad(loss_of)(trainable)
        if self.optimizer_of(self) is self.optimizer:
            trainable, own = self.optimizer.stateless_apply(
                own, gradients, trainable
            )
        else:  # Whose variables Keras does not hand over.
            trainable = [
                weight - 0.1 * gradient
                for weight, gradient in zip(trainable, gradients, strict=True)
            ]
        return {"loss": loss}, (trainable, non_trainable, own, metrics)


def stepping_model(layers, optimizer_of):
    """Returns a model that trains with `optimizer_of(model)`."""
    model = Stepping(layers)
    model.optimizer_of = optimizer_of
    return model
