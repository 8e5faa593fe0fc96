"""The independent witness: what a QDQ graph means, in float64 and without the rest of openbpu.

``evaluate`` gives every tensor of the graph, ``compare_layerwise`` holds somebody's integers against it.
"""

from openbpu.evaluation.reference.compare import (
    Difference,
    Layerwise,
    Step,
    TensorReport,
    compare_end_to_end,
    compare_layerwise,
    difference,
    layerwise,
    output_steps,
)
from openbpu.evaluation.reference.float64 import Evaluation, evaluate, run_node
from openbpu.evaluation.reference.kernel import KERNELS, TIE, Quantized

__all__ = [
    "KERNELS",
    "TIE",
    "Difference",
    "Evaluation",
    "Layerwise",
    "Quantized",
    "Step",
    "TensorReport",
    "compare_end_to_end",
    "compare_layerwise",
    "difference",
    "evaluate",
    "layerwise",
    "output_steps",
    "run_node",
]
