"""The second witness: ONNX Runtime on the CPU with every graph optimization off."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from openbpu.engine import onnxruntime
from openbpu.evaluation.reference.compare import Difference, difference
from openbpu.evaluation.reference.kernel import Array

_INTEGER_PRODUCTS = (
    "QLinearConv",
    "QLinearMatMul",
    "QGemm",
    "ConvInteger",
    "MatMulInteger",
    "MatMulIntegerToFloat",
)
_QUANTIZERS = ("QuantizeLinear", "QLinear", "QGemm")


def quantized_tensors(model: onnx.ModelProto) -> tuple[str, ...]:
    """The outputs of all QuantizeLinear and QLinear* nodes of the main graph, in its order."""
    return tuple(n.output[0] for n in model.graph.node if n.op_type.startswith(_QUANTIZERS))


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy of the model that also gives these tensors; ONNX Runtime infers their types."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {o.name for o in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=n) for n in dict.fromkeys(names) if n not in present)
    return copy


@functools.cache
def saturates() -> bool:
    """Whether ONNX Runtime multiplies uint8 by int8 wrongly on this processor (x86 without VNNI).

    There its integer kernels add two products in 16 bits, and what they say of such weights is no witness.
    """
    operands = {"a": np.full((1, 2), 255, np.uint8), "b": np.full((2, 1), 127, np.int8)}
    infos = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for k, v in operands.items()
    ]
    result = helper.make_tensor_value_info("y", onnx.TensorProto.INT32, (1, 1))
    node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    model = helper.make_model(
        helper.make_graph([node], "probe", infos, [result]), opset_imports=[helper.make_opsetid("", 13)]
    )
    model.ir_version = 8
    return int(run(model, operands)["y"].item()) != 2 * 255 * 127


def is_witness_for(model: onnx.ModelProto) -> bool:
    """Whether what ONNX Runtime says of this model can be trusted on this processor."""
    products = (
        "QLinearConv",
        "QLinearMatMul",
        "QGemm",
        "ConvInteger",
        "MatMulInteger",
        "MatMulIntegerToFloat",
    )
    return not saturates() or not any(n.op_type in products for n in model.graph.node)


def contrib_inputs(op: str) -> list[tuple[str, bool]]:
    """Name of every input of an operator of com.microsoft, and whether it must be given."""
    schemas = onnxruntime.capi.onnxruntime_pybind11_state.get_all_operator_schema()
    (schema,) = (s for s in schemas if (s.domain, s.name) == ("com.microsoft", op))
    return [(i.name, str(i.option).endswith("Single")) for i in schema.inputs]


def session(model: onnx.ModelProto, threads: int = 1) -> onnxruntime.InferenceSession:
    """A CPU session that runs the graph as written."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(
    model: onnx.ModelProto, inputs: Mapping[str, Array], fetch: Iterable[str] = (), threads: int = 1
) -> dict[str, Array]:
    """The graph's outputs and the fetched tensors, by name."""
    runner = session(with_outputs(model, fetch), threads)
    names = [o.name for o in runner.get_outputs()]
    return dict(zip(names, map(np.asarray, runner.run(names, dict(inputs))), strict=True))


def run_by_default(model: onnx.ModelProto, inputs: Mapping[str, Array], *entries: str) -> dict[str, Array]:
    """The graph's outputs as a user of ONNX Runtime gets them, all optimizations on: no witness of values.

    `entries` of the session's configuration are set to 1.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    for entry in entries:
        options.add_session_config_entry(entry, "1")
    runner = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [o.name for o in runner.get_outputs()]
    return dict(zip(names, map(np.asarray, runner.run(names, dict(inputs))), strict=True))


def run_quantized(model: onnx.ModelProto, inputs: Mapping[str, Array], threads: int = 1) -> dict[str, Array]:
    """Every quantized tensor: what compare_layerwise takes as observed."""
    names = quantized_tensors(model)
    found = run(model, inputs, names, threads)
    return {name: found[name] for name in names}


def compare(
    model: onnx.ModelProto, inputs: Mapping[str, Array], observed: Mapping[str, Array]
) -> dict[str, Difference]:
    """Observed quantized tensors (or outputs) against ONNX Runtime's, in integer steps."""
    found = run(model, inputs, observed)
    return {name: difference(found[name], np.asarray(observed[name])) for name in observed}


def in_own_format(model: bytes, folder: Path) -> bytes:
    """Return a model as ONNX Runtime stores it for itself."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(model, options)
    return (folder / "model.ort").read_bytes()
