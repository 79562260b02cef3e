"""Models that do as Keras's guides and examples do, and not as we expect.

With the callbacks they train as without, with a warning at most.
"""

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from tests.support import BACKEND, assert_splits, documented_data, linear_data
from tests.support.custom_train_steps import (
    guide_model,
    jax_guide,
    update_metrics,
)
from tests.support.logged_trainings import compiled, fit, warned

tensorflow_only = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="The training step is TensorFlow's."
)
X, Y = documented_data(samples=64)
XL, YL = linear_data()


def callbacks(pattern=".*kernel"):
    return [
        l2keras.PenaltyScheduler({pattern: lambda epoch: 0.5 + 0.5 * epoch}),
        l2keras.RegularizationLogger(penalties=True, strengths=True),
    ]


def unchanging(pattern=".*kernel"):
    return [
        l2keras.PenaltyScheduler({pattern: lambda epoch: 1.0}),
        l2keras.RegularizationLogger(),
    ]


def penalized(units, name):
    return keras.layers.Dense(
        units, kernel_regularizer=l2keras.L2(0.01), name=name
    )


def minimize(optimizer, weights, loss_of):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = loss_of()
    optimizer.apply(tape.gradient(loss, weights), weights)
    return loss


class Vae(keras.Model):
    """Has no `call`, and sums its losses itself."""

    def __init__(self):
        super().__init__()
        self.encoder = keras.Sequential([penalized(2, "encoder")])
        self.decoder = keras.Sequential([penalized(4, "decoder")])
        self.mean = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.mean]

    def train_step(self, data):
        x = data[0] if isinstance(data, tuple) else data

        def loss():
            output = self.decoder(self.encoder(x))
            return ops.mean((output - x) ** 2) + sum(self.losses)

        # The layers have no weights before they are called.
        self.decoder(self.encoder(x))
        weights = self.trainable_weights
        self.mean.update_state(minimize(self.optimizer, weights, loss))
        return {"loss": self.mean.result()}


class Gan(keras.Model):
    """Has no `call`, and two optimizers."""

    def __init__(self):
        super().__init__()
        self.discriminator = keras.Sequential(
            [keras.Input((4,)), penalized(1, "judge")]
        )
        self.generator = keras.Sequential(
            [keras.Input((4,)), penalized(4, "maker")]
        )

    def compile(self, d_optimizer, g_optimizer):
        super().compile()
        self.d_optimizer = d_optimizer
        self.g_optimizer = g_optimizer
        self.d_loss = keras.metrics.Mean(name="d_loss")

    @property
    def metrics(self):
        return [self.d_loss]

    def train_step(self, data):
        x = data[0] if isinstance(data, tuple) else data
        judge, maker = self.discriminator, self.generator
        loss = minimize(
            self.d_optimizer,
            judge.trainable_weights,
            lambda: ops.mean(judge(maker(x)) - judge(x)) + sum(judge.losses),
        )
        minimize(
            self.g_optimizer,
            maker.trainable_weights,
            lambda: -ops.mean(judge(maker(x))) + sum(maker.losses),
        )
        self.d_loss.update_state(loss)
        return {"d_loss": self.d_loss.result()}


def compile_vae(model):
    model.compile(keras.optimizers.SGD(0.1))


def compile_gan(model):
    model.compile(keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1))


@tensorflow_only
@pytest.mark.parametrize(
    ("kind", "compile_model"), [(Vae, compile_vae), (Gan, compile_gan)]
)
def test_a_model_without_call_trains_as_without_callbacks(kind, compile_model):
    found = []
    for each in ([], unchanging()):
        keras.utils.set_random_seed(0)
        model = kind()
        compile_model(model)
        logs, messages = warned(
            model.fit,
            XL,
            batch_size=20,
            epochs=2,
            shuffle=False,
            verbose=0,
            callbacks=each,
        )
        if not each:
            assert messages == []
        found.append((logs.history, model.get_weights()))
    (plain, weights), (logs, with_callbacks) = found
    for key, values in plain.items():
        np.testing.assert_allclose(logs[key], values, rtol=1e-6)
    for one, other in zip(weights, with_callbacks, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@tensorflow_only
def test_ragged_inputs_are_logged():
    import tensorflow as tf

    x = tf.ragged.constant([[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]] * 4)
    y = np.ones((8, 1), "float32")

    class Means(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = penalized(1, "dense")

        def call(self, x):
            return self.dense(
                tf.reduce_mean(x.to_tensor(shape=(None, None, 2)), axis=1)
            )

    model = Means()
    model.compile(
        keras.optimizers.SGD(0.01), "mse", run_eagerly=False, jit_compile=False
    )
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    logs, _ = warned(
        model.fit, data, epochs=2, verbose=0, callbacks=unchanging()
    )
    assert_splits(logs.history)


class OtherCall(keras.Model):
    """Its `call` takes other arguments than its training step is given."""

    def __init__(self):
        super().__init__()
        self.dense = penalized(2, "dense")

    def call(self, left, right):
        return self.dense(ops.concatenate([left, right], axis=-1))


@tensorflow_only
def test_a_call_with_extra_arguments_is_logged():
    class Trained(OtherCall):
        def train_step(self, data):
            x, y = data

            def loss():
                output = self(x[:, :2], x[:, 2:])
                return self.compute_loss(y=y, y_pred=output)

            self(x[:, :2], x[:, 2:])
            loss = minimize(self.optimizer, self.trainable_weights, loss)
            self._loss_tracker.update_state(loss)
            return self.get_metrics_result()

    model = Trained()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    logs, _ = warned(
        model.fit,
        XL,
        YL,
        batch_size=20,
        epochs=2,
        verbose=0,
        callbacks=unchanging(),
    )
    assert_splits(logs.history)


# The split of losses that differ from Keras's ---------------------------------


def test_a_compute_loss_without_the_penalties():
    class Distills(keras.Model):
        def compute_loss(
            self,
            x=None,
            y=None,
            y_pred=None,
            sample_weight=None,
            training=True,
        ):
            return ops.mean((y - y_pred) ** 2)

    inputs = keras.Input((4,))
    model = Distills(inputs, penalized(2, "dense")(inputs), name="distills")
    model.compile(keras.optimizers.SGD(0.1), "mse")
    logger = l2keras.RegularizationLogger(penalties=True)
    data = (XL, YL)
    logs, messages = warned(
        fit, model, *data, [logger], epochs=2, validation_data=data
    )
    for prefix in ("", "val_"):
        assert logs[f"{prefix}regularization_loss"] == [0.0, 0.0]
        assert logs[f"{prefix}regularization_loss/dense/kernel"] == [0.0, 0.0]
        np.testing.assert_allclose(
            logs[f"{prefix}data_loss"], logs[f"{prefix}loss"], rtol=1e-6
        )
    assert messages == [
        "Model 'distills' has penalties, but its `compute_loss` does not add "
        "`model.losses`, so that they are not in the loss, and "
        "`regularization_loss` is 0. Add `sum(self.losses)` to the result of "
        "`compute_loss`."
    ]
    assert warned(fit, model, *data, [logger])[1] == []


def test_the_split_of_a_distiller_warns_of_missing_penalties():
    distillation = pytest.importorskip("keras.distillation")
    teacher = compiled(
        keras.Sequential([keras.Input((10,)), penalized(3, "teacher")])
    )
    student = keras.Sequential([keras.Input((10,)), penalized(3, "student")])
    model = distillation.Distiller(
        teacher=teacher,
        student=student,
        distillation_losses=distillation.LogitsDistillation(),
    )
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    logs, messages = warned(fit, model, X, Y, epochs=2)
    assert logs["regularization_loss"] == [0.0, 0.0]
    np.testing.assert_allclose(logs["data_loss"], logs["loss"], rtol=1e-6)
    assert len(messages) == 1
    assert "`regularization_loss` is 0" in messages[0]


def test_an_unweighted_mean_of_batches_is_split_the_same_way():
    x, y = documented_data()  # The last batch is smaller.
    model = compiled(guide_model(l2keras.L2(0.05), l2keras.L2(0.02)))
    logs = fit(model, x, y, epochs=2, validation_data=(x, y))
    assert_splits(logs, rtol=1e-5)
    assert_splits(logs, "val_", rtol=1e-5)
    # The weighted mean is another one.
    keras.utils.set_random_seed(0)
    again = compiled(guide_model(l2keras.L2(0.05), l2keras.L2(0.02)))
    kind = keras.Model(again.inputs, again.outputs[0])
    weighted = fit(compiled(kind), x, y, epochs=2)
    assert abs(weighted["data_loss"][0] - logs["data_loss"][0]) > 1e-4


def test_each_problem_of_a_model_has_its_own_warning():
    def count_nothing(self, *data):
        if BACKEND == "jax":
            return {"loss": data[0][3][0]}, data[0]
        return {"loss": 0.0}

    class Hides:
        @property
        def metrics(self):
            return keras.Model.metrics.fget(self)[:1]

    model = compiled(
        guide_model(
            l2keras.L2(l2keras.LinearSchedule(0.0, 0.05, steps=8)),
            None,
            name="both",
            train_step=count_nothing,
            metrics=Hides.metrics,
        )
    )
    messages = warned(fit, model, X, Y, epochs=2)[1]
    assert sum("overrides `metrics`" in message for message in messages) == 1
    assert (
        sum("calls no `compute_loss`" in message for message in messages) == 1
    )


@pytest.mark.skipif(BACKEND != "jax", reason="The guide is JAX's.")
def test_a_train_step_that_reads_the_result_of_each_metric():
    def updated_metrics(self, variables, y, y_pred, loss):
        updated, logs = [], {}
        for metric in self.metrics:
            count = len(updated)
            own = variables[count : count + len(metric.variables)]
            if metric.name == "loss":
                own = metric.stateless_update_state(own, loss)
                logs["loss"] = metric.stateless_result(own)
            else:
                own = metric.stateless_update_state(own, y, y_pred)
                logs.update(metric.stateless_result(own).items())
            updated += own
        return logs, updated

    model = compiled(
        guide_model(
            l2keras.L2(0.05),
            l2keras.L2(0.02),
            updated_metrics=updated_metrics,
        ),
        metrics=["accuracy"],
    )
    logs = fit(model, X, Y, epochs=2)
    assert set(logs) == {
        "loss",
        "accuracy",
        "data_loss",
        "regularization_loss",
    }
    assert_splits(logs, rtol=1e-5)


def test_a_loss_that_differs_from_its_parts_warns_once_per_model():
    """The message has numbers in it, and is another at each epoch."""

    def another_loss(self, y, y_pred, loss):
        return update_metrics(self, y, y_pred, 3.0 * loss)

    def other_variables(self, variables, y, y_pred, loss):
        return jax_guide().updated_metrics(
            self, variables, y, y_pred, 3.0 * loss
        )

    logger = l2keras.RegularizationLogger()
    for name in ("first", "second"):
        model = compiled(
            guide_model(
                l2keras.L2(0.05),
                None,
                name=name,
                update_metrics=another_loss,
                updated_metrics=other_variables,
            )
        )
        messages = warned(fit, model, X, Y, [logger], epochs=3)[1]
        assert len(messages) == 1
        assert messages[0].startswith(f"Model {name!r} logs ")
        assert "are not the parts" in messages[0]
