"""Strengths that are learned: against NumPy, and with all that a model has."""

import keras
import numpy as np
import pytest
from helpers import BACKEND
from learned_by_hand import learned_by_hand
from searches import LABELS, RNG, ROWS, WEIGHT, X

import l2keras
from l2keras import L1, L2
from l2keras.tuning.folds import Fold, draw_folds, endless_rows
from l2keras.tuning.learning import Lessons, learn
from l2keras.tuning.settings import Settings
from l2keras.tuning.stack_trainer import build_prototype

layers, optimizers = keras.layers, keras.optimizers

OTHER = RNG.normal(size=(ROWS, 9)).astype("float32")
TARGETS = (X @ RNG.normal(size=(6, 1)) + 0.5 * OTHER[:, :1]).astype("float32")


def settings_of(folds, keys=("a", "b"), initial=(1e-3, 1e-2), **arguments):
    arguments = {
        "epochs": 30,
        "batch_size": 16,
        "shuffle": True,
        "seed": 3,
        "at_once": None,
        "n_jobs": None,
        "backup_dir": None,
        "verbose": 0,
        **arguments,
    }
    return Settings(np.array([initial]), keys, folds, **arguments)


def two_inputs(strengths):
    """Returns the model that `learned_by_hand` trains."""
    a, b = strengths
    inputs = keras.Input((6,)), keras.Input((9,))
    first = layers.Dense(1, use_bias=False, kernel_regularizer=L2(2 * a))
    second = layers.Dense(1, use_bias=False, kernel_regularizer=L1(a) + L2(b))
    outputs = layers.add([first(inputs[0]), second(inputs[1])])
    model = keras.Model(inputs, outputs)
    model.compile(optimizers.SGD(0.05), "mse")
    return model


@pytest.mark.parametrize("number", [1, 3], ids=["one fold", "three folds"])
def test_strengths_are_learned_as_by_hand(number):
    data = [X, OTHER], TARGETS, None
    folds = [Fold(np.arange(20, ROWS), np.arange(20))]
    if number > 1:
        folds = draw_folds(number, data, None, 0)
    settings = settings_of(folds)
    prototype, _ = build_prototype(two_inputs, data, settings)
    learning = learn(prototype, data, settings, None)
    lessons = [Lessons(settings).of_epoch(epoch) for epoch in range(30)]
    batches = [
        list(zip(train[:, step], held_out[:, step], strict=True))
        for train, held_out in lessons
        for step in range(train.shape[1])
    ]
    path = learned_by_hand(
        [X, OTHER],
        TARGETS,
        [start.trainable for start in prototype.starts],
        batches,
        settings.candidates[0],
    )
    per_epoch = len(batches) // 30
    np.testing.assert_allclose(
        learning.path, path[per_epoch - 1 :: per_epoch], rtol=2e-3
    )
    second_half = np.log(path[len(path) // 2 :])
    np.testing.assert_allclose(
        learning.strengths, np.exp(second_half.mean(axis=0)), rtol=2e-3
    )
    assert learning.steps == len(batches)
    # They went somewhere.
    assert abs(np.log(path[-1] / settings.candidates[0])).max() > 0.3


def test_the_rows_of_a_series_are_passes_over_all_of_them():
    rows = np.arange(10, 17)
    series = endless_rows(rows, 0, 35, True, (0, 1))
    passes = series.reshape(5, 7)
    np.testing.assert_array_equal(np.sort(passes), np.tile(rows, (5, 1)))
    assert len(np.unique(passes, axis=0)) > 1
    # Any piece is a piece of the same series.
    np.testing.assert_array_equal(
        endless_rows(rows, 9, 23, True, (0, 1)), series[9:23]
    )
    np.testing.assert_array_equal(
        endless_rows(rows, 6, 9, False, (0, 1)), [16, 10, 11]
    )


def test_folds_that_differ_in_size_step_together():
    folds = [
        Fold(np.arange(50), np.arange(50, 80)),
        Fold(np.arange(40, 80), np.arange(40)),
        Fold(np.arange(30, 80), np.arange(10)),
    ]
    lessons = Lessons(settings_of(folds))
    train, held_out = lessons.of_epoch(0)
    assert train.shape == (3, 4, 16)  # An epoch of the largest.
    assert held_out.shape == (3, 4, 10)  # No more than the smallest has.
    for index, fold in enumerate(folds):
        assert set(train[index].ravel()) <= set(fold.train)
        assert set(held_out[index].ravel()) <= set(fold.validation)


def net(*between, optimizer=lambda: optimizers.Adam(0.01), regularizer=L2):
    """Returns a function from strengths to a model with these parts."""

    def build_model(strengths):
        model = keras.Sequential(
            [
                keras.Input((6,)),
                layers.Dense(
                    8, "tanh", kernel_regularizer=regularizer(strengths["a"])
                ),
                *(make() for make in between),
                layers.Dense(
                    3, "softmax", kernel_regularizer=L2(strengths["b"] / 2)
                ),
            ]
        )
        model.compile(
            optimizer(), "sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        return model

    return build_model


def several(strengths):
    """Returns a model with a shared layer, and two outputs."""
    shared = layers.Dense(5, "tanh", kernel_regularizer=L2(strengths["a"]))
    inputs = keras.Input((6,), name="p"), keras.Input((6,), name="q")
    hidden = layers.concatenate([shared(each) for each in inputs])
    last = L2(strengths["b"])
    model = keras.Model(
        {"p": inputs[0], "q": inputs[1]},
        {
            "r": layers.Dense(3, "softmax", name="r", kernel_regularizer=last)(
                hidden
            ),
            "s": layers.Dense(1, name="s", kernel_regularizer=last)(hidden),
        },
    )
    model.compile("adam", {"r": "sparse_categorical_crossentropy", "s": "mse"})
    return model


def embedded(strengths):
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(5, 3, embeddings_regularizer=L2(strengths["a"])),
            layers.Flatten(),
            layers.Dense(
                3,
                "softmax",
                kernel_regularizer=l2keras.GroupLasso(strengths["b"]),
            ),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def tune(build_model, x=X, y=LABELS, **arguments):
    """Learns, and checks no more than what is learned."""
    arguments = {
        "folds": 2,
        "epochs": 3,
        "batch_size": 8,
        "multiples": (1.0,),
        "single_strengths": (),
        "verbose": 0,
        **arguments,
    }
    return l2keras.tune_strengths(build_model, x, y, **arguments)


MODELS = {
    "dropout": (net(lambda: layers.Dropout(0.3)), X, LABELS),
    "normalization": (net(layers.BatchNormalization), X, LABELS),
    "group lasso": (net(regularizer=l2keras.GroupLasso), X, LABELS),
    "convolution": (
        net(
            lambda: layers.Reshape((8, 1)),
            lambda: layers.Conv1D(2, 3),
            layers.Flatten,
        ),
        X,
        LABELS,
    ),
    "several outputs": (
        several,
        {"p": X, "q": X[::-1].copy()},
        {"r": LABELS, "s": TARGETS},
    ),
    "embedding": (embedded, (X > 0).astype("int32"), LABELS),
}


@pytest.mark.filterwarnings("ignore:Strengths were learned in", "ignore:What '")
@pytest.mark.filterwarnings("ignore:The replicas are trained one after")
@pytest.mark.parametrize("name", MODELS)
def test_models_of_all_kinds_learn(name):
    build_model, x, y = MODELS[name]
    result = tune(build_model, x, y, sample_weight=WEIGHT)
    assert set(result.strengths) == {"a", "b"}
    assert result.validation_loss.shape == (1, 2, 3)
    assert np.isfinite(result.validation_loss).all()
    for key, path in result.learning_path.items():
        assert path.shape == (3,)
        # The first steps of Adam have its rate for a length.
        assert 1e-3 < abs(np.log(path[-1] / 1e-3)) < 3
        assert result.learned[key] == result.strengths[key]


@pytest.mark.filterwarnings("ignore:Strengths were learned in", "ignore:What '")
def test_what_is_decayed_is_learned_where_the_folds_can_be_stacked():
    def build_model(strengths):
        model = net()({"a": 0.0, "b": 0.0})
        model.compile(
            l2keras.DecoupledWeightDecay(
                optimizers.SGD(0.1), default=strengths["decay"]
            ),
            "sparse_categorical_crossentropy",
        )
        return model

    if BACKEND != "jax":
        with pytest.raises(ValueError, match="wraps another optimizer"):
            tune(build_model)
        return
    decayed = tune(build_model, single_strengths=())

    def penalized(strengths):
        # Under SGD, L2 of half the strength is the same.
        model = net()({"a": strengths["decay"] / 2, "b": strengths["decay"]})
        model.compile(optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        return model

    same = tune(penalized)
    np.testing.assert_allclose(
        decayed.learning_path["decay"], same.learning_path["decay"], rtol=1e-3
    )
    np.testing.assert_allclose(
        decayed.validation_loss, same.validation_loss, rtol=1e-3
    )


def test_a_fold_that_diverges_is_told_of():
    def build_model(strengths):
        model = keras.Sequential(
            [
                keras.Input((1,)),
                layers.Dense(
                    1, use_bias=False, kernel_regularizer=L2(strengths["a"])
                ),
            ]
        )
        model.compile(optimizers.SGD(0.1), "mse")
        return model

    x = np.ones((60, 1), "float32")
    x[:20] = 1e6  # Trained on in all folds but the first.
    folds = [
        (np.arange(40, 60), np.arange(20, 40)),
        (np.arange(40), np.arange(40, 60)),
    ]
    with (
        pytest.warns(UserWarning, match="is not finite"),
        pytest.warns(UserWarning, match="In 1 of the folds"),
    ):
        result = tune(build_model, x, np.ones(60), folds=folds, epochs=200)
    assert np.isfinite(result.learning_path["a"]).all()
