"""The independent witness: what a QDQ graph means, without openbpu.

``evaluate`` gives the graph in float64, ``compare_layerwise`` holds somebody's integers against
it, ``ort`` asks ONNX Runtime, and ``random_graphs`` and ``single_op`` make models to ask about.
"""

from witness.compare import (
    Difference,
    TensorReport,
    compare_end_to_end,
    compare_layerwise,
    difference,
    output_steps,
)
from witness.float64 import Evaluation, evaluate, run_node
from witness.kernel import KERNELS, TIE, Quantized

__all__ = [
    "KERNELS",
    "TIE",
    "Difference",
    "Evaluation",
    "Quantized",
    "TensorReport",
    "compare_end_to_end",
    "compare_layerwise",
    "difference",
    "evaluate",
    "output_steps",
    "run_node",
]
