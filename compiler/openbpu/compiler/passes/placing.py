"""What the passes that place operators on the BPU share: a walk, and attempts that may be refused."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from openbpu.arch.march import March
from openbpu.compiler.ir import Graph, Node, Origin, Rewriter
from openbpu.compiler.ir.qdq import Scaling, is_dequantize
from openbpu.compiler.net import caught
from openbpu.compiler.ops import OPS, Refused, Site
from openbpu.compiler.passes.refusals import Refusals, refusal_of
from openbpu.compiler.passes.wishes import Wishes


class Placing(ABC):
    """One walk over the graph: every node is lowered to nodes of the BPU, or stays as it is.

    `refusals` goes from pass to pass: what one cannot lower, a later one may. `flags` are the codes
    of the bools that nodes of the BPU make.
    """

    def __init__(self, graph: Graph, march: March, wishes: Wishes, refusals: Refusals) -> None:
        self.graph, self.march, self.wishes, self.refusals = graph, march, wishes, refusals
        self.rw = Rewriter(graph)
        self.producers, self.consumers = graph.producers(), graph.consumers()
        self.flags = {n.outputs[0]: n.inputs[0] for n in graph.nodes if n.is_bpu and n.op == "Retype"}

    def run(self) -> Graph:
        """Return the graph with what could be lowered as nodes of the BPU."""
        for node in self.graph.nodes:
            with caught(f"node '{node.name}' ({node.op})"):
                if node.is_bpu or not self.lowered(node):
                    self.rw.nodes.append(node)
        self.walked()
        return self.rw.finish()

    def walked(self) -> None:  # noqa: B027 - most passes need no second look
        """Look back, once every node has been seen."""

    @abstractmethod
    def lowered(self, node: Node) -> bool:
        """Emit what a node of ONNX becomes, or return False."""

    def site(self, node: Node, out: Scaling | None, target: str, origins: tuple[Origin, ...]) -> Site:
        """Return where `node` stands, for the value `target` with the scaling `out`."""
        return Site(
            graph=self.graph,
            rw=self.rw,
            march=self.march,
            producers=self.producers,
            node=node,
            out=out,
            target=target,
            origins=origins,
            is_output=self.ends_model(target),
            flags=self.flags,
        )

    def plain_site(self, node: Node) -> Site:
        """Return where a node stands whose own output is the result."""
        return self.site(node, None, node.outputs[0], node.origins)

    def ends_model(self, target: str) -> bool:
        """Whether a value, or what a Dequantize makes of it, is an output of the model."""
        floats = [c.outputs[0] for c in self.consumers.get(target, []) if is_dequantize(c)]
        return any(name in self.graph.outputs for name in (target, *floats))

    def apply(self, node: Node, site: Site) -> bool:
        """Lower `node` through its row."""
        return self.attempt((node,), site, lambda: OPS[node.op].apply(site), listed=(node,))

    def attempt(
        self, nodes: tuple[Node, ...], site: Site, lower: Callable[[], None], *, listed: tuple[Node, ...]
    ) -> bool:
        """Lower `nodes`; on refusal emit nothing and remember the reason at the first of them.

        `listed` are the nodes that must not be on the march's list of CPU operators.
        """
        left = next((n for n in nodes if any(o.stays_float for o in n.origins)), None)
        if left is not None:
            fix = "give it int8 or int16 when quantizing"
            self.refusals.add(left, Refused("the quantizer was asked to leave it float", fix))
            return False
        mark, values = len(self.rw.nodes), dict(self.rw.values)
        off = self.wishes.kept_off(listed)
        why = None if off is not None and self.wishes.lacks_unit(off) else refusal_of(lower)
        if off is not None:
            why = self.wishes.refusal(off, why)
            self.refusals.add(off, why)
        if why is None:
            self.refusals.forget(site.origins)
            return True
        del self.rw.nodes[mark:]
        self.rw.values = values
        self.refusals.add(nodes[0], why)
        return False
