"""What makes or moves bools: comparisons, logic and movement become operators on the codes 0 and 1.

DQ → Greater(…) → b → And(b, c)      becomes      Binary → codes of b → Binary(codes of b, codes of c)

Its result is a bool as before, the same bytes, for whoever wants one: the model's output or a CPU operator.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from openbpu.arch.march import March
from openbpu.arch.numerics.functions import PREDICATES
from openbpu.arch.onnx_ops import MOVES
from openbpu.compiler.ir import Graph, Node, Origin
from openbpu.compiler.ops import OPS, Refused, Site
from openbpu.compiler.ops.advice import LEAVE
from openbpu.compiler.ops.site import FLAG, FLAGS
from openbpu.compiler.ops.tables import chain_of, lower_chain
from openbpu.compiler.passes.placing import Placing
from openbpu.compiler.passes.refusals import Refusals
from openbpu.compiler.passes.wishes import Wishes

_MOVED = MOVES | {"Concat"}


@dataclass(frozen=True, slots=True)
class _Loose:
    """A node whose bools all come from outside of the BPU, and what it has become there."""

    node: Node
    codes: tuple[str, ...]
    made: tuple[Node, ...]


class Bools(Placing):
    """Lowers what makes bools where its operands are on the BPU, or where the BPU reads its result."""

    def __init__(self, graph: Graph, march: March, wishes: Wishes, refusals: Refusals) -> None:
        super().__init__(graph, march, wishes, refusals)
        self._loose: list[_Loose] = []

    def is_of_bools(self, node: Node) -> bool:
        """Whether a node computes bools, or moves some."""
        known = node.op in PREDICATES or node.op in _MOVED
        outs = [self.graph.values[name] for name in node.outputs if name]
        return node.domain == "" and known and all(v.dtype == "bool" and v.shape is not None for v in outs)

    def decided(self, node: Node) -> bool:
        """Lower a node that makes bools; False leaves it as it is."""
        start, before = len(self.rw.nodes), dict(self.rw.values)
        codes = tuple(self._codes(name) if name else "" for name in node.outputs)
        if not (self._moved(node, codes) if node.op in _MOVED else self._computed(node, codes[0])):
            self.rw.values = before
            return False
        is_loose = self._is_loose(node)
        for name, made in zip(node.outputs, codes, strict=True):
            if name:
                self.rw.bpu("Retype", name, node.origins, x=made)
                self.flags[name] = made
        if is_loose:
            self._loose.append(_Loose(node, codes, tuple(self.rw.nodes[start:])))
        return True

    def _codes(self, name: str) -> str:
        return self.rw.value(f"{name}/codes", self.graph.values[name].shape, "int8", FLAG)

    def _moved(self, node: Node, codes: tuple[str, ...]) -> bool:
        count = len(node.inputs) if node.op == "Concat" else 1
        plain = self.plain_site(node)
        sources = [plain.flag(name) for name in node.inputs[:count]]
        if node.op not in OPS or not all(sources):
            return False
        moving = replace(node, inputs=(*sources, *node.inputs[count:]), outputs=codes)
        site = self.site(moving, None, next(filter(None, codes)), node.origins)
        return self.attempt((node,), site, lambda: OPS[node.op].apply(site), listed=(node,))

    def _computed(self, node: Node, codes: str) -> bool:
        """Try a table of one tensor, then the row of the operator."""
        site = self._condition(node, codes)
        found = chain_of(site)
        if found is not None:
            leaf, nodes = found
            alone = nodes if len(nodes) == 1 else ()
            if self.attempt(nodes, site, lambda: lower_chain(site, leaf, nodes), listed=alone):
                return True
        return node.op in OPS and self.apply(node, self._condition(node, codes, node.origins))

    def _condition(self, node: Node, codes: str, origins: tuple[Origin, ...] = ()) -> Site:
        site = self.site(node, FLAGS, codes, origins)
        site.clamp = (0.0, 1.0)
        site.memo["end"] = node.outputs[0]
        return site

    def _is_loose(self, node: Node) -> bool:
        """Whether all that a node reads are bools that the BPU does not make."""
        reads = [name for name in node.inputs if name and self.graph.const(name) is None]
        return all(self.graph.values[name].dtype == "bool" and name not in self.flags for name in reads)

    def walked(self) -> None:
        """Give back to the CPU what only turns bools from elsewhere into bools for elsewhere."""
        for loose in reversed(self._loose):
            own = set(map(id, loose.made))
            readers = self.rw.finish().consumers()
            if any(r.is_bpu and id(r) not in own for name in loose.codes for r in readers.get(name, ())):
                continue
            self.rw.nodes = [*(n for n in self.rw.nodes if id(n) not in own), loose.node]
            why = "the BPU makes none of its operands and does not read its result"
            self.refusals.add(loose.node, Refused(why, LEAVE))
