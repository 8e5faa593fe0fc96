"""Quantize comes off the inputs and Dequantize off the outputs: the model speaks integers at its ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from openbpu.arch.numerics import unpacked_scales
from openbpu.compiler.ir import Graph, Node, Value
from openbpu.compiler.ir.qdq import is_dequantize, is_quantize

_QUANTIZE = frozenset({"Quantize"})
_DEQUANTIZE = frozenset({"Dequantize"})


def remove_io(graph: Graph, kinds: frozenset[str]) -> Graph:
    """Return the graph without "quantize" and/or "dequantize" nodes at its ends.

    An input that several nodes read, or a value that is an output of the model as well, keeps its node; so
    does an accumulator whose bias is more than whole steps of it can hold. Less than a step is dropped.
    """
    if "quantize" in kinds:
        for name in graph.inputs:
            graph = _bare_input(graph, name)
    if "dequantize" in kinds:
        for name in graph.outputs:
            graph = _bare_output(graph, name)
    return graph


def _bare_input(graph: Graph, name: str) -> Graph:
    readers = graph.consumers().get(name, [])
    if not readers or name in graph.outputs or not all(_quantizes(n) for n in readers):
        return graph
    if len(readers) != 1:
        return graph
    codes = readers[0].outputs[0]
    if codes in graph.outputs:
        return graph
    kept = tuple(n for n in graph.nodes if n is not readers[0])
    return _renamed(replace(graph, nodes=kept), {codes: name}, replace(graph.values[codes], name=name))


def _bare_output(graph: Graph, name: str) -> Graph:
    maker = graph.producers().get(name)
    if maker is None or not _dequantizes(maker) or graph.consumers().get(name) or _adds(graph, maker):
        return graph
    codes = maker.inputs[0]
    if codes in graph.inputs or codes in graph.outputs or graph.values[codes].const is not None:
        return graph
    kept = tuple(n for n in graph.nodes if n is not maker)
    return _renamed(replace(graph, nodes=kept), {codes: name}, replace(graph.values[codes], name=name))


def _quantizes(node: Node) -> bool:
    return is_quantize(node) or (node.is_bpu and node.op in _QUANTIZE)


def _dequantizes(node: Node) -> bool:
    return is_dequantize(node) or (node.is_bpu and node.op in _DEQUANTIZE)


def _adds(graph: Graph, dequantize: Node) -> bool:
    """Whether a Dequantize adds more than what rounding a bias to whole steps leaves."""
    found = [graph.const(name) for name in dequantize.inputs[1:] if name]
    if dequantize.is_bpu:
        scales, offsets = unpacked_scales(np.asarray(found[0]))
        return bool((np.abs(offsets) > scales).any())
    if len(dequantize.inputs) < 4 or found[0] is None or found[-1] is None:
        return False
    return bool((np.abs(found[-1]) > found[0]).any())


def _renamed(graph: Graph, names: Mapping[str, str], value: Value) -> Graph:
    nodes = [
        replace(
            n,
            inputs=tuple(names.get(i, i) for i in n.inputs),
            outputs=tuple(names.get(o, o) for o in n.outputs),
        )
        for n in graph.nodes
    ]
    values = {n: v for n, v in graph.values.items() if n not in names}
    values[value.name] = value
    return replace(graph, values=values).with_nodes(nodes)
