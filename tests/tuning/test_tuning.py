"""The search for a strength finds what as many plain fits would have found."""

import contextlib
import csv
import dataclasses
import functools
import re
import signal
import warnings

import keras
import numpy as np
import pytest
from helpers import BACKEND, outputs, start_python
from keras import ops

import l2keras
from l2keras import L2
from l2keras.tuning import backup, trainers

model_selection = pytest.importorskip(
    "sklearn.model_selection", reason="scikit-learn is not installed"
)

# Where a choice lies is of no concern to most of these tests.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The best strength"),
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
    """Returns a function from a strength to what `make` makes of it."""

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


def convolutional(strength):
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
            layers.Dropout(0.3, name="dropout"),
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


class Own(keras.Model):
    def __init__(self, strength):
        super().__init__()
        self.hidden = layers.Dense(
            5, "relu", kernel_regularizer=L2(2 * strength)
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


def decaying(strength):
    """Returns a model whose weights the optimizer decays."""
    model = Own(0.0)
    model.compile(
        l2keras.DecoupledWeightDecay(optimizers.Adam(0.01), default=strength),
        "sparse_categorical_crossentropy",
        run_eagerly=EAGER,
    )
    return model


class Kind(tuple):
    """A build_model, how it is trained, and why one after another."""

    def __new__(cls, build, why=None, on=None, data=None, **kwargs):
        return super().__new__(cls, (build, why, on, data, kwargs))


EAGER = BACKEND != "torch"  # Compiling each replica would take a minute.
NOT_JAX, TORCH = ("tensorflow", "torch"), ("torch",)

KINDS = {
    "a plain net": Kind(net()),
    "a plain net, other sizes of folds": Kind(
        net(), folds=model_selection.TimeSeriesSplit(2)
    ),
    "a batch for all": Kind(net(), batch_size=64),
    "batches without a rest": Kind(net(), batch_size=4),
    "SGD with momentum": Kind(
        net(optimizer=lambda: optimizers.SGD(0.1, 0.9, nesterov=True))
    ),
    "AdamW": Kind(
        net(optimizer=lambda: optimizers.AdamW(0.01, weight_decay=0.1))
    ),
    "a learning rate that falls": Kind(
        net(
            optimizer=lambda: optimizers.SGD(
                optimizers.schedules.CosineDecay(0.1, 6)
            )
        )
    ),
    "gradient accumulation": Kind(
        net(
            optimizer=lambda: optimizers.SGD(0.1, gradient_accumulation_steps=2)
        )
    ),
    "averages of weights": Kind(
        net(optimizer=lambda: optimizers.SGD(0.1, use_ema=True)),
        shuffle=False,
    ),
    "BatchNormalization": Kind(net(layers.BatchNormalization)),
    "Dropout": Kind(
        net(lambda: layers.Dropout(0.5, name="dropout")),
        "layer 'dropout' draws random numbers",
        TORCH,
    ),
    "clipping by norm": Kind(
        net(optimizer=lambda: optimizers.Adam(clipnorm=0.1)),
        "Adam clips by a norm",
        NOT_JAX,
    ),
    "Lamb": Kind(
        net(optimizer=lambda: optimizers.Lamb(0.01)),
        "Lamb may mix the elements of a weight",
        NOT_JAX,
    ),
    "a constraint": Kind(
        net(kernel_constraint=keras.constraints.MaxNorm(0.5)),
        "weight 'hidden/kernel' has a constraint",
        NOT_JAX,
    ),
    "a loss that is scaled": Kind(
        net(
            optimizer=lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.1))
        ),
        "LossScaleOptimizer wraps another optimizer",
        NOT_JAX,
    ),
    "weights of rows": Kind(net(), sample_weight=WEIGHT),
    "one-hot labels": Kind(
        net(loss="categorical_crossentropy"),
        data=(X, np.eye(3, dtype="float32")[LABELS]),
    ),
    "regression": Kind(
        net(loss="mse", metrics=["mae"], last=lambda strength: layers.Dense(2)),
        data=(X, X[:, :2] ** 2),
    ),
    "a metric that is no mean": Kind(
        net(
            loss="binary_crossentropy",
            metrics=["auc"],
            last=lambda strength: layers.Dense(1, "sigmoid"),
        ),
        data=(X, (LABELS > 0).astype("float32")[:, None]),
    ),
    "several inputs and outputs": Kind(
        several,
        data=({"a": X, "b": X**2}, {"p": LABELS, "q": X[:, :1]}),
    ),
    "a second strength, scheduled": Kind(
        net(
            regularizer=lambda strength: l2keras.L1L2(
                strength, l2keras.LinearSchedule(0.0, 0.1, steps=5)
            )
        )
    ),
    "a regularizer of activities": Kind(
        net(
            last=lambda strength: layers.Dense(
                3, "softmax", activity_regularizer=L2(strength / 2)
            )
        )
    ),
    "convolution": Kind(
        classifier(convolutional),
        "layer 'dropout' draws random numbers",
        TORCH,
    ),
    "convolution, four at once": Kind(
        classifier(convolutional),
        "layer 'dropout' draws random numbers",
        TORCH,
        at_once=4,
    ),
    "LSTM": Kind(classifier(recurrent)),
    "LSTM, four at once": Kind(classifier(recurrent), at_once=4),
    "LSTM with dropout": Kind(
        classifier(functools.partial(recurrent, dropout=0.2)),
        "layer 'lstm_cell' draws random numbers",
        TORCH,
    ),
    "a subclassed model": Kind(classifier(Own)),
    "a compute_loss of its own": Kind(classifier(OwnLoss)),
    "a layer that takes no part": Kind(classifier(Idle)),
    "decay by the optimizer": Kind(
        decaying, "DecoupledWeightDecay wraps another optimizer", NOT_JAX
    ),
    "a train_step of its own": Kind(
        classifier(OwnStep, run_eagerly=EAGER),
        "the model has a `train_step` of its own",
    ),
    "a number for a strength": Kind(
        classifier(with_number, run_eagerly=EAGER),
        "`build_model` asks for the value of the strength",
    ),
}

# JAX and TensorFlow compile, for seconds, and these add little to the others.
ON_TORCH_ONLY = [
    "a plain net",
    "a batch for all",
    "batches without a rest",
    "SGD with momentum",
    "a learning rate that falls",
    "one-hot labels",
    "regression",
    "a metric that is no mean",
    "a regularizer of activities",
    "convolution",
    "a subclassed model",
    "LSTM",
    "LSTM with dropout",
]


def take(tree, rows):
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
        taken = [take(each, order) for each in data]
        return model.fit(
            *taken[:2],
            sample_weight=taken[2] if len(taken) > 2 else None,
            batch_size=batch_size,
            shuffle=False,
            initial_epoch=first,
            epochs=last,
            validation_data=tuple(take(each, validation) for each in data),
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
    """Expects the warning of a slower way, if there is a reason for it."""
    if reason is None:
        yield
        return
    with pytest.warns(UserWarning, match="one after another") as warned:
        yield
    assert [
        str(each.message)
        for each in warned
        if each.category is UserWarning
        and not str(each.message).startswith("The best strength")
    ] == [f"The replicas are trained one after another: {reason}."]


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


# The same as plain fits -------------------------------------------------------


@pytest.mark.parametrize(
    ("build_model", "why", "on", "data", "options"),
    [
        pytest.param(*row, id=name)
        for name, row in KINDS.items()
        if BACKEND == "torch" or name not in ON_TORCH_ONLY
    ],
)
def test_replicas_are_trained_as_by_plain_fits(
    build_model, why, on, data, options
):
    reason = why if on is None or BACKEND in on else None
    x, y = data or (X, LABELS)
    with told_why(reason):
        result = tune(build_model, x, y, **options)
    assert result.one_by_one == reason
    assert result.validation_loss.shape == (2, 2, 2)
    options = {
        name: value
        for name, value in options.items()
        if name not in ("folds", "at_once")
    }
    for s, f in ((0, 0), (1, 1)):
        history = plain_fit(
            build_model, STRENGTHS[s], f, result.folds[f], x, y, **options
        )
        ours = {
            "data_loss": result.train_loss,
            "val_data_loss": result.validation_loss,
            **result.metrics,
        }
        # But for what has the penalty in it, or is of one output only.
        assert set(ours) == {
            name for name in history if not re.search(r"(^|[^a]_)loss$", name)
        }
        for name, values in ours.items():
            np.testing.assert_allclose(
                values[s, f], history[name], rtol=0, atol=1e-5, err_msg=name
            )


def test_a_compute_loss_of_its_own_is_told_of_where_fit_trains():
    class Both(OwnLoss, OwnStep):
        pass

    with (
        pytest.warns(UserWarning, match="what is left of it without"),
        pytest.warns(UserWarning, match="one after another"),
    ):
        result = tune(classifier(Both, run_eagerly=EAGER))
    assert result.one_by_one == "the model has a `train_step` of its own"
    expected = tune(classifier(OwnLoss))
    assert_same(result, expected, rtol=0, atol=1e-5)


@pytest.mark.skipif(BACKEND != "torch", reason="The others compile it in.")
def test_what_is_not_the_same_for_each_batch_is_not_recorded():
    class Noise(layers.Layer):
        def call(self, inputs):
            return inputs + np.random.default_rng().normal()

    with told_why(
        "RuntimeError: not every batch is computed alike: something other than "
        "tensors changes, such as random numbers of NumPy"
    ):
        tune(
            classifier(lambda s: keras.Sequential([Noise(), Own(s)])), at_once=4
        )


# How many at once, and in which order -----------------------------------------

THREE = [0.0, 0.03, 0.3]

# Where it does not matter, what costs least.
CHEAP = {"at_once": None if BACKEND == "torch" else 1}


def test_it_does_not_matter_how_many_are_trained_at_once():
    options = {"strengths": THREE, "folds": FOLDS}
    alone = tune(net(layers.BatchNormalization), at_once=1, **options)
    for number in (2, None):
        result = tune(net(layers.BatchNormalization), at_once=number, **options)
        assert_same(result, alone, rtol=0, atol=1e-5)
        assert result.one_by_one is None


def test_without_shuffling_the_order_is_that_of_the_fold():
    result = tune(net(), shuffle=False, epochs=3, **CHEAP)
    history = plain_fit(
        net(),
        STRENGTHS[1],
        1,
        result.folds[1],
        X,
        LABELS,
        epochs=3,
        shuffle=False,
    )
    np.testing.assert_array_equal(result.folds[1].train, FOLDS[1][0])
    for name, values in {
        "data_loss": result.train_loss,
        "val_data_loss": result.validation_loss,
    }.items():
        np.testing.assert_allclose(
            values[1, 1], history[name], rtol=0, atol=1e-5
        )


def test_the_seed_decides_and_nothing_else():
    first = tune(net(), folds=3, seed=7, **CHEAP)
    keras.utils.set_random_seed(99)
    again = tune(net(), folds=3, seed=7, **CHEAP)
    assert_same(again, first, rtol=0, atol=0)
    for one, other in zip(first.folds, again.folds, strict=True):
        np.testing.assert_array_equal(one.train, other.train)
        np.testing.assert_array_equal(one.validation, other.validation)
    # Another order and other weights, on the same folds.
    other = tune(net(), folds=first.folds, seed=8, **CHEAP)
    assert (other.validation_loss != first.validation_loss).all()
    assert (other.train_loss != first.train_loss).all()


def test_without_training_all_strengths_have_the_same_losses():
    # They see the same rows and start from the same weights.
    model = net(optimizer=lambda: optimizers.SGD(0.0))
    result = tune(model, strengths=[0.0, 0.5, 1.0], epochs=2, **CHEAP)
    for losses in (result.validation_loss, result.train_loss):
        np.testing.assert_allclose(
            losses, losses[:1, :, :1] + 0 * losses, rtol=0, atol=1e-5
        )


# Folds ------------------------------------------------------------------------


@pytest.fixture
def untrained(monkeypatch):
    """Leaves the training out, which is not asked for."""

    def search(build_model, data, settings):
        shape = len(settings.strengths), len(settings.folds), settings.epochs
        zeros = np.zeros(shape)
        return trainers.Found(zeros, zeros, {}), None, False

    monkeypatch.setattr("l2keras.tuning.tune.search", search)


@pytest.mark.parametrize("number", [2, 3, 7, ROWS])
def test_a_number_of_folds_deals_the_rows_out(untrained, number):
    folds = tune(net(), folds=number).folds
    assert len(folds) == number
    sizes = [len(fold.validation) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    held_out = np.concatenate([fold.validation for fold in folds])
    np.testing.assert_array_equal(np.sort(held_out), np.arange(ROWS))
    # At random, and the others are trained on.
    assert not np.array_equal(held_out, np.arange(ROWS))
    for fold in folds:
        np.testing.assert_array_equal(
            np.sort(np.concatenate(fold)), np.arange(ROWS)
        )
    other = tune(net(), folds=number, seed=1).folds
    assert not np.array_equal(
        held_out, np.concatenate([fold.validation for fold in other])
    )


GROUPS = np.arange(ROWS) % 7

SPLITTERS = {
    "KFold": (model_selection.KFold(3), LABELS),
    "KFold, shuffled": (
        model_selection.KFold(3, shuffle=True, random_state=1),
        LABELS,
    ),
    "StratifiedKFold": (model_selection.StratifiedKFold(3), LABELS),
    "StratifiedKFold, labels in a column": (
        model_selection.StratifiedKFold(3),
        LABELS[:, None],
    ),
    "StratifiedKFold, one-hot labels": (
        model_selection.StratifiedKFold(3),
        np.eye(3)[LABELS],
    ),
    "StratifiedKFold, several outputs": (
        model_selection.StratifiedKFold(3),
        {"p": LABELS, "q": X[:, :2]},
    ),
    "GroupKFold": (model_selection.GroupKFold(3), LABELS, GROUPS),
    "StratifiedGroupKFold": (
        model_selection.StratifiedGroupKFold(3),
        LABELS,
        GROUPS,
    ),
    "TimeSeriesSplit": (model_selection.TimeSeriesSplit(3), LABELS),
    "ShuffleSplit": (
        model_selection.ShuffleSplit(3, test_size=0.2, random_state=1),
        LABELS,
    ),
}


@pytest.mark.parametrize(
    ("splitter", "y", "groups"),
    [
        pytest.param(*(*row, None)[:3], id=name)
        for name, row in SPLITTERS.items()
    ],
)
def test_a_splitter_of_scikit_learn_makes_the_folds(
    untrained, splitter, y, groups
):
    folds = tune(net(), y=y, folds=splitter, groups=groups).folds
    expected = list(splitter.split(X, LABELS, groups))
    assert len(folds) == len(expected) == 3
    for fold, (train, validation) in zip(folds, expected, strict=True):
        np.testing.assert_array_equal(fold.train, train)
        np.testing.assert_array_equal(fold.validation, validation)


@pytest.mark.parametrize("kind", [list, tuple, np.array, iter])
def test_pairs_of_indices_are_taken_as_they_are(untrained, kind):
    pairs = [([4, 2, 0], [1, 3]), ([5, 6, 7], [9, 8])]
    given = [
        [each if kind is iter else kind(each) for each in pair]
        for pair in pairs
    ]
    folds = tune(net(), folds=iter(given) if kind is iter else given).folds
    for fold, (train, validation) in zip(folds, pairs, strict=True):
        np.testing.assert_array_equal(fold.train, train)
        np.testing.assert_array_equal(fold.validation, validation)


# The result -------------------------------------------------------------------


def made_up(strengths=4, folds=3, epochs=5, seed=0, **metrics):
    rng = np.random.default_rng(seed)
    shape = strengths, folds, epochs
    return l2keras.TuningResult(
        np.logspace(-3, 1, strengths),
        rng.uniform(0.4, 0.6, size=shape),
        rng.uniform(size=shape),
        {name: rng.uniform(size=shape) for name in ("accuracy", *metrics)},
        [],
    )


def with_nan(result, strength, fold, epoch):
    """Returns a result whose replica has no number from that epoch on."""
    loss = result.validation_loss.copy()
    loss[strength, fold, epoch:] = np.nan
    return dataclasses.replace(result, validation_loss=loss)


RESULTS = {
    "as usual": made_up(),
    "another": made_up(seed=1),
    "one epoch": made_up(epochs=1, seed=2),
    "two folds": made_up(folds=2, seed=3),
    "one strength": made_up(strengths=1, seed=4),
    "a replica lost at its end": with_nan(made_up(seed=5), 2, 1, 3),
    "a strength lost at once": with_nan(made_up(seed=6), 3, 0, 0),
    "the first strength lost": with_nan(made_up(seed=7), 0, 2, 0),
}

each_result = pytest.mark.parametrize(
    "result", [pytest.param(each, id=name) for name, each in RESULTS.items()]
)


@each_result
def test_the_choice_is_the_lowest_mean_over_the_folds(result):
    losses = result.validation_loss
    mean = np.mean(losses, axis=1)
    error = np.std(losses, axis=1, ddof=1) / np.sqrt(losses.shape[1])
    np.testing.assert_allclose(result.mean_loss, mean, rtol=1e-12)
    np.testing.assert_allclose(result.standard_error, error, rtol=1e-12)
    lowest = np.nanmin(mean)
    ((best, epoch),) = np.argwhere(mean == lowest)
    assert result.best_strength == result.strengths[best]
    assert result.best_epoch == epoch + 1
    assert isinstance(result.best_strength, float)
    assert isinstance(result.best_epoch, int)
    within = [
        strength
        for strength, row in zip(result.strengths, mean, strict=True)
        if any(each <= lowest + error[best, epoch] for each in row)
    ]
    assert result.one_standard_error_strength == max(within)


@each_result
def test_the_path_has_each_strength_at_its_best_epoch(result):
    loss, error = result.path()
    for index, row in enumerate(result.mean_loss):
        if np.isnan(row).all():
            assert np.isnan([loss[index], error[index]]).all()
            continue
        epoch = np.nanargmin(row)
        assert loss[index] == row[epoch]
        assert error[index] == result.standard_error[index, epoch]


@pytest.mark.parametrize(
    "name", [field.name for field in dataclasses.fields(l2keras.TuningResult)]
)
def test_a_result_is_not_changed(name):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made_up(), name, None)


def test_the_summary_has_a_line_for_each_strength(capsys):
    result = made_up(seed=8, val_accuracy=True)
    lines = []
    result.summary(print_fn=lines.append)
    rows = [
        re.split(r"\s{2,}", line.strip())
        for line in "\n".join(lines).splitlines()
        if line.strip(" ─")
    ]
    assert rows[0] == [
        "Strength",
        "Epoch",
        "Loss",
        "Standard error",
        "Choice",
        "val_accuracy",
    ]
    loss, error = result.path()
    expected = []
    for index, strength in enumerate(result.strengths):
        epoch = np.argmin(result.mean_loss[index])
        choice = [
            *(["best"] if strength == result.best_strength else []),
            *(
                ["one standard error"]
                if strength == result.one_standard_error_strength
                else []
            ),
        ]
        accuracy = np.mean(result.metrics["val_accuracy"][index, :, epoch])
        expected.append(
            [
                f"{strength:.4g}",
                f"{epoch + 1}",
                f"{loss[index]:.5g}",
                f"{error[index]:.2g}",
                *([", ".join(choice)] if choice else []),
                f"{accuracy:.4g}",
            ]
        )
    assert rows[1:] == expected
    assert capsys.readouterr().out == ""
    result.summary()
    assert capsys.readouterr().out == "\n".join(lines) + "\n"


@each_result
def test_the_table_has_a_row_for_each_number(result, tmp_path):
    path = tmp_path / "result.csv"
    result.to_csv(str(path))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {
        "train_loss": result.train_loss,
        "validation_loss": result.validation_loss,
        **result.metrics,
    }
    assert list(rows[0]) == ["strength", "fold", "epoch", *columns]
    shape = result.validation_loss.shape
    for name, values in columns.items():
        read = np.array([float(row[name]) for row in rows])
        np.testing.assert_array_equal(read.reshape(shape), values)
    where = [
        (float(row["strength"]), int(row["fold"]), int(row["epoch"]))
        for row in rows
    ]
    assert where == [
        (strength, fold, epoch + 1)
        for strength in result.strengths
        for fold in range(shape[1])
        for epoch in range(shape[2])
    ]


@each_result
def test_the_figure_has_the_path_its_error_and_both_choices(result):
    pytest.importorskip("matplotlib")
    ax = result.plot()
    assert (ax.get_xlabel(), ax.get_ylabel()) == (
        "strength",
        "validation data loss",
    )
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "± one standard error",
        "mean over folds",
        "best",
        "strongest within one standard error",
    ]
    loss, error = result.path()
    line, best, strongest = ax.lines
    np.testing.assert_array_equal(line.get_xdata(), result.strengths)
    np.testing.assert_array_equal(line.get_ydata(), loss)
    assert set(best.get_xdata()) == {result.best_strength}
    assert set(strongest.get_xdata()) == {result.one_standard_error_strength}
    (band,) = ax.collections
    corners = np.concatenate([each.vertices for each in band.get_paths()])
    for index, strength in enumerate(result.strengths):
        if np.isfinite(loss[index]):
            heights = corners[corners[:, 0] == strength, 1]
            np.testing.assert_allclose(
                [heights.min(), heights.max()],
                [loss[index] - error[index], loss[index] + error[index]],
            )
    ax.figure.draw_without_rendering()
    assert l2keras.plot_strength_path(result, ax) is ax


@pytest.mark.parametrize(
    ("strengths", "losses", "expected"),
    [
        ([0.1, 1.0, 10.0], [1, 2, 3], "lower the lowest"),
        ([0.1, 1.0, 10.0], [3, 2, 1], "raise the highest"),
        ([0.0, 1.0, 10.0], [3, 2, 1], "raise the highest"),
        ([0.1, 1.0, 10.0], [2, 1, 2], None),
        ([0.0, 1.0, 10.0], [1, 2, 3], None),  # None is weaker than zero.
        ([0.1], [1], None),  # Which is no grid.
    ],
)
def test_it_warns_where_the_best_is_at_the_edge(
    monkeypatch, strengths, losses, expected
):
    losses = np.array(losses, float)[:, None, None] + np.zeros((1, 2, 2))

    def search(*arguments):
        return trainers.Found(losses, losses, {}), None, False

    monkeypatch.setattr("l2keras.tuning.tune.search", search)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        result = l2keras.tune_strength(
            net(), X, LABELS, strengths, folds=2, epochs=2
        )
    assert [str(each.message) for each in warned] == (
        []
        if expected is None
        else [
            f"The best strength, {result.best_strength:.4g}, is at the edge of "
            f"the grid, so a better one may lie outside: {expected} strength."
        ]
    )
    assert all(each.filename == __file__ for each in warned)


# Real data --------------------------------------------------------------------


def test_path_and_choice_are_those_of_ridge_regression():
    linear_model = pytest.importorskip("sklearn.linear_model")
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    rows = np.random.default_rng(3).permutation(len(x))[:90]
    x, y = (
        (each - each.mean(axis=0)) / each.std(axis=0)
        for each in (x[rows][:, [0, 2, 3, 8]], y[rows])
    )
    alphas = np.array([0.6, 6.0, 60.0, 600.0])
    folds = list(model_selection.KFold(3).split(x))
    trained_on = len(folds[0][0])

    def build_model(strength):
        model = keras.Sequential(
            [
                keras.Input((4,)),
                layers.Dense(1, kernel_regularizer=L2(strength)),
            ]
        )
        # Keras divides the squares by the number of rows, Ridge does not.
        model.compile(optimizers.SGD(0.05, momentum=0.7), "mse")
        return model

    result = tune(
        build_model,
        x,
        y[:, None],
        alphas / trained_on,
        folds=folds,
        epochs=150,
        batch_size=trained_on,
    )
    for s, alpha in enumerate(alphas):
        for f, (train, validation) in enumerate(folds):
            ridge = linear_model.Ridge(alpha).fit(x[train], y[train])
            for ours, held in (
                (result.validation_loss, validation),
                (result.train_loss, train),
            ):
                error = np.mean((ridge.predict(x[held]) - y[held]) ** 2)
                assert ours[s, f, -1] == pytest.approx(error, abs=1e-5)
    truth = linear_model.RidgeCV(
        alphas, cv=folds, scoring="neg_mean_squared_error"
    ).fit(x, y)
    assert truth.alpha_ not in alphas[[0, -1]]
    # Trained to the end, which `best_epoch` need not be.
    ended = dataclasses.replace(
        result, validation_loss=result.validation_loss[:, :, -1:]
    )
    assert ended.best_strength == truth.alpha_ / trained_on


@pytest.mark.parametrize(("data", "every"), [("wine", 2), ("breast_cancer", 6)])
def test_the_choice_is_that_of_a_loop_of_plain_fits(data, every):
    datasets = pytest.importorskip("sklearn.datasets")
    x, labels = getattr(datasets, f"load_{data}")(return_X_y=True)
    x = ((x - x.mean(axis=0)) / x.std(axis=0))[::every, :6]
    y = np.eye(3)[labels[::every]]
    build_model = net(
        optimizer=lambda: optimizers.Adam(0.03),
        loss="categorical_crossentropy",
    )
    strengths = [0.001, 0.01, 0.1]
    folds = model_selection.StratifiedKFold(3, shuffle=True, random_state=0)
    result = tune(build_model, x, y, strengths, folds=folds, epochs=4)
    truth = np.empty((3, 3, 4))
    accuracy = np.empty((3, 3, 4))
    for s, f in np.ndindex(3, 3):
        history = plain_fit(
            build_model, strengths[s], f, result.folds[f], x, y, epochs=4
        )
        truth[s, f] = history["val_data_loss"]
        accuracy[s, f] = history["val_accuracy"]
    np.testing.assert_allclose(result.validation_loss, truth, rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        result.metrics["val_accuracy"], accuracy, rtol=0, atol=1e-6
    )
    s, e = np.unravel_index(truth.mean(axis=1).argmin(), (3, 4))
    assert (result.best_strength, result.best_epoch) == (strengths[s], e + 1)


# What goes wrong on the way ---------------------------------------------------


def test_a_replica_without_a_number_does_not_spoil_the_others():
    build_model = net(optimizer=lambda: optimizers.SGD(0.1))
    good = tune(build_model, strengths=[0.0, 0.01], epochs=3)
    with pytest.warns(UserWarning, match="is not finite") as warned:
        result = tune(build_model, strengths=[0.0, 0.01, 1e6], epochs=3)
    assert [
        str(each.message)
        for each in warned
        if each.category is UserWarning
        and not str(each.message).startswith("The best strength")
    ] == [
        "The loss of 2 of 6 replicas is not finite, at the strengths 1e+06. "
        "The others are not affected. A lower learning rate may help."
    ]
    for ours, others in (
        (result.validation_loss, good.validation_loss),
        (result.train_loss, good.train_loss),
        (result.metrics["val_accuracy"], good.metrics["val_accuracy"]),
    ):
        np.testing.assert_allclose(ours[:2], others, rtol=1e-6)
    assert np.isnan(result.validation_loss[2, :, -1]).all()
    assert np.isnan(result.train_loss[2, :, -1]).all()
    assert result.best_strength == good.best_strength


def interrupt(monkeypatch, call, trainer="StackTrainer", by=None):
    """Has Ctrl-C pressed when an epoch is to be trained, the n-th of all."""
    cls = getattr(trainers, trainer)
    train, calls = cls.epoch, []

    def epoch(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            if by is not None:
                by()
            raise KeyboardInterrupt
        return train(*arguments)

    monkeypatch.setattr(cls, "epoch", epoch)


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


# A row: what is built, by what it is trained, at once, why, and what is done
# of it when Ctrl-C comes with the third epoch.
WAYS = {
    "all at once": (with_momentum, "StackTrainer", None, None, (2, 2, 2)),
    "alone": (with_momentum, "StackTrainer", 1, None, (1, 0, 2)),
    "by fit": (
        by_fit,
        "FitTrainer",
        None,
        "`build_model` asks for the value of the strength",
        (1, 0, 2),
    ),
}

each_way = pytest.mark.parametrize(
    ("build_model", "trainer", "at_once", "why", "done"),
    [pytest.param(*row, id=name) for name, row in WAYS.items()],
)


@each_way
def test_after_an_interruption_there_is_what_was_done(
    monkeypatch, build_model, trainer, at_once, why, done
):
    options = {"epochs": 3, "at_once": at_once}
    with told_why(why):
        whole = tune(build_model, **options)
    # The third epoch, or the second of the second replica.
    call = 3 if done == (2, 2, 2) else 5
    interrupt(monkeypatch, call, trainer)
    with (
        told_why(why),
        pytest.warns(UserWarning, match="interrupted") as warned,
    ):
        result = tune(build_model, **options)
    lost = np.isnan(result.validation_loss)
    number = lost[:, :, -1].sum()
    assert number == (4 if done == (2, 2, 2) else 3)
    assert (
        f"The search was interrupted: {number} of 4 replicas were not trained "
        "to their end."
    ) in [str(each.message) for each in warned]
    assert lost.sum() == 12 - (8 if done == (2, 2, 2) else 4)
    for name in ("validation_loss", "train_loss"):
        ours = getattr(result, name)
        assert (np.isnan(ours) == lost).all()
        np.testing.assert_array_equal(ours[~lost], getattr(whole, name)[~lost])
    assert result.one_by_one == why


def test_an_interruption_before_anything_is_done_is_raised(monkeypatch):
    interrupt(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        tune(net(), **CHEAP)


@each_way
def test_an_interrupted_search_goes_on_from_its_backup(
    monkeypatch, tmp_path, build_model, trainer, at_once, why, done
):
    monkeypatch.setattr(backup, "SECONDS", 0)
    options = {"epochs": 3, "at_once": at_once}
    with told_why(why):
        whole = tune(build_model, **options)
    folder = tmp_path / "not" / "there"
    with monkeypatch.context() as context:
        interrupt(context, 3, trainer)
        with told_why(why), pytest.warns(UserWarning, match="interrupted"):
            tune(build_model, backup_dir=folder, **options)
    assert (folder / "search.npz").exists()
    for other in (
        {"seed": 1},
        {"epochs": 4},
        {"batch_size": 8},
        {"shuffle": False},
        {"folds": FOLDS[::-1]},
        {"strengths": [0.01, 0.4]},
        {"x": 2 * X},
        {"y": 2 - LABELS},
        {"sample_weight": WEIGHT},
    ):
        with pytest.raises(ValueError, match="other arguments") as error:
            tune(build_model, backup_dir=folder, **{**options, **other})
        assert str(error.value) == (
            f"{folder / 'search.npz'} is of a search with other arguments or "
            "other data. Remove it, or give another `backup_dir`."
        )
    with told_why(why):
        result = tune(build_model, backup_dir=str(folder), **options)
    assert_same(result, whole, rtol=0, atol=0)
    assert list(folder.iterdir()) == []


KILLED = """
import os, pathlib, signal, sys

import pytest
import test_tuning
from l2keras.tuning import backup

backup.SECONDS = 0
with pytest.MonkeyPatch.context() as context:
    test_tuning.interrupt(
        context, 3, by=lambda: os.kill(os.getpid(), signal.SIGKILL)
    )
    test_tuning.tune(
        test_tuning.with_dropout,
        epochs=4,
        at_once=1,
        backup_dir=pathlib.Path(sys.argv[1]),
    )
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Nothing to kill by")
def test_a_killed_search_goes_on_from_its_backup(tmp_path):
    process = start_python(KILLED, tmp_path)
    options = {"epochs": 4, "at_once": 1}
    reason = (
        "layer 'dropout' draws random numbers" if BACKEND == "torch" else None
    )
    with told_why(reason):
        whole = tune(with_dropout, **options)
    outputs([process], returncode=-signal.SIGKILL)
    (file,) = tmp_path.iterdir()
    with np.load(file) as saved:
        assert np.isfinite(saved["validation_loss"]).sum() == 2
    with told_why(reason):
        result = tune(with_dropout, backup_dir=tmp_path, **options)
    assert_same(result, whole, rtol=0, atol=0)
    assert list(tmp_path.iterdir()) == []


# Mistakes ---------------------------------------------------------------------


def without_loss(strength):
    """Returns a model with nothing but what `add_loss` adds."""
    model = Own(strength)
    model.compile("sgd")
    return model


def uncompiled(strength):
    return Own(strength)


def ignoring(strength):
    return net()(0.5)


def by_keras(strength):
    return net(regularizer=keras.regularizers.L2)(strength)


def negative(strength):
    return net()(-1 * strength)


def refused(error, message, build_model=None, **arguments):
    return build_model or net(), arguments, error, message


RISING = "Argument `strengths` must be finite numbers >= 0, rising. "
PAIR = "must be a pair (rows to train on, rows to judge on)"

MISTAKES = {
    **{
        f"strengths {name}": refused(
            ValueError,
            f"{RISING}Received: strengths={value!r}",
            strengths=value,
        )
        for name, value in {
            "empty": [],
            "negative": [-0.1, 0.1],
            "NaN": [0.1, float("nan")],
            "infinite": [0.1, float("inf")],
            "in rows": [[0.1, 0.2]],
            "strings": ["0.1", "0.2"],
            "booleans": [False, True],
            "one number": 0.1,
            "None": None,
        }.items()
    },
    **{
        f"strengths {name}": refused(
            ValueError,
            f"{RISING}Sort them, and leave out repetitions: "
            f"`np.unique(strengths)`. Received: strengths={value!r}",
            strengths=value,
        )
        for name, value in {
            "falling": [0.2, 0.1],
            "unsorted": [0.1, 0.3, 0.2],
            "repeated": [0.1, 0.1],
        }.items()
    },
    "one fold": refused(
        ValueError,
        "Argument `folds` must be an integer >= 2. Received: folds=1",
        folds=1,
    ),
    "half a fold": refused(
        ValueError,
        "Argument `folds` must be an integer >= 2. Received: folds=2.5",
        folds=2.5,
    ),
    "more folds than rows": refused(
        ValueError,
        "Argument `folds` must be at most the number of rows. Received: "
        "folds=81, and 80 rows",
        folds=81,
    ),
    **{
        f"folds {value!r}": refused(
            TypeError,
            "Argument `folds` must be a number, a splitter of scikit-learn, or "
            f"pairs of index arrays. Received: folds={value!r}",
            folds=value,
        )
        for value in (5.0j, None, True)
    },
    "one pair": refused(
        ValueError,
        "There must be at least two folds, to tell strengths apart. "
        "Received: 1",
        folds=FOLDS[:1],
    ),
    "no pairs": refused(
        TypeError, f"Fold 0 {PAIR}. Received: [0, 1, 2]", folds=[[0, 1, 2]]
    ),
    "rows on both sides": refused(
        ValueError,
        f"Fold 1 {PAIR} without a row on both sides. Received: 2 such rows, "
        "the first of them row 2",
        folds=[([0, 1], [2, 3]), ([4, 3, 2], [2, 3])],
    ),
    "rows that are not there": refused(
        ValueError,
        f"Fold 0 {PAIR} from 0 to 79. Received: rows from 2 to 80",
        folds=[([0, 1], [2, 80]), ([4, 3], [2, 0])],
    ),
    "rows from the end": refused(
        ValueError,
        f"Fold 1 {PAIR} from 0 to 79. Received: rows from -1 to 3",
        folds=[([0, 1], [2, 3]), ([-1, 3], [2, 0])],
    ),
    "a fold without rows": refused(
        ValueError,
        f"Fold 0 {PAIR}, each a list of integers with at least one. Received: "
        "an array of shape (0,) and type float64",
        folds=[([0, 1], []), ([4, 3], [2, 0])],
    ),
    "a mask for rows": refused(
        ValueError,
        f"Fold 0 {PAIR}, each a list of integers with at least one. Received: "
        "an array of shape (2,) and type bool",
        folds=[([True, False], [2, 3]), ([4, 3], [2, 0])],
    ),
    **{
        f"{name}={value!r}": refused(
            error,
            f"Argument `{name}` must be an integer >= {minimum}. Received: "
            f"{name}={value!r}"
            + (" (of type str)" if error is TypeError else ""),
            **{name: value},
        )
        for name, minimum, value, error in (
            ("epochs", 1, 0, ValueError),
            ("epochs", 1, 1.5, ValueError),
            ("epochs", 1, "1", TypeError),
            ("batch_size", 1, 0, ValueError),
            ("at_once", 1, 0, ValueError),
            ("seed", 0, -1, ValueError),
        )
    },
    "no function": refused(
        TypeError,
        "Argument `build_model` must be a function from a strength to a "
        "compiled model. Received: build_model='model'",
        "model",
    ),
    "no model": refused(
        TypeError,
        "`build_model` must return a Keras model. Received: None",
        lambda strength: None,
    ),
    "a model without a loss": refused(
        ValueError,
        "`build_model` must give `compile` a loss, by which the strengths are "
        "judged. What `add_loss` adds counts as regularization. Received: "
        "{model!r}",
        without_loss,
    ),
    "a model that is not compiled": refused(
        TypeError,
        "`build_model` must return a compiled model. Call "
        "`model.compile(...)` in it. Received: {model!r}",
        uncompiled,
    ),
    "a strength that is ignored": refused(
        ValueError,
        "`build_model` must use the strength that it is given. Received: a "
        "model that has it neither in a regularizer nor in a "
        "`DecoupledWeightDecay`",
        ignoring,
    ),
    "a regularizer of Keras": refused(
        TypeError,
        "`build_model` must hand its strength to a regularizer of l2keras, as "
        "in `l2keras.L2(strength)`. Keras's own take nothing but a number.",
        by_keras,
    ),
    "a negative factor": refused(
        ValueError,
        "A strength can be multiplied and divided by finite numbers >= 0 only. "
        "Received: -1",
        negative,
    ),
    "labels of the wrong length": refused(
        ValueError,
        "The arrays of `x`, `y` and `sample_weight` must have equally many "
        "rows. Received: {{'x': [80], 'y': [79]}}",
        y=LABELS[1:],
    ),
    "inputs of different lengths": refused(
        ValueError,
        "The arrays of `x`, `y` and `sample_weight` must have equally many "
        "rows. Received: {{'x': [80, 79], 'y': [80]}}",
        x={"a": X, "b": X[1:]},
    ),
    "weights of the wrong length": refused(
        ValueError,
        "The arrays of `x`, `y` and `sample_weight` must have equally many "
        "rows. Received: {{'x': [80], 'y': [80], 'sample_weight': [3]}}",
        sample_weight=WEIGHT[:3],
    ),
    "NaN in the inputs": refused(
        ValueError,
        "Argument `x` must hold finite numbers. Received: NaN or infinity in "
        "2 rows, the first of them row 5",
        x=np.where(np.isin(np.arange(ROWS), [5, 9])[:, None], np.nan, X),
    ),
    "infinity in the targets": refused(
        ValueError,
        "Argument `y` must hold finite numbers. Received: NaN or infinity in "
        "1 rows, the first of them row 0",
        y=np.where(np.arange(ROWS) == 0, np.inf, LABELS),
    ),
    "NaN in the weights": refused(
        ValueError,
        "Argument `sample_weight` must hold finite numbers. Received: NaN or "
        "infinity in 80 rows, the first of them row 0",
        sample_weight=np.full(ROWS, np.nan),
    ),
    "no inputs": refused(
        TypeError,
        "Argument `x` must hold arrays of numbers. Received: None",
        x=None,
    ),
    "no targets": refused(
        TypeError,
        "Argument `y` must hold arrays of numbers. Received: None",
        y=None,
    ),
    "strings for targets": refused(
        TypeError,
        "Argument `y` must hold arrays of numbers. Received: an array of "
        "shape (80,) and type <U1",
        y=LABELS.astype("<U1"),
    ),
    "one number for inputs": refused(
        TypeError,
        "Argument `x` must hold arrays of numbers. Received: an array of "
        "shape () and type int64",
        x=3,
    ),
}


@pytest.mark.parametrize(
    ("build_model", "arguments", "error", "message"),
    [pytest.param(*row, id=name) for name, row in MISTAKES.items()],
)
def test_mistakes_are_explained(build_model, arguments, error, message):
    made = []

    def building(strength):
        made.append(build_model(strength))
        return made[-1]

    with pytest.raises(error) as raised:
        tune(building if callable(build_model) else build_model, **arguments)
    if "{" in message:
        message = message.format(model=made[-1] if made else None)
    assert str(raised.value) == message


def test_an_error_in_build_model_is_left_as_it_is():
    def build_model(strength):
        raise RuntimeError("no such layer")

    with pytest.raises(RuntimeError, match=r"^no such layer$"):
        tune(build_model)


# What was found wrong once ----------------------------------------------------


def test_a_huge_strength_is_not_judged_by_rounding():
    # The data loss beside a penalty of a million is lost in float32.
    result = l2keras.tune_strength(
        net(optimizer=lambda: optimizers.SGD(0.0)),
        X,
        LABELS,
        [0.0, 1e7],
        folds=FOLDS,
        epochs=1,
        verbose=0,
    )
    weak, strong = result.validation_loss
    np.testing.assert_allclose(strong, weak, rtol=1e-6)


@pytest.mark.parametrize(
    "operation",
    [
        lambda s: s != 0,
        lambda s: s > 0,
        lambda s: f"{s:.3g}",
        lambda s: s + 1e-3,
        lambda s: s**2,
        lambda s: 1 / s,
        np.sqrt,
        float,
    ],
)
def test_a_strength_whose_value_is_asked_for_is_a_number(operation):
    def regularizer(strength):
        operation(strength)
        return L2(strength)

    with pytest.warns(UserWarning, match="asks for the value of the strength"):
        result = tune(net(regularizer=regularizer), epochs=1)
    assert not np.isnan(result.validation_loss).any()


def test_numpy_numbers_multiply_a_strength():
    def regularizer(strength):
        return L2(np.float64(0.5) * strength * np.float32(2.0) / 4)

    result = tune(net(regularizer=regularizer), epochs=1)
    assert result.one_by_one is None


def test_a_strength_that_a_fit_ignores_is_found():
    def build_model(strength):
        float(strength)
        return net()(0.1)

    with pytest.raises(ValueError, match="must use the strength"):
        l2keras.tune_strength(
            build_model, X, LABELS, STRENGTHS, folds=FOLDS, epochs=1, verbose=0
        )


def test_there_is_nothing_to_choose_from_replicas_without_an_end():
    loss = np.full((2, 3, 4), np.nan)
    result = l2keras.TuningResult(np.array([0.1, 1.0]), loss, loss, {}, [])
    for name in ("best_strength", "best_epoch", "one_standard_error_strength"):
        with pytest.raises(ValueError, match="There is no strength to choose"):
            getattr(result, name)


def test_folds_are_not_a_string():
    with pytest.raises(TypeError) as error:
        l2keras.tune_strength(
            net(), X, LABELS, STRENGTHS, folds="5", epochs=1, verbose=0
        )
    assert str(error.value) == (
        "Argument `folds` must be a number, a splitter of scikit-learn, or "
        "pairs of index arrays. Received: folds='5'"
    )


def test_a_search_that_left_a_way_goes_on_in_the_next(monkeypatch, tmp_path):
    # The backup is of the second way, while the first is tried again first.
    monkeypatch.setattr(backup, "SECONDS", 0)
    begin = trainers.StackTrainer.begin

    def not_mapped(self, chunk):
        if len(chunk.strengths) > 1:
            raise trainers.CannotError("it was not to be")
        begin(self, chunk)

    monkeypatch.setattr(trainers.StackTrainer, "begin", not_mapped)
    options = {"epochs": 2, "backup_dir": tmp_path}
    with pytest.warns(UserWarning, match="it was not to be"):
        whole = tune(net(), **options)
    with monkeypatch.context() as context:
        interrupt(context, 4)
        with (
            pytest.warns(UserWarning, match="it was not to be"),
            pytest.warns(UserWarning, match="interrupted"),
        ):
            tune(net(), **options)
    with pytest.warns(UserWarning, match="it was not to be"):
        again = tune(net(), **options)
    np.testing.assert_array_equal(again.validation_loss, whole.validation_loss)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (
            {"shuffle": "no"},
            TypeError,
            "Argument `shuffle` must be a boolean. Received: shuffle='no'",
        ),
        (
            {"verbose": "auto"},
            ValueError,
            "Argument `verbose` must be 1 for a progress bar or 0 for none. "
            "Received: verbose='auto'",
        ),
    ],
)
def test_switches_are_switches(options, kind, message):
    with pytest.raises(kind) as error:
        l2keras.tune_strength(
            net(), X, LABELS, STRENGTHS, **{"epochs": 1, **options}
        )
    assert str(error.value) == message
