"""Which way strengths should move: the hypergradient of one step.

A step of training takes a weight to `w - a * (dL/dw + strength * dP/dw)`, so
the loss on held-out rows moves with the strength by

    dV/dstrength = -a * <dV/dw, dP/dw>

at the weights after the step (Luketina et al., *Scalable Gradient-Based Tuning
of Continuous Regularization Hyperparameters*, ICML 2016). The step's length `a`
is left out: whoever follows the signal scales it anyway.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from l2keras._types import Tensor
from l2keras.models.decay import decayed_variables
from l2keras.regularizers.base import terms_of
from l2keras.strengths.strength import Strength
from l2keras.strengths.tuned import Cell, TunedStrength
from l2keras.tuning.grid.replica import Arrays


class _Term(NamedTuple):
    """A penalty of one weight, under a strength that is tuned.

    Attributes:
        weight: Which of the trainable variables it penalizes.
        cell: Which of the cells its strength comes from.
        strength: The strength, proportional to the cell's value.
        penalty: Function from the weight to the penalty at unit strength.
    """

    weight: int
    cell: int
    strength: Strength
    penalty: Callable[[Tensor], Tensor]


class Hypergradient:
    """The signals by which the strengths of a model are learned.

    Gradients are for each backend to take. A weight may be penalized several
    times, so the slope of each penalty is taken at a copy of its own.

    Args:
        model: A built and compiled model.
        cells: Those of the strengths that it was built with.
    """

    def __init__(self, model: keras.Model, cells: Sequence[Cell]) -> None:
        self._cells = cells
        self._terms: list[_Term] = []
        for index, variable in enumerate(model.trainable_variables):
            for term in terms_of(variable.regularizer):
                self._add(index, term.strength, term.penalty)
        places = {id(v): i for i, v in enumerate(model.trainable_variables)}
        for variable, strength in decayed_variables(model):
            # What it takes from a weight is the slope of half its square.
            self._add(places[id(variable)], strength, _half_of_squares)

    def _add(
        self,
        weight: int,
        strength: Strength,
        penalty: Callable[[Tensor], Tensor],
    ) -> None:
        if isinstance(strength, TunedStrength):
            cell = self._cells.index(strength.cell)
            self._terms.append(_Term(weight, cell, strength, penalty))

    @property
    def without_a_weight(self) -> list[Cell]:
        """The cells that are in no penalty, or decay, of a trained weight."""
        known = {term.cell for term in self._terms}
        return [c for index, c in enumerate(self._cells) if index not in known]

    @property
    def cells_by_weight(self) -> dict[int, list[int]]:
        """Which cells penalize each of the trainable variables, in order."""
        found: dict[int, list[int]] = {}
        for term in self._terms:
            found.setdefault(term.weight, []).append(term.cell)
        return found

    def copies(self, trainable: Arrays) -> Arrays:
        """Returns the weights of all penalties, a weight once for each."""
        return [trainable[term.weight] for term in self._terms]

    def penalty(self, copies: Arrays) -> Tensor:
        """Returns the sum of the penalties, all strengths being one."""
        for cell in self._cells:
            cell.value = 1.0
        total: Any = 0.0
        for term, copy in zip(self._terms, copies, strict=True):
            wide = ops.cast(
                copy, keras.backend.result_type(copy.dtype, "float32")
            )
            value = term.strength.at(0) * term.penalty(wide)
            total = total + ops.cast(value, "float32")
        return total

    def signals(self, gradients: Arrays, slopes: Arrays) -> Tensor:
        """Returns how fast the held-out loss moves with each strength.

        Args:
            gradients: Of the held-out data loss, by trainable variable.
            slopes: Of `penalty`, by copy.

        Returns:
            Tensor of shape (strengths,), negative where a greater strength
            would make the loss lower.
        """
        parts: list[list[Tensor]] = [[] for _ in self._cells]
        for term, slope in zip(self._terms, slopes, strict=True):
            product = ops.cast(gradients[term.weight], "float32") * ops.cast(
                slope, "float32"
            )
            parts[term.cell].append(ops.sum(product))
        return -ops.stack([sum(part[1:], start=part[0]) for part in parts])


def _half_of_squares(weights: Tensor) -> Tensor:
    return 0.5 * ops.sum(ops.square(weights))
