"""Models that are quantized in part are completed, and what is there keeps every bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, numpy_helper

from compiler.reading import model as parsed
from openbpu.arch.dtypes import DType
from openbpu.compiler import check
from openbpu.evaluation.foresight import foresee
from openbpu.quantization.onnx import Choice, QuantConfig, quantize, with_node_types

NOISE = np.random.default_rng(0)
DATA = {"x": NOISE.normal(size=(8, 4, 12, 12)).astype(np.float32)}
PAIRS = ("QuantizeLinear", "DequantizeLinear")
SKIPPED = "n_c2"


def network() -> ModelProto:
    """Two convolutions with biases, a residual Add, SiLU, a pool and a Gemm; four are named below."""
    made = parsed(
        "g (float[1,4,12,12] x) => (float[1,10] y) { c1 = Conv<pads=[1,1,1,1]>(x, w1, b1) r1 = Relu(c1)"
        " c2 = Conv<pads=[1,1,1,1]>(r1, w2, b2) a = Add(c2, r1) s = Sigmoid(a) m = Mul(a, s)"
        " p = GlobalAveragePool(m) f = Flatten(p) y = Gemm(f, w3, b3) }"
    )
    shapes = {"w1": (4, 4, 3, 3), "b1": (4,), "w2": (4, 4, 3, 3), "b2": (4,), "w3": (4, 10), "b3": (10,)}
    rng = np.random.default_rng(1)
    for name, shape in shapes.items():
        data = rng.normal(size=shape).astype(np.float32) / 2
        made.graph.initializer.append(numpy_helper.from_array(data, name))
    for node in made.graph.node:
        node.name = f"n_{node.output[0]}"
    made.opset_import[0].version = 21
    return made


def without_pairs_at(quantized: ModelProto, name: str) -> ModelProto:
    """The model with one node reading floats: as NNCF leaves an ignored scope, or who forgot it by hand."""
    made = ModelProto()
    made.CopyFrom(quantized)
    makers = {out: node for node in made.graph.node for out in node.output}
    stored = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    node = next(n for n in made.graph.node if n.name == name)
    for at, read in enumerate(node.input):
        dequantize = makers[read]
        if dequantize.input[0] in makers:
            node.input[at] = makers[dequantize.input[0]].input[0]
            continue
        codes, scale = stored[dequantize.input[0]], stored[dequantize.input[1]]
        axis = next((a.i for a in dequantize.attribute if a.name == "axis"), 0)
        shape = [-1 if n == axis else 1 for n in range(codes.ndim)] if scale.size > 1 else []
        data = np.asarray(codes * scale.reshape(shape), np.float32)
        made.graph.initializer.append(numpy_helper.from_array(data, f"{read}_float"))
        node.input[at] = f"{read}_float"
    _drop_unread(made)
    return made


def _drop_unread(model: ModelProto) -> None:
    graph = model.graph
    used = {name for node in graph.node for name in node.input} | {v.name for v in graph.output}
    live = [n for n in graph.node if used.intersection(n.output)]
    gone = len(live) < len(graph.node)
    kept = [NodeProto.FromString(n.SerializeToString()) for n in live]
    del graph.node[:]
    graph.node.extend(kept)
    if gone:
        _drop_unread(model)
        return
    tensors = [
        numpy_helper.from_array(numpy_helper.to_array(t), t.name) for t in graph.initializer if t.name in used
    ]
    del graph.initializer[:]
    graph.initializer.extend(tensors)


def by_hand() -> ModelProto:
    """Pairs around the first convolution only, with scales that no calibration gives."""
    made = network()
    text = parsed(
        "g (float[1,4,12,12] x) => (float r1) <float s1 = {0.0301}, int8 z1 = {3}, float t = {0.011}>"
        " { q = QuantizeLinear(x, s1, z1) d = DequantizeLinear(q, s1, z1)"
        " k = DequantizeLinear(w1, t) e = DequantizeLinear(b1, u) c1 = Conv<pads=[1,1,1,1]>(d, k, e)"
        " r1 = Relu(c1) }"
    )
    rest = [NodeProto.FromString(n.SerializeToString()) for n in made.graph.node[2:]]
    head = [NodeProto.FromString(n.SerializeToString()) for n in text.graph.node]
    for node in head:
        node.name = f"n_{node.output[0]}"
    del made.graph.node[:]
    made.graph.node.extend([*head, *rest])
    kept = [t for t in made.graph.initializer if t.name not in {"w1", "b1"}]
    kept = [numpy_helper.from_array(numpy_helper.to_array(t), t.name) for t in kept]
    del made.graph.initializer[:]
    made.graph.initializer.extend([*kept, *text.graph.initializer])
    codes = NOISE.integers(-120, 120, (4, 4, 3, 3)).astype(np.int8)
    more = {
        "w1": codes,
        "b1": np.arange(4, dtype=np.int32) * 999,
        "u": np.float32(0.0301) * np.float32(0.011),
    }
    made.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in more.items())
    return made


def float_nodes() -> ModelProto:
    """As `openbpu quantize --float-nodes` leaves it."""
    return quantize(network(), DATA, config=with_node_types(QuantConfig(), {DType.FLOAT32: [SKIPPED]}))


def ignored_scope() -> ModelProto:
    return without_pairs_at(quantize(network(), DATA), SKIPPED)


def ignored_tail() -> ModelProto:
    return without_pairs_at(quantize(network(), DATA), "n_y")


CASES = [by_hand, float_nodes, ignored_scope, ignored_tail]


def on_cpu(model: ModelProto) -> list[str]:
    return [r.node for r in check(model, march="nash-e") if r.on == "CPU"]


@pytest.mark.parametrize("case", CASES)
def test_the_missing_is_added_and_what_is_there_keeps_every_bit(case: Callable[[], ModelProto]) -> None:
    partly = case()
    onnx.checker.check_model(partly)
    assert on_cpu(partly)
    made = quantize(partly, DATA)
    assert not on_cpu(made)
    left = {n.SerializeToString() for n in made.graph.node}
    assert all(n.SerializeToString() in left for n in partly.graph.node if n.op_type in PAIRS)
    read = {name for n in partly.graph.node if n.op_type in PAIRS for name in n.input}
    stored = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    for tensor in partly.graph.initializer:
        if tensor.name in read:
            old = numpy_helper.to_array(tensor)
            assert (stored[tensor.name].dtype, stored[tensor.name].tobytes()) == (old.dtype, old.tobytes())


def test_what_was_left_float_on_request_is_quantized_and_said() -> None:
    told: list[Choice] = []
    quantize(float_nodes(), DATA, told=told.append)
    said = [f.text for f in told[0].findings]
    assert any(f"'{SKIPPED}' was left float before and is quantized now; --float-nodes" in s for s in said)


def test_what_is_left_float_on_request_again_stays_so() -> None:
    asked = with_node_types(QuantConfig(), {DType.FLOAT32: [SKIPPED]})
    partly = without_pairs_at(float_nodes(), "n_y")
    made = quantize(partly, DATA, config=asked)
    assert on_cpu(made) == [SKIPPED]


def test_a_check_shows_what_was_left_float_on_request_where_it_is() -> None:
    found = foresee(float_nodes(), march="nash-e")
    assert [r.node for r in found.placement if r.on == "CPU"] == [SKIPPED]
    assert "asked to leave it float" in next(r.reason for r in found.placement if r.node == SKIPPED)
