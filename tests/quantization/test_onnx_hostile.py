"""Models made to take memory or time, or to crash what reads them, are refused in words."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import ModelProto

from openbpu.arch.errors import ModelError, QuantizationError
from openbpu.quantization.onnx import quantize_random
from quantization.float_models import float_model, noise


def _calling(*functions: str, call: str) -> ModelProto:
    head = '<ir_version: 10, opset_import: ["": 17, "my": 1]>'
    body = "g (float[1,4] x) => (float[1,4] y) { y = my." + call + " (x) }"
    made = (f'<domain: "my", opset_import: ["": 17, "my": 1]> {text}' for text in functions)
    return onnx.parser.parse_model("\n".join((head, body, *made)))


def test_functions_that_double_are_refused_by_name() -> None:
    chain = ["F0 (a) => (b) { b = Relu (a) }"]
    chain += [f"F{i} (a) => (b) {{ t = my.F{i - 1} (a) b = my.F{i - 1} (t) }}" for i in range(1, 30)]
    with pytest.raises(
        ModelError, match=r"function 'my\.F15': the nodes its functions unfold to must be at mo"
    ):
        quantize_random(_calling(*chain, call="F29"))


def test_a_function_that_calls_itself_is_refused() -> None:
    with pytest.raises(ModelError, match="what it calls must be other functions, not itself"):
        quantize_random(_calling("F (a) => (b) { b = my.F (a) }", call="F"))


def test_a_function_called_with_too_many_inputs_is_refused() -> None:
    model = _calling("F (a) => (b) { b = Neg (a) }", call="F")
    model.graph.node[0].input.append("x")
    with pytest.raises(ModelError, match="local functions must be ones that can be inlined"):
        quantize_random(model)


def test_a_function_of_a_quantized_model_is_seen() -> None:
    body = "F (a) => (b) { s = Constant <value_float = 0.1> () q = QuantizeLinear (a, s)"
    with pytest.raises(QuantizationError, match="a model to quantize must be float32, not quantized"):
        quantize_random(_calling(body + " b = DequantizeLinear (q, s) }", call="F"))


def test_an_input_that_is_needed_and_left_out_is_refused() -> None:
    model = float_model('(float[1,4] x) => (float y) { y = Einsum <equation = "ab,ab->ab"> (x, x) }')
    model.graph.node[0].input[1] = ""
    with pytest.raises(ModelError, match="input 1 of Einsum 'y' must be given, not left out"):
        quantize_random(model)


@pytest.mark.parametrize("dims", [[3], [1 << 62], [1] * 65])
def test_a_weight_whose_data_does_not_fit_is_named(dims: list[int]) -> None:
    model = float_model("(float[1,4] x) => (float y) { y = Add(x, w) }", {"w": noise(4)})
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dims)
    with pytest.raises(ModelError, match="tensor 'w': its data must be readable"):
        quantize_random(model)


HUGE = {
    "shape": "n = Constant <value_ints = [1099511627776]> () c = ConstantOfShape (n)",
    "computed shape": """k = Constant <value_ints = [1048576]> () n = Mul (k, k) v = ConstantOfShape (n)
        c = Cast <to = 1> (v)""",
    "shape of an input": """s = Shape <start = 1> (x) k = Constant <value_ints = [1099511627776]> ()
        n = Mul (s, k) c = ConstantOfShape (n)""",
    "Tile": """k = Constant <value_floats = [1.0]> () n = Constant <value_ints = [1099511627776]> ()
        c = Tile (k, n)""",
    "Range": """a = Constant <value_float = 0.0> () b = Constant <value_float = 1e12> ()
        d = Constant <value_float = 1.0> () c = Range (a, b, d)""",
    "Pad": """k = Constant <value_floats = [1.0]> () n = Constant <value_ints = [0, 1099511627776]> ()
        c = Pad (k, n)""",
    "Expand of an input": """n = Constant <value_ints = [1099511627776, 4]> () e = Expand (x, n)
        c = Reshape (e, m)""",
}


@pytest.mark.parametrize("made", HUGE)
def test_what_describes_gigabytes_is_not_computed(made: str) -> None:
    text = f"""(float[N,4] x) => (float y) {{ m = Constant <value_ints = [-1]> () {HUGE[made]}
        d = Add (c, c) s = ReduceSum (d) y = Add (x, s) }}"""
    with pytest.raises(ModelError, match=r"size must be at most 2 GiB, not [\d,]+ bytes"):
        quantize_random(float_model(text))


def test_many_constants_that_describe_gigabytes_are_not_computed() -> None:
    parts = " ".join(f"c{i} = ConstantOfShape (n) s{i} = ReduceSum (c{i})" for i in range(3))
    text = f"""(float[1] x) => (float y) {{ n = Constant <value_ints = [400000000]> () {parts}
        y = Sum (x, s0, s1, s2) }}"""
    with pytest.raises(ModelError, match="what constants alone are made into, up to 'c2', must be at most 4"):
        quantize_random(float_model(text))


def test_a_shape_that_is_joined_to_itself_is_not_carried_along() -> None:
    doubled = " ".join(f"s{i + 1} = Concat <axis = 0> (s{i}, s{i})" for i in range(40))
    text = f"(float[N,4] x) => (float y) {{ s0 = Shape (x) {doubled} z = ReduceMax (s40) y = Neg (x) }}"
    with pytest.raises(ModelError, match=r"output 's28': size must be at most 2 GiB"):
        quantize_random(float_model(text))


def test_a_result_of_a_million_axes_is_refused() -> None:
    text = """(float[1,4] x) => (float y) { n = Constant <value_ints = [1000000]> ()
        s = ConstantOfShape <value = int64[1] {1}> (n) e = Expand (x, s) y = Neg (e) }"""
    with pytest.raises(
        ModelError, match=r"node 'e' \(Expand\): number of axes must be at most 32, not 1,000,000"
    ):
        quantize_random(float_model(text))


def test_the_name_of_a_file_of_weights_may_be_too_long(tmp_path: Path) -> None:
    model = float_model("(float[1,4] x) => (float y) { y = Add(x, w) }", {"w": noise(4)})
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="a" * 5000)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(
        ModelError, match=r"tensor 'w': external data file must be .*a…, not unreadable"
    ) as error:
        quantize_random(tmp_path / "m.onnx")
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("node", ["u = my.Clip (, x)", "u = Unheard (, x)"])
def test_what_an_operator_of_others_needs_is_not_ours_to_say(node: str) -> None:
    """A name that ONNX has too says nothing about a domain; one that it has not says nothing at all."""
    with pytest.raises((ModelError, QuantizationError)) as refused:
        quantize_random(float_model(f"(float[1,4] x) => (float[1,4] y) {{ {node} y = Relu(u) }}"))
    assert "left out" not in str(refused.value)
