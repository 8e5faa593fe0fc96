"""AffineGrid of images is two products and two sums: the columns of theta times where columns and rows lie.

theta [N, 2, 3] ─ Split ─┬ x part [N, 1, 1, 2] · columns [1, 1, W, 1] ─┐
                         ├ constant part ──────────────────────────────┴ Add ─┐
                         └ y part [N, 1, 1, 2] · rows [1, H, 1, 1] ───────────┴ Add ─ grid [N, H, W, 2]
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from openbpu.arch.arrays import Array
from openbpu.quantization.onnx.net import Names, Net
from openbpu.quantization.onnx.nodes import attribute, name_of


def affine_grid_as_sums(net: Net) -> Net:
    """Return the net with elementary operators for every AffineGrid of images whose size is known."""
    names, consts, nodes = Names(net), dict[str, Array](), list[NodeProto]()
    for node in net.nodes:
        size = _size(net, node)
        nodes.extend([node] if size is None else _written(node, size, names, consts))
    return net.with_nodes(nodes, consts)


def _size(net: Net, node: NodeProto) -> tuple[int, int, int] | None:
    """N, H and W; None of other operators, of volumes, and where ONNX leaves open where a single row lies."""
    size = net.consts.get(node.input[1]) if node.op_type == "AffineGrid" and not node.domain else None
    if size is None or size.size != 4:
        return None
    n, _, height, width = (int(v) for v in size.reshape(-1))
    single = attribute(node, "align_corners", 0) and min(height, width) == 1
    return None if single else (n, height, width)


def _places(length: int, *, corners: bool) -> Array:
    """Where pixels lie in −1..1."""
    if corners:
        return np.linspace(-1, 1, length, dtype=np.float32)
    return ((2 * np.arange(length) + 1) / length - 1).astype(np.float32)


def _written(
    node: NodeProto, size: tuple[int, int, int], names: Names, consts: dict[str, Array]
) -> Iterator[NodeProto]:
    (n, height, width), stem = size, name_of(node)
    corners = bool(attribute(node, "align_corners", 0))

    def constant(role: str, value: Array) -> str:
        made = names.fresh(f"{node.output[0]}_{role}")
        consts[made] = value
        return made

    def made(op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> NodeProto:
        outs = [names.fresh(f"{stem}_{op}") for _ in range(outputs)]
        return helper.make_node(op, inputs, outs, names.fresh(outs[0]), **attributes)

    columns = constant("columns", _places(width, corners=corners).reshape(1, 1, width, 1))
    rows = constant("rows", _places(height, corners=corners).reshape(1, height, 1, 1))
    shape = constant("shape", np.array([n, 1, 1, 2], np.int64))
    split = made("Split", node.input[0], constant("parts", np.ones(3, np.int64)), outputs=3, axis=2)
    parts = [made("Reshape", part, shape) for part in split.output]
    right, down, still = (part.output[0] for part in parts)
    across, along = made("Mul", right, columns), made("Mul", down, rows)
    moved = made("Add", across.output[0], still)
    grid = made("Add", moved.output[0], along.output[0])
    grid.output[0], grid.name = node.output[0], stem
    grid.metadata_props.extend(node.metadata_props)
    yield from (split, *parts, across, along, moved, grid)
