"""Models that people use: of Keras's applications, and of KerasHub."""

import keras
import numpy as np
import pytest
from helpers import BACKEND
from keras import ops
from zoo import losses, state

import l2keras


@pytest.mark.skipif(
    BACKEND == "jax", reason="JAX takes half a minute to build them."
)
@pytest.mark.parametrize(
    "name", ["MobileNetV3Small", "ResNet50", "EfficientNetB0", "ConvNeXtTiny"]
)
def test_models_of_keras_applications_take_the_default(name):
    model = getattr(keras.applications, name)(
        weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    assert losses(model) == []
    done = l2keras.apply_regularizers(model, default=l2keras.L2(0.01))
    kernels = [each for each in model.weights if each.name == "kernel"]
    assert len(kernels) > 40
    assert [path.split("/")[-2:] for path in done] == [
        each.path.split("/")[-2:] for each in kernels
    ]
    expected = sum(
        0.01 * np.sum(ops.convert_to_numpy(each).astype("float64") ** 2)
        for each in kernels
    )
    assert len(model.losses) == len(kernels)
    assert sum(losses(model)) == pytest.approx(expected, rel=1e-5)
    if name == "MobileNetV3Small":
        again = keras.models.model_from_json(model.to_json())
        assert state(again) == state(model)
