"""keras-tuner and optuna search round `fit`, by the data loss on held-out rows.

So that strengths are compared by their effect on predictions, not by the
penalties that they add to the loss.
"""

import keras
import numpy as np
import pytest

import l2keras
from tests.support import BACKEND, documented_data, documented_model

# The weak strengths are too weak for zeros, as they are meant to be.
pytestmark = pytest.mark.filterwarnings("ignore:No weight of .* is zero")

X, Y = documented_data(samples=64)
STRENGTHS = [1e-3, 1.0, 1e3]


def build(strength):
    model = documented_model(
        l2keras.L2(l2keras.LinearSchedule(0.0, strength, steps=8)),
        l2keras.GroupLasso(strength),
    )
    model.compile(
        l2keras.Proximal(keras.optimizers.SGD(0.1)),
        "categorical_crossentropy",
        run_eagerly=BACKEND == "tensorflow",  # Each model would be compiled.
    )
    return model


def fit(model, **arguments):
    return model.fit(
        X,
        Y,
        epochs=2,
        shuffle=False,
        validation_data=(X, Y),
        verbose=0,
        **arguments,
    )


def data_losses():
    """Returns the last data loss of each strength, by plain fits."""
    losses = {}
    for strength in STRENGTHS:
        keras.utils.set_random_seed(0)
        logger = l2keras.RegularizationLogger()
        history = fit(build(strength), callbacks=[logger]).history
        losses[strength] = history["val_data_loss"][-1]
    return losses


def test_keras_tuner_compares_strengths_by_the_data_loss(tmp_path):
    keras_tuner = pytest.importorskip("keras_tuner")

    class Tuned(keras_tuner.HyperModel):
        def build(self, hp):
            keras.utils.set_random_seed(0)
            return build(hp.Choice("strength", STRENGTHS))

        def fit(self, hp, model, callbacks, **arguments):
            callbacks = [l2keras.RegularizationLogger(), *callbacks]
            return fit(model, callbacks=callbacks)

    tuner = keras_tuner.GridSearch(
        Tuned(),
        objective=keras_tuner.Objective("val_data_loss", direction="min"),
        directory=tmp_path,
        project_name="strengths",
    )
    tuner.search(verbose=0)
    trials = tuner.oracle.get_best_trials(len(STRENGTHS))
    found = {trial.hyperparameters["strength"]: trial for trial in trials}
    for strength, loss in data_losses().items():
        history = found[strength].metrics.metrics["val_data_loss"]
        (best,) = history.get_history()
        # Of the epochs, keras-tuner takes the best.
        assert best.value[0] <= loss * (1 + 1e-5)
        assert "val_regularization_loss" in found[strength].metrics.metrics
    # A checkpoint that keras-tuner saved has the schedules and the steps.
    model = tuner.get_best_models(1)[0]
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(
        trials[0].metrics.get_best_value("val_loss"), rel=1e-4
    )


def test_optuna_compares_strengths_by_the_data_loss():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial):
        keras.utils.set_random_seed(0)
        strength = trial.suggest_float("strength", 1e-3, 1e3, log=True)
        logger = l2keras.RegularizationLogger()
        history = fit(build(strength), callbacks=[logger]).history
        for epoch, value in enumerate(history["val_data_loss"]):
            trial.report(value, epoch)
        return history["val_data_loss"][-1]

    study = optuna.create_study(
        sampler=optuna.samplers.GridSampler({"strength": STRENGTHS})
    )
    study.optimize(objective, n_trials=len(STRENGTHS))
    found = {trial.params["strength"]: trial.value for trial in study.trials}
    expected = data_losses()
    assert sorted(found) == STRENGTHS
    np.testing.assert_allclose(
        [found[strength] for strength in STRENGTHS],
        list(expected.values()),
        rtol=1e-5,
    )
    assert study.best_params["strength"] == min(expected, key=expected.get)
