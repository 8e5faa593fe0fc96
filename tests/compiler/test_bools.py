"""Comparisons, logic and choices by what they give, on the BPU: as the float64 graph on every element."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from compiler.reading import model
from openbpu.compiler import check
from openbpu.compiler import compile as compile_model
from openbpu.evaluation.reference import evaluate
from openbpu.runtime import Session
from witness import ort
from witness.builder import GraphBuilder

Array = np.ndarray[Any, Any]
SHAPE = (1, 3, 4, 5)


def graph(
    body: str,
    ends: str = ") => (float y)",
    scales: tuple[float, float] = (0.05, 0.03),
    dtypes: tuple[str, str] = ("int8", "int8"),
    shapes: tuple[str, str] = ("1,3,4,5", "1,3,4,5"),
    zero: int = 0,
) -> onnx.ModelProto:
    """A model of two quantized inputs, the floats x and w; `ended` adds a scale of 0.0387."""
    (s, t), (d, e) = scales, dtypes
    text = (
        f"g (float[{shapes[0]}] a, float[{shapes[1]}] b{ends} "
        f"<float s = {{{s}}}, float t = {{{t}}}, float u = {{0.0387}}, {d} z = {{{zero}}}, "
        f"{e} zw = {{{zero}}}, "
        f"float c = {{0.7}}, float zero = {{0}}, float low = {{-1e9}}, float inf = {{0}}> {{"
        f"aq = QuantizeLinear(a, s, z) x = DequantizeLinear(aq, s, z)"
        f" bq = QuantizeLinear(b, t, zw) w = DequantizeLinear(bq, t, zw) {body} }}"
    )
    made = model(text)
    for stored in made.graph.initializer:
        if stored.name == "inf":
            stored.CopyFrom(onnx.numpy_helper.from_array(np.array(-np.inf, np.float32), "inf"))
    return made


def ended(made: str) -> str:
    """Quantize `r` into `y`."""
    return f"{made} rq = QuantizeLinear(r, u, z) y = DequantizeLinear(rq, u, z)"


def feeds_of(proto: onnx.ModelProto, seed: int = 0) -> dict[str, Array]:
    """Codes of the whole range for `a` and `b`, some of them equal; bools for others."""
    rng = np.random.default_rng(seed)
    values = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    feeds: dict[str, Array] = {}
    for given, scale, zero in zip(proto.graph.input, ("s", "t"), ("z", "zw"), strict=False):
        shape = [d.dim_value for d in given.type.tensor_type.shape.dim]
        info = np.iinfo(values[zero].dtype)
        codes = rng.integers(info.min, info.max, shape, endpoint=True) // rng.choice([1, 16], shape)
        feeds[given.name] = (codes * float(values[scale])).astype(np.float32)
    for given in list(proto.graph.input)[2:]:
        kind = helper.tensor_dtype_to_np_dtype(given.type.tensor_type.elem_type)
        shape = [d.dim_value for d in given.type.tensor_type.shape.dim]
        feeds[given.name] = rng.integers(0, 2, shape).astype(kind)
    return feeds


def left(proto: onnx.ModelProto, march: str = "nash-e") -> list[str]:
    """What the march leaves to the CPU, but for the Quantize and Dequantize that bayes marches have there."""
    ends = ("QuantizeLinear", "DequantizeLinear") if march.startswith("bayes") else ()
    rows = check(proto, march=march)
    return [f"{r.op}: {r.reason}" for r in rows if r.on == "CPU" and r.op not in ends]


def agree(proto: onnx.ModelProto, march: str = "nash-e", *, real: bool = True, **options: Any) -> None:
    """Nothing is left to the CPU; both simulators, the float64 graph and ONNX Runtime give the same."""
    program = compile_model(proto, march=march, **options)
    feeds = feeds_of(proto)
    wanted = evaluate(proto, feeds).outputs
    for mode in ("fast", "exact"):
        found = Session(program, mode=mode).run(feeds).outputs
        for name, value in found.items():
            kind = np.dtype(np.float32) if wanted[name].dtype == np.float64 else wanted[name].dtype
            assert value.dtype == kind
            np.testing.assert_array_equal(value, wanted[name].astype(kind))
    if real:
        for name, value in ort.run(proto, feeds).items():
            np.testing.assert_array_equal(found[name], value)


COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
FLAG = ") => (bool y)"
SCALES = ((0.05, 0.05), (0.05, 0.03), (0.02, 0.04), (0.1, 0.3), (0.07, 0.11), (1.0, 0.001))
TYPES = (("int8", "int8"), ("int16", "int8"), ("int8", "int16"), ("int16", "int16"))


@pytest.mark.parametrize("op", COMPARISONS)
def test_a_comparison_of_two_tensors_is_that_of_their_numbers(op: str) -> None:
    proto = graph(f"y = {op}(x, w)", FLAG)
    assert left(proto) == []
    agree(proto)


@pytest.mark.parametrize("dtypes", TYPES, ids="-".join)
@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_whatever_the_scales_are(scales: tuple[float, float], dtypes: tuple[str, str]) -> None:
    for op in ("Equal", "LessOrEqual"):
        agree(graph(f"y = {op}(x, w)", FLAG, scales, dtypes, ("1,2048", "1,2048"), zero=3))


CONSTANTS = {
    "a number": "c",
    "a number that is a code": "s",
    "a number in front": "c, x",
    "beyond every code": "<high>",
    "below every code": "low",
    "one per channel": "<channels>",
    "one per element": "<each>",
    "quantized ones": "<coded>",
}
MADE = {
    "<high>": "h = Constant<value_float = 1e9>()",
    "<channels>": "h = Constant<value = float[3,1,1] {-2.0, 0.35, 900.0}>()",
    "<each>": "h = Constant<value = float[5] {-0.05, 0.0, 0.1, -1e9, 0.7}>()",
    "<coded>": "hq = Constant<value = int8[5] {-3, 0, 1, 2, 7}>() h = DequantizeLinear(hq, t, zw)",
}


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("name", CONSTANTS)
@pytest.mark.parametrize("op", COMPARISONS)
def test_a_comparison_with_constants_is_exact(op: str, name: str, dtype: str) -> None:
    given = CONSTANTS[name]
    operands = given if ", " in given else f"x, {'h' if given in MADE else given}"
    proto = graph(f"{MADE.get(given, '')} y = {op}({operands})", FLAG, dtypes=(dtype, "int8"))
    assert left(proto) == []
    agree(proto)


PAIRED = "e = Less(x, w) f = Cast<to = 1>(e) fq = QuantizeLinear(f, u, z) h = DequantizeLinear(fq, u, z)"
SIBLINGS = {
    "what is greater": ended("g = Greater(x, w) r = Where(g, x, w)"),
    "sides of other scales": ended("g = Greater(x, w) h = Mul(w, c) hq = QuantizeLinear(h, s, z)"
                                   " hd = DequantizeLinear(hq, s, z) r = Where(g, x, hd)"),
    "a number or a tensor": ended("g = LessOrEqual(x, w) r = Where(g, c, w)"),
    "a tensor or a number": ended("g = Less(x, w) r = Where(g, x, c)"),
    "a tensor or nothing": ended("g = Less(x, w) r = Where(g, x, zero)"),
    "a mask of attention": ended("g = Equal(x, w) r = Where(g, low, x)"),
    "a mask of infinity": ended("g = Equal(x, w) r = Where(g, inf, x)"),
    "two numbers": ended("g = Greater(x, w) r = Where(g, c, low)"),
    "constants per channel": ended("k = Constant<value = float[3,1,1] {-1.0, 0.57, 900.0}>()"
                                   " g = Greater(x, w) r = Where(g, k, x)"),
    "constants on both sides": ended("k = Constant<value = float[3,1,1] {-1.0, 0.57, 900.0}>()"
                                     " l = Constant<value = float[5] {0.0, 1.0, 2.0, 3.0, 4.0}>()"
                                     " g = Greater(x, w) r = Where(g, k, l)"),
    "not": ended("e = Equal(x, w) g = Not(e) r = Where(g, x, w)"),
    "and": ended("e = Less(x, w) f = Greater(w, c) g = And(e, f) r = Where(g, x, w)"),
    "or": ended("e = Less(x, w) f = Greater(w, c) g = Or(e, f) r = Where(g, x, w)"),
    "xor": ended("e = Less(x, w) f = Greater(w, c) g = Xor(e, f) r = Where(g, x, w)"),
    "equal bools": ended("e = Less(x, w) f = Greater(w, c) g = Equal(e, f) r = Where(g, x, w)"),
    "a chosen bool": ended("e = Less(x, w) f = Greater(w, c) h = Greater(x, c) g = Where(e, f, h)"
                           " r = Where(g, x, w)"),
    "a sum of a cast": ended(PAIRED + " r = Add(x, h)"),
    "a product with a cast": ended(PAIRED + " r = Mul(x, h)"),
    "a relu by hand": ended("e = Greater(x, zero) f = Cast<to = 1>(e) r = Mul(x, f)"),
    "a cast alone": ended("e = Greater(x, w) r = Cast<to = 1>(e)"),
    "a cast of a cast": ended("e = Greater(x, w) f = Cast<to = 7>(e) h = Cast<to = 1>(f) r = Sub(c, h)"),
    "what is not zero": ended("e = Cast<to = 9>(x) r = Where(e, w, x)"),
    "masks as BERT has them": ended("e = Greater(x, w) f = Cast<to = 1>(e) h = Sub(c, f) r = Mul(h, low)"),
    "clamped": ended("g = Greater(x, w) h = Where(g, x, w) r = Relu(h)"),
    "clipped": ended("g = Greater(x, w) h = Where(g, x, w) r = Clip(h, zero, c)"),
    "within bounds": ended("e = Greater(x, zero) f = Less(x, c) g = And(e, f) r = Where(g, w, x)"),
    "functions of one tensor": ended("h = Abs(x) g = Greater(h, c) r = Where(g, w, x)"),
    "never NaN": ended("g = IsNaN(x) r = Where(g, zero, x)"),
    "never infinite": ended("e = IsInf(x) f = Less(x, w) g = Or(e, f) r = Where(g, w, x)"),
    "moved": ended("i = Constant<value_ints = [1,3,20]>() k = Constant<value_ints = [1,3,4,5]>()"
                   " g = Greater(x, w) h = Reshape(g, i) n = Reshape(h, k) r = Where(n, x, w)"),
    "turned": ended("g = Greater(x, w) h = Transpose<perm = [0,1,3,2]>(g) "
                    "i = Transpose<perm = [0,1,3,2]>(x) j = Where(h, i, low) "
                    "r = Transpose<perm = [0,1,3,2]>(j)"),
    "joined": ended("g = Greater(x, w) h = Not(g) i = Concat<axis = 2>(g, h) j = Concat<axis = 2>(x, x)"
                    " r = Where(i, j, low)"),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("name", SIBLINGS)
def test_what_bools_are_used_for(name: str, dtype: str) -> None:
    proto = graph(SIBLINGS[name], dtypes=(dtype, dtype))
    assert left(proto) == []
    agree(proto, real=False)


def test_a_condition_is_broadcast_and_so_are_sides() -> None:
    body = ended("g = Greater(x, w) r = Where(g, c, x)")
    proto = graph(body, shapes=("2,3,4,5", "1,1,4,5"))
    assert left(proto) == []
    agree(proto)
    choosing = ended("g = Greater(w, zero) r = Where(g, x, low)")
    proto = graph(choosing, shapes=("2,3,4,5", "4,5"))
    assert left(proto) == []
    agree(proto)
    agree(graph(ended("g = Greater(x, zero) r = Where(g, w, x)"), shapes=("4,5", "2,3,4,5")))


@pytest.mark.parametrize("shape", ["7", "3,7", "2,3,7", "2,3,2,5,2"])
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_of_any_rank(shape: str, dtype: str) -> None:
    proto = graph(SIBLINGS["sides of other scales"], shapes=(shape, shape), dtypes=(dtype, dtype))
    assert left(proto) == []
    agree(proto)


BACK = " d = DequantizeLinear(q, u, z) r = Add(x, d)"
MASKED = ", bool[1,1,4,5] m) => (float y)"


@pytest.mark.parametrize(
    "body",
    [
        "r = Where(m, x, low)",
        "n = Not(m) r = Where(n, low, x)",
        "e = Greater(x, w) n = And(m, e) r = Where(n, x, w)",
        "n = Cast<to = 1>(m) q = QuantizeLinear(n, u, z)" + BACK,
        "n = Cast<to = 1>(m) h = Sub(c, n) i = Mul(h, low) q = QuantizeLinear(i, u, z)" + BACK,
        "j = Constant<value_ints = [1]>() n = Squeeze(m, j) k = Unsqueeze(n, j) r = Where(k, x, w)",
        "i = Constant<value_ints = [1,3,4,5]>() n = Expand(m, i) r = Where(n, x, w)",
    ],
)
def test_a_mask_that_is_an_input_is_read_by_the_bpu(body: str) -> None:
    proto = graph(ended(body), MASKED)
    assert left(proto) == []
    agree(proto, real=False)


def test_bools_may_be_outputs_beside_what_reads_them() -> None:
    proto = graph(ended("g = Greater(x, w) n = Not(g) r = Where(g, x, w)"), ") => (float y, bool g, bool n)")
    assert left(proto) == []
    agree(proto)


def test_what_has_nothing_to_do_with_the_bpu_stays_on_the_cpu() -> None:
    proto = graph(ended("n = Not(m) r = Add(x, w)"), ", bool[1,1,4,5] m) => (float y, bool n)")
    assert left(proto) == ["Not: the BPU makes none of its operands and does not read its result"]
    agree(proto)


def test_a_bool_of_the_cpu_chooses_on_the_bpu() -> None:
    body = ended("k = Constant<value_ints = [2]>() g = Less(i, k) r = Where(g, x, w)")
    proto = graph(body, ", int64[1,3,4,5] i) => (float y)")
    assert [line.split(":")[0] for line in left(proto)] == ["Less"]
    agree(proto)


def test_bayes_compares_where_it_is_asked_to() -> None:
    proto = graph(ended("g = Greater(x, w) r = Where(g, x, w)"))
    assert left(proto, "bayes-e") == ["Greater: Greater runs on the CPU by default on bayes-e"]
    agree(proto, "bayes-e", bpu_ops=["Greater"])
    agree(proto, "bayes-e")


def test_a_float_that_is_compared_is_named() -> None:
    lines = left(graph("f = Softmax(x) y = Greater(f, w)", FLAG))
    (line,) = (line for line in lines if line.startswith("Greater"))
    assert line.startswith("Greater: its input 'f' of Softmax")
    assert line.endswith("is not quantized (passive quantization)")


def test_a_bool_is_no_operand_of_arithmetic_until_it_is_quantized() -> None:
    proto = graph(ended("e = Greater(x, w) f = Cast<to = 1>(e) r = Mul(x, f)"))
    (line,) = (line for line in left(proto) if line.startswith("Mul"))
    assert "is a bool that" in line
    assert line.endswith("an operand that is not quantized")
    agree(proto, real=False)


def test_a_bool_cast_of_what_the_cpu_makes_is_not_read_to_make_itself() -> None:
    b = GraphBuilder(17)
    x = b.input(np.linspace(-1, 1, 8, dtype=np.float32))
    flag = b.node("Cast", b.node("Round", b.node("Hardmax", x)), to=TensorProto.BOOL)
    b.output(b.node("Where", flag, x, b.node("Neg", x)))
    program = compile_model(b.model(), march="nash-e")
    assert {row.on for row in program.placement if row.op == "Cast"} == {"CPU"}
    (found,) = Session(program).run(b.inputs).outputs.values()
    np.testing.assert_array_equal(found, ort.run(b.model(), b.inputs)[b.model().graph.output[0].name])
