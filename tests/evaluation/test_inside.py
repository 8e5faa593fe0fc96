"""Which nodes of the model a program runs on the CPU, and the wider bound of what is computed there."""

from __future__ import annotations

from dataclasses import replace

from compiler.networks import Network
from openbpu.compiler import compile as compile_model
from openbpu.evaluation.inside import nodes_on_cpu
from openbpu.evaluation.judge import bound
from openbpu.evaluation.reference import Step

SHAPE = (1, 3, 6, 6)


def test_the_nodes_on_the_cpu_are_those_of_its_segments() -> None:
    b = Network(SHAPE)
    b.finished(b.qdq(b.node("Hardmax", b.layer(b.x, 4))))
    program = compile_model(b.model(), march="nash-e")
    found = nodes_on_cpu(program)
    assert {"Hardmax_0", "any Hardmax"} <= found
    assert not found & {"Conv_0", "any Conv"}


def test_an_unnamed_node_is_on_the_cpu_where_its_operator_is() -> None:
    b = Network(SHAPE)
    b.finished(b.layer(b.x, 4))
    program = compile_model(b.model(), march="nash-e")
    rows = tuple(replace(p, on="CPU", segment=9) for p in program.placement)
    assert nodes_on_cpu(replace(program, placement=rows)) == frozenset()  # no such segment
    cpu = frozenset({"any Conv"})
    assert bound([Step("", "Conv")], 1, cpu) == 0.55
    assert bound([Step("named", "Conv")], 1, cpu) == 0.5
