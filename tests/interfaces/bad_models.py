"""Models with one thing wrong each, and the words that the user must read about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from compiler.reading import model

QDQ = """
g (float[1,4,6,6] x) => (float[1,4,6,6] y) <float s = {0.05}, int8 z = {0}> {
  x_q = QuantizeLinear (x, s, z)
  x_d = DequantizeLinear (x_q, s, z)
  w_d = DequantizeLinear <axis = 0> (w, sw)
  c = Conv (x_d, w_d)
  r = Relu (c)
  y_q = QuantizeLinear (r, s, z)
  y = DequantizeLinear (y_q, s, z)
}
"""
FLOAT = "g (float[1,4,6,6] x) => (float[1,4,6,6] y) { c = Conv (x, w) y = Relu (c) }"
NAMES = ("quant", "dequant", "weight", "conv", "relu", "quant_out", "dequant_out")

GIB = 2**30


def quantized_model() -> ModelProto:
    """A quantized convolution whose nodes are called as in NAMES; its weight is `w`."""
    proto = model(QDQ)
    for node, name in zip(proto.graph.node, NAMES, strict=True):
        node.name = name
    weight = np.random.default_rng(0).integers(-100, 100, (4, 4, 1, 1)).astype(np.int8)
    proto.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    proto.graph.initializer.append(numpy_helper.from_array(np.full(4, 0.01, np.float32), "sw"))
    return proto


def float_model() -> ModelProto:
    """The same convolution in float: nodes `conv` and `relu`, weight `w`."""
    proto = model(FLOAT, opset=17)
    proto.graph.node[0].name, proto.graph.node[1].name = "conv", "relu"
    weight = np.random.default_rng(0).normal(size=(4, 4, 1, 1)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    return proto


def initializer(proto: ModelProto, name: str) -> TensorProto:
    (tensor,) = (t for t in proto.graph.initializer if t.name == name)
    assert isinstance(tensor, TensorProto)
    return tensor


def store_outside(proto: ModelProto, location: str, nbytes: int) -> None:
    """Let weight `w` lie in another file."""
    tensor = initializer(proto, "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(nbytes))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def _empty(proto: ModelProto) -> None:
    proto.graph.Clear()


def _cycle(proto: ModelProto) -> None:
    _node(proto, "conv").input[0] = "y"


def _dangling(proto: ModelProto) -> None:
    _node(proto, "relu").input[0] = "nowhere"


def _unknown_op(proto: ModelProto) -> None:
    _node(proto, "relu").op_type = "Rlu"


def _unknown_domain(proto: ModelProto) -> None:
    _node(proto, "relu").domain = "my.ops"


def _dynamic(proto: ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"


def _float64(proto: ModelProto) -> None:
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float64), tensor.name))


def _no_scale(proto: ModelProto) -> None:
    _node(proto, "quant").input[1] = ""


def _lost_scale(proto: ModelProto) -> None:
    proto.graph.initializer.remove(initializer(proto, "sw"))


def _scale(*values: float) -> Callable[[ModelProto], None]:
    def damage(proto: ModelProto) -> None:
        initializer(proto, "sw").CopyFrom(numpy_helper.from_array(np.array(values, np.float32), "sw"))

    return damage


def _activation_scale(*values: float) -> Callable[[ModelProto], None]:
    def damage(proto: ModelProto) -> None:
        array = np.array(values if len(values) > 1 else values[0], np.float32)
        initializer(proto, "s").CopyFrom(numpy_helper.from_array(array, "s"))

    return damage


def _int4(proto: ModelProto) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.INT4, dims=(4, 4, 1, 1), raw_data=bytes(8))
    initializer(proto, "w").CopyFrom(tensor)


def _huge_weight(proto: ModelProto) -> None:
    tensor = initializer(proto, "w")
    width = numpy_helper.to_array(tensor).itemsize
    tensor.ClearField("raw_data")
    tensor.dims[0] = 3 * GIB // 4 // width


def _huge_activation(proto: ModelProto) -> None:
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.shape.dim[2].dim_value = 3 * GIB // 4 // 6 // 4


def _node(proto: ModelProto, name: str) -> NodeProto:
    (node,) = (n for n in proto.graph.node if n.name == name)
    assert isinstance(node, NodeProto)
    return node


@dataclass(frozen=True)
class Damage:
    """What is done to a model, and parts of the message."""

    apply: Callable[[ModelProto], None]
    said: tuple[str, ...]


ANY_MODEL = {
    "empty graph": Damage(_empty, ("m.onnx", "graph must be a list of nodes", "export the model again")),
    "cycle": Damage(_cycle, ("node 'conv' (Conv)", "dependent on itself through 'y'")),
    "dangling edge": Damage(_dangling, ("node 'relu' (Relu)", "input 'nowhere'", "not dangling")),
    "unknown operator": Damage(_unknown_op, ("node 'relu' (Rlu)", "operator must be one of ai.onnx")),
    "unknown domain": Damage(_unknown_domain, ("node 'relu'", "domain", "'my.ops'")),
    "3 GB weight": Damage(_huge_weight, ("tensor 'w'", "at most 2 GiB", "not 3,221,225,472 bytes")),
    "3 GB activation": Damage(
        _huge_activation, ("input 'x'", "at most 2 GiB", "not 3,221,225,", "use a smaller")
    ),
}
"""What every command refuses, float or quantized."""

QUANTIZED_MODEL = {
    "dynamic shape": Damage(_dynamic, ("input 'x'", "axis 0", "dynamic ('batch')", "--shape x=1,4,6,6")),
    "no scale": Damage(_no_scale, ("node 'quant'", "input")),
    "lost scale": Damage(_lost_scale, ("node 'weight'", "input 'sw'", "not dangling")),
    "NaN scale": Damage(_activation_scale(np.nan), ("node 'dequant'", "scale must be finite", "not nan")),
    "infinite scale": Damage(_activation_scale(np.inf), ("node 'dequant'", "must be finite", "not inf")),
    "zero scale": Damage(
        _activation_scale(0), ("node 'dequant'", "must be finite and not 0, not 0.0", "calibrate")
    ),
    "one NaN of many": Damage(_scale(0.1, np.nan, 0.1, 0.1), ("node 'weight'", "must be finite", "not nan")),
    "3 scales for 4": Damage(_scale(0.1, 0.1, 0.1), ("node 'weight'", "must be 1 or 4 (axis 0", "not 3")),
    "2 scales for x": Damage(_activation_scale(1, 1), ("node 'dequant'", "must be 1 or 4 (axis 1", "not 2")),
}
"""What a quantized model is refused for."""

FLOAT_MODEL = {
    "float64": Damage(_float64, ("m.onnx", "input 'x' must be float32, not double", "export the model")),
    "int4": Damage(_int4, ("node 'conv' (Conv)", "int4")),
}
"""What a float model is refused for when it is to be quantized."""
