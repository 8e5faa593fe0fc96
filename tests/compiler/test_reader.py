"""What a graph that was read looks like."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper

from compiler.reading import model, ops, read_equal
from openbpu.compiler.ir.graph import Graph, Node, Value
from openbpu.compiler.reader import read_model, to_onnx

CONV = """
g (float[1,1,4,4] x) => (float[1,2,4,4] y) <float[2,1,1,1] w = {1, 2}> { t = Conv (x, w) y = Relu (t) }
"""


def _same(one: Graph, two: Graph) -> bool:
    return one == two and all(_bytes(value) == _bytes(two.values[name]) for name, value in one.values.items())


def _bytes(value: Value) -> bytes:
    return b"" if value.const is None else value.const.tobytes()


def test_shapes_and_dtypes_are_known() -> None:
    graph = read_model(model(CONV))
    assert {n: (v.shape, v.dtype) for n, v in graph.values.items()} == {
        "x": ((1, 1, 4, 4), "float32"),
        "w": ((2, 1, 1, 1), "float32"),
        "t": ((1, 2, 4, 4), "float32"),
        "y": ((1, 2, 4, 4), "float32"),
    }
    assert (graph.inputs, graph.outputs) == (("x",), ("y",))


def test_reading_twice_gives_the_same_graph() -> None:
    assert _same(read_model(model(CONV)), read_model(model(CONV)))


def test_what_was_read_reads_the_same_again() -> None:
    graph = read_model(model(CONV))
    again = read_model(to_onnx(graph))
    assert [(n.op, n.inputs, n.outputs, n.attrs, n.name) for n in again.nodes] == [
        (n.op, n.inputs, n.outputs, n.attrs, n.name) for n in graph.nodes
    ]


def test_the_given_model_is_not_changed() -> None:
    proto = model(CONV, 9)
    before = proto.SerializeToString(deterministic=True)
    read_model(proto)
    assert proto.SerializeToString(deterministic=True) == before


def test_nodes_in_any_order_are_sorted() -> None:
    proto = model(CONV)
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(nodes))
    assert [node.op for node in read_model(proto).nodes] == ["Conv", "Relu"]


def test_weights_listed_as_inputs_are_constants() -> None:
    proto = model(CONV, 9)
    proto.graph.input.append(helper.make_tensor_value_info("w", 1, [2, 1, 1, 1]))
    graph = read_model(proto)
    assert graph.inputs == ("x",)
    assert graph.const("w") is not None


def test_every_node_has_a_name_of_its_own() -> None:
    proto = model("g (float[3] x) => (float[3] y) { a = Relu (x) b = Neg (a) c = Abs (b) y = Relu (c) }")
    proto.graph.node[0].name = "same"
    proto.graph.node[2].name = "same"
    assert [node.name for node in read_model(proto).nodes] == ["same", "Neg_1", "same_1", "Relu_3"]


def test_dead_nodes_and_their_constants_are_gone() -> None:
    graph = read_model(
        model("g (float[3] x) => (float[3] y) <float[3] c = {1,2,3}> { y = Relu (x) d = Add (x, c) }")
    )
    assert ops(graph) == {"Relu": 1}
    assert set(graph.values) == {"x", "y"}


@pytest.mark.parametrize(
    "text",
    [
        "t = Relu (x) i = Identity (t) y = Neg (i)",
        "t = Relu (x) i = Cast <to = 1> (t) y = Neg (i)",
        "t = Relu (x) i = Transpose <perm = [0, 1]> (t) y = Neg (i)",
        "t = Relu (x) s = Shape (x) i = Reshape (t, s) y = Neg (i)",
        "t = Relu (x) i = Flatten (t) y = Neg (i)",
        "t = Relu (x) i = Identity (t) j = Identity (i) z = Neg (j) y = Identity (z)",
    ],
)
def test_nodes_that_do_nothing_are_gone(text: str) -> None:
    graph = read_equal(model(f"g (float[2,3] x) => (float[2,3] y) {{ {text} }}"))
    assert ops(graph) == {"Relu": 1, "Neg": 1}
    assert graph.outputs == ("y",)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("y = Identity (x)", {"Identity": 1}),
        ("t = Shape (x) y = Cast <to = 1> (t)", {"Identity": 1}),
        ("y = Relu (x) z = Identity (y)", {"Relu": 1, "Identity": 1}),
        ("t = Relu (x) y = Identity (t) z = Identity (t)", {"Relu": 1, "Identity": 1}),
    ],
)
def test_outputs_that_are_copies_keep_their_names(text: str, left: dict[str, int]) -> None:
    more = ", float[2] z" if "z =" in text else ""
    graph = read_equal(
        model(f"g (float[2] x) => (float[{1 if 'Shape' in text else 2}] y{more}) {{ {text} }}")
    )
    assert ops(graph) == left
    assert graph.outputs == (("y", "z") if more else ("y",))


def _torch_node() -> ModelProto:
    proto = model(CONV)
    scopes = "['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d']"
    trace = (
        'File "/home/me/net.py", line 12, in forward\n    x = self.layer1(x)\n'
        '  File "/usr/lib/python3/site-packages/torch/nn/modules/conv.py", line 9, in forward\n    return 1'
    )
    for key, value in {"name_scopes": scopes, "stack_trace": trace}.items():
        proto.graph.node[0].metadata_props.add(key=f"pkg.torch.onnx.{key}", value=value)
    proto.graph.node[1].name = "/layer1/layer1.0/act/Relu"
    return proto


def test_origin_says_module_and_line() -> None:
    conv, relu = read_model(_torch_node()).nodes
    (origin,) = conv.origins
    assert (origin.op_type, origin.scope, origin.source) == ("Conv", "layer1.0.conv1", "net.py:12")
    assert relu.origins[0].scope == "layer1.0.act"
    assert relu.origins[0].name == relu.name


@pytest.mark.parametrize("text", ["__import__('os')", "[", "[1, 2]", "", "{}", "[[]] * 9", "\0"])
def test_strange_metadata_is_no_error(text: str) -> None:
    proto = model(CONV)
    proto.graph.node[0].metadata_props.add(key="pkg.torch.onnx.name_scopes", value=text)
    proto.graph.node[0].metadata_props.add(key="pkg.torch.onnx.stack_trace", value=text)
    assert len(read_model(proto).nodes) == 2


def test_local_functions_are_inlined() -> None:
    function = '<domain: "mine", opset_import: ["": 21]> twice (a) => (b) { t = Add (a, a) b = Relu (t) }'
    text = "g (float[3] x) => (float[3] y) <float[3] w = {1,2,3}> { z = Add (x, w) y = mine.twice (z) }"
    graph = read_equal(model(text, 21, '"mine": 1', function))
    assert ops(graph) == {"Add": 2, "Relu": 1}


def test_captured_values_are_kept() -> None:
    text = """
    g (int64 n, float[2] x) => (float[2] y) {
        c = Constant <value = bool {1}> ()
        one = Constant <value = float[2] {1, 1}> ()
        r = Identity (x)
        y = Loop (n, c, x) <body = b (int64 i, bool k, float[2] a) => (bool o, float[2] d) {
            o = Identity (k)
            e = Add (a, one)
            d = Add (e, r)
        }>
    }"""
    feeds = {"n": np.array(3), "x": np.array([1, 2], np.float32)}
    graph = read_equal(model(text), feeds)
    loop = graph.nodes[-1]
    assert set(loop.captures) == {"one", "r"}
    assert graph.const("one") is not None


def test_sequences_pass_through_with_their_type() -> None:
    text = """
    g (float[2] x) => (float[2] y, seq(float[2]) s) {
        s = SequenceConstruct (x, x)
        i = Constant <value = int64 {0}> ()
        y = SequenceAt (s, i)
    }"""
    graph = read_model(model(text))
    assert graph.values["s"].dtype == "other"
    assert graph.values["s"].onnx_type.HasField("sequence_type")
    onnx.checker.check_model(to_onnx(graph), full_check=True)


def test_quantized_weights_stay_quantized() -> None:
    text = (
        "g (float[1,2] x) => (float[1,2] y)"
        " <int8[2,2] w = {1,2,3,4}, float s = {0.5}, float[2,2] f = {1,2,3,4}>"
        " { d = DequantizeLinear (w, s) q = QuantizeLinear (f, s) e = DequantizeLinear (q, s)"
        " t = MatMul (x, d) y = MatMul (t, e) }"
    )
    assert ops(read_equal(model(text))) == {"DequantizeLinear": 2, "QuantizeLinear": 1, "MatMul": 2}


def test_attributes_survive_the_way_to_onnx() -> None:
    node = Node("Made", ("x",), ("y",), {"i": 1, "f": 0.5, "s": "t", "l": (1, 2), "m": (0.5, 1.0)})
    graph = Graph((node,), read_model(model(CONV)).values, ("x",), ("y",), {"": 21})
    (proto,) = to_onnx(graph).graph.node
    back = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
    assert back == {"i": 1, "f": 0.5, "s": b"t", "l": [1, 2], "m": [0.5, 1.0]}
