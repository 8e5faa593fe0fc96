"""A constant whose elements are all equal is placed, and computes, as the number that it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import numpy_helper

from compiler.networks import Network
from compiler.observe import quantized_tensors, run_everything
from compiler.reading import model
from openbpu import compiler
from openbpu.arch.numerics.functions import COMPARISONS
from openbpu.arch.uniform import BROADCAST, is_spare, lone_value
from openbpu.evaluation.reference.compare import compare_layerwise
from openbpu.quantization.onnx import quantize
from openbpu.runtime import Session
from quantization.float_models import float_model, noise, samples

SHAPE = (1, 2, 3, 4)
VALUES = {"Div": 0.75, "Pow": 2.0, "Greater": 0.25, "PRelu": 0.3}
BOOLS = {"And", "Or", "Xor"}


def operator(b: Any, op: str, c: str, side: int) -> str:
    """`op` of a tensor and the constant `c`, as floats."""
    if op == "Where":
        above = b.node("Greater", b.x, b.constant(np.float32(0.2)))
        return str(b.node("Where", above, *((b.x, c) if side else (c, b.x))))
    operands = (b.x, c) if side or op in {"PRelu", "Pow"} else (c, b.x)
    made = b.node(op, *operands)
    return str(b.node("Cast", made, to=1) if op in COMPARISONS else made)


def network(op: str, data: npt.ArrayLike, side: int, *, quantized: bool) -> Any:
    b: Any = Network(SHAPE, 21)
    array = np.asarray(data, np.float32)
    c = b.weight(array) if quantized else b.constant(array)
    return b.finished(b.qdq(operator(b, op, c, side)))


def compiled(b: Any) -> tuple[list[str], npt.NDArray[Any]]:
    """Where its operators run, and what it computes, both modes alike."""
    program = compiler.compile(b.model(), march="nash-e")
    runs = [Session(program, mode=m).run(b.inputs).outputs for m in ("fast", "exact")]
    fast, exact = (next(iter(found.values())) for found in runs)
    assert np.array_equal(fast, exact)
    return sorted({f"{r.op} {r.on}" for r in program.placement if "Linear" not in r.op}), fast


CASES = [
    (op, side, quantized)
    for op in sorted(BROADCAST - BOOLS)
    for side in (0, 1)
    for quantized in (False, True)
    if not (op == "Pow" and quantized)  # an exponent of 1.99 has no value for negative numbers
]


@pytest.mark.parametrize(("op", "side", "quantized"), CASES)
def test_full_tensors_compile_as_numbers_do(op: str, side: int, quantized: bool) -> None:
    value = VALUES.get(op, 0.5)
    number = compiled(network(op, value, side, quantized=quantized))
    for shape in (SHAPE, (2, 1, 1)):
        full = compiled(network(op, np.full(shape, value), side, quantized=quantized))
        assert full[0] == number[0]
        assert np.array_equal(full[1], number[1])


ALL_CODES = """g (float[65536] x) => (float[65536] y) <int16 z = {0}, int16[N] w = {CODES}>
 { q = QuantizeLinear (x, sx, z) d = DequantizeLinear (q, sx, z) k = DequantizeLinear (w, sw, z) o = OP (d, k)
   r = QuantizeLinear (o, sy, z) y = DequantizeLinear (r, sy, z) }"""


@pytest.mark.parametrize("codes", ["21357", "-31765, -31765"])
@pytest.mark.parametrize("op", ["Mul", "Div", "Add"])
def test_a_dequantized_number_is_its_code_times_its_scale_not_a_float32(op: str, codes: str) -> None:
    """Rounded to float32 it would move the largest codes of int16 by up to 0.001 steps."""
    held = [int(code) for code in codes.split(",")] * (1 if "," not in codes else 32768)
    proto = model(ALL_CODES.replace("OP", op).replace("N]", "1]").replace("CODES", "1"))
    (weight,) = (t for t in proto.graph.initializer if t.name == "w")
    weight.CopyFrom(numpy_helper.from_array(np.array(held, np.int16), "w"))
    for name, step in (("sx", 3.1e-4), ("sw", 2.87e-5), ("sy", 3.3e-4)):
        proto.graph.initializer.append(numpy_helper.from_array(np.array(step, np.float32), name))
    x = (np.arange(-32768, 32768) * np.float32(3.1e-4)).astype(np.float32)
    tensors = run_everything(compiler.compile(proto, march="nash-e", opt=0), {"x": x})
    observed = quantized_tensors(proto, {"x": x}, tensors)
    assert set(observed) == {"q", "r"}
    assert all(report.exact for report in compare_layerwise(proto, observed, {"x": x}).values())


def test_a_tensor_that_shapes_the_result_stays_one() -> None:
    b: Any = Network((1, 2, 1, 1), 21)
    b.finished(b.qdq(b.node("Add", b.x, b.constant(np.full(SHAPE, 0.5, np.float32)))))
    assert compiled(b)[1].shape == SHAPE


def test_scales_per_channel_are_one_scale_only_when_they_are_equal() -> None:
    codes = np.full((1, 2, 1, 1), 64, np.int8)

    for scales in ([0.01, 0.01], [0.01, 0.02]):
        b: Any = Network(SHAPE, 21)
        c = b.node("DequantizeLinear", b.constant(codes), b.constant(scales), axis=1)
        b.finished(b.qdq(b.node("Add", b.x, c)))
        away = np.abs(compiled(b)[1] - b.values[b.outputs[0]])
        assert np.mean(away > 1e-6) < 0.1  # but for ties
        assert away.max() < 0.02  # a step


TEXTS = {
    "clip by where": ("g = Greater(a, c) y0 = Where(g, c, a)", 0.5),
    "fill by comparison": ("g = Less(c, a) y0 = Where(g, a, c)", -0.1),
    "two fills": ("g = Equal(a, c) d = Add(c, c) y0 = Where(g, d, c)", 0.5),
    "minimum": ("y0 = Min(a, c)", 0.4),
    "power": ("y0 = Pow(a, c)", 2.0),
    "division": ("y0 = Div(a, c)", 0.25),
    "product": ("y0 = Mul(c, a)", 0.25),
    "unit": ("m = Mul(a, c) s = Sigmoid(m) y0 = Mul(a, s)", 1.7),
}


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (4, 1, 1), (8,)])
@pytest.mark.parametrize("name", TEXTS)
def test_full_tensors_are_quantized_as_numbers_are(name: str, shape: tuple[int, ...]) -> None:
    body, value = TEXTS[name]
    text = f"(float[1,3,8,8] x) => (float[1,4,8,8] y) {{ a = Conv(x, w) {body} y = Conv(y0, v) }}"
    weights = {"w": noise(4, 3, 1, 1), "v": noise(4, 4, 1, 1, seed=1)}
    seen = []
    for data in (np.float32(value), np.full(shape, value, np.float32)):
        model = float_model(text, {**weights, "c": data})
        made = quantize(model, samples(model))
        placed = {f"{r.op} {r.on}" for r in compiler.check(made, march="nash-e") if "Linear" not in r.op}
        seen.append((sorted(placed), sorted(n.op_type for n in made.graph.node)))
    assert seen[0] == seen[1]
    if name != "two fills":
        assert all(row.endswith("BPU") for row in seen[1][0])


def test_symbolic_dimensions_keep_tensors_that_may_shape_the_result() -> None:
    text = "(float[N,4] x) => (float[N,4] y) { a = MatMul(x, w) y = Add(a, c) }"
    for shape, size in (((4,), 1), ((1, 4), 1), ((3, 4), 12)):
        model = float_model(text, {"w": noise(4, 4), "c": np.full(shape, 0.5, np.float32)})
        made = quantize(
            model, {"x": noise(6 if size > 1 else 2, 4)[:, None] if size == 1 else noise(2, 3, 4)}
        )
        constants = {t.name: int(np.prod(t.dims)) for t in made.graph.initializer}
        assert max((n for name, n in constants.items() if name.startswith("c")), default=1) in {1, 4, size}


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "int64", "bool", "uint16"])
def test_the_lone_value_is_that_of_every_element(dtype: str) -> None:
    array = np.ones((3, 50), dtype)
    value = lone_value(array)
    assert value is not None
    assert value.shape == ()
    assert value.dtype == array.dtype
    assert value == 1
    for index in ((0, 1), (2, 49)):
        other = array.copy()
        other[index] = 0
        assert lone_value(other) is None


def test_what_is_no_lone_value() -> None:
    assert lone_value(np.array([0.0, -0.0], np.float32)) is None
    assert lone_value(np.zeros((0, 3), np.float32)) is None
    assert lone_value(np.array(["a", "a"], object)) is None
    assert np.isnan(lone_value(np.full(9, np.nan, np.float32)) or 0)
    huge = np.broadcast_to(np.float32(2), (1 << 20, 1 << 20))  # which nobody may write out
    assert lone_value(huge) == 2


@pytest.mark.parametrize(
    ("shape", "others", "spare"),
    [
        ((4,), [(3, 4)], True),
        ((3, 4), [(4,)], False),
        ((3, 4), [(3, 1), (4,)], True),
        ((3, 4), [(3, 1)], False),
        ((1, 1), [(4,)], False),
        ((1, 1), [()], False),
        ((4,), [("N",)], False),
        ((1,), [("N",)], True),
        ((4,), [("N", 4)], True),
        ((), [], True),
    ],
)
def test_an_operand_is_spare_where_the_others_have_its_sizes(shape: Any, others: Any, spare: bool) -> None:
    assert is_spare(shape, others) is spare
