"""Random QDQ graphs: every march, every schedule, both simulators and the float64 meaning agree."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.observe import Array, quantized_tensors, run_everything
from compiler.scheduling import spread
from openbpu.arch.errors import CompileError
from openbpu.arch.march import get_march, with_values
from openbpu.arch.program import BpuSegment, Program
from openbpu.compiler import compile as compile_model
from openbpu.evaluation.inside import made_of_lines, nodes_on_cpu
from openbpu.evaluation.judge import APPROXIMATED, FUNCTIONS_OF_INT16, bound
from openbpu.evaluation.reference.compare import compare_layerwise
from openbpu.runtime import Session
from witness.random_graphs import qdq_models

BOUNDED = APPROXIMATED | FUNCTIONS_OF_INT16
MARCHES = ("bayes-e", "bayes", "nash-e", "nash-m", "nash-p")
CASES = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
MORE_CASES = settings(CASES, max_examples=1000)


def outputs(program: Program, inputs: dict[str, Array], mode: str, threads: int = 1) -> dict[str, Array]:
    return Session(program, mode=mode, threads=threads).run(inputs, finite=False).outputs  # type: ignore[arg-type]


def bounded_unseen(model: onnx.ModelProto, seen: Collection[str], lines: Collection[str]) -> set[str]:
    """The nodes whose codes have a bound of their own and are not seen.

    What an operator makes of such codes cannot be judged: a step beside them may be several behind it.
    """
    nodes = {o: node for node in model.graph.node for o in node.output}
    quantizes = [n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in nodes]
    return {
        nodes[n.input[0]].name
        for n in quantizes
        if n.output[0] not in seen and (n.output[0] in lines or BOUNDED & floats_behind(nodes, n.input[0]))
    }


def floats_behind(nodes: dict[str, onnx.NodeProto], name: str) -> set[str]:
    """The operators between the last codes and a float."""
    node = nodes.get(name)
    if node is None or node.op_type == "DequantizeLinear":
        return set()
    return {node.op_type}.union(*(floats_behind(nodes, i) for i in node.input))


def check_meaning(model: onnx.ModelProto, inputs: dict[str, Array], march: str) -> None:
    program = compile_model(model, march=march, opt=0)
    observed = quantized_tensors(model, inputs, run_everything(program, inputs))
    cpu, lines = nodes_on_cpu(program), made_of_lines(program)
    unseen = bounded_unseen(model, observed, lines)
    for report in compare_layerwise(model, observed, inputs).values():
        if unseen & {step.node for step in report.cone}:
            continue
        size = np.dtype(report.dtype).itemsize
        most = bound(report.cone, size, cpu, from16=report.from16, lines=report.name in lines)
        assert report.exact or report.max_error <= most, f"{report}, not {most:g}"


@st.composite
def schedules(draw: st.DrawFn) -> dict[str, Any]:
    """Everything that may be asked of a schedule: the march with more or less room on chip, and options."""
    name = draw(st.sampled_from(MARCHES))
    room = draw(st.sampled_from([None, None, 1 << 16, 1 << 14]))
    march = get_march(name)
    options = {
        "opt": draw(st.sampled_from([0, 1, 2, 2])),
        "balance": draw(st.sampled_from([100, 100, 60, 0])),
        "core_num": draw(st.integers(1, march.cores)),
        "max_l2m_size": draw(st.sampled_from([0, 2048, march.chip.shared_bytes])) if name == "nash-p" else 0,
    }
    return {"march": with_values(march, {"chip.chip_bytes": room}) if room else march, **options}


def check_schedule(
    model: onnx.ModelProto, inputs: dict[str, Array], schedule: dict[str, Any], seed: int
) -> None:
    """Under a drawn schedule both simulators give what the plainest schedule gives, in any order."""
    wanted = outputs(compile_model(model, march=schedule["march"].name, opt=0), inputs, "exact")
    try:
        with spread():
            program = compile_model(model, **schedule)
    except CompileError as error:
        assert "on-chip memory" in str(error)  # noqa: PT017 - a layer may be too large for the room drawn
        return
    for mode in ("exact", "fast"):
        found = outputs(program, inputs, mode)
        for name, value in wanted.items():
            np.testing.assert_array_equal(found[name], value, f"{name}, {mode}")
    assert_order_does_not_matter(program, inputs, wanted, seed)


def check_agreement(model: onnx.ModelProto, inputs: dict[str, Array], march: str, seed: int) -> None:
    wanted = outputs(compile_model(model, march=march, opt=0), inputs, "exact")
    for opt in (0, 1, 2):
        program = compile_model(model, march=march, opt=opt)
        for mode, threads in (("exact", 1), ("fast", 1), ("fast", 2)):
            found = outputs(program, inputs, mode, threads)
            for name, value in wanted.items():
                np.testing.assert_array_equal(
                    found[name], value, f"{name}, -O {opt}, {mode}, {threads} threads"
                )
        assert_order_does_not_matter(program, inputs, wanted, seed)


def assert_order_does_not_matter(
    program: Program, inputs: dict[str, Array], wanted: dict[str, Array], seed: int
) -> None:
    """Tokens alone must order the engines: any legal order gives the same bits."""
    from openbpu.simulator.exact import ExactSegment

    if len(program.segments) != 1 or not isinstance(program.segments[0], BpuSegment):
        return
    segment = program.segments[0]
    feeds = {i: inputs[program.tensors[i].name] for i in segment.inputs}
    found = ExactSegment(program, segment, order_seed=seed).run(feeds)
    for i in program.outputs:
        if i in found:
            np.testing.assert_array_equal(found[i], wanted[program.tensors[i].name])


@CASES
@given(case=qdq_models(), march=st.sampled_from(MARCHES))
def test_every_tensor_means_what_the_graph_says(
    case: tuple[onnx.ModelProto, dict[str, Array]], march: str
) -> None:
    check_meaning(*case, march)


@CASES
@given(case=qdq_models(), march=st.sampled_from(MARCHES), seed=st.integers(0, 1 << 16))
def test_schedules_and_simulators_agree(
    case: tuple[onnx.ModelProto, dict[str, Array]], march: str, seed: int
) -> None:
    check_agreement(*case, march, seed)


@CASES
@given(case=qdq_models(), schedule=schedules(), seed=st.integers(0, 1 << 16))
def test_every_schedule_gives_the_same_bits(
    case: tuple[onnx.ModelProto, dict[str, Array]], schedule: dict[str, Any], seed: int
) -> None:
    check_schedule(*case, schedule, seed)


@pytest.mark.slow
@MORE_CASES
@given(case=qdq_models(max_nodes=10), schedule=schedules(), seed=st.integers(0, 1 << 16))
def test_every_schedule_gives_the_same_bits_at_length(
    case: tuple[onnx.ModelProto, dict[str, Array]], schedule: dict[str, Any], seed: int
) -> None:
    check_schedule(*case, schedule, seed)


@pytest.mark.slow
@MORE_CASES
@given(case=qdq_models(max_nodes=10), march=st.sampled_from(MARCHES))
def test_every_tensor_means_what_the_graph_says_at_length(
    case: tuple[onnx.ModelProto, dict[str, Array]], march: str
) -> None:
    check_meaning(*case, march)


@pytest.mark.slow
@MORE_CASES
@given(case=qdq_models(max_nodes=10), march=st.sampled_from(MARCHES), seed=st.integers(0, 1 << 16))
def test_schedules_and_simulators_agree_at_length(
    case: tuple[onnx.ModelProto, dict[str, Array]], march: str, seed: int
) -> None:
    check_agreement(*case, march, seed)
