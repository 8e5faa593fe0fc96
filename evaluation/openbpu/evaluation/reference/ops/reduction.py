"""Reductions along axes; axes are an attribute or an input, depending on the opset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from openbpu.evaluation.reference.kernel import KERNELS, Array, Call, Kernel


def _axes(call: Call) -> tuple[int, ...] | None:
    """The axes to reduce; None stands for all, () for none."""
    axes = call.ints(1, "axes")
    if axes:
        return tuple(axes)
    return () if call.attr("noop_with_empty_axes", 0) else None


def _reduction(function: Callable[..., Any]) -> Kernel:
    def run(call: Call) -> Array:
        keep = bool(call.attr("keepdims", 1))
        x = call[0]
        return np.asarray(function(x, axis=_axes(call), keepdims=keep), dtype=x.dtype)

    return run


def _mean(x: Array, axis: Any, keepdims: bool) -> Any:
    if x.dtype.kind == "f":
        return x.mean(axis=axis, keepdims=keepdims)
    total = x.sum(axis=axis, keepdims=keepdims)
    return total // (x.size // max(1, total.size))


KERNELS.update(
    {
        "ReduceMean": _reduction(_mean),
        "ReduceSum": _reduction(np.sum),
        "ReduceMax": _reduction(np.max),
        "ReduceMin": _reduction(np.min),
        "ReduceProd": _reduction(np.prod),
        "ReduceL1": _reduction(lambda x, **how: np.abs(x).sum(**how)),
        "ReduceL2": _reduction(lambda x, **how: np.sqrt((x * x).sum(**how))),
        "ReduceSumSquare": _reduction(lambda x, **how: (x * x).sum(**how)),
        "ReduceLogSumExp": _reduction(lambda x, **how: np.log(np.exp(x).sum(**how))),
        "ReduceLogSum": _reduction(lambda x, **how: np.log(x.sum(**how))),
    }
)


def _arg(function: Callable[..., Any]) -> Kernel:
    def run(call: Call) -> Array:
        x, axis = call[0], call.attr("axis", 0)
        if not call.attr("select_last_index", 0):
            found = function(x, axis=axis)
        else:
            found = x.shape[axis] - 1 - function(np.flip(x, axis), axis=axis)
        result = np.asarray(found, dtype=np.int64)
        return np.expand_dims(result, axis) if call.attr("keepdims", 1) else result

    return run


KERNELS.update({"ArgMax": _arg(np.argmax), "ArgMin": _arg(np.argmin)})
