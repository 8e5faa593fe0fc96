"""Types of what calls of functions read and make: onnx's inliner wants each where it converts a function.

It looks them up among the graph's declarations alone, where no weights are; and its inference has no rule for
some operators (GroupNormalization is a function itself). The version converter, which gets them, does not
look: so what is unknown is declared as float for as long as the inlining takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_FLOAT = 1  # TensorProto.FLOAT


def declare_types(model: Any) -> frozenset[str]:
    """Declare, in a ModelProto, what calls of its functions read and make; return what is guessed."""
    graph = model.graph
    known = {v.name for v in (*graph.input, *graph.output, *graph.value_info) if v.type.WhichOneof("value")}
    for tensor in graph.initializer:
        if tensor.name not in known:
            kind = graph.value_info.add(name=tensor.name).type.tensor_type
            kind.elem_type = tensor.data_type
            for size in tensor.dims:
                kind.shape.dim.add(dim_value=size)
            known.add(tensor.name)
    functions = {(f.domain, f.name) for f in model.functions}
    unknown = dict.fromkeys(n for n in _called(graph, functions) if n and n not in known)
    for name in unknown:
        graph.value_info.add(name=name).type.tensor_type.elem_type = _FLOAT
    return frozenset(unknown)


def forget_types(model: Any, guessed: frozenset[str]) -> None:
    """Take away again what `declare_types` guessed."""
    kept = [v for v in model.graph.value_info if v.name not in guessed]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)


def _called(graph: Any, functions: set[tuple[str, str]]) -> Iterator[str]:
    for node in graph.node:
        if (node.domain, node.op_type) in functions:
            yield from (*node.input, *node.output)
        for item in node.attribute:
            for inner in (*([item.g] if item.HasField("g") else []), *item.graphs):
                yield from _called(inner, functions)
