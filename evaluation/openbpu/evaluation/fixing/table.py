"""The table of mechanical fixes: for the words of each advice, the function that does it and an example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper, parser, shape_inference

from openbpu.arch.arrays import Array
from openbpu.arch.definition.rooms import Room
from openbpu.compiler.ops.mechanical import WORDS
from openbpu.evaluation.fixing.draft import Draft

Rewrite = Callable[[Draft, NodeProto], bool]
"""Rewrites what is around a node; False, and the draft as it was, where the fix does not fit it."""


@dataclass(frozen=True, slots=True)
class Example:
    """A model of which a march refuses a node with the words of the fix."""

    model: ModelProto
    march: str = "nash-e"


@dataclass(frozen=True, slots=True)
class Fix:
    """What does it, for which operators ("" for any), examples, and what it may change.

    bound: the largest difference of an output, as a share of that output's largest magnitude; 0 where only
    roundings of float32 differ.
    """

    rewrite: Rewrite
    ops: frozenset[str]
    examples: Callable[[], Sequence[Example]]
    bound: float = 0.0


FIXES: Room[str, Fix] = Room(
    "the fix",
    tuple(WORDS),
    "openbpu.evaluation.fixing.rules",
    decorator='@fix("{}", …)',
    where="evaluation/openbpu/evaluation/fixing/rules/",
)


def fix(
    words: str, ops: str, examples: Callable[[], Sequence[Example]], bound: float = 0.0
) -> Callable[[Rewrite], Rewrite]:
    """Register the function that does what these words advise for operators of these names ("" for any)."""
    name = next(n for n, w in WORDS.items() if w == words)

    def register(rewrite: Rewrite) -> Rewrite:
        FIXES.put(name, Fix(rewrite, frozenset(ops.split()), examples, bound), rewrite.__module__)
        return rewrite

    return register


def example(graph: str, march: str = "nash-e", opset: int = 21, **constants: Any) -> Example:
    """Return an example: `graph` in ONNX's own notation, `constants` as its initializers.

    "d = pair(x)" stands for a Quantize and a Dequantize of x with the constants s and z; "w = codes(c)" for a
    Dequantize of the constant c with s.
    """
    lines = [_spelled(line.strip()) for line in graph.replace(";", "\n").splitlines()]
    head, *body = (line for line in lines if line)
    text = f'<ir_version: 10, opset_import: ["" : {opset}]> example {head} {{ {" ".join(body)} }}'
    model = parser.parse_model(text)
    given = {"s": np.float32(0.05), "z": np.int8(0), **constants}
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(data), name) for name, data in given.items() if name in used
    )
    for end in model.graph.output:  # inferred
        end.type.tensor_type.ClearField("shape")
    for end, known in zip(model.graph.output, shape_inference.infer_shapes(model).graph.output, strict=True):
        end.CopyFrom(known)
    for node in model.graph.node:
        node.name = f"{node.op_type}_{node.output[0]}"
    return Example(model, march)


def _spelled(line: str) -> str:
    made, _, call = (part.strip() for part in line.partition(" = "))
    if call.startswith("pair("):
        x = call[5:-1]
        return f"{made}_q = QuantizeLinear({x}, s, z) {made} = DequantizeLinear({made}_q, s, z)"
    if call.startswith("codes("):
        return f"{made} = DequantizeLinear({call[6:-1]}, s)"
    return line


def codes(*shape: int, dtype: str = "int8") -> Array:
    """Return codes for an example, the same ones every time."""
    made = np.random.default_rng(0).integers(-100, 100, shape)
    return np.asarray(made.astype(dtype))
