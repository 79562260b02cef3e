"""A program of a user, in which type checkers find no error."""

import keras
import numpy as np

import l2keras

model = keras.Sequential(
    [
        keras.Input((4,)),
        keras.layers.Dense(8, kernel_regularizer=l2keras.L2(0.01)),
        keras.layers.Dense(
            1,
            kernel_regularizer=l2keras.L1(
                l2keras.LinearSchedule(0.0, 0.01, steps=100)
            )
            + l2keras.GroupLasso(1e-3, axis=0),
        ),
    ]
)
l2keras.apply_regularizers(model, {".*bias": l2keras.L2(1e-3), "b": None})
optimizer = l2keras.DecoupledWeightDecay(
    keras.optimizers.Adam(), {"dense/kernel": 0.1}, default=0.0
)
model.compile(l2keras.Proximal(optimizer), "mse")
logger = l2keras.RegularizationLogger(penalties=True)
model.fit(np.ones((8, 4)), np.ones((8, 1)), callbacks=[logger])
l2keras.set_scale(model, {"dense/kernel": 0.5})
l2keras.set_step(model, 10)
for record in l2keras.penalties(model):
    path: str = record.path
    penalty: float = record.penalty
small, report = l2keras.compact(model)
before, after = report.parameters
saved: int = before - after


def build_model(strength: float) -> keras.Model:
    return model


result = l2keras.tune_strength(
    build_model, np.ones((8, 4)), np.ones((8, 1)), [0.01, 0.1], epochs=5
)
epoch: int = result.best_epoch
loss: np.ndarray = result.validation_loss
