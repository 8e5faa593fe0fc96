"""Facts about what `openbpu.quantization.onnx` rounds as one unit, and about movement."""

from __future__ import annotations

import numpy as np
import pytest

from openbpu.arch.dtypes import DType
from openbpu.quantization.onnx.classes import ROWS, Kind
from quantization.float_models import (
    CONV,
    IMAGE,
    W,
    node_of,
    noise,
    ops,
    pair_of,
    quantized,
    rounded,
    stored,
)

# --- units --------------------------------------------------------------------------------------------------

SCALARS = {
    "half": np.float32(0.5),
    "one": np.float32(1),
    "three": np.float32(3),
    "six": np.float32(6),
    "zero": np.float32(0),
    "root2": np.float32(np.sqrt(2)),
    "cube": np.float32(0.044715),
    "lead": np.float32(np.sqrt(2 / np.pi)),
}
UNITS = {
    "silu": "s = Sigmoid(c) y = Mul(c, s)",
    "hardswish": "y = HardSwish(c)",
    "hardswish as exported": "a = Add(c, three) k = Clip(a, zero, six) m = Mul(c, k) y = Div(m, six)",
    "gelu": "d = Div(c, root2) e = Erf(d) a = Add(e, one) m = Mul(c, a) y = Mul(m, half)",
    "gelu by tanh": """p = Pow(c, three) k = Mul(p, cube) a = Add(c, k) l = Mul(a, lead) t = Tanh(l)
                       o = Add(t, one) m = Mul(c, o) y = Mul(m, half)""",
    "mish": "p = Softplus(c) t = Tanh(p) y = Mul(c, t)",
    "logit": "n = Sub(one, c) d = Div(c, n) y = Tanh(d)",
    "guarded softplus": "g = Greater(c, six) p = Softplus(c) y = Where(g, c, p)",
    "elu by Where": "g = Greater(c, zero) e = Exp(c) o = Sub(e, one) y = Where(g, c, o)",
    "hard shrink": "l = Less(c, zero) g = Greater(c, one) o = Or(l, g) y = Where(o, c, zero)",
    "by a product": "g = Greater(c, one) k = Cast <to = 1> (g) y = Mul(c, k)",
}


@pytest.mark.parametrize("body", UNITS.values(), ids=UNITS.keys())
@pytest.mark.parametrize("activation", [DType.INT8, DType.INT16])
def test_unit_is_rounded_in_front_and_behind_only(body: str, activation: DType) -> None:
    model = quantized(f"{IMAGE} {{ c = {CONV}(x, w, b) {body} }}", {**W, **SCALARS}, activation=activation)
    assert rounded(model) == {"x", "c", "y"}


def test_tensor_of_a_unit_that_is_read_from_outside_starts_a_new_unit() -> None:
    text = """(float[1,8] x) => (float[1,8] y, float[1,6] z)
              { s = Sigmoid(x) t = Tanh(s) y = Mul(s, t) z = MatMul(s, w) }"""
    assert rounded(quantized(text, {"w": noise(8, 6)})) == {"x", "s", "y"}


@pytest.mark.parametrize(
    "body",
    [
        "g = Greater(x, k) y = Where(g, x, t) z = Where(g, t, u)",  # two tensors are chosen from
        "g = Greater(u, k) y = Where(g, x, k) z = Tanh(u)",
        "g = Cast <to = 9> (x) y = Where(g, x, k) z = Tanh(u)",  # no comparison
    ],
)
def test_what_chooses_otherwise_is_rounded_as_it_was(body: str) -> None:
    text = f"(float[1,8] x, float[1,8] u) => (float[1,8] y, float[1,8] z) {{ t = Tanh(x) {body} }}"
    assert {"x", "u", "y", "z"} <= rounded(quantized(text, {"k": np.float32(0.5)}))


def test_scalars_of_a_unit_stay_float() -> None:
    model = quantized("(float[1,8] x) => (float[1,8] y) { a = Add(x, k) y = Tanh(a) }", {"k": np.float32(3)})
    assert node_of(model, "a").input[1] == "k"


def test_constant_tensor_of_an_add_is_stored_as_int8() -> None:
    model = quantized("(float[1,8] x) => (float[1,8] y) { y = Add(x, k) }", {"k": noise(1, 8)})
    integers, scale, axis = stored(model, "y_QuantizeLinear_Input", 1)
    assert integers.dtype == np.int8
    assert (scale.shape, axis) == ((), None)


def test_casts_to_the_type_there_is_are_gone() -> None:
    text = """(float[1,8] x) => (float[1,8] y) {
        l = Less(x, k) m = Cast <to = 9> (l) c = Cast <to = 1> (x) y = Where(m, c, k)
    }"""
    model = quantized(text, {"k": np.float32(0.5)})
    assert (ops(model), rounded(model)) == (["Less", "Where"], {"x", "y"})


# --- movement -----------------------------------------------------------------------------------------------

MOVES = {
    "DepthToSpace": "DepthToSpace <blocksize = 2> (r)",
    "Expand": "Expand(r, shape)",
    "Flatten": "Flatten(r)",
    "Gather": "Gather <axis = 1> (r, index)",
    "MaxPool": "MaxPool <kernel_shape = [2, 2]> (r)",
    "Pad": "Pad(r, pads)",
    "Reshape": "Reshape(r, flat)",
    "Resize": 'Resize <mode = "nearest"> (r, , scales)',
    "Slice": "Slice(r, index, ends, index)",
    "SpaceToDepth": "SpaceToDepth <blocksize = 2> (r)",
    "Split": "Split <axis = 1> (r)",
    "Squeeze": "Squeeze(r, first)",
    "Tile": "Tile(r, repeats)",
    "Transpose": "Transpose <perm = [0, 2, 3, 1]> (r)",
    "Unsqueeze": "Unsqueeze(r, first)",
}
INDICES = {
    "shape": np.array([2, 4, 8, 8]),
    "index": np.array([1, 2]),
    "ends": np.array([3, 4]),
    "first": np.array([0]),
    "flat": np.array([1, -1]),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "repeats": np.array([1, 2, 1, 1]),
    "scales": np.array([1, 1, 2, 2], dtype=np.float32),
}


def test_every_operator_that_moves_values_is_tried() -> None:
    assert {row.op for row in ROWS if row.kind is Kind.KEEP or row.op in {"Pad", "Resize"}} == {
        *MOVES,
        "Identity",
        "TopK",  # which has indices, too: tests/compiler/test_indices.py
    }


@pytest.mark.parametrize("move", MOVES)
def test_movement_keeps_the_scale(move: str) -> None:
    text = f"(float[1,4,8,8] x) => (float y) {{ r = Relu(x) y = {MOVES[move]} }}"
    model = quantized(text, INDICES)
    assert rounded(model) == {"x", "r", "y"}
    assert pair_of(model, "y") == pair_of(model, "r")


def test_padding_with_another_value_than_zero_has_a_scale_of_its_own() -> None:
    text = "(float[1,4,8,8] x) => (float[1,4,10,10] y) { r = Relu(x) y = Pad(r, pads, value) }"
    model = quantized(text, {**INDICES, "value": np.float32(9)})
    assert pair_of(model, "y")[0] > pair_of(model, "r")[0]


def test_every_output_of_a_split_is_rounded() -> None:
    text = "(float[1,4] x) => (float[1,2] y, float[1,2] z) { y, z = Split <axis = 1> (x) }"
    assert rounded(quantized(text)) == {"x", "y", "z"}


def test_concat_and_its_inputs_have_scales_of_their_own() -> None:
    text = """(float[1,4] x) => (float[1,8] y)
              { a = Sigmoid(x) k = Mul(x, three) y = Concat <axis = 1> (a, k) }"""
    model = quantized(text, SCALARS)
    assert len({float(pair_of(model, name)[0]) for name in ("a", "k", "x")}) == 3
    assert pair_of(model, "y")[0] == pair_of(model, "k")[0]  # the widest input's range
