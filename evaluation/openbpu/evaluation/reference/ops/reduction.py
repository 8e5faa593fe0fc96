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


def _running(call: Call) -> Array:
    """Sums up to every element, or from it on; with `exclusive`, without it."""
    x, axis = call[0], int(call[1].reshape(()))
    along = np.flip(x, axis) if call.attr("reverse", 0) else x
    sums = along.cumsum(axis=axis, dtype=x.dtype)
    if call.attr("exclusive", 0):
        first = np.zeros_like(sums.take([0], axis=axis))
        sums = np.concatenate([first, sums.take(range(x.shape[axis] - 1), axis=axis)], axis=axis)
    return np.flip(sums, axis) if call.attr("reverse", 0) else sums


KERNELS["CumSum"] = _running
KERNELS.update({"ArgMax": _arg(np.argmax), "ArgMin": _arg(np.argmin)})
