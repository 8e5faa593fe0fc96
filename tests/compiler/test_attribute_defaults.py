"""Every attribute of every operator that the BPU runs: left out, given its default, given another value.

ONNX's schemas say which attributes there are and what they are worth where a model does not say so. The
witness is ONNX Runtime without optimizations, or the float64 reference where the opset is too new for it.
What the witness refuses, too (a group that does not divide the channels), is no model to try.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import defs, helper

from openbpu.compiler import compile as compile_model
from openbpu.compiler.ops import OPS
from openbpu.evaluation.reference.float64 import evaluate
from openbpu.runtime import Session
from witness import ort
from witness.single_op import SINGLE_OP_CASES, Case

OMITTED = "left out"
_TRIED = 2  # models for each value of an attribute, where so many take it
_NEWEST = 21  # opset that every ONNX Runtime openbpu allows knows whole

_WORDS = {
    ("DepthToSpace", "mode"): ["DCR", "CRD"],
    ("Resize", "mode"): ["nearest", "linear"],
    ("Resize", "coordinate_transformation_mode"): ["half_pixel", "asymmetric", "align_corners"],
    ("Resize", "nearest_mode"): ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"],
    ("Pad", "mode"): ["constant", "edge", "reflect"],
    ("SpaceToDepth", "mode"): ["DCR", "CRD"],
    ("GridSample", "mode"): ["linear", "nearest"],
    ("GridSample", "padding_mode"): ["zeros", "border"],
    ("Gelu", "approximate"): ["none", "tanh"],
}
_AUTO_PADS = ["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]
_NOT_TRIED = {
    ("Cast", "to"): "a type: the quantized type of what follows depends on it",
    ("Cast", "saturate"): "is for float8 alone",
    ("Cast", "round_mode"): "is for float8e8m0 alone",
    ("TopK", "sorted"): "0 asks for no order: the BPU's is as good as any",
    ("MaxPool", "storage_order"): "is about the indices, which the BPU has not",
    ("BatchNormalization", "momentum"): "is for training alone",
    ("BatchNormalization", "training_mode"): "has other outputs",
    ("Resize", "cubic_coeff_a"): "cubic runs on the CPU",
    ("Resize", "exclude_outside"): "cubic runs on the CPU",
    ("Resize", "extrapolation_value"): "tf_crop_and_resize runs on the CPU",
    ("Resize", "antialias"): "runs on the CPU, and ONNX Runtime wants another number of axes",
    ("Resize", "keep_aspect_ratio_policy"): "needs sizes without scales",
    ("Reshape", "allowzero"): "needs a tensor without elements",
    ("Gemm", "transA"): "needs an input of another shape",
}


def others(op: str, attribute: str, default: Any) -> list[Any]:
    """Values other than the default, as far as the kind of the attribute tells some."""
    if attribute == "auto_pad":
        return [v for v in _AUTO_PADS if v != default]
    if isinstance(default, str):
        return [v for v in _WORDS.get((op, attribute), []) if v != default]
    if attribute == "group":
        return []
    if isinstance(default, float):
        return [default * 1.5 + 0.25]
    if isinstance(default, int):
        return [1 - default] if default in (0, 1) else [0, 1]
    return []


def values() -> Iterator[tuple[str, str, Any]]:
    for op in sorted(OPS):
        if not any(case.op == op for case in SINGLE_OP_CASES):
            continue
        for attribute, schema in sorted(defs.get_schema(op).attributes.items()):
            if (op, attribute) in _NOT_TRIED or schema.required:
                continue
            yield op, attribute, OMITTED
            default = helper.get_attribute_value(schema.default_value) if schema.default_value.name else None
            if default is not None:
                default = default.decode() if isinstance(default, bytes) else default
                for value in [default, *others(op, attribute, default)]:
                    yield op, attribute, value


def changed(case: Case, attribute: str, value: Any) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The model of a case with one attribute left out or given; its outputs take the shape that follows."""
    model, feeds = case.build()
    since = next(v.since_version for v in versions(case.op) if attribute in v.attributes)
    opset = model.opset_import[0]
    opset.version = max(opset.version, since)
    for node in model.graph.node:
        if node.op_type == case.op:
            kept = [a for a in node.attribute if a.name != attribute]
            del node.attribute[:]
            node.attribute.extend(kept)
            if value is not OMITTED:
                node.attribute.append(helper.make_attribute(attribute, value))
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return model, feeds


def versions(op: str) -> list[defs.OpSchema]:
    """The schemas of an operator, oldest first."""
    found = (s for s in defs.get_all_schemas_with_history() if s.name == op and s.domain == "")
    return sorted(found, key=lambda s: int(s.since_version))


def witnessed(model: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Any] | None:
    """Outputs of a witness, or None where it refuses the model."""
    try:
        if model.opset_import[0].version > _NEWEST:
            return evaluate(model, feeds).outputs
        return ort.run(model, feeds)
    except Exception:  # noqa: BLE001  # ONNX Runtime has a class per status code and no public base
        return None


def steps_apart(model: onnx.ModelProto, feeds: dict[str, Any], wanted: dict[str, Any]) -> float | None:
    """Largest difference in steps between the BPU and the witness; None where the CPU runs it."""
    program = compile_model(model, march="nash-e")
    if any(row.on == "CPU" for row in program.placement):
        return None
    found = Session(program).run(feeds).outputs
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    scales = {n.output[0]: constants[n.input[1]] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    apart = [np.abs(found[k] - wanted[k]).max(initial=0.0) / scales[k] for k in wanted]
    return float(max(apart, default=0.0))


@pytest.mark.parametrize(("op", "attribute", "value"), list(values()))
def test_an_attribute_means_what_onnx_says(op: str, attribute: str, value: Any) -> None:
    tried = 0
    for case in SINGLE_OP_CASES:
        if case.op != op or tried == _TRIED:
            continue
        model, feeds = changed(case, attribute, value)
        wanted = witnessed(model, feeds)
        apart = None if wanted is None else steps_apart(model, feeds, wanted)
        if apart is None:
            continue
        tried += 1
        assert apart < 1.01, f"{case.id}: {apart:.2f} steps"
    assert tried, "no model with this value runs on the BPU"
