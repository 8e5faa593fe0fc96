"""Operators between pairs that leave out their first input, or one of their outputs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.parser import parse_model

from openbpu.compiler import compile as compile_
from openbpu.runtime import Session
from openbpu.runtime.reference import Reference

_BODY = "b (int64 i, bool c, float[1,2] v) => (bool d, float[1,2] w) { d = Less(i, n) w = Neg(v) }"

_DRAW = "RandomNormal<shape = [1, 2], scale = 0.000001>()"


def model(node: str, name: str = "y") -> onnx.ModelProto:
    return parse_model(f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[1,2] x) => (float[1,N] out)
        <float s = {{0.01}}, int8 z = {{0}}, int64 n = {{2}}, bool yes = {{1}}> {{
            xq = QuantizeLinear(x, s, z) h = DequantizeLinear(xq, s, z)
            {node}
            yq = QuantizeLinear({name}, s, z) out = DequantizeLinear(yq, s, z)
        }}""")


@pytest.mark.parametrize(
    "node",
    [
        f"y = Loop<body = {_BODY}>(n, , h)",
        f"y = Loop<body = {_BODY}>(, yes, h)",
        f"y = Loop<body = {_BODY}>(, , h)",
        f"r = {_DRAW} y = Add(h, r)",
        f"r = {_DRAW} rq = QuantizeLinear(r, s, z) rd = DequantizeLinear(rq, s, z) y = Add(h, rd)",
    ],
)
@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
def test_what_leaves_out_an_input_compiles_to_what_it_means(node: str, march: str) -> None:
    made, x = model(node), {"x": np.asarray([[0.5, -0.25]], np.float32)}
    assert np.array_equal(
        Session(compile_(made, march=march)).run(x).outputs["out"], Reference(made).run(x)["out"]
    )


@pytest.mark.parametrize(("outputs", "value"), [("y, ", 0.5), (", y", -0.25)])
def test_a_part_of_a_split_that_nobody_reads_needs_no_name(outputs: str, value: float) -> None:
    made = model("u, y = Split<axis = 1>(h)")
    made.graph.node[2].output[:] = outputs.replace(" ", "").split(",")
    x = {"x": np.asarray([[0.5, -0.25]], np.float32)}
    got = Session(compile_(made, march="nash-e")).run(x).outputs["out"]
    assert got.shape == (1, 1)
    assert got[0, 0] == pytest.approx(value)
