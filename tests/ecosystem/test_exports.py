"""A model with regularizers is exported as the stripped one.

To SavedModel and ONNX, which have no regularizers, schedules and optimizers.
"""

import keras
import numpy as np
import pytest

import l2keras
from tests.support import BACKEND, documented_data, rising_schedule
from tests.support.built_models import attention, functional, transfer

# Keras's, which asks NumPy for a type that it has no more.
pytestmark = pytest.mark.filterwarnings("ignore:In the future .np.object.")

X, Y = documented_data(samples=64)


def trained():
    model = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(8, name="hidden"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.ReLU(),
            keras.layers.Dense(3, activation="softmax", name="output"),
        ]
    )
    rules = {
        "norm/gamma": l2keras.L1(0.1),
        "output/kernel": l2keras.L1(rising_schedule()),
    }
    l2keras.apply_regularizers(model, rules)
    model.compile(
        l2keras.Proximal(keras.optimizers.Adam(0.05)),
        "categorical_crossentropy",
    )
    logger = l2keras.RegularizationLogger()
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[logger])
    return model


def applied(make):
    def make_and_apply():
        model = make()
        l2keras.apply_regularizers(model, default=l2keras.L2(0.1))
        return model

    return make_and_apply


MODELS = {
    "trained by Proximal": trained,
    "attention": applied(attention),
    "two branches": applied(functional),
    "a model in a model": applied(transfer),
}


def inputs_of(model):
    (inputs,) = model.inputs
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, *inputs.shape[1:])).astype("float32")


def by_saved_model(model, folder, x):
    if BACKEND == "torch":
        pytest.skip("Keras exports PyTorch's models by a package of its own.")
    tf = pytest.importorskip("tensorflow")
    model.export(folder / "saved")
    served = tf.saved_model.load(folder / "saved")
    return served.serve(x).numpy()


def by_onnx(model, folder, x):
    pytest.importorskip("tf2onnx" if BACKEND != "torch" else "onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    model.export(folder / "model.onnx", format="onnx")
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (given,) = session.get_inputs()
    (outputs,) = session.run(None, {given.name: x})
    return outputs


@pytest.mark.parametrize("export", [by_saved_model, by_onnx])
@pytest.mark.parametrize("name", MODELS)
def test_an_exported_model_equals_the_stripped_one(export, name, tmp_path):
    model = MODELS[name]()
    assert len(model.losses) > 0
    x = inputs_of(model)
    expected = model.predict(x, verbose=0)
    found = export(model, tmp_path, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    l2keras.strip_regularizers(model)
    assert model.losses == []
    (tmp_path / "stripped").mkdir()
    stripped = export(model, tmp_path / "stripped", x)
    np.testing.assert_array_equal(found, stripped)
