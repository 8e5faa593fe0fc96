"""The table of single-operator cases: per operator, name -> arguments of ``single_op_model``."""

from __future__ import annotations

from typing import Any

from witness.builder import Style
from witness.emit.spatial import REDUCTIONS

STYLES: dict[str, Style] = {
    "int8": Style("int8"),
    "int8-ties": Style("int8", power_of_two=True),
    "int8-saturating": Style("int8", spread=0.6),
    "int8-asymmetric": Style("int8", symmetric=False),
    "uint8": Style("uint8", symmetric=False),
    "uint8-ties": Style("uint8", symmetric=False, power_of_two=True),
    "int16": Style("int16"),
    "int16-ties": Style("int16", power_of_two=True),
    "uint16": Style("uint16", symmetric=False),
}
"""How activations are quantized, by name."""

KEEPS_SCALE = {
    "MaxPool", "GlobalMaxPool", "Split", "Slice", "Reshape", "Flatten", "Squeeze", "Unsqueeze",
    "Transpose", "DepthToSpace", "SpaceToDepth", "Gather", "Expand", "Tile", "Identity", "Cast",
    "ReduceMax", "ReduceMin", "Relu", "Clip", "Pad",
}  # fmt: skip
"""Operators whose outputs take the input's scale, as quantizers write them."""

DEFAULT_SHAPES: dict[str, tuple[int, ...]] = {
    "Gemm": (3, 11),
    "MatMul": (2, 5, 11),
    "LayerNormalization": (2, 5, 12),
    "RMSNormalization": (2, 5, 12),
    "Softmax": (2, 5, 12),
    "LogSoftmax": (2, 5, 12),
    "GroupNormalization": (1, 6, 5, 7),
    "DepthToSpace": (1, 8, 3, 5),
    "SpaceToDepth": (1, 3, 4, 6),
    "Expand": (1, 3, 1, 5),
    "Squeeze": (1, 3, 1, 5),
}
"""Where (1, 3, 7, 9) will not do."""

Variations = dict[str, dict[str, Any]]

_CONV: Variations = {
    "3x3": {"pads": 1},
    "valid": {},
    "1x1": {"kernel": 1, "channels": 7},
    "strided-1x1": {"kernel": 1, "strides": 2},
    "strides": {"strides": (2, 1), "pads": 1},
    "asymmetric-pads": {"pads": (0, 1, 2, 1)},
    "dilation": {"dilations": 2, "pads": 2},
    "depthwise": {"shape": (1, 6, 8, 7), "channels": 6, "group": -1, "pads": 1},
    "depthwise-multiplier": {"shape": (1, 3, 8, 7), "channels": 6, "group": -1, "strides": 2},
    "groups": {"shape": (1, 6, 7, 5), "channels": 9, "group": 3},
    "5x3": {"kernel": (5, 3), "pads": (2, 1, 2, 1)},
    "7x7-stride2": {"kernel": 7, "strides": 2, "pads": 3, "shape": (1, 3, 15, 13)},
    "same-upper": {"auto_pad": "SAME_UPPER", "strides": 2},
    "same-lower": {"auto_pad": "SAME_LOWER", "strides": 2, "shape": (1, 3, 8, 8)},
    "auto-valid": {"auto_pad": "VALID"},
    "batch": {"shape": (3, 3, 5, 6), "pads": 1},
    "1d": {"shape": (2, 5, 17), "pads": 1},
    "1d-dilated-causal": {"shape": (1, 4, 17), "kernel": 3, "dilations": 2, "pads": (4, 0)},
    "per-tensor": {"per_channel": False},
    "no-bias": {"bias": None},
    "float-bias": {"bias": "float"},
    "int16-weights": {"weights": "int16", "opset": 21},
    "many-channels": {"shape": (1, 33, 5, 5), "channels": 35, "pads": 1},
    "relu": {"then": "Relu", "pads": 1},
    "clip": {"then": "Clip", "pads": 1},
    "add": {"then": "Add", "pads": 1, "channels": 3},
    "int8-to-int16": {"output": "int16"},
    "int16-to-int8": {"style": "int16", "output": "int8"},
    "uint8-relu": {"style": "uint8", "then": "Relu", "pads": 1},
    "uint8-per-tensor-pads": {"style": "uint8", "per_channel": False, "pads": 2},
    "int16-opset13": {"style": "int16", "opset": 13},
    "opset10": {"opset": 10, "per_channel": False},
    "opset19": {"opset": 19},
    "opset21": {"opset": 21},
}  # fmt: skip

_CONV_TRANSPOSE: Variations = {
    "2x": {"kernel": 4, "pads": 1},
    "3x3": {},
    "stride1": {"strides": 1, "pads": 1},
    "output-padding": {"pads": 1, "output_padding": 1},
    "asymmetric-pads": {"pads": (0, 1, 1, 0), "strides": (2, 3)},
    "dilation": {"dilations": 2},
    "groups": {"shape": (1, 6, 4, 5), "channels": 4, "group": 2},
    "depthwise": {"shape": (1, 5, 4, 5), "channels": 5, "group": -1},
    "1d": {"shape": (1, 4, 9)},
    "2x2-no-overlap": {"kernel": 2},
    "no-bias": {"bias": None},
    "per-tensor": {"per_channel": False},
    "relu": {"then": "Relu"},
}

_BINARY: Variations = {
    "same-shape": {},
    "self": {"other": "self"},
    "quantized-constant": {"other": "constant"},
    "float-constant": {"other": "float"},
    "scalar": {"other": "scalar"},
    "channel-constant": {"other": "constant", "other_shape": (3, 1, 1)},
    "broadcast-channel": {"other_shape": (1, 3, 1, 1)},
    "broadcast-lower-rank": {"other_shape": (7, 1)},
    "broadcast-both": {"shape": (1, 3, 1, 9), "other_shape": (1, 1, 7, 9)},
    "rank2": {"shape": (3, 13)},
    "relu": {"then": "Relu"},
    "to-int16": {"output": "int16"},
    "int16-to-int8": {"style": "int16", "output": "int8"},
}

_ORDERED: Variations = {**_BINARY, "swapped": {"swap": True, "other": "constant"}}

_POOL: Variations = {
    "2x2": {"strides": 2},
    "3x3-pad": {"kernel": 3, "strides": 2, "pads": 1},
    "stride1": {"kernel": (3, 2)},
    "asymmetric-pads": {"kernel": 3, "strides": 2, "pads": (0, 1, 1, 0)},
    "ceil": {"kernel": 3, "strides": 2, "ceil_mode": 1, "shape": (1, 3, 8, 9)},
    "ceil-pad": {"kernel": 2, "strides": 2, "pads": 1, "ceil_mode": 1, "opset": 22},
    "same-upper": {"kernel": 3, "strides": 2, "auto_pad": "SAME_UPPER"},
    "dilation": {"kernel": 2, "dilations": 2, "opset": 19},
    "1d": {"shape": (2, 4, 11), "kernel": 3, "strides": 2},
    "own-scale": {"kernel": 2, "same_scale": False},
    "batch": {"shape": (3, 2, 5, 5), "strides": 2},
}

_REDUCE: Variations = {
    "channels": {},
    "spatial": {"axes": (2, 3)},
    "spatial-no-keepdims": {"axes": (2, 3), "keepdims": 0},
    "last": {"axes": (-1,), "shape": (2, 5, 12)},
    "all": {"axes": None},
    "opset18": {"axes": (-1,), "opset": 18},
}

_NONLINEAR: Variations = {"plain": {}, "wide": {"gain": 6.0}, "rank2": {"shape": (4, 33)}}

_SOFTMAX: Variations = {
    "last": {},
    "channels": {"axis": 1, "shape": (1, 6, 3, 4)},
    "sharp": {"gain": 8.0},
    "classifier": {"shape": (1, 100), "gain": 4.0, "output": "uint8"},
}

_RESIZE: Variations = {
    "2x": {},
    "2x-asymmetric-floor": {"coordinates": "asymmetric", "nearest_mode": "floor"},
    "3x-ceil": {"scales": (3.0, 3.0), "nearest_mode": "ceil"},
    "prefer-ceil": {"scales": (1.5, 2.5), "nearest_mode": "round_prefer_ceil"},
    "down": {"scales": (0.5, 0.6), "coordinates": "asymmetric", "nearest_mode": "floor"},
    "sizes": {"sizes": (5, 12)},
    "align-corners": {"sizes": (14, 9), "coordinates": "align_corners"},
    "linear-2x": {"mode": "linear"},
    "linear-align-corners": {"mode": "linear", "coordinates": "align_corners", "sizes": (13, 17)},
    "linear-asymmetric": {"mode": "linear", "coordinates": "asymmetric"},
    "linear-pytorch": {"mode": "linear", "coordinates": "pytorch_half_pixel", "sizes": (10, 5)},
    "linear-down": {"mode": "linear", "scales": (0.5, 0.5), "shape": (1, 3, 8, 10)},
    "cubic-2x": {"mode": "cubic"},
    "opset10": {"opset": 10},
    "opset11": {"opset": 11},
}

_COMPARE: Variations = {"branch": {}, "constant": {"other": "constant"}}

_CONDITIONS = ("Where", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or")
_FUNCTIONS = (
    "Sigmoid", "Tanh", "Exp", "Erf", "Softplus", "Mish", "HardSwish", "Selu", "SwishQdq",
    "Log", "Sqrt", "Reciprocal", "Softsign", "Celu",
)  # fmt: skip

VARIATIONS: dict[str, Variations] = {
    "Conv": _CONV,
    "ConvTranspose": _CONV_TRANSPOSE,
    "Gemm": {
        "transposed": {},
        "plain": {"trans_b": 0},
        "no-bias": {"bias": None},
        "float-bias": {"bias": "float"},
        "per-tensor": {"per_channel": False},
        "alpha": {"alpha": 0.5, "beta": 2.0, "bias": "float"},
        "int16-weights": {"weights": "int16", "opset": 21},
        "one-row": {"shape": (1, 64), "features": 10},
        "relu": {"then": "Relu"},
        "int16-to-int8": {"style": "int16", "output": "int8"},
    },
    "MatMul": {
        "weight": {},
        "weight-bias": {"bias": True},
        "per-tensor": {"per_channel": False},
        "self": {"other": "self"},
        "self-4d": {"other": "self", "shape": (1, 2, 5, 8)},
        "rank2": {"shape": (4, 9)},
        "rank4": {"shape": (2, 3, 4, 6)},
        "int16-weights": {"weights": "int16", "opset": 21},
    },
    "Add": _BINARY,
    "Sum": _BINARY,
    "Mean": {k: v for k, v in _BINARY.items() if k != "broadcast-both"},  # beyond onnx.reference
    "Sub": _ORDERED,
    "Mul": _BINARY,
    "Max": _BINARY,
    "Min": _BINARY,
    "Div": {k: v for k, v in _BINARY.items() if k != "self"},
    "Pow": {"square": {}, "cube": {"exponent": 3.0}, "root": {"exponent": 0.5}},
    **dict.fromkeys(_CONDITIONS, _COMPARE),
    **dict.fromkeys(_FUNCTIONS, _NONLINEAR),
    "Relu": {"plain": {}, "own-scale": {"same_scale": False}, "rank2": {"shape": (4, 33)}},
    "HardSigmoid": {**_NONLINEAR, "alpha": {"alpha": 1 / 6, "beta": 0.5, "gain": 4.0}},
    "LeakyRelu": {**_NONLINEAR, "steep": {"alpha": 0.3}},
    "Elu": {**_NONLINEAR, "alpha": {"alpha": 0.5}},
    "Shrink": {"plain": {"gain": 2.0}, "bias": {"gain": 2.0, "lambd": 0.3, "bias": 0.3}},
    "ThresholdedRelu": {"plain": {"gain": 3.0}, "alpha": {"alpha": 0.2}},
    "Gelu": {**_NONLINEAR, "tanh": {"approximate": "tanh", "gain": 4.0}},
    "Swish": {**_NONLINEAR, "alpha": {"alpha": 1.5}},
    "Clip": {
        "both": {},
        "relu6": {"low": 0.0, "high": 6.0, "gain": 9.0, "same_scale": False},
        "low-only": {"high": None},
        "high-only": {"low": None},
        "opset10": {"opset": 10},
    },
    "PRelu": {
        "per-channel": {},
        "shared": {"per_channel": False},
        "quantized-slope": {"quantized": True},
    },
    "BatchNormalization": {"4d": {}, "3d": {"shape": (2, 5, 9)}, "relu": {"then": "Relu"}},
    "LayerNormalization": {
        "last": {},
        "no-bias": {"bias": False},
        "two-axes": {"axis": -2},
        "gain": {"gain": 5.0},
    },
    "RMSNormalization": {"last": {}, "two-axes": {"axis": -2}},
    "InstanceNormalization": {"4d": {}, "3d": {"shape": (2, 3, 20)}},
    "GroupNormalization": {"two": {"groups": 2}, "three": {"groups": 3}},
    "Softmax": _SOFTMAX,
    "LogSoftmax": {"last": {}},
    "MaxPool": _POOL,
    "AveragePool": {
        **_POOL,
        "include-pad": {"kernel": 3, "strides": 2, "pads": 1, "count_include_pad": 1},
        "include-pad-ceil": {
            "kernel": 3, "strides": 2, "pads": 1, "count_include_pad": 1, "ceil_mode": 1,
            "shape": (1, 3, 8, 8), "opset": 19,
        },
        "whole": {"kernel": (7, 9)},
    },
    "GlobalAveragePool": {"4d": {}, "3d": {"shape": (2, 4, 11)}, "large": {"shape": (1, 2, 31, 33)}},
    "GlobalMaxPool": {"4d": {}, "3d": {"shape": (2, 4, 11)}},
    **dict.fromkeys(REDUCTIONS, _REDUCE),
    "Resize": _RESIZE,
    "Concat": {
        "channels": {},
        "spatial": {"axis": -1},
        "uneven": {"other_shape": (1, 5, 7, 9)},
        "constant": {"other": "constant"},
        "self": {"other": "self"},
        "batch": {"axis": 0},
        "rank2": {"shape": (2, 7)},
    },
    "Split": {
        "sizes": {"sizes": (1, 2)},
        "equal": {"axis": 3, "parts": 3},
        "uneven-opset18": {"axis": 2, "parts": 2, "opset": 18},
        "opset11": {"sizes": (1, 2), "opset": 11},
        "rows": {"axis": 0, "sizes": (1, 2), "shape": (3, 5)},
    },
    "Slice": {
        "tail": {},
        "step": {"starts": (0,), "ends": (9,), "steps": (2,)},
        "two-axes": {"starts": (1, 2), "ends": (-1, 7), "axes": (2, 3)},
        "reverse": {"starts": (-1,), "ends": (-1000,), "steps": (-1,)},
        "channels": {"starts": (1,), "ends": (3,), "axes": (1,)},
        "focus": {"starts": (0, 1), "ends": (100, 100), "axes": (2, 3), "steps": (2, 2)},
    },
    "Pad": {
        "zeros": {"pads": (0, 0, 1, 2, 0, 0, 2, 0)},
        "value": {"pads": (0, 0, 1, 1, 0, 0, 1, 1), "value": 0.5},
        "channels": {"pads": (0, 1, 0, 0, 0, 2, 0, 0)},
        "reflect": {"pads": (0, 0, 1, 2, 0, 0, 2, 1), "mode": "reflect"},
        "edge": {"pads": (0, 0, 1, 2, 0, 0, 2, 1), "mode": "edge"},
        "crop": {"pads": (0, 0, -1, 1, 0, 0, 0, -2)},
    },
    "Reshape": {"flat": {}, "split-channels": {"to": (0, 3, 7, 9, 1)}, "merge": {"to": (3, -1)}},
    "Flatten": {"axis1": {}, "axis2": {"axis": 2}, "axis0": {"axis": 0}, "last": {"axis": -1}},
    "Unsqueeze": {"front": {}, "two": {"axes": (0, 3), "shape": (5, 6)}, "opset11": {"opset": 11}},
    "Squeeze": {"front": {}, "two": {"axes": (0, 2)}, "opset11": {"opset": 11}},
    "Transpose": {
        "nhwc": {"perm": (0, 2, 3, 1)},
        "reverse": {},
        "heads": {"shape": (1, 5, 2, 8), "perm": (0, 2, 1, 3)},
        "matrix": {"shape": (5, 9)},
        "five": {"shape": (1, 2, 3, 4, 5), "perm": (0, 3, 1, 4, 2)},
    },
    "DepthToSpace": {"dcr": {}, "crd": {"mode": "CRD"}},
    "SpaceToDepth": {"two": {}},
    "Gather": {
        "pair": {},
        "rows": {"axis": 0, "shape": (4, 5)},
        "scalar": {"indices": 1},
        "last": {"axis": -1, "indices": (8, 0, 3, 3)},
    },
    "Expand": {"both": {"to": (2, 3, 4, 5)}, "lower-rank": {"to": (4, 1)}},
    "Tile": {"spatial": {"repeats": (1, 1, 2, 3)}, "all": {"repeats": (2, 2, 1, 1)}},
}  # fmt: skip
