"""Upsample and the older forms of Resize."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from openbpu.compiler.ir.graph import Node
from openbpu.compiler.reader.problem import problem
from openbpu.compiler.reader.rules.table import ALWAYS, form, input_at, upgrade, with_inputs
from openbpu.compiler.reader.scope import Scope

_OLD_PIXELS = "tf_half_pixel_for_nn"
"""Dropped by opset 13; converters leave it in newer models, and ONNX Runtime still runs it."""


@upgrade("Upsample", before=ALWAYS)
def upsample(node: Node, scope: Scope) -> Sequence[Node]:
    """Upsample is Resize with the coordinates of opset 10; its scales were an attribute before opset 9."""
    scales = input_at(node, 1)
    if not scales:
        scales = scope.add(np.array(node.attrs["scales"], np.float32), f"{node.outputs[0]}_scales")
    return [_asymmetric(replace(node, op="Resize"), scales, scope)]


@upgrade("Resize", before=13)
def resize(node: Node, scope: Scope) -> Sequence[Node]:
    """Opset 10 knew one coordinate mode; opset 13 dropped `tf_half_pixel_for_nn`."""
    if scope.opsets[""] < 11:
        return [_asymmetric(node, node.inputs[1], scope)]
    if node.attrs.get("coordinate_transformation_mode") != _OLD_PIXELS:
        return [node]
    if (renewed := _half_pixel(node)) is not None:
        return [renewed]
    modes = node.attrs.get("mode", "nearest"), node.attrs.get("nearest_mode", "round_prefer_floor")
    place, fix = f"node '{node.name}' (Resize)", "export the model with opset 13 or newer"
    allowed = f"nearest with nearest_mode floor where coordinates are {_OLD_PIXELS}"
    raise problem(place, "mode", allowed, " with ".join(modes), fix)


def _half_pixel(node: Node) -> Node | None:
    """Return a Resize of old pixels in words that every opset has; None where there are none."""
    modes = node.attrs.get("mode", "nearest"), node.attrs.get("nearest_mode", "round_prefer_floor")
    if node.attrs.get("coordinate_transformation_mode") != _OLD_PIXELS or modes != ("nearest", "floor"):
        return None
    # floor((x + 0.5) / s) is half_pixel's (x + 0.5) / s - 0.5 rounded half up.
    exact = {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"}
    return replace(node, attrs={**node.attrs, **exact})


def _asymmetric(node: Node, scales: str, scope: Scope) -> Node:
    """Opset 10 did not say how to round; ONNX Runtime takes the floor to enlarge, the ceiling to shrink."""
    mode = node.attrs.get("mode", "nearest")
    factors = scope.const(scales)
    shrinks = (
        factors is not None and bool(factors.size) and bool((factors <= 1).all() and (factors < 1).any())
    )
    attrs = {
        "mode": "linear" if mode in ("linear", "bilinear") else mode,
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "ceil" if shrinks else "floor",
    }
    return replace(node, inputs=(node.inputs[0], "", scales), attrs=attrs)


@form("Resize")
def explicit_resize(node: Node, scope: Scope) -> Sequence[Node]:
    """Empty tensors that stand for omitted inputs are omitted; `axes` (opset 18) become all axes."""
    node = _half_pixel(node) or node
    inputs = [node.inputs[0], *(_unless_empty(name, scope) for name in node.inputs[1:])]
    node = with_inputs(node, inputs)
    rank, axes = scope.rank(node.inputs[0]), node.attrs.get("axes")
    policy = node.attrs.get("keep_aspect_ratio_policy", "stretch")
    if axes is None or rank is None or policy != "stretch" or input_at(node, 1):
        return [node]
    return _on_all_axes(node, scope, [axis % rank for axis in axes])


def _on_all_axes(node: Node, scope: Scope, axes: list[int]) -> Sequence[Node]:
    shape = scope.shape(node.inputs[0])
    scales, sizes = scope.const(input_at(node, 2)), scope.ints(input_at(node, 3))
    if shape is None or (scales is None and sizes is None):
        return [node]
    inputs = [node.inputs[0], "", "", ""]
    if scales is not None:
        full = np.ones(len(shape), np.float32)
        full[axes] = scales
        inputs[2] = scope.add(full, f"{node.outputs[0]}_scales")
    if sizes is not None:
        target = dict(enumerate(shape)) | dict(zip(axes, sizes, strict=True))
        inputs[3] = scope.add_ints(target.values(), f"{node.outputs[0]}_sizes")
    return [with_inputs(node, inputs, "axes")]


def _unless_empty(name: str, scope: Scope) -> str:
    return "" if scope.shape(name) == (0,) else name
