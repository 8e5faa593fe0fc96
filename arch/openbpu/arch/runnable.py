"""What an ONNX model must not ask of an engine: Loops of too many steps, draws that end it.

A Loop goes on as long as its trip count and its condition let it. Where the count is a constant and the
condition never changes, the number of steps is known before anything runs, that of Loops within Loops too;
there is no way to run 2⁴⁰ of them. What only running shows is bounded in `openbpu.engine.bounded`. A random
operator with a spread below 0 has no meaning, and ONNX Runtime ends the process at one of 0, too. Messages
of protobuf are looked at without onnx, as in `openbpu.arch.unfolding`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from openbpu.arch.errors import ModelError, must

MAX_STEPS = 1_000_000
"""Steps of one Loop with those of the Loops within it: a minute of speech, sample by sample."""

_ONNX = ("", "ai.onnx")
_INT64, _BOOL = 7, 9  # TensorProto.DataType
_DRAWS = frozenset({"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"})
_ENDLESS = math.inf
_FIX = "give it a trip count or a condition that ends it"
Known = Mapping[str, int | None]
"""The constants of one number by name; None: a name of a graph that is no constant, and hides one outside."""


def check_runnable(model: Any) -> None:
    """Raise ModelError, naming the node, for a Loop of a ModelProto that is sure to take more than MAX_STEPS.

    So it does for random operators that cannot be drawn.
    """
    _steps(model.graph, {})
    for function in model.functions:
        _steps_of(function.node, {})


def _steps(graph: Any, outer: Known) -> float:
    """Return how many steps the Loops of a graph take in one run, as far as they are known."""
    known = {**outer, **{v.name: None for v in graph.input}}
    known.update((t.name, _number(t)) for t in graph.initializer)
    return _steps_of(graph.node, known)


def _steps_of(nodes: Iterable[Any], outer: Known) -> float:
    known: dict[str, int | None] = dict(outer)
    total: float = 0
    for node in nodes:
        known.update(dict.fromkeys(node.output))
        if node.op_type == "Constant" and node.domain in _ONNX and node.output:
            known[node.output[0]] = _held(node)
        elif node.op_type == "Identity" and node.input and node.output:
            known[node.output[0]] = known.get(node.input[0])
        _check_draw(node)
        total += _steps_in(node, known)
    return total


def _steps_in(node: Any, known: Known) -> float:
    inner = [_steps(item.g, known) for item in node.attribute if item.HasField("g")]
    if node.op_type != "Loop" or node.domain not in _ONNX or not inner:
        return max(inner, default=0)
    trips = _trips(node, known)
    steps = trips * (1 + inner[0]) if trips else 0
    if steps > MAX_STEPS:
        where = _place(node)
        found = "endless" if steps == _ENDLESS else f"{steps:,}"
        raise ModelError(must(where, "the steps it takes", f"at most {MAX_STEPS:,}", found, _FIX))
    return steps


def _trips(node: Any, known: Known) -> float:
    """Return how often a Loop runs its body; 0 where that is only known when it runs."""
    count, condition = (*node.input[:2], "", "")[:2]
    starts = not condition or bool(known.get(condition))
    body = next(item.g for item in node.attribute if item.HasField("g"))
    if not starts or not _goes_on(body, known):
        return 0
    if not count:
        return _ENDLESS
    return max(known.get(count) or 0, 0)


def _goes_on(body: Any, outer: Known) -> bool:
    """Whether the condition that a body computes is the one that it was given, or true."""
    if len(body.input) < 2 or not body.output:
        return False
    given = body.input[1].name
    known: dict[str, int | None] = {**outer, **{v.name: None for v in body.input}, given: 1}
    known.update((t.name, _number(t)) for t in body.initializer)
    for node in body.node:
        known.update(dict.fromkeys(node.output))
        if node.op_type == "Identity" and node.input and node.output:
            known[node.output[0]] = known.get(node.input[0])
        elif node.op_type == "Constant" and node.output:
            known[node.output[0]] = _held(node)
    return bool(known.get(body.output[0].name))


def _check_draw(node: Any) -> None:
    """Refuse what the C++ library asserts against, in its own words `0 < scale` and `low <= high`."""
    if node.domain not in _ONNX or node.op_type not in _DRAWS:
        return
    given = {item.name: item.f for item in node.attribute}
    if node.op_type.startswith("RandomNormal"):
        if not given.get("scale", 1.0) > 0.0:
            fix = "use a constant instead of what is not random"
            raise ModelError(must(_place(node), "scale", "above 0", given["scale"], fix))
        return
    low, high = given.get("low", 0.0), given.get("high", 1.0)
    if not low <= high:
        raise ModelError(must(_place(node), "low", f"at most high, {high:g}", f"{low:g}", "exchange them"))


def _place(node: Any) -> str:
    return f"node '{node.name or ''.join(node.output[:1])}' ({node.op_type})"


def _held(node: Any) -> int | None:
    for item in node.attribute:
        if item.name == "value":
            return _number(item.t)
        if item.name in {"value_int", "value_ints"}:
            numbers = [item.i] if item.name == "value_int" else list(item.ints)
            return int(numbers[0]) if len(numbers) == 1 else None
    return None


def _number(tensor: Any) -> int | None:
    """Return the one number of an int64 or bool tensor that holds it; None for any other tensor."""
    if math.prod(tensor.dims) != 1 or tensor.data_type not in {_INT64, _BOOL}:
        return None
    if tensor.raw_data:
        return int.from_bytes(tensor.raw_data, "little", signed=tensor.data_type == _INT64)
    numbers = tensor.int64_data if tensor.data_type == _INT64 else tensor.int32_data
    return int(numbers[0]) if len(numbers) == 1 else None
