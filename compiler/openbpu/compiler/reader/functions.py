"""Local functions (torch's exporter makes them, and users do) are replaced by their nodes."""

from __future__ import annotations

from contextlib import suppress

from onnx import ModelProto, helper, inliner, shape_inference

from openbpu.arch.calls import declare_types, forget_types
from openbpu.arch.protos import opset_of
from openbpu.compiler.reader.problem import problem
from openbpu.compiler.reader.unchanged import DOMAIN, marked, respell


def without_functions(model: ModelProto) -> ModelProto:
    """Return the model with every call of a local function inlined; one without functions is returned itself.

    The weights do not pass through onnx's inliner, which would serialise them twice. That the calls unfold to
    a model of a reasonable size was checked before, with `arch.unfolding`.
    """
    if not model.functions:
        return model
    try:
        typed = _typed(_weightless(model))
        guessed = declare_types(typed)
        inlined = inliner.inline_local_functions(typed, convert_version=True)
    except Exception as error:
        fix = "export the model without local functions"
        raise problem(
            "model", "local functions", "ones that can be inlined", f"damaged ({error})", fix
        ) from error
    forget_types(inlined, guessed)
    respell(inlined.graph)
    imports = [o for o in inlined.opset_import if o.domain != DOMAIN]
    del inlined.graph.input[:], inlined.opset_import[:]
    inlined.opset_import.extend(imports)
    inlined.graph.input.extend(model.graph.input)
    inlined.graph.initializer.extend(model.graph.initializer)
    inlined.graph.sparse_initializer.extend(model.graph.sparse_initializer)
    return inlined


def _weightless(model: ModelProto) -> ModelProto:
    """The model with its initializers declared as inputs: the inliner must not take their names."""
    small = ModelProto(
        ir_version=model.ir_version,
        opset_import=model.opset_import,
        functions=model.functions,
    )
    graph = small.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    declared = {value.name for value in graph.input}
    for tensor in model.graph.initializer:
        if tensor.name not in declared:
            kind = helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
            graph.input.add(name=tensor.name, type=kind)
    for sparse in model.graph.sparse_initializer:
        kind = helper.make_tensor_type_proto(sparse.values.data_type, list(sparse.dims))
        graph.input.add(name=sparse.values.name, type=kind)
    return small


def _typed(small: ModelProto) -> ModelProto:
    """Return the model with the types that onnx's inliner needs where it converts a function."""
    version = opset_of(small)
    if all(opset_of(function) == version for function in small.functions):
        return small
    with suppress(Exception):  # the inliner says in its words what it lacks
        small = shape_inference.infer_shapes(small)
    changed = [marked(function, version) for function in small.functions]
    del small.functions[:]
    small.functions.extend(changed)
    return small
