"""What tells one search from another: its arguments, its data, its models.

A search may go on only where the same would be trained, so all that shapes what
is computed has a part in this; the code too, which nobody but `build_model`
knows of.
"""

import hashlib
import platform
import sys
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from l2keras._keras import layer_tree, optimizer_hooks
from l2keras.tuning.object_walk import Digest, digests
from l2keras.tuning.settings import Settings
from l2keras.weights import paths


def digest_of_arguments(settings: Settings, data: Any) -> str:
    """Returns what the arguments come to, and the arrays among them."""
    digest = hashlib.sha256()
    numbers = (
        settings.epochs,
        settings.batch_size,
        settings.shuffle,
        settings.seed,
        settings.keys,
    )
    arrays = keras.tree.flatten([each for each in data if each is not None])
    digest.update(repr(numbers).encode())
    for each in (settings.candidates, *sum(settings.folds, ()), *arrays):
        digest.update(repr((each.shape, each.dtype.name)).encode())
        digest.update(np.ascontiguousarray(each).tobytes())
    return digest.hexdigest()


def digests_of_versions() -> list[Digest]:
    """Returns what tells the programs apart that a model is trained by."""
    names = {
        "Keras": "keras",
        "l2keras": "l2keras",
        "the backend": keras.backend.backend(),
    }
    return digests(
        {
            "the version of Python": [platform.python_version()],
            **{
                f"the version of {name}": sys.modules[module]
                for name, module in names.items()
            },
            "`keras.config.epsilon()`": [keras.config.epsilon()],
        },
        {},
    )


def digests_of_model(model: keras.Model, name: str = "model") -> list[Digest]:
    """Returns what a model and its training come to, weights included."""
    return digests({name: model}, _stand_ins(model))


def digests_of_start(start: Sequence[Any], fold: int) -> list[Digest]:
    """Returns what the replicas of a fold start from comes to."""
    return digests({f"the initial weights of fold {fold}": list(start)}, {})


def first_difference(before: np.ndarray, now: list[Digest]) -> str | None:
    """Returns where in a model the first difference is, if there is one.

    Args:
        before: The digests of the other model, numbers only.
        now: The digests of this one.
    """
    for one, (path, other) in zip(before, now, strict=False):
        if int(one) != other:
            return path
    return None if len(before) == len(now) else now[-1].path


def _stand_ins(model: keras.Model) -> dict[Any, str]:
    """Returns what stands for names that Keras may have counted, and for ids.

    A model that is built again has the same layers and the same variables in
    the same order, under other names.
    """
    found: dict[Any, str] = {}
    variables = [*model.variables, *model.optimizer.variables]
    for index, variable in enumerate(variables):
        key = optimizer_hooks.variable_key(model.optimizer, variable)
        for each in (id(variable), key, variable.path):
            found[each] = f"variable {index}"
    for index, weight in enumerate(paths.weights(model)):
        found[weight.path] = f"weight {index}"
    for index, (path, layer) in enumerate(layer_tree.layers_by_path(model)):
        for each in (id(layer), layer.name, path):
            found[each] = f"layer {index}"
    for index, metric in enumerate(model.metrics):
        found[metric.name] = f"metric {index}"
    found.pop("", None)
    return found
