"""What ONNX says about an operator at an opset version, read once per operator."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from onnx import defs

FORM_OPSET = 21  # first opset with int16 Q/DQ; operators keep their form from here to the newest opset
KNOWN_DOMAINS = ("", "ai.onnx.ml", "com.microsoft")
RUNNABLE_DOMAINS = (*KNOWN_DOMAINS, "com.microsoft.nchwc", "com.ms.internal.nhwc")
"""Those that ONNX Runtime has operators of; its own layouts are in models that it saved itself."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The checkable part of an operator schema; `onnx` is the original, needed for shape inference.

    `needed` are the inputs that cannot be left out; from `variadic_from` on, they are a list without gaps.
    """

    onnx: defs.OpSchema
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    attributes: dict[str, int]
    required: tuple[str, ...]
    needed: frozenset[int]
    variadic_from: int
    variadic_output: bool
    since: int


def _number_of(kind: Any) -> int:
    return int(kind.value)  # a pybind enum: onnx's stubs do not know `value`


@lru_cache(maxsize=4096)
def schema_of(op: str, version: int, domain: str) -> Schema | None:
    """Return the schema of an operator, or None when the domain does not have it at this version."""
    try:
        schema = defs.get_schema(op, version, domain)
    except defs.SchemaError:
        return None
    attributes = schema.attributes
    single = defs.OpSchema.FormalParameterOption.Single
    variadic = defs.OpSchema.FormalParameterOption.Variadic
    lists = [i for i, formal in enumerate(schema.inputs) if formal.option == variadic]
    last = schema.outputs[-1] if schema.outputs else None
    return Schema(
        schema,
        (schema.min_input, schema.max_input),
        (schema.min_output, schema.max_output),
        {name: _number_of(a.type) for name, a in attributes.items()},
        tuple(name for name, a in attributes.items() if a.required),
        frozenset(i for i, formal in enumerate(schema.inputs) if formal.option == single),
        lists[0] if lists else schema.max_input,
        last is not None and last.option == variadic,
        schema.since_version,
    )
