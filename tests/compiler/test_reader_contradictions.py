"""Nodes whose parts contradict each other in ways that onnx's shape inference does not see."""

from __future__ import annotations

import pytest

from compiler.reading import model
from openbpu.arch.errors import ModelError
from openbpu.compiler.reader import read_model

HEAD = """g (float[1,4,6,8] x, int64[2] i, float[1,1,8] row, float[3] three, float[4,4,2,2] w,
    float[2,5] a, float[5,4] b, float[1,3,0,2] none)
    => (float[N,M,H,W] y) <int64[2] flat = {4, 48}, int64[2] odd = {4, 47}, int64[2] rest = {-1, 5},
       int64[2] fits = {-1, 32}, int64[2] less = {-2, 96}, int64[3] hole = {0, 4, -1},
       int64[3] kept = {0, -1, 0}, int64[2] two = {-1, -1}, int64[5] late = {1, 4, 6, 8, 0},
       float[1] one = {2}>"""

BAD = {
    "y = Transpose <perm = [0, 1, 1, 3]> (x)": r"perm must be the axes 0..3, each once, not \(0, 1, 1, 3\)",
    "y = Transpose <perm = [0, 1, 2]> (x)": r"perm must be the axes 0..3, each once, not \(0, 1, 2\)",
    "y = Reshape (x, odd)": r"new shape must be one of 192 elements, as \(1, 4, 6, 8\), not \(4, 47\)",
    "y = Reshape (x, rest)": r"new shape must be one of 192 elements, .*, not \(-1, 5\)",
    "y = Reshape (x, two)": "new shape must be sizes and at most one -1",
    "y = Reshape (x, less)": r"new shape must be sizes and at most one -1, not \(-2, 96\)",
    "y = Reshape <allowzero = 1> (x, hole)": r"new shape must be one of 192 elements, .*, not \(0, 4, -1\)",
    "y = Reshape (x, late)": "new shape must be without a 0 behind axis 3",
    "y = SpaceToDepth <blocksize = 4> (x)": r"height and width must be multiples of 4 .*, not \(6, 8\)",
    "y = SpaceToDepth <blocksize = 0> (x)": "blocksize must be 1 or more, not 0",
    "y = DepthToSpace <blocksize = 4> (x)": r"channels must be multiples of 16 \(blocksize 4\), not \(4,\)",
    "y = Gather <axis = -1099511627776> (x, i)": r"axis must be -4\.\.3, not -1099511627776",
    "y = LayerNormalization (x, three)": r"shape of its scale must be one that spreads to .*, not \(3,\)",
    "y = RMSNormalization (x, three)": r"shape of its scale must be one that spreads to .*, not \(3,\)",
    "y = MaxPool <kernel_shape = [7, 3]> (x)": r"window must be .* the padded input \(6, 8\), not \(7, 3\)",
    "y = AveragePool <kernel_shape = [3, 9]> (x)": r"window must be at most the padded input",
    "y = Conv <dilations = [6, 1]> (x, w)": r"window must be at most the padded input \(6, 8\), not \(7, 2\)",
    "y = Conv <strides = [0, 1]> (x, w)": r"strides must be 1\.\.16777215, not \(0, 1\)",
    'y = MaxPool <auto_pad = "SAME_UPPER", kernel_shape = [3, 8589934592]> (x)': "kernel_shape must be 1",
    "y = ConvTranspose <pads = [8589934592, 0, 0, 0]> (x, w)": "pads must be -16777216..16777215",
    "y = Conv (x, a)": "rank of its weight must be that of its input, 4, and 3 or more, not 2",
    "y = Split <axis = 2, num_outputs = 2147483648> (x)": "num_outputs must be 1, not 2147483648",
    "y = Gemm (a, b, three)": r"shape of its bias must be one that spreads to \(2, 4\), not \(3,\)",
    "y = InstanceNormalization (none, three, three)": "its input must be a tensor with elements",
    "y = Pad (x, flat)": r"pads must be 8 numbers, not \(4, 48\)",
    "y = PRelu (x, three)": r"shape of its slope must be one that spreads to .*, not \(3,\)",
    'y = Concat <axis = 1> (x, "")': "every input must be given, not input 1 left out",
    'y = Min (x, "", x)': "every input must be given, not input 1 left out",
}
GOOD = (
    "y = Reshape (x, flat)",
    "y = Reshape (x, fits)",
    "y = Reshape (x, kept)",
    "y = SpaceToDepth <blocksize = 2> (x)",
    "y = DepthToSpace <blocksize = 2> (x)",
    "y = LayerNormalization (x, row)",
    "y = Gather <axis = -1> (x, i)",
    "y = Transpose (x)",
    "y = MaxPool <kernel_shape = [7, 3], pads = [1, 0, 0, 0]> (x)",
    "y = Gemm (a, b, one)",
)


@pytest.mark.parametrize("text", BAD)
def test_contradiction_is_said(text: str) -> None:
    op = text.split()[2]
    with pytest.raises(ModelError, match=rf"\({op}\): (the )?{BAD[text]}.*; export the model again"):
        read_model(model(f"{HEAD} {{ {text} }}", opset=23))


@pytest.mark.parametrize("text", GOOD)
def test_consistent_node_is_read(text: str) -> None:
    body = f"{HEAD} {{ {text} }}".replace("float[N,M,H,W] y", "float y")
    proto = model(body, opset=23)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    assert read_model(proto).values["y"].shape is not None
