"""Operators that changed between opset 7 and now come out of the reader in one form, computing the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import defs

from compiler.reading import feeds_of, model, ops, read_equal, run, the
from openbpu.arch.errors import ModelError
from openbpu.compiler.reader import read_model, to_onnx
from openbpu.compiler.reader.check import OLDEST_OPSET
from openbpu.compiler.reader.rules import UPGRADES
from openbpu.compiler.reader.schemas import FORM_OPSET


def _interface(schema: defs.OpSchema) -> tuple[list[str], dict[str, str]]:
    attributes = {name: f"{a.required} {a.default_value}" for name, a in schema.attributes.items()}
    return [i.name for i in schema.inputs], attributes


def _changed(oldest: int, newest: int) -> set[str]:
    """Operators that between two opsets lost or renamed an argument or changed a default."""
    history: dict[str, dict[int, defs.OpSchema]] = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "" and schema.since_version <= newest:
            history.setdefault(schema.name, {})[schema.since_version] = schema
    changed = set()
    for name, versions in history.items():
        first = max((v for v in versions if v <= oldest), default=min(versions))
        inputs, attributes = _interface(versions[first])
        new_inputs, new_attributes = _interface(versions[max(versions)])
        if new_inputs[: len(inputs)] != inputs or not attributes.items() <= new_attributes.items():
            changed.add(name)
    return changed


def test_every_operator_whose_interface_changed_has_a_rule() -> None:
    ruled = {op for domain, op in UPGRADES if not domain}
    assert _changed(OLDEST_OPSET, FORM_OPSET) - ruled == {"Constant"}  # Constant nodes never stay


def test_no_interface_changed_since_the_one_form() -> None:
    assert _changed(FORM_OPSET, defs.onnx_opset_version()) == set()


CASES = {
    "Clip": (9, "g (float[2,3] x) => (float[2,3] y) { y = Clip <min = 0.0, max = 2.0> (x) }"),
    "Clip without bounds": (9, "g (float[2,3] x) => (float[2,3] y) { y = Clip (x) }"),
    "Pad": (9, "g (float[2,3] x) => (float[4,5] y) { y = Pad <pads = [1,0,1,2], value = 3.0> (x) }"),
    "Slice": (9, "g (float[4,5] x) => (float[2,5] y) { y = Slice <starts = [1], ends = [3]> (x) }"),
    "Squeeze": (9, "g (float[1,5,1] x) => (float[5,1] y) { y = Squeeze <axes = [0]> (x) }"),
    "Squeeze all": (9, "g (float[1,5,1] x) => (float[5] y) { y = Squeeze (x) }"),
    "Unsqueeze": (9, "g (float[5] x) => (float[1,5,1] y) { y = Unsqueeze <axes = [0,2]> (x) }"),
    "ReduceMean": (
        9,
        "g (float[2,3,4] x) => (float[2,4] y) { y = ReduceMean <axes = [1], keepdims = 0> (x) }",
    ),
    "ReduceSum": (11, "g (float[2,3,4] x) => (float[2,3,1] y) { y = ReduceSum <axes = [-1]> (x) }"),
    "ReduceMax all": (9, "g (float[2,3,4] x) => (float[1,1,1] y) { y = ReduceMax (x) }"),
    "Split": (
        11,
        "g (float[5,2] x) => (float[2,2] y, float[3,2] z) { y, z = Split <axis = 0, split = [2,3]> (x) }",
    ),
    "Split evenly": (13, "g (float[4,2] x) => (float[2,2] y, float[2,2] z) { y, z = Split (x) }"),
    "TopK": (9, "g (float[2,5] x) => (float[2,3] y, int64[2,3] i) { y, i = TopK <k = 3> (x) }"),
    "Dropout": (9, "g (float[2,3] x) => (float[2,3] y) { t = Dropout (x) y = Relu(t) }"),
    "Softmax over all but the batch": (9, "g (float[2,3,4] x) => (float[2,3,4] y) { y = Softmax (x) }"),
    "Softmax of a row": (9, "g (float[2,3] x) => (float[2,3] y) { y = Softmax (x) }"),
    "Softmax of nothing": (9, "g (float[2,3,0] x) => (float[2,3,0] y) { y = Softmax (x) }"),
    "Softmax with a thin tail": (9, "g (float[2,7,1,1] x) => (float[2,7,1,1] y) { y = Softmax (x) }"),
    "LogSoftmax": (11, "g (float[2,3,4] x) => (float[2,3,4] y) { y = LogSoftmax <axis = 2> (x) }"),
    "Hardmax": (11, "g (float[2,3,4] x) => (float[2,3,4] y) { y = Hardmax <axis = 1> (x) }"),
    "Softmax of opset 13": (13, "g (float[2,3,4] x) => (float[2,3,4] y) { y = Softmax <axis = 1> (x) }"),
    "Upsample": (
        9,
        "g (float[1,1,2,2] x) => (float[1,1,4,6] y) <float[4] s = {1,1,2,3}> { y = Upsample (x, s) }",
    ),
    "Upsample linear": (
        9,
        (
            "g (float[1,1,2,3] x) => (float[1,1,4,6] y) <float[4] s = {1,1,2,2}>"
            ' { y = Upsample <mode = "linear"> (x, s) }'
        ),
    ),
    "Resize of opset 10": (
        10,
        "g (float[1,1,4,4] x) => (float[1,1,2,2] y) <float[4] s = {1,1,0.5,0.5}> { y = Resize (x, s) }",
    ),
    "Resize of opset 11": (
        11,
        (
            "g (float[1,1,2,2] x) => (float[1,1,4,4] y) <float[0] e = {}, float[4] s = {1,1,2,2}>"
            ' { y = Resize <coordinate_transformation_mode = "tf_half_pixel_for_nn", nearest_mode = "floor">'
            " (x, e, s) }"
        ),
    ),
    "Resize with axes": (
        18,
        "g (float[1,1,2,2] x) => (float[1,1,4,2] y) <float[1] s = {2}> { y = Resize <axes = [2]> (x, , s) }",
    ),
    "Scatter": (
        9,
        (
            "g (float[1,5] x) => (float[1,5] y) <int64[1,2] i = {1,3}, float[1,2] u = {1.1, 2.1}>"
            " { y = Scatter <axis = 1> (x, i, u) }"
        ),
    ),
    "BatchNormalization": (
        9,
        (
            "g (float[1,2,3] x) => (float[1,2,3] y) <float[2] s = {1,2}, float[2] b = {0,1},"
            " float[2] m = {0,1}, float[2] v = {1,2}> { y = BatchNormalization (x, s, b, m, v) }"
        ),
    ),
    "GridSample": (
        16,
        (
            "g (float[1,1,3,3] x, float[1,2,2,2] p) => (float[1,1,2,2] y)"
            ' { y = GridSample <mode = "bilinear"> (x, p) }'
        ),
    ),
    "GroupNormalization": (
        18,
        (
            "g (float[1,4,3] x) => (float[1,4,3] y) <float[2] s = {1,2}, float[2] b = {3,4}>"
            " { y = GroupNormalization <num_groups = 2> (x, s, b) }"
        ),
    ),
    "RoiAlign": (
        10,
        (
            "g (float[1,1,6,6] x) => (float[1,1,2,2] y) <float[1,4] r = {0,0,4,4}, int64[1] b = {0}>"
            " { y = RoiAlign <output_height = 2, output_width = 2, sampling_ratio = 2> (x, r, b) }"
        ),
    ),
    "DFT": (17, "g (float[1,4,1] x) => (float[1,4,2] y) { y = DFT <axis = 1> (x) }"),
    "Pad with axes": (
        18,
        "g (float[2,3] x) => (float[2,6] y) <int64[2] p = {1,2}, int64[1] a = {1}> { y = Pad (x, p, , a) }",
    ),
    "auto_pad": (
        13,
        (
            "g (float[1,1,5,6] x) => (float[1,1,3,3] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}>"
            ' { y = Conv <auto_pad = "SAME_LOWER", strides = [2,2]> (x, w) }'
        ),
    ),
    "auto_pad of a pool": (
        13,
        (
            "g (float[1,1,5,6] x) => (float[1,1,3,3] y)"
            ' { y = MaxPool <auto_pad = "SAME_UPPER", kernel_shape = [2,3], strides = [2,2]> (x) }'
        ),
    ),
    "num_outputs": (
        18,
        "g (float[5,2] x) => (float[3,2] y, float[2,2] z) { y, z = Split <num_outputs = 2> (x) }",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_one_form_computes_what_the_old_one_did(name: str) -> None:
    opset, text = CASES[name]
    graph = read_equal(model(text, opset))
    onnx.checker.check_model(to_onnx(graph), full_check=True)
    assert graph.opsets[""] >= FORM_OPSET
    assert all(value.shape is not None for value in graph.values.values())


FORMS = {
    "Clip": ({"attrs": {}, "inputs": [None, 0.0, 2.0]}),
    "Slice": ({"attrs": {}, "inputs": [None, [1], [3], [0], [1]]}),
    "Squeeze": ({"attrs": {}, "inputs": [None, [0]]}),
    "ReduceMean": ({"attrs": {"keepdims": 0}, "inputs": [None, [1]]}),
    "Softmax": ({"attrs": {"axis": 1}, "inputs": [None]}),
    "Split": ({"attrs": {"axis": 0}, "inputs": [None, [2, 3]]}),
}


@pytest.mark.parametrize("op", FORMS)
def test_arguments_are_inputs(op: str) -> None:
    opset, text = CASES["Softmax with a thin tail" if op == "Softmax" else op]
    assert the(read_model(model(text, opset)), op) == FORMS[op]


def test_axes_left_out_are_written_out() -> None:
    opset, text = CASES["ReduceMax all"]
    assert the(read_model(model(text, opset)), "ReduceMax")["inputs"] == [None, [0, 1, 2]]


def test_dropout_is_gone() -> None:
    assert ops(read_model(model(CASES["Dropout"][1], 9))) == {"Relu": 1}


def test_dropout_whose_mask_is_read_stays() -> None:
    text = "g (float[3] x) => (float[3] y, bool[3] m) { y, m = Dropout (x) }"
    assert ops(read_model(model(text, 13))) == {"Dropout": 1}


def test_upsample_is_resize_without_halves() -> None:
    graph = read_model(model(CASES["Upsample"][1], 9))
    assert the(graph, "Resize")["attrs"] == {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }


def test_auto_pad_becomes_pads() -> None:
    graph = read_model(model(CASES["auto_pad"][1], 13))
    assert the(graph, "Conv")["attrs"] == {"strides": (2, 2), "pads": (1, 1, 1, 0)}


def test_valid_becomes_no_pads() -> None:
    text = (
        "g (float[1,1,5,5] x) => (float[1,1,4,4] y)"
        ' { y = AveragePool <auto_pad = "VALID", kernel_shape = [2,2]> (x) }'
    )
    assert the(read_model(model(text)), "AveragePool")["attrs"] == {
        "kernel_shape": (2, 2),
        "pads": (0, 0, 0, 0),
    }


def test_16_bit_quantizers_of_onnxruntime_become_standard() -> None:
    text = (
        "g (float[3] x) => (float[3] y) <float s = {0.5}, int16 z = {0}>"
        " { q = com.microsoft.QuantizeLinear (x, s, z) y = com.microsoft.DequantizeLinear (q, s, z) }"
    )
    graph = read_equal(model(text, 17, '"com.microsoft": 1'))
    assert [(node.domain, node.op) for node in graph.nodes] == [
        ("", "QuantizeLinear"),
        ("", "DequantizeLinear"),
    ]
    assert graph.opsets == {"": FORM_OPSET}


def test_unused_optional_outputs_are_cut_off() -> None:
    text = "g (float[1,1,4,4] x) => (float[1,1,3,3] y) { y, i = MaxPool <kernel_shape = [2,2]> (x) }"
    (node,) = read_model(model(text)).nodes
    assert node.outputs == ("y",)


def test_opsets_are_as_old_as_the_operators_allow() -> None:
    newest = min(defs.onnx_opset_version(), 26)
    old = read_model(model("g (float[3] x) => (float[3] y) { y = Add (x, x) }", newest))
    new = read_model(model("g (float[3] x) => (float[3] y) { y = Sin (x) }", newest))
    assert (old.opsets[""], new.opsets[""]) == (21, 22)


def test_bodies_of_control_flow_are_brought_to_the_same_opset() -> None:
    text = """
    g (bool c, float[2,3] x) => (float[2] y) {
        y = If (c) <
            then_branch = t () => (float[2] a) {
                s = ReduceSum <axes = [1], keepdims = 0> (x)
                a = Clip <min = 0.5> (s)
            },
            else_branch = e () => (float[2] b) { b = ReduceMax <axes = [1], keepdims = 0> (x) }
        >
    }"""
    proto = model(text, 10)
    for condition in (True, False):
        feeds = {**feeds_of(proto), "c": np.array(condition)}
        graph = read_equal(proto, feeds)
    assert graph.nodes[0].captures == ("x",)


def test_branch_of_a_known_condition_is_inlined() -> None:
    text = """
    g (float[2,3] x) => (float[2,3] y) {
        c = Constant <value = bool {1}> ()
        t = If (c) <
            then_branch = t () => (float[2,3] a) { s = Relu (x) a = Neg (s) },
            else_branch = e () => (float[2,3] b) { b = Abs (x) }
        >
        y = Sigmoid (t)
    }"""
    assert ops(read_equal(model(text, 17))) == {"Relu": 1, "Neg": 1, "Sigmoid": 1}


def test_training_outputs_of_old_batch_normalization_are_refused() -> None:
    text = (
        "g (float[1,2,3] x, float[2] s, float[2] b, float[2] m, float[2] v) => (float[1,2,3] y, float[2] q)"
        " { y, o, p, q = BatchNormalization (x, s, b, m, v) }"
    )
    with pytest.raises(ModelError, match="outputs in use must be the first three, not 4"):
        read_model(model(text, 9))


def test_opset_6_broadcasting_is_understood() -> None:
    text = "g (float[2,3] x, float[2] z) => (float[2,3] y) { y = Add <broadcast = 1, axis = 0> (x, z) }"
    proto = model(text, 6)
    feeds = feeds_of(proto)
    (result,) = run(to_onnx(read_model(proto)), feeds)
    assert np.allclose(result, np.asarray(feeds["x"]) + np.asarray(feeds["z"])[:, None])


def test_sizes_of_some_axes_are_sizes_of_all_axes() -> None:
    how = 'mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"'
    text = f"{{ y = Resize<axes = [3, 2], {how}>(x, , , n) }}"
    proto = model(f"g (float[1,2,3,4] x) => (float[1,2,6,5] y) <int64[2] n = {{5, 6}}> {text}")
    assert the(read_equal(proto), "Resize")["inputs"] == [None, None, None, [1, 2, 6, 5]]
