"""The placement table: every node of the user's model, where it runs, and why."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.networks import Network
from compiler.reading import model
from openbpu.arch.errors import OpenbpuError
from openbpu.arch.hbm import read_hbm, to_bytes
from openbpu.arch.march import get_march
from openbpu.arch.program import NO_COST, BpuSegment, CpuSegment, Placement
from openbpu.compiler import check
from openbpu.compiler import compile as compile_model
from openbpu.evaluation.reference.kernel import Array
from openbpu.runtime import Session
from witness.builder import Style
from witness.random_graphs import qdq_models

IMAGE = (1, 4, 6, 6)
MARCHES = ("nash-e", "bayes-e")


def mixed_network(style: str = "int8") -> Network:
    """BPU, CPU, BPU."""
    b = Network(IMAGE, 21, Style(style))
    x = b.layer(b.x, 4)
    x = b.qdq(b.node("LRN", x, size=3))
    b.finished(b.layer(x, 4))
    return b


def of(rows: tuple[Placement, ...], op: str) -> list[Placement]:
    return [r for r in rows if r.op == op]


# --- what holds for every model ---------------------------------------------------------------------------


CASES = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@CASES
@given(qdq_models(), st.sampled_from(MARCHES))
def test_every_row_points_at_what_runs_the_node(
    case: tuple[onnx.ModelProto, dict[str, Array]], march: str
) -> None:
    program = compile_model(case[0], march=march, opt=0)
    for row in program.placement:
        if row.segment >= 0:
            kind = BpuSegment if row.on == "BPU" else CpuSegment
            assert isinstance(program.segments[row.segment], kind), row
        if row.layer >= 0:
            assert row.node in program.debug[row.layer].origins
    if march == "nash-e":  # bayes dequantizes accumulators on the CPU, nodes of nobody's
        on_cpu = {i for i, s in enumerate(program.segments) if isinstance(s, CpuSegment)}
        assert on_cpu <= {row.segment for row in program.placement if row.on == "CPU"}


@CASES
@given(qdq_models(), st.sampled_from(MARCHES))
def test_every_node_is_in_the_table_once_and_on_the_cpu_with_a_reason(
    case: tuple[onnx.ModelProto, dict[str, Array]], march: str
) -> None:
    rows = check(case[0], march=march)
    names = [n.name for n in case[0].graph.node if n.op_type not in ("QuantizeLinear", "DequantizeLinear")]
    found = [r.node for r in rows if r.op not in ("QuantizeLinear", "DequantizeLinear")]
    assert sorted(found) == sorted(set(found))
    assert set(found) <= set(names)
    assert all(r.reason and r.fix for r in rows if r.on == "CPU")


@CASES
@given(qdq_models(), st.sampled_from(MARCHES))
def test_checking_says_what_compiling_does(
    case: tuple[onnx.ModelProto, dict[str, Array]], march: str
) -> None:
    assert check(case[0], march=march) == compile_model(case[0], march=march, opt=0).placement


# --- segments ---------------------------------------------------------------------------------------------


def test_rows_come_in_the_order_of_the_model() -> None:
    proto = mixed_network().model()
    rows = [r.node for r in check(proto, march="nash-e")]
    assert rows == [n.name for n in proto.graph.node if n.name in rows]


def test_segments_are_numbered_as_they_run() -> None:
    rows = check(mixed_network().model(), march="nash-e")
    assert [(r.op, r.on, r.segment) for r in rows if r.op in ("Conv", "LRN")] == [
        ("Conv", "BPU", 0),
        ("LRN", "CPU", 1),
        ("Conv", "BPU", 2),
    ]


def test_fused_operators_share_a_layer() -> None:
    program = compile_model(mixed_network().model(), march="nash-e")
    conv, relu = (of(program.placement, op)[0] for op in ("Conv", "Relu"))
    assert conv.layer == relu.layer
    assert program.debug[conv.layer].origins == (conv.node, relu.node)


def test_quantizers_inside_an_integer_segment_have_no_row() -> None:
    b = Network(IMAGE)
    b.finished(b.residual(b.layer(b.x, 4)))
    rows = check(b.model(), march="nash-e")
    assert [len(of(rows, op)) for op in ("QuantizeLinear", "DequantizeLinear")] == [1, 1]


@pytest.mark.parametrize(("march", "side"), [("nash-e", "BPU"), ("bayes-e", "CPU")])
def test_quantizers_at_the_ends_run_where_the_march_quantizes(march: str, side: str) -> None:
    b = Network(IMAGE)
    b.finished(b.layer(b.x, 4))
    rows = check(b.model(), march=march)
    assert {r.on for r in (*of(rows, "QuantizeLinear"), *of(rows, "DequantizeLinear"))} == {side}


def test_nodes_that_vanish_say_so() -> None:
    proto = model(
        "g (float[1,4] x) => (float y) <float s = {0.5}, int8 z = {0}> {"
        " q = QuantizeLinear(x, s, z) f = DequantizeLinear(q, s, z) a = Transpose<perm = [0, 1]>(f)"
        " b = Transpose<perm = [1, 0]>(a) c = Transpose<perm = [1, 0]>(b) d = Sigmoid(c)"
        " r = QuantizeLinear(d, s, z) y = DequantizeLinear(r, s, z) }"
    )
    rows = check(proto, march="nash-e")
    assert all(r.on == "BPU" for r in rows)
    assert {r.reason for r in of(rows, "Transpose")} <= {"", "folded: nothing is left to run"}


def test_in_a_float_model_every_reason_is_that_it_is_not_quantized() -> None:
    proto = model(
        "g (float[1,2,4,4] x) => (float y) <float[2,2,1,1] w = {1,0,0,1}> { c = Conv(x, w) r = Relu(c)"
        " f = Flatten(r) n = NonZero(f) y = Cast<to = 1>(n) }"
    )
    rows = check(proto, march="nash-e")
    assert all(r.on == "CPU" for r in rows)
    for op in ("Conv", "Relu", "Flatten"):
        (row,) = of(rows, op)
        assert row.reason == "the model is not quantized"
        assert "openbpu quantize" in row.fix
    assert of(rows, "NonZero")[0].reason == "no BPU unit for this operator"


# --- ends of unsigned codes -------------------------------------------------------------------------------


def unsigned_ends() -> onnx.ModelProto:
    """A camera's uint8 in, uint8 out, as QLinearConv has it."""
    return model(
        "g (uint8[1,2,4,4] x) => (uint8 y) <float a = {1}, uint8 b = {0}, int8[2,2,1,1] w = {1,0,0,1},"
        " float c = {0.5}, int8 d = {0}, float e = {2}, uint8 f = {128}>"
        " { y = QLinearConv(x, a, b, w, c, d, e, f) }"
    )


@pytest.mark.parametrize("march", MARCHES)
def test_turning_the_sign_of_codes_at_the_ends_has_rows_and_a_cost(march: str) -> None:
    program = compile_model(unsigned_ends(), march=march)
    rows = [r for r in program.placement if r.on == "CPU"]
    assert [(r.op, r.segment) for r in rows] == [("DequantizeLinear", 0), ("QuantizeLinear", 2)]
    assert "input 'x' from uint8" in rows[0].reason
    assert "output 'y' to uint8" in rows[1].reason
    assert all("int8: codes and zero point 128 lower" in r.fix for r in rows)
    latency = Session(program).latency
    assert [s.on for s in latency.segments] == ["CPU", "BPU", "CPU"]
    assert all(s.microseconds > 0 for s in latency.segments)


# --- costs ------------------------------------------------------------------------------------------------


def test_a_node_between_two_segments_says_what_it_costs() -> None:
    program = compile_model(mixed_network().model(), march="nash-e")
    (row,) = of(program.placement, "LRN")
    assert (row.cost.splits, row.cost.nodes) == (1, 1)
    assert row.cost.bytes_in == row.cost.bytes_out == 4 * 4 * 6 * 6  # float32 both ways
    assert row.cost.handover_us == get_march("nash-e").cpu.handover_us
    told = row.cost.cpu_us + row.cost.handover_us
    assert told == pytest.approx(Session(program).latency.segments[1].microseconds)


def test_a_node_at_an_end_splits_nothing_and_is_not_handed_over() -> None:
    b = Network(IMAGE)
    x = b.layer(b.x, 4)
    b.finished(b.node("LRN", x, size=3))
    (row,) = of(check(b.model(), march="nash-e"), "LRN")
    assert (row.cost.splits, row.cost.handover_us, row.cost.bytes_out) == (0, 0, 0)
    assert row.cost.bytes_in == 4 * 4 * 6 * 6
    assert row.cost.cpu_us > 0


def test_nodes_of_one_segment_say_that_they_share_it() -> None:
    b = Network(IMAGE)
    x = b.layer(b.x, 4)
    x = b.qdq(b.node("LRN", b.node("LRN", x, size=3), size=3))
    b.finished(b.layer(x, 4))
    first, second = of(check(b.model(), march="nash-e"), "LRN")
    assert (first.cost.nodes, second.cost.nodes) == (2, 2)
    assert (first.cost.bytes_in > 0, first.cost.bytes_out) == (True, 0)
    assert (second.cost.bytes_in, second.cost.bytes_out > 0) == (0, True)


@pytest.mark.parametrize("march", MARCHES)
def test_what_is_on_the_bpu_costs_the_cpu_nothing_and_all_else_something(march: str) -> None:
    rows = check(mixed_network().model(), march=march)
    assert all((r.cost == NO_COST) == (r.on == "BPU") for r in rows)


def test_costs_are_kept_in_the_file_and_none_is_negative() -> None:
    program = compile_model(mixed_network().model(), march="nash-e")
    assert read_hbm(to_bytes(program)).placement == program.placement
    rows = tuple(replace(r, cost=replace(r.cost, bytes_in=-1)) for r in program.placement)
    with pytest.raises(OpenbpuError, match="a cost"):
        to_bytes(replace(program, placement=rows))


# --- dtypes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("style", "dtypes"),
    [("int8", "int8/int8"), ("uint8", "int8/int8"), ("int16", "int16/int16"), ("uint16", "int16/int16")],
)
def test_a_node_on_the_bpu_shows_the_types_of_its_codes(style: str, dtypes: str) -> None:
    rows = check(mixed_network(style).model(), march="nash-e")
    assert {r.dtypes for r in rows if r.op in ("Conv", "Relu")} == {dtypes}


def test_a_node_on_the_cpu_shows_its_floats() -> None:
    assert of(check(mixed_network().model(), march="nash-e"), "LRN")[0].dtypes == "float/float"


def test_a_last_layer_that_is_not_quantized_shows_its_accumulator() -> None:
    b = Network(IMAGE)
    b.finished(b.conv(b.x, 4))
    assert of(check(b.model(), march="nash-e"), "Conv")[0].dtypes == "int8/int32"


def test_a_mix_of_types_shows_both() -> None:
    b = Network(IMAGE, 21)
    b.finished(b.qdq(b.conv(b.x, 4), Style("int16")))
    assert of(check(b.model(), march="nash-e"), "Conv")[0].dtypes == "int8/int16"


# --- where the user wrote it ------------------------------------------------------------------------------


def test_what_the_exporter_says_about_a_node_reaches_the_table_and_the_debug_map() -> None:
    proto = mixed_network().model()
    conv = next(n for n in proto.graph.node if n.op_type == "Conv")
    for key, value in {
        "pkg.torch.onnx.name_scopes": "['', 'backbone', 'backbone.stem', 'conv2d']",
        "pkg.torch.onnx.stack_trace": 'File "/home/me/net.py", line 12, in forward\\n    x = self.stem(x)',
    }.items():
        conv.metadata_props.add(key=key, value=value)
    program = compile_model(proto, march="nash-e")
    row = of(program.placement, "Conv")[0]
    assert row.scope == program.debug[row.layer].scope == "backbone.stem"
    assert row.source == program.debug[row.layer].source
    assert "net.py" in row.source


def test_what_the_older_exporter_says_in_doc_strings_reaches_the_table_too() -> None:
    proto = mixed_network().model()
    node = next(n for n in proto.graph.node if n.op_type == "LRN")
    node.name = "/head/LRN"
    node.doc_string = (
        "/usr/lib/site-packages/torch/nn/functional.py(99): norm\n/home/me/net.py(31): forward\n"
        "/usr/lib/site-packages/torch/nn/modules/module.py(1501): _slow_forward\n"
    )
    (row,) = of(check(proto, march="nash-e"), "LRN")
    assert (row.scope, row.source) == ("head", "net.py:31")


def test_a_node_on_the_cpu_says_where_it_was_written_too() -> None:
    proto = mixed_network().model()
    node = next(n for n in proto.graph.node if n.op_type == "LRN")
    node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'head', 'lrn']")
    assert of(check(proto, march="nash-e"), "LRN")[0].scope == "head"
