"""Prints the loss of a saved model, of which it knows nothing but the file."""

import sys

import keras

import l2keras  # noqa: F401, so that Keras knows its classes.
from tests.support import documented_data

model = keras.saving.load_model(sys.argv[1])
x, y = documented_data(samples=64)
print(repr(model.evaluate(x, y, verbose=0)))
