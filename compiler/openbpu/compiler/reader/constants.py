"""Constant nodes in all their spellings."""

from __future__ import annotations

import numpy as np
from onnx import SparseTensorProto

from openbpu.compiler.ir.graph import Array, Node
from openbpu.compiler.reader.problem import problem
from openbpu.compiler.reader.tensors import TensorReader


def constant_of(node: Node, tensors: TensorReader) -> Array:
    """Return the data of a Constant node; raises ModelError when it has none."""
    name, value = next(iter(node.attrs.items()), ("", None))
    if isinstance(value, SparseTensorProto):
        return tensors.dense(value)
    if isinstance(value, np.ndarray):
        return value
    dtype = _DTYPES.get(name)
    if dtype is None:
        fix = "export the model again"
        raise problem(f"node '{node.name}' (Constant)", "attribute", "a value", name or "missing", fix)
    return np.array(value, dtype)


_DTYPES: dict[str, type[object]] = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_string": object,
    "value_strings": object,
}
