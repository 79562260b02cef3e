"""A program of a user, with a wrong type in each line marked as such."""

import keras
import numpy as np

import l2keras

model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
l2keras.L2("0.01")  # wrong
l2keras.L2(strength=0.01)  # wrong
l2keras.GroupLasso(0.01, axis="0")  # wrong
l2keras.LinearSchedule(0.0, 0.01, steps="100")  # wrong
l2keras.apply_regularizers(model, [("kernel", l2keras.L2())])  # wrong
l2keras.apply_regularizers(model, rules=None, defaults=None)  # wrong
l2keras.set_step(model, "10")  # wrong
l2keras.set_scale(model, 0.5)  # wrong
l2keras.RegularizationLogger(penalties="all")  # wrong
l2keras.DecoupledWeightDecay(keras.optimizers.Adam(), 0.1)  # wrong
path: int = l2keras.penalties(model)[0].path  # wrong
parameters: int = l2keras.compact(model)[1]  # wrong
l2keras.tune_strength(model, np.ones(8), np.ones(8), [0.1], epochs="5")  # wrong
