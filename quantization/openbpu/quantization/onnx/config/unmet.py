"""What was asked for and is not so, and why: nothing that a user writes down is without an answer."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto

from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx.asked import Types, key
from openbpu.quantization.onnx.classes import TABLE, Kind, data_inputs, kind_of
from openbpu.quantization.onnx.findings import Finding
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.plan import Plan


def unmet(net: Net, plan: Plan, types: Types) -> tuple[Finding, ...]:
    """Return a finding per reason why nodes read other types than `types` asks for."""
    reasons: dict[str, list[NodeProto]] = {}
    named = types.nodes.keys() | {made for made, _ in types.inputs}
    for index, node in enumerate(net.nodes):
        if types.is_float(node) and _is_between(node, net, plan):
            reasons.setdefault(_BETWEEN, []).append(node)
        if key(node) in named and not types.is_float(node):
            for reason in dict.fromkeys(_reasons(index, node, net, plan, types)):
                reasons.setdefault(reason, []).append(node)
    return tuple(
        Finding("type", "", nodes[0].name, f"{_listed(nodes)}: {reason}") for reason, nodes in reasons.items()
    )


_BETWEEN = (
    "what it reads and what it makes are rounded for the nodes around it, so float changes little; "
    "name its neighbours too, in int16 or float"
)


def _is_between(node: NodeProto, net: Net, plan: Plan) -> bool:
    """Whether a node has pairs on either side, of nodes that are not float; int16 ones hardly round."""
    read = [name for name in data_inputs(node) if net.is_live(name)]
    both = [*read, *filter(None, node.output)]
    rounded = plan.pairs.keys() | plan.given.present
    fine = {name for name, pair in plan.pairs.items() if pair.dtype is DType.INT16}
    return bool(read) and rounded.issuperset(both) and not fine.issuperset(both)


def _reasons(index: int, node: NodeProto, net: Net, plan: Plan, types: Types) -> Iterator[str]:
    if kind_of(node, net) is Kind.CPU:
        yield (
            f"no type applies, since the BPU has no {node.op_type}"
            if node.op_type not in _SOME
            else ("no type applies, since the BPU has no such form of it")
        )
        return
    data, seen = set(data_inputs(node)), set[str]()
    for position, name in enumerate(node.input):
        asked = types.of(node, position)
        if name in data and asked is not None and net.is_live(name) and name not in seen:
            seen.add(name)
            yield from _reason(index, position, asked, net, plan)


_SOME = frozenset(row.op for row in TABLE.values() if row.kind is not Kind.CPU)


def _reason(index: int, position: int, asked: DType, net: Net, plan: Plan) -> Iterator[str]:
    node = net.nodes[index]
    name = node.input[position]
    if name in plan.given.present:
        yield f"'{name}' keeps the type that the model itself gives it"
        return
    pair = plan.pairs.get(name)
    if name in plan.unrounded:
        yield f"'{name}' is not rounded on the way to it, so no type applies"
    if pair is None:
        return
    actual = plan.recast.get((index, position), pair.dtype)
    if actual is asked:
        return
    only = TABLE[node.op_type].types.get(position)
    if only is actual and position == 1:
        yield f"input1 stays {actual.value}: of two computed operands the BPU takes the second in it"
    elif only is actual:
        yield f"input{position} stays {actual.value}, the only type in which the BPU takes it"
    else:
        yield f"reads {actual.value}, not {asked.value}, which others need that read the same values"


def _listed(nodes: list[NodeProto]) -> str:
    names = ", ".join(f"'{node.name}' ({node.op_type})" for node in nodes[:3])
    more = f" and {len(nodes) - 3} more" if len(nodes) > 3 else ""
    return ("nodes " if len(nodes) > 1 else "node ") + names + more
