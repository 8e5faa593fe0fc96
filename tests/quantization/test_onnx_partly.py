"""Models that come half quantized keep their pairs and codes; the rest gets pairs, and the CPU nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from openbpu.arch.dtypes import DType
from openbpu.arch.errors import QuantizationError
from openbpu.compiler import compile as compile_model
from openbpu.evaluation.foresight import foresee
from openbpu.quantization.onnx import Choice, NothingLeftError, quantize
from openbpu.runtime import Session
from quantization.float_models import constant, float_model, node_of, noise, ops, rounded, samples, stored
from witness import ort

Array = npt.NDArray[Any]
rng = np.random.default_rng(3)


def codes(*shape: int, kind: type = np.int8) -> Array:
    ends = np.iinfo(kind)
    return rng.integers(ends.min, ends.max + 1, shape).astype(kind)


STORED: dict[str, npt.ArrayLike] = {
    **{name: np.float32(size) for name, size in (("s3", 0.03), ("s10", 0.1), ("s1", 0.01))},
    "z": np.int8(0), "u": np.uint8(0), "u7": np.uint8(120), "z8": np.zeros(8, np.int8),
    "w3": codes(8, 3, 3, 3), "w8": codes(8, 8, 1, 1), "wm": codes(16, 8), "wt": codes(8, 16),
    "w7": codes(16, 8) // 2,  # ONNX Runtime saturates sums of uint8 × int8 on processors without VNNI
    "wu": codes(16, 8, kind=np.uint8), "u9": np.uint8(130),
    "per8": rng.uniform(0.002, 0.01, 8).astype(np.float32),
    "f3": noise(8, 3, 3, 3), "f8": noise(4, 8, 1, 1), "f16": noise(4, 16, 1, 1), "bias": noise(8),
    "g": noise(8, 10),
    "b32": codes(8, kind=np.int32) // 4096, "sb": np.full(8, 1e-4, np.float32), "table": codes(30, 8),
    "gamma": np.ones(8, np.float32), "wf": noise(8, 3, 3, 3) / 10,
}  # fmt: skip
IN = "xq = QuantizeLinear(x, s3, z) d = DequantizeLinear(xq, s3, z) "
CONV = (
    IN
    + """k = DequantizeLinear <axis = 0> (w3, per8, z8) c0 = Conv(d, k)
    cq = QuantizeLinear(c0, s10, z) c = DequantizeLinear(cq, s10, z) """
)
FLAT = "(float[1,5,16] x) => (float y) {" + IN
PICTURE = "(float[1,3,8,8] x) => (float y) {"
PARTLY = {
    "a float rest": PICTURE + CONV + "g0 = Sigmoid(c) s = Mul(c, g0) y = Conv(s, f8) }",
    "codes without zero": PICTURE + """xq = QuantizeLinear(x, s3, u7) d = DequantizeLinear(xq, s3, u7)
        k = DequantizeLinear <axis = 0> (w3, per8, z8) c0 = Conv(d, k) cq = QuantizeLinear(c0, s10, u7)
        c = DequantizeLinear(cq, s10, u7) m = MaxPool <kernel_shape = [2, 2]> (c) g0 = HardSwish(m)
        y = Conv(g0, f8) }""",
    "another reader of what has a pair": PICTURE + """a = Conv(x, f3) r = Relu(a)
        rq = QuantizeLinear(r, s10, z) e = DequantizeLinear(rq, s10, z)
        k = DequantizeLinear <axis = 0> (w8, per8, z8) c = Conv(e, k) t = Add(c, r) y = Sigmoid(t) }""",
    "a pair behind movement": PICTURE + """a = Conv(x, f3) r = Relu(a) m = MaxPool <kernel_shape = [2, 2]> (r)
        mq = QuantizeLinear(m, s10, z) e = DequantizeLinear(mq, s10, z)
        k = DequantizeLinear <axis = 0> (w8, per8, z8) c = Conv(e, k) y = Tanh(c) }""",
    "a last float product": PICTURE + CONV + """p = GlobalAveragePool(c) f = Flatten(p)
        y = Gemm(f, g) }""",
    "operators on codes": PICTURE + """a = Conv(x, f3) r = Relu(a) rq = QuantizeLinear(r, s10, z)
        q = QLinearConv(rq, s10, z, w8, per8, z8, s10, z) e = DequantizeLinear(q, s10, z) t = Add(e, r)
        y = Conv(t, f8) }""",
    "codes of weights alone": PICTURE + """k = DequantizeLinear <axis = 0> (w3, per8, z8) c = Conv(x, k, bias)
        r = Relu(c) y = Conv(r, f8) }""",
    "a pair behind float weights": PICTURE + IN + """wq = QuantizeLinear <axis = 0> (wf, per8, z8)
        k = DequantizeLinear <axis = 0> (wq, per8, z8) c = Conv(d, k, bias) g0 = Sigmoid(c) s = Mul(c, g0)
        y = Conv(s, f8) }""",
    "float biases and norms": FLAT + """k = DequantizeLinear <axis = 1> (wm, per8, z8) m = MatMul(d, k)
        a = Add(m, bias) n = LayerNormalization(a, gamma) y = MatMul(n, g) }""",
    "weights that are turned": FLAT + """k = DequantizeLinear <axis = 0> (wt, per8, z8)
        t = Transpose <perm = [1, 0]> (k) m = MatMul(d, t) a = Add(m, bias) y = Tanh(a) }""",
    "weights without zero": FLAT + "k = DequantizeLinear(wu, s1, u9) m = MatMul(d, k) y = Tanh(m) }",
    "a bias of codes": FLAT + """k = DequantizeLinear <axis = 1> (wm, per8, z8) m = MatMul(d, k)
        b = DequantizeLinear <axis = 0> (b32, sb) a = Add(m, b) y = Softmax(a) }""",
    "a product of what moved": FLAT + """t = Transpose <perm = [0, 2, 1]> (d) r = MatMul(d, t)
        n = Softmax(r) y = MatMul(n, x) }""",
    "a float branch": PICTURE + CONV + """o = Conv(x, f3) r = Relu(o) j = Concat <axis = 1> (c, r)
        y = Conv(j, f16) }""",
}  # fmt: skip


def given_pairs(model: ModelProto) -> Counter[tuple[Any, ...]]:
    """Count the Quantize nodes by scale and zero point, those of constants left out."""
    stored = {t.name for t in model.graph.initializer}
    found = [n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] not in stored]
    steps = [(constant(model, n.input[1]), constant(model, n.input[2])) for n in found]
    return Counter((scale.tobytes(), zero.tobytes(), zero.dtype.name) for scale, zero in steps)


def cosine(a: Array, b: Array) -> float:
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


@pytest.mark.parametrize("name", PARTLY)
def test_the_rest_of_a_model_is_quantized(name: str) -> None:
    model = float_model(PARTLY[name], STORED)
    made = quantize(model, samples(model))
    onnx.checker.check_model(made)
    assert not given_pairs(model) - given_pairs(made)
    behind = {n.output[0] for n in made.graph.node if n.op_type == "DequantizeLinear"}
    assert behind.isdisjoint(n.input[0] for n in made.graph.node if n.op_type == "QuantizeLinear")
    session = Session(compile_model(made, march="nash-e"))
    assert [row.reason for row in session.placement if row.on == "CPU"] == []
    feed = {"x": samples(model)["x"][0]}
    (wanted,) = ort.run(model, feed).values()
    found = session.run(feed).outputs["y"]
    assert isinstance(found, np.ndarray)
    assert cosine(found, wanted) > 0.998
    with pytest.raises(
        NothingLeftError, match=r"quantized .* with nothing left to quantize; compile it as it is"
    ):
        quantize(made, samples(model))


@pytest.mark.parametrize("name", PARTLY)
@pytest.mark.parametrize("activation", [DType.INT8, DType.INT16])
def test_the_result_loads_in_onnx_runtime_by_default(name: str, activation: DType) -> None:
    model = float_model(PARTLY[name], STORED)
    made = quantize(model, samples(model), activation=activation)
    ort.run_by_default(made, {"x": samples(model)["x"][0]})


@pytest.mark.parametrize("name", PARTLY)
def test_check_foresees_the_rest(name: str) -> None:
    found = foresee(float_model(PARTLY[name], STORED), march="nash-e")
    assert {row.on for row in found.placement} == {"BPU"}
    assert found.told.startswith("as after `openbpu quantize`, which makes int8 of what is float in this")


def test_codes_of_weights_and_their_scales_stay() -> None:
    made = quantize(float_model(PARTLY["a float rest"], STORED), {"x": noise(2, 1, 3, 8, 8)})
    dequantize = node_of(made, "k")
    for name, position in (("w3", 0), ("per8", 1), ("z8", 2)):
        np.testing.assert_array_equal(constant(made, dequantize.input[position]), np.asarray(STORED[name]))


def test_what_only_moves_into_a_pair_takes_its_step() -> None:
    """Max pooling of codes of another step would round them twice."""
    made = quantize(float_model(PARTLY["a pair behind movement"], STORED), {"x": noise(2, 1, 3, 8, 8)})
    scales = [constant(made, n.input[1]) for n in made.graph.node if n.op_type == "QuantizeLinear"]
    assert [scale == np.float32(0.1) for scale in scales] == [False, True, True, False, False]


def test_a_tensor_with_a_pair_gets_no_second_one_and_all_read_it() -> None:
    made = quantize(
        float_model(PARTLY["another reader of what has a pair"], STORED), {"x": noise(2, 1, 3, 8, 8)}
    )
    assert "r" in rounded(made)
    assert node_of(made, "t").input[1] == "e"


def test_a_float_bias_becomes_codes_in_steps_of_the_given_scales() -> None:
    made = quantize(float_model(PARTLY["float biases and norms"], STORED), {"x": noise(2, 1, 5, 16)})
    dequantize = node_of(made, node_of(made, "a").input[1])
    wanted = np.float32(0.03) * np.asarray(STORED["per8"])
    np.testing.assert_array_equal(constant(made, dequantize.input[1]), wanted)
    assert constant(made, dequantize.input[0]).dtype == np.int32


DYNAMIC = "q, s, p = DynamicQuantizeLinear(x) "
PRODUCTS = {
    "MatMulInteger": "m = MatMulInteger(q, w7, p) f = Cast <to = 1> (m) t = Mul(s, s1) y0 = Mul(f, t) ",
    "a scale per column": """m = MatMulInteger(q, wu, p, u9) f = Cast <to = 1> (m) t = Mul(per8, s)
        y0 = Mul(t, f) """,
    "one scale after the other": """m = MatMulInteger(q, w7, p) f = Cast <to = 1> (m) t = Mul(f, s)
        y0 = Mul(t, s1) """,
    "MatMulIntegerToFloat": "y0 = com.microsoft.MatMulIntegerToFloat(q, w7, s, s1, p, z, bias) ",
    "DynamicQuantizeMatMul": "y0 = com.microsoft.DynamicQuantizeMatMul(x, w7, per8, z8, bias) ",
    "a pair": "d = DequantizeLinear(q, s, p) k = DequantizeLinear(wm, s1, z) y0 = MatMul(d, k) ",
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_scales_that_data_decide_become_constant(name: str) -> None:
    model = float_model(
        "(float[1,5,16] x) => (float y) {" + DYNAMIC + PRODUCTS[name] + "y = Tanh(y0) }", STORED
    )
    model.opset_import.add(domain="com.microsoft", version=1)
    told: list[Choice] = []
    made = quantize(model, samples(model), told=told.append)
    (said,) = told[0].findings
    assert "took scales from the data of every run" in said.text
    session = Session(compile_model(made, march="nash-e"))
    assert [row.reason for row in session.placement if row.on == "CPU"] == []
    feed = {"x": samples(model)["x"][0]}
    (wanted,) = ort.run(model, feed).values()
    found = session.run(feed).outputs["y"]
    assert isinstance(found, np.ndarray)
    assert cosine(found, wanted) > 0.998


def test_a_convolution_of_dynamic_scales_is_one() -> None:
    text = (
        PICTURE
        + DYNAMIC
        + """m = ConvInteger <pads = [1, 1, 1, 1]> (q, w3, p) f = Cast <to = 1> (m)
        t = Mul(s, s1) y0 = Mul(f, t) y = Relu(y0) }"""
    )
    model = float_model(text, STORED)
    made = quantize(model, samples(model))
    assert ops(made) == ["Conv", "Relu"]
    np.testing.assert_array_equal(stored(made, "y0", 1)[0], np.asarray(STORED["w3"]))


@pytest.mark.parametrize(("body", "first"), [
    ("m = MatMulInteger(q, wm, p) f = Cast <to = 1> (m) y = Mul(f, f) }", "DynamicQuantizeLinear 'q'"),
    ("m = MatMulInteger(q, wm, p) f = Cast <to = 1> (m) y = Relu(f) }", "DynamicQuantizeLinear 'q'"),
    ("y = Cast <to = 1> (q) }", "DynamicQuantizeLinear 'q'"),
])  # fmt: skip
def test_other_uses_of_scales_that_data_decide_are_refused_by_name(body: str, first: str) -> None:
    message = rf"its quantized part must be of constant scales, not dynamic \({first}\); the BPU"
    with pytest.raises(QuantizationError, match=message):
        quantize(
            float_model("(float[1,5,16] x) => (float y) {" + DYNAMIC + body, STORED),
            {"x": noise(2, 1, 5, 16)},
        )


def test_initializers_of_a_quantized_part_are_not_made_float() -> None:
    made = quantize(float_model(PARTLY["float biases and norms"], STORED), {"x": noise(2, 1, 5, 16)})
    sizes = {t.name: numpy_helper.to_array(t).dtype for t in made.graph.initializer if t.dims == [16, 8]}
    assert list(sizes.values()) == [np.int8]
