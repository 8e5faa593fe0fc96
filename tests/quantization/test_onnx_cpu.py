"""Facts about pairs around operators that the BPU never runs, and about the table of operators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from openbpu.quantization.onnx import quantize, quantize_random
from openbpu.quantization.onnx.classes import ROWS, TABLE, Kind
from quantization.float_models import (
    W,
    float_model,
    node_of,
    noise,
    pair_of,
    quantized,
    rounded,
    samples,
)
from witness import ort

# --- what the BPU never runs --------------------------------------------------------------------------------


def test_cpu_operators_have_no_pairs_and_movement_between_them_has_none() -> None:
    text = """(float[1,4,8,8] x) => (float[1,2,4] y)
              { c = Conv <pads = [1, 1, 1, 1]> (x, w) f = Reshape(c, shape)
                v = ReverseSequence <batch_axis = 0, time_axis = 1> (f, three)
                t = Transpose <perm = [0, 2, 1]> (v) y = GatherElements <axis = 1> (t, j) }"""
    indices = {
        "shape": np.array([1, 4, 64]),
        "three": np.array([3]),
        "j": np.zeros((1, 2, 4), dtype=np.int64),
    }
    model = quantized(text, {**W, **indices})
    assert rounded(model) == {"x", "c", "f"}


SCATTERED = """(float[1,4,8,8] x) => (float[4,64] y, float[2,64] z)
    { c = Conv <pads = [1, 1, 1, 1]> (x, w) f = Reshape(c, shape) s = Sigmoid(f)
      d = ScatterND(s, first, new) PART y = ScatterND(d, first, m) z = Tanh(m) }"""
ROWS_OF = {
    "shape": np.array([4, 64]),
    "first": np.array([[0], [1]]),
    "new": 300 * noise(2, 64),
    "zero": np.array([0]),
    "two": np.array([2]),
    "four": np.array([4]),
    "picked": np.array([2, 3]),
    "swap": np.array([2, 2, 64]),
    "flat": np.array([2, 64]),
}
PARTS = {
    "Slice": "p = Slice(d, two, four, zero) m = Neg(p)",
    "Split": "a, p = Split <axis = 0> (d) m = Neg(p)",
    "Gather": "p = Gather <axis = 0> (d, picked) m = Neg(p)",
    "moved": """t = Transpose <perm = [1, 0]> (d) p = Slice(t, two, four, one)
                r = Transpose <perm = [1, 0]> (p) m = Neg(r)""",
}


@pytest.mark.parametrize("part", PARTS)
def test_pair_stands_behind_the_movement_from_a_cpu_operator_that_another_one_reads_too(part: str) -> None:
    """One scale for all of `d`, where the CPU wrote 300, would be 200 steps of what the Slice takes."""
    model = quantized(SCATTERED.replace("PART", PARTS[part]), {**W, **ROWS_OF, "one": np.array([1])})
    made = rounded(model)
    assert "d" not in made
    assert "s" in made
    assert float(pair_of(model, "p")[0]) < 1 / 127
    assert node_of(model, "y").input[0] == "d"


def test_movement_from_a_cpu_operator_to_the_bpu_alone_runs_there() -> None:
    text = """(float[1,4,8,8] x) => (float[64,4] y)
        { c = Conv <pads = [1, 1, 1, 1]> (x, w) f = Reshape(c, shape) d = ScatterND(f, first, new)
          t = Transpose <perm = [1, 0]> (d) y = Tanh(t) }"""
    assert {"d", "t"} <= rounded(quantized(text, {**W, **ROWS_OF}))


def test_cpu_operators_read_graph_inputs_and_each_other_as_they_are() -> None:
    text = """(float[4,64] x) => (float[4,64] y, float[4,64] z)
        { d = ScatterND(x, first, new) y = ScatterND(d, first, new) a = Tanh(d) b = Tanh(x) z = Add(a, b) }"""
    model = quantized(text, ROWS_OF)
    assert {"x", "d"} <= rounded(model)
    assert (node_of(model, "d").input[0], node_of(model, "y").input[0]) == ("x", "d")
    assert node_of(model, "z_QuantizeLinear_Input").input[0] == "a_DequantizeLinear_Output"


def test_output_that_a_cpu_operator_makes_stays_as_it_is_beside_its_pair() -> None:
    text = "(float[4,64] x) => (float[4,64] d, float[4,64] z) { d = ScatterND(x, first, new) z = Tanh(d) }"
    model = quantized(text, ROWS_OF)
    assert node_of(model, "d").op_type == "ScatterND"
    assert "d" in rounded(model)


def test_movement_between_a_graph_input_and_the_cpu_has_no_pair() -> None:
    text = """(float[64,4] x, float[2,64] n) => (float[4,64] y)
        { t = Transpose <perm = [1, 0]> (x) u = Tanh(n) y = ScatterND(t, first, u) }"""
    assert rounded(quantized(text, ROWS_OF)) == {"n", "u"}


def test_integer_tensors_are_left_alone() -> None:
    text = """(float[1,8] x) => (int64[1,8] y) { r = Relu(x) c = Cast <to = 7> (r) y = Add(c, one) }"""
    assert rounded(quantized(text, {"one": np.array([1])})) == {"x", "r"}


@pytest.mark.parametrize(
    ("tail", "kind"),
    [
        ("y = ArgMax <axis = 1> (r)", TensorProto.INT64),
        ("i = ArgMax <axis = 1> (r) y = Identity (i)", TensorProto.INT64),
        ("y = Greater (r, x)", TensorProto.BOOL),
        ("y = Cast <to = 11> (r)", TensorProto.DOUBLE),
    ],
)
def test_an_output_that_is_declared_float_and_is_not_is_left_alone(tail: str, kind: int) -> None:
    made = quantize_random(float_model(f"(float[1,8] x) => (float y) {{ r = Relu(x) {tail} }}"))
    assert rounded(made) == {"x", "r"}
    assert made.graph.output[0].type.tensor_type.elem_type == kind
    ort.session(made)


def test_operators_of_other_domains_are_left_alone_and_those_behind_them_are_not() -> None:
    text = """(float[8,8] x) => (float[8,8] y)
              { r = Relu(x) g = com.microsoft.Trilu(r) h = com.microsoft.Trilu(g) y = Tanh(h) }"""
    model = float_model(text)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert rounded(quantize(model, samples(model))) == {"x", "r", "h", "y"}


def test_branches_read_the_rounded_tensors_around_them() -> None:
    text = """(float[1,8] x, bool flag) => (float[1,8] y) { r = Tanh(x)
              y = If (flag) <then_branch = t () => (float[1,8] p) { p = Neg(r) },
                             else_branch = e () => (float[1,8] q) { q = Abs(r) }> }"""
    model = quantize(float_model(text), [{"x": noise(1, 8), "flag": np.array(True)}])
    assert rounded(model) == {"x", "r"}
    branches = [a.g for a in node_of(model, "y").attribute]
    assert {b.node[0].input[0] for b in branches} == {"r_DequantizeLinear_Output"}


# --- the table ----------------------------------------------------------------------------------------------


def test_table_has_one_row_per_operator() -> None:
    assert len(TABLE) == len(ROWS)


def test_documentation_lists_every_operator_under_its_kind() -> None:
    page = (Path(__file__).parents[2] / "docs" / "post_training_quantization.md").read_text(encoding="utf-8")
    table = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    rows = dict(row for row in table if len(row) == 2)
    kinds = {
        Kind.MAC: "products",
        Kind.ELEMENTWISE: "element-wise",
        Kind.KEEP: "movement: the output has the scale of the input",
        Kind.QUANTIZED: "a scale on each side",
    }
    by_attribute = {row.op for row in ROWS if not isinstance(row.kind, Kind)}
    for kind, title in kinds.items():
        listed = {entry.split(" (")[0] for entry in rows[title].split(", ")}
        assert listed - by_attribute == {row.op for row in ROWS if row.kind is kind}
