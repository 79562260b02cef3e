"""A callback that logs the loss in its two parts."""

import warnings
from typing import Any

import keras

from l2keras.models import control
from l2keras.strengths import checking
from l2keras.strengths.clock import Clock
from l2keras.training import instrumentation
from l2keras.training.instrumentation import Instrumentation


class RegularizationLogger(keras.callbacks.Callback):
    """Logs data loss and regularization loss apart, and drives the schedules.

    Adds `data_loss` and `regularization_loss` to the logs, and both with `val_`
    where there is validation. They are means over the epoch's batches, weighted
    as Keras weights `loss`, so that

        loss = data_loss + regularization_loss

    The regularization loss is the sum of `model.losses`: the penalties of
    weights and activities, and whatever `add_loss` added. The data loss is what
    the losses given to `compile` come to, and keeps its digits beside the
    largest penalty; with a `compute_loss` of the model's own, which may do
    anything, it is the rest of `loss`.

    The numbers are computed inside the compiled training step and reach Keras
    as metrics: the progress bar, `History`, `CSVLogger`, `TensorBoard` and
    `EarlyStopping` see them wherever the callback stands in the list. Keras
    cannot guess whether a number of this name should fall or rise:
    `EarlyStopping(monitor="val_data_loss", mode="min")`.

    While it is there, schedules read `optimizer.iterations` at every step.
    After training nothing is left on the model.

    Args:
        penalties: Boolean, whether to log what each weight's regularizer
            returns, as `regularization_loss/hidden/kernel`.
        strengths: Boolean, whether to log each strength times scale, as
            `strength/hidden/kernel`, or with the class's name behind where a
            regularizer has several: `strength/hidden/kernel/L1`. As every
            number in the logs it is the epoch's mean. The decay strengths of a
            `DecoupledWeightDecay` come as `weight_decay/hidden/kernel`, as they
            are when the epoch ends, and are seen by callbacks further down the
            list, and by `History`.

    Raises:
        TypeError: If an argument is not a boolean.
        ValueError: When training begins: if the model is not compiled, or logs
            numbers of these names already.

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

    def __init__(self, penalties: bool = False, strengths: bool = False):
        super().__init__()
        for name, value in (("penalties", penalties), ("strengths", strengths)):
            if not isinstance(value, bool):
                raise TypeError(
                    f"Argument `{name}` must be a boolean. "
                    f"Received: {name}={value!r}"
                )
        self.penalties = penalties
        self.strengths = strengths
        self._instrumentation: Any = None
        self._training = False
        self._step: int | None = None
        self._warned = False

    def on_train_begin(self, logs: Any = None) -> None:
        self._check_compiled()
        self._training = True
        instrumentation.when_built(self.model, self._begin)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._is_active():
            self._step = self._instrumentation.sync_clock()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self._is_active():
            return  # Another logger has taken over.
        if not self._instrumentation.split:
            self._warn(
                "calls no `compute_loss` in its `train_step`, so that l2keras "
                "cannot split the loss. Let `train_step` take the loss from "
                "`self.compute_loss(x, y, y_pred, sample_weight)`, or on JAX "
                "from `self.stateless_compute_loss(...)`."
            )
        if self._instrumentation.clock is not None:
            self._check_schedules(self._instrumentation.clock)
        if self.strengths and logs is not None:
            decays = control.decay_strengths(self.model) or {}
            for path, strength in decays.items():
                logs[f"weight_decay/{path}"] = strength

    def on_train_end(self, logs: Any = None) -> None:
        self._training = False
        if self._is_active():
            self._instrumentation.remove()

    def on_test_begin(self, logs: Any = None) -> None:
        if not self._training:  # `model.evaluate(..., callbacks=[logger])`
            self._check_compiled()
            self._install()
        if self._is_active():
            self._instrumentation.hide_strengths()

    def on_test_end(self, logs: Any = None) -> None:
        if self._is_active():
            self._instrumentation.show_strengths()
            if not self._training:
                self._instrumentation.remove()

    def _is_active(self) -> bool:
        return self._instrumentation is not None and (
            self._instrumentation.installed
        )

    def _check_compiled(self) -> None:
        if self.model is None or not self.model.compiled:
            raise ValueError(
                "The model must be compiled before its losses can be logged. "
                "Call `model.compile(...)` first."
            )

    def _begin(self) -> None:
        self._install()
        self._step = self._instrumentation.sync_clock()

    def _install(self) -> None:
        model = self.model
        if (
            self._instrumentation is None
            or self._instrumentation.model is not model
        ):
            self._instrumentation = Instrumentation(
                model, self.penalties, self.strengths
            )
        self._instrumentation.install()
        if not self._instrumentation.is_logged():
            self._warn(
                "overrides `metrics` and leaves out l2keras's, so that Keras "
                "logs no `data_loss` and no `regularization_loss`. Let it "
                "return `[*super().metrics, ...]`."
            )

    def _check_schedules(self, clock: Clock) -> None:
        """Looks at the epoch's last step: compiled code cannot complain."""
        step = clock.read()
        if step == self._step:
            self._warn(
                "has trained for an epoch, but its `optimizer.iterations` "
                f"stand still at {step}, and so do the schedules that read "
                "them. If it trains with other optimizers, call "
                "`l2keras.set_step(model, step)` before each step instead."
            )
        for _, term in control.scheduled_terms(self.model):
            strength = term.strength
            assert callable(strength)
            value = strength(clock.now())
            checking.check_value(value, strength, term._strength_name, step)

    def _warn(self, problem: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(f"Model {self.model.name!r} {problem}", stacklevel=2)
