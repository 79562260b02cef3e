"""Models that `Proximal` refuses or warns of, and that nothing is changed."""

import keras
import numpy as np
import pytest

import l2keras
from l2keras import L1, L2, GroupLasso, Proximal
from tests.support.proximal_cases import (
    KERNEL,
    X,
    Y,
    fit,
    kernel,
    linear,
    proximal_sgd,
    sgd,
)

optimizers = keras.optimizers


class OwnAdam(optimizers.Adam):
    """Somebody's own, which may move the weights in any way."""


KNOWN = (
    "`Proximal` must know how far the optimizer moves each weight, and knows "
    "it of Keras's `SGD`, `Adam`, `AdamW`, `Nadam`, `RMSprop` and `Adagrad`. "
    "Received: "
)

BAD = {
    "no optimizer": (
        lambda: Proximal("adam"),
        TypeError,
        "Argument `optimizer` must be an optimizer of Keras, as an instance "
        "such as `keras.optimizers.Adam(0.001)`. Received: optimizer='adam' "
        "(of type str)",
    ),
    "Lion": (lambda: Proximal(optimizers.Lion()), ValueError, KNOWN + "Lion"),
    "a class of one's own, in another": (
        lambda: Proximal(l2keras.DecoupledWeightDecay(OwnAdam(), default=0.1)),
        ValueError,
        KNOWN + "OwnAdam",
    ),
    "averages": (
        lambda: Proximal(sgd(use_ema=True)),
        ValueError,
        "The optimizer must not put averages in place of the weights: a weight "
        "that is zero now was not so always, and its average is not. Make it "
        "with `use_ema=False`. Received: SGD(use_ema=True)",
    ),
    "twice": (
        lambda: Proximal(
            l2keras.DecoupledWeightDecay(proximal_sgd(), default=0.1)
        ),
        ValueError,
        "Argument `optimizer` must not be a `Proximal`, nor wrap one: each "
        "step would be taken twice.",
    ),
    "a loss scale inside": (
        lambda: Proximal(optimizers.LossScaleOptimizer(sgd())),
        ValueError,
        "Argument `optimizer` must not wrap another. Wrap the inner one: "
        "`LossScaleOptimizer(Proximal(optimizer, ...))`. Received: "
        "optimizer=LossScaleOptimizer(...)",
    ),
    "cautious decay outside": (
        lambda: l2keras.DecoupledWeightDecay(
            proximal_sgd(), default=0.1, cautious=True
        ),
        ValueError,
        "With `cautious=True` the decay looks at the update, of which proximal "
        "steps are no part, and would move weights from zero. Put it inside: "
        "`Proximal(DecoupledWeightDecay(SGD(...), ...))`.",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_unsupported_optimizers_are_refused(name):
    call, error, message = BAD[name]
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


NOTHING = (
    "None of the weights that are trained has a penalty with a proximal step, "
    "such as `L1` or `GroupLasso`, so there is nothing for `Proximal` to do. "
    "Give some a `kernel_regularizer=`, or call "
    "`l2keras.apply_regularizers(model, ...)`, or compile with `SGD` alone. "
)
MODELS = {
    "no penalty": (None, NOTHING),
    "a smooth one": (L2(0.1), NOTHING),
    "groups of two kinds": (
        GroupLasso(0.1) + GroupLasso(0.1, axis=0),
        "Weight 'dense/kernel': A weight must not be in groups of two kinds",
    ),
    "Keras's own": (
        keras.regularizers.L1L2(0.01, 0.02),
        "Weight 'dense/kernel': Keras's own `L1L2` has no proximal step: Keras "
        "takes its gradient always. Use `l2keras.L1L2(l1=0.01, l2=0.02)` "
        "instead",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_without_a_proximal_penalty_are_refused_and_unchanged(name):
    regularizer, message = MODELS[name]
    model = linear(regularizer)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        fit(model, proximal_sgd(momentum=0.5))
    assert message in str(caught.value)
    np.testing.assert_array_equal(kernel(model), KERNEL)
    # And trains on, as was meant.
    model.layers[0].kernel.regularizer = L1(0.5)
    fit(model, proximal_sgd(momentum=0.5))
    assert (kernel(model) == 0).any()


def test_a_model_must_be_compiled_with_proximal():
    model = linear(L1(0.1))
    model.compile(sgd(), "mse")
    with pytest.raises(ValueError, match="must be compiled with") as caught:
        proximal_sgd().build(model.trainable_variables)
    assert str(caught.value) == (
        "A model must be compiled with `Proximal`: in its `optimizer` "
        "penalties find that no gradient is to be taken of them. Call "
        "`model.compile(optimizer, ...)` before the first gradient is taken, "
        "in a custom training loop as well. If the model trains its parts by "
        "several optimizers, compile the part with its own, and make that an "
        "attribute of the whole: `gan.g_optimizer`. Received: model "
        f"{model.name!r}, whose weights other optimizers train"
    )


def test_each_weight_with_a_problem_is_named():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, kernel_regularizer="l1", name="a"),
            keras.layers.Dense(2, bias_regularizer="l1", name="b"),
        ]
    )
    model.compile(proximal_sgd(), "mse")
    with pytest.raises(ValueError, match="Keras's own") as caught:
        model.optimizer.build(model.trainable_variables)
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "Weight 'a/kernel'",
        "Weight 'b/bias'",
    ]


def test_a_regularizer_of_keras_applied_later_is_refused():
    model = linear(L1(0.5))
    fit(model, proximal_sgd())
    l2keras.apply_regularizers(
        model, {"dense/kernel": keras.regularizers.L1(0.5)}
    )
    with pytest.raises(ValueError, match=r"Use `l2keras\.L1\(l1=0\.5\)`"):
        fit(model)


def test_keras_regularizers_are_not_patched():
    classes = keras.regularizers.L1, keras.regularizers.L1L2
    before = [vars(cls).copy() for cls in classes]
    fit(linear(L1(0.5)), proximal_sgd())
    assert [vars(cls).copy() for cls in classes] == before


def test_moving_averages_enabled_later_are_refused():
    model = linear(L1(0.1))
    optimizer = proximal_sgd()
    optimizer.use_ema = True
    with pytest.raises(ValueError, match="must not put averages"):
        fit(model, optimizer)


# Warnings ---------------------------------------------------------------------


def messages(warned):
    """Returns the warnings, but for those of NumPy about PyTorch."""
    return [
        str(warning.message)
        for warning in warned
        if warning.category is UserWarning
    ]


def normalized(regularizer=None, gamma=None, activation=None, between=()):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(
                8, activation, kernel_regularizer=regularizer, name="dense"
            ),
            *between,
            keras.layers.BatchNormalization(
                gamma_regularizer=gamma, name="normal"
            ),
            keras.layers.Dense(3, kernel_regularizer=L1(1.0), name="output"),
        ],
        name="net",
    )


def test_a_sparse_kernel_before_a_batch_normalization_warns():
    for activation in (None, "relu"):
        model = normalized(L1(1.0), activation=activation)
        with pytest.warns(UserWarning, match="cancels the scale") as warned:
            fit(model, proximal_sgd(), epochs=1)
        assert messages(warned) == [
            "A batch normalization follows straight after 'dense/kernel', and "
            "cancels the scale of the kernel: a penalty makes it smaller at no "
            "cost to the data loss, until whole units are zero, needed ones "
            "too. Penalize its scale instead: `normal/gamma` in place of "
            "'dense/kernel', by "
            "`BatchNormalization(gamma_regularizer=l2keras.L1(...))`, which "
            "switches off the same units."
        ]
    inner = normalized(L1(1.0))
    outer = keras.Sequential([keras.Input((10,)), inner])
    with pytest.warns(UserWarning, match="`net/normal/gamma` in place of"):
        fit(outer, proximal_sgd(), epochs=1)


@pytest.mark.parametrize(
    "model",
    [
        lambda: normalized(L2(1.0)),
        lambda: normalized(l2keras.L1L2(l2=1.0)),
        lambda: normalized(L1(1.0), activation="tanh"),
        lambda: normalized(L1(1.0), between=[keras.layers.Activation("tanh")]),
    ],
    ids=["smooth", "switched off", "activation", "layer between"],
)
def test_kernels_not_followed_by_a_batch_normalization_do_not_warn(model):
    fit(model(), proximal_sgd(), epochs=1)  # Warnings are errors.


def test_penalizing_gamma_as_the_warning_advises_gives_zeros():
    model = normalized(gamma=L1(2.0))
    fit(model, proximal_sgd(), epochs=2)
    gamma = keras.ops.convert_to_numpy(model.get_layer("normal").gamma)
    assert (gamma == 0).any()


def test_steps_too_short_for_any_zero_warn_once():
    model = linear(GroupLasso(1e-3))
    schedule = optimizers.schedules.ExponentialDecay(0.2, 4, 0.5)
    model.compile(proximal_sgd(rate=schedule), "mse")
    with pytest.warns(UserWarning, match="No weight of") as warned:
        fit(model, epochs=1)
    norm = np.sqrt((kernel(model) ** 2).sum(0)).min()
    budget = (
        4
        * 1e-3
        * np.mean([0.2 * 0.5 ** (step / 4) for step in np.arange(16) / 4])
    )
    times = next(2**k for k in range(1, 30) if 2**k * budget >= norm)
    assert messages(warned) == [
        "No weight of 'dense/kernel' is zero: the sum of the thresholds of 4 "
        f"proximal steps is about {times:,}x too small. Train longer, or raise "
        "the strength or the learning rate."
    ]
    fit(model, epochs=1)


def test_a_training_that_fails_does_not_warn():
    class Breaks(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    model = linear(GroupLasso(1e-3))
    model.compile(proximal_sgd(), "mse")
    with pytest.raises(KeyboardInterrupt):  # Warnings are errors.
        model.fit(X, Y, verbose=0, callbacks=[Breaks()])


def test_a_training_that_diverges_does_not_warn():
    model = linear(GroupLasso(1e-3))
    fit(model, proximal_sgd(rate=1e6), epochs=10)  # Warnings are errors.
    assert not np.isfinite(kernel(model)).any()


def test_strengths_of_zero_are_accepted_without_a_warning():
    model, plain = linear(L1(0.0)), linear(None)
    fit(model, proximal_sgd())
    fit(plain, sgd())
    np.testing.assert_allclose(kernel(model), kernel(plain), atol=1e-7)
