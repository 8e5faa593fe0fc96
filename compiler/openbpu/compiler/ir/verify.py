"""What is legal in a graph, by stage: every pass must leave a graph of which all of it is true.

A rule is a function of the graph that yields what is wrong, a sentence each; those that a pass ensures stand
beside it. Nothing is checked unless it is asked for: `OPENBPU_VERIFY=1` in the environment checks after every
pass, as the tests always do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from enum import Enum
from typing import Protocol

from openbpu.arch.errors import InternalError, must
from openbpu.compiler.ir.dialect import FORMS, Form
from openbpu.compiler.ir.graph import Graph, Node, Value

Rule = Callable[[Graph], Iterator[str]]

Pass = Callable[[Graph], Graph]
_ENSURED: dict[Pass, tuple[Rule, ...]] = {}

SWITCH = "OPENBPU_VERIFY"
_CODES = ("int8", "int16", "int32")
_MOVES = ("Reshape", "Transpose")
_BOOLS = ("Retype",)
"""A bool on one side."""
_INDICES = ("int64", "uint8")
_OF_INDICES = ("ArgReduce", "TopK", "Concat", "Expand", "Gather", "Slice", *_MOVES)
"""They may make, and but for the first read, integers that are no codes."""


class Stage(Enum):
    """How far a graph has come; the value is what it is."""

    NORMAL = "ONNX, quantized by Q and DQ alone"
    INTEGER = "nodes of the BPU between codes, the rest ONNX"
    PLACED = "as INTEGER, with Quantize and Dequantize of the BPU beside floats"
    SETTLED = "as PLACED, with what lowering needs: no layout or table that could be somewhere else"


class IllegalGraphError(ValueError):
    """A graph of which something is not true that must be; the message says what, of which node."""


def is_asked_for() -> bool:
    """Whether graphs are to be checked."""
    return os.environ.get(SWITCH, "0") not in ("", "0")


def verify(graph: Graph, stage: Stage) -> None:
    """Raise InternalError, with IllegalGraphError as its cause, unless a graph is legal at a stage."""
    _require(graph, f"the graph ({stage.value})", (*_ALWAYS, *_AT[stage]))


def ensures(*rules: Rule) -> Callable[[Pass], Pass]:
    """Declare what is true of every graph that a pass leaves."""

    def register(step: Pass) -> Pass:
        _ENSURED[step] = rules
        return step

    return register


def verify_after(graph: Graph, step: Pass) -> None:
    """The same for a graph behind a pass, by what the pass ensures."""
    _require(graph, f"the graph behind {step.__name__}", (*_ALWAYS, *_ENSURED.get(step, ())))


def _require(graph: Graph, where: str, rules: Collection[Rule]) -> None:
    """Raise InternalError for the first thing that a rule finds wrong, where checks are asked for."""
    if not is_asked_for():
        return
    for rule in rules:
        for wrong in rule(graph):
            error = IllegalGraphError(wrong)
            raise InternalError(where, error) from error


# --- of every graph ----------------------------------------------------------------------------------------


def in_order(graph: Graph) -> Iterator[str]:
    """Every value is made once, before it is read, and is known by name."""
    known = {*graph.inputs, *(name for name, value in graph.values.items() if value.const is not None)}
    made: set[str] = set()
    for node in graph.nodes:
        for name in node.reads:
            if name not in known:
                yield must(_place(node), f"'{name}', which it reads,", "made before", "unknown there")
        for name in (o for o in node.outputs if o):
            if name in made or name in graph.inputs:
                yield must(_place(node), f"'{name}', which it makes,", "made once", "made twice")
            if name not in graph.values:
                yield must(_place(node), f"'{name}', which it makes,", "a declared value", "undeclared")
            known.add(name)
            made.add(name)
    for name in graph.outputs:
        if name not in known:
            yield must("the graph", f"output '{name}'", "made by a node", "made by none")


def of_their_form(graph: Graph) -> Iterator[str]:
    """Nodes of the BPU have the operands and attributes of their form, constants where it wants some."""
    for node, form in _bpu(graph):
        if form is None:
            yield must(_place(node), "a node of the BPU", f"one of {', '.join(sorted(FORMS))}", node.op)
            continue
        if not form.many and len(node.inputs) != len(form.operands):
            yield must(_place(node), "its operands", " ".join(form.operands), f"{len(node.inputs)} values")
            continue
        for name, value in _operands(node, form):
            if not value and name not in form.optional:
                yield must(_place(node), f"operand {name}", "given", "left out")
            if value and form.is_constant(name) and graph.const(value) is None:
                yield must(_place(node), f"operand {name}", "a constant", f"computed ('{value}')")
        unknown, missing = node.attrs.keys() - form.attributes, form.required - node.attrs.keys()
        if unknown or missing:
            named = [*(f"an unknown {n}" for n in sorted(unknown)), *(f"no {n}" for n in sorted(missing))]
            found = ", ".join(named)
            yield must(_place(node), "its attributes", " ".join(sorted(form.attributes)), found)


def of_static_shape(graph: Graph) -> Iterator[str]:
    """What the BPU reads and makes has a shape that is known."""
    for node, _ in _bpu(graph):
        for name in (*node.reads, *node.outputs):
            if (value := graph.values.get(name)) is not None and value.shape is None:
                yield must(_place(node), f"the shape of '{name}'", "static", "unknown")


_ALWAYS: tuple[Rule, ...] = (in_order, of_their_form, of_static_shape)


# --- by stage ----------------------------------------------------------------------------------------------


def without_bpu(graph: Graph) -> Iterator[str]:
    """Nothing has been lowered."""
    for node, _ in _bpu(graph):
        yield must(_place(node), "a node", "one of ONNX", "one of the BPU")


def between_codes(graph: Graph) -> Iterator[str]:
    """Nodes of the BPU compute codes of codes."""
    yield from _floats(graph, _BOOLS)


def floats_at_the_ends(graph: Graph) -> Iterator[str]:
    """Only Quantize reads floats and only Dequantize makes some; what moves either may stand between."""
    yield from _floats(graph, ("Quantize", "Dequantize", *_MOVES, *_BOOLS))
    for node, _ in _bpu(graph):
        x, y = (graph.values[name].dtype in _CODES for name in (node.inputs[0], node.outputs[0]))
        for op, legal in (("Quantize", y and not x), ("Dequantize", x and not y)):
            if node.op == op and not legal:
                yield must(_place(node), "its ends", "floats on one side, codes on the other", "of one kind")


def _floats(graph: Graph, but: Collection[str]) -> Iterator[str]:
    for node, form in _bpu(graph):
        if node.op in but or form is None:
            continue
        data = [value for name, value in _operands(node, form) if value and not form.is_constant(name)]
        for name in (*data, *node.outputs):
            value: Value = graph.values[name]
            legal = (*_CODES, *_INDICES) if node.op in _OF_INDICES else _CODES
            if value.dtype not in legal:
                yield must(_place(node), f"the type of '{name}'", ", ".join(legal), value.dtype)


_AT: dict[Stage, tuple[Rule, ...]] = {
    Stage.NORMAL: (without_bpu,),
    Stage.INTEGER: (between_codes,),
    Stage.PLACED: (floats_at_the_ends,),
    Stage.SETTLED: (floats_at_the_ends,),
}


# --- of the segments ---------------------------------------------------------------------------------------


class _Part(Protocol):
    """What is asked of a segment."""

    @property
    def on_bpu(self) -> bool: ...

    @property
    def nodes(self) -> tuple[Node, ...]: ...

    @property
    def inputs(self) -> tuple[str, ...]: ...


def verify_parts(graph: Graph, parts: Sequence[_Part]) -> None:
    """Raise InternalError unless segments hold each node once, of their side, and run one after another."""
    _require(graph, "the segments", [lambda _: _parted(graph, parts)])


def _parted(graph: Graph, parts: Sequence[_Part]) -> Iterator[str]:
    placed = [node for part in parts for node in part.nodes]
    if sorted(map(id, placed)) != sorted(map(id, graph.nodes)):
        yield must("the segments", "their nodes", f"the {len(graph.nodes)} of the graph", f"{len(placed)}")
    known = {*graph.inputs, *(name for name, value in graph.values.items() if value.const is not None)}
    for number, part in enumerate(parts):
        for node in part.nodes:
            if node.is_bpu != part.on_bpu:
                yield must(_place(node), "its segment", "of its own side", "of the other")
        for name in (n for n in part.inputs if n not in known):
            yield must(f"segment {number}", f"its input '{name}'", "made before", "unknown there")
        known.update(name for node in part.nodes for name in node.outputs)


# --- words -------------------------------------------------------------------------------------------------


def _place(node: Node) -> str:
    return f"node '{node.name}' ({node.op})"


def _bpu(graph: Graph) -> Iterator[tuple[Node, Form | None]]:
    return ((node, FORMS.get(node.op)) for node in graph.nodes if node.is_bpu)


def _operands(node: Node, form: Form) -> Iterator[tuple[str, str]]:
    names = form.operands * len(node.inputs) if form.many else form.operands
    return zip(names, node.inputs, strict=False)
