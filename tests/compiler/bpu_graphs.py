"""Random graphs of BPU operations that move, map, join and reduce codes, and what they compute in numpy."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from compiler.reading import Array
from openbpu.arch import numerics
from openbpu.compiler.ir import Graph, Node, Rewriter, Value

UNIT = {"zero": 0, "lo": -128, "hi": 127, "shift": 0, "offset": 0}


# --- drawing ----------------------------------------------------------------------------------------------


@st.composite
def moving_graphs(draw: st.DrawFn) -> Graph:
    """A graph from `x` to one or two outputs; every operation reads one of the values before it."""
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=4)))
    start = Graph((), {"x": Value("x", shape, "int8")}, ("x",), ())
    maker = _Maker(draw, Rewriter(start))
    pool = ["x"]
    for _ in range(draw(st.integers(1, 7))):
        pool.append(maker.grow(pool[-1] if draw(st.integers(0, 3)) else draw(st.sampled_from(pool)), pool))
    outputs = {pool[-1], draw(st.sampled_from(pool))} - {"x"} or {pool[-1]}
    return maker.rw.finish(tuple(sorted(outputs)))


class _Maker:
    def __init__(self, draw: st.DrawFn, rw: Rewriter) -> None:
        self.draw, self.rw = draw, rw

    def shape(self, name: str) -> tuple[int, ...]:
        return self.rw.values[name].shape or ()

    def grow(self, x: str, pool: list[str]) -> str:
        kinds = [self.transpose, self.transpose, self.transpose, self.reshape, self.lut, self.slice, self.pad]
        if len(self.shape(x)) > 1:
            kinds += [self.reduce, self.concat]
        if not self.draw(st.integers(0, 2)):
            return self.add(x, pool)
        return self.draw(st.sampled_from(kinds))(x)

    def emit(self, op: str, inputs: tuple[str, ...], shape: tuple[int, ...], **attrs: object) -> str:
        out = self.rw.value(op.lower(), shape, "int8")
        self.rw.add(op, inputs, (out,), **attrs)  # type: ignore[arg-type]  # attributes of any kind
        return out

    def axis(self, x: str) -> int:
        return self.draw(st.integers(0, len(self.shape(x)) - 1))

    def transpose(self, x: str) -> str:
        perm = tuple(self.draw(st.permutations(range(len(self.shape(x))))))
        return self.emit("Transpose", (x,), tuple(self.shape(x)[p] for p in perm), perm=perm)

    def reshape(self, x: str) -> str:
        shape = list(self.shape(x))
        at = self.axis(x)
        if at + 1 < len(shape) and self.draw(st.booleans()):
            shape[at : at + 2] = [shape[at] * shape[at + 1]]
        elif len(shape) < 6:
            parts = self.draw(st.sampled_from([d for d in range(1, shape[at] + 1) if shape[at] % d == 0]))
            shape[at : at + 1] = [parts, shape[at] // parts]
        return self.emit("Reshape", (x,), tuple(shape))

    def lut(self, x: str) -> str:
        table = self.rw.constant(
            "table", np.random.default_rng(len(self.rw.nodes)).permutation(256).astype(np.uint8).view(np.int8)
        )
        return self.emit("Lut", (x, table), self.shape(x))

    def slice(self, x: str) -> str:
        axis, shape = self.axis(x), list(self.shape(x))
        picked = range(shape[axis])[
            self.draw(st.integers(0, shape[axis] - 1)) :: self.draw(st.sampled_from([1, 2, -1]))
        ]
        starts, steps = [0] * len(shape), [1] * len(shape)
        starts[axis], steps[axis], shape[axis] = picked[0], picked.step, len(picked)
        return self.emit("Slice", (x,), tuple(shape), starts=tuple(starts), steps=tuple(steps))

    def pad(self, x: str) -> str:
        rank = len(self.shape(x))
        before, after = (tuple(self.draw(st.integers(0, 1)) for _ in range(rank)) for _ in range(2))
        shape = tuple(n + b + a for n, b, a in zip(self.shape(x), before, after, strict=True))
        return self.emit("Pad", (x,), shape, before=before, after=after, value=5)

    def reduce(self, x: str) -> str:
        axes = tuple(sorted(self.draw(st.sets(st.integers(0, len(self.shape(x)) - 1), min_size=1))))
        keep = self.draw(st.booleans()) or len(axes) == len(self.shape(x))
        shape = tuple(1 if a in axes else n for a, n in enumerate(self.shape(x)) if keep or a not in axes)
        return self.emit("Reduce", (x,), shape, fn="sum", axes=axes, x_zero=0, mult=1)

    def concat(self, x: str) -> str:
        axis = self.axis(x)
        shape = tuple(2 * n if a == axis else n for a, n in enumerate(self.shape(x)))
        copies = {"x_zeros": (0, 0), "mults": (0, 0), "shifts": (0, 0)}
        return self.emit("Concat", (x, x), shape, axis=axis, **copies)

    def add(self, x: str, pool: list[str]) -> str:
        """With itself, a tensor of the same shape, or a constant that is broadcast."""
        same = [n for n in pool if self.shape(n) == self.shape(x)]
        data = np.arange(self.shape(x)[-1], dtype=np.int8)
        other = self.draw(st.sampled_from([*same, self.rw.constant("row", data)]))
        factors = {"a_zero": 0, "b_zero": 0, "mult_a": 1, "mult_b": 2}
        return self.emit("Binary", (x, other, ""), self.shape(x), fn="add", **factors, **UNIT)


# --- computing --------------------------------------------------------------------------------------------


def evaluate(graph: Graph, x: Array) -> dict[str, Array]:
    """Every value of the graph for this input."""
    values = {n: v.const for n, v in graph.values.items() if v.const is not None}
    values["x"] = x
    for node in graph.nodes:
        result = _run(node, [values[n] for n in node.inputs if n])
        wanted = graph.values[node.outputs[0]].shape
        values[node.outputs[0]] = result.reshape(wanted) if node.op in ("Reshape", "Reduce") else result
        assert values[node.outputs[0]].shape == wanted, node
    return values


def _run(node: Node, inputs: list[Array]) -> Array:
    a, x = node.attrs, inputs[0]
    if node.op == "Transpose":
        return x.transpose(a["perm"])
    if node.op == "Reshape":
        return x
    if node.op == "Lut":
        return np.take(inputs[1], x.astype(np.int64) + 128)
    if node.op == "Slice":
        return _sliced(node, x)
    if node.op == "Pad":
        widths = list(zip(a["before"], a["after"], strict=True))
        return np.pad(x, widths, constant_values=a["value"])
    if node.op == "Reduce":
        return numerics.requantize(x.astype(np.int64).sum(axis=a["axes"]), 0, 0, -128, 127).astype(np.int8)
    if node.op == "Concat":
        return np.concatenate(inputs, axis=a["axis"])
    total = x.astype(np.int64) * a["mult_a"] + inputs[1].astype(np.int64) * a["mult_b"]
    return numerics.requantize(total, 0, 0, -128, 127).astype(np.int8)


def _sliced(node: Node, x: Array) -> Array:
    """The slice as long as a Move with these starts and steps would be: up to the end of the axis."""
    cuts = tuple(
        slice(start, None, step)
        for start, step in zip(node.attrs["starts"], node.attrs["steps"], strict=True)
    )
    return x[cuts]
