"""One operator at a time: the compiled program against the float64 meaning of its QDQ graph."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.observe import quantized_tensors, run_everything
from openbpu.arch.hbm import read_hbm, to_bytes
from openbpu.arch.program import CpuSegment
from openbpu.compiler import compile as compile_model
from openbpu.evaluation.reference.compare import compare_layerwise
from witness.ort import run
from witness.single_op import SINGLE_OP_CASES, Case

# Bounds of approximated operators, in steps of the output against the real value (docs/numerics.md).
APPROXIMATED = {
    "Softmax": 0.6,
    "LayerNormalization": 0.51,
    "RMSNormalization": 0.51,
    "Div": 0.8,
    "ReduceL2": 1.0,
    "Resize": 1.0,
    "GridSample": 1.0,
}
INT16_TABLE_STEPS = 8.0
STEEP_TABLE_STEPS = 64.0
STEEP = frozenset(
    {"Log", "Reciprocal", "Pow", "Tan", "Acosh", "Atanh", "Asin", "Acos", "Sinh", "Cosh", "Sqrt"}
)
MARCHES = ("nash-e", "bayes-e")


def bound(case: Case) -> float:
    op = case.id.split("-")[0]
    if "int16" in case.id or "uint16" in case.id:
        return max(APPROXIMATED.get(op, 0.0), STEEP_TABLE_STEPS if op in STEEP else INT16_TABLE_STEPS)
    return APPROXIMATED.get(op, 0.5)


@pytest.mark.parametrize("march", MARCHES)
@pytest.mark.parametrize("case", SINGLE_OP_CASES, ids=lambda c: c.id)
def test_operator_means_what_its_graph_means(case: Case, march: str) -> None:
    model, inputs = case.build()
    program = read_hbm(to_bytes(compile_model(model, march=march, opt=0)))
    tensors = run_everything(program, inputs)
    observed = quantized_tensors(model, inputs, tensors)
    if not observed:  # everything is on the CPU: ONNX Runtime's own results, untouched
        assert all(isinstance(s, CpuSegment) for s in program.segments)
        wanted = run(model, inputs, [o.name for o in model.graph.output])
        assert all(np.array_equal(tensors[name], value) for name, value in wanted.items())
        return
    for report in compare_layerwise(model, observed, inputs).values():
        assert report.exact or report.max_error <= bound(case), str(report)
