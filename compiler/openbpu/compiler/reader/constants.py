"""Constant nodes in all their spellings."""

from __future__ import annotations

import numpy as np
from onnx import SparseTensorProto

from openbpu.compiler.ir.graph import Array, Node
from openbpu.compiler.reader.problem import problem
from openbpu.compiler.reader.tensors import TensorReader


def constant_of(node: Node, tensors: TensorReader) -> Array:
    """Return the data of a Constant node; raises ModelError when it has none."""
    if not node.attrs:
        fix = "export the model again"
        raise problem(f"node '{node.name}' (Constant)", "attribute", "a value", "missing", fix)
    name, value = next(iter(node.attrs.items()))
    if isinstance(value, SparseTensorProto):
        return tensors.dense(value)
    if isinstance(value, np.ndarray):
        return value
    return np.array(value, _DTYPES[name])


_DTYPES: dict[str, type[object]] = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_string": object,
    "value_strings": object,
}
