"""Quantize and Dequantize as operators of the BPU, between floats at the ends and codes inside."""

from __future__ import annotations

from math import prod

from openbpu.arch.program import Dequantize, Quantize
from openbpu.arch.shapes import around
from openbpu.compiler.ir import Node
from openbpu.compiler.ir.dialect import Builder, form, operand


@form(Quantize, "x")
def _quantize(b: Builder, node: Node) -> None:
    b.push(node)


@form(Dequantize, "x scales", geometry="shape", extra="axis")
def _dequantize(b: Builder, node: Node) -> None:
    shape = b.shape(operand(node, "x"))
    per_tensor = b.shape(operand(node, "scales"))[0] == 1
    b.push(node, shape=(1, 1, prod(shape)) if per_tensor else around(shape, node.attrs["axis"]))
