"""Operands of a Concat that a product reads: brought to one range, and the product's weights the other way.

    boxes in 0 … 320 ──────┐                boxes ────────────────┐
    scores in 0 … 1  ──────┴ Concat → W     scores → Mul(256) ────┴ Concat → W, its rows of scores / 256

The common tensor has one scale, which would swallow the small operand; where its rows of W are large, one
scale of W would swallow the rows of the other operand as well. In float nothing changes: the factors are
powers of two. They give all operands one range: what that takes from small rows of W is no more than W loses
beside the large operand. A constant per channel (Mul) sums nothing up; there the factor is
√(the share that the channels have of the constant / their range), as in `corrections.equalise`. A factor
behind a product goes into that product's weights. What else reads the Concat keeps one as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import NodeProto, helper

from openbpu.arch.arrays import Array, Float64
from openbpu.quantization.onnx.affine import fold_affine
from openbpu.quantization.onnx.apart import products_apart, taken_apart
from openbpu.quantization.onnx.corrections.equalise import TINY, along_input, shares
from openbpu.quantization.onnx.findings import Finding
from openbpu.quantization.onnx.inference import infer
from openbpu.quantization.onnx.labels import Labels, constant_of, each, read_by_products
from openbpu.quantization.onnx.net import Names, Net
from openbpu.quantization.onnx.nodes import remake
from openbpu.quantization.onnx.scaled import marked_scaled
from openbpu.quantization.onnx.swallowed import Swallowed

FURTHEST = 2.0**16
"""No operand is made larger by more."""

FAR = 16.0
"""Where factors differ by so much, one scale of the weights would swallow some of their rows."""


@dataclass(frozen=True, slots=True)
class Balance:
    """`factors`: of each operand of a Concat, by the name of its result; `findings`: what was done why.

    `apart`: results of Concats whose product is taken apart.
    """

    factors: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    apart: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        return not self.factors and not self.apart


def find_balance(net: Net, lost: Sequence[Swallowed], tops: Mapping[str, float]) -> Balance:
    """Return the factors for every Concat of `net` that needs and allows them.

    `lost`: what scales swallow; `tops`: the largest magnitude of each operand.
    """
    factors: dict[str, tuple[float, ...]] = {}
    findings = []
    for index, node in enumerate(net.nodes):
        if node.op_type != "Concat" or node.domain not in {"", "ai.onnx"}:
            continue
        here = [found for found in lost if found.node == index]
        known = _factors(net, index, [tops.get(name, 0.0) for name in node.input], any_gain=bool(here))
        if known is not None:
            factors[node.output[0]] = known
            findings.append(_said(node, here, known))
    beside = (found.node for found in lost if found.how == "beside")
    apart = {name: product for name, product in products_apart(net, beside) if name not in factors}
    for found in lost:
        name = net.nodes[found.node].output[0]
        if name in apart:
            why = f"one {found.dtype.value} scale of '{name}' would swallow {found.told}"
            done = f"MatMul '{apart[name]}': computed of each part of '{name}' on its own"
            findings.append(Finding("apart", found.name, apart[name], f"{done}: {why}"))
    return Balance(factors, tuple(apart), tuple(findings))


def _said(concat: NodeProto, lost: Sequence[Swallowed], factors: Sequence[float]) -> Finding:
    done = (
        f"Concat '{concat.name}': operands are scaled to one range, and the weights behind it the other way"
    )
    if lost:
        why = f"one {lost[0].dtype.value} scale would swallow {', '.join(found.told for found in lost)}"
        return Finding("balanced", lost[0].name, concat.name, f"{done}: {why}")
    name = concat.input[int(np.argmin(factors))]
    why = f"one scale of these weights would swallow the rows that read '{name}'"
    return Finding("balanced", name, concat.name, f"{done}: {why}")


def balanced(net: Net, balance: Balance) -> Net:
    """Return `net` with what `balance` scales; what holds other values than the model's has other names."""
    if balance.is_empty:
        return net
    for name in balance.apart:
        net = taken_apart(net, name)
    scaled = set[str]()
    for name, factors in balance.factors.items():
        net = _scaled(net, name, factors, scaled)
    net = infer(fold_affine(net))
    return net.with_nodes(
        node if scaled.isdisjoint(node.output) else marked_scaled(node) for node in net.nodes
    )


def _factors(net: Net, index: int, tops: Sequence[float], *, any_gain: bool) -> tuple[float, ...] | None:
    """Return a power of two for each operand; None where they cannot be scaled, or nothing is won.

    `any_gain`: the activations are swallowed, so that every factor helps; else the weights must be.
    """
    reading = read_by_products(net, index) if all(top > 0 for top in tops) else None
    if reading is None:
        return None
    of_operands = np.zeros(len(tops))
    for reader, labels in reading.channels.items():
        share = _share(net, net.nodes[reader], labels, reading.axes[reader])
        if share is not None:
            np.maximum.at(of_operands, labels, share)
    ranges = np.asarray(tops, dtype=np.float64)
    shared = np.sqrt(ranges / np.maximum(of_operands, TINY)) if of_operands.any() else ranges
    lone = any(net.nodes[reader].op_type == "Mul" for reader in reading.channels)
    if _times(shared).max() < (2 if any_gain else FAR):
        return None
    return tuple(_times(shared if lone else ranges).tolist())


def _times(divided: Float64) -> Float64:
    """Return what makes all of `divided` alike, as powers of two, 1 for the largest."""
    found: Float64 = 2.0 ** np.floor(np.log2(np.minimum(divided.max() / divided, FURTHEST)))
    return found


def _share(net: Net, node: NodeProto, labels: Labels, axis: int) -> Float64 | None:
    """Return the largest share that each channel has of what shares a scale; None where it has its own."""
    weight = net.consts[node.input[constant_of(net, node) or 0]]
    if node.op_type != "Mul":
        return shares(node, weight, len(labels))
    sizes = np.abs(_spread(weight, len(labels), axis - _rank(net, node))).astype(np.float64)
    found: Float64 = np.moveaxis(sizes, axis - _rank(net, node), 0).reshape(len(labels), -1).max(axis=1)
    return found / max(float(found.max(initial=0.0)), TINY)


def _rank(net: Net, node: NodeProto) -> int:
    return len(net.shapes[node.output[0]])


def _spread(array: Array, channels: int, axis: int) -> Array:
    """Return the constant of a Mul with all channels along `axis` (< 0)."""
    full = array.reshape((1,) * (-axis - array.ndim) + array.shape)
    shape = list(full.shape)
    shape[axis] = channels
    return np.broadcast_to(full, shape)


def _scaled(net: Net, name: str, factors: Sequence[float], scaled: set[str]) -> Net:
    """Return `net` with the operands of one Concat scaled; adds what is scaled to `scaled`."""
    index = net.producers().get(name)
    reading = None if index is None else read_by_products(net, index)
    if reading is None:
        return net
    made = _Made(net, {old: f"{old}_balanced" for old in reading.tensors})
    for i, node in enumerate(net.nodes):
        if i in reading.channels:
            made.read(node, 1 / each(factors, reading.channels[i]), reading.axes[i])
            continue
        on_the_way, stays = i == index or i in reading.passes, node.output[0] in reading.kept
        if stays or not on_the_way:
            made.nodes.append(node)
        if i == index:
            made.join(node, factors, again=stays)
        elif on_the_way:
            made.copy(node, again=stays)
    scaled |= made.scaled
    return infer(net.with_nodes(made.nodes, made.consts))


class _Made:
    """The nodes of a net with other names for some tensors."""

    def __init__(self, net: Net, renamed: Mapping[str, str]) -> None:
        self._net, self._names = net, Names(net)
        self._renamed = {old: self._names.fresh(new) for old, new in renamed.items()}
        self.scaled = set(self._renamed.values())
        self.nodes: list[NodeProto] = []
        self.consts: dict[str, Array] = {}

    def copy(self, node: NodeProto, inputs: Sequence[str] | None = None, *, again: bool = False) -> None:
        """Take over a node, with other inputs if there are any; again: beside itself, under another name."""
        read = [self._renamed.get(name, name) for name in inputs or node.input]
        made = remake(node, read, [self._renamed.get(name, name) for name in node.output])
        if again:
            made.name = self._names.fresh(f"{node.name}_balanced")
        self.nodes.append(made)

    def join(self, concat: NodeProto, factors: Sequence[float], *, again: bool) -> None:
        """Take over the Concat, each operand times its factor."""
        pairs = zip(concat.input, factors, strict=True)
        read = [name if factor == 1 else self._times(name, factor) for name, factor in pairs]
        self.copy(concat, read, again=again)

    def read(self, product: NodeProto, by: Float64, axis: int) -> None:
        """Take over a product, its weights times `by` along the channels that it reads."""
        inputs, position = list(product.input), constant_of(self._net, product) or 0
        weight = self._net.consts[inputs[position]]
        if product.op_type == "Mul":
            back = axis - _rank(self._net, product)
            weight = _spread(weight, len(by), back)
            factors = by.reshape([-1, *[1] * (-back - 1)])
        else:
            factors = along_input(product, weight, by)
        name = self._names.fresh(f"{inputs[position]}_balanced")
        self.consts[name] = (weight * factors).astype(np.float32)
        inputs[position] = name
        self.copy(product, inputs)

    def _times(self, name: str, factor: float) -> str:
        made = self._names.fresh(f"{name}_balanced")
        self.scaled.add(made)
        if name in self._net.consts:
            self.consts[made] = self._net.consts[name] * np.float32(factor)
            return made
        number = self._names.fresh(f"{made}_factor")
        self.consts[number] = np.array(factor, np.float32)
        self.nodes.append(helper.make_node("Mul", [name, number], [made], self._names.fresh(f"{made}_Mul")))
        return made
