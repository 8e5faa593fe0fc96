"""ONNX Runtime's own operators that have an equal in the standard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from openbpu.compiler.ir.graph import Node
from openbpu.compiler.reader.rules.table import form
from openbpu.compiler.reader.scope import Scope


@form("QuantizeLinear", "DequantizeLinear", domain="com.microsoft")
def quantize(node: Node, _: Scope) -> Sequence[Node]:
    """ONNX Runtime wrote 16-bit Q/DQ in its own domain until opset 21 had them; the meaning is the same."""
    return [replace(node, domain="")]


@form("Gelu", domain="com.microsoft")
def gelu(node: Node, _: Scope) -> Sequence[Node]:
    """The exact Gelu, standard since opset 20."""
    return [replace(node, domain="")]
