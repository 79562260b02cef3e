"""Mistakes are explained, and arguments that only look wrong are accepted."""

import keras
import numpy as np
import pytest

import l2keras
from l2keras import L2
from tests.support.searches import (
    EAGER,
    EXPECTED_WARNINGS,
    FOLDS,
    LABELS,
    ROWS,
    STRENGTHS,
    WEIGHT,
    Own,
    X,
    net,
    optimizers,
    tune,
)

pytestmark = EXPECTED_WARNINGS


def without_loss(strength):
    """Returns a model whose only loss is that of `add_loss`."""
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
            "too high for float32": [0.1, 1e39],
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
    "an empty list of pairs": refused(
        ValueError,
        "Argument `folds` must give at least one pair of rows to train on and "
        "rows to judge on. Received: folds=[], which gave none",
        folds=[],
    ),
    "no names": refused(
        ValueError,
        "Argument `strengths` must name at least one strength, as in "
        "`{{'inputs': None, 'noise': (1e-4, 1.0)}}`. Received: strengths={{}}",
        strengths={},
    ),
    "a name that is no string": refused(
        TypeError,
        "Argument `strengths` must have strings for names. Received: the name "
        "3",
        strengths={3: None},
    ),
    **{
        f"the range {value!r}": refused(
            ValueError,
            "Argument `strengths['a']` must be `None`, a number > 0 to search "
            "around, or a pair of numbers > 0, the lower one first. Received: "
            f"strengths['a']={value!r}",
            strengths={"a": value},
        )
        for value in (0.0, (1.0, 0.1), (0.0, 1.0), (1.0, 1.0))
    },
    "a name that is not used": refused(
        ValueError,
        "`build_model` must use all of its strengths. Not used is 'b'. "
        "Received: a model that has it neither in a regularizer nor in a "
        "`DecoupledWeightDecay`",
        lambda strengths: net()(strengths["a"]),
        strengths={"a": None, "b": None},
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
    "more folds than groups": refused(
        ValueError,
        "Argument `folds` must be at most the number of groups. Received: "
        "folds=5, and 4 groups",
        folds=5,
        groups=np.arange(ROWS) % 4,
    ),
    "groups of the wrong length": refused(
        ValueError,
        "Argument `groups` must have a label for each of the 80 rows. "
        "Received: an array of shape (79,)",
        folds=5,
        groups=np.arange(ROWS - 1),
    ),
    "groups of several kinds": refused(
        TypeError,
        "Argument `groups` must have labels that can be sorted, such as "
        "numbers only or strings only. Received: '<' not supported between "
        "instances of 'str' and 'int'",
        folds=5,
        groups=np.array([0, "a"] * (ROWS // 2), dtype=object),
    ),
    "groups beside pairs": refused(
        ValueError,
        "Argument `groups` must come with a number of folds or with a "
        "splitter. Pairs of index arrays say themselves which rows belong "
        "together.",
        groups=np.arange(ROWS),
    ),
    "a seed too high for the last fold": refused(
        ValueError,
        "Argument `seed` must be an integer <= 4294967294: each of the 2 folds "
        "has a seed of its own, `seed + fold`, and the highest is 4294967295. "
        "Received: seed=4294967295",
        seed=2**32 - 1,
    ),
    "a seed too high for any": refused(
        ValueError,
        "Argument `seed` must be an integer <= 4294967291: each of the 5 folds "
        "has a seed of its own, `seed + fold`, and the highest is 4294967295. "
        "Received: seed=18446744073709551616",
        folds=5,
        seed=2**64,
    ),
    "no function": refused(
        TypeError,
        "Argument `build_model` must be a function from a strength, or a "
        "dictionary of several, to a compiled model. Received: "
        "build_model='model'",
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
        "Argument `l2` must be a finite number >= 0 or a schedule. Received: "
        "l2=-0.3",
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


def test_an_error_in_build_model_is_raised_unchanged():
    def build_model(strength):
        raise RuntimeError("no such layer")

    with pytest.raises(RuntimeError, match=r"^no such layer$"):
        tune(build_model)


def test_validation_losses_are_exact_beside_a_huge_penalty():
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


def test_the_highest_seed_is_accepted():
    result = tune(net(), seed=2**32 - 2, epochs=1)
    assert np.isfinite(result.validation_loss).all()


@pytest.mark.slow
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
def test_build_model_that_reads_the_value_of_a_strength_gets_a_number(
    operation,
):
    def regularizer(strength):
        operation(strength)
        return L2(strength)

    def build_model(strength):
        model = net(regularizer=regularizer)(strength)
        model.run_eagerly = EAGER
        return model

    with pytest.warns(UserWarning, match="asks for the value of the strength"):
        result = tune(build_model, epochs=1)
    assert not np.isnan(result.validation_loss).any()


def test_numpy_numbers_multiply_a_strength():
    def regularizer(strength):
        return L2(np.float64(0.5) * strength * np.float32(2.0) / 4)

    result = tune(net(regularizer=regularizer), epochs=1)
    assert result.fallback_reason is None


def test_an_unused_strength_is_an_error():
    def build_model(strength):
        float(strength)
        model = net()(0.1)
        model.run_eagerly = EAGER
        return model

    with pytest.raises(ValueError, match="must use the strength"):
        l2keras.tune_strength(
            build_model, X, LABELS, STRENGTHS, folds=FOLDS, epochs=1, verbose=0
        )


def test_folds_must_not_be_a_string():
    with pytest.raises(TypeError) as error:
        l2keras.tune_strength(
            net(), X, LABELS, STRENGTHS, folds="5", epochs=1, verbose=0
        )
    assert str(error.value) == (
        "Argument `folds` must be a number, a splitter of scikit-learn, or "
        "pairs of index arrays. Received: folds='5'"
    )


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
def test_shuffle_and_verbose_are_checked(options, kind, message):
    with pytest.raises(kind) as error:
        l2keras.tune_strength(
            net(), X, LABELS, STRENGTHS, **{"epochs": 1, **options}
        )
    assert str(error.value) == message
