"""What Keras compiled for a model, when it no longer holds."""

import functools
from collections.abc import Iterable

import keras

from l2keras._keras import memory, trainer_hooks

# Where a model keeps what splits its loss, which has compiled functions too.
SESSION = "_l2keras_session"


def forget_compiled(
    changed: Iterable[keras.layers.Layer | keras.Variable],
) -> None:
    """Drops functions compiled before these layers and weights changed.

    Those of all models in memory that have one of them: models may be inside
    one another, or share layers. Within `fit`, they are made again.
    """
    for each in memory.models_with(changed):
        training = each.train_function is not None
        each.train_function = each.test_function = None
        session = vars(each).get(SESSION)
        if session is not None:
            session.renew()
        if training:
            if "train_step" in vars(each):
                # JAX would find what it compiled of the same function before.
                each.train_step = functools.partial(each.train_step)
            trainer_hooks.note_state(each)
            each.make_train_function(force=True)
