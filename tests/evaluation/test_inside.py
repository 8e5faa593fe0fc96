"""Which nodes of the model a program runs on the CPU, and the wider bound of what is computed there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compiler.networks import Network
from openbpu.compiler import compile as compile_model
from openbpu.evaluation.inside import Inside, nodes_on_cpu
from openbpu.evaluation.judge import bound
from openbpu.evaluation.reference import Step, evaluate
from openbpu.runtime import Session

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


@pytest.mark.parametrize("runs", [1, 2])
def test_the_layers_of_a_volume_are_shown_in_the_order_of_the_model(runs: int) -> None:
    """Inside they are images of a batch, channels last; behind two convolutions no transpose is left."""
    b = Network((1, 3, 4, 5, 6))
    x = b.layer(b.x, 4)
    pads, window = [1] * 6, [3] * 3
    pooled = b.qdq(b.node("MaxPool", x, kernel_shape=window, pads=pads, strides=[1, 2, 1]))
    averaged = b.qdq(b.node("AveragePool", pooled, kernel_shape=window, pads=pads))
    b.finished(
        b.layer(b.qdq(b.node("Conv", averaged, b.weight(b.rng.normal(size=(4, 4, 3, 1, 1)), axis=0))), 5)
    )
    model = b.model()
    program = compile_model(model, march="nash-e", opt=0, batch=runs if runs > 1 else 0)
    feeds = [{k: v * (i + 1) / 2 for k, v in b.inputs.items()} for i in range(runs)]
    both = {k: np.concatenate([feed[k] for feed in feeds]) for k in feeds[0]}
    shown, seen = Inside(Session(program)).run(both), 0
    for run, feed in enumerate(feeds):
        for node in (n for n in model.graph.node if n.op_type == "QuantizeLinear"):
            meant = evaluate(model, feed).values[node.output[0]]
            codes = shown.tensor(node.output[0], meant.shape, meant.dtype, run, runs)
            if codes is not None:
                seen += 1
                assert (codes != meant).mean() < 0.02, node.name
    assert seen >= 5 * runs
