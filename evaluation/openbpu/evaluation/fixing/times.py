"""How long a model takes before it is quantized or compiled by its user: as a whole, and by node."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import onnx
from onnx import ModelProto

from openbpu.arch.dtypes import DType
from openbpu.arch.errors import OpenbpuError
from openbpu.arch.march import March, get_march
from openbpu.compiler import compile as compile_model
from openbpu.evaluation.foresight import Kind, left_float
from openbpu.evaluation.search.times import node_times
from openbpu.quantization.onnx import is_quantized, quantize_unseen
from openbpu.runtime import Session

Shapes = Mapping[str, Sequence[int]]


def session_of(
    model: ModelProto, march: str | March, as_: Kind, shapes: Shapes | None, bpu_ops: Collection[str]
) -> Session | None:
    """Return the compiled model, a float one quantized to `as_` with made-up scales; None if that fails."""
    try:
        ready = model
        if not is_quantized(model):
            ready = quantize_unseen(model, activation=DType(as_), shapes=shapes, config=left_float(model))
        nodes = {node.name for node in ready.graph.node}
        wishes = [w for w in bpu_ops if onnx.defs.has(w) or w in nodes]
        return Session(compile_model(ready, march=march, shapes=shapes, bpu_ops=wishes))
    except OpenbpuError:
        return None


def times_of(
    model: ModelProto,
    *,
    march: str | March,
    as_: Kind = "int8",
    shapes: Shapes | None = None,
    bpu_ops: Collection[str] = (),
) -> dict[str, float]:
    """Return µs by node, those of a layer shared by its nodes; nothing of a model that does not compile."""
    session = session_of(model, march, as_, shapes, bpu_ops)
    if session is None:
        return {}
    target = march if isinstance(march, March) else get_march(march)
    return node_times(session.program, session.latency, target)
