"""Nodes whose inputs are constants become constants.

Shapes and views are made here without a copy; everything else is computed by onnx's own reference operators.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openbpu.arch.onnx_ops import MATRIX_PRODUCTS, VIEWS
from openbpu.compiler.ir.graph import Array, Node, Value
from openbpu.compiler.reader import elements
from openbpu.compiler.reader.export import node_proto, opset_imports
from openbpu.compiler.reader.ranges import range_of
from openbpu.compiler.reader.scope import Scope, nbytes_of

FOLD_BYTES = 64 * 2**20
_MAX_SLOW_BYTES = 2**20  # reference operators outside `_FAST` loop in Python
_MAX_PRODUCTS = 2**31  # multiply-adds of one product of constants: some seconds
_ALL_BYTES = 512 * 2**20
_ALL_SLOW_BYTES = 16 * 2**20
_ALL_VIEWED_BYTES = 2**31

# Q/DQ carry the quantization, the random ones have no constant result, the rest is state or not a tensor.
_NEVER = frozenset(
    """
    QuantizeLinear DequantizeLinear DynamicQuantizeLinear RandomNormal RandomNormalLike
    RandomUniform RandomUniformLike Bernoulli Multinomial Dropout If Loop Scan SequenceMap
    ImageDecoder
    """.split()  # noqa: SIM905 - a word per line hides the list
)
_FAST = frozenset(
    """
    Abs Add And BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil Clip Concat Cos Div Equal Exp
    Expand Floor Gather Gemm Greater GreaterOrEqual Less LessOrEqual Log
    MatMul Max Mean Min Mod Mul Neg NonZero Not Or Pad Pow Range Reciprocal ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum Relu Round Sigmoid Sign Sin Slice Split Sqrt Sub
    Sum Tanh Tile Trilu Where Xor CumSum
    """.split()  # noqa: SIM905 - a word per line hides the list
)


@dataclass(slots=True)
class Budget:
    """What folding may still make in one model, in bytes; what does not fit runs on the CPU instead.

    A file of 1 KB can hold a thousand constants of 64 MiB, each the copy of one number. `slow` is for what is
    computed in Python loops, `views` for one number seen as many.
    """

    left: float
    slow: float = _ALL_SLOW_BYTES
    views: float = _ALL_VIEWED_BYTES

    @classmethod
    def of_weights(cls, nbytes: int) -> Budget:
        """Return the budget of a model whose weights take `nbytes`: some forms of each are usual."""
        return cls(_ALL_BYTES + 4 * nbytes)


def folded(
    node: Node, outputs: Sequence[Value], scope: Scope, version: int, budget: Budget
) -> list[Array] | None:
    """Return the constant outputs of `node`, or None when it must stay.

    `outputs` are what inference says of them: a result of another type or shape is not believed. Results are
    made only where they fit into `budget`, and large ones only if they take no more than the inputs they
    replace.
    """
    if node.domain or node.op in _NEVER or node.captures or not outputs:
        return None
    if node.op in _SHAPES:
        return _SHAPES[node.op](node, scope)
    arrays = [scope.const(name) if name else None for name in node.inputs]
    if any(array is None for array, name in zip(arrays, node.inputs, strict=True) if name):
        return None
    if not _is_affordable(node, arrays, outputs, budget):
        return None
    if node.op in _VIEWS:
        return _view(node, arrays, outputs)
    if (exact := range_of(node, scope)) is not None:
        return [exact.values()]
    return _believed(_computed(node, arrays, version), outputs)


def constant_results(
    node: Node, arrays: Sequence[Array | None], outputs: Sequence[Value], version: int
) -> list[Array] | None:
    """Return what a node makes of arrays, as `folded` does; None where it is slow, or makes too much."""
    if node.domain or not (node.op in _VIEWS or node.op in _FAST):
        return None
    if _most_bytes(node, arrays, outputs) > FOLD_BYTES or _products(node, arrays, outputs) > _MAX_PRODUCTS:
        return None
    if node.op in _VIEWS:
        return _view(node, arrays, outputs)
    return _believed(_computed(node, arrays, version), outputs)


def _is_affordable(
    node: Node, arrays: Sequence[Array | None], outputs: Sequence[Value], budget: Budget
) -> bool:
    """Whether a node is folded; if so, its cost is taken off the budget."""
    made = _most_bytes(node, arrays, outputs)
    read = sum(_held_bytes(array) for array in arrays if array is not None)
    if node.op in _VIEWS:
        return _is_affordable_view(made, read, budget)
    if node.op in _FAST:
        cost = made
    elif made + read > min(_MAX_SLOW_BYTES, budget.slow):
        return False
    else:
        budget.slow -= made + read
        cost = made
    if made > max(FOLD_BYTES, read) or cost > budget.left or _products(node, arrays, outputs) > _MAX_PRODUCTS:
        return False
    budget.left -= cost
    return True


def _most_bytes(node: Node, arrays: Sequence[Array | None], outputs: Sequence[Value]) -> float:
    """Bytes that a node makes; of one whose result has a shape that depends on values, at most."""
    if node.op == "NonZero" and arrays[0] is not None:
        return float(arrays[0].size * max(arrays[0].ndim, 1) * np.dtype(np.int64).itemsize)
    return sum(nbytes_of(value) for value in outputs)


def _is_affordable_view(made: float, read: float, budget: Budget) -> bool:
    """A broadcast view takes no memory until the BPU needs its bytes: those are counted."""
    cost = 0.0 if made <= read else made
    if cost > budget.views:
        return False
    budget.views -= cost
    return True


def _products(node: Node, arrays: Sequence[Array | None], outputs: Sequence[Value]) -> int:
    """Multiply-adds of a product."""
    left, result = arrays[0] if arrays else None, outputs[0].shape
    if node.op not in MATRIX_PRODUCTS or left is None or result is None or not left.ndim:
        return 0
    common: int = left.shape[0] if node.attrs.get("transA") else left.shape[-1]
    return common * math.prod(result)


def _held_bytes(array: Array) -> int:
    """Bytes of memory behind an array: a broadcast one holds less than its shape says."""
    sizes = (size for size, stride in zip(array.shape, array.strides, strict=True) if stride)
    return int(array.itemsize * math.prod(sizes))


def _shape(node: Node, scope: Scope) -> list[Array] | None:
    shape = scope.shape(node.inputs[0])
    if shape is None:
        return None
    part = slice(node.attrs.get("start", 0), node.attrs.get("end"))
    return [np.array(shape[part], np.int64)]


def _size(node: Node, scope: Scope) -> list[Array] | None:
    shape = scope.shape(node.inputs[0])
    return None if shape is None else [np.array(np.prod(shape, dtype=np.int64))]


_SHAPES: dict[str, Callable[[Node, Scope], list[Array] | None]] = {"Shape": _shape, "Size": _size}


def _reshaped(_: Node, arrays: Sequence[Any], shape: tuple[int, ...]) -> Array:
    return np.reshape(arrays[0], shape)


def _filled(node: Node, _: Sequence[Any], shape: tuple[int, ...]) -> Array:
    value = node.attrs.get("value", np.zeros(1, np.float32))
    return np.broadcast_to(value.reshape(()), shape)


_VIEWS: dict[str, Callable[[Node, Sequence[Any], tuple[int, ...]], Array]] = {
    **dict.fromkeys(VIEWS, _reshaped),
    "Transpose": lambda node, arrays, _: np.transpose(arrays[0], node.attrs.get("perm")),
    "Expand": lambda _, arrays, shape: np.broadcast_to(arrays[0], shape),
    "ConstantOfShape": _filled,
}


def _view(node: Node, arrays: Sequence[Any], outputs: Sequence[Value]) -> list[Array] | None:
    shape = outputs[0].shape
    return None if shape is None else [_VIEWS[node.op](node, arrays, shape)]


def _computed(node: Node, arrays: Sequence[Array | None], version: int) -> list[Any] | None:
    feeds = {name: array for name, array in zip(node.inputs, arrays, strict=True) if name}
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return _evaluator(node, version).run(None, feeds)  # type: ignore[no-any-return]
    except Exception:  # noqa: BLE001 - a reference operator may fail in any way; then the node runs on the CPU
        return None


def _evaluator(node: Node, version: int) -> Any:
    from onnx import helper  # noqa: PLC0415
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415 - most models need it for nothing

    opsets = {"": version}
    inputs = [helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(filter(None, node.inputs))]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.outputs if name]
    graph = helper.make_graph([node_proto(node, opsets)], "constant", inputs, outputs)
    return ReferenceEvaluator(helper.make_model(graph, opset_imports=opset_imports(opsets)))


def _believed(results: list[Any] | None, outputs: Sequence[Value]) -> list[Array] | None:
    if results is None:
        return None
    for result, value in zip(results, outputs, strict=True):
        if not isinstance(result, np.ndarray | np.generic):
            return None
        known = result.shape if value.shape is None else value.shape
        if result.shape != known or elements.name_of_array(np.asarray(result)) != value.dtype:
            return None
    return [np.asarray(result) for result in results]
