"""Weights that are pulled to where they started: `FromStart`, `set_start`."""

import copy
import pickle

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from l2keras import L1, L2, FromStart, GroupLasso, LinearSchedule, Proximal
from l2keras.models.terms import starts_in
from l2keras.weights.survey import Survey
from tests.support import BACKEND, number

ROWS, INPUTS, OUTPUTS = 64, 6, 3
RNG = np.random.default_rng(2)
X = RNG.normal(size=(ROWS, INPUTS)).astype("float32")
Y = RNG.normal(size=(ROWS, OUTPUTS)).astype("float32")
START = RNG.normal(size=(INPUTS, OUTPUTS)).astype("float32")
IMPORTANCE = RNG.uniform(0.1, 3.0, size=(INPUTS, OUTPUTS)).astype("float32")


def linear(regularizer=None, name="dense", kernel=START):
    dense = keras.layers.Dense(
        OUTPUTS, use_bias=False, kernel_regularizer=regularizer, name=name
    )
    model = keras.Sequential([keras.Input((INPUTS,)), dense], name="linear")
    model.set_weights([kernel])
    return model


def small():
    dense = keras.layers.Dense(1, name="dense")
    return keras.Sequential([keras.Input((2,)), dense], name="small")


def pulled(regularizer, **arguments):
    """A linear model at its start, with the pull put on."""
    model = linear(**arguments)
    l2keras.apply_regularizers(model, default=FromStart(regularizer))
    return model


def fit(model, optimizer=None, epochs=200, **arguments):
    if optimizer is not None:
        model.compile(optimizer, "mse", **arguments)
    return model.fit(
        X, Y, batch_size=ROWS, epochs=epochs, shuffle=False, verbose=0
    ).history


def kernel(model):
    return model.get_weights()[0].astype("float64")


def closed_form(strength, start=START, importance=1.0):
    """Where mean squared error and the pull together are least, by column."""
    x, y = X.astype("f8"), Y.astype("f8")
    weight = strength * np.broadcast_to(importance, START.shape)
    found = np.empty(START.shape)
    for column in range(OUTPUTS):
        pull = np.diag(weight[:, column]) * y.size
        found[:, column] = np.linalg.solve(
            x.T @ x + pull, x.T @ y[:, column] + pull @ start[:, column]
        )
    return found


def sgd():
    return keras.optimizers.SGD(0.3, momentum=0.8)


# What is paid -----------------------------------------------------------------


def test_nothing_is_paid_at_the_start_and_the_penalty_of_the_distance_after():
    model = pulled(L1(0.5) + L2(0.25))
    assert number(sum(model.losses)) == 0.0
    model.set_weights([START + IMPORTANCE])
    expected = 0.5 * IMPORTANCE.sum() + 0.25 * (IMPORTANCE**2).sum()
    np.testing.assert_allclose(number(sum(model.losses)), expected, rtol=1e-5)


def test_without_a_start_the_error_says_what_to_do():
    model = linear(FromStart(L2(0.1)))
    with pytest.raises(ValueError, match="no start yet") as error:
        _ = model.losses
    assert str(error.value) == (
        "`FromStart` has no start yet. Put it on by "
        "`l2keras.apply_regularizers`, or call `l2keras.set_start(model)` once "
        "the model is built; so also after `clone_model`. Received: "
        "FromStart(regularizer=L2(l2=0.1), start=None)"
    )
    l2keras.set_start(model)
    assert number(sum(model.losses)) == 0.0


def test_a_regularizer_that_layers_share_has_a_start_for_each():
    pull = FromStart(L2(1.0))
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, kernel_regularizer=pull, name="a"),
            keras.layers.Dense(
                3,
                kernel_regularizer=pull,
                bias_regularizer=pull,
                name="b",
            ),
        ]
    )
    l2keras.set_start(model)
    assert number(sum(model.losses)) == 0.0
    model.set_weights([each + 1 for each in model.get_weights()])
    # 20 and 15 weights, and 3 biases.
    assert number(sum(model.losses)) == pytest.approx(38.0, rel=1e-5)


def test_a_start_is_no_parameter_and_not_in_weight_files(tmp_path):
    model = pulled(L2(0.1))
    assert model.count_params() == INPUTS * OUTPUTS
    assert len(model.get_weights()) == 1
    assert len(model.trainable_variables) == 1
    path = tmp_path / "some.weights.h5"
    model.save_weights(path)
    plain = linear(kernel=0 * START)
    plain.load_weights(path)
    np.testing.assert_array_equal(kernel(plain), START)
    plain.save_weights(path)
    model.load_weights(path)


# Trained ----------------------------------------------------------------------


def test_training_ends_where_data_and_start_balance():
    model = pulled(L2(0.02))
    fit(model, sgd())
    np.testing.assert_allclose(kernel(model), closed_form(0.02), atol=1e-5)


def test_importance_multiplies_the_squares():
    model = pulled(L2(0.02))
    l2keras.set_start(model, importance={"dense/kernel": IMPORTANCE})
    fit(model, sgd())
    np.testing.assert_allclose(
        kernel(model), closed_form(0.02, importance=IMPORTANCE), atol=1e-5
    )


def test_a_start_that_is_set_between_fits_counts_at_once():
    model = pulled(L2(0.02))
    fit(model, sgd(), epochs=3)
    other = np.ones_like(START)
    l2keras.set_start(model, {"dense/kernel": other})
    fit(model)
    np.testing.assert_allclose(
        kernel(model), closed_form(0.02, start=other), atol=1e-5
    )
    # From now on, to where it is.
    found = kernel(model)
    l2keras.set_start(model)
    assert number(sum(model.losses)) == 0.0
    fit(model, epochs=300)
    np.testing.assert_allclose(
        kernel(model), closed_form(0.02, start=found), atol=1e-5
    )


def test_put_on_a_model_that_was_fitted_it_counts_at_once():
    model = linear()
    fit(model, sgd(), epochs=2)
    before = kernel(model)
    l2keras.apply_regularizers(model, default=FromStart(L2(0.02)))
    fit(model)
    np.testing.assert_allclose(
        kernel(model), closed_form(0.02, start=before), atol=1e-5
    )
    l2keras.apply_regularizers(model, {".*": None})
    fit(model)
    np.testing.assert_allclose(kernel(model), closed_form(0.0), atol=1e-5)


def test_a_loop_of_ones_own_pulls_to_the_start():
    model = pulled(L2(0.02))
    optimizer = keras.optimizers.SGD(1.0)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(X, training=True) - Y) ** 2)
                loss += sum(model.losses)
            slopes = tape.gradient(loss, model.trainable_variables)
            optimizer.apply(slopes, model.trainable_variables)

        optimizer.build(model.trainable_variables)
        for _ in range(150):
            step()
    elif BACKEND == "jax":
        import jax

        def loss_of(trained, others):
            y, others, losses = model.stateless_call(
                trained, others, X, training=True, return_losses=True
            )
            return ((y - Y) ** 2).mean() + sum(losses)

        optimizer.build(model.trainable_variables)
        slopes_of = jax.jit(jax.grad(loss_of))
        trained = [v.value for v in model.trainable_variables]
        others = [v.value for v in model.non_trainable_variables]
        state = [v.value for v in optimizer.variables]
        for _ in range(150):
            slopes = slopes_of(trained, others)
            trained, state = optimizer.stateless_apply(state, slopes, trained)
        model.trainable_variables[0].assign(trained[0])
    else:
        import torch

        for _ in range(150):
            model.zero_grad()
            loss = ((model(X, training=True) - torch.tensor(Y)) ** 2).mean()
            (loss + sum(model.losses)).backward()
            with torch.no_grad():
                optimizer.apply(
                    [v.value.grad for v in model.trainable_variables],
                    model.trainable_variables,
                )
    np.testing.assert_allclose(kernel(model), closed_form(0.02), atol=1e-5)


def test_a_schedule_and_a_scale_multiply_the_pull():
    model = pulled(L2(LinearSchedule(0.0, 0.02, steps=10)))
    l2keras.set_scale(model, {"dense/kernel": 0.5})
    logger = l2keras.RegularizationLogger(strengths=True)
    model.compile(sgd(), "mse")
    history = model.fit(
        X, Y, batch_size=ROWS, epochs=200, verbose=0, callbacks=[logger]
    ).history
    np.testing.assert_allclose(kernel(model), closed_form(0.01), atol=1e-5)
    assert history["strength/dense/kernel"][-1] == pytest.approx(0.01)
    (record,) = l2keras.penalties(model)
    assert record.strengths == {"L2FromStart": pytest.approx(0.01)}


def test_weights_in_mixed_precision_start_in_float32():
    policy = keras.DTypePolicy("mixed_float16")
    dense = keras.layers.Dense(3, dtype=policy, name="dense")
    model = keras.Sequential([keras.Input((INPUTS,)), dense])
    l2keras.apply_regularizers(model, default=FromStart(L2(1.0)))
    values = [START * 1.0001, np.zeros(3)]
    model.set_weights(values)
    l2keras.set_start(model)
    assert number(sum(model.losses)) == 0.0
    model.set_weights([values[0] * 1.0001, np.zeros(3)])
    expected = ((START * 1.0001 * 0.0001) ** 2).sum()
    assert number(sum(model.losses)) == pytest.approx(expected, rel=1e-2)


# Exact ------------------------------------------------------------------------


def proximal_descent(step, start=START):
    """Where data and penalty balance, in NumPy and float64."""
    x, y, w = X.astype("f8"), Y.astype("f8"), start.astype("f8")
    length = 1 / (2 * np.linalg.eigvalsh(x.T @ x)[-1] / y.size)
    for _ in range(3000):
        w = w - length * 2 * x.T @ (x @ w - y) / y.size
        w = start + step(w - start, length)
    return w


def soft(v, t):
    return np.sign(v) * np.maximum(np.abs(v) - t, 0)


def units(v, t):
    norm = np.sqrt((v**2).sum(axis=0))
    return v * np.maximum(1 - t / np.maximum(norm, 1e-300), 0)


PULLS = {
    "L1": (L1(0.1), lambda v, t: soft(v, 0.1 * t)),
    "GroupLasso": (GroupLasso(1.5), lambda v, t: units(v, 1.5 * t)),
    "both": (
        GroupLasso(0.3) + L1(0.1),
        lambda v, t: units(soft(v, 0.1 * t), 0.3 * t),
    ),
    "L1, importance": (
        L1(0.1),
        lambda v, t: soft(v, 0.1 * t * np.sqrt(IMPORTANCE)),
    ),
}


@pytest.mark.parametrize("name", PULLS)
def test_under_proximal_weights_stay_at_the_start_exactly(name):
    regularizer, step = PULLS[name]
    model = pulled(regularizer)
    if "importance" in name:
        l2keras.set_start(model, importance={".*": IMPORTANCE})
    fit(model, Proximal(sgd()))
    expected = proximal_descent(step)
    stays = expected == START
    assert 0 < stays.mean() < 1
    np.testing.assert_array_equal(kernel(model) == START, stays)
    np.testing.assert_allclose(kernel(model), expected, atol=1e-5)


def test_no_importance_leaves_a_weight_free_under_proximal():
    free = np.ones_like(START)
    free[:, 1] = 0.0
    model = pulled(L1(100.0))
    l2keras.set_start(model, importance={".*": free})
    fit(model, Proximal(sgd()))
    expected = closed_form(0.0)
    np.testing.assert_array_equal(kernel(model)[:, [0, 2]], START[:, [0, 2]])
    np.testing.assert_allclose(kernel(model)[:, 1], expected[:, 1], atol=1e-5)


def test_two_starts_in_one_sum_have_no_proximal_step():
    model = linear()
    l2keras.apply_regularizers(model, default=FromStart(L1(0.1)) + L1(0.1))
    model.compile(Proximal(sgd()), "mse")
    with pytest.raises(ValueError, match="Put all that make zeros into one"):
        fit(model, epochs=1)


# Saved ------------------------------------------------------------------------


def assert_same(model, again):
    """The same weights, starts and importances, to the last bit."""
    for one, other in zip(
        model.get_weights(), again.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert number(sum(model.losses)) == number(sum(again.losses))
    first, second = arrays(model), arrays(again)
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


def arrays(model):
    """All starts and importances of a model, by place."""
    return {
        (index, place, name): array
        for index, weight in enumerate(Survey(model).trained)
        for place, start in enumerate(starts_in(weight.variable.regularizer))
        for name, array in start.arrays().items()
    }


@keras.saving.register_keras_serializable(package="l2keras_tests")
class Inside(keras.layers.Layer):
    """A layer with weights of its own and of others, and no argument."""

    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=(4,))
        self.dense = keras.layers.Dense(4)
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x) * self.scale


@keras.saving.register_keras_serializable(package="l2keras_tests")
class Subclassed(keras.Model):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.first = keras.layers.Dense(4)
        self.second = keras.layers.Dense(3)

    def call(self, x):
        return self.second(self.first(x))


def layered():
    """A model of layers that save regularizers in all the ways there are."""
    inputs = keras.Input((5, 4))
    x = keras.layers.Dense(4, name="a")(inputs)
    x = keras.layers.MultiHeadAttention(2, 3)(x, x)
    x = Inside()(x)
    x = keras.layers.RMSNormalization()(x)
    inner = keras.Sequential([keras.layers.Dense(4)], name="inner")
    x = keras.layers.LSTM(4)(inner(x))
    return keras.Model(inputs, keras.layers.Dense(2, name="z")(x))


def subclassed():
    model = Subclassed()
    model(np.ones((2, 4), "float32"))
    return model


@pytest.mark.parametrize("make", [linear, layered, subclassed])
def test_a_saved_model_has_the_starts_to_the_last_bit(make, tmp_path):
    keras.utils.set_random_seed(0)
    model = make()
    rules = {".*": FromStart(L2(0.01) + L1(0.01))}
    l2keras.apply_regularizers(model, rules)
    l2keras.set_start(model, importance={".*kernel": 0.3})
    rng = np.random.default_rng(0)
    model.set_weights(
        [w + rng.normal(size=w.shape) for w in model.get_weights()]
    )
    assert number(sum(model.losses)) > 0
    for number_of_time in range(2):
        path = tmp_path / f"{number_of_time}.keras"
        model.save(path)
        again = keras.models.load_model(path)
        assert_same(model, again)
        model = again


def test_a_reloaded_model_trains_on_as_the_one_that_was_saved(tmp_path):
    model = pulled(L2(0.02))
    fit(model, sgd(), epochs=3)
    path = tmp_path / "model.keras"
    model.save(path)
    again = keras.models.load_model(path)
    fit(model, epochs=3)
    fit(again, epochs=3)
    assert_same(model, again)


def test_a_copied_model_and_a_copied_regularizer_keep_the_start():
    model = pulled(L2(1.0))
    model.set_weights([START + 1])
    for duplicate in (copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))):
        assert_same(model, duplicate(model))
        regularizer = duplicate(model.layers[0].kernel.regularizer)
        assert number(regularizer(START)) == 0.0
        # It is its own.
        l2keras.set_start(model)
        assert number(regularizer(START)) == 0.0
        l2keras.set_start(model, {".*": START})


def test_a_clone_is_told_its_start_anew():
    model = pulled(L2(1.0))
    clone = keras.models.clone_model(model)
    with pytest.raises(ValueError, match="so also after `clone_model`"):
        _ = clone.losses
    clone.set_weights([START + 2])
    l2keras.set_start(clone)
    assert number(sum(clone.losses)) == 0.0
    clone.set_weights([START + 1])
    l2keras.set_start(clone, model)
    np.testing.assert_allclose(number(sum(clone.losses)), START.size, rtol=1e-5)


def test_a_compacted_model_keeps_the_starts():
    model = keras.Sequential(
        [
            keras.Input((INPUTS,)),
            keras.layers.Dense(8, activation="relu", name="hidden"),
            keras.layers.Dense(OUTPUTS, name="output"),
        ]
    )
    l2keras.apply_regularizers(model, default=FromStart(L2(0.1)))
    weights = model.get_weights()
    weights[0][:, :5] = 0.0
    model.set_weights(weights)
    smaller, report = l2keras.compact(model)
    # Channels of a layer with a start of its weights are left alone.
    assert report.widths == {}
    assert report.skipped["hidden"].endswith("`strip_regularizers` first")
    assert number(sum(smaller.losses)) == number(sum(model.losses)) > 0
    l2keras.strip_regularizers(model)
    _, report = l2keras.compact(model)
    assert report.widths["hidden"] == (8, 3)


@pytest.mark.parametrize("name", ["gamma", "embeddings", "attention", "units"])
def test_layers_with_starts_keep_their_channels_when_compacted(name):
    # Of 6 channels one is on. Less than its start, which is of 6, the distance
    # of a weight of one element would be wrong without an error.
    layers = keras.layers
    inputs = keras.Input((4, 6))
    if name == "gamma":
        x = layers.BatchNormalization(name="pulled")(inputs)
        off, axis = ("pulled/gamma", "pulled/beta"), 0
    elif name == "embeddings":
        inputs = keras.Input((4,), dtype="int32")
        x = layers.Embedding(5, 6, name="pulled")(inputs)
        off, axis = ("pulled/embeddings",), 1
    elif name == "attention":
        x = layers.MultiHeadAttention(6, 2, name="pulled")(inputs, inputs)
        off, axis = ("pulled/attention_output/kernel",), 0
    else:
        x = layers.GRU(6, name="pulled")(inputs)
        off, axis = ("last/kernel", "pulled/gru_cell/recurrent_kernel"), 0
    model = keras.Model(inputs, layers.Dense(2, name="last")(x))
    for weight in model.trainable_variables:
        if weight.path.endswith(off):
            values = np.array(ops.convert_to_numpy(weight))
            np.moveaxis(values, axis, 0)[1:] = 0.0
            weight.assign(values)
    smaller, _ = l2keras.compact(model, drop_inputs=True)
    assert smaller.count_params() < model.count_params()
    l2keras.apply_regularizers(model, {"pulled/.*": FromStart(L2(0.1))})
    for weight in model.trainable_variables:
        weight.assign(weight * 1.5)
    smaller, report = l2keras.compact(model, drop_inputs=True)
    assert smaller.count_params() == model.count_params()
    assert report.skipped["pulled"] == (
        "its weights have starts (`FromStart`), which would not fit smaller "
        "weights, so call `strip_regularizers` first"
    )
    assert number(sum(smaller.losses)) == number(sum(model.losses)) > 0


@pytest.mark.slow
def test_resnet50_is_pulled_trained_reloaded_and_stripped(tmp_path):
    model = keras.applications.ResNet50(
        weights=None, input_shape=(32, 32, 3), classes=OUTPUTS
    )
    before = [weight.copy() for weight in model.get_weights()]
    l2keras.apply_regularizers(model, default=FromStart(L2(0.1)))
    starts = arrays(model)
    assert len(starts) == 54  # Of 53 convolutions and a dense layer.
    images = RNG.normal(size=(4, 32, 32, 3)).astype("float32")
    labels = np.eye(OUTPUTS, dtype="float32")[[0, 1, 2, 0]]
    model.compile(keras.optimizers.SGD(1e-3), "categorical_crossentropy")
    model.fit(images, labels, verbose=0)
    path = tmp_path / "model.keras"
    model.save(path)
    again = keras.models.load_model(path)
    assert_same(model, again)
    assert number(sum(again.losses)) > 0
    l2keras.strip_regularizers(again)
    assert not again.losses
    # What it is pulled to are the weights from before the training.
    model.set_weights(before)
    assert number(sum(model.losses)) == 0.0


def test_a_stripped_model_has_nothing_of_it(tmp_path):
    model = pulled(L2(1.0))
    l2keras.strip_regularizers(model)
    assert model.losses == []
    assert len(model.variables) == 1
    assert type(model.layers[0]) is keras.layers.Dense
    path = tmp_path / "model.keras"
    model.save(path)
    assert b"l2keras" not in path.read_bytes()


# What is set ------------------------------------------------------------------


def test_a_start_is_read_from_a_file_of_weights(tmp_path):
    path = tmp_path / "some.weights.h5"
    linear(kernel=START + 1).save_weights(path)
    model = pulled(L2(1.0))
    l2keras.set_start(model, path)
    np.testing.assert_array_equal(kernel(model), START)
    np.testing.assert_allclose(number(sum(model.losses)), START.size, rtol=1e-5)


def test_a_number_is_a_start_that_is_saved_with_the_regularizer():
    gamma = FromStart(L2(0.5), start=1.0)
    assert number(gamma(ops.array([1.0, 3.0]))) == 2.0
    again = FromStart.from_config(gamma.get_config())
    assert number(again(ops.array([1.0, 3.0]))) == 2.0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"start": 3}, TypeError, "`start` must be None, a model, the path"),
        ({"start": {"dense/bias": 0}}, ValueError, "matches no weight"),
        ({"start": {".*": np.ones(2)}}, ValueError, r"the weight, \(6, 3\)"),
        ({"start": {".*": np.nan}}, ValueError, "must be finite. Received"),
        ({"start": {".*": "zero"}}, TypeError, "must be an array"),
        ({"importance": {".*": -1.0}}, ValueError, "finite and >= 0"),
        ({"importance": 2.0}, TypeError, "`importance` must be a dictionary"),
        (
            {
                "start": keras.Sequential(
                    [keras.Input((2,)), keras.layers.Dense(1)]
                )
            },
            ValueError,
            "no weights of the same paths and shapes for 'dense/kernel'",
        ),
    ],
    ids=range(8),
)
def test_mistakes_change_nothing(arguments, error, message):
    model = pulled(L2(1.0))
    model.set_weights([START + 1])
    before = number(sum(model.losses))
    with pytest.raises(error, match=message):
        l2keras.set_start(model, **arguments)
    assert number(sum(model.losses)) == before


def test_a_model_without_a_pull_has_no_start_to_set():
    with pytest.raises(ValueError, match="No weight has a `FromStart`"):
        l2keras.set_start(linear(L2(0.1)))


@pytest.mark.parametrize("regularizer", [None, 0.1, L2, FromStart(L2())])
def test_what_is_pulled_by_is_a_regularizer(regularizer):
    with pytest.raises(TypeError, match="Argument `regularizer` must"):
        FromStart(regularizer)


@pytest.mark.parametrize(
    ("start", "error"), [("0", TypeError), (np.inf, ValueError)]
)
def test_a_start_is_a_finite_number_or_none(start, error):
    with pytest.raises(error, match="`start` must be a finite number or None"):
        FromStart(L2(), start=start)


def test_it_has_no_strength_of_its_own():
    with pytest.raises(AttributeError, match="Its `regularizer` has one"):
        _ = FromStart(L2()).strength
