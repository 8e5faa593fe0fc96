"""Operators that a march leaves to the CPU, unless its user asks for the BPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openbpu.arch.march import March
from openbpu.compiler.ir import Node
from openbpu.compiler.ops import Refused


@dataclass(frozen=True, slots=True)
class Wishes:
    """A march, and the names of operators or nodes that are asked for."""

    march: March
    names: frozenset[str]

    def kept_off(self, nodes: Sequence[Node]) -> Node | None:
        """The first of the nodes that stays on the CPU, whatever the operator table says: one without any
        unit before one that could be asked for.
        """
        off = [n for n in nodes if n.op in self.march.cpu_ops]
        lacking = [n for n in off if self.lacks_unit(n)]
        return next(iter([*lacking, *(n for n in off if not {n.op, n.name} & self.names)]), None)

    def lacks_unit(self, node: Node) -> bool:
        """Whether the march never runs a node of its list on the BPU."""
        return self.march.cpu_ops[node.op].when == "always"

    def refusal(self, node: Node, also: Refused | None) -> Refused:
        """Why a node of `kept_off` is on the CPU; `also`: what would keep it there if it were asked for."""
        name, op = self.march.name, node.op
        if self.lacks_unit(node):
            return Refused(f"{name} has no BPU unit for {op}", "use another operator or another march")
        default, ask = f"{op} runs on the CPU by default on {name}", f"ask for the BPU with --bpu {op}"
        if also is None:
            return Refused(default, ask)
        return Refused(f"{default}; besides, {also.reason}", f"{also.fix}, and {ask}")
