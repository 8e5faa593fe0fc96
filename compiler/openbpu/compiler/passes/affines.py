"""Products with and sums with constants behind a convolution or product are its factor and its bias.

Conv → Mul(c) → Add(d) → Q               is      Conv with a gain and a bias per channel
Conv → Add(3) → Clip(0, 6) → Div(6) → Q  is      Conv with both and a clamp

Exact: one requantization has a factor and an offset per channel anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from openbpu.arch.arrays import Float64
from openbpu.compiler.ir import Array, Node
from openbpu.compiler.ops import OPS, Site
from openbpu.compiler.ops.elementwise import batch_norm
from openbpu.compiler.ops.site import doubles
from openbpu.compiler.ops.tables import clamp_of

Affine = tuple[Float64, Float64]
_SPATIAL = frozenset({"Conv", "ConvTranspose"})
_ARITHMETIC = frozenset({"Add", "Div", "Mul", "Sub", "Sum"})
_MOST = 64


@dataclass(frozen=True, slots=True)
class Tail:
    """A float that is clamp(gain · core + bias): `nodes` make it, in order; bounds are per channel."""

    core: Node
    nodes: tuple[Node, ...]
    gain: Float64
    bias: Float64
    low: Float64
    high: Float64

    def with_affine(self, gain: Array, bias: Array) -> Tail:
        """Return the tail with another factor and sum behind it."""
        ends = [np.where(gain == 0, 0.0, end * gain) + bias for end in (self.low, self.high)]
        return replace(
            self,
            gain=self.gain * gain,
            bias=self.bias * gain + bias,
            low=np.where(gain < 0, ends[1], ends[0]),
            high=np.where(gain < 0, ends[0], ends[1]),
        )

    def with_clamp(self, low: float, high: float) -> Tail:
        """Return the tail with another clamp behind it."""
        return replace(self, low=np.clip(self.low, low, high), high=np.clip(self.high, low, high))


def affine_tail(site: Site, name: str, *, clamps: bool = False) -> Tail | None:
    """Return what makes the float `name` of a convolution or product by constants.

    None where something else does, or nothing, and, without `clamps`, where a clamp does.
    """
    nodes: list[Node] = []
    node = site.producers.get(name)
    while node is not None and not node.domain and len(nodes) < _MOST:
        rule = OPS.get(node.op)
        if rule is not None and rule.fuses:
            return _tail(site, node, nodes[::-1]) if nodes else None
        data = _data_of(site, node, clamps=clamps)
        if data is None:
            return None
        nodes.append(node)
        node = site.producers.get(data)
    return None


def _data_of(site: Site, node: Node, *, clamps: bool) -> str | None:
    """The input of a step that is no constant; None for a node that is no step."""
    if node.op in ("Neg", "Identity", "BatchNormalization"):
        return node.inputs[0]
    found = clamp_of(site, node) if clamps else None
    if found is not None:
        return found[0]
    if node.op not in _ARITHMETIC or len(node.inputs) != 2:
        return None
    there = replace(site, node=node)
    computed = [name for i, name in enumerate(node.inputs) if there.constant(i) is None]
    return computed[0] if len(computed) == 1 else None


def _tail(site: Site, core: Node, nodes: list[Node]) -> Tail | None:
    shape = site.graph.values[core.outputs[0]].shape
    axis = 1 if core.op in _SPATIAL else -1
    if not shape or len(shape) < 2:
        return None
    size = shape[axis]
    ends = np.full(size, -np.inf), np.full(size, np.inf)
    tail = Tail(core, tuple(nodes), np.ones(size), np.zeros(size), *ends)
    for node in nodes:
        found = _with_step(site, tail, node, axis % len(shape))
        if found is None or site.graph.values[node.outputs[0]].shape != shape:
            return None
        tail = found
    finite = np.isfinite(tail.gain).all() and np.isfinite(tail.bias).all()
    return tail if finite and not np.isnan(tail.low).any() and not np.isnan(tail.high).any() else None


def _with_step(site: Site, tail: Tail, node: Node, axis: int) -> Tail | None:
    clamp = clamp_of(site, node)
    if clamp is not None:
        return tail.with_clamp(*clamp[1])
    if node.op == "Identity":
        return tail
    affine = _affine(replace(site, node=node), axis, tail.gain.size)
    if affine is None:
        return None
    with np.errstate(all="ignore"):  # what is not finite is refused in the end
        return tail.with_affine(*affine)


def _affine(site: Site, axis: int, size: int) -> Affine | None:
    """(gain, bias) per channel of one step."""
    op, one = site.node.op, np.ones(size)
    if op == "Neg":
        return -one, 0 * one
    if op == "BatchNormalization":
        return batch_norm(site) if axis == 1 else None
    index = next(i for i in (0, 1) if site.constant(i) is not None)
    value = _per_channel(site, index, axis, size)
    if value is None:
        return None
    if op in ("Add", "Sum"):
        return one, value
    if op == "Sub":
        return (one, -value) if index == 1 else (-one, value)
    if op == "Mul":
        return value, 0 * one
    return (1 / value, 0 * one) if index == 1 and value.all() else None


def _per_channel(site: Site, index: int, axis: int, size: int) -> Float64 | None:
    """The constant at an input as one value per channel; None where it has more."""
    data, rank = site.constant(index), len(site.out_shape())
    if data is None or data.ndim > rank:
        return None
    shape = (1,) * (rank - data.ndim) + data.shape
    if any(n != 1 and i != axis for i, n in enumerate(shape)):
        return None
    values: Float64 = doubles(np.broadcast_to(data.reshape(-1), (size,)))
    return values
