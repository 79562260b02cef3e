"""Searches for the tests: models, data, and the plain fits to compare with."""

import contextlib

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from l2keras import L2
from tests.support import BACKEND

# Where a choice lies is of no concern to most of these tests.
EXPECTED_WARNINGS = [
    pytest.mark.filterwarnings("ignore:The best strength"),
    # Nor are the results of such short trainings.
    pytest.mark.filterwarnings("ignore:No weight of .* is zero"),
    # Of Keras, about a layer that takes no part.
    pytest.mark.filterwarnings("ignore:Gradients do not exist"),
]

layers, optimizers = keras.layers, keras.optimizers

ROWS = 80
STRENGTHS = [0.01, 0.3]

RNG = np.random.default_rng(5)
X = RNG.normal(size=(ROWS, 6)).astype("float32")
LABELS = (X @ RNG.normal(size=6) > 0).astype("int32") + (X[:, 0] > 1)
WEIGHT = RNG.uniform(0.5, 2.0, size=ROWS).astype("float32")
ORDER = RNG.permutation(ROWS)

# As many rows in both, but neither a multiple of 16, nor in any order.
FOLDS = [(ORDER[:44], ORDER[44:]), (ORDER[36:], ORDER[:36])]


def net(
    *between,
    optimizer=lambda: optimizers.Adam(0.01),
    loss="sparse_categorical_crossentropy",
    metrics=("accuracy",),
    last=lambda strength: layers.Dense(3, "softmax"),
    regularizer=L2,
    **arguments,
):
    """Returns a function from a strength to a model with these parts."""

    def build_model(strength):
        model = keras.Sequential(
            [
                keras.Input((6,)),
                layers.Dense(
                    8,
                    activation="relu",
                    kernel_regularizer=regularizer(strength),
                    name="hidden",
                    **arguments,
                ),
                *(make() for make in between),
                last(strength),
            ],
            name="net",
        )
        model.compile(optimizer(), loss, metrics=list(metrics))
        return model

    return build_model


def classifier(make, run_eagerly=False):
    """Returns a function from a strength to a classifier of class `make`."""

    def build_model(strength):
        model = make(strength)
        model.compile(
            optimizers.Adam(0.01),
            "sparse_categorical_crossentropy",
            # Not the accuracy, which jumps where rounding decides.
            metrics=["sparse_categorical_crossentropy"],
            run_eagerly=run_eagerly,
        )
        return model

    return build_model


def several(strength):
    """Returns a model with two inputs and two outputs."""
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    hidden = layers.Dense(5, "tanh", kernel_regularizer=L2(strength))(
        layers.concatenate([a, b])
    )
    model = keras.Model(
        {"a": a, "b": b},
        {
            "p": layers.Dense(3, "softmax", name="p")(hidden),
            "q": layers.Dense(1, name="q", kernel_regularizer=L2(strength / 4))(
                hidden
            ),
        },
    )
    model.compile(
        "adam",
        {"p": "sparse_categorical_crossentropy", "q": "mse"},
        metrics={"p": ["accuracy"], "q": ["mae"]},
    )
    return model


def convolutional(strength, dropout=0.3):
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Reshape((6, 1)),
            # No bias: the normalization would cancel it, so that rounding alone
            # would decide where Adam moves it.
            layers.Conv1D(
                4, 3, use_bias=False, kernel_regularizer=L2(strength)
            ),
            layers.BatchNormalization(),
            layers.Flatten(),
            *([layers.Dropout(dropout, name="dropout")] if dropout else []),
            layers.Dense(3, "softmax"),
        ]
    )


def recurrent(strength, dropout=0.0):
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Reshape((3, 2)),
            layers.LSTM(4, kernel_regularizer=L2(strength), dropout=dropout),
            layers.Dense(3, "softmax"),
        ]
    )


def bidirectional(strength, strength_of=lambda strength: strength):
    """Returns a model with a layer that makes others from its config."""
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Reshape((3, 2)),
            layers.Bidirectional(
                layers.SimpleRNN(
                    4, kernel_regularizer=L2(strength_of(strength))
                )
            ),
            layers.Dense(3, "softmax"),
        ]
    )


def masked(strength):
    """Returns a model whose loss and metrics leave out some of the outputs."""
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Reshape((6, 1)),
            layers.Masking(),
            layers.Dense(4, "tanh", kernel_regularizer=L2(strength)),
            layers.Dense(1),
        ]
    )
    model.compile(optimizers.Adam(0.01), "mse", metrics=["mae"])
    return model


class RandomFeatures(layers.Layer):
    """Has a constant that is no variable."""

    def __init__(self):
        super().__init__()
        self.matrix = np.random.normal(size=(6, 8))  # noqa: NPY002

    def call(self, inputs):
        return ops.cos(ops.matmul(inputs, self.matrix.astype("float32")))


def with_random_constant(strength):
    return keras.Sequential(
        [keras.Input((6,)), RandomFeatures(), Own(strength)]
    )


class GlobalNoise(layers.Layer):
    def call(self, inputs, training=False):
        if not training:
            return inputs
        return inputs + 0.5 * keras.random.normal(ops.shape(inputs))


def with_global_noise(strength):
    return keras.Sequential([keras.Input((6,)), GlobalNoise(), Own(strength)])


class Anneal(layers.Layer):
    """Counts in Python, which `fit` does too where it is not compiled."""

    calls = 0

    def call(self, inputs, training=False):
        if training:
            self.calls += 1
        return inputs * min(1.0, 0.1 + self.calls / 40)


def annealing(strength):
    return keras.Sequential(
        [keras.Input((6,)), Anneal(name="anneal"), Own(strength)]
    )


class Own(keras.Model):
    def __init__(self, strength, strength_of=lambda strength: 2 * strength):
        super().__init__()
        self.hidden = layers.Dense(
            5, "relu", kernel_regularizer=L2(strength_of(strength))
        )
        self.last = layers.Dense(3, "softmax")

    def call(self, inputs):
        return self.last(self.hidden(inputs))


class Idle(Own):
    """Has a layer that takes no part."""

    def __init__(self, strength):
        super().__init__(strength)
        self.idle = layers.Dense(2)
        self.idle.build((None, 6))


class OwnLoss(Own):
    # Reads the weights themselves, and has no `training` among the arguments.
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        loss = super().compute_loss(x, y, y_pred, sample_weight)
        return loss + 0.1 * ops.mean(ops.abs(self.hidden.kernel))


class OwnStep(Own):
    def train_step(self, *arguments):
        return super().train_step(*arguments)


def with_number(strength):
    """Returns a model that cannot be made for all strengths at once."""
    return Own(float(strength))


def decaying(strength, strength_of=lambda strength: strength):
    """Returns a model whose weights the optimizer decays."""
    model = Own(0.0)
    model.compile(
        l2keras.DecoupledWeightDecay(
            optimizers.Adam(0.01), default=strength_of(strength)
        ),
        "sparse_categorical_crossentropy",
        run_eagerly=EAGER,
    )
    return model


EAGER = BACKEND != "torch"  # Compiling each replica would take a minute.


def select_rows(tree, rows):
    return keras.tree.map_structure(lambda array: array[rows], tree)


def plain_fit(
    build_model,
    strength,
    fold,
    rows,
    x,
    y,
    sample_weight=None,
    batch_size=16,
    epochs=2,
    shuffle=True,
    seed=0,
):
    """Returns the history of a plain fit of one fold with one strength."""
    keras.utils.set_random_seed(seed + fold)
    model = build_model(float(strength))
    if BACKEND != "torch":
        model.run_eagerly = True  # To compile it would take a second or two.
    data = x, y, *(() if sample_weight is None else (sample_weight,))
    train, validation = rows
    logger = l2keras.RegularizationLogger()

    def fit(order, first, last):
        taken = [select_rows(array, order) for array in data]
        return model.fit(
            *taken[:2],
            sample_weight=taken[2] if len(taken) > 2 else None,
            batch_size=batch_size,
            shuffle=False,
            initial_epoch=first,
            epochs=last,
            validation_data=tuple(
                select_rows(array, validation) for array in data
            ),
            validation_batch_size=batch_size,
            callbacks=[logger],
            verbose=0,
        ).history

    if not shuffle:
        return fit(train, 0, epochs)
    history = {}
    for epoch in range(epochs):
        rng = np.random.default_rng([seed, fold, epoch])
        for name, values in fit(
            rng.permutation(train), epoch, epoch + 1
        ).items():
            history[name] = history.get(name, []) + values
    return history


@contextlib.contextmanager
def told_why(reason):
    """Expects the warning of sequential training, if there is a reason.

    Args:
        reason: How the reason begins.
    """
    if reason is None:
        yield
        return
    with pytest.warns(
        UserWarning, match="Falling back to sequential training"
    ) as warned:
        yield
    (told,) = (
        str(warning.message)
        for warning in warned
        if warning.category is UserWarning
        and not str(warning.message).startswith("The best strength")
    )
    assert told.startswith(f"Falling back to sequential training: {reason}")


def tune(build_model, x=X, y=LABELS, strengths=STRENGTHS, **arguments):
    arguments = {
        "folds": FOLDS,
        "epochs": 2,
        "batch_size": 16,
        "verbose": 0,
        **arguments,
    }
    return l2keras.tune_strength(build_model, x, y, strengths, **arguments)


def assert_same(one, other, **tolerance):
    """Asserts that two results have the same losses and metrics."""
    assert set(one.metrics) == set(other.metrics)
    for ours, others in (
        (one.validation_loss, other.validation_loss),
        (one.train_loss, other.train_loss),
        *((one.metrics[name], other.metrics[name]) for name in one.metrics),
    ):
        np.testing.assert_allclose(ours, others, **tolerance)


def interrupt(monkeypatch, number, by=None):
    """Has Ctrl-C pressed when so many epochs were trained.

    While the progress bar is drawn, and before anything is written to a file.
    """
    update, calls = keras.utils.Progbar.update, []

    def pressed(*arguments, **options):
        calls.append(arguments)
        if len(calls) == number:
            if by is not None:
                by()
            raise KeyboardInterrupt
        return update(*arguments, **options)

    monkeypatch.setattr(keras.utils.Progbar, "update", pressed)


def with_dropout(strength):
    """Returns a model with all that a replica can have for a state."""
    return net(
        layers.BatchNormalization,
        lambda: layers.Dropout(0.3, name="dropout"),
    )(strength)


def with_momentum(strength):
    return net(
        layers.BatchNormalization,
        optimizer=lambda: optimizers.SGD(0.1, momentum=0.9),
        regularizer=lambda strength: l2keras.L1L2(
            strength, l2keras.LinearSchedule(0.0, 0.1, steps=9)
        ),
    )(strength)


def by_fit(strength):
    model = net(
        layers.BatchNormalization,
        optimizer=lambda: optimizers.SGD(0.1, momentum=0.9),
    )(float(strength))
    model.run_eagerly = EAGER
    return model
