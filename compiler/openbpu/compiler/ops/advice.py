"""What can be done about an operand that is no code, or no constant: only what the model lets its user do.

QuantizeLinear takes floats, so there is no pair for an index, and none is needed for a bool; and what the
model is given with every run cannot become a constant.
"""

from __future__ import annotations

from collections.abc import Mapping

from openbpu.arch.onnx_ops import ONNX_OPS
from openbpu.compiler.ir import Graph, Node
from openbpu.compiler.ops.mechanical import MASK, PAIR, PIXELS
from openbpu.compiler.ops.refused import Refused

_QUANTIZABLE = frozenset({"float32", "float16", "bfloat16"})
_HALVES = frozenset({"float16", "bfloat16"})
_READ = _QUANTIZABLE | {"bool"}
_SHAPE = "declare that shape in the model's value_info, where it is always the same"
LEAVE = "leave it to the CPU"


def no_codes(graph: Graph, makers: Mapping[str, Node], node: Node, name: str, fix: str) -> Refused:
    """Why an operand `name` of a node is not codes; `fix` is how a pair would be put where it is a float."""
    value, maker = graph.values[name], makers.get(name)
    of = f" of {maker.op} '{maker.name}'" if maker is not None else ""
    if value.dtype in _HALVES and node.op == "Cast":
        return _half(f"its input '{name}'{of}", value.dtype)
    if value.dtype in _QUANTIZABLE:
        if maker is not None and maker.op == "Cast" and _dtype(graph, maker.inputs[0]) == "bool":
            return Refused(
                f"its input '{name}' is a bool that '{maker.name}' casts to {value.dtype}, an operand that "
                "is not quantized",
                MASK,
            )
        return Refused(f"its input '{name}'{of} is not quantized (passive quantization)", fix)
    other = _cast(value.dtype) if node.op == "Cast" else _unscaled(value.dtype)
    return Refused(f"its input '{name}'{of} is {value.dtype}, which has no scale", other)


def no_result(graph: Graph, makers: Mapping[str, Node], node: Node) -> Refused:
    """Why an operator of the table is on the CPU though nothing else refused it: its result is no code."""
    name = node.outputs[0]
    dtype = _dtype(graph, name)
    operands = [operand for operand in node.inputs if operand and graph.values[operand].const is None]
    floats = [operand for operand in operands if _dtype(graph, operand) in _QUANTIZABLE]
    if dtype == "bool" and floats:
        return no_codes(graph, makers, node, floats[0], f"{PAIR}on that tensor")
    if dtype in _HALVES and node.op == "Cast":
        return _half(f"its output '{name}'", dtype)
    if dtype not in _QUANTIZABLE:
        return Refused(f"its output '{name}' is {dtype}, which has no scale", _unscaled(dtype))
    row = ONNX_OPS.get(node.op)
    tensors = range(len(node.inputs)) if row is None or row.data is None else row.data
    computed = [(k, i) for k, i in enumerate(node.inputs) if i and graph.values[i].const is None]
    for index, operand in computed:
        if index not in tensors:
            return not_constant(graph, makers, operand, "its input")
        if _dtype(graph, operand) not in _READ:
            return no_codes(graph, makers, node, operand, LEAVE)
    return Refused(
        f"its output '{name}' is not quantized (passive quantization)",
        f"{PAIR}behind it, and in front of its inputs",
    )


def _half(what: str, dtype: str) -> Refused:
    return Refused(f"{what} is {dtype}: the CPU casts it", "have float32 at the ends of the model")


def no_shape(graph: Graph, makers: Mapping[str, Node], name: str) -> Refused:
    """Why a tensor without a static shape keeps a node on the CPU; inputs always have one."""
    told = f"the shape of '{name}' is not static"
    maker = makers.get(name)
    while maker is not None:
        open_ones = [i for i in maker.inputs if i and graph.values[i].shape is None]
        if not open_ones or open_ones[0] not in makers:
            break
        name, maker = open_ones[0], makers[open_ones[0]]
    by = "" if maker is None else f", which {maker.op} '{maker.name}' makes,"
    return Refused(
        told, f"declare the shape of '{name}'{by} in the model's value_info, where it is always the same"
    )


def not_constant(graph: Graph, makers: Mapping[str, Node], name: str, what: str) -> Refused:
    """Why an operand that must be a constant is none, and what would make it one."""
    if name in graph.inputs:
        fix = f"{LEAVE}; where it is always the same, store it in the model as an initializer"
        return Refused(f"{what} '{name}' is an input of the model", fix)
    if _is_of_shapes(graph, makers, name):
        return Refused(f"{what} '{name}' is computed from a shape that is not static", _SHAPE)
    return Refused(f"{what} '{name}' is computed in every run", LEAVE)


def _unscaled(dtype: str) -> str:
    if dtype == "float64":
        return "compute it in float32"
    return f"{LEAVE}; numbers that are data, not indices, can be computed in float32"


def _cast(dtype: str) -> str:
    if dtype in ("int8", "uint8", "int16", "uint16"):
        return PIXELS
    return _unscaled(dtype)


def _dtype(graph: Graph, name: str) -> str:
    value = graph.values.get(name)
    return "a float" if value is None else value.dtype


def _is_of_shapes(graph: Graph, makers: Mapping[str, Node], name: str) -> bool:
    """Whether a value depends on sizes of tensors, and on nothing in them."""
    todo, seen, found = [name], set[str](), False
    while todo:
        value = todo.pop()
        if value in seen or graph.const(value) is not None:
            continue
        seen.add(value)
        maker = makers.get(value)
        if maker is None:
            return False
        if maker.op in ("Shape", "Size") and not maker.domain:
            found = True
        else:
            todo.extend(maker.reads)
    return found
