"""A callback that logs the loss in its two parts."""

import warnings
from typing import Any

import keras
import numpy as np

from l2keras._keras.backend import backend
from l2keras._keras.call_stack import trained_by
from l2keras._keras.trainer_hooks import callbacks_at_work
from l2keras.models.decay import decay_strengths
from l2keras.models.terms import placed_regularizers
from l2keras.regularizers.base import strengths_of, terms_of
from l2keras.strengths import step as steps
from l2keras.strengths.schedules import is_never_negative
from l2keras.training.session import (
    Session,
    ShowsParts,
    check_names,
    split_loss,
)
from l2keras.training.splitting import LossSplit
from l2keras.weights.survey import Survey

# The number of an epoch's steps at which schedules are checked. Few, since on
# JAX each takes as long as a training step.
_CHECKED_STEPS = 5

# The numbers that `train_data` adds to the logs.
_OF_GAP = ("train_data_loss", "gap")


class RegularizationLogger(ShowsParts):
    """Logs data loss and regularization loss apart.

    Adds `data_loss` and `regularization_loss` to the logs, and both with `val_`
    where there is validation. They are means over the epoch's batches, weighted
    as Keras weights `loss`, so that

        loss = data_loss + regularization_loss

    The regularization loss is the sum of `model.losses`: the penalties of
    weights and activities, and the losses of `add_loss`. The data loss is the
    sum of the losses given to `compile`, and keeps its digits beside the
    largest penalty; with a custom `compute_loss`, which may do anything, it is
    the rest of `loss`.

    The numbers are computed inside the compiled training step and reach Keras
    as metrics: the progress bar, `History`, `CSVLogger`, `TensorBoard` and
    `EarlyStopping` see them wherever the callback stands in the list, since in
    `fit` it moves to the front. Keras cannot guess whether a number of this
    name should fall or rise: `EarlyStopping(monitor="val_data_loss",
    mode="min")`.

    A custom training step may take the mean of its losses without regard to the
    batches' sizes, as in Keras's guides; then the parts are such means too.

    The split stays on the model until it is compiled anew, so that no later
    training compiles again. It costs as much as a metric. Training and
    evaluation without the logger log the same as ever, and a saved model has
    nothing of it.

    Args:
        penalties: Boolean, whether to log each weight's penalty, as
            `regularization_loss/hidden/kernel`.
        strengths: Boolean, whether to log each strength times scale, as
            `strength/hidden/kernel`, or with the class's name behind where a
            regularizer has several: `strength/hidden/kernel/L1`. And the decay
            strengths of a `DecoupledWeightDecay`, as
            `weight_decay/hidden/kernel`. They are logged as they are when the
            epoch ends, like Keras's `learning_rate`.
        train_data: Training rows to evaluate when an epoch ends, as `fit` takes
            `validation_data`: `(x, y)`, `(x, y, sample_weight)` or a data set;
            a sample of them is enough. `data_loss` is a mean over weights that
            move, with dropout, and `val_data_loss` is not, so that their
            difference is no gap. Logged are `train_data_loss`, which is
            computed as `val_data_loss`, and `gap`: `val_data_loss` minus it.
            Defaults to `None`, which costs nothing.

    Schedules are checked when an epoch ends, at five of its steps: one that is
    negative or not finite there is an error.

    Raises:
        TypeError: If `penalties` or `strengths` is not a boolean.
        ValueError: If `train_data` is a longer tuple. When training begins: if
            the model is not compiled, or logs numbers of these names already.
            When an epoch ends: if a schedule returned a number that is negative
            or not finite.

    Example:

    >>> import keras, l2keras, numpy as np
    >>> model = keras.Sequential([
    ...     keras.Input((2,)),
    ...     keras.layers.Dense(1, kernel_regularizer=l2keras.L2(0.01)),
    ... ])
    >>> model.compile("sgd", "mse")
    >>> logger = l2keras.RegularizationLogger()
    >>> history = model.fit(
    ...     np.ones((8, 2)), np.ones(8), callbacks=[logger], verbose=0
    ... ).history
    >>> sorted(history)
    ['data_loss', 'loss', 'regularization_loss']
    """

    def __init__(
        self,
        penalties: bool = False,
        strengths: bool = False,
        train_data: Any = None,
    ):
        super().__init__()
        for name, value in (("penalties", penalties), ("strengths", strengths)):
            if not isinstance(value, bool):
                raise TypeError(
                    f"Argument `{name}` must be a boolean. "
                    f"Received: {name}={value!r}"
                )
        if isinstance(train_data, tuple) and len(train_data) > 3:
            raise ValueError(
                "Argument `train_data` must be `(x, y)`, `(x, y, "
                "sample_weight)` or a data set. Received: a tuple of "
                f"{len(train_data)}"
            )
        self.penalties = penalties
        self.strengths = strengths
        self.train_data = train_data
        self._warned: set[tuple[int, str]] = set()
        self._first_step: int | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._begin(is_training=True)
        if self.train_data is not None:
            check_names(self._trained_model(), _OF_GAP)
        # Callbacks such as `CSVLogger` see the strengths that are added to the
        # logs if they are called later.
        for callbacks in callbacks_at_work(self._trained_model()):
            if self in callbacks:
                callbacks.insert(0, callbacks.pop(callbacks.index(self)))

    def on_test_begin(self, logs: Any = None) -> None:
        self._begin(is_training=False)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._first_step = _step(self._trained_model())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        model = self._trained_model()
        session = Session.of(model)
        # A custom training loop has no logs.
        if session is not None and trained_by(self) is not None:
            self._check_split(model, session.split, logs or {})
            self._check_schedules(model)
            if self.train_data is not None and logs is not None:
                logs.update(self._gap(model, logs))
        if self.strengths and logs is not None:
            logs.update(_strengths(model))

    def _gap(
        self, model: keras.Model, logs: dict[str, float]
    ) -> dict[str, float]:
        """The data loss of `train_data`, and that of validation minus it."""
        data = self.train_data
        rows = data if isinstance(data, tuple) else (data,)
        # On PyTorch an evaluation draws from the generator that shuffles.
        with backend.random_states_kept():
            evaluated = model.evaluate(
                **dict(zip(("x", "y", "sample_weight"), rows, strict=False)),
                verbose=0,
                callbacks=[ShowsParts()],
                return_dict=True,
            )
        if "data_loss" not in evaluated:
            return {}  # A warning has said why.
        gap = {"train_data_loss": evaluated["data_loss"]}
        if "val_data_loss" in logs:
            gap["gap"] = logs["val_data_loss"] - evaluated["data_loss"]
        return gap

    def _trained_model(self) -> keras.Model:
        """The model that is being trained or evaluated.

        It is not `self.model` after a callback trained another model with this
        logger.
        """
        model = trained_by(self) or self.model
        if model is None or not model.compiled:
            raise ValueError(
                "The model must be compiled before its losses can be logged. "
                "Call `model.compile(...)` first."
            )
        return model

    def _begin(self, is_training: bool) -> None:
        model = self._trained_model()
        if split_loss(model, self.penalties, is_training).is_hidden:
            self._warn(
                model,
                "hidden",
                "overrides `metrics` and leaves out l2keras's, so that Keras "
                "logs no `data_loss` and no `regularization_loss`. Let it "
                "return `[*super().metrics, ...]`.",
            )

    def _check_split(
        self, model: keras.Model, split: LossSplit, logs: dict[str, Any]
    ) -> None:
        """Warns where the parts are not those of the loss that Keras logs."""
        if not split.compute_loss_called:
            self._warn(
                model,
                "not asked",
                "calls no `compute_loss` in its `train_step`, so that l2keras "
                "cannot split the loss. Let `train_step` take the loss from "
                "`self.compute_loss(x, y, y_pred, sample_weight)`, or on JAX "
                "from `self.stateless_compute_loss(...)`.",
            )
        elif split.ignores_losses:
            self._warn(
                model,
                "left out",
                "has penalties, but its `compute_loss` does not add "
                "`model.losses`, so that they are not in the loss, and "
                "`regularization_loss` is 0. Add `sum(self.losses)` to the "
                "result of `compute_loss`.",
            )
        if split.is_plain or split.is_hidden or not split.compute_loss_called:
            return
        if not {"data_loss", "regularization_loss"} <= set(logs):
            self._warn(
                model,
                "own logs",
                "returns logs of its own from its `train_step`, without "
                "`data_loss` and `regularization_loss`. Let it return "
                "`self.get_metrics_result()`, or the result of each of "
                "`self.metrics`.",
            )
            return
        if "loss" not in logs:
            return
        loss, parts = (
            logs["loss"],
            logs["data_loss"] + logs["regularization_loss"],
        )
        if abs(loss - parts) > 1e-2 * max(abs(loss), abs(parts)):
            self._warn(
                model,
                "other parts",
                f"logs {loss:.6g} for `loss`, of which `data_loss` and "
                "`regularization_loss` are not the parts: their sum is "
                f"{parts:.6g}, the mean over the epoch's batches of the "
                "result of `compute_loss`.",
            )

    def _check_schedules(self, model: keras.Model) -> None:
        """Checks the epoch that is over: compiled code cannot raise errors."""
        strengths = [
            term.strength
            for placed in placed_regularizers(
                Survey(model), only_penalized=True
            )
            for term in terms_of(placed.regularizer)
            if term.strength.is_scheduled
        ]
        if not strengths or self._first_step is None:
            return
        begin, end = self._first_step, _step(model) or 0
        schedules = {
            id(strength.value): strength
            for strength in strengths
            if not is_never_negative(strength.value)
        }
        for step in np.unique(
            np.linspace(begin, end, _CHECKED_STEPS).astype(int)
        ):
            for strength in schedules.values():
                strength.number_at(int(step))

    def _warn(self, model: keras.Model, problem: str, text: str) -> None:
        """Warns of each problem of each model once."""
        if (id(model), problem) not in self._warned:
            self._warned.add((id(model), problem))
            warnings.warn(f"Model {model.name!r} {text}", stacklevel=2)


def _step(model: keras.Model) -> int | None:
    """The step of a model, `None` if it counts none."""
    clock = steps.clock_of(model)
    return None if clock is None else clock.number()


def _strengths(model: keras.Model) -> dict[str, float]:
    """The strengths at the model's step, by the keys of the logs."""
    found: dict[str, float] = {}
    with steps.of(model):
        for weight in Survey(model).penalized:
            strengths = strengths_of(weight.variable.regularizer)
            for name, strength in strengths.items():
                key = f"strength/{weight.path}"
                if len(strengths) > 1:
                    key += f"/{name}"
                found[key] = strength.number()
    for path, decay in decay_strengths(model).items():
        found[f"weight_decay/{path}"] = decay
    return found
