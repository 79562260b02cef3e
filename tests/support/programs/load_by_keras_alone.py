"""Loads a model where there is no l2keras; prints where its optimizer is."""

import sys

sys.modules["l2keras"] = None  # As if it were not installed.

import keras  # noqa: E402

model = keras.saving.load_model(sys.argv[1])
print(model.optimizer.name, int(model.optimizer.iterations))
