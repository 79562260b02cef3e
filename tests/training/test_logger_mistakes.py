"""Models whose loss the logger cannot split: it warns of them or refuses."""

import keras
import pytest

import l2keras
from tests.support import (
    BACKEND,
    assert_weights,
    documented_data,
    documented_model,
    rising,
    rising_schedule,
    simulate,
)
from tests.support.custom_train_steps import guide_model
from tests.support.logged_trainings import X, Y, compiled, fit, warned


def test_a_train_step_without_compute_loss_warns():
    def compute_nothing(self, *data):
        if BACKEND == "jax":
            return {"loss": data[0][3][0]}, data[0]
        return {"loss": 0.0}

    model = compiled(
        guide_model(
            l2keras.L2(0.1), None, name="silent", train_step=compute_nothing
        )
    )
    x, y = documented_data(samples=32)
    logger = l2keras.RegularizationLogger()
    messages = warned(fit, model, x, y, [logger], epochs=2)[1]
    assert messages == [
        "Model 'silent' calls no `compute_loss` in its `train_step`, so that "
        "l2keras cannot split the loss. Let `train_step` take the loss from "
        "`self.compute_loss(x, y, y_pred, sample_weight)`, or on JAX from "
        "`self.stateless_compute_loss(...)`."
    ]


def test_a_model_that_hides_metrics_warns_and_follows_its_schedules():
    class Hides(keras.Model):
        @property
        def metrics(self):
            return super().metrics[:1]

    documented = documented_model(l2keras.L2(rising_schedule()), None)
    model = compiled(
        Hides(documented.inputs, documented.outputs[0], name="hiding")
    )
    start = model.get_weights()
    logs, messages = warned(fit, model, X, Y)
    assert messages == [
        "Model 'hiding' overrides `metrics` and leaves out l2keras's, so that "
        "Keras logs no `data_loss` and no `regularization_loss`. Let it return "
        "`[*super().metrics, ...]`."
    ]
    assert set(logs) == {"loss"}
    # The schedules are followed all the same.
    truth = simulate(start, X, Y, first=rising, second=lambda step: 0.0)
    assert_weights(model, truth.weights)


# Refusals.


CLASH = (
    "Model 'clash' logs 'data_loss' already, which l2keras uses for its part "
    "of the loss. Give the metric, or the output that it is named after, "
    "another name."
)


def clash_by_output():
    inputs = keras.Input((10,))
    outputs = [
        keras.layers.Dense(
            3, name=name, kernel_regularizer=l2keras.L2(rising_schedule())
        )(inputs)
        for name in ("data", "other")
    ]
    model = keras.Model(inputs, outputs, name="clash")
    return compiled(model, loss=["mse", "mse"]), [Y, Y]


def clash_by_metric():
    documented = documented_model(l2keras.L2(rising_schedule()), None)
    model = keras.Model(documented.inputs, documented.outputs[0], name="clash")
    metric = keras.metrics.MeanSquaredError(name="data_loss")
    return compiled(model, metrics=[metric]), Y


@pytest.mark.parametrize("build", [clash_by_output, clash_by_metric])
@pytest.mark.parametrize("trained", [False, True], ids=["new", "trained"])
def test_a_metric_name_that_clashes_is_refused_and_changes_nothing(
    build, trained
):
    model, y = build()
    if trained:
        warned(fit, model, X, y, [])
    variables = [id(variable) for variable in model.variables]
    metrics = [metric.name for metric in model.metrics]
    with pytest.raises(ValueError, match="logs 'data_loss' already") as caught:
        fit(model, X, y)
    assert str(caught.value) == CLASH
    assert [id(variable) for variable in model.variables] == variables
    assert "compute_loss" not in vars(model)
    assert not {"regularization_loss"} & {
        metric.name for metric in model.metrics
    }
    if trained:
        assert [metric.name for metric in model.metrics] == metrics
    assert "data_loss" in warned(fit, model, X, y, [])[0]


def test_an_uncompiled_model_is_refused():
    logger = l2keras.RegularizationLogger()
    model = documented_model(l2keras.L2(0.1), None)
    for given in (model, None):
        logger.set_model(given)
        with pytest.raises(ValueError, match="must be compiled") as caught:
            logger.on_train_begin()
        assert str(caught.value) == (
            "The model must be compiled before its losses can be logged. Call "
            "`model.compile(...)` first."
        )
