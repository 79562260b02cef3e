"""The life of a loss split: put into a model, taken out, kept for next time.

It lives with the model, not with a callback: what was compiled in one training
serves the next, whichever logger comes with it. And not longer than what it was
compiled for: another `compile`, other regularizers, and it is made anew.
"""

import functools
import weakref
from collections.abc import Callable
from typing import Any

import keras

from l2keras._keras import backends, trainer_hooks
from l2keras.models.compiled import SESSION, drop_functions
from l2keras.models.terms import placed_regularizers
from l2keras.regularizers.base import terms_of
from l2keras.training.patching import Patches
from l2keras.training.splitting import LossSplit
from l2keras.weights.survey import Survey


class Run:
    """A training or an evaluation whose loss is split.

    Attributes:
        owner: The callback that asked for it.
        split: What splits the loss.
    """

    def __init__(
        self, session: "Session", owner: Any, split: LossSplit
    ) -> None:
        self.owner = owner
        self.split = split
        self._session = session
        self._model = session.model
        self._patches = Patches(self._model)
        self._metric_patches: Patches | None = None
        # Compiled functions (to train, to test) without us.
        self._plain: tuple[Any, Any] = (None, None)
        # The model's own, on JAX.
        self._steps: dict[str, Callable[..., Any]] = {}

    def swap_in(self) -> None:
        """Replaces methods, metrics and compiled functions by ours."""
        model, put = self._model, self._patches.put
        self._plain = (model.train_function, model.test_function)
        put("compute_loss", self.split.splitting(model.compute_loss))
        if keras.backend.backend() == "jax":
            self._steps = {
                "train_step": model.train_step,
                "test_step": model.test_step,
            }
            self._put_steps()
        for name in ("evaluate", "train_on_batch", "test_on_batch"):
            put(name, self._session.aside(self, getattr(model, name)))
        for name in ("fit", "compile"):
            put(name, self._session.afresh(getattr(model, name)))
        self._watch_weights()
        if self.split.metric is not None:
            trainer_hooks.add_metrics(model, self.split.metric.metrics)
        trainer_hooks.note_state(model)
        model.train_function, model.test_function = self._session.compiled(
            self.split
        )
        model.make_train_function()
        model.make_test_function()

    def swap_out(self) -> None:
        """Undoes `swap_in`, and keeps what was compiled meanwhile."""
        if not self._patches:
            return
        model = self._model
        self._session.keep(
            self.split, (model.train_function, model.test_function)
        )
        model.train_function, model.test_function = self._plain
        # Not held: as long as JAX's compiled form of a method lives, it is what
        # JAX finds for that method, even after the model is compiled anew.
        self._plain = (None, None)
        if self.split.metric is not None:
            trainer_hooks.remove_metrics(model, self.split.metric.metrics)
        if self._metric_patches is not None:
            self._metric_patches.undo()
        self._patches.undo()

    def renew(self) -> None:
        """Drops what was compiled with us and without: it holds no more."""
        self._plain = (None, None)
        if self._patches:
            self._put_steps()

    def _put_steps(self) -> None:
        """Replaces the steps by functions of their own.

        So JAX does not take what it compiled of them for other metrics.
        """
        for name, step in self._steps.items():
            self._patches.put(name, functools.partial(step))

    def is_logged(self) -> bool:
        """Tells whether Keras finds the metric: a model can hide it."""
        if self.split.metric is None:
            return True
        seen = {id(metric) for metric in self._model.metrics}
        return all(id(each) in seen for each in self.split.metric.metrics)

    def _watch_weights(self) -> None:
        """Has the split know how a step of the user's own weights batches."""
        if self.split.is_plain:
            return
        for metric in self._model.metrics:
            if metric.name == "loss":
                self._metric_patches = Patches(metric)
                self._metric_patches.put(
                    "update_state", self.split.weighing(metric.update_state)
                )


class Session:
    """What one model keeps for the splitting of its loss.

    Args:
        model: A compiled model.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self._runs: list[Run] = []
        self._is_aside = False
        self._splits: dict[bool, LossSplit] = {}
        self._compiled: dict[int, tuple[Any, Any]] = {}
        self._layout: list[Any] = []
        # The function to train that the last training left on the model.
        self._left: Callable[[], Any] = lambda: None

    @staticmethod
    def of(model: keras.Model) -> "Session":
        """Returns the session of a model, made if it has none."""
        session = vars(model).get(SESSION)
        if session is None:
            session = Session(model)
            # Not the model's own `__setattr__`, which tracks and refuses.
            vars(model)[SESSION] = session
        return session

    @property
    def is_running(self) -> bool:
        """Whether a run is going on, and not set aside."""
        return bool(self._runs) and not self._is_aside

    def run_of(self, owner: Any) -> Run | None:
        """Returns the run that is going on if it is the owner's."""
        if self.is_running and self._runs[-1].owner is owner:
            return self._runs[-1]
        return None

    def begin(self, owner: Any, penalties: bool) -> Run:
        """Puts the split into the model.

        Raises:
            RuntimeError: If Keras trains JAX models by way of Flax NNX.
            ValueError: If the model logs numbers of the same names already.
        """
        if backends.is_nnx_enabled():
            raise RuntimeError(
                "With `KERAS_NNX_ENABLED` Keras compiles the `train_step` of "
                "the model's class, where l2keras cannot split the loss. Unset "
                "the environment variable."
            )
        if not self._is_aside:
            self.end()  # One that was broken off, or another logger's.
        check_names(self.model)
        layout, left = _layout(self.model), self._left()
        # Functions of an earlier training are still good if the model has not
        # been compiled since: then the one that `end` left is still there.
        if (
            not _same(layout, self._layout)
            or left is None
            or self.model.train_function is not left
        ):
            self._splits.clear()
            self._compiled.clear()
            self._layout = layout
        split = self._splits.get(penalties)
        if split is None:
            split = self._splits[penalties] = LossSplit(self.model, penalties)
        split.testing = False
        run = Run(self, owner, split)
        run.swap_in()
        self._runs.append(run)
        self._is_aside = False
        return run

    def end(self, run: Run | None = None) -> None:
        """Takes a run out of the model, and those begun since; or all."""
        if not self._runs or (run is not None and run not in self._runs):
            return
        while self._runs:
            last = self._runs.pop()
            last.swap_out()
            if last is run:
                break
        model = self.model
        if not _same(_layout(model), self._layout):
            # A regularizer was replaced, or given a scale, meanwhile.
            drop_functions(model)
        self._note_left()

    def _note_left(self) -> None:
        """Remembers what only another `compile` takes from the model."""
        self.model.make_train_function()
        self._left = weakref.ref(self.model.train_function)

    def renew(self) -> None:
        """Takes up what was changed in the model while it trains."""
        self._compiled.clear()
        for run in self._runs:
            run.renew()

    def compiled(self, split: LossSplit) -> tuple[Any, Any]:
        """Returns the functions that were compiled with a split."""
        return self._compiled.get(id(split), (None, None))

    def keep(self, split: LossSplit, functions: tuple[Any, Any]) -> None:
        """Keeps functions for the next time."""
        if split in self._splits.values():
            self._compiled[id(split)] = functions

    def aside(self, run: Run, method: Callable[..., Any]) -> Any:
        """Returns a method that sees the model as it is without us.

        For what callbacks do during training, such as `model.evaluate` on other
        data, and for what is done after a training that was broken off: Keras
        calls no `on_train_end` then.
        """

        def aside(*args: Any, **kwargs: Any) -> Any:
            if trainer_hooks.is_validation_in_fit(kwargs):
                return method(*args, **kwargs)
            testing = run.split.testing
            run.swap_out()
            self._note_left()
            self._is_aside = True
            try:
                return method(*args, **kwargs)
            finally:
                while self._runs and self._runs[-1] is not run:
                    self._runs.pop().swap_out()  # Broken off.
                self._is_aside = False
                if run in self._runs:
                    run.split.testing = testing
                    run.swap_in()
                    if run.split.metric is not None:
                        # As Keras has reset those of its own.
                        run.split.metric.reset_state()

        return aside

    def afresh(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a method that first ends a training that was broken off."""

        def afresh(*args: Any, **kwargs: Any) -> Any:
            self.end()
            return method(*args, **kwargs)

        return afresh


def check_names(model: keras.Model) -> None:
    """Raises a ValueError if Keras logs numbers of our names already."""
    outputs = getattr(model, "output_names", None) or []
    taken = set(model.metrics_names)
    taken |= trainer_hooks.compiled_metric_names(model)
    if len(outputs) > 1:
        taken.update(f"{name}_loss" for name in outputs)
    for name in ("data_loss", "regularization_loss"):
        if name in taken:
            raise ValueError(
                f"Model {model.name!r} logs {name!r} already, which "
                "l2keras uses for its part of the loss. Give the metric, "
                "or the output that it is named after, another name."
            )


def _layout(model: keras.Model) -> list[Any]:
    """Returns which regularizers and states compiled functions hold."""
    survey = Survey(model)
    layout: list[Any] = []
    for weight in survey.regularized:
        layout += [weight.variable, weight.variable.trainable]
    for placed in placed_regularizers(survey):
        layout.append(placed.regularizer)
        for term in terms_of(placed.regularizer):
            layout += term.strength.states
    return layout


def _same(one: list[Any], other: list[Any]) -> bool:
    """Tells whether two lists hold the same objects."""
    return len(one) == len(other) and all(
        a is b for a, b in zip(one, other, strict=True)
    )
