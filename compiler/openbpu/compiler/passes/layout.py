"""Transposes meet and cancel: they sink through operators that do not care, and disappear in pairs.

Conv → T(NHWC→NCHW) → Add → T(NCHW→NHWC) → Conv      becomes      Conv → Add → Conv, channels last throughout
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from openbpu.arch.errors import must
from openbpu.compiler.ir import Graph, Node, Quant, Rewriter, Value
from openbpu.compiler.ir.dialect import operand
from openbpu.compiler.ir.verify import ensures
from openbpu.compiler.passes.regroup import regroup

Perm = tuple[int, ...]
_ELEMENTWISE = frozenset({"Lut", "SegmentLut", "Rescale"})
_ROW_OPS = frozenset({"Softmax", "LayerNorm"})
_ROUNDS = 8


def with_settled_layout(graph: Graph) -> Iterator[str]:
    """Every transpose moves something, and no transpose reads another one, nor a reshape a reshape."""
    producers = graph.producers()
    for node in (n for n in graph.nodes if n.is_bpu and n.op in ("Transpose", "Reshape")):
        maker = producers.get(operand(node, "x"))
        if maker is not None and maker.is_bpu and maker.op == node.op:
            yield must(f"node '{node.name}'", f"a {node.op}", "one with the next", f"behind '{maker.name}'")
        if node.op == "Transpose" and is_free(graph.values[node.inputs[0]].shape or (), node.attrs["perm"]):
            yield must(
                f"node '{node.name}'",
                "a Transpose",
                "of axes that change their order",
                "one that moves nothing",
            )


@ensures(with_settled_layout)
def settle_layout(graph: Graph) -> Graph:
    """Return the graph with as few transposes as sinking and cancelling leave."""
    for _ in range(_ROUNDS):
        settled = _Settle(graph).run()
        if _signature(settled) == _signature(graph):
            break
        graph = settled
    return graph


def _signature(graph: Graph) -> list[tuple[str, tuple[str, ...]]]:
    return [(n.op, n.inputs) for n in graph.nodes]


def inverse(perm: Sequence[int]) -> Perm:
    """The permutation that undoes `perm`."""
    return tuple(int(i) for i in np.argsort(perm))


def permuted(shape: Sequence[int], perm: Sequence[int]) -> tuple[int, ...]:
    """Shape of a transposed tensor."""
    return tuple(shape[i] for i in perm)


def is_free(shape: Sequence[int], perm: Sequence[int]) -> bool:
    """Whether a transpose of `shape` moves no data: the axes longer than 1 keep their order."""
    long = [p for p in perm if shape[p] != 1]
    return long == sorted(long)


class _Settle:
    """One walk over the graph: `moved` maps a value to (source, perm) when it is a transpose of `source`."""

    def __init__(self, graph: Graph) -> None:
        self.rw = Rewriter(graph)
        self.moved: dict[str, tuple[str, Perm]] = {}
        self.shaped: dict[str, str] = {}

    def run(self) -> Graph:
        for node in self.rw.graph.nodes:
            if not node.is_bpu or not self.rewrite(node):
                self.rw.nodes.append(node)
                self.note(node)
        return self.rw.finish()

    def note(self, node: Node) -> None:
        if node.is_bpu and node.op == "Transpose":
            self.moved[node.outputs[0]] = (node.inputs[0], node.attrs["perm"])
        elif node.is_bpu and node.op == "Reshape":
            self.shaped[node.outputs[0]] = node.inputs[0]

    def shape(self, name: str) -> tuple[int, ...]:
        return self.rw.values[name].shape or ()

    def rewrite(self, node: Node) -> bool:
        if node.op == "Transpose":
            return self.transpose(node)
        if node.op == "Reshape":
            return self.reshape(node)
        if node.op in _ELEMENTWISE:
            return self.pointwise(node)
        if node.op in _ROW_OPS:
            return self.rows(node)
        handler = {
            "Binary": self.binary,
            "Concat": self.concat,
            "Reduce": self.reduce,
            "ArgReduce": self.reduce,
            "TopK": self.reduce,
            "CumSum": self.running,
            "Slice": self.sliced,
            "Pad": self.padded,
            "Gather": self.gathered,
            "MatMul": self.matmul,
        }.get(node.op)
        return handler is not None and handler(node)

    # --- the transposes and reshapes themselves -------------------------------------------------------

    def transpose(self, node: Node) -> bool:
        source, perm = node.inputs[0], tuple(node.attrs["perm"])
        changed = False
        if source in self.moved:
            inner, first = self.moved[source]
            source, perm, changed = inner, tuple(first[p] for p in perm), True
        if is_free(self.shape(source), perm):
            self.emit_reshape(source, node)
            return True
        if self.before_merge(node, source, perm):
            return True
        if changed:
            self.emit_transpose(source, node.outputs[0], perm, node)
        return changed

    def before_merge(self, node: Node, source: str, perm: Perm) -> bool:
        """Transpose → Reshape → Transpose becomes Transpose → Reshape, as behind shuffled channels."""
        root = self.shaped.get(source, "")
        if root not in self.moved:
            return False
        target = permuted(self.shape(source), perm)
        # What undoes the second transpose and the reshape is a reshape and a transpose; turned round, it is:
        plan = regroup(target, inverse(perm), self.shape(root))
        if plan is None:
            return False
        shape, late = plan
        inner, first = self.moved[root]
        moved = self.like(root, f"{node.outputs[0]}/moved", shape)
        self.emit_transpose(inner, moved, tuple(first[p] for p in inverse(late)), node)
        self.emit_reshape(moved, replace(node, name="", origins=()))
        return True

    def emit_reshape(self, source: str, node: Node) -> None:
        source = self.shaped.get(source, source)
        self.rw.bpu("Reshape", node.outputs[0], node.origins, node.name, x=source)
        self.shaped[node.outputs[0]] = source

    def emit_transpose(self, source: str, target: str, perm: Perm, node: Node) -> None:
        self.rw.bpu("Transpose", target, node.origins, x=source, perm=perm)
        self.moved[target] = (source, perm)

    def reshape(self, node: Node) -> bool:
        source, target = node.inputs[0], node.outputs[0]
        if source in self.shaped:
            self.emit_reshape(source, node)
            return True
        if source not in self.moved:
            return False
        inner, perm = self.moved[source]
        plan = regroup(self.shape(inner), perm, self.shape(target))
        if plan is None:
            return False
        shape, new_perm = plan
        early = self.like(inner, f"{target}/early", shape)
        self.rw.bpu("Reshape", early, node.origins, x=self.shaped.get(inner, inner))
        self.shaped[early] = self.shaped.get(inner, inner)
        self.emit_transpose(early, target, new_perm, node)
        return True

    # --- operators that a transpose may pass ----------------------------------------------------------

    def like(
        self, name: str, stem: str, shape: Sequence[int], dtype: str = "", quant: Quant | None = None
    ) -> str:
        value = self.rw.values[name]
        return self.rw.value(stem, shape, dtype or value.dtype, quant or value.quant)

    def result(self, node: Node, perm: Perm) -> str:
        """Declare the output of `node` as it is before the transpose `perm` that will follow it."""
        value: Value = self.rw.values[node.outputs[0]]
        shape = permuted(value.shape or (), inverse(perm))
        return self.rw.value(f"{value.name}/t", shape, value.dtype, value.quant)

    def passed(self, node: Node, inputs: Sequence[str], perm: Perm, **attrs: object) -> bool:
        """Emit `node` on untransposed inputs, and the transpose behind it."""
        out = self.result(node, perm)
        self.rw.nodes.append(
            replace(node, inputs=tuple(inputs), outputs=(out,), attrs={**node.attrs, **attrs})
        )
        self.emit_transpose(out, node.outputs[0], perm, replace(node, origins=()))
        return True

    def pointwise(self, node: Node) -> bool:
        name = node.inputs[0]
        if name in self.shaped:
            return self.before_reshape(node, self.shaped[name])
        if name not in self.moved:
            return False
        source, perm = self.moved[name]
        return self.passed(node, (source, *node.inputs[1:]), perm)

    def before_reshape(self, node: Node, source: str) -> bool:
        """Emit an element-wise `node` on what its input was before a reshape, and the reshape behind it."""
        value = self.rw.values[node.outputs[0]]
        out = self.rw.value(f"{value.name}/r", self.shape(source), value.dtype, value.quant)
        self.rw.nodes.append(replace(node, inputs=(source, *node.inputs[1:]), outputs=(out,)))
        self.emit_reshape(out, replace(node, name="", origins=()))
        return True

    def rows(self, node: Node) -> bool:
        found = self.moved.get(node.inputs[0])
        rank = len(self.shape(node.inputs[0]))
        if (
            found is None
            or found[1][-1] != rank - 1
            or node.attrs.get("length", self.shape(node.inputs[0])[-1]) != self.shape(node.inputs[0])[-1]
        ):
            return False
        return self.passed(node, (found[0], *node.inputs[1:]), found[1])

    def common_perm(self, names: Sequence[str], rank: int) -> Perm | None:
        perms = {self.moved[n][1] for n in names if n in self.moved and len(self.shape(n)) == rank}
        return perms.pop() if len(perms) == 1 else None

    def binary(self, node: Node) -> bool:
        rank = len(self.shape(node.outputs[0]))
        perm = self.common_perm(node.inputs[:2], rank)
        if perm is None or any(len(self.shape(n)) > rank for n in node.inputs[:2]):
            return False
        sources = [self.untransposed(n, perm, rank, node) for n in node.inputs[:2]]
        if any(s is None for s in sources):
            return False
        return self.passed(node, [s for s in sources if s is not None] + list(node.inputs[2:]), perm)

    def untransposed(self, name: str, perm: Perm, rank: int, node: Node) -> str | None:
        """The operand as it is before `perm`, or None when that would cost a transpose of its own."""
        if self.moved.get(name, ("", ()))[1] == perm:
            return self.moved[name][0]
        shape = (1,) * (rank - len(self.shape(name))) + self.shape(name)
        back = inverse(perm)
        data = self.rw.values[name].const
        if data is not None:
            moved = np.ascontiguousarray(data.reshape(shape).transpose(back))
            return self.rw.constant(f"{name}/t", moved, self.rw.values[name].quant)
        if not is_free(shape, back):
            return None
        out = self.like(name, f"{name}/t", permuted(shape, back))
        self.rw.bpu("Reshape", out, node.origins, x=self.shaped.get(name, name))
        self.shaped[out] = self.shaped.get(name, name)
        return out

    def concat(self, node: Node) -> bool:
        rank = len(self.shape(node.outputs[0]))
        perm = self.common_perm(node.inputs, rank)
        if perm is None:
            return False
        sources = [self.untransposed(n, perm, rank, node) for n in node.inputs]
        if any(s is None for s in sources):
            return False
        return self.passed(node, [s for s in sources if s is not None], perm, axis=perm[node.attrs["axis"]])

    def reduce(self, node: Node) -> bool:
        found = self.moved.get(node.inputs[0])
        if found is None:
            return False
        source, perm = found
        axes = tuple(sorted(perm[a] for a in node.attrs["axes"]))
        if self.shape(node.outputs[0]) and len(self.shape(node.outputs[0])) == len(perm):
            return self.passed(node, (source,), perm, axes=axes)
        # Axes are dropped: the rest must keep its order, or be put in order behind.
        kept = [p for p in perm if p not in axes]
        order = tuple(sorted(kept).index(p) for p in kept)
        value = self.rw.values[node.outputs[0]]
        out = self.rw.value(
            f"{value.name}/t", permuted(value.shape or (), inverse(order)), value.dtype, value.quant
        )
        self.rw.nodes.append(
            replace(node, inputs=(source,), outputs=(out,), attrs={**node.attrs, "axes": axes})
        )
        self.emit_transpose(out, value.name, order, replace(node, origins=()))
        return True

    def running(self, node: Node) -> bool:
        """Pass a running sum, unless its axis would come last, where its steps have a lane each."""
        found = self.moved.get(node.inputs[0])
        if found is None:
            return False
        source, perm = found
        axis, last = perm[node.attrs["axis"]], len(perm) - 1
        if axis == last != node.attrs["axis"]:
            return False
        return self.passed(node, (source,), perm, axis=axis)

    def sliced(self, node: Node) -> bool:
        return self.by_axis(node, ("starts", "steps"))

    def padded(self, node: Node) -> bool:
        return self.by_axis(node, ("before", "after"))

    def by_axis(self, node: Node, keys: Sequence[str]) -> bool:
        """Pass a transpose through an operator with one attribute entry per axis."""
        found = self.moved.get(node.inputs[0])
        if found is None:
            return False
        back = inverse(found[1])
        attrs = {k: permuted(node.attrs[k], back) for k in keys}
        return self.passed(node, (found[0],), found[1], **attrs)

    def gathered(self, node: Node) -> bool:
        found = self.moved.get(node.inputs[0])
        if found is None:
            return False
        return self.passed(node, (found[0], *node.inputs[1:]), found[1], axis=found[1][node.attrs["axis"]])

    def matmul(self, node: Node) -> bool:
        """A transpose of the last two axes of b is the `b_transposed` form."""
        b = node.inputs[1]
        inner = self.moved.get(b)
        rank = len(self.shape(b))
        swap = (*range(rank - 2), rank - 1, rank - 2)
        if inner is None or inner[1] != swap:
            return False
        attrs = {**node.attrs, "b_transposed": not node.attrs["b_transposed"]}
        self.rw.nodes.append(replace(node, inputs=(node.inputs[0], inner[0], *node.inputs[2:]), attrs=attrs))
        return True
