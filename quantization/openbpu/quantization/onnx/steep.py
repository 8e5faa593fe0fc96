"""What a root or a logarithm reads: near 0 it makes one step large, so such a tensor is int16.

Of x in 0 … m, half a step of int8 is m / 255; its root is √m / 16, six per cent of the largest result. In
front of a root there is often a sum of squares (the magnitude of a spectrum): its operands are int16 as well.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto

from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx.asked import Types
from openbpu.quantization.onnx.classes import Kind, kind_of
from openbpu.quantization.onnx.extents import Extent
from openbpu.quantization.onnx.limits import Seen
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.plan import Plan

Makers = dict[str, NodeProto]

_NARROW = 16.0
"""Of values that differ by no more than this factor, a root or logarithm makes no step large."""

_GUARDS = ("Abs", "Add", "Clip", "Max", "Relu")
"""What keeps the argument of a root or logarithm above a bound."""

_SUMS = ("Add", "Sum", "ReduceSum", "ReduceMean", "Mean")


def find_steep(net: Net, plan: Plan, seen: Seen, asked: Types) -> dict[str, NodeProto]:
    """Return the int8 sources that a Sqrt, Log or fractional Pow reads down to near 0, with that node.

    None of what a product reads too, or of what a reader is `asked` to take in int8.
    """
    makers: Makers = {out: node for node in net.nodes for out in node.output if out}
    readers, found = net.consumers(), dict[str, NodeProto]()
    for node in net.nodes:
        name, least = _entry(net, plan, makers, node) if _is_steep(net, node) else (None, 0.0)
        if name is None or not _comes_near_zero(seen.extents.get(plan.pairs[name].source), least):
            continue
        for tensor in (name, *_operands(plan, makers.get(name))):
            pair = plan.pairs[tensor]
            taken = [net.nodes[i] for i in readers.get(tensor, [])]
            if pair.dtype is DType.INT8 and not any(_wants_int8(net, r, tensor, asked) for r in taken):
                found.setdefault(pair.source, node)
    return found


def _wants_int8(net: Net, reader: NodeProto, name: str, asked: Types) -> bool:
    types = [asked.of(reader, position) for position, n in enumerate(reader.input) if n == name]
    return kind_of(reader, net) is Kind.MAC or DType.INT8 in types


def _is_steep(net: Net, node: NodeProto) -> bool:
    if node.op_type == "Pow":
        exponent = net.consts.get(node.input[1])
        return exponent is not None and bool(((exponent > 0) & (exponent < 1)).all())
    return node.op_type in ("Sqrt", "Log")


def _entry(net: Net, plan: Plan, makers: Makers, node: NodeProto) -> tuple[str | None, float]:
    """Return the rounded tensor that a node reads, through a guard in its table, and the guard's bound."""
    name, least = node.input[0], 0.0
    while name not in plan.pairs:
        maker = makers.get(name)
        if maker is None or maker.op_type not in _GUARDS:
            return None, least
        computed = [n for n in maker.input if n and n not in net.consts]
        if len(computed) != 1:
            return None, least
        bounds = [net.consts[n] for n in maker.input[:2] if n in net.consts]
        name, least = computed[0], max([least, *(float(b.max(initial=0.0)) for b in bounds)])
    return name, least


def _operands(plan: Plan, maker: NodeProto | None) -> Iterator[str]:
    """Yield the rounded operands of a sum."""
    if maker is not None and maker.op_type in _SUMS:
        yield from (name for name in maker.input if name in plan.pairs)


def _comes_near_zero(extent: Extent | None, least: float) -> bool:
    return extent is not None and max(extent.low, least) * _NARROW < extent.high
