"""Small networks for scikit-learn's digits, with units that training left zero.

A convolutional network with batch normalization and a residual connection, and
a transformer whose tokens are the rows of an image.
"""

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import l2keras

STRENGTHS = {"digits-convolutional": 0.01, "digits-transformer": 0.0007}
NETWORKS = list(STRENGTHS)


def load():
    """Returns 1,197 images to train on with their labels, and 600 to test."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).reshape(-1, 8, 8, 1).astype("float32")
    x, x_test, y, y_test = train_test_split(
        images, labels, test_size=600, stratify=labels, random_state=0
    )
    return x, y, x_test, y_test


def convolutional(strength):
    inputs = keras.Input((8, 8, 1))

    def convolved(x, filters):
        x = keras.layers.Conv2D(filters, 3, padding="same")(x)
        # It cancels the scale of the kernel, so its own is penalized.
        return keras.layers.BatchNormalization(
            gamma_regularizer=l2keras.L1(strength)
        )(x)

    x = keras.layers.ReLU()(convolved(inputs, 32))
    inner = keras.layers.ReLU()(convolved(x, 64))
    x = keras.layers.ReLU()(x + convolved(inner, 32))
    x = keras.layers.Flatten()(keras.layers.MaxPooling2D()(x))
    x = keras.layers.Dense(
        96, activation="relu", kernel_regularizer=l2keras.GroupLasso(strength)
    )(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def transformer(strength):
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Dense(32)(keras.layers.Reshape((8, 8))(inputs))
    for _ in range(2):
        attention = keras.layers.MultiHeadAttention(8, 8)
        x = keras.layers.LayerNormalization()(x + attention(x, x))
        inner = keras.layers.Dense(
            128,
            activation="relu",
            kernel_regularizer=l2keras.GroupLasso(strength, scale_by_size=True),
        )(x)
        x = keras.layers.LayerNormalization()(x + keras.layers.Dense(32)(inner))
    x = keras.layers.Flatten()(x)
    model = keras.Model(inputs, keras.layers.Dense(10)(x))
    # A head is off if the output kernel has only zeros for it: its axis 0.
    l2keras.apply_regularizers(
        model,
        {
            ".*/attention_output/kernel": l2keras.GroupLasso(
                strength, axis=0, scale_by_size=True
            )
        },
    )
    return model


def train(name, epochs):
    """Returns a network trained under `Proximal`."""
    keras.utils.set_random_seed(0)
    make = convolutional if name == "digits-convolutional" else transformer
    model = make(STRENGTHS[name])
    x, y, x_test, y_test = load()
    steps = epochs * -(-len(x) // 64)
    model.compile(
        l2keras.Proximal(
            keras.optimizers.Adam(
                keras.optimizers.schedules.CosineDecay(0.005, steps)
            )
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    right = np.mean(model.predict(x_test, verbose=0).argmax(axis=1) == y_test)
    print(f"  {name}: {right:.3f} of 600 test images right")
    return model
