"""Several strengths by name: the candidates, the choice, the warnings."""

import warnings

import keras
import numpy as np
import pytest

import l2keras
from l2keras import L2
from l2keras.tuning import checkpoint, rounds
from tests.support.searches import EXPECTED_WARNINGS, interrupt

pytestmark = [
    *EXPECTED_WARNINGS,
    pytest.mark.filterwarnings("ignore:The best strength for"),
]

RNG = np.random.default_rng(0)
ROWS = 60
KNOWN = RNG.normal(size=(ROWS, 2)).astype("float32")
NOISE = RNG.normal(size=(ROWS, 20)).astype("float32")
Y = (KNOWN.sum(axis=1) + RNG.normal(size=ROWS)).astype("float32")
OPTIONS = {"folds": 3, "epochs": 15, "verbose": 0}


def build_model(strengths):
    inputs = [keras.Input((2,)), keras.Input((20,))]
    parts = [
        keras.layers.Dense(1, kernel_regularizer=L2(strengths[name]))(each)
        for name, each in zip(("known", "noise"), inputs, strict=True)
    ]
    model = keras.Model(inputs, keras.layers.add(parts))
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    return model


def tune(strengths, build_model=build_model, **options):
    return l2keras.tune_strength(
        build_model, [KNOWN, NOISE], Y, strengths, **{**OPTIONS, **options}
    )


def test_weights_of_noise_inputs_get_the_larger_strength():
    result = tune({"known": None, "noise": (1e-4, 5.0)})
    assert result.keys == ("known", "noise")
    best = result.best_strength
    assert list(best) == ["known", "noise"]
    assert best["noise"] > 10 * best["known"]
    assert result.fallback_reason is None
    # It is no worse than one strength for both, of as many.
    singles = rounds.first_round(np.array([[1e-7, 10.0]]))[:, 0]
    one = l2keras.tune_strength(
        lambda s: build_model({"known": s, "noise": s}),
        [KNOWN, NOISE],
        Y,
        np.unique(singles[singles < 9]),
        **OPTIONS,
    )
    assert result.mean_loss.min() <= one.mean_loss.min() + 1e-6
    # A candidate has the losses of its own fits.
    index = int(np.argmin(result.mean_loss.min(axis=1)))
    keras.utils.set_random_seed(1)
    model = build_model(best)
    train, held_out = result.folds[1]
    order = np.random.default_rng([0, 1, 0]).permutation(train)
    history = model.fit(
        [KNOWN[order], NOISE[order]],
        Y[order],
        shuffle=False,
        validation_data=([KNOWN[held_out], NOISE[held_out]], Y[held_out]),
        callbacks=[l2keras.RegularizationLogger()],
        verbose=0,
    ).history
    np.testing.assert_allclose(
        result.validation_loss[index, 1, 0],
        history["val_data_loss"][0],
        rtol=1e-5,
    )


def test_a_model_that_needs_numbers_is_trained_sequentially():
    def in_numbers(strengths):
        model = build_model({k: float(v) for k, v in strengths.items()})
        model.run_eagerly = keras.backend.backend() == "tensorflow"
        return model

    ranges = {"known": (1e-3, 1e-2), "noise": (1e-3, 1e-2)}
    with pytest.warns(UserWarning, match="asks for the value"):
        one = tune(ranges, in_numbers, folds=2, epochs=1)
    other = tune(ranges, folds=2, epochs=1)
    np.testing.assert_array_equal(one.strengths, other.strengths)
    np.testing.assert_allclose(
        one.validation_loss, other.validation_loss, rtol=1e-5
    )


def test_an_interrupted_later_round_keeps_the_earlier_ones(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(checkpoint, "SECONDS", 0)
    ranges = {"known": None, "noise": None}
    whole = tune(ranges)
    # The first round is one chunk of so many epochs.
    with monkeypatch.context() as context:
        interrupt(context, 15 + 4)
        with pytest.warns(UserWarning, match="interrupted"):
            part = tune(ranges, backup_dir=tmp_path)
    np.testing.assert_array_equal(
        part.validation_loss[:9], whole.validation_loss[:9]
    )
    assert np.isnan(part.validation_loss[9:, :, 4:]).all()
    again = tune(ranges, backup_dir=tmp_path)
    np.testing.assert_array_equal(again.strengths, whole.strengths)
    np.testing.assert_array_equal(again.validation_loss, whole.validation_loss)


def test_a_strength_without_effect_warns():
    def idle(strengths):
        inputs = [keras.Input((2,)), keras.Input((20,))]
        output = keras.layers.Dense(
            1, kernel_regularizer=L2(strengths["known"])
        )(inputs[0])
        nothing = keras.layers.Dense(
            1,
            kernel_initializer="zeros",
            kernel_regularizer=L2(strengths["no"]),
        )(0.0 * inputs[1])
        model = keras.Model(inputs, keras.layers.add([output, nothing]))
        model.compile("sgd", "mse")
        return model

    with pytest.warns(UserWarning, match="'no' makes no difference"):
        tune({"known": 0.01, "no": 0.01}, idle, folds=2, epochs=1)


def test_a_choice_at_the_edge_of_its_range_warns():
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        tune({"known": 0.01, "noise": (1e-4, 1e-2)}, epochs=30)
    messages = [str(warning.message) for warning in warned]
    assert any(
        message
        == "The best strength for 'noise', 0.01, is the highest that was "
        "tried, so a better one may lie outside."
        for message in messages
    ), messages


# The rounds, on losses that are known ----------------------------------------


def search(loss, ranges):
    """Returns the candidates in their order, and the best of them."""
    tried = []

    def losses(candidates):
        tried.extend(candidates)
        return np.array([loss(candidate) for candidate in candidates])

    rounds.search(losses, ranges)
    return np.array(tried), min(tried, key=loss)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("keys", [1, 2, 9])
def test_the_rounds_approach_the_minimum(seed, keys):
    truth = 10 ** np.random.default_rng(seed).uniform(-6, 0, keys)

    def loss(strengths):
        return (np.log10(strengths / truth) ** 2).sum()

    tried, best = search(loss, np.array([[1e-7, 10.0]] * keys))
    assert (abs(np.log10(best / truth)) < 0.5).all()
    assert len(tried) < 9 + 30 * keys


def test_candidates_stay_in_range_and_start_with_equal_strengths():
    ranges = np.array([[1e-7, 10.0], [1e-7, 10.0], [0.1, 0.2]])
    tried, _ = search(lambda each: each.sum(), ranges)
    assert (tried >= ranges[:, 0]).all()
    assert (tried <= ranges[:, 1]).all()
    np.testing.assert_array_equal(tried[:9, 0], tried[:9, 1])
    np.testing.assert_allclose(tried[:9, 0], 10.0 ** np.arange(-7, 2))
    assert tried[0, 2] == 0.1
    assert tried[8, 2] == 0.2


def test_candidates_without_a_loss_are_not_chosen():
    def loss(strengths):
        return np.inf if strengths.max() > 1e-3 else -np.log(strengths).sum()

    _, best = search(loss, np.array([[1e-7, 10.0]] * 2))
    assert best.max() <= 1e-3


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, (1e-7, 10.0)),
        (0.01, (1e-5, 10.0)),
        ((1e-4, 1), (1e-4, 1.0)),
        ([2, 3], (2.0, 3.0)),
    ],
)
def test_a_range_may_be_none_a_start_or_two_ends(given, expected):
    np.testing.assert_allclose(rounds.check_ranges({"a": given}), [expected])
