"""Where a quantized model loses precision: node by node, with the cause and what to do about it.

    found = analyze("net.onnx", "net.q.onnx", data)
    found.worst()[0]     the node that adds most noise: cosine, SQNR, L1, clipped, cause, remedies
    found.first          where it goes wrong first, by module and source line

Both models run on ONNX Runtime, nothing optimised, so far apart and alone; see docs/analyze.md.
"""

from openbpu.evaluation.analysis.analyzer import MIN_COSINE, Analyzer, analyze
from openbpu.evaluation.analysis.compared import SAMPLES
from openbpu.evaluation.analysis.counts import Counts
from openbpu.evaluation.analysis.dump import dump
from openbpu.evaluation.analysis.metric import Metric, metric
from openbpu.evaluation.analysis.result import (
    KEYS,
    Analysis,
    First,
    NodeError,
    Remedy,
    SortKey,
    WeightRange,
)
from openbpu.evaluation.analysis.sensitivity import Sensitivity, sensitivity
from openbpu.quantization.measures import Closeness

__all__ = [
    "KEYS",
    "MIN_COSINE",
    "SAMPLES",
    "Analysis",
    "Analyzer",
    "Closeness",
    "Counts",
    "First",
    "Metric",
    "NodeError",
    "Remedy",
    "Sensitivity",
    "SortKey",
    "WeightRange",
    "analyze",
    "dump",
    "metric",
    "sensitivity",
]
