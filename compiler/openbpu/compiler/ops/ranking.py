"""TopK: elements and their indices, an operator each."""

from __future__ import annotations

from openbpu.arch.dtypes import DType
from openbpu.arch.engines import Engine
from openbpu.arch.operators.ranking import TopK
from openbpu.arch.shapes import around
from openbpu.compiler.ir import Node
from openbpu.compiler.ir.dialect import Builder, form, operand
from openbpu.compiler.ops.advice import LEAVE, not_constant
from openbpu.compiler.ops.reduce import need_room
from openbpu.compiler.ops.rule import OpRule
from openbpu.compiler.ops.site import Refused, Site


def _lower_top_k(site: Site) -> None:
    """Make the target: the elements of output 0, or, where it is asked for, the indices of output 1."""
    if Engine.SPU not in site.march.engines:
        raise Refused(f"{site.march.name} has no SPU", LEAVE)
    x, shape = site.leaf(0), site.shape()
    axis = int(site.node.attrs.get("axis", -1)) % len(shape)
    count = site.graph.const(site.node.inputs[1])
    if count is None:
        raise not_constant(site.graph, site.producers, site.node.inputs[1], "its k")
    k = int(count.reshape(()))
    if not 1 <= k <= shape[axis]:
        raise Refused(f"its k must be 1..{shape[axis]}, not {k}", LEAVE)
    need_room(site, "along its axis", shape[axis] * DType(x.dtype).nbytes + k * DType.INT64.nbytes)
    largest = bool(site.node.attrs.get("largest", 1))
    indices = site.memo.get("output", 0) == 1
    site.emit("TopK", site.target, x=x.codes, axes=(axis,), k=k, largest=largest, indices=indices)


RULES = (
    OpRule(
        "TopK",
        "SPU",
        "int8, int16 → the same and integers",
        _lower_top_k,
        clamps=False,
        note="in order, `sorted` or not",
    ),
)


@form(TopK, "x", geometry="shape", extra="axes")
def _top_k(b: Builder, node: Node) -> None:
    (axis,) = node.attrs["axes"]
    b.push(node, shape=around(b.shape(operand(node, "x")), axis))
