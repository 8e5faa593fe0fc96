"""Which operators one integer operator can hold: a convolution or product, what stands behind it, and clamps.

Conv → BatchNormalization → Add(DQ)      is      Conv with an affine and a residual, or Conv alone, …
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from openbpu.arch.arrays import Float64
from openbpu.compiler.ir import Node
from openbpu.compiler.ops import OPS, Site
from openbpu.compiler.ops.site import Leaf
from openbpu.compiler.ops.tables import clamp_of
from openbpu.compiler.passes.affines import affine_tail

CODES = ("int8", "int16")
Affine = tuple[Float64, Float64]


@dataclass(frozen=True, slots=True)
class Form:
    """A way to lower a float result: the operator, what is fused into it, the nodes that vanish with it.

    clamp: its own bounds, where clamps are among these nodes.
    """

    node: Node
    residual: Leaf | None = None
    affine: Affine | None = None
    extra: tuple[Node, ...] = ()
    clamp: tuple[float, float] | None = None


def forms(site: Site, core: Node) -> list[Form]:
    """Return the ways to lower what `core` makes, the most fused first; the last is `core` alone."""
    found: list[Form | None] = []
    if core.op == "Add" and len(core.inputs) == 2:
        found.extend(_with_residual(site, core, side) for side in (0, 1))
    behind = _tensor_op(site, core.outputs[0])
    if behind is not None and behind.node is not core:
        found.append(behind)
    return [*(f for f in found if f is not None), Form(core)]


def _with_residual(site: Site, add: Node, side: int) -> Form | None:
    """The tensor operator at input `side` of an Add, with the tensor at the other input added."""
    residual = site.leaf_or_none(add.inputs[1 - side])
    behind = _tensor_op(site, add.inputs[side])
    if residual is None or residual.const is not None or behind is None:
        return None
    if not residual.scaling.per_tensor or residual.dtype not in CODES:
        return None
    results = (add.outputs[0], behind.node.outputs[0])
    if any(site.graph.values[name].shape != residual.shape for name in results):
        return None
    return replace(behind, residual=residual, extra=(*behind.extra, add))


def _tensor_op(site: Site, name: str) -> Form | None:
    """The convolution or product that makes the float `name`, seen through what is affine per channel."""
    tail = affine_tail(site, name)
    if tail is not None:
        return Form(tail.core, affine=(tail.gain, tail.bias), extra=tail.nodes)
    node = site.producers.get(name)
    rule = OPS.get(node.op) if node is not None and node.domain == "" else None
    if node is None or rule is None or not rule.fuses:
        return None
    return Form(node)


def clamped_form(site: Site, end: str, lowest: float, highest: float) -> Form | None:
    """A convolution or product behind which clamps stand between what is affine; None for others.

    Bounds per channel are one clamp where they agree as far as codes from `lowest` to `highest` reach.
    """
    tail = affine_tail(site, end, clamps=True)
    if tail is None:
        return None
    low, high = np.clip(tail.low, lowest, highest), np.clip(tail.high, lowest, highest)
    if np.ptp(low) or np.ptp(high):
        return None
    bounds = float(low[0]), float(high[0])
    return Form(tail.core, affine=(tail.gain, tail.bias), extra=tail.nodes, clamp=bounds)


def peel(site: Site, end: str) -> tuple[tuple[float, float], list[Node], str]:
    """Take Relu, Clip, Max and Min with constants off the end; returns float bounds, nodes, and what is left.

    Others that read a float on the way, and outputs of the model, compute it again.
    """
    bounds, nodes, name = (-np.inf, np.inf), [], end
    while (node := site.producers.get(name)) is not None:
        found = clamp_of(site, node)
        if found is None:
            break
        name, clamp = found
        # The clamp nearer to the operator acts first: the outer one is applied to its bounds.
        bounds = _compose(clamp, bounds)
        nodes.append(node)
    return bounds, nodes, name


def _compose(inner: tuple[float, float], outer: tuple[float, float]) -> tuple[float, float]:
    low, high = (min(max(v, outer[0]), outer[1]) for v in inner)
    return low, high
