"""Imports l2keras on a backend of another package; prints why it cannot be.

Those packages run on few machines, and Keras's own fourth, NumPy's, needs JAX:
so Keras is only told to say that it runs on one.
"""

import keras

keras.backend.backend = lambda: "mlx"
try:
    import l2keras
except ImportError as error:
    print(error)
else:
    print(l2keras.__version__)
