"""Products of every form of operands: vectors, long sums, what a Gemm adds; with the values of float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from compiler.networks import Network
from compiler.observe import quantized_tensors, run_everything
from compiler.passing import values_for
from compiler.reading import run
from openbpu.arch.program import BpuSegment, Conv, Program
from openbpu.compiler import check
from openbpu.compiler import compile as compile_model
from openbpu.evaluation.reference.compare import compare_layerwise
from openbpu.runtime import Session
from witness.builder import Style

Build = Callable[[Network], str]
ODD = Style("int8", symmetric=False)


def weight(b: Network, *shape: int, axis: int | None = 1) -> str:
    return b.weight(b.rng.normal(size=shape), axis=axis)


def vector(b: Network, n: int) -> str:
    return b.weight(b.rng.normal(size=n), axis=None)


def matrix(b: Network, *shape: int) -> str:
    return b.constant(b.rng.normal(size=shape).astype(np.float32))


CASES: dict[str, tuple[tuple[int, ...], Build]] = {
    "matrix by vector": ((3, 7), lambda b: b.node("MatMul", b.x, b.quantized_input((7,)))),
    "matrices by vector": ((2, 3, 7), lambda b: b.node("MatMul", b.x, b.quantized_input((7,)))),
    "vector by matrices": ((7,), lambda b: b.node("MatMul", b.x, b.quantized_input((2, 7, 5)))),
    "vector by vector": ((7,), lambda b: b.node("MatMul", b.x, b.quantized_input((7,)))),
    "vector by constant": ((7,), lambda b: b.node("MatMul", b.x, weight(b, 7, 5))),
    "matrices by constant vector": ((2, 3, 7), lambda b: b.node("MatMul", b.x, vector(b, 7))),
    "constant by vector": ((7,), lambda b: b.node("MatMul", weight(b, 5, 7, axis=None), b.x)),
    "C of every row": ((3, 7), lambda b: b.node("Gemm", b.x, weight(b, 7, 5), matrix(b, 3, 5), beta=0.7)),
    "C of a column": ((3, 7), lambda b: b.node("Gemm", b.x, weight(b, 7, 5), matrix(b, 3, 1), alpha=0.3)),
    "C of codes": ((3, 7), lambda b: b.node("Gemm", b.x, weight(b, 7, 5), weight(b, 3, 5), beta=-0.7)),
    "C computed": (
        (7, 3),
        lambda b: b.node(
            "Gemm", b.x, weight(b, 5, 7, axis=0), b.quantized_input((3, 5)), transA=1, transB=1, beta=2.5
        ),
    ),
    "C computed, a row": ((3, 7), lambda b: b.node("Gemm", b.x, weight(b, 7, 5), b.quantized_input((5,)))),
    "C computed, a column": (
        (3, 7),
        lambda b: b.node("Gemm", b.x, weight(b, 7, 5), b.quantized_input((3, 1))),
    ),
    "B computed": (
        (7, 3),
        lambda b: b.node(
            "Gemm", b.x, b.quantized_input((5, 7)), matrix(b, 1), transA=1, transB=1, alpha=0.4, beta=3.0
        ),
    ),
    "long": ((2, 8300), lambda b: b.node("MatMul", b.x, weight(b, 8300, 3))),
    "long, prime": ((2, 3, 8209), lambda b: b.node("MatMul", b.x, weight(b, 8209, 3))),
    "long, C of rows": ((2, 8300), lambda b: b.node("Gemm", b.x, weight(b, 8300, 3), matrix(b, 2, 3))),
    "long, added": (
        (2, 8300),
        lambda b: b.node("Add", b.node("MatMul", b.x, weight(b, 8300, 3)), b.quantized_input((2, 3))),
    ),
}


@pytest.mark.parametrize("march", ["nash-e", pytest.param("bayes-e", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "style", [ODD, pytest.param(Style("int16"), marks=pytest.mark.slow)], ids=["int8", "int16"]
)
@pytest.mark.parametrize("name", CASES)
def test_it_means_what_its_graph_means(name: str, style: Style, march: str) -> None:
    if style.dtype == "int16" and name in COMPUTED:
        return  # no march has int16 by int16
    shape, build = CASES[name]
    b = Network(shape, 21, style)
    b.finished(b.qdq(b.node("Relu", build(b))))
    model, inputs = b.model(), b.inputs
    program = compile_model(model, march=march, opt=0)
    assert {r.on for r in program.placement if "quantize" not in r.op.lower()} == {"BPU"}
    observed = quantized_tensors(model, inputs, run_everything(program, inputs))
    reports = compare_layerwise(model, observed, inputs)
    assert [n for n in model.graph.node if n.op_type == "QuantizeLinear"][-1].output[0] in reports
    for report in reports.values():
        assert report.exact, str(report)


COMPUTED = {"B computed", *(name for name in CASES if " by " in name and "constant" not in name)}


def convs(program: Program) -> list[Conv]:
    return [
        o for s in program.segments if isinstance(s, BpuSegment) for o in s.operators if isinstance(o, Conv)
    ]


def test_a_long_sum_is_one_accumulator_of_taps_and_channels() -> None:
    b = Network((3, 20000), 21)
    b.finished(b.qdq(b.node("MatMul", b.x, weight(b, 20000, 4))))
    (found,) = convs(compile_model(b.model(), march="nash-e"))
    assert (found.kernel, found.x_shape, found.y_shape) == ((1, 4), (1, 3, 4, 5000), (1, 3, 1, 4))


@pytest.mark.parametrize("name", ["matrices by constant vector", "vector by vector", "long"])
def test_a_float_result_is_the_accumulator_by_its_scale(name: str) -> None:
    shape, build = CASES[name]
    b = Network(shape, 21)
    b.finished(build(b))
    program, feeds = compile_model(b.model(), march="nash-e"), values_for(b.model())
    assert {r.on for r in program.placement} == {"BPU"}
    (found,), (wanted,) = Session(program).run(feeds).outputs.values(), run(b.model(), feeds)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def reason_of(b: Network, op: str) -> tuple[str, str]:
    (row,) = (r for r in check(b.model(), march="nash-e") if r.op == op)
    return row.on, row.reason


def test_two_computed_operands_sum_no_more_than_the_matrix_unit() -> None:
    b = Network((2, 9000), 21)
    b.finished(b.qdq(b.node("MatMul", b.x, b.quantized_input((9000, 3)))))
    assert reason_of(b, "MatMul") == (
        "CPU", "K (inner dimension) must be 1..8192, or 1..65536 by a constant, not 9000",
    )  # fmt: skip


REFUSED: dict[str, tuple[Callable[[Network], Any], str]] = {
    "many rows": (
        lambda b: b.qdq(b.node("Gemm", b.x, weight(b, 7, 5), matrix(b, 65, 5))),
        "a C of other values in every row must be quantized, or have at most 64 rows",
    ),
    "a float result": (
        lambda b: b.node("Gemm", b.x, weight(b, 7, 5), matrix(b, 65, 5)),
        "a C of other values in every row must be quantized, or have at most 64 rows and a quantized result",
    ),
    "a row beside a computed weight": (
        lambda b: b.qdq(b.node("Gemm", b.x, b.quantized_input((7, 5)), matrix(b, 5))),
        "its weight is computed, and its C is no single number",
    ),
    "a vector of many scales": (
        lambda b: b.qdq(b.node("MatMul", b.x, b.weight(b.rng.normal(size=7), axis=0))),
        "its input 'dequantizelinear1' is quantized per channel",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_one_rounding_cannot_hold_is_refused(name: str) -> None:
    build, reason = REFUSED[name]
    b = Network((65, 7), 21)
    b.finished(build(b))
    on, found = reason_of(b, "MatMul" if "vector" in name else "Gemm")
    assert (on, found[: len(reason)]) == ("CPU", reason)
