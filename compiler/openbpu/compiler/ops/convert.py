"""Between codes and what is none: Quantize and Dequantize beside floats, and the bytes of a bool as codes."""

from __future__ import annotations

from math import prod

from openbpu.arch.program import Dequantize, Quantize
from openbpu.arch.shapes import around
from openbpu.compiler.ir import Node
from openbpu.compiler.ir.dialect import Builder, form, operand


@form(Quantize, "x")
def _quantize(b: Builder, node: Node) -> None:
    b.push(node)


@form(None, "x", op="Retype")
def _retype(b: Builder, node: Node) -> None:
    """A bool and its codes, 0 and 1, are the same bytes."""
    b.view(node.outputs[0], operand(node, "x"))


@form(Dequantize, "x scales", geometry="shape", extra="axis")
def _dequantize(b: Builder, node: Node) -> None:
    shape = b.shape(operand(node, "x"))
    per_tensor = b.shape(operand(node, "scales"))[0] == 1
    b.push(node, shape=(1, 1, prod(shape)) if per_tensor else around(shape, node.attrs["axis"]))
