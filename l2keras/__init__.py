"""Regularization for Keras 3 to place, schedule, see, choose and reload."""

from l2keras import reference
from l2keras.compaction.compact import compact
from l2keras.compaction.prune import prune
from l2keras.compaction.report import CompactionReport
from l2keras.compaction.sparsity import sparsity
from l2keras.compaction.sparsity_plot import plot_sparsity
from l2keras.models.apply import AppliedRegularizers, apply_regularizers
from l2keras.models.constraints import apply_constraints
from l2keras.models.fisher import fisher_importance
from l2keras.models.manual import set_scale, set_step
from l2keras.models.penalties import WeightPenalty, penalties
from l2keras.models.start import set_start
from l2keras.models.strip import strip_regularizers
from l2keras.models.summary import summary
from l2keras.optimizers.conversions import (
    l2_from_weight_decay,
    rescale_weight_decay,
    weight_decay_at_width,
    weight_decay_from_l2,
    weight_decay_from_timescale,
)
from l2keras.optimizers.hyperball import Hyperball
from l2keras.optimizers.keep_zeros import KeepZeros
from l2keras.optimizers.proximal import Proximal
from l2keras.optimizers.weight_decay import DecoupledWeightDecay
from l2keras.plots import plot_loss_split, plot_size, plot_strength_path
from l2keras.regularizers.activities import KLSparsity, OrthogonalActivity
from l2keras.regularizers.base import Regularizer, Sum
from l2keras.regularizers.concave import MCP, SCAD
from l2keras.regularizers.elementwise import L1, L1L2, L2
from l2keras.regularizers.from_start import FromStart
from l2keras.regularizers.grouped import GroupLasso, GroupMCP
from l2keras.regularizers.whole import (
    HoyerSquare,
    Orthogonal,
    Smoothness,
    SpectralNorm,
)
from l2keras.strengths.schedules import (
    CosineSchedule,
    CyclicSchedule,
    JoinedSchedule,
    LinearSchedule,
    ScaledSchedule,
)
from l2keras.training.logger import RegularizationLogger
from l2keras.training.scheduler import PenaltyScheduler
from l2keras.tuning.result import TuningResult
from l2keras.tuning.tune import tune_strength

__version__ = "0.1.0"

__all__ = [
    "L1",
    "L1L2",
    "L2",
    "MCP",
    "SCAD",
    "AppliedRegularizers",
    "CompactionReport",
    "CosineSchedule",
    "CyclicSchedule",
    "DecoupledWeightDecay",
    "FromStart",
    "GroupLasso",
    "GroupMCP",
    "HoyerSquare",
    "Hyperball",
    "JoinedSchedule",
    "KLSparsity",
    "KeepZeros",
    "LinearSchedule",
    "Orthogonal",
    "OrthogonalActivity",
    "PenaltyScheduler",
    "Proximal",
    "RegularizationLogger",
    "Regularizer",
    "ScaledSchedule",
    "Smoothness",
    "SpectralNorm",
    "Sum",
    "TuningResult",
    "WeightPenalty",
    "apply_constraints",
    "apply_regularizers",
    "compact",
    "fisher_importance",
    "l2_from_weight_decay",
    "penalties",
    "plot_loss_split",
    "plot_size",
    "plot_sparsity",
    "plot_strength_path",
    "prune",
    "reference",
    "rescale_weight_decay",
    "set_scale",
    "set_start",
    "set_step",
    "sparsity",
    "strip_regularizers",
    "summary",
    "tune_strength",
    "weight_decay_at_width",
    "weight_decay_from_l2",
    "weight_decay_from_timescale",
]
