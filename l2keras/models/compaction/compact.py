"""A smaller model with the same outputs."""

from typing import Any

import keras
import numpy as np

from l2keras import _validation
from l2keras.models.compaction.graph import Graph
from l2keras.models.compaction.plan import Plan
from l2keras.models.compaction.rebuilding import rebuilt
from l2keras.models.compaction.report import CompactionReport, report_of


def compact(
    model: keras.Model, threshold: float = 0.0, drop_inputs: bool = False
) -> tuple[Any, CompactionReport]:
    graph = Graph(model, threshold)
    plan = Plan(graph, drop_inputs)
    small = rebuilt(plan, model)
    return small, report_of(plan)
