"""What finds a place along an axis runs on codes, and writes its indices in the type that is read.

DQ → ArgMax → Cast(int32)     becomes      ArgReduce(codes) → int32
DQ → ArgMax → Cast(float)     becomes      ArgReduce(codes) → codes of scale 1 → DQ
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from openbpu.arch.dtypes import DType
from openbpu.arch.march import March
from openbpu.arch.onnx_ops import MOVES, Does, that
from openbpu.arch.operators.reduce import PLACES
from openbpu.compiler.ir import Graph, Node, Origin, Quant, Rewriter
from openbpu.compiler.ir.qdq import DEQUANTIZE
from openbpu.compiler.ops import OPS, Refused
from openbpu.compiler.passes.placing import Placing
from openbpu.compiler.passes.refusals import Refusals
from openbpu.compiler.passes.wishes import Wishes

_FINDERS = that(Does.FIND)
_INTEGERS = {dtype.value: dtype for dtype in PLACES}
_CODES = (DType.INT8, DType.INT16)
_OF_CODES = _FINDERS - {"TopK"}
_BYTES = ("int8", "uint8")
_WIDER = "cast to int32 or int64"


def finders_of_reals(graph: Graph) -> Graph:
    """Return the graph with ArgMax and ArgMin of codes as those of reals in the same order.

    Q → ArgMax      becomes      Q → DQ(scale 1) → ArgMax
    """
    rw = Rewriter(graph)
    for node in graph.nodes:
        if node.domain == "" and node.op in _OF_CODES and graph.values[node.inputs[0]].dtype in _BYTES:
            rw.nodes.append(replace(node, inputs=(_reals(rw, node.inputs[0]), *node.inputs[1:])))
        else:
            rw.nodes.append(node)
    return rw.finish()


def _reals(rw: Rewriter, codes: str) -> str:
    """Dequantize codes by a scale of 1: their own may be one per channel, which is another order."""
    value = rw.values[codes]
    one, zero = np.ones((), np.float32), np.zeros((), value.dtype)
    scale = (rw.constant(f"{codes}/scale", one), rw.constant(f"{codes}/zero", zero))
    reals = rw.value(f"{codes}/reals", value.shape, "float32")
    rw.add(DEQUANTIZE, (codes, *scale), (reals,))
    return reals


def casts_beside_finders(graph: Graph) -> Graph:
    """Return the graph with Casts of moved indices in front of the moves.

    ArgMax → Squeeze → Cast      becomes      ArgMax → Cast → Squeeze
    """
    rw, producers = Rewriter(graph), graph.producers()
    for node in graph.nodes:
        moves = _moves_between(producers, node) if node.op == "Cast" and node.domain == "" else []
        if moves:
            _cast_first(rw, node, moves)
        else:
            rw.nodes.append(node)
    return rw.finish()


def _moves_between(producers: Mapping[str, Node], cast: Node) -> list[Node]:
    """Return the moves from a finder to a Cast, in order; none where it is no finder's."""
    moves: list[Node] = []
    maker = producers.get(cast.inputs[0])
    while maker is not None and maker.domain == "" and maker.op in MOVES and len(maker.outputs) == 1:
        moves.insert(0, maker)
        maker = producers.get(maker.inputs[0])
    return moves if moves and _finds(maker, moves[0].inputs[0]) else []


def _finds(maker: Node | None, name: str) -> bool:
    """Whether a value holds the indices that an operator finds: its last output."""
    return maker is not None and maker.domain == "" and maker.op in _FINDERS and name == maker.outputs[-1]


def _cast_first(rw: Rewriter, cast: Node, moves: Sequence[Node]) -> None:
    (target,) = cast.outputs
    dtype = rw.values[target].dtype
    source = moves[0].inputs[0]
    first = rw.value(f"{source}/cast", rw.values[source].shape, dtype)
    rw.nodes.append(replace(cast, inputs=(source,), outputs=(first,)))
    for move in moves:
        made = move.outputs[0]
        is_last = move is moves[-1]
        value = target if is_last else rw.value(f"{made}/cast", rw.values[made].shape, dtype)
        rw.add(move.op, (first, *move.inputs[1:]), (value,), move.origins, **move.attrs)
        first = value


class Indices(Placing):
    """Lowers what finds indices, what moves them, and what casts them to another type."""

    def __init__(self, graph: Graph, march: March, wishes: Wishes, refusals: Refusals) -> None:
        super().__init__(graph, march, wishes, refusals)
        self._made: set[str] = set()

    def lowered(self, node: Node) -> bool:
        """Lower a node that makes indices; what nobody reads in the end is dropped."""
        if node.domain != "" or not node.inputs:
            return False
        maker = self.producers.get(node.inputs[0])
        if node.op == "TopK":
            return self._ranked(node)
        if node.op in _FINDERS:
            return self._found(node, node.outputs[0], node.origins)
        if node.op == "Cast" and _finds(maker, node.inputs[0]):
            return self._cast(node, self.producers[node.inputs[0]])
        return node.inputs[0] in self._made and node.op in MOVES and self._moved(node)

    def _ranked(self, node: Node) -> bool:
        """Lower a TopK to an operator for its elements, codes of its input, and one for their indices."""
        elements, indices = (*node.outputs, "")[:2]
        if indices and not self._found(node, indices, node.origins):
            return False
        leaf = self.plain_site(node).leaf_or_none(node.inputs[0])
        if not elements:
            return bool(indices)
        shape = self.rw.values[elements].shape
        if leaf is None or shape is None:
            return not indices and self._found(node, elements, node.origins)
        codes = self.rw.value(f"{elements}/codes", shape, leaf.dtype, Quant((leaf.s,), leaf.z))
        if not self._found(node, codes, node.origins, output=0):
            return False
        dequantize = self.producers[node.inputs[0]]
        self.rw.add(DEQUANTIZE, (codes, *dequantize.inputs[1:]), (elements,), node.origins)
        return True

    def _found(self, finder: Node, target: str, origins: tuple[Origin, ...], output: int = 1) -> bool:
        site = self.site(finder, None, target, origins)
        site.memo["output"] = output
        done = self.attempt((finder,), site, lambda: OPS[finder.op].apply(site), listed=(finder,))
        if done:
            self._made.add(target)
        return done

    def _moved(self, node: Node) -> bool:
        site = self.plain_site(node)
        site.moves_indices = True
        done = node.op in OPS and self.apply(node, site)
        if done:
            self._made.update(node.outputs)
        return done

    def _cast(self, node: Node, finder: Node) -> bool:
        """Let the operator write what a Cast makes of its indices, if that holds them all."""
        target = node.outputs[0]
        dtype, most = self.rw.values[target].dtype, self._most(finder)
        done = False
        if dtype in _INTEGERS and _INTEGERS[dtype].qmax < most:
            most_held = f"{dtype}, which ends at {_INTEGERS[dtype].qmax}"
            self.refusals.add(
                node, Refused(f"its type must hold indices up to {most:.0f}, not {most_held}", _WIDER)
            )
        elif dtype in _INTEGERS:
            done = self._found(finder, target, (*finder.origins, *node.origins))
        elif dtype == "float32":
            done = any(self._as_codes(node, finder, codes) for codes in _CODES if codes.qmax >= most)
        if not done:
            self.refusals.add_behind(finder, (node,))
        return done

    def _as_codes(self, node: Node, finder: Node, dtype: DType) -> bool:
        """Write codes of the scale 1, and dequantize them."""
        target = node.outputs[0]
        codes = self.rw.value(f"{target}/codes", self.rw.values[target].shape, dtype.value, Quant((1.0,)))
        if not self._found(finder, codes, finder.origins):
            return False
        one = self.rw.constant(f"{codes}/scale", np.ones((), np.float32))
        zero = self.rw.constant(f"{codes}/zero", np.zeros((), dtype.numpy))
        self.rw.add(DEQUANTIZE, (codes, one, zero), (target,), node.origins, node.name)
        return True

    def _most(self, finder: Node) -> float:
        """The largest index there can be."""
        shape = self.graph.values[finder.inputs[0]].shape
        axis = int(finder.attrs.get("axis", -1 if finder.op == "TopK" else 0))
        return np.inf if not shape else shape[axis % len(shape)] - 1
