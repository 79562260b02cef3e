"""How strengths are learned, from the signals of all folds."""

import math
from typing import NamedTuple

import numpy as np
from keras import ops

from l2keras._types import Tensor
from l2keras.tuning.grid.hypergradient import Hypergradient

# Between these a strength is learned: below, a penalty does nothing in float32,
# and above, nothing is left of the weights.
LOWEST, HIGHEST = 1e-7, 1.0

# Of Adam, by which the logarithms move. A strength goes through at most 4.3
# powers of ten, or, where there are few steps, moves by 5 % in each.
_BETA_1, _BETA_2 = 0.9, 0.999
_DISTANCE, _LONGEST_STEP = 10.0, 0.05


class Learned(NamedTuple):
    """What is known of the strengths so far: arrays of shape (strengths,).

    Attributes:
        logs: Their natural logarithms.
        means: Adam's moving mean of the signals.
        squares: That of their squares.
        sum_of_logs: Over the second half of the steps.
        sum_of_signals: Over all steps.
        sum_of_squares: Of the signals, over all steps.
        diverged: In how many folds a signal was no number, at most, of shape
            ().
        step: How many steps there were, of shape ().
        rate: How far a logarithm may move in a step, of shape ().
    """

    logs: Tensor
    means: Tensor
    squares: Tensor
    sum_of_logs: Tensor
    sum_of_signals: Tensor
    sum_of_squares: Tensor
    diverged: Tensor
    step: Tensor
    rate: Tensor


class Learner:
    """Moves strengths along the signals of all folds, which share them.

    Args:
        hypergradient: Whence the signals come.
        steps: How many steps there will be.
    """

    def __init__(self, hypergradient: Hypergradient, steps: int) -> None:
        self.hypergradient = hypergradient
        self.steps = steps

    def start(self, strengths: np.ndarray, *, moving: bool = True) -> Learned:
        """Returns what is known before the first step.

        Args:
            strengths: Those to begin with, of shape (strengths,).
            moving: Whether they are to be learned, and not only used.
        """
        rate = min(_DISTANCE / self.steps, _LONGEST_STEP) if moving else 0.0
        zeros = np.zeros(len(strengths))
        arrays = np.log(strengths), *[zeros] * 5, *np.zeros(2), np.array(rate)
        return self.restored([np.asarray(each, "float32") for each in arrays])

    def restored(self, arrays: list[np.ndarray]) -> Learned:
        """Returns it from the arrays of an earlier one."""
        return Learned(*(ops.convert_to_tensor(each) for each in arrays))

    def strengths(self, learned: Learned) -> Tensor:
        """Returns the strengths as they are now."""
        return ops.exp(learned.logs)

    def moved(self, learned: Learned, signals: Tensor) -> Learned:
        """Returns what is known after a step.

        Args:
            learned: What was known before.
            signals: Of shape (folds, strengths). A fold that has diverged has
                no say.
        """
        is_finite = ops.all(ops.isfinite(signals), axis=1, keepdims=True)
        finite = ops.sum(ops.cast(is_finite, "float32"))
        signals = ops.where(is_finite, signals, 0.0)
        signal = ops.sum(signals, axis=0) / ops.maximum(finite, 1.0)
        # The slope along the logarithm would be the strength times this. Adam
        # takes away what multiplies a signal and changes slowly.
        square = signal * signal
        step = learned.step + 1.0
        means = _BETA_1 * learned.means + (1 - _BETA_1) * signal
        squares = _BETA_2 * learned.squares + (1 - _BETA_2) * square
        mean = means / (1.0 - _BETA_1**step)
        size = ops.sqrt(squares / (1.0 - _BETA_2**step)) + 1e-12
        logs = ops.clip(
            learned.logs - learned.rate * mean / size,
            math.log(LOWEST),
            math.log(HIGHEST),
        )
        is_counted = ops.cast(step > self.steps // 2, "float32")
        return Learned(
            logs,
            means,
            squares,
            learned.sum_of_logs + is_counted * logs,
            learned.sum_of_signals + signal,
            learned.sum_of_squares + square,
            ops.maximum(learned.diverged, float(signals.shape[0]) - finite),
            step,
            learned.rate,
        )

    def answer(self, learned: Learned) -> np.ndarray:
        """Returns the strengths that were learned.

        The geometric mean over the second half of the steps; if there were
        fewer, as they are.
        """
        step = float(ops.convert_to_numpy(learned.step))
        counted = step - self.steps // 2
        logs = learned.logs if counted < 1 else learned.sum_of_logs / counted
        return np.exp(ops.convert_to_numpy(logs).astype("float64"))

    def signal_to_noise(self, learned: Learned) -> np.ndarray:
        """Returns the mean signals in units of their standard errors."""
        total, squares = (
            ops.convert_to_numpy(each).astype("float64")
            for each in (learned.sum_of_signals, learned.sum_of_squares)
        )
        return total / np.sqrt(np.maximum(squares, np.finfo("float64").tiny))
