"""Small ONNX models to start from: single operators, QOperator form, branches, loops, functions."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from compiler.reading import model
from compiler.scheduling import crossing
from interfaces.bad_models import float_model, quantized_model
from witness.qoperator_models import QOPERATOR_CASES
from witness.single_op import SINGLE_OP_CASES

_QOPERATORS_EVERY = 4
_QDQ = """x_q = QuantizeLinear (x, s, z) x_d = DequantizeLinear (x_q, s, z)"""
_SCALES = "<float s = {0.05}, int8 z = {0}, bool c = {1}, int64 n = {2}, bool t = {1}>"
_TEXTS = {
    "if": f"""g (float[1,6] x) => (float[1,6] y) {_SCALES} {{
      {_QDQ}
      b = If (c) <
        then_branch = a () => (float[1,6] p) {{ p = Relu (x_d) }},
        else_branch = b () => (float[1,6] q) {{ q = Abs (x_d) }}
      >
      y_q = QuantizeLinear (b, s, z) y = DequantizeLinear (y_q, s, z) }}""",
    "if that asks": f"""g (float[1,6] x, bool k) => (float[1,6] y) {_SCALES} {{
      {_QDQ}
      y = If (k) <
        then_branch = a () => (float[1,6] p) {{ p = Relu (x_d) }},
        else_branch = b () => (float[1,6] q) {{ q = Sigmoid (x_d) }}
      > }}""",
    "loop": f"""g (float[1,6] x) => (float[1,6] y) {_SCALES} {{
      {_QDQ}
      y = Loop (n, t, x_d) <
        body = a (int64 i, bool k, float[1,6] u) => (bool l, float[1,6] v) {{
          l = Identity (k) v = Add (u, u) }}
      > }}""",
    "shapes": f"""g (float[2,3,4] x) => (float[6,4] y) {_SCALES} {{
      {_QDQ}
      h = Shape (x_d) r = Constant <value_ints = [-1]> () l = Slice (h, n, k3)
      m = Concat <axis = 0> (r, l) y_r = Reshape (x_d, m)
      y_q = QuantizeLinear (y_r, s, z) y = DequantizeLinear (y_q, s, z)
      k3 = Constant <value_ints = [3]> () }}""",
    "sequence": """g (float[2,6] x) => (float[2,6] y) {
      q = SplitToSequence <axis = 1> (x) y = ConcatFromSequence <axis = 1> (q) }""",
    "float": "g (float[1,4,6,6] x) => (float[1,4,6,6] y) { a = Relu (x) b = Softmax (a) y = Add (a, b) }",
}
_FUNCTIONS = """
<domain: "own", opset_import: ["": 21]> Twice (u) => (v) { v = Add (u, u) }
<domain: "own", opset_import: ["": 21, "own": 1]> Four <k: float = 1.0> (u) => (v) {
  w = own.Twice (u) v = own.Twice (w) }
"""
_CALLS = f"""g (float[1,6] x) => (float[1,6] y) {_SCALES} {{
  {_QDQ}
  b = own.Four (x_d) y_q = QuantizeLinear (b, s, z) y = DequantizeLinear (y_q, s, z) }}"""


def models() -> dict[str, bytes]:
    """All of them, serialized, by name."""
    return {name: proto.SerializeToString() for name, proto in _models()}


def _models() -> Iterator[tuple[str, onnx.ModelProto]]:
    seen: set[str] = set()
    for case in SINGLE_OP_CASES:
        if case.op not in seen:
            seen.add(case.op)
            yield case.id, case.build()[0]
    for name, make in list(QOPERATOR_CASES.items())[::_QOPERATORS_EVERY]:
        yield name, make()[0]
    for name, text in _TEXTS.items():
        yield name, model(text)
    yield "functions", model(_CALLS, domains='"own": 1', functions=_FUNCTIONS)
    yield "quantized", quantized_model()
    yield "float conv", float_model()
    yield "crossing", crossing()[0]
    yield "sparse", _sparse()


def _sparse() -> onnx.ModelProto:
    """The quantized convolution with its scale of weights as a sparse initializer."""
    proto = quantized_model()
    values = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(proto.graph.initializer[1]), "sw")
    for tensor in list(proto.graph.initializer):
        if tensor.name == "sw":
            values.CopyFrom(tensor)
            proto.graph.initializer.remove(tensor)
    count = len(onnx.numpy_helper.to_array(values))
    indices = onnx.helper.make_tensor("i", onnx.TensorProto.INT64, [count], list(range(count)))
    proto.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [count]))
    return proto
