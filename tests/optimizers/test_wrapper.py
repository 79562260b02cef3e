"""Wrappers can be nested, and stand for the optimizer that they wrap."""

import json

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from l2keras.optimizers import wrapper
from l2keras.optimizers.wrapper import OptimizerWrapper
from tests.support import BACKEND, assert_weights, number
from tests.support.soft_threshold import (
    DECAY,
    NESTED,
    STRENGTH,
    SoftThreshold,
    threshold,
)
from tests.support.weight_decay_cases import (
    X,
    Y,
    distance,
    fit,
    fit_on,
    keras_sgd,
    network,
    single,
    zeros_for,
)

both_orders = pytest.mark.parametrize("order", NESTED)


def adam(**arguments):
    return keras.optimizers.Adam(0.01, **arguments)


# One round another ------------------------------------------------------------


def by_hand(start, rates):
    """Decays and thresholds a kernel that has no gradient, in NumPy."""
    kernel, memory = start.astype("float64"), 0.0
    for rate in rates:
        kernel = kernel * (1 - rate * DECAY)
        memory = 0.5 * memory + rate
        kernel = np.sign(kernel) * np.maximum(
            np.abs(kernel) - STRENGTH * memory, 0
        )
    return kernel


@both_orders
def test_both_wrappers_see_the_scheduled_learning_rate(order):
    model = single()
    start = model.get_weights()[0]
    schedule = keras.optimizers.schedules.ExponentialDecay(0.2, 1, 0.9)
    optimizer = NESTED[order](keras.optimizers.SGD(schedule))
    fit(model, optimizer, epochs=2, x=np.zeros_like(X))
    expected = by_hand(start, [0.2 * 0.9**step for step in range(8)])
    assert 0 < np.mean(expected == 0) < 1
    np.testing.assert_allclose(model.get_weights()[0], expected, atol=1e-6)
    np.testing.assert_array_equal(model.get_weights()[0] == 0, expected == 0)


@both_orders
def test_accumulated_gradients_are_one_update(order):
    model = single()
    start = model.get_weights()[0]
    optimizer = NESTED[order](keras_sgd(gradient_accumulation_steps=3))
    fit(model, optimizer, epochs=5, x=np.zeros_like(X))  # 20 batches.
    expected = by_hand(start, [0.1] * 6)
    np.testing.assert_allclose(model.get_weights()[0], expected, atol=1e-6)
    assert number(ops.convert_to_tensor(optimizer.iterations)) == 6


class ThresholdByHand(keras.callbacks.Callback):
    """Thresholds a plain optimizer's kernels as `SoftThreshold` does."""

    def on_train_begin(self, logs=None):
        self.memory = 0.0

    def on_train_batch_end(self, batch, logs=None):
        self.memory = 0.5 * self.memory + 0.01
        optimizer = self.model.optimizer
        for weight in self.model.trainable_variables[::2]:
            place = optimizer._get_variable_index(weight)
            velocity = ops.convert_to_numpy(optimizer._velocities[place])
            value = ops.convert_to_numpy(weight)
            least = STRENGTH * self.memory / (np.sqrt(velocity) + 1)
            weight.assign(np.sign(value) * np.maximum(np.abs(value) - least, 0))


@both_orders
@pytest.mark.parametrize("clipping", [{}, {"clipnorm": 0.1}])
def test_a_wrapper_reads_the_state_after_the_update(order, clipping):
    theirs = network()
    peer = keras.optimizers.AdamW(0.01, weight_decay=DECAY, **clipping)
    peer.exclude_from_weight_decay(var_names=["bias"])
    theirs.compile(peer, "categorical_crossentropy")
    fit_on(theirs, 2, callbacks=[ThresholdByHand()])
    ours = fit(network(), NESTED[order](adam(**clipping)))
    assert distance(ours, theirs) <= 1e-6
    assert np.mean(ours.get_weights()[0] == 0) > 0.01


class Averages(keras.callbacks.Callback):
    """Averages the weights after each step, as Keras does."""

    def on_train_batch_end(self, batch, logs=None):
        weights = self.model.get_weights()
        if batch == 0:
            self.average = weights
        self.average = [
            0.5 * old + 0.5 * new
            for old, new in zip(self.average, weights, strict=True)
        ]


@both_orders
def test_moving_averages_include_both_wrappers(order):
    averages = Averages()
    plain = network()
    plain.compile(NESTED[order](adam()), "categorical_crossentropy")
    fit_on(plain, 1, callbacks=[averages])
    # At the end of `fit` Keras puts them in place of the weights.
    optimizer = NESTED[order](adam(use_ema=True, ema_momentum=0.5))
    model = fit(network(), optimizer, epochs=1)
    assert_weights(model, averages.average)
    assert distance(model, plain) > 1e-3


@both_orders
def test_nested_wrappers_inside_a_loss_scale_optimizer(order):
    plain = fit(network(), NESTED[order](adam()))
    scaled = fit(
        network(), keras.optimizers.LossScaleOptimizer(NESTED[order](adam()))
    )
    assert distance(plain, scaled) <= 1e-6
    # A step that is skipped changes no weight and no state.
    before = scaled.get_weights()
    found = wrapper.find(scaled.optimizer, SoftThreshold)
    memory = number(ops.convert_to_tensor(found.memory))
    fit_on(scaled, 1, x=np.full_like(X, np.inf))
    assert_weights(scaled, before, atol=0.0)
    assert number(ops.convert_to_tensor(found.memory)) == memory > 0


# Saving -----------------------------------------------------------------------


@both_orders
@pytest.mark.parametrize("scaled", [False, True])
def test_a_reloaded_model_trains_as_if_never_saved(tmp_path, order, scaled):
    def optimizer():
        made = NESTED[order](adam())
        return keras.optimizers.LossScaleOptimizer(made) if scaled else made

    whole = fit(network(), optimizer(), epochs=4)
    half = fit(network(), optimizer(), epochs=2)
    half.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    fit_on(again, 2)
    assert distance(again, whole) == 0.0
    # The state alone, into a model that was made anew.
    half.save_weights(tmp_path / "half.weights.h5")
    fresh = network()
    fresh.compile(optimizer(), "categorical_crossentropy")
    fresh.optimizer.build(fresh.trainable_variables)
    fresh.load_weights(tmp_path / "half.weights.h5")
    fit_on(fresh, 2)
    assert distance(fresh, whole) == 0.0


@both_orders
def test_training_resumes_from_a_backup(tmp_path, order):
    class Breaks(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def compiled():
        model = network()
        model.compile(NESTED[order](adam()), "categorical_crossentropy")
        return model

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    with pytest.raises(KeyboardInterrupt):
        fit_on(compiled(), 4, callbacks=[backup(), Breaks()])
    again = fit_on(compiled(), 4, callbacks=[backup()])
    assert distance(again, fit_on(compiled(), 4)) == 0.0


@both_orders
def test_the_config_holds_every_nested_optimizer(order):
    optimizer = NESTED[order](adam(use_ema=True))
    config = json.loads(json.dumps(optimizer.get_config()))
    again = type(optimizer).from_config(config)
    assert again.get_config() == optimizer.get_config()
    assert [type(each).__name__ for each in wrapper.chain(again)] == [
        type(each).__name__ for each in wrapper.chain(optimizer)
    ]


class Unregistered(keras.optimizers.SGD):
    """Somebody's own optimizer, which Keras does not know by its name."""


def test_custom_objects_reach_the_wrapped_optimizer():
    config = threshold(Unregistered(0.5)).get_config()
    with pytest.raises(TypeError, match="Could not locate class"):
        SoftThreshold.from_config(config)
    again = SoftThreshold.from_config(
        config, custom_objects={"Unregistered": Unregistered}
    )
    assert type(again.inner_optimizer) is Unregistered
    assert again.strength == STRENGTH


# The public attributes --------------------------------------------------------


@both_orders
def test_penalties_and_the_logger_find_a_nested_decay(order):
    model = network()
    fit(model, keras.optimizers.LossScaleOptimizer(NESTED[order](adam())))
    seen = {
        record.path: record.weight_decay for record in l2keras.penalties(model)
    }
    assert seen["hidden/kernel"] == seen["output/kernel"] == DECAY
    assert seen["hidden/bias"] == 0.0
    logger = l2keras.RegularizationLogger(strengths=True)
    history = model.fit(X, Y, verbose=0, callbacks=[logger]).history
    assert history["weight_decay/hidden/kernel"] == [DECAY]


def test_penalties_finds_the_decay_of_a_wrapped_keras_optimizer():
    model = network()
    inner = keras.optimizers.AdamW(0.01, weight_decay=0.25)
    optimizer = keras.optimizers.LossScaleOptimizer(threshold(inner))
    # It reaches the optimizer that decays.
    optimizer.inner_optimizer.exclude_from_weight_decay(var_names=["bias"])
    fit(model, optimizer, epochs=1)
    seen = {
        record.path: record.weight_decay for record in l2keras.penalties(model)
    }
    assert seen == {
        "hidden/kernel": 0.25,
        "hidden/bias": 0.0,
        "output/kernel": 0.25,
        "output/bias": 0.0,
    }


# The settings of any optimizer, with values that no default has.
SETTINGS = {
    "clipnorm": 0.5,
    "use_ema": True,
    "ema_momentum": 0.7,
    "ema_overwrite_frequency": 3,
    "loss_scale_factor": 8.0,
    "gradient_accumulation_steps": 2,
    "weight_decay": 0.125,
}


def test_settings_are_those_of_the_innermost_optimizer():
    inner = adam(**SETTINGS)
    optimizer = SoftThreshold(threshold(inner), 0.2)
    for name, value in SETTINGS.items():
        assert getattr(optimizer, name) == value
    optimizer.clipnorm = 0.25
    optimizer.learning_rate = 0.5
    assert inner.clipnorm == 0.25
    assert number(ops.convert_to_tensor(inner.learning_rate)) == 0.5
    assert number(optimizer.scale_loss(ops.ones(()))) == 8.0
    # They are not applied twice: only the innermost optimizer has variables.
    plain = adam(**SETTINGS)
    model = network()
    for each in (optimizer, plain):
        each.build(model.trainable_variables)
    assert len(optimizer.variables) == len(plain.variables) + 2


@both_orders
@pytest.mark.parametrize("scaled", [False, True])
def test_keras_swaps_the_averaged_weights(order, scaled):
    optimizer = NESTED[order](adam(use_ema=True, ema_momentum=0.5))
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model = fit(network(), optimizer, epochs=1)
    averages = model.get_weights()  # Keras has put them there.
    others = [average + 1 for average in averages]
    model.set_weights(others)
    callback = keras.callbacks.SwapEMAWeights()
    callback.set_model(model)
    callback.on_test_begin()
    assert_weights(model, averages)
    callback.on_test_end()
    assert_weights(model, others)


# Custom optimizers ------------------------------------------------------------


class ForgetsSigns(keras.optimizers.Optimizer):
    """An optimizer as Keras's guide has it, made without caution."""

    def build(self, variables):
        super().build(variables)
        self.counts = self.add_optimizer_variables(variables, "count")

    def update_step(self, gradient, variable, learning_rate):
        self.assign_add(
            self.counts[self._get_variable_index(variable)],
            ops.ones_like(gradient),
        )
        self.assign_sub(variable, learning_rate * ops.sign(gradient))

    def apply(self, grads, trainable_variables=None):
        halves = [gradient / 2 for gradient in grads]
        super().apply(halves, trainable_variables)


@both_orders
def test_a_custom_optimizer_can_be_wrapped(order):
    model = single()
    start = model.get_weights()[0]
    optimizer = NESTED[order](ForgetsSigns(0.1))
    fit(model, optimizer, epochs=2, x=np.zeros_like(X))
    expected = by_hand(start, [0.1] * 8)
    np.testing.assert_allclose(model.get_weights()[0], expected, atol=1e-6)


def test_a_built_optimizer_is_not_built_again():
    model = single()
    inner = ForgetsSigns(0.1)
    inner.build(model.trainable_variables)
    variables = len(inner.variables)
    optimizer = l2keras.DecoupledWeightDecay(inner, default=DECAY)
    start = model.get_weights()[0]
    fit(model, optimizer, epochs=1, x=np.zeros_like(X))
    np.testing.assert_allclose(
        model.get_weights()[0], start * 0.97**4, rtol=1e-5
    )
    assert len(inner.variables) == variables


def test_an_unbuilt_wrapper_refuses_gradients():
    model, inner = single(), keras_sgd()
    weights = model.trainable_variables
    inner.build(weights)
    optimizer = l2keras.DecoupledWeightDecay(inner, default=DECAY)
    with pytest.raises(ValueError, match="must be built before") as caught:
        optimizer.apply(zeros_for(weights))
    assert str(caught.value) == (
        "`DecoupledWeightDecay` must be built before gradients are applied "
        "without the variables that they belong to. Call "
        "`optimizer.build(model.trainable_variables)` first."
    )
    if BACKEND != "tensorflow":
        with pytest.raises(ValueError, match="must be built before"):
            optimizer.stateless_apply(
                [variable.value for variable in inner.variables],
                zeros_for(weights),
                [weight.value for weight in weights],
            )


def test_an_update_without_gradients_builds_nothing():
    optimizer = l2keras.DecoupledWeightDecay(keras_sgd(), default=DECAY)
    optimizer.apply([], [])
    assert not optimizer.built
    model = fit(single(), optimizer, epochs=1)
    assert set(optimizer.strengths()) == {"output/kernel"}
    assert model.built


class Lookahead(keras.optimizers.Optimizer):
    """Another library's wrapper, with names of its own."""

    def __init__(self, fast):
        super().__init__(0.1)
        self.fast = fast

    def build(self, variables):
        self.fast.build(variables)
        super().build(variables)

    @property
    def variables(self):
        return self.fast.variables

    def apply(self, grads, trainable_variables=None):
        self.fast.apply(grads, trainable_variables)

    def stateless_apply(self, *arguments):
        return self.fast.stateless_apply(*arguments)


def test_an_optimizer_that_bypasses_update_step_is_an_error():
    optimizer = l2keras.DecoupledWeightDecay(
        Lookahead(keras_sgd()), default=DECAY
    )
    with pytest.raises(RuntimeError, match="did not call") as caught:
        fit(single(), optimizer, epochs=1)
    assert (
        "`Lookahead` was given gradients and did not call `update_step`, "
        "where Keras's optimizers make their updates. So "
        "`DecoupledWeightDecay` had no part in its update. Define its "
        "`update_step`, or, if it wraps another optimizer, wrap that one: "
        "`Lookahead(DecoupledWeightDecay(optimizer, ...))`. To accumulate "
        "gradients, give it `gradient_accumulation_steps`."
    ) in str(caught.value)
    # As it says.
    model = single()
    start = model.get_weights()[0]
    inner = l2keras.DecoupledWeightDecay(keras_sgd(), default=DECAY)
    fit(model, Lookahead(inner), epochs=1, x=np.zeros_like(X))
    np.testing.assert_allclose(
        model.get_weights()[0], start * 0.97**4, rtol=1e-5
    )


# Bad input --------------------------------------------------------------------


def several():
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip("Since Keras 3.15.")
    return keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(keras_sgd())
    )


BAD = {
    "no optimizer": (
        lambda: threshold("adam"),
        TypeError,
        "Argument `optimizer` must be an optimizer of Keras, as an instance "
        "such as `keras.optimizers.Adam(0.001)`. Received: optimizer='adam' "
        "(of type str)",
    ),
    "a loss scale inside": (
        lambda: threshold(keras.optimizers.LossScaleOptimizer(keras_sgd())),
        ValueError,
        "Argument `optimizer` must not wrap another. Wrap the inner one: "
        "`LossScaleOptimizer(SoftThreshold(optimizer, ...))`. Received: "
        "optimizer=LossScaleOptimizer(...)",
    ),
    "several": (
        lambda: threshold(several()),
        ValueError,
        "Argument `optimizer` must not be made of several. Wrap those of them "
        "that `SoftThreshold` is for. Received: optimizer=MultiOptimizer(...)",
    ),
    "decay twice, with another between": (
        lambda: NESTED["threshold inside"](NESTED["threshold inside"](adam())),
        ValueError,
        "Argument `optimizer` must not be a `DecoupledWeightDecay`, nor wrap "
        "one: the weights would decay twice. Put all strengths into one "
        "dictionary of rules.",
    ),
    "decay of Keras below another": (
        lambda: NESTED["threshold inside"](keras.optimizers.AdamW()),
        ValueError,
        "The optimizer must not decay weights itself, which would then decay "
        "twice. Make it with `weight_decay=0.0`, and give "
        "`DecoupledWeightDecay` the strength, as in `default=0.004`. Received: "
        "AdamW(weight_decay=0.004)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_invalid_arguments_are_explained(name):
    call, error, message = BAD[name]
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


def test_the_bare_wrapper_trains_as_the_wrapped_optimizer():
    plain = fit(network(), adam())
    wrapped = fit(network(), OptimizerWrapper(adam()))
    assert distance(plain, wrapped) == 0.0
