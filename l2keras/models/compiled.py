"""What Keras compiled for a model, when it no longer holds."""

from collections.abc import Callable, Iterable
from typing import Any

import keras

from l2keras._keras import memory, trainer_hooks


def forget_compiled(
    changed: Iterable[keras.layers.Layer | keras.Variable],
    among: list[keras.Model] | None = None,
) -> None:
    """Drops functions compiled before these layers and weights changed.

    Those of all models in memory that have one of them: models may be inside
    one another, or share layers. Within `fit`, they are made again.

    Args:
        changed: The layers and weights.
        among: All models in memory, if they were looked for already.
    """
    for each in memory.models_with(changed, among):
        training = each.train_function is not None
        drop_functions(each)
        if training:
            trainer_hooks.note_state(each)
            each.make_train_function(force=True)


def drop_functions(model: keras.Model) -> None:
    """Drops what was compiled of one model."""
    model.train_function = model.test_function = None
    if keras.backend.backend() != "jax":
        return
    # Of the same function JAX would find what it compiled before.
    for name in ("train_step", "test_step"):
        step = vars(model).get(name)
        if step is not None:
            inner = step.step if isinstance(step, _Step) else step
            setattr(model, name, _Step(inner))


class _Step:
    """A step that somebody put on a model, as a function of its own.

    Args:
        step: What was put there.
    """

    def __init__(self, step: Callable[..., Any]) -> None:
        self.step = step

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self.step(*arguments, **options)
