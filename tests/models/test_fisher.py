"""Squares of gradients of the data loss, of single examples, as in NumPy."""

import keras
import numpy as np
import pytest

import l2keras

RNG = np.random.default_rng(4)
X = RNG.normal(size=(10, 5)).astype("float32")
Y = RNG.normal(size=(10, 3)).astype("float32")


def linear(**arguments):
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense(3, name="dense", **arguments)
    return keras.Sequential([keras.Input((5,)), dense])


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_of_a_linear_regression_it_is_that_of_numpy(batch_size, capsys):
    # The penalty, which is no part of the data loss, makes no difference.
    model = linear(kernel_regularizer=l2keras.L2(10.0))
    model.compile("sgd", "mse")
    found = l2keras.fisher_importance(
        model, X, Y, batch_size=batch_size, verbose=True
    )
    assert "10/10" in capsys.readouterr().out
    w, b = (each.astype("float64") for each in model.get_weights())
    slopes = 2 * (X @ w + b - Y) / 3
    assert list(found) == ["dense/kernel", "dense/bias"]
    np.testing.assert_allclose(
        found["dense/kernel"],
        np.einsum("ni,nj->nij", X**2, slopes**2).mean(axis=0),
        rtol=1e-4,
    )
    np.testing.assert_allclose(
        found["dense/bias"], (slopes**2).mean(axis=0), rtol=1e-4
    )


def test_of_a_network_it_is_the_mean_of_squared_steps_of_sgd():
    """A step of SGD on one example, from the same weights, is its gradient."""

    def network():
        keras.utils.set_random_seed(0)
        return keras.Sequential(
            [
                keras.Input((6, 6, 1)),
                keras.layers.Conv2D(3, 3, activation="relu", name="conv"),
                keras.layers.Flatten(),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(4, activation="softmax", name="out"),
            ]
        )

    x = RNG.normal(size=(7, 6, 6, 1)).astype("float32")
    y = RNG.integers(0, 4, size=7)
    model = network()
    loss = "sparse_categorical_crossentropy"
    found = l2keras.fisher_importance(model, x, y, loss, batch_size=3)
    # Without its dropout, since that is for training only.
    plain = keras.Sequential(
        [keras.Input((6, 6, 1))]
        + [e for e in model.layers if not isinstance(e, keras.layers.Dropout)]
    )
    plain.compile(keras.optimizers.SGD(1.0), loss)
    before = plain.get_weights()
    squares = [0.0] * len(before)
    for index in range(len(x)):
        plain.set_weights(before)
        plain.train_on_batch(x[index : index + 1], y[index : index + 1])
        squares = [
            total + (old - new) ** 2 / len(x)
            for total, old, new in zip(
                squares, before, plain.get_weights(), strict=True
            )
        ]
    assert list(found) == [
        "conv/kernel",
        "conv/bias",
        "out/kernel",
        "out/bias",
    ]
    for one, other in zip(found.values(), squares, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)


def test_embeddings_that_no_example_has_are_free_and_frozen_weights_left_out():
    model = keras.Sequential(
        [
            keras.Input((2,), dtype="int32"),
            keras.layers.Embedding(5, 3, name="words"),
            keras.layers.Flatten(),
            keras.layers.Dense(1, name="frozen", trainable=False),
        ]
    )
    x, y = np.array([[0, 2], [2, 2]]), np.array([[1.0], [2.0]])
    (found,) = l2keras.fisher_importance(model, x, y, "mse").values()
    assert (found[[1, 3, 4]] == 0).all()
    assert (found[[0, 2]] != 0).any(axis=1).all()


def test_it_is_what_set_start_takes():
    model = linear()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X, Y, epochs=2, verbose=0)
    pull = l2keras.FromStart(l2keras.L2(0.5))
    l2keras.apply_regularizers(model, {"dense/.*": pull})
    importance = l2keras.fisher_importance(model, X, Y)
    l2keras.set_start(model, importance=importance)
    kernel, bias = model.get_weights()
    model.set_weights([kernel + 1.0, bias])
    expected = 0.5 * importance["dense/kernel"].sum()
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": None}, "must be one loss"),
        ({"loss": ["mse"]}, r"must be one loss.*Received: loss=\['mse'\]"),
        ({"x": X[:3], "loss": "mse"}, "same number of examples"),
        ({"x": X[:0], "y": Y[:0], "loss": "mse"}, "at least one"),
        ({"loss": "mse", "batch_size": 0}, "`batch_size` must be an integer"),
    ],
)
def test_mistakes_are_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        l2keras.fisher_importance(linear(), **{"x": X, "y": Y, **arguments})
