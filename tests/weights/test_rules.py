"""Rules: the arguments of users, and the weights that they name."""

import re

import keras
import pytest

from l2keras.weights.rules import Rules
from l2keras.weights.survey import Survey


def kept(value, name):
    return value


def rules(by_pattern, default=None, **arguments):
    return Rules(by_pattern, default, **{"check": kept, **arguments})


@pytest.fixture
def weights():
    """Returns those of a model with a layer of a name that is no expression."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, name="hidden"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dense(2, name="out(put"),
        ]
    )
    return Survey(model).weights


def resolved(given, weights, **arguments):
    return {
        weight.path: (pattern, value)
        for weight, pattern, value in given.resolve(weights, "x", **arguments)
    }


@pytest.mark.parametrize(
    ("by_pattern", "default", "expected"),
    [
        ({}, None, {}),
        (None, None, {}),
        (
            {"hidden/.*": 1},
            None,
            {
                "hidden/kernel": ("hidden/.*", 1),
                "hidden/bias": ("hidden/.*", 1),
            },
        ),
        (
            {"hidden/.*": 1, "hidden/bias": 2},
            None,
            {
                "hidden/kernel": ("hidden/.*", 1),
                "hidden/bias": ("hidden/bias", 2),
            },
        ),
        (
            {"hidden/kernel": None},
            3,
            {
                "hidden/kernel": ("hidden/kernel", None),
                "out(put/kernel": (None, 3),
            },
        ),
        (
            {"out(put/kernel": 1},
            0,
            {
                "hidden/kernel": (None, 0),
                "out(put/kernel": ("out(put/kernel", 1),
            },
        ),
        (
            {"norm/.*": 1},
            None,
            {f"norm/{e}": ("norm/.*", 1) for e in ("gamma", "beta")},
        ),
    ],
    ids=str,
)
def test_an_exact_path_precedes_patterns_and_the_default(
    by_pattern, default, expected, weights
):
    assert resolved(rules(by_pattern, default), weights) == expected


def test_the_default_reaches_the_weights_of_its_predicate(weights):
    given = rules({"hidden/kernel": 1}, 2)
    assert resolved(given, weights, reaches=lambda w: "bias" in w.path) == {
        "hidden/kernel": ("hidden/kernel", 1),
        "hidden/bias": (None, 2),
        "out(put/bias": (None, 2),
    }


def test_values_are_checked_and_converted_with_their_names():
    seen = []

    def check(value, name):
        seen.append(name)
        return 2 * value

    given = Rules({"a/.*": 1, "b": 2}, 3, check=check, argument="scales")
    assert (given.by_pattern, given.default) == ({"a/.*": 2, "b": 4}, 6)
    assert seen == ["scales['a/.*']", "scales['b']", "default"]


def test_later_changes_of_the_dictionary_are_not_seen():
    by_pattern = {"a": 1}
    given = rules(by_pattern)
    by_pattern["b"] = 2
    assert given.by_pattern == {"a": 1}


@pytest.mark.parametrize(
    ("by_pattern", "arguments", "message"),
    [
        (
            ["a"],
            {},
            "Argument `rules` must be a dictionary from path or pattern to "
            "value. Received: rules=['a']. For all kernels, write "
            "`default=['a']`",
        ),
        (
            0.5,
            {"argument": "scales", "values": "a number"},
            "Argument `scales` must be a dictionary from path or pattern to a "
            "number. Received: scales=0.5",
        ),
        (
            {1: 1},
            {},
            "A pattern must be a string: a path, or a regular expression. "
            "Received: 1",
        ),
    ],
)
def test_wrong_types_are_refused_at_once(by_pattern, arguments, message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        rules(by_pattern, **arguments)


NOT_MATCHED = "A pattern is a whole path or a regular expression for one."
LISTED = (
    "The nearest of 6 paths: 'hidden/bias', 'hidden/kernel', 'norm/beta', "
    "'norm/gamma', 'out(put/bias'"
)


@pytest.mark.parametrize(
    ("by_pattern", "message"),
    [
        (
            {"hiden/.*": 1},
            "Pattern 'hiden/.*' matches no weight. Did you mean 'hidden/.*'? "
            f"{NOT_MATCHED} {LISTED}",
        ),
        (
            {"hidden/.*": 1, ".*/kernel": 1},
            "Weight 'hidden/kernel' is matched by more than one pattern: "
            "'hidden/.*', '.*/kernel'. Make each weight match at most one.",
        ),
        (
            {"hidden/(": 1},
            "Pattern 'hidden/(' is not a regular expression: missing ), "
            "unterminated subpattern at position 7.",
        ),
        (
            {"norm/moving_mean": 1},
            "Weight 'norm/moving_mean' is never trained, so it cannot decay. "
            "Leave it out of the rules.",
        ),
        (
            {"embedding": 1},
            f"Pattern 'embedding' matches no weight. {NOT_MATCHED} "
            "The nearest of 6 paths: 'norm/beta', 'hidden/bias', "
            "'hidden/kernel', 'norm/gamma', 'out(put/bias'",
        ),
    ],
)
def test_rules_that_fit_no_weight_are_refused(by_pattern, message, weights):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        rules(by_pattern).resolve(weights, "decay")


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("hidden", "hidden/.*"),
        ("kernel", ".*/kernel"),
        ("my_model/hidden/kernel", "hidden/kernel"),
        ("hiden/kernel", "hidden/kernel"),
        ("Hidden/.*", "hidden/.*"),
        ("hidden/*", "hidden/.*"),
        ("hid*", "hid.*"),
        ("*/kernel", ".*/kernel"),
        ("**/kernel", ".*/kernel"),
    ],
)
def test_a_key_that_matches_nothing_is_answered_with_the_nearest(
    pattern, meant, weights
):
    with pytest.raises(ValueError, match=re.escape(pattern)) as error:
        rules({pattern: 1}).resolve(weights, "decay")
    assert f" Did you mean {meant!r}?" in str(error.value)
    # That does match.
    assert rules({meant: 1}).resolve(weights, "decay")
    is_of_file_names = "*" in pattern and ".*" not in pattern
    assert ("any text" in str(error.value)) == is_of_file_names


def test_of_many_paths_the_nearest_are_listed():
    layers = [keras.layers.Dense(2, name=f"block_{i}") for i in range(40)]
    weights = Survey(keras.Sequential([keras.Input((2,)), *layers])).weights
    with pytest.raises(ValueError, match="nearest of 80 paths") as error:
        rules({"blok_17/kernl": 1}).resolve(weights, "decay")
    assert "'block_17/kernel'" in str(error.value)
    assert str(error.value).count("block_") <= 6


@pytest.mark.parametrize(
    ("first", "second"), [("a+", "aa"), ("block[1]", "block1"), ("x|y", "y")]
)
def test_an_exact_path_is_not_a_pattern_for_other_weights(first, second):
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(2, name=first, use_bias=False),
            keras.layers.Dense(2, name=second, use_bias=False),
        ]
    )
    weights = Survey(model).weights
    path = f"{first}/kernel"
    assert resolved(rules({path: 1}), weights) == {path: (path, 1)}
    # Nor if the weight itself is not among those that can be named.
    message = f"Weight {path!r} is bare, so it cannot x. Leave it out"
    with pytest.raises(ValueError, match=re.escape(message)):
        rules({path: 1}).resolve(
            weights, "x", needs=lambda w: w.path != path, lack="is bare"
        )


def test_a_pattern_skips_weights_that_cannot_take_the_value(weights):
    given = rules({".*": 1})
    needs = {"needs": lambda w: "kernel" in w.path, "lack": "is no kernel"}
    assert list(resolved(given, weights, **needs)) == [
        "hidden/kernel",
        "out(put/kernel",
    ]
