"""The life of a loss split: installed once, there until the next `compile`.

The first training that is logged installs the split on the model. The functions
that are compiled then serve every training, with any logger or with none, and
nothing is to be undone where a training breaks off. Whether the parts reach the
logs is decided when a step has run: they do in a `fit` or an `evaluate` with a
logger among its callbacks.
"""

import functools
from collections.abc import Callable, Collection
from typing import Any

import keras

from l2keras._keras import trainer_hooks
from l2keras.training.patching import replace_method
from l2keras.training.splitting import PARTS, LossSplit

_SESSION = "_l2keras_session"


class ShowsParts(keras.callbacks.Callback):
    """A callback that puts the parts of the loss in the logs.

    Attributes:
        penalties: Whether each weight's penalty is there, too.
    """

    penalties = False


class Session:
    """A loss split that is installed on a model.

    Args:
        model: A compiled model.
        penalties: Whether each weight's penalty is reported.

    Attributes:
        split: The split.
    """

    def __init__(self, model: keras.Model, penalties: bool) -> None:
        self._model = model
        self.split = LossSplit(model, penalties)
        # Not by `setattr`, by which Keras would track what is in it.
        vars(model)[_SESSION] = self
        compute_loss = self.split.wrap_compute_loss(model.compute_loss)
        self._undo = [
            replace_method(model, "compute_loss", compute_loss),
            replace_method(model, "compile", self._wrap_compile(model.compile)),
            self._filter_logs("train_function"),
            self._filter_logs("test_function"),
        ]
        trainer_hooks.note_state(model)

    @staticmethod
    def of(model: keras.Model) -> "Session | None":
        """The session of a model, `None` if it has none."""
        return vars(model).get(_SESSION)

    def remove(self) -> None:
        """Removes the split. The model's functions must be made anew."""
        for undo in self._undo:
            undo()
        del vars(self._model)[_SESSION]
        if self.split.metric is not None:
            trainer_hooks.remove_metrics(self._model, [self.split.metric])

    def _wrap_compile(self, compile_model: Callable[..., Any]) -> Any:
        """A `compile` that removes the split from the model."""

        @functools.wraps(compile_model)
        def compile_anew(*args: Any, **kwargs: Any) -> Any:
            self.remove()
            return compile_model(*args, **kwargs)

        return compile_anew

    def _filter_logs(self, name: str) -> Callable[[], None]:
        """Has a compiled function return the logs for its callbacks."""
        model = self._model
        make = getattr(model, f"make_{name}")

        @functools.wraps(make)
        def make_function(force: bool = False) -> Any:
            if force or getattr(model, name) is None:
                # Not held meanwhile: as long as JAX's compiled form of a method
                # lives, JAX uses it again.
                setattr(model, name, None)
                make(force=force)
                setattr(model, name, self._filtered(getattr(model, name)))
            return getattr(model, name)

        undo = replace_method(model, f"make_{name}", make_function)
        make_function(force=True)
        return undo

    def _filtered(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def filtered(*args: Any) -> Any:
            loggers = [
                [
                    logger
                    for logger in callbacks
                    if isinstance(logger, ShowsParts)
                ]
                for callbacks in trainer_hooks.callbacks_at_work(self._model)
            ]
            # Eager steps can do without the split if no logger asks for it.
            if any(loggers) or not self._is_eager():
                with self.split.step():
                    output = function(*args)
            else:
                self.split.show([])
                output = function(*args)
            metric = self.split.metric
            shown_to = loggers[0] if loggers else []
            if shown_to and metric is not None:
                penalties = any(logger.penalties for logger in shown_to)
                self.split.show(metric.names if penalties else PARTS)
            if keras.backend.backend() == "jax":
                logs, *state = output
                return (self._logs(logs), *state)
            return self._logs(output)

        return filtered

    def _is_eager(self) -> bool:
        return self._model.run_eagerly or keras.backend.backend() == "torch"

    def _logs(self, logs: Any) -> Any:
        metric = self.split.metric
        if metric is None or not isinstance(logs, dict):
            return logs
        return metric.logs_of_step(logs)


def split_loss(
    model: keras.Model, penalties: bool, is_training: bool = True
) -> LossSplit:
    """The split of a model's loss, installed if it is not yet.

    Args:
        model: A compiled model.
        penalties: Whether each weight's penalty is to be reported.
        is_training: Whether a training begins. An evaluation may be part of
            one, in which the names in the logs stay, even if weights are frozen
            meanwhile.

    Raises:
        RuntimeError: If Keras trains JAX models by way of Flax NNX.
        ValueError: If the model logs numbers of the same names already.
    """
    # Keras has the function from 3.11 on.
    if getattr(keras.config, "is_nnx_enabled", bool)():
        raise RuntimeError(
            "With `KERAS_NNX_ENABLED` Keras compiles the `train_step` of "
            "the model's class, where l2keras cannot split the loss. Unset "
            "the environment variable."
        )
    check_names(model)
    session = Session.of(model)
    if session is not None:
        split = session.split
        if not penalties or (
            split.is_up_to_date() if is_training else split.has_penalties
        ):
            return split
        session.remove()
    return Session(model, penalties).split


def check_names(model: keras.Model, names: Collection[str] = PARTS) -> None:
    """Raises a ValueError if Keras logs numbers of our names already."""
    outputs = getattr(model, "output_names", None) or []
    taken = set(model.metrics_names)
    taken |= trainer_hooks.compiled_metric_names(model)
    if len(outputs) > 1:
        taken.update(f"{name}_loss" for name in outputs)
    for name in names:
        if name in taken:
            raise ValueError(
                f"Model {model.name!r} logs {name!r} already, which "
                "l2keras uses for its part of the loss. Give the metric, "
                "or the output that it is named after, another name."
            )
