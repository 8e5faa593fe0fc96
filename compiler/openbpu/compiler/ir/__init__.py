"""The compiler's graph and the helper that rewrites it."""

from openbpu.compiler.ir.graph import Array, Graph, Node, Origin, Quant, Value
from openbpu.compiler.ir.rewrite import Rewriter

__all__ = ["Array", "Graph", "Node", "Origin", "Quant", "Rewriter", "Value"]
