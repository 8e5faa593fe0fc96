"""Facts about `quantize` of models whose local functions have an opset of their own."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, parser

from openbpu.arch.errors import ModelError
from openbpu.quantization.onnx import quantize
from witness import ort

X = np.linspace(-1, 2, 24, dtype=np.float32).reshape(2, 3, 4)


def model(version: int, body: str, opset: int = 17) -> ModelProto:
    """A function between two nodes, with no types declared between them."""
    return parser.parse_model(f"""<ir_version: 9, opset_import: ["": {opset}, "my": 1]>
        g (float[2,3,4] x) => (float[N,M,K] y) {{ a = Abs (x) b = my.F (a) y = Relu (b) }}
        <domain: "my", opset_import: ["": {version}]> F (a) => (b) {{ {body} }}""")


def alone(version: int, body: str) -> ModelProto:
    """The same computation as a model of the function's opset."""
    return parser.parse_model(f"""<ir_version: 7, opset_import: ["": {version}]>
        g (float[2,3,4] x) => (float[N,M,K] y) {{ a = Abs (x) {body} y = Relu (b) }}""")


@pytest.mark.parametrize(
    ("version", "body"),
    [
        (11, "b = Softmax <axis = 1> (a)"),
        (11, "b = ReduceSum <axes = [1]> (a)"),
        (10, "b = Pad <pads = [0, 0, 1, 0, 0, 1], value = 0.5> (a)"),
        (6, "b = Clip <min = 0.1, max = 0.7> (a)"),
    ],
)
def test_a_function_of_an_older_opset_keeps_its_meaning(version: int, body: str) -> None:
    made = quantize(model(version, body), {"x": X[None]})
    y, expected = (ort.run(m, {"x": X})["y"] for m in (made, alone(version, body)))
    np.testing.assert_allclose(y, expected, atol=0.02)


@pytest.mark.parametrize(
    ("version", "body", "op", "since"),
    [
        (11, "b = Hardmax (a)", "Hardmax", 13),
        (
            10,
            's = Constant <value = float[3] {1, 1, 2}> () b = Resize <mode = "linear"> (a, s)',
            "Resize",
            11,
        ),
        (9, "s = Constant <value = float[3] {1, 1, 2}> () b = Upsample (a, s)", "Upsample", 10),
    ],
)
def test_a_function_that_would_change_its_meaning_is_refused(
    version: int, body: str, op: str, since: int
) -> None:
    said = rf"node 'b' \({op}\) of function 'my\.F': opset must be {since} or newer, .* not {version}; export"
    with pytest.raises(ModelError, match=said):
        quantize(model(version, body), {"x": X[None]})
