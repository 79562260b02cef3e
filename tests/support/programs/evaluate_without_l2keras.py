"""Evaluates models where there is Keras alone, all but the last.

Told the files; prints a loss for each.
"""

import sys

import keras
import numpy as np

x = np.ones((2, 3, 4), "float32")
for path in sys.argv[1:]:
    if path.endswith("regularized.keras"):
        assert "l2keras" not in sys.modules
        import l2keras  # noqa: F401, so that Keras knows its classes.
    model = keras.saving.load_model(path)
    print(repr(model.evaluate(x, x, verbose=0)))
