"""Notes on nodes: whose results hold other values than the float model's, and what they are part of."""

from __future__ import annotations

from onnx import NodeProto

from openbpu.quantization.onnx.nodes import remake

SCALED = "openbpu.scaled"
"""Key of the metadata of a node whose result is scaled per channel, and what reads it makes up for that."""

PART = "openbpu.part"
"""Key of the metadata of a node that stands, with others, for one of the model, whose name it holds."""


def part_of(node: NodeProto) -> str:
    """Return the name of the user's node that `node` is a part of; "" where it is none."""
    return next((prop.value for prop in node.metadata_props if prop.key == PART), "")


def marked_scaled(node: NodeProto) -> NodeProto:
    """Return `node` with a note that its result holds other values than the float model's of that name."""
    made = remake(node)
    if not is_scaled(node):
        made.metadata_props.add(key=SCALED, value="1")
    return made


def is_scaled(node: NodeProto) -> bool:
    """Whether the result of a node is scaled, so that it cannot be compared with the float model's."""
    return any(prop.key == SCALED for prop in node.metadata_props)
