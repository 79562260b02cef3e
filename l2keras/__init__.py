"""Regularization for Keras 3 to place, schedule, see, choose and reload."""

from l2keras import reference
from l2keras._control import set_scale, set_step
from l2keras.apply import (
    AppliedRegularizers,
    apply_regularizers,
    strip_regularizers,
)
from l2keras.audit import WeightPenalty, penalties, summary
from l2keras.callbacks import PenaltyScheduler, RegularizationLogger
from l2keras.conversions import (
    l2_from_weight_decay,
    weight_decay_from_l2,
    weight_decay_from_timescale,
)
from l2keras.plots import plot_loss_split, plot_strength_path
from l2keras.regularizers import L1, L1L2, L2, GroupLasso, Regularizer, Sum
from l2keras.schedules import (
    CosineSchedule,
    CyclicSchedule,
    JoinedSchedule,
    LinearSchedule,
)
from l2keras.tuning import TuningResult, tune_strength
from l2keras.weight_decay import DecoupledWeightDecay

__version__ = "0.1.0"

__all__ = [
    "L1",
    "L1L2",
    "L2",
    "AppliedRegularizers",
    "CosineSchedule",
    "CyclicSchedule",
    "DecoupledWeightDecay",
    "GroupLasso",
    "JoinedSchedule",
    "LinearSchedule",
    "PenaltyScheduler",
    "RegularizationLogger",
    "Regularizer",
    "Sum",
    "TuningResult",
    "WeightPenalty",
    "apply_regularizers",
    "l2_from_weight_decay",
    "penalties",
    "plot_loss_split",
    "plot_strength_path",
    "reference",
    "set_scale",
    "set_step",
    "strip_regularizers",
    "summary",
    "tune_strength",
    "weight_decay_from_l2",
    "weight_decay_from_timescale",
]
