"""The base of wrappers that act on some weights, which rules select."""

import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from l2keras._keras.backend import backend
from l2keras.optimizers import trained_model
from l2keras.optimizers.wrapper import OptimizerWrapper
from l2keras.weights import paths
from l2keras.weights.paths import Weight
from l2keras.weights.rules import Named, Rules


class SelectsWeights(OptimizerWrapper):
    """A wrapper that acts on the kernels, or on the weights that rules name.

    A subclass defines `around_update`, and `purpose`. It leaves weights alone
    that are all zeros, which are warned of when the optimizer is built.

    Args:
        optimizer: The optimizer that is wrapped.
        rules: Dictionary from the path of a weight, or a regular expression for
            some, to a boolean.
        default: Boolean, for every kernel that no rule names.
        name: String, the optimizer's name.
    """

    purpose: str
    """Verb for messages: the part of the selected weights, as in `"decay"`."""

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        rules: Mapping[str, bool] | None = None,
        default: bool = True,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(optimizer, name=name)
        self._rules = Rules(
            rules, default, check=_check_boolean, values="a boolean"
        )
        self._selected: set[Any] = set()

    def build(self, variables: list[keras.Variable]) -> None:
        selected: dict[Any, Weight] = {}
        if variables:  # None at all when Keras loads a model from HDF5.
            model = trained_model.find(self, variables)
            selected = {
                self.variable_key(named.weight.variable): named.weight
                for named in self._named(model)
                if named.value
            }
        super().build(variables)
        self._selected = set(selected)
        # On TensorFlow it is built while the training step is traced.
        with backend.outside_trace():
            self._warn_of_all_zeros(list(selected.values()))

    def selected_paths(self, model: keras.Model) -> list[str]:
        """The paths of the weights that are selected.

        Args:
            model: The model to be trained.

        Raises:
            TypeError: If `model` is no Keras model.
            ValueError: If it is not built, or the rules do not fit it.
        """
        paths.weights(model)  # Raises if there are none yet.
        return [
            named.weight.path for named in self._named(model) if named.value
        ]

    def selected_of(
        self, variables: list[keras.Variable]
    ) -> list[keras.Variable]:
        """Those of some variables that are selected."""
        return [
            variable
            for variable in variables
            if self.variable_key(variable) in self._selected
        ]

    def _named(self, model: keras.Model) -> list[Named[bool]]:
        return self._rules.resolve(paths.own_weights(model), self.purpose)

    def _warn_of_all_zeros(self, weights: list[Weight]) -> None:
        zeros = [
            weight.path
            for weight in weights
            if not np.any(ops.convert_to_numpy(weight.variable))
        ]
        if zeros:
            warnings.warn(
                f"All elements of {', '.join(map(repr, zeros))} are zero, and "
                f"`{type(self).__name__}` leaves them so: these weights are "
                "not trained. If they should be, leave them out by a rule, "
                f"such as `{{{zeros[0]!r}: False}}`.",
                stacklevel=4,
            )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "rules": dict(self._rules.by_pattern),
            "default": self._rules.default,
        }


def _check_boolean(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise TypeError(
            f"Argument `{name}` must be a boolean. Received: {name}={value!r}"
        )
    return value
