"""A search trains the optimizer that `build_model` returned, as `fit` does.

Its config has neither the weights excluded from decay nor the state of earlier
training.
"""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

import l2keras
from l2keras import L2
from tests.support import BACKEND

pytestmark = [
    pytest.mark.filterwarnings("ignore:The best strength"),
    # Of Keras, about a layer that takes no part.
    pytest.mark.filterwarnings("ignore:Gradients do not exist"),
]

layers, optimizers = keras.layers, keras.optimizers

STRENGTHS = [0.01, 0.3]
RNG = np.random.default_rng(5)
X = RNG.normal(size=(60, 6)).astype("float32")
Y = (X @ RNG.normal(size=6) > 0).astype("int32") + (X[:, 0] > 1)
# Neither a multiple of the batch size, nor equal parts of the rows.
FOLDS = [
    (np.arange(0, 38), np.arange(38, 60)),
    (np.arange(22, 60), np.arange(22)),
]
EPOCHS, BATCH = 2, 16

# Models trained by `fit` are not compiled where that takes longer.
EAGER = BACKEND == "tensorflow"


def net():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, "relu", name="hidden"),
            layers.Dense(3, "softmax", name="output"),
        ]
    )


def compiled(model, optimizer):
    model.compile(
        optimizer,
        "sparse_categorical_crossentropy",
        metrics=["sparse_categorical_crossentropy"],
        run_eagerly=EAGER,
    )
    return model


def regularized(model, strength):
    l2keras.apply_regularizers(model, {"hidden/kernel": L2(strength)})
    return model


def fresh(make_optimizer, before_training=lambda optimizer, model: None):
    """Returns a function from a strength to a model that was never trained."""

    def build_model(strength):
        model = regularized(net(), strength)
        optimizer = make_optimizer()
        before_training(optimizer, model)
        return compiled(model, optimizer)

    return build_model


def fine_tuned(make_optimizer, steps=lambda: 3, after=lambda model: None):
    """Returns a function from a strength to a model that was trained before.

    On rows that the seed decides, so that each fold has weights and momentum of
    its own.
    """

    def build_model(strength):
        model = compiled(net(), make_optimizer())
        for _ in range(steps()):
            rows = np.random.randint(0, len(X), BATCH)  # noqa: NPY002
            model.train_on_batch(X[rows], Y[rows])
        after(model)
        return regularized(model, strength)

    return build_model


def excludes(**arguments):
    def before_training(optimizer, model):
        optimizer.exclude_from_weight_decay(**arguments)

    return before_training


def excludes_hidden_kernel(optimizer, model):
    optimizer.exclude_from_weight_decay(var_list=[model.layers[0].kernel])


def adamw():
    return optimizers.AdamW(0.01, weight_decay=5.0)


class WithFriction(optimizers.SGD):
    """Slows down by a variable of its own, which grows with each step."""

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.friction = self.add_variable((), name="friction")

    def update_step(self, gradient, variable, learning_rate):
        self.assign_add(self.friction, ops.ones(()))
        super().update_step(
            gradient, variable, learning_rate / (1 + self.friction)
        )


class Counting(optimizers.SGD):
    """Slows down by a number that is no variable."""

    calls = 0

    def update_step(self, gradient, variable, learning_rate):
        self.calls += 1
        super().update_step(gradient, variable, learning_rate / self.calls)


class Noisy(optimizers.SGD):
    """Draws from a generator that Keras knows nothing of."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.rng = np.random.default_rng(0)

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(
            gradient, variable, learning_rate * self.rng.uniform(0.1, 1.0)
        )


class Logging(optimizers.Adam):
    """Has state that does not depend on the weights."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.notes = {"by": "hand", "when": [1, 2]}


def assign_learning_rate(model):
    model.optimizer.learning_rate = 0.3


def assign_schedule(model):
    model.optimizer.learning_rate = optimizers.schedules.InverseTimeDecay(
        0.3, 2, 0.5
    )


def reduce_learning_rate(model):
    """Has a callback of Keras set the learning rate."""
    callback = keras.callbacks.LearningRateScheduler(lambda epoch: 0.2)
    model.fit(X[:BATCH], Y[:BATCH], callbacks=[callback], verbose=0)


def zero_in_part(model):
    kernel = model.get_layer("hidden").kernel
    half = np.arange(kernel.shape[0])[:, None] % 2
    kernel.assign(ops.convert_to_numpy(kernel) * half)


def freeze_output(model):
    # Without compiling anew: the optimizer still knows all weights.
    model.layers[1].trainable = False


def replaced_update(optimizer, model):
    update = optimizer.update_step

    def update_step(gradient, variable, learning_rate):
        update(gradient, variable, 0.1 * learning_rate)

    optimizer.update_step = update_step


def steps_by_seed():
    return 2 + np.random.randint(0, 2) % 2 * 3  # noqa: NPY002


def momentum(**arguments):
    return lambda: optimizers.SGD(0.05, momentum=0.9, **arguments)


NOT_JAX = ("tensorflow", "torch")

# A row: the model, why it is trained sequentially, and on which backends.
KINDS = {
    "names without weight decay": (fresh(adamw, excludes(var_names=["bias"])),),
    "names of layers without weight decay": (
        fresh(adamw, excludes(var_names=["output"])),
    ),
    "variables without weight decay": (fresh(adamw, excludes_hidden_kernel),),
    "trained SGD": (fine_tuned(momentum()),),
    "trained Nesterov": (fine_tuned(momentum(nesterov=True)),),
    "trained Adam": (fine_tuned(lambda: optimizers.Adam(0.03)),),
    "trained Adam with amsgrad": (
        fine_tuned(lambda: optimizers.Adam(0.03, amsgrad=True)),
    ),
    "trained Nadam": (fine_tuned(lambda: optimizers.Nadam(0.03)),),
    "trained Ftrl": (fine_tuned(lambda: optimizers.Ftrl(0.1)),),
    "trained centered RMSprop": (
        fine_tuned(
            lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True)
        ),
    ),
    "trained, averages of weights": (
        fine_tuned(momentum(use_ema=True, ema_overwrite_frequency=2)),
    ),
    "trained, half of the gradients accumulated": (
        fine_tuned(momentum(gradient_accumulation_steps=2)),
    ),
    "trained, with a schedule": (
        fine_tuned(
            lambda: optimizers.Adam(
                optimizers.schedules.InverseTimeDecay(0.1, 2, 0.5)
            )
        ),
    ),
    "trained, then another learning rate": (
        fine_tuned(momentum(), after=assign_learning_rate),
    ),
    "trained, then a schedule": (
        fine_tuned(momentum(), after=assign_schedule),
    ),
    "a learning rate set by a callback": (
        fine_tuned(momentum(), after=reduce_learning_rate),
    ),
    "trained for longer in one fold": (
        fine_tuned(lambda: optimizers.Adam(0.03), steps=steps_by_seed),
    ),
    "an update that was replaced": (
        fresh(lambda: optimizers.Ftrl(0.1), replaced_update),
        "the training step cannot be vectorized: ",
        ("tensorflow",),
    ),
    "a function for a learning rate": (
        fresh(lambda: optimizers.SGD(lambda: 0.1)),
    ),
    "a subclass with a variable of its own": (
        fresh(lambda: WithFriction(0.3, momentum=0.5)),
    ),
    "a trained subclass": (
        fine_tuned(lambda: WithFriction(0.3, momentum=0.5)),
    ),
    "a subclass with a number of its own": (
        fresh(lambda: Counting(0.3)),
        "the optimizer changes its attribute `calls`",
        NOT_JAX,
    ),
    "a subclass with random numbers of its own": (
        fresh(lambda: Noisy(0.3)),
        "the stacked steps differ from those of a model alone: ",
        NOT_JAX,
    ),
    "a subclass with notes": (fresh(lambda: Logging(0.03)),),
    "trained Lamb": (fine_tuned(lambda: optimizers.Lamb(0.03)),),
    "trained under decoupled weight decay": (
        fine_tuned(
            lambda: l2keras.DecoupledWeightDecay(
                momentum()(), {"hidden/kernel": 0.5}
            )
        ),
    ),
    "trained, with zeros that stay": (
        fine_tuned(lambda: l2keras.KeepZeros(momentum()()), after=zero_in_part),
    ),
    "trained with a scaled loss": (
        fine_tuned(lambda: optimizers.LossScaleOptimizer(momentum()())),
        "the training step cannot be vectorized: ",
        NOT_JAX,
    ),
}
if BACKEND != "jax":  # Whose own `fit` refuses it.
    KINDS["trained, then frozen in part"] = (
        fine_tuned(momentum(), after=freeze_output),
    )
# Which replicas that are trained one after another are tried on as well.
ALONE_TOO = {
    "variables without weight decay",
    "trained, averages of weights",
    "trained, half of the gradients accumulated",
}
# These add little to the others.
SLOW = {
    "names without weight decay-None",
    "names of layers without weight decay-None",
    "variables without weight decay-1",
    "trained Nesterov-None",
    "trained Adam with amsgrad-None",
    "trained Nadam-None",
    "trained Ftrl-None",
    "trained centered RMSprop-None",
    "trained, averages of weights-1",
    "trained, half of the gradients accumulated-1",
    "trained, with a schedule-None",
    "trained, then another learning rate-None",
    "a learning rate set by a callback-None",
    "an update that was replaced-None",
    "a function for a learning rate-None",
    "a subclass with a variable of its own-None",
    "a subclass with random numbers of its own-None",
    "a subclass with notes-None",
    "trained Lamb-None",
    "trained with a scaled loss-None",
}
CASES = [
    pytest.param(
        *(*kind, None, ())[:3],
        at_once,
        id=f"{name}-{at_once}",
        marks=[pytest.mark.slow] if f"{name}-{at_once}" in SLOW else [],
    )
    for name, kind in KINDS.items()
    for at_once in ((None, 1) if name in ALONE_TOO else (None,))
]


def plain_fit(build_model, strength, fold):
    """Returns training and validation losses of a plain fit."""
    keras.utils.set_random_seed(fold)
    model = build_model(float(strength))
    model.run_eagerly = EAGER
    train, validation = FOLDS[fold]
    history = model.fit(
        X[train],
        Y[train],
        batch_size=BATCH,
        epochs=EPOCHS,
        shuffle=False,
        validation_data=(X[validation], Y[validation]),
        validation_batch_size=BATCH,
        verbose=0,
    ).history
    name = "sparse_categorical_crossentropy"
    return history[name], history[f"val_{name}"]


def tune(build_model, **arguments):
    """Returns the result, and the messages of all warnings but of the edge."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        result = l2keras.tune_strength(
            build_model,
            X,
            Y,
            STRENGTHS,
            folds=FOLDS,
            epochs=EPOCHS,
            batch_size=BATCH,
            shuffle=False,
            verbose=0,
            **arguments,
        )
    messages = [
        str(warning.message)
        for warning in warned
        if warning.category is UserWarning
    ]
    return result, [m for m in messages if "Falling back" in m]


@pytest.mark.parametrize(("build_model", "why", "on", "at_once"), CASES)
def test_each_optimizer_trains_as_in_plain_fits(build_model, why, on, at_once):
    reason = why if BACKEND in on else None
    result, messages = tune(build_model, at_once=at_once)
    assert (result.fallback_reason is None) == (reason is None)
    assert len(messages) == (reason is not None)
    for message in messages:
        assert message.startswith(
            f"Falling back to sequential training: {reason}"
        )
    for s, f in ((0, 0), (1, 1)):
        train, validation = plain_fit(build_model, STRENGTHS[s], f)
        for ours, theirs in (
            (result.train_loss, train),
            (result.validation_loss, validation),
        ):
            np.testing.assert_allclose(ours[s, f], theirs, rtol=1e-5, atol=1e-5)


def test_momentum_is_read_from_a_compiled_file(tmp_path):
    trained = compiled(net(), optimizers.SGD(0.1, momentum=0.95))
    trained.fit(X, -Y % 3, verbose=0)  # The wrong way.
    trained.save(tmp_path / "trained.keras")

    def build_model(strength):
        model = keras.saving.load_model(tmp_path / "trained.keras")
        return regularized(model, strength)

    result, messages = tune(build_model)
    assert messages == []
    train, validation = plain_fit(build_model, STRENGTHS[1], 0)
    np.testing.assert_allclose(result.train_loss[1, 0], train, rtol=1e-5)
    np.testing.assert_allclose(
        result.validation_loss[1, 0], validation, rtol=1e-5
    )
    # A new optimizer would have trained the same weights to others.
    new = keras.saving.load_model(tmp_path / "trained.keras", compile=False)
    compiled(new, optimizers.SGD(0.1, momentum=0.95))
    other, _ = plain_fit(
        lambda strength: regularized(new, strength), STRENGTHS[1], 0
    )
    assert np.abs(np.subtract(other, train)).max() > 0.01
