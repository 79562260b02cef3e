"""Classes of one's own."""

import copy

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from l2keras import Proximal, Regularizer, Sum
from tests.support import number, takes_functions
from tests.support.regularizer_rows import (
    COPIES,
    STRENGTH,
    Power,
    build,
    each_strength,
    losses,
    small_model,
)


@keras.saving.register_keras_serializable(package="l2keras_tests")
class Forgetful(Regularizer):
    """A subclass that does not keep its argument."""

    def __init__(self, strength=0.01, exponent=3.0):
        super().__init__(strength)

    def penalty(self, weights):
        return ops.sum(ops.abs(weights))


@keras.saving.register_keras_serializable(package="l2keras_tests")
class Greedy(Regularizer):
    """A subclass whose arguments have no names."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args)


@pytest.mark.parametrize("duplicate", COPIES, ids=lambda f: f.__name__)
@each_strength
def test_a_subclass_is_saved_without_get_config(duplicate, strength):
    regularizer = build(lambda s: Power(s, exponent=4.0), strength)
    again = duplicate(regularizer)
    assert type(again) is Power
    assert again.exponent == 4.0
    assert again.get_config() == regularizer.get_config()
    weights = ops.array([1.0, -2.0])
    np.testing.assert_allclose(number(again(weights)), 17 * STRENGTH, rtol=1e-6)


def test_a_subclass_is_saved_with_a_model(tmp_path):
    model = small_model(Power(0.1, exponent=4.0))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(losses(again), losses(model), rtol=1e-6)
    assert repr(again.layers[0].kernel_regularizer) == (
        "Power(strength=0.1, exponent=4.0)"
    )


def test_a_subclass_must_keep_its_arguments():
    with pytest.raises(AttributeError) as error:
        Forgetful(0.1).get_config()
    assert str(error.value) == (
        "Class `Forgetful` must store its argument `exponent` as "
        "`self.exponent`, or define `get_config`: it could not be saved."
    )


def test_a_subclass_that_kept_no_argument_still_has_a_repr():
    # It is in messages: an error in it would hide them.
    assert repr(Forgetful(0.1)).startswith("Forgetful(strength=0.1")


def test_a_subclass_must_name_its_arguments():
    with pytest.raises(TypeError) as error:
        Greedy(0.1).get_config()
    assert str(error.value) == (
        "The constructor of `Greedy` must name its arguments, so that they "
        "can be saved. Received: `*args`"
    )


def test_a_subclass_must_define_its_penalty():
    with pytest.raises(NotImplementedError) as error:
        Regularizer(0.1)(ops.ones((2,)))
    assert str(error.value) == (
        "Class `Regularizer` must define `penalty(self, weights)`, the penalty "
        "at unit strength."
    )


@keras.saving.register_keras_serializable(package="tests")
class OfFormula(Regularizer):
    """Returns a given value, for any weights."""

    def __init__(self, penalty=None, proximal=None):
        super().__init__(0.5)
        self.returned = {"penalty": penalty, "proximal": proximal}

    def penalty(self, weights):
        return self.returned["penalty"]

    def proximal(self, weights, threshold):
        return self.returned["proximal"](weights)


@pytest.mark.parametrize("returned", [3.0, 3, np.float64(3), np.float16(3)])
def test_a_penalty_may_be_any_kind_of_number(returned):
    value = OfFormula(returned)(ops.ones((2,)))
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    assert number(value) == 1.5


def test_a_penalty_that_returns_nothing_is_an_error():
    with pytest.raises(TypeError) as error:
        OfFormula()(ops.ones((2,)))
    assert str(error.value) == (
        "`OfFormula.penalty` must return a number, a tensor of shape `()` such "
        "as `ops.sum(weights)`. Received: None"
    )


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 3)])
def test_a_penalty_that_returns_several_numbers_is_an_error(shape):
    with pytest.raises(ValueError, match="one number") as error:
        OfFormula(ops.ones(shape))(ops.ones((2, 3)))
    assert str(error.value) == (
        "`OfFormula.penalty` must return one number, a tensor of shape `()`, "
        f"such as `ops.sum(weights)`. Received: shape {shape} for weights of "
        "shape (2, 3)"
    )


def test_the_first_call_of_a_training_names_the_weight():
    model = small_model(OfFormula(ops.ones((3,))))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="one number") as error:
        model.fit(np.ones((4, 3)), np.ones((4, 4)), verbose=0)
    kernel = model.layers[0].kernel
    assert f"for weights {kernel.path!r} of shape" in str(error.value)


@keras.saving.register_keras_serializable(package="l2keras_tests")
class Unfinished(Regularizer):
    def __init__(self, strength=0.1):
        self.own = strength

    def penalty(self, weights):
        return ops.sum(weights)


@keras.saving.register_keras_serializable(package="l2keras_tests")
class UnfinishedSum(Sum):
    def __init__(self, strength=0.1):
        self.own = strength


@pytest.mark.parametrize(
    ("make", "argument"),
    [(Unfinished, "strength"), (UnfinishedSum, "regularizers")],
)
@pytest.mark.parametrize(
    "use", [lambda r: r(ops.ones((2,))), lambda r: r + r, copy.deepcopy]
)
def test_a_constructor_must_call_that_of_the_base(make, argument, use):
    repr(make())  # It is in messages.
    with pytest.raises(AttributeError) as error:
        use(make())(ops.ones((2,)))
    assert str(error.value) == (
        f"The constructor of `{make.__name__}` must call "
        f"`super().__init__({argument})`."
    )


def test_an_unregistered_class_warns_once():
    class Cube(Regularizer):
        def penalty(self, weights):
            return ops.sum(ops.abs(weights) ** 3)

    with pytest.warns(UserWarning, match="`Cube` is not registered") as caught:
        Cube(0.5)
    (warning,) = caught
    assert warning.filename == __file__
    Cube(0.5)  # Warnings are errors here.

    def cube(weights):
        return ops.sum(ops.abs(weights) ** 3)

    if takes_functions():
        model = small_model(None)
        with pytest.warns(UserWarning, match="`cube` is not registered"):
            l2keras.apply_regularizers(model, default=cube)


def test_a_class_in_a_custom_object_scope_does_not_warn():
    class Cube(Regularizer):
        def penalty(self, weights):
            return ops.sum(ops.abs(weights) ** 3)

    with keras.saving.custom_object_scope({"Cube": Cube}):
        Cube(0.5)


@pytest.mark.parametrize(
    ("returned", "kind", "message"),
    [
        (
            lambda weights: None,
            TypeError,
            "`OfFormula.proximal` must return the weights after the step.",
        ),
        (
            ops.transpose,
            ValueError,
            "`OfFormula.proximal` must return the weights after the step, in "
            "their shape. Received: shape (3, 2) for weights of shape (2, 3)",
        ),
    ],
)
def test_a_proximal_step_must_return_the_weights(returned, kind, message):
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(
                3, kernel_regularizer=OfFormula(1.0, proximal=returned)
            ),
        ]
    )
    model.compile(Proximal(keras.optimizers.SGD(0.1)), "mse")
    with pytest.raises(kind) as error:
        model.fit(np.ones((4, 2)), np.ones((4, 3)), verbose=0)
    assert message in str(error.value)
