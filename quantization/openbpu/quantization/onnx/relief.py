"""What can be done for a tensor that a scale swallows, and what is said of it.

spared   the common tensor stays float, where no BPU operator computes with it (a Concat that is the output):
every operand keeps the scale of its own pair
widened  the common tensor is int16, where the model may have int16; also what a root or logarithm reads
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx.asked import Types
from openbpu.quantization.onnx.balance import Balance, find_balance
from openbpu.quantization.onnx.classes import TABLE, Kind, kind_of
from openbpu.quantization.onnx.findings import Finding
from openbpu.quantization.onnx.limits import Seen, ranges_of, useful
from openbpu.quantization.onnx.masks import Masks
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.plan import NOTHING_ASKED, Plan
from openbpu.quantization.onnx.steep import find_steep
from openbpu.quantization.onnx.swallowed import FEW, Swallowed, find_swallowed

_FINER = 257
"""Steps of int16 in one of int8."""


@dataclass(frozen=True, slots=True)
class Relief:
    """`spared`: results that stay float; `widened`: sources that are int16; `findings`: what was done why."""

    spared: frozenset[str] = frozenset()
    widened: frozenset[str] = frozenset()
    findings: tuple[Finding, ...] = ()


def settle(
    net: Net,
    plan: Plan,
    masks: Masks,
    seen: Seen,
    again: Callable[[Relief], Plan],
    *,
    int16: bool,
    asked: Types = NOTHING_ASKED,
) -> tuple[Plan, Relief]:
    """Return the plan after all that can be done; `again` plans with it. The last ones as in `relieve`."""
    known = _steepened(net, plan, seen, asked) if int16 else Relief()
    if known.widened:
        plan = again(known)
    while True:
        more = relieve(net, plan, lost_in(net, plan, masks, seen), known, int16=int16, asked=asked)
        if more == known:
            return plan, known
        known, plan = more, again(more)


def lost_in(net: Net, plan: Plan, masks: Masks, seen: Seen) -> list[Swallowed]:
    """Return every tensor that a scale of the plan swallows, in the order of the graph."""
    types = types_of(plan)
    within = useful(net, masks, types, seen)
    tops, _ = ranges_of(within, seen, masks, types)
    return find_swallowed(net, plan, tops, seen.extents, masks, within)


def balance_of(net: Net, plan: Plan, masks: Masks, seen: Seen) -> Balance:
    """Return the factors by which operands of a Concat that would be swallowed get ranges alike."""
    known = {name: float(np.abs(array).max(initial=0.0)) for name, array in net.consts.items()}
    tops = {name: extent.top for name, extent in seen.extents.items() if extent.seen} | known
    return find_balance(net, lost_in(net, plan, masks, seen), tops)


def _steepened(net: Net, plan: Plan, seen: Seen, asked: Types) -> Relief:
    """Return what roots and logarithms read as int16."""
    steep = find_steep(net, plan, seen, asked)
    findings = (
        Finding(
            "widened",
            name,
            node.name,
            f"'{name}' is int16: {node.op_type} '{node.name}' makes steps near 0 large",
        )
        for name, node in steep.items()
    )
    return Relief(widened=frozenset(steep), findings=tuple(findings))


def types_of(plan: Plan) -> dict[str, DType]:
    """Return the type of every source."""
    return {pair.source: pair.dtype for pair in plan.pairs.values()}


def relieve(
    net: Net,
    plan: Plan,
    lost: Sequence[Swallowed],
    known: Relief,
    *,
    int16: bool,
    asked: Types = NOTHING_ASKED,
) -> Relief:
    """Return `known` and what can be done for the tensors `lost`; `int16`: whether tensors may be widened.

    `asked`: types that the user gives nodes, which stay as they are.
    """
    spared, widened, findings = set(known.spared), set(known.widened), list(known.findings)
    for found in lost:
        source = plan.pairs[found.whole].source
        if source in widened or found.whole in spared:
            continue
        floating = _floating(net, plan, found.whole) if found.how == "beside" else None
        if int16 and _helps(net, plan, found, source, asked):
            widened.add(source)
            findings.append(_said("widened", net, found, f"'{source}' is int16"))
        elif floating is not None:
            spared |= floating
            findings.append(_said("spared", net, found, f"'{found.whole}' stays float"))
    return Relief(frozenset(spared), frozenset(widened), tuple(findings))


def findings_of(net: Net, plan: Plan, lost: Iterable[Swallowed], known: Relief) -> tuple[Finding, ...]:
    """Return what was done, and a warning for every tensor that is lost all the same."""
    return (*known.findings, *(_warning(net, plan, found) for found in lost))


def _helps(net: Net, plan: Plan, found: Swallowed, source: str, asked: Types) -> bool:
    """Whether int16 gives the swallowed tensor steps, and some reader of the common one takes int16.

    A sum that a product reads is left alone: its small operand is lost in the next sum, and int16 costs time.
    """
    if found.dtype is DType.INT16 or found.steps * _FINER < FEW[found.how]:
        return False
    readers = _reads(net, plan, source)
    if found.how == "added" and any(kind_of(node, net) is Kind.MAC for node, _ in readers):
        return False
    taken = [TABLE[node.op_type].types.get(at, asked.of(node, at)) for node, at in readers]
    return not taken or any(dtype is not DType.INT8 for dtype in taken)


def _reads(net: Net, plan: Plan, source: str) -> list[tuple[NodeProto, int]]:
    """Return who reads what has the scale of `source`, at which position; not those that only move it."""
    moved = {name for name, pair in plan.pairs.items() if pair.source == source}
    nodes = [node for node in net.nodes if node.op_type in TABLE and moved.isdisjoint(node.output)]
    return [(node, at) for node in nodes for at, name in enumerate(node.input) if name in moved]


def _floating(net: Net, plan: Plan, name: str) -> frozenset[str] | None:
    """Return `name` and what is moved and joined from it, if nothing else on the BPU reads any; else None."""
    readers, found, todo = net.consumers(), set[str](), [name]
    while todo:
        tensor = todo.pop()
        if tensor in found:
            continue
        found.add(tensor)
        for index in readers.get(tensor, []):
            node = net.nodes[index]
            kind = Kind.CPU if index in plan.cpu else kind_of(node, net)
            if kind is Kind.KEEP or node.op_type == "Concat":
                todo += [out for out in node.output if out]
            elif kind is not Kind.CPU:
                return None
    return frozenset(found)


def _said(kind: str, net: Net, found: Swallowed, what: str) -> Finding:
    node = net.nodes[found.node]
    why = f"one int8 scale would swallow {found.told}"
    return Finding(kind, found.name, node.name, f"{node.op_type} '{node.name}': {what}: {why}")


def _warning(net: Net, plan: Plan, found: Swallowed) -> Finding:
    node, scale = net.nodes[found.node], f"the {found.dtype.value} scale of"
    whole = f"its whole '{node.input[0]}'" if found.how == "cut" else f"'{found.whole}'"
    what = f"{scale} {whole} swallows {found.told} of it; {_fix(net, plan, found)}"
    return Finding("swallowed", found.name, node.name, f"{node.op_type} '{node.name}': {what}")


def _fix(net: Net, plan: Plan, found: Swallowed) -> str:
    if found.dtype is DType.INT16:
        return "give the model's tensors like ranges there"
    readers = _reads(net, plan, plan.pairs[found.whole].source)
    narrow = [node for node, at in readers if TABLE[node.op_type].types.get(at) is DType.INT8]
    if readers and len(narrow) == len(readers):
        named = f"{narrow[0].op_type} '{narrow[0].name}'"
        return f"{named} takes nothing but int8 there: compute it of each operand on its own"
    return "let it be int16 (leave out --int8-tail, or --int16)"
