"""Facts about the table of what ONNX operators do, and about those who read it."""

import onnx
import pytest

from openbpu.arch.march import get_march, march_names
from openbpu.arch.numerics.functions import BINARY, POINTWISE, UNARY
from openbpu.arch.onnx_ops import ONNX_OPS, Does, OnnxOp, only_moves, that
from openbpu.compiler.ops import OPS
from openbpu.quantization.onnx.classes import ROWS, Kind
from openbpu.quantization.onnx.patterns.whole import REWRITTEN

MARCHES = [get_march(name) for name in march_names()]


def has_unit(op: str) -> bool:
    """Whether some march runs an operator on its BPU: itself, in tables, or as what it is rewritten to."""
    if op not in OPS and op not in POINTWISE and op not in REWRITTEN:
        return False
    return any(op not in march.cpu_ops or march.cpu_ops[op].when != "always" for march in MARCHES)


@pytest.mark.parametrize("op", [row.op for row in ROWS if row.kind is not Kind.CPU])
def test_what_quantization_wraps_has_a_unit_on_some_march(op: str) -> None:
    assert has_unit(op)


@pytest.mark.parametrize("op", [row.op for row in ROWS if row.kind is Kind.CPU])
def test_what_has_a_unit_is_wrapped(op: str) -> None:
    assert op not in OPS


def test_what_the_bpu_runs_has_a_row() -> None:
    assert ONNX_OPS.keys() >= OPS.keys()


def test_elementwise_operators_are_those_with_a_function() -> None:
    assert that(Does.ELEMENTWISE) == {*UNARY, *BINARY} - that(Does.VIEW)


@pytest.mark.parametrize("row", ONNX_OPS.values(), ids=ONNX_OPS.keys())
def test_data_are_inputs_that_onnx_knows(row: OnnxOp) -> None:
    name, data = row.name, row.data
    schema = onnx.defs.get_schema(name)
    assert data is None or max(data) < len(schema.inputs)


@pytest.mark.parametrize("row", [row for row in ONNX_OPS.values() if row.modes], ids=lambda row: row.name)
def test_first_mode_is_the_default_of_onnx(row: OnnxOp) -> None:
    schema = onnx.defs.get_schema(row.name)
    assert schema.attributes["mode"].default_value.s.decode() == row.modes[0]


@pytest.mark.parametrize(
    ("op", "mode", "moves"),
    [
        ("Resize", "", True),
        ("Resize", "nearest", True),
        ("Resize", "linear", False),
        ("Pad", "reflect", True),
        ("DepthToSpace", "CRD", True),
        ("Conv", "", False),
        ("Unheard", "", False),
    ],
)
def test_a_mode_decides_where_there_are_modes(op: str, mode: str, moves: bool) -> None:
    assert only_moves(op, mode) == moves
