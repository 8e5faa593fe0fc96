"""What is true of every operator of a file; what is of one kind says its class (`Operator.check`)."""

from __future__ import annotations

from openbpu.arch.definition.checked import Checked
from openbpu.arch.definition.needs import INTEGERS, need, size_of
from openbpu.arch.definition.operator import Operator
from openbpu.arch.dtypes import DType
from openbpu.arch.numerics import MAX_SHIFT
from openbpu.arch.tensors import Space

_TABLE = 256


def check_operator(program: Checked, op: Operator) -> None:
    """Raise BadRecordError when `op` (its ids are in range) does not fit the tensors it names."""
    fewest, most = op.INPUTS
    need(fewest <= len(op.inputs) <= most, "number of inputs", len(op.inputs))
    need(len(op.outputs) == 1, "number of outputs", len(op.outputs))
    for i in op.outputs:
        need(program.tensors[i].space is not Space.CONST, "output", f"constant {i}")
    for i in op.constants():
        need(program.tensors[i].space is Space.CONST, "constant", f"tensor {i}, which is none")
    shift = getattr(op, "shift", 0)
    need(0 <= shift <= MAX_SHIFT, "shift", shift)
    _check_dtypes(program, op)
    _check_codes(program, op)
    op.check(program)
    _check_table(program, op)


def _check_dtypes(program: Checked, op: Operator) -> None:
    """Only layout changes and the ends of a model (which check it themselves) may see floats."""
    for i in (*op.inputs, *op.outputs):
        t = program.tensors[i]
        legal = t.dtype in INTEGERS or (op.ANY_DTYPE and t.dtype is not DType.OTHER)
        need(legal, f"dtype of '{t.name}'", t.dtype.value)
    made = program.tensors[op.outputs[0]].dtype
    for i in op.copied():
        t = program.tensors[i]
        need(t.dtype is made, f"dtype of '{t.name}' (its bits are copied to {made.value})", t.dtype.value)


def _check_codes(program: Checked, op: Operator) -> None:
    """Zero points are int32, bounds codes of the output; what fills a border is an element of the input."""
    for name in ("x_zero", "a_zero", "b_zero", "r_zero", "zero"):
        value = getattr(op, name, 0)
        need(DType.INT32.qmin <= value <= DType.INT32.qmax, name, value)
    made = program.tensors[op.outputs[0]].dtype
    lo, hi = getattr(op, "lo", 0), getattr(op, "hi", 0)
    need(made not in INTEGERS or made.qmin <= lo <= hi <= made.qmax, f"range of {made.value}", (lo, hi))
    filled = program.tensors[op.inputs[0]].dtype
    for name in ("pad_value", "value"):
        value = getattr(op, name, 0)
        need(value == 0 or (filled in INTEGERS and filled.qmin <= value <= filled.qmax), name, value)


def _check_table(program: Checked, op: Operator) -> None:
    """A table after the clamp is indexed by y + 128, so the clamp must keep y in int8."""
    table: int = getattr(op, "table_id", -1)
    if table < 0:
        return
    need(size_of(program, table) == _TABLE, "size of the table", size_of(program, table))
    dtype = program.tensors[table].dtype
    need(dtype is program.tensors[op.outputs[0]].dtype, "dtype of the table", dtype.value)
    lo, hi = getattr(op, "lo", -128), getattr(op, "hi", 127)
    need(-128 <= lo <= hi <= 127, "range before the table", (lo, hi))
