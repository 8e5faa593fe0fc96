"""Read a float model from a file or from memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import onnx
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, inliner

from openbpu.arch.arrays import Array
from openbpu.arch.calls import declare_types, forget_types
from openbpu.arch.errors import InternalError, ModelError, OpenbpuError, QuantizationError, must
from openbpu.arch.protos import external_tensors, messages, opset_of
from openbpu.arch.runnable import check_runnable
from openbpu.arch.unfolding import PASSED_OVER, check_functions, check_nesting
from openbpu.quantization.onnx.dense import with_dense_constants
from openbpu.quantization.onnx.files import mapped_weights, parsed, with_weights
from openbpu.quantization.onnx.halves import in_float32
from openbpu.quantization.onnx.inputs import set_axes_free
from openbpu.quantization.onnx.net import Net, take_apart
from openbpu.quantization.onnx.nodes import subgraphs

_opset = partial(opset_of, unnamed=1)
_QUANTIZED_OPS = (
    *("QuantizeLinear", "Dequantize", "DynamicQuantize"),
    *("QLinear", "QGemm", "QAttention", "ConvInteger", "MatMulInteger"),
)
"""How the names of operators begin that compute with codes, or make them."""

_OPTIONAL = onnx.defs.OpSchema.FormalParameterOption.Optional
ModelLike = ModelProto | str | os.PathLike[str]


def load(model: ModelLike) -> Net:
    """Return `model` taken apart, functions inlined.

    Raises ModelError when the file is no ONNX model or unfolds to more than `arch.unfolding` allows,
    QuantizationError when an input is no float32.
    """
    where, (proto, weights) = _named(model), _opened(model)
    check_nesting(proto.graph)
    check_functions(proto)
    check_runnable(proto)
    flat = without_functions(where, proto)
    _check_is_float(where, flat)
    _check_outputs(where, flat.graph)
    _check_inputs(where, flat)
    net = take_apart(*in_float32(flat, weights))
    set_axes_free(net.header)
    return net


def without_functions(where: str, model: ModelProto) -> ModelProto:
    """Return the model with every function inlined, brought to the opset of the model; raises ModelError."""
    if not model.functions:
        return model
    for function in model.functions:
        _check_convertible(function, _opset(model))
    fix = "export the model without local functions, or these with its opset"
    try:
        older = any(_opset(function) != _opset(model) for function in model.functions)
        typed = onnx.shape_inference.infer_shapes(model) if older else model  # what is converted needs types
        guessed = declare_types(typed) if older else frozenset()
        flat = inliner.inline_local_functions(typed, convert_version=True)
        forget_types(flat, guessed)
    except Exception as error:  # onnx has no class of its own for it
        said = " ".join(str(error).split())
        raise ModelError(
            must(where, "local functions", "ones that can be inlined", f"({said})", fix)
        ) from error
    names = {(f.domain, f.name) for f in model.functions}
    for message in messages(flat.graph):  # onnx leaves the call of what it cannot convert
        if type(message).__name__ == "NodeProto" and (message.domain, message.op_type) in names:
            what, found = (
                f"opset of function '{message.domain}.{message.op_type}'",
                "one that cannot be converted",
            )
            raise ModelError(must(where, what, f"{_opset(model)}, as that of the model", found, fix))
    return flat


def _check_convertible(function: FunctionProto, target: int) -> None:
    """Refuse operators whose meaning would change unseen on the way to opset `target`."""
    version = _opset(function)
    for node in messages(function):
        if type(node).__name__ != "NodeProto" or node.domain not in {"", "ai.onnx"}:
            continue
        since = PASSED_OVER.get(node.op_type, 0)
        if 0 < version < since <= target:
            place = f"node '{node.name or ''.join(node.output[:1])}' ({node.op_type}) of function "
            fix = f"export the model without local functions, or these with opset {since} or newer"
            what = f"{place}'{function.domain}.{function.name}'"
            raise ModelError(must(what, "opset", f"{since} or newer, as that of the model", version, fix))


def _named(model: ModelLike) -> str:
    """Return how messages call the model."""
    return f"model '{model.graph.name}'" if isinstance(model, ModelProto) else str(model)


def _check_outputs(where: str, graph: GraphProto) -> None:
    """Refuse an output that nothing makes: it would be gone without a word."""
    made = {v.name for v in (*graph.input, *graph.initializer)}
    made.update(name for node in graph.node for name in node.output)
    for value in graph.output:
        if value.name not in made:
            allowed, fix = "made by a node or be a graph input or initializer", "export the model again"
            raise ModelError(must(where, f"output '{value.name}'", allowed, "dangling", fix))


def _check_inputs(where: str, model: ModelProto) -> None:
    """Refuse a node that leaves out an input it needs: ONNX Runtime does not survive some of them."""
    version = max((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), default=1)
    for node in model.graph.node:
        if node.domain not in {"", "ai.onnx"} or not onnx.defs.has(node.op_type, version, ""):
            continue
        formals = onnx.defs.get_schema(node.op_type, version, "").inputs
        for index, name in enumerate(node.input):
            formal = formals[min(index, len(formals) - 1)] if formals else None
            if not name and formal is not None and formal.option != _OPTIONAL:
                what = f"input {index} of {node.op_type} '{node.name or ''.join(node.output[:1])}'"
                raise ModelError(must(where, what, "given", "left out", "export the model again"))


@contextlib.contextmanager
def valid(model: ModelLike) -> Iterator[None]:
    """Turn an error that is none of openbpu's into a ModelError where ONNX refuses the model too.

    Not every model is checked: the checker costs as much as reading, and refuses what runs all the same. For
    one that ONNX takes it is an InternalError.
    """
    try:
        yield
    except (OpenbpuError, OSError):
        raise
    except MemoryError as error:
        fix = "close other programs, or split the model"
        raise QuantizationError(
            must("quantize", "the memory it needs", "there", "(out of memory)", fix)
        ) from error
    except Exception as error:
        reason = _refusal(model)
        if not reason:
            raise InternalError("quantize", error) from error
        fix = "export the model again"
        raise ModelError(must(_named(model), "the model", "valid ONNX", f"({reason})", fix)) from error


def _refusal(model: ModelLike) -> str:
    """Return why ONNX refuses a model, in one line; "" when it does not."""
    checked = model if isinstance(model, ModelProto) else os.fspath(model)  # a file may have any size
    try:
        onnx.checker.check_model(checked, full_check=True)
    except Exception as error:  # noqa: BLE001 - a broken protobuf raises whatever its bindings raise
        return " ".join(str(error).split()) or type(error).__name__
    graph = read_ends(model).graph
    shapes = [v.type.tensor_type.shape for v in (*graph.input, *graph.output)]
    if any(d.dim_value < 0 for shape in shapes for d in shape.dim):
        return "an input or output has a negative size"
    return ""


def read_model(model: ModelLike) -> ModelProto:
    """Return the model itself, or the one in a file; raises ModelError when that is not possible.

    Nothing of what it returns lies in another file, functions and branches included: ONNX Runtime would look
    for that in the current folder. Sparse constants are dense.
    """
    if not isinstance(model, ModelProto):
        return with_dense_constants(with_weights(parsed(Path(model)), Path(model).parent))
    _check_is_whole(model)
    return with_dense_constants(model)


def read_ends(model: ModelLike) -> ModelProto:
    """Return a model of which the weights do not matter: they stay in their files. Raises as `read_model`."""
    return model if isinstance(model, ModelProto) else parsed(Path(model))


def lies_in_files(model: ModelLike) -> bool:
    """Whether weights of a model lie in other files."""
    return any(True for _ in external_tensors(read_ends(model)))


def _opened(model: ModelLike) -> tuple[ModelProto, Mapping[str, Array]]:
    """Return the model, and by name those of its initializers that lie in other files as views of these."""
    if isinstance(model, ModelProto):
        return read_model(model), {}
    proto = parsed(Path(model))
    arrays = mapped_weights(proto, Path(model).parent)
    return with_dense_constants(proto), arrays


def _check_is_whole(model: ModelProto) -> None:
    for tensor in external_tensors(model):
        fix = "load it with onnx.load, which reads external data, or pass its path"
        actual = f"external data ('{tensor.name}')"
        raise ModelError(must(_named(model), "weights", "inside the ModelProto", actual, fix))


def is_quantized(model: ModelLike) -> bool:
    """Whether any part of a model is quantized."""
    return _first_node(_nodes(read_ends(model)), _QUANTIZED_OPS) is not None


class NothingLeftError(QuantizationError):
    """The model is quantized as far as it can be."""


def nothing_left(net: Net) -> NothingLeftError | None:
    """Return the error of a net that is quantized as far as it can be; None for one without such a part."""
    node = _first_node([net.nodes], _QUANTIZED_OPS)
    if node is None:
        return None
    where, found = (
        f"model '{net.header.graph.name}'",
        f"quantized ({_spoken(node)}) with nothing left to quantize",
    )
    fix = "compile it as it is, or quantize the float model it was made from"
    return NothingLeftError(must(where, "a model to quantize", "float32", found, fix))


def _spoken(node: NodeProto) -> str:
    return f"{node.op_type} '{node.name or ''.join(node.output[:1])}'"


def _first_node(graphs: Iterable[Sequence[NodeProto]], names: tuple[str, ...]) -> NodeProto | None:
    """Return the first node whose operator begins like one of `names`, in graphs and their subgraphs."""
    left = [*graphs]
    for nodes in left:
        for node in nodes:
            if node.op_type.startswith(names):
                return node
            left += [graph.node for graph in subgraphs(node)]
    return None


def _nodes(model: ModelProto) -> list[Sequence[NodeProto]]:
    return [model.graph.node, *(f.node for f in model.functions)]


def _check_is_float(where: str, model: ModelProto) -> None:
    for value in model.graph.input:
        if value.type.tensor_type.elem_type in {TensorProto.BFLOAT16, TensorProto.DOUBLE}:
            kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
            fix = "export the model in float32"
            raise QuantizationError(must(where, f"input '{value.name}'", "float32", kind, fix))
