"""The yardstick: an ONNX graph evaluated with numpy in float64, every rounding honoured.

Integer tensors stay integer. Nothing here knows openbpu, so an error shared by compiler and
simulator still shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, inliner, numpy_helper
from onnx.reference import ReferenceEvaluator

import openbpu.evaluation.reference.ops  # noqa: F401  importing it registers the kernels
from openbpu.evaluation.reference.kernel import KERNELS, Array, Call, Quantized, Result, as_float64

MOVES = frozenset(
    """
    QuantizeLinear com.microsoft.QuantizeLinear Identity Dropout Reshape Flatten Squeeze Unsqueeze
    Transpose Concat Split Slice DepthToSpace SpaceToDepth Gather GatherElements Expand Tile
    """.split()  # noqa: SIM905 - a word per line hides the list
)
"""What takes values in the type the graph has them in."""


@dataclass(slots=True)
class Evaluation:
    """Every tensor of one evaluation, and every rounding with what it was before."""

    output_names: tuple[str, ...] = ()
    values: dict[str, Array] = field(default_factory=dict)
    roundings: dict[str, Quantized] = field(default_factory=dict)

    @property
    def near_tie(self) -> dict[str, Array]:
        """For each quantized tensor, where its real value lies within 1e-5 step of a tie."""
        return {name: rounding.near_tie for name, rounding in self.roundings.items()}

    @property
    def outputs(self) -> dict[str, Array]:
        """The graph's outputs."""
        return {name: self.values[name] for name in self.output_names}


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the default domain."""
    return next((i.version for i in model.opset_import if i.domain in ("", "ai.onnx")), 1)


def _through_reference(call: Call, node: onnx.NodeProto) -> Result:
    """Operators without a kernel of their own run on onnx.reference, in float64 where it can."""
    given = [n for n in node.input if n]
    present = [v for v in call.inputs if v is not None]
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in zip(given, present, strict=True)
    ]
    results = [onnx.ValueInfoProto(name=n) for n in node.output if n]
    graph = helper.make_graph([node], "one", infos, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", call.opset)])
    found = ReferenceEvaluator(model).run(None, dict(zip(given, present, strict=True)))
    return tuple(as_float64(np.asarray(v)) for v in found)


def run_node(node: onnx.NodeProto, inputs: tuple[Array | None, ...], opset: int) -> Result:
    """One node on these inputs.

    >>> relu = helper.make_node("Relu", ["x"], ["y"])
    >>> run_node(relu, (np.array([-1.0, 2.0]),), 13)
    array([0., 2.])
    """
    key = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    attrs = {a.name: _plain(helper.get_attribute_value(a)) for a in node.attribute}
    wide = inputs if key in MOVES else tuple(v if v is None else as_float64(v) for v in inputs)
    call = Call(key, attrs, wide, opset, len(node.output))
    if key in KERNELS:
        return KERNELS[key](call)
    if node.domain in ("", "ai.onnx"):
        return _through_reference(call, node)
    raise NotImplementedError(f"witness: no kernel for {key} (node {node.name!r})")


def constants(model: onnx.ModelProto) -> dict[str, Array]:
    """The initializers."""
    return {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its local functions inlined."""
    return inliner.inline_local_functions(model) if model.functions else model


def results_of(result: Result) -> tuple[Array | Quantized, ...]:
    """A kernel's result as a tuple, one element per output."""
    return result if isinstance(result, tuple) else (result,)


def evaluate(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> Evaluation:
    """Evaluate the graph; ``inputs`` are by name.

    A float32 input stays float32 as long as it is only moved, so that a QuantizeLinear divides what
    it was given; everything computed is float64.

    Raises ValueError for a missing input, NotImplementedError for an operator nobody knows.
    """
    model = prepared(model)
    evaluation = Evaluation(tuple(o.name for o in model.graph.output), constants(model))
    evaluation.values.update({n: np.asarray(v) for n, v in inputs.items()})
    opset = opset_of(model)
    with np.errstate(all="ignore"):
        for node in model.graph.node:
            _run(node, opset, evaluation)
    return evaluation


def _run(node: onnx.NodeProto, opset: int, evaluation: Evaluation) -> None:
    missing = [n for n in node.input if n and n not in evaluation.values]
    if missing:
        raise ValueError(f"{node.op_type} {node.name!r}: inputs must be known, not {missing}")
    values = tuple(evaluation.values[n] if n else None for n in node.input)
    results = results_of(run_node(node, values, opset))
    for name, result in zip(node.output, results, strict=False):
        if isinstance(result, Quantized):
            evaluation.roundings[name] = result
            evaluation.values[name] = result.values
        elif name:
            evaluation.values[name] = result
