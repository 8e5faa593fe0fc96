"""Facts about which lists of numbers onnx's inference is let carry along."""

from __future__ import annotations

import pytest
from onnx import ModelProto, TensorProto, parser, shape_inference

from openbpu.arch.shape_data import types_with_data


def model(text: str) -> ModelProto:
    return parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> g {text}')


def cut(proto: ModelProto) -> list[str]:
    """Return what is no longer read as data."""
    before = len(proto.graph.input)
    carried: list[bool] = []

    def infer(model: ModelProto, *, data_prop: bool = False) -> ModelProto:
        carried.append(data_prop)
        return shape_inference.infer_shapes(model, strict_mode=True, data_prop=data_prop)

    types_with_data(proto, infer)
    return [v.name.split("/")[0] for v in proto.graph.input[before:]] if carried[-1] else ["everything"]


DOUBLED = " ".join(f"s{i + 1} = Concat <axis = 0> (s{i}, s{i})" for i in range(40))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(int64[9000000000] x) => (y) { y = Add (x, x) }", ["x"]),
        ("(int64[9000000000] x) => (y) { y = Size (x) }", ["x"]),
        ("(int64[N] x) => (y) { y = Add (x, x) }", []),
        ("(float[N,9000000000] x) => (y) { y = Add (x, x) }", []),
        ("(int64[2] n) => (y) { c = ConstantOfShape (n) y = Add (c, c) }", []),
        ("(int64[1] n) => (y) { c = Expand (n, n) y = Add (c, c) }", ["c"]),
        (
            f"(float[N,4] x) => (y) {{ s0 = Shape (x) {DOUBLED} y = Neg (s40) }}",
            [f"s{i}" for i in range(15, 40)],
        ),
        (
            "(float[N,4] x) => (y) { s = Shape (x) t = Mul (s, s) u = Concat <axis = 0> (t, s) y = Neg (u) }",
            [],
        ),
        (
            """(bool b, int64[9000000000] x) => (y) {
            y = If (b) <then_branch = t () => (p) { p = Add(x, x) }, else_branch = e () => (q) { q = Neg(x) }>
            }""",
            ["everything"],
        ),
    ],
)
def test_long_lists_are_cut_off_and_short_ones_kept(text: str, expected: list[str]) -> None:
    assert cut(model(text)) == expected


def test_what_is_cut_off_keeps_its_type_and_what_reads_it_its_length() -> None:
    text = """(int64[N] x) => (y) { n = Constant <value_ints = [9000000000]> () c = ConstantOfShape (n)
        d = Add (c, c) y = Cast <to = 1> (d) s = Shape (x) t = Expand (x, s) }"""
    types = types_with_data(model(text), shape_inference.infer_shapes)
    for name, kind in {"c": TensorProto.FLOAT, "d": TensorProto.FLOAT, "y": TensorProto.FLOAT}.items():
        assert types[name].tensor_type.elem_type == kind
        assert [d.dim_value for d in types[name].tensor_type.shape.dim] == [9_000_000_000]
    assert [d.dim_param for d in types["t"].tensor_type.shape.dim] == ["N"]
