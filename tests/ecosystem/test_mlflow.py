"""Autologging of mlflow on a model whose regularizers were applied.

mlflow saves the model that it logs, which failed where a penalty was put on a
model that was built already (mlflow issue 5530).
"""

import keras
import numpy as np
import pytest

import l2keras
from tests.support import BACKEND, documented_data, documented_model

X, Y = documented_data(samples=64)
L2 = l2keras.L2(l2keras.LinearSchedule(0.0, 0.1, steps=8))


@pytest.fixture
def mlflow(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_experiment(
        experiment_id=mlflow.create_experiment(
            "penalties", artifact_location=(tmp_path / "artifacts").as_uri()
        )
    )
    return mlflow


@pytest.mark.skipif(BACKEND != "tensorflow", reason="mlflow's needs it.")
@pytest.mark.filterwarnings("ignore")  # Many of mlflow's, at each call.
def test_an_applied_model_is_autologged_and_loaded(mlflow):
    mlflow.tensorflow.autolog()
    model = documented_model(None, None)
    l2keras.apply_regularizers(model, default=L2)
    model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
    logger = l2keras.RegularizationLogger()
    history = model.fit(
        X, Y, epochs=2, verbose=0, validation_data=(X, Y), callbacks=[logger]
    ).history
    run = mlflow.last_active_run()
    mlflow.tensorflow.autolog(disable=True)
    for key, values in history.items():
        steps = mlflow.MlflowClient().get_metric_history(run.info.run_id, key)
        assert [step.value for step in steps] == pytest.approx(values)
    assert "val_data_loss" in history
    loaded = mlflow.tensorflow.load_model(f"runs:/{run.info.run_id}/model")
    np.testing.assert_array_equal(
        loaded.predict(X, verbose=0), model.predict(X, verbose=0)
    )
    # The optimizer in its file is a new one, with Keras alone as well, so the
    # schedule is there but its step is not.
    assert [
        (r.path, repr(r.regularizer)) for r in l2keras.penalties(loaded)
    ] == [(r.path, repr(r.regularizer)) for r in l2keras.penalties(model)]
