"""Static shapes from dynamic models, and subgraphs that only compute shapes fold to nothing."""

from __future__ import annotations

import pytest

from compiler.reading import model, ops, read_equal
from openbpu.arch.errors import ModelError
from openbpu.compiler.reader import read_model

DYNAMIC = "g (float[N,3,H,224] x) => (float[N,3,H,224] y) { y = Relu (x) }"


def test_dynamic_axis_is_refused_with_the_fix() -> None:
    fix = r"input 'x': axis 0 must be a fixed size, not dynamic \('N'\); give it with --shape x=1,3,224,224"
    with pytest.raises(ModelError, match=fix):
        read_model(model(DYNAMIC))


def test_shapes_make_a_model_static() -> None:
    graph = read_model(model(DYNAMIC), {"x": (2, 3, 64, 224)})
    assert graph.values["x"].shape == graph.values["y"].shape == (2, 3, 64, 224)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"z": (1,)}, r"shape of 'z': name must be an input \(x\), not 'z'"),
        ({"x": (1, 3, 64)}, r"input 'x': shape must be of rank 4, not \(1, 3, 64\)"),
        ({"x": (1, 4, 64, 224)}, "input 'x': axis 1 must be 3, not 4"),
        ({"x": (1, 3, -1, 224)}, "input 'x': dimensions must be 0 or more"),
    ],
)
def test_wrong_shapes_are_refused(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_model(model(DYNAMIC), shapes)


def test_a_named_axis_is_the_same_everywhere() -> None:
    text = "g (float[N,2] x, float[N,2] z) => (float[N,2] y) { y = Add (x, z) }"
    assert read_model(model(text), {"x": (5, 2)}).values["z"].shape == (5, 2)
    with pytest.raises(ModelError, match=r"input 'z': axis 0 \(N\) must be 5, not 4"):
        read_model(model(text), {"x": (5, 2), "z": (4, 2)})


def test_input_without_a_rank_takes_the_given_shape() -> None:
    proto = model("g (float[1] x) => (float[1] y) { y = Relu (x) }")
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    assert read_model(proto, {"x": (4, 5)}).values["y"].shape == (4, 5)
    with pytest.raises(ModelError, match="input 'x': shape must be static, not unknown"):
        read_model(proto)


def test_negative_dimension_is_dynamic() -> None:
    proto = model("g (float[1,4] x) => (float[1,4] y) { y = Relu (x) }")
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    with pytest.raises(
        ModelError, match="axis 0 must be a fixed size, not dynamic; give it with --shape x=1,4"
    ):
        read_model(proto)


def test_shape_arithmetic_folds_to_nothing() -> None:
    text = """
    g (float[2,3,4] x) => (float[2,12] y) {
        s = Shape (x)
        zero = Constant <value_int = 0> ()
        one = Constant <value_ints = [1]> ()
        b = Gather <axis = 0> (s, zero)
        axes = Constant <value_ints = [0]> ()
        u = Unsqueeze (b, axes)
        n = Size (x)
        m = Div (n, b)
        v = Unsqueeze (m, axes)
        t = Concat <axis = 0> (u, v)
        f = Cast <to = 1> (t)
        g = Floor (f)
        h = Cast <to = 7> (g)
        r = Relu (x)
        y = Reshape (r, h)
    }"""
    graph = read_equal(model(text))
    assert ops(graph) == {"Relu": 1, "Reshape": 1}


def test_attention_masks_fold() -> None:
    text = """
    g (float[2,3] x) => (float[3,3] y) {
        s = Shape <start = 1> (x)
        o = Constant <value = int64 {0}> ()
        d = Constant <value = int64 {1}> ()
        n = Squeeze (s)
        r = Range (o, n, d)
        axes = Constant <value_ints = [1]> ()
        c = Unsqueeze (r, axes)
        m = LessOrEqual (c, r)
        a = ConstantOfShape <value = float[1] {2}> (s)
        z = Constant <value_float = 0.0> ()
        w = Where (m, a, z)
        t = Transpose (x)
        p = MatMul (t, x)
        y = Add (p, w)
    }"""
    assert ops(read_equal(model(text))) == {"Transpose": 1, "MatMul": 1, "Add": 1}


def test_large_constants_made_by_shape_take_no_memory() -> None:
    text = """
    g (float[1,4] x) => (float[1,100000000] y) <int64[2] s = {4, 100000000}> {
        w = ConstantOfShape <value = float[1] {0.5}> (s)
        y = MatMul (x, w)
    }"""
    weight = read_model(model(text)).const("w")
    assert weight is not None
    assert weight.shape == (4, 100_000_000)
    assert weight.strides == (0, 0)


def test_large_results_are_not_computed() -> None:
    text = """
    g (float[1] x) => (float[100000000] y) <int64[1] s = {100000000}, float[1] v = {2}> {
        w = Expand (v, s)
        u = Exp (w)
        y = Mul (u, x)
    }"""
    assert ops(read_model(model(text))) == {"Exp": 1, "Mul": 1}


def test_random_numbers_are_not_folded() -> None:
    text = "g (float[3] x) => (float[3] y) { r = RandomNormal <shape = [3], seed = 1.0> () y = Add (x, r) }"
    assert ops(read_model(model(text))) == {"RandomNormal": 1, "Add": 1}


def test_weights_that_are_transposed_become_weights() -> None:
    text = (
        "g (float[1,2] x) => (float[1,3] y) <float[3,2] w = {1,2,3,4,5,6}>"
        " { t = Transpose (w) y = MatMul (x, t) }"
    )
    graph = read_equal(model(text))
    assert ops(graph) == {"MatMul": 1}


def test_shapes_that_depend_on_data_stay_unknown() -> None:
    graph = read_model(model("g (float[3] x) => (int64[1,N] y) { t = NonZero (x) y = Neg (t) }"))
    assert (graph.values["y"].shape, graph.values["y"].dtype) == (None, "int64")


def test_values_of_onnxruntime_operators_have_shapes() -> None:
    text = (
        "g (uint8[1,2,3] x) => (uint8[1,2,3] y) <float s = {0.5}, uint8 z = {128}>"
        " { t = com.microsoft.QLinearAdd (x, s, z, x, s, z, s, z)"
        " y = com.microsoft.QLinearConcat <axis = 2> (s, z, t, s, z, x, s, z) }"
    )
    graph = read_model(model(text, 17, '"com.microsoft": 1'))
    assert graph.values["t"].shape == (1, 2, 3)
    assert (graph.values["y"].shape, graph.values["y"].dtype) == ((1, 2, 6), "uint8")


@pytest.mark.parametrize(
    ("call", "known"),
    [
        ("QLinearLeakyRelu <alpha = 0.1> (x, s, z, s, z)", ((2, 3), "uint8")),
        ("QGemm (x, s, z, w, s, z, b, s, z)", ((2, 3), "uint8")),
        ("QGemm (x, s, z, w, s, z, b)", ((2, 3), "float32")),  # without a scale of its own
    ],
)
def test_a_quantized_result_is_known_to_be_of_the_inputs_type(
    call: str, known: tuple[tuple[int, ...] | None, str]
) -> None:
    constants = "float s = {0.5}, uint8 z = {128}, uint8[3,3] w = {1,2,3,4,5,6,7,8,9}, int32[3] b = {1,2,3}"
    text = f"g (uint8[2,3] x) => (y) <{constants}> {{ y = com.microsoft.{call} }}"
    value = read_model(model(text, 17, '"com.microsoft": 1')).values["y"]
    assert (value.shape, value.dtype) == known


def test_empty_tensors_are_legal() -> None:
    graph = read_model(model("g (float[2,0] x) => (float[1,1] y) { y = ReduceSum (x) }"))
    assert graph.values["x"].shape == (2, 0)
