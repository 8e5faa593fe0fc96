"""Sparse constants become dense ones, wherever a model holds them: ONNX Runtime does not take all of them.

sparse_initializer W                  →  initializer W      (of the graph, of bodies of If, Loop and Scan)
Constant(sparse_value)                →  Constant(value)    (there and in functions)
"""

from __future__ import annotations

from typing import Any

from onnx import AttributeProto, ModelProto, SparseTensorProto, numpy_helper

from openbpu.arch.arrays import Array
from openbpu.arch.protos import messages
from openbpu.arch.sparse import DenseForms
from openbpu.quantization.onnx.net import array_of


def with_dense_constants(model: ModelProto) -> ModelProto:
    """Return the model itself where no constant is sparse, else a copy without any.

    Raises ModelError for a sparse tensor that contradicts itself or is too large when dense.
    """
    if not any(_is_sparse(found) for found in messages(model)):
        return model
    copy, forms = ModelProto(), DenseForms()
    copy.CopyFrom(model)
    for found in [*messages(copy)]:
        if type(found).__name__ == "GraphProto":
            for sparse in found.sparse_initializer:
                dense = _dense(sparse, forms, sparse.values.name)
                found.initializer.append(numpy_helper.from_array(dense, sparse.values.name))
            del found.sparse_initializer[:]
        elif type(found).__name__ == "AttributeProto" and found.type == AttributeProto.SPARSE_TENSOR:
            _make_dense(found, forms)
    return copy


def _is_sparse(message: Any) -> bool:
    return type(message).__name__ == "SparseTensorProto"


def _make_dense(attribute: AttributeProto, forms: DenseForms) -> None:
    """Change the sparse value of a Constant, or what a call hands to one in a function, to a dense one."""
    name = "value" if attribute.name == "sparse_value" else attribute.name
    made = AttributeProto(name=name, type=AttributeProto.TENSOR)
    if attribute.ref_attr_name:
        made.ref_attr_name = attribute.ref_attr_name
    else:
        made.t.CopyFrom(numpy_helper.from_array(_dense(attribute.sparse_tensor, forms, attribute.name)))
    attribute.CopyFrom(made)


def _dense(sparse: SparseTensorProto, forms: DenseForms, name: str) -> Array:
    where = f"sparse tensor '{name}'"
    return forms.of(array_of(sparse.values, where), array_of(sparse.indices, where), sparse.dims, where)
