"""What only says "never" in front of a Softmax: masks, however they are written.

    scores ──┐                                   m → Sub(1, m) → Mul(−1e9) ┐
    constant ┴ Add → Softmax            scores → Reshape ──────────────────┴ Add → Reshape → Softmax
    condition ┬ Where(−inf, scores) → Softmax       (input) ┴ Sub, Max, Min, …

`find_masks` walks back from every Softmax over what adds, chooses and moves. How low a value on that way may
be read before it no longer matters is for `limits`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from openbpu.arch.arrays import Array
from openbpu.arch.onnx_ops import MOVES, PRODUCTS
from openbpu.quantization.onnx.net import Names, Net
from openbpu.quantization.onnx.nodes import attribute, reads, remake
from openbpu.quantization.onnx.samples import Feed

CARRY = (MOVES - {"DepthToSpace", "SpaceToDepth"}) | {"Cast", "Clip", "Neg", "Trilu"}
"""Operators whose input 0 alone carries the values (Neg turns their sign, which `limits` knows)."""

COMBINES = frozenset({"Add", "Sub", "Where", "Max", "Min", "Sum"})
"""Operators by which a mask meets the scores."""

FINITE = 1e9
"""What stands for infinity, and all beyond, on the way into a Softmax.

Sums of it stay finite (those of the least float32 do not); in a bias its step is one that weights can share.
"""

SURE = 1e3
"""An operand that goes so low masks."""

_SUMS = PRODUCTS | {"Einsum"}


@dataclass(frozen=True, slots=True)
class Row:
    """A Softmax or LogSoftmax (index `node`) along `axis` of the tensor `source`; its result is `out`.

    `chain`: the tensors and constants that are added, chosen and moved on the way to `source`, itself
    included. `fills`: those operands among them that no product leads to, with the sign they enter by:
    masks, and biases that only depend on the position.
    """

    node: int
    source: str
    out: str
    axis: int
    log: bool
    chain: frozenset[str]
    fills: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Masks:
    """The rows of a net that something may be masked in, and what the masks are computed from."""

    rows: tuple[Row, ...] = ()
    upstream: frozenset[str] = frozenset()

    @property
    def chain(self) -> frozenset[str]:
        """All tensors and constants on the way into a row."""
        return frozenset[str]().union(*(row.chain for row in self.rows))

    @property
    def reach(self) -> frozenset[str]:
        """All of them, and what masks are computed from."""
        return self.chain | self.upstream

    @property
    def fills(self) -> frozenset[str]:
        """All operands that no product leads to."""
        return frozenset(name for row in self.rows for name, _ in row.fills)


def find_masks(net: Net) -> Masks:
    """Return every Softmax and LogSoftmax that reads a sum or choice with an operand no product leads to."""
    makers, products = net.producers(), _behind_products(net)
    found = (_row(net, index, makers, products) for index in range(len(net.nodes)))
    rows = tuple(row for row in found if row is not None and row.fills)
    return Masks(rows, _ancestors(net, {name for row in rows for name, _ in row.fills}))


def _row(net: Net, index: int, makers: Mapping[str, int], products: frozenset[str]) -> Row | None:
    node = net.nodes[index]
    if node.op_type not in {"Softmax", "LogSoftmax"} or node.domain not in {"", "ai.onnx"}:
        return None
    source, chain, fills = node.input[0], set[str](), dict[tuple[str, int], None]()
    todo = [(source, 1)]
    while todo:
        name, sign = todo.pop()
        if name in chain:
            continue
        chain.add(name)
        maker = net.nodes[makers[name]] if name in makers else None
        if maker is None:
            continue
        steps = list(steps_back(maker, net))
        todo += [(operand, sign * turn) for operand, turn in steps]
        if maker.op_type in COMBINES:
            fills.update(dict.fromkeys((o, sign * turn) for o, turn in steps if o not in products))
        fills.update(dict.fromkeys((bias, sign) for bias in _masking_bias(maker, net)))
    axis, log = attribute(node, "axis", -1), node.op_type == "LogSoftmax"
    return Row(index, source, node.output[0], axis, log, frozenset(chain), tuple(fills))


def steps_back(node: NodeProto, net: Net) -> Iterator[tuple[str, int]]:
    """Yield the float operands that `node` adds, chooses or moves, −1 with those whose sign it turns."""
    op = node.op_type if node.domain in {"", "ai.onnx"} else ""
    signs: dict[int, int] = {}
    factor = factor_of(node, net)
    if op in CARRY:
        signs = {0: -1 if op == "Neg" else 1}
    elif op in {"ScatterND", "ScatterElements"}:
        signs = {0: 1, 2: 1}
    elif op == "Where":
        signs = {1: 1, 2: 1}
    elif op in COMBINES or op == "Concat":
        signs = {position: -1 if op == "Sub" and position else 1 for position in range(len(node.input))}
    elif factor is not None:
        signs = {int(node.input[0] in net.consts): 1 if factor.min() > 0 else -1}
    yield from ((node.input[i], sign) for i, sign in signs.items() if net.is_float(node.input[i]))


def _masking_bias(node: NodeProto, net: Net) -> list[str]:
    """Return the bias of a product if it masks some of its channels."""
    bias = net.consts.get(node.input[2]) if node.op_type in _SUMS and len(node.input) > 2 else None
    return [] if bias is None or not (bias < -SURE).any() else [node.input[2]]


def factor_of(node: NodeProto, net: Net) -> Array | None:
    """Return the constant that `node` multiplies a tensor by, where it is of one sign and nowhere 0."""
    if node.op_type not in {"Mul", "Div"} or sum(name in net.consts for name in node.input) != 1:
        return None
    if node.op_type == "Div" and node.input[1] not in net.consts:
        return None
    value = np.asarray(next(net.consts[name] for name in node.input if name in net.consts), dtype=np.float64)
    if not value.size or not np.isfinite(value).all() or not ((value > 0).all() or (value < 0).all()):
        return None
    return 1 / value if node.op_type == "Div" else value


def _behind_products(net: Net) -> frozenset[str]:
    """Return the tensors that a product leads to."""
    behind = set[str]()
    for node in net.nodes:
        if node.op_type in _SUMS or not behind.isdisjoint(reads(node)):
            behind.update(node.output)
    return frozenset(behind)


def _ancestors(net: Net, names: Iterable[str]) -> frozenset[str]:
    """Return the tensors that `names` are computed from, these included."""
    wanted = set(names)
    for node in reversed(net.nodes):
        if not wanted.isdisjoint(node.output):
            wanted.update(reads(node))
    return frozenset(wanted)


# --- infinity -----------------------------------------------------------------------------------------------


def finite_masks(net: Net) -> Net:
    """Return `net` with ±FINITE for what is larger in the constants that masks are made of.

    No softmax tells them apart, unless a whole row is masked: −∞ makes NaN of it, −1e9 equal weights.

    Add(scores, [0, −∞])      becomes      Add(scores, [0, −1e9])
    """
    masks = find_masks(net)
    reach, fed = masks.reach, {row.node for row in masks.rows}
    names, consts, nodes = Names(net), dict[str, Array](), []
    finite: dict[str, str] = {}
    for index, node in enumerate(net.nodes):
        inputs = list(node.input)
        if index in fed or not reach.isdisjoint((*node.output, *node.input)):
            for position, name in enumerate(inputs):
                if name in net.consts and _is_too_large(net.consts[name]):
                    if name not in finite:
                        finite[name] = names.fresh(f"{name}_finite")
                        consts[finite[name]] = clipped(net.consts[name])
                    inputs[position] = finite[name]
        nodes.append(node if inputs == list(node.input) else remake(node, inputs))
    return net.with_nodes(nodes, consts) if finite else net


def clipped(x: Array) -> Array:
    """Return `x` with ±FINITE in place of what is larger, infinities included."""
    return np.asarray(
        np.clip(x, x.dtype.type(-FINITE), x.dtype.type(FINITE))
    )  # of a scalar, NumPy makes a number


def finite_feeds(feeds: Sequence[Feed], masks: Masks) -> list[Feed]:
    """Return calibration data with ±FINITE for what is larger in inputs that masks are made of."""
    reach = masks.reach
    return [
        {n: clipped(x) if n in reach and _is_too_large(x) else x for n, x in feed.items()} for feed in feeds
    ]


def _is_too_large(array: Array) -> bool:
    return array.dtype == np.float32 and bool((np.abs(array) > FINITE).any())
