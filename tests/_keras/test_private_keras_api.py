"""The private API of Keras that l2keras relies on: a small test for each.

They fail first on a Keras that has moved something, and name it.
"""

import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import ops

from l2keras._keras import (
    call_stack,
    graphs,
    layer_tree,
    optimizer_hooks,
    trainer_hooks,
)
from l2keras._keras.backend import backend
from l2keras._keras.tracked_state import State
from tests.support import BACKEND, number


def compiled_model(optimizer=None, **arguments):
    dense = keras.layers.Dense(1, kernel_regularizer="l2", name="dense")
    model = keras.Sequential([keras.Input((2,)), dense], **arguments)
    model.compile(optimizer or "sgd", "mse", metrics=["mae"])
    return model


X, Y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")


# Layers -----------------------------------------------------------------------


def test_a_state_is_carried_by_a_layer_without_being_a_weight():
    model = compiled_model()
    state = State(3.0, "float32", "state")
    assert layer_tree.track(model.layers[0], state)
    assert not layer_tree.track(model.layers[0], state)
    assert any(
        variable is state.state for variable in model.non_trainable_variables
    )
    assert not any(weight is state.state for weight in model.weights)
    assert layer_tree.tracked_states(model.layers[0]) == [state]
    layer_tree.untrack(model.layers[0], state)
    assert model.non_trainable_variables == []


def test_a_state_may_hold_several_numbers():
    state = State((1, 2), "int", "pair")
    state.write(ops.array([3, 4]))
    assert state.read() == [3, 4]


def test_layers_are_found_at_any_depth_by_their_paths():
    inner = keras.layers.LSTM(1, name="lstm")
    model = keras.Sequential(
        [
            keras.Input((3, 1)),
            keras.layers.Bidirectional(inner, name="both"),
        ]
    )
    paths = [path for path, _ in layer_tree.layers_by_path(model)]
    assert {"", "both/", "both/forward_lstm/"} <= set(paths)
    assert any(path.startswith("both/forward_lstm/lstm_") for path in paths)


def test_a_layer_knows_which_of_its_variables_are_trained():
    layer = keras.layers.BatchNormalization()
    layer.build((None, 2))
    layer.trainable = False
    assert layer_tree.is_trained(layer, layer.gamma)
    assert not layer_tree.is_trained(layer, layer.moving_mean)


# Trainers ---------------------------------------------------------------------


def test_an_added_metric_is_logged_until_it_is_removed():
    model = compiled_model()
    metric = keras.metrics.Mean(name="added")
    trainer_hooks.add_metrics(model, [metric])
    assert "added" in model.fit(X, Y, verbose=0).history
    trainer_hooks.remove_metrics(model, [metric])
    assert metric not in model.metrics


def test_the_losses_of_compile_are_given_as_they_are_computed():
    model = compiled_model()
    with trainer_hooks.compiled_losses(model) as data_losses:
        loss = model.compute_loss(X, Y, ops.zeros((4, 1)))
    assert [number(each) for each in data_losses] == [1.0]
    assert number(loss) == pytest.approx(1.0 + number(sum(model.losses)))


@pytest.mark.parametrize("reads", [True, False])
def test_reading_model_losses_is_noticed(reads):
    model = compiled_model()
    with trainer_hooks.losses_watched(model) as losses:
        if reads:
            sum(model.losses)
    assert losses.were_read == reads
    assert len(losses.values) == 1
    assert model.losses is not losses.watched


def test_the_names_of_compiled_metrics_are_known():
    assert "mae" in trainer_hooks.compiled_metric_names(compiled_model())


def test_callbacks_of_the_running_fit_are_known():
    model = compiled_model()
    found = []

    class Looks(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            other = keras.callbacks.LambdaCallback(
                on_test_begin=lambda logs: self.look()
            )
            self.model.evaluate(X, Y, verbose=0, callbacks=[other])
            self.look()

        def look(self):
            called = trainer_hooks.callbacks_at_work(model)
            found.append([len(callbacks) for callbacks in called])

    # With Keras's own `History`.
    model.fit(X, Y, verbose=0, callbacks=[Looks(), Looks()], epochs=1)
    assert found == [[1, 3], [3]] * 2
    assert trainer_hooks.callbacks_at_work(model) == []


def test_a_compute_loss_of_keras_is_known_where_it_is_wrapped():
    model = compiled_model()
    assert trainer_hooks.adds_losses_up(model)
    model.compute_loss = functools.wraps(model.compute_loss)(lambda: None)
    assert trainer_hooks.adds_losses_up(model)
    model.compute_loss = lambda *args, **kwargs: 0.0
    assert not trainer_hooks.adds_losses_up(model)


def test_a_model_can_be_built_for_training_by_shapes():
    model = compiled_model("adam")
    trainer_hooks.build_for_training(model, (X, Y, None))
    assert model.optimizer.built


# Optimizers -------------------------------------------------------------------


def test_an_optimizer_makes_each_update_by_one_method():
    model = compiled_model("adam")
    optimizer_hooks.allow_around_updates(model.optimizer)
    seen = []

    def around(update, variables, learning_rate):
        seen.append(len(variables))
        update()

    with optimizer_hooks.around_updates(around):
        model.optimizer.apply(
            [ops.ones((2, 1)), ops.ones((1,))], model.trainable_variables
        )
    assert seen == [2]


@pytest.mark.parametrize("accumulate", [None, 2])
def test_the_step_counter_of_an_optimizer_is_known(accumulate):
    optimizer = keras.optimizers.SGD(
        0.1, gradient_accumulation_steps=accumulate
    )
    model = compiled_model(optimizer)
    model.fit(X, Y, batch_size=1, verbose=0)
    counter = optimizer_hooks.counter(optimizer)
    assert counter.number() == (2 if accumulate else 4)
    assert counter.number() == number(ops.convert_to_tensor(counter.now()))


# The call stack ---------------------------------------------------------------


def test_the_model_that_trains_is_on_the_call_stack():
    found = {}

    class Asks(keras.regularizers.Regularizer):
        def __call__(self, weights):
            running = call_stack.running_model()
            found.setdefault(running.step, running)
            return 0.0 * ops.sum(weights)

    model = compiled_model()
    model.layers[0].kernel.regularizer = Asks()
    outer = keras.Sequential([keras.Input((2,)), model])
    outer.compile("sgd", "mse")
    outer.fit(X, Y, verbose=0)
    assert found["train_step"].model is outer
    if BACKEND == "jax":
        assert len(found["train_step"].given) == 4
    outer.evaluate(X, Y, verbose=0)
    assert found["test_step"].model is outer
    found.clear()
    sum(model.losses)
    assert found[""].model is model


def test_the_model_that_called_a_callback_is_known():
    found = []

    class Asks(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            found.append(call_stack.trained_by(self))

    model = compiled_model()
    model.fit(X, Y, verbose=0, callbacks=[Asks()])
    assert found == [model]
    assert call_stack.trained_by(Asks()) is None


def test_the_running_thread_is_recognized():
    with ThreadPoolExecutor(1) as other:
        thread = threading.get_ident()
        assert backend.runs_in(thread)
        assert not other.submit(backend.runs_in, thread).result()


def test_tracing_is_distinguished_from_running(compiled):
    seen = []

    def function(x):
        seen.append(backend.is_tracing())
        return x + 1

    function(ops.ones(()))
    if BACKEND != "torch":
        compiled(function)(ops.ones(()))
        assert seen == [False, True]


# Graphs -----------------------------------------------------------------------


def test_the_graph_of_a_model_is_known():
    dense = keras.layers.Dense(1, name="dense")
    model = keras.Sequential([keras.Input((2,)), dense])
    function = graphs.function_of(model)
    first, second = graphs.nodes(function)
    assert graphs.input_layer(function.inputs[0]) is first.operation
    assert second.operation is dense
    assert second.inputs == first.outputs == function.inputs
    assert second.outputs == function.outputs
    args, kwargs = second.fill_in({id(function.inputs[0]): "filled"})
    assert (args, kwargs) == (("filled",), {})
    assert graphs.function_of(dense) is None


def test_masks_are_seen_in_a_graph():
    inputs = keras.Input((3,), dtype="int32")
    embedding = keras.layers.Embedding(5, 2, mask_zero=True)
    assert graphs.is_masked(embedding(inputs))
    assert not graphs.is_masked(inputs)


def test_an_overridden_method_is_distinguished_from_that_of_keras():
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    assert not graphs.is_of_keras(Own, "call")
    assert graphs.is_of_keras(Own, "fit")


def test_a_tensor_is_made_of_an_array():
    array = np.arange(3, dtype="float32")
    tensor = backend.from_numpy(array)
    assert keras.ops.is_tensor(tensor)
    np.testing.assert_array_equal(ops.convert_to_numpy(tensor), array)


# Proximal steps ---------------------------------------------------------------


def test_optimizer_slots_are_found_by_weight():
    model = compiled_model(keras.optimizers.Nadam(beta_2=0.5))
    kernel, bias = model.trainable_variables
    model.optimizer.build([kernel, bias])
    gradients = [2 * ops.ones(kernel.shape), 4 * ops.ones(bias.shape)]
    model.optimizer.apply(gradients, [kernel, bias])
    for variable, velocity in ((kernel, 2.0), (bias, 8.0)):
        found = optimizer_hooks.slot(model.optimizer, "velocities", variable)
        np.testing.assert_allclose(ops.convert_to_numpy(found), velocity)
    product = optimizer_hooks.product_of_momentums(model.optimizer)
    np.testing.assert_allclose(number(product), 0.9 * (1 - 0.5 * 0.96))


def test_the_schedule_of_a_learning_rate_is_found():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    found = optimizer_hooks.learning_rate_schedule
    assert found(keras.optimizers.SGD(schedule)) is schedule
    assert found(keras.optimizers.SGD(0.1)) is None


@pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="Since Keras 3.15."
)
def test_optimizers_are_found_by_their_variables():
    model = compiled_model()
    kernel, bias = model.trainable_variables
    one, other = keras.optimizers.SGD(), keras.optimizers.Adam()
    several = keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(one, {".*bias": other})
    )
    for variable, own in ((kernel, one), (bias, other)):
        found = optimizer_hooks.optimizers_of(several, variable)
        assert [id(result) for result in found] == [id(several), id(own)]


def test_a_regularizer_receives_the_variable_or_its_value():
    found = []

    class Watching(keras.regularizers.Regularizer):
        def __call__(self, weights):
            found.append(layer_tree.variable_of(model, weights))
            return 0.0 * ops.sum(weights)

    dense = keras.layers.Dense(
        1, kernel_regularizer=Watching(), activity_regularizer=Watching()
    )
    model = keras.Sequential([keras.Input((2,)), dense])
    model.compile("sgd", "mse")
    found.clear()
    model.fit(X, Y, verbose=0)
    assert {id(result) for result in found} == {id(None), id(dense.kernel)}
