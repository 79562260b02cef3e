"""Models with a training step of their own, as in Keras's guides."""

import keras

from tests.support import BACKEND, documented_model


def guide_model(first, second, name="guide", **overridden):
    """Returns the documented model with the guide's training step."""
    return by_guide(documented_model(first, second), name, **overridden)


def by_guide(model, name="guide", **overridden):
    """Returns a model of the same layers with the guide's training step."""
    base = {
        "tensorflow": tensorflow_guide,
        "jax": jax_guide,
        "torch": torch_guide,
    }[BACKEND]()
    kind = type("Guide", (base,), overridden)
    return kind(model.inputs, model.outputs[0], name=name)


def tensorflow_guide():
    import tensorflow as tf

    class Guide(keras.Model):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                y_pred = self(x, training=True)
                loss = self.compute_loss(y=y, y_pred=y_pred)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return self.update_metrics(y, y_pred, loss)

        def test_step(self, data):
            x, y = data
            y_pred = self(x, training=False)
            loss = self.compute_loss(y=y, y_pred=y_pred)
            return self.update_metrics(y, y_pred, loss)

        update_metrics = update_metrics

    return Guide


def torch_guide():
    import torch

    class Guide(keras.Model):
        def train_step(self, data):
            x, y = data
            self.zero_grad()
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred)
            loss.backward()
            weights = self.trainable_weights
            gradients = [weight.value.grad for weight in weights]
            with torch.no_grad():
                self.optimizer.apply(gradients, weights)
            return self.update_metrics(y, y_pred, loss)

        def test_step(self, data):
            x, y = data
            y_pred = self(x, training=False)
            loss = self.compute_loss(y=y, y_pred=y_pred)
            return self.update_metrics(y, y_pred, loss)

        update_metrics = update_metrics

    return Guide


def update_metrics(self, y, y_pred, loss):
    for metric in self.metrics:
        if metric.name == "loss":
            metric.update_state(loss)
        else:
            metric.update_state(y, y_pred)
    return {metric.name: metric.result() for metric in self.metrics}


def jax_guide():
    import jax

    class Guide(keras.Model):
        def compute_loss_and_updates(
            self, trainable, non_trainable, metrics, x, y, training=False
        ):
            y_pred, non_trainable = self.stateless_call(
                trainable, non_trainable, x, training=training
            )
            loss, (_, non_trainable, metrics) = self.stateless_compute_loss(
                trainable,
                non_trainable,
                metrics,
                y=y,
                y_pred=y_pred,
                training=training,
            )
            return loss, (y_pred, non_trainable, metrics)

        def train_step(self, state, data):
            trainable, non_trainable, optimizer, metrics = state
            x, y = data[:2]
            (loss, (y_pred, non_trainable, metrics)), gradients = (
                jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)(
                    trainable, non_trainable, metrics, x, y, training=True
                )
            )
            trainable, optimizer = self.optimizer.stateless_apply(
                optimizer, gradients, trainable
            )
            logs, metrics = self.updated_metrics(metrics, y, y_pred, loss)
            return logs, (trainable, non_trainable, optimizer, metrics)

        def test_step(self, state, data):
            trainable, non_trainable, metrics = state
            x, y = data[:2]
            loss, (y_pred, non_trainable, metrics) = (
                self.compute_loss_and_updates(
                    trainable, non_trainable, metrics, x, y
                )
            )
            logs, metrics = self.updated_metrics(metrics, y, y_pred, loss)
            return logs, (trainable, non_trainable, metrics)

        def updated_metrics(self, variables, y, y_pred, loss):
            updated, logs = [], {}
            for metric in self.metrics:
                own = variables[
                    len(updated) : len(updated) + len(metric.variables)
                ]
                if metric.name == "loss":
                    own = metric.stateless_update_state(own, loss)
                else:
                    own = metric.stateless_update_state(own, y, y_pred)
                logs[metric.name] = metric.stateless_result(own)
                updated += own
            return logs, updated

    return Guide
