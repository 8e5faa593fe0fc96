"""What is left to do on an exported graph: codes of constant weights, the user's lines, no leftovers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from openbpu.arch import numerics
from openbpu.arch.dtypes import DType
from openbpu.arch.shapes import along

_TRACE = "pkg.torch.onnx.stack_trace"
_FRAME = re.compile(r'^\s*File "([^"]+)", line \d+.*$')
_PACKAGE = str(Path(__file__).resolve().parents[1])


def tidy(proto: Any) -> None:
    """Fold Quantize of constants into initializers and keep the user's part of stack traces."""
    _fold_quantized(proto.graph)
    _scalar_scales(proto.graph)
    _drop_unused(proto.graph)
    for node in proto.graph.node:
        for entry in node.metadata_props:
            if entry.key == _TRACE:
                entry.value = users_frames(entry.value)


def users_frames(trace: str) -> str:
    """Take the frames of this package out of a stack trace."""
    kept: list[str] = []
    own = False
    for line in trace.splitlines():
        frame = _FRAME.match(line)
        if frame is not None:
            own = str(Path(frame.group(1))).startswith(_PACKAGE)
        if not own:
            kept.append(line)
    return "\n".join(kept)


def _fold_quantized(graph: Any) -> None:
    from onnx import numpy_helper  # noqa: PLC0415 - only for exporting

    constants = {init.name: init for init in graph.initializer}
    values = dict[str, Any]()

    def value_of(name: str) -> Any:
        if name in constants and name not in values:
            values[name] = numpy_helper.to_array(constants[name])
        return values.get(name)

    for node in list(graph.node):
        data = [value_of(name) for name in node.input]
        if any(d is None for d in data):
            continue
        if node.op_type == "Cast" and data[0].size and not data[0].any():
            folded = np.zeros(data[0].shape, _elem_type(node))
        elif node.op_type == "QuantizeLinear":
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            folded = _codes(data[0], data[1], data[2].dtype, axis)
        else:
            continue
        values[node.output[0]] = folded
        graph.initializer.append(numpy_helper.from_array(folded, node.output[0]))
        graph.node.remove(node)


def _elem_type(node: Any) -> Any:
    from onnx import helper  # noqa: PLC0415 - only for exporting

    return helper.tensor_dtype_to_np_dtype(next(a.i for a in node.attribute if a.name == "to"))


def _codes(data: Any, scale: Any, dtype: Any, axis: int) -> Any:
    shape = along(axis if scale.size > 1 else None, data.ndim)
    return numerics.quantize(data, scale.reshape(shape), 0, DType.of(dtype))


def _scalar_scales(graph: Any) -> None:
    """Give per-tensor scales and zero points no axes, as QuantizeLinear has them."""
    scales = {
        name
        for node in graph.node
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}
        for name in node.input[1:]
    }
    for initializer in graph.initializer:
        if initializer.name in scales and list(initializer.dims) == [1]:
            del initializer.dims[:]
    stale = scales | {initializer.name for initializer in graph.initializer}
    kept = [info for info in graph.value_info if info.name not in stale]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def _drop_unused(graph: Any) -> None:
    """Remove initializers that nothing reads."""
    used = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    for initializer in list(graph.initializer):
        if initializer.name not in used:
            graph.initializer.remove(initializer)
