"""Pairs whose scale is exact: of masks, of codes that only moved, and broadcast products of int16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from openbpu.arch.arrays import Array
from openbpu.arch.protos import opset_of
from openbpu.compiler.ops.mechanical import BROADCAST, MASK, PAIR
from openbpu.evaluation.fixing.draft import DEQUANTIZE, QUANTIZE, Draft, Stored, attribute
from openbpu.evaluation.fixing.table import Example, codes, example, fix
from openbpu.runtime.cpu import make_engine

_MOVES = "Identity Reshape Transpose Squeeze Unsqueeze Flatten Slice Gather Expand Tile Split Trilu MaxPool"
_CHOICES = "TopK GatherND GatherElements Compress ReverseSequence Unique"
_PICKS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys((*_MOVES.split(), *_CHOICES.split()), (0,)),
    **dict.fromkeys(("ScatterND", "ScatterElements"), (0, 2)),
    **dict.fromkeys(("Max", "Min", "Concat"), ()),
    "Where": (1, 2),
}
"""Operators whose results are values of their operands (these; all where none is named), or 0."""

_FLOATS = (TensorProto.FLOAT, 0)


def _masks() -> Sequence[Example]:
    text = """(float[1,4,8] x, bool[1,4,8] m) => (float y)
        d = pair(x); f = Cast<to=1>(m); c = Mul(d, f); y = pair(c)"""
    return (example(text),)


def _pairs() -> Sequence[Example]:
    scores = """(float[1,4,8] x, bool[1,1,8] m) => (float y)
        d = pair(x); f = Cast<to=1>(m); e = Sub(one, f); g = Mul(e, far); c = Add(d, g); y = pair(c)"""
    turned = """(float[1,16] x) => (float y)
        d = pair(x); v = ReverseSequence<batch_axis=0, time_axis=1>(d, k); c = Sigmoid(v); y = pair(c)"""
    swapped = """(float[4,8] x, int64[4,8] i) => (float y)
        d = pair(x); k = codes(w); h = MatMul(d, k); b = pair(h)
        v = GatherElements(b, i); c = Mul(b, v); e = pair(c); g = MatMul(e, k); y = pair(g)"""
    few: dict[str, Any] = {"one": np.float32(1), "far": np.float32(-100)}
    return (example(scores, **few), example(turned, k=np.array([5])), example(swapped, w=codes(8, 8)))


@fix(PAIR, "", _pairs)
@fix(MASK, "", _masks)
def exact_pairs(draft: Draft, node: NodeProto) -> bool:
    """Cast of a bool → … → Add   →   Cast → … → Quantize → Dequantize → Add, where the scale is exact."""
    done = False
    for name in dict.fromkeys((*node.input, *_open_results(draft, node))):
        if not name or draft.kind(name) not in _FLOATS or draft.value(name) is not None:
            continue
        maker = draft.maker(name)
        if maker is None or maker.op_type == DEQUANTIZE:
            continue
        like = _moved_codes(draft, name, 8)
        if like is not None:
            _pair_like(draft, like, name)
            done = True
            continue
        scale = _scale_of_few(draft, name)
        if scale:
            draft.pair(name, scale)
            done = True
    return done


def _open_results(draft: Draft, node: NodeProto) -> list[str]:
    """What a node makes that others compute with, unless it is rounded already."""
    read = [o for o in node.output if o and draft.readers(o)]
    return [o for o in read if all(n.op_type != QUANTIZE for n in draft.readers(o))]


def _moved_codes(draft: Draft, tensor: str, depth: int) -> NodeProto | None:
    """The Dequantize whose codes a tensor picks from; None where it has others, or of several scales."""
    found = draft.dequantize(tensor)
    maker = draft.maker(tensor)
    if found is not None or maker is None or maker.domain not in {"", "ai.onnx"} or not depth:
        return found
    which = _PICKS.get(maker.op_type)
    if which is None or tensor != maker.output[0]:
        return None
    operands = [maker.input[i] for i in which if i < len(maker.input)] if which else list(maker.input)
    sources = [_moved_codes(draft, operand, depth - 1) for operand in operands]
    if not sources or None in sources:
        return None
    means = {_meaning(draft, s) for s in sources if s is not None}
    return sources[0] if len(means) == 1 else None


def _meaning(draft: Draft, dequantize: NodeProto) -> tuple[object, ...]:
    scale, *zero = (draft.const(name) for name in list(dequantize.input)[1:])
    codes_of = draft.kind(dequantize.input[0])
    shift = 0 if not zero or zero[0] is None else int(zero[0].reshape(-1)[0])
    return (None if scale is None else float(scale.reshape(-1)[0]), shift, codes_of)


def _pair_like(draft: Draft, like: NodeProto, tensor: str) -> None:
    _, shift, kind = _meaning(draft, like)
    scale = draft.const(like.input[1])
    dtype = helper.tensor_dtype_to_np_dtype(int(str(kind)))
    if scale is not None:
        draft.pair(tensor, float(scale.reshape(-1)[0]), str(dtype), int(str(shift)))


def _scale_of_few(draft: Draft, tensor: str) -> float:
    """A scale of int8 that has both values of a tensor that a bool decides; 0 for none."""
    path = _from_bool(draft, tensor)
    if path is None:
        return 0.0
    values = _both(draft, path, tensor)
    if values is None or not np.isfinite(values).all():
        return 0.0
    largest = float(np.abs(values).max())
    for steps in (64, *range(127, 0, -1)):
        scale = np.float32(largest / steps)
        held = np.round(values / scale).astype(np.float32) * scale if scale else values
        if scale and np.array_equal(held, values):
            return float(scale)
    return 1.0 if not largest else 0.0


def _from_bool(draft: Draft, tensor: str) -> list[NodeProto] | None:
    """The operators from the Cast of a bool to a tensor; None where anything else has a part in it."""
    path = list[NodeProto]()
    while len(path) < 16:
        maker = draft.maker(tensor)
        if maker is None or maker.domain not in {"", "ai.onnx"} or len(maker.output) != 1:
            return None
        path.insert(0, maker)
        computed = [i for i in maker.input if i and draft.value(i) is None]
        constants = [c for i in maker.input if (c := draft.value(i) if i else None) is not None]
        if len(computed) != 1 or any(c.size != 1 for c in constants):
            return None
        tensor = computed[0]
        if maker.op_type == "Cast" and draft.kind(tensor) == TensorProto.BOOL:
            return path
        if maker.op_type not in {
            "Sub",
            "Add",
            "Mul",
            "Div",
            "Neg",
            "Cast",
            "Identity",
            "Clip",
            QUANTIZE,
            DEQUANTIZE,
        }:
            return None
    return None


def _both(draft: Draft, path: Sequence[NodeProto], tensor: str) -> Array | None:
    """What a tensor is where the bool is false, and where it is true; None where ONNX Runtime cannot say."""
    source = next(i for i in path[0].input if i)
    known = {i: c for n in path for i in n.input if i and (c := _constant(draft, i)) is not None}
    stored = [numpy_helper.from_array(data, name) for name, data in known.items()]
    ends = [helper.make_tensor_value_info(source, TensorProto.BOOL, [2])]
    made = [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None)]
    graph = helper.make_graph(list(path), "both", ends, made, stored)
    opset = helper.make_opsetid("", opset_of(draft.proto, unnamed=1))
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8 if opset.version < 20 else 10)
    try:
        engine = make_engine("a mask", model.SerializeToString(), 1, plain=True)
        (found,) = engine.run([tensor], {source: np.array([False, True])})
    except Exception:  # noqa: BLE001 - ONNX Runtime has a class per status code; then there is no such scale
        return None
    return np.asarray(found, np.float32).reshape(-1)


def _constant(draft: Draft, name: str) -> Array | None:
    data = draft.const(name)
    return draft.value(name) if data is None else data


def _wide_products() -> Sequence[Example]:
    head = "(float[3,8] x) => (float y)\nd = pair(x); k = DequantizeLinear(w, v); "
    given: dict[str, Any] = {
        "s": np.float32(0.001),
        "z": np.int16(0),
        "v": np.float32(2e-4),
        "w": codes(8, 5, dtype="int16") * 300,
    }
    out: dict[str, Any] = {"t": np.float32(0.01)}
    ends = "q = QuantizeLinear(c, t, z); y = DequantizeLinear(q, t, z)"
    return (
        example(head + "c = MatMul(d, k); " + ends, **given, **out),
        example(head + "c = Gemm(d, k, b); " + ends, **given, **out, b=np.arange(5, dtype=np.float32)),
    )


@fix(BROADCAST, "MatMul Gemm", _wide_products, bound=0.01)
def broadcast_product(draft: Draft, node: NodeProto) -> bool:
    """MatMul of int16 by int16 → Mul of [M, K, 1] by [K, N] → Quantize → Dequantize → ReduceSum over K.

    The products are rounded to int16 over the whole range that they can have: at most half of its step each.
    """
    a, b, *rest = (n for n in node.input if n)
    left, right, out = draft.shape(a), draft.shape(b), node.output[0]
    plain = all(attribute(node, k, 0) == 0 for k in ("transA", "transB"))
    plain &= all(attribute(node, k, 1.0) == 1.0 for k in ("alpha", "beta"))
    if (
        node.op_type not in {"MatMul", "Gemm"}
        or not plain
        or left is None
        or right is None
        or draft.opset < 21
    ):
        return False
    if len(right) != 2 or len(left) < 2 or int(np.prod(left)) * right[1] > 1 << 24:
        return False
    most = [_reach(draft, name) for name in (a, b)]
    if None in most:
        return False
    axis = draft.add(np.array([-1]), f"{out}_axis")
    column = draft.op("Unsqueeze", [a, axis], stem=out)
    product = draft.op("Mul", [column.output[0], b], stem=out)
    scale = draft.add(np.float32(np.prod([m for m in most if m]) / 32767), f"{out}_scale")
    zero = draft.add(np.array(0, np.int16), f"{out}_zero")
    q = draft.op(QUANTIZE, [product.output[0], scale, zero], stem=out)
    d = draft.op(DEQUANTIZE, [q.output[0], scale, zero], stem=out)
    total = draft.op(
        "ReduceSum", [d.output[0], draft.add(np.array([-2]), f"{out}_axes")], "" if rest else out, keepdims=0
    )
    made = [column, product, q, d, total]
    if rest:
        bias = draft.value(rest[0])
        if bias is None:
            return False
        rounded, pair = draft.rounded(total.output[0], out)
        step = np.float32(float(np.abs(bias).max(initial=0)) / 32767 or 1)
        shift, more = draft.store(
            Stored(np.round(bias / step).astype(np.int16), np.asarray(step)), f"{out}_bias"
        )
        made += [*pair, *more, draft.op("Add", [rounded, shift], out)]
    made[1].name = node.name
    draft.replace(node, made)
    return True


def _reach(draft: Draft, tensor: str) -> float | None:
    """The largest magnitude that a dequantized tensor can have."""
    data = draft.value(tensor)
    if data is not None:
        return float(np.abs(data).max(initial=0)) or 1.0
    found = draft.dequantize(tensor)
    if found is None:
        return None
    scale, shift, kind = _meaning(draft, found)
    info = np.iinfo(helper.tensor_dtype_to_np_dtype(int(str(kind))))
    return float(str(scale)) * max(info.max - int(str(shift)), int(str(shift)) - info.min)
