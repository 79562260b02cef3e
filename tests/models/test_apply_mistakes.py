"""Rules that cannot be applied are explained, and nothing is changed."""

import keras
import pytest
from keras import ops

import l2keras
from tests.support import rising_schedule
from tests.support.built_models import described, two_layers


def unbuilt():
    return keras.Sequential([keras.layers.Dense(1)], name="unbuilt")


register = keras.saving.register_keras_serializable(
    package="l2keras_tests_mistakes"
)


@register
class Vector(keras.regularizers.Regularizer):
    def __call__(self, weights):
        return weights[0]


@register
class Forgetful(l2keras.Regularizer):
    def __init__(self, strength=0.01, power=2):
        super().__init__(strength)

    def penalty(self, weights):
        return ops.sum(weights**2)


@register
class Failing(keras.regularizers.L2):
    def get_config(self):
        raise KeyError("l3")


def mistake(error, message, rules=None, default=None, make=None, **arguments):
    return make or two_layers, rules, default, arguments, error, message


SCHEDULE = l2keras.LinearSchedule(0.0, 0.05, steps=8)
RECEIVED = (
    "must be a regularizer, as an instance such as `l2keras.L2(1e-4)`, or "
    "None. Received: "
)
MISTAKES = {
    "no model": mistake(
        TypeError,
        "Argument `model` must be a Keras model. Received: model='model' (of "
        "type str)",
        default=l2keras.L2(),
        make=lambda: "model",
    ),
    "not built": mistake(
        ValueError,
        "Model 'unbuilt' is not built, so it has no weights yet. Call "
        "`model.build(input_shape)` first, or call it on data.",
        default=l2keras.L2(),
        make=unbuilt,
    ),
    "a class": mistake(
        TypeError,
        f"Argument `default` {RECEIVED}default={l2keras.L2!r}",
        default=l2keras.L2,
    ),
    "a class in the rules": mistake(
        TypeError,
        f"Argument `rules['hidden/kernel']` {RECEIVED}rules['hidden/kernel']="
        f"{l2keras.L2!r}",
        {"hidden/kernel": l2keras.L2},
    ),
    "a number": mistake(
        TypeError,
        f"Argument `default` {RECEIVED}default=0.01",
        default=0.01,
    ),
    "a schedule": mistake(
        TypeError,
        f"Argument `rules['.*']` {RECEIVED}rules['.*']={SCHEDULE!r}",
        {".*": SCHEDULE},
    ),
    "no match": mistake(
        ValueError,
        "Pattern 'hiden/.*' matches no weight. Did you mean 'hidden/.*'? A "
        "pattern is a whole path or a regular expression for one. The nearest "
        "of 6 paths: 'hidden/bias', 'hidden/kernel', 'norm/beta', "
        "'norm/gamma', 'output/bias'",
        {"hiden/.*": l2keras.L2()},
    ),
    "two matches": mistake(
        ValueError,
        "Weight 'hidden/kernel' is matched by more than one pattern: "
        "'hidden/.*', '.*/kernel'. Make each weight match at most one.",
        {"hidden/.*": l2keras.L2(), ".*/kernel": None},
    ),
    "no expression": mistake(
        ValueError,
        "Pattern 'hidden/(' is not a regular expression: missing ), "
        "unterminated subpattern at position 7.",
        {"hidden/(": l2keras.L2()},
    ),
    "no string": mistake(
        TypeError,
        "A pattern must be a string: a path, or a regular expression. "
        "Received: 0",
        {0: l2keras.L2()},
    ),
    "statistics": mistake(
        ValueError,
        "Weight 'norm/moving_mean' is never trained, so it cannot pay a "
        "penalty. Leave it out of the rules.",
        {"norm/moving_mean": l2keras.L2()},
    ),
    "no such axis": mistake(
        ValueError,
        "Regularizer GroupLasso(strength=0.01, axis=3, scale_by_size=False) "
        "cannot be computed for weight 'hidden/kernel' of shape (4, 3): "
        "GroupLasso(strength=0.01, axis=3, scale_by_size=False) needs weights "
        "that have axis 3. Received: weights of shape (4, 3)",
        default=l2keras.GroupLasso(axis=3),
    ),
    "a vector": mistake(
        ValueError,
        "A regularizer must return one number. Received: Vector(...), which "
        "returned shape (3,) for weight 'hidden/kernel'",
        {"hidden/kernel": Vector()},
    ),
    "an argument that is not kept": mistake(
        ValueError,
        "Regularizer Forgetful(strength=0.01) cannot be saved. Its "
        "`get_config` raised AttributeError: Class `Forgetful` must store its "
        "argument `power` as `self.power`, or define `get_config`: it could "
        "not be saved.",
        {"hidden/kernel": l2keras.L2(), "output/kernel": Forgetful()},
    ),
    "a config that fails": mistake(
        ValueError,
        "Regularizer Failing(...) cannot be saved. Its `get_config` raised "
        "KeyError: 'l3'",
        {"norm/gamma": Failing()},
    ),
    "nothing": mistake(
        ValueError,
        "There is nothing to apply. Give `rules`, a dictionary from path or "
        "pattern to regularizer, or a `default` for all kernels. (To take all "
        'regularizers off, the rule is `{".*": None}`.)',
    ),
    "no kernel": mistake(
        ValueError,
        "Model 'bare' has no kernel that the default could go to.",
        default=l2keras.L2(),
        make=lambda: keras.Sequential(
            [keras.Input((4,)), keras.layers.BatchNormalization()], name="bare"
        ),
    ),
    "no boolean": mistake(
        TypeError,
        "Argument `default_embeddings` must be a boolean. Received: "
        "default_embeddings='yes'",
        default=l2keras.L2(),
        default_embeddings="yes",
    ),
    "a regularizer in place of rules": mistake(
        TypeError,
        "Argument `rules` must be a dictionary from path or pattern to a "
        "regularizer. Received: rules=L2(l2=0.0001). For all kernels, write "
        "`default=L2(l2=0.0001)`",
        l2keras.L2(1e-4),
    ),
    "a list": mistake(
        TypeError,
        "Argument `rules` must be a dictionary from path or pattern to a "
        "regularizer. Received: rules=['hidden/kernel']",
        ["hidden/kernel"],
    ),
}


@pytest.mark.parametrize(
    ("make", "rules", "default", "arguments", "error", "message"),
    [pytest.param(*row, id=name) for name, row in MISTAKES.items()],
)
def test_mistakes_are_explained_and_change_nothing(
    make, rules, default, arguments, error, message
):
    model = make()
    built = getattr(model, "built", False)
    if built:
        before = l2keras.penalties(model), model.to_json()
    with pytest.raises(error) as raised:
        l2keras.apply_regularizers(model, rules, default, **arguments)
    assert str(raised.value) == message
    if built:
        assert (l2keras.penalties(model), model.to_json()) == before


def test_one_mistake_among_good_rules_changes_nothing():
    model = two_layers(kernel_regularizer=l2keras.L2(0.25))
    before = described(model), model.to_json(), len(model.variables)
    with pytest.raises(ValueError, match="cannot be computed"):
        l2keras.apply_regularizers(
            model,
            {
                "hidden/kernel": l2keras.L1(rising_schedule()),
                "output/kernel": l2keras.GroupLasso(axis=2),
                "hidden/bias": None,
            },
        )
    assert (described(model), model.to_json(), len(model.variables)) == before
