"""A linear layer on [B, N, K], a Gemm between Reshapes in ONNX, is fused and ends like others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compiler.networks import Network
from compiler.passing import values_for
from compiler.reading import run
from openbpu import compiler
from openbpu.arch.program import BpuSegment, Conv
from openbpu.runtime import Session

ROWS, IN, OUT = 6, 16, 10


def ints(b: Network, *values: int) -> str:
    return b.constant(np.array(values, np.int64))


def linear(b: Network, x: str, wide: int = OUT) -> str:
    """Reshape → Gemm → Reshape."""
    w = b.weight(b.rng.normal(size=(wide, IN)), axis=0)
    flat = b.node("Reshape", x, ints(b, ROWS, IN))
    y = b.node("Gemm", flat, w, b.constant(np.linspace(-1, 1, wide).astype("f")), transB=1)
    return b.node("Reshape", y, ints(b, 2, 3, wide))


def compiled(b: Any) -> Any:
    proto = b.model()
    program = compiler.compile(proto, march="nash-e")
    assert {row.on for row in program.placement} == {"BPU"}, [r for r in program.placement if r.on != "BPU"]
    feeds = values_for(proto)
    wanted = run(proto, feeds)[0]
    for mode in ("fast", "exact"):
        found = next(iter(Session(program, mode=mode).run(feeds).outputs.values()))
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=0.1)
    return [op for s in program.segments if isinstance(s, BpuSegment) for op in s.operators]


ENDS: dict[str, Any] = {
    "nothing": lambda b, y: y,
    "Transpose": lambda b, y: b.node("Transpose", y, perm=[0, 2, 1]),
    "Reshape of the rows": lambda b, y: b.node("Reshape", y, ints(b, 3, 2, OUT)),
    "Reshape of the channels": lambda b, y: b.node("Reshape", y, ints(b, 2, 3, 2, 5)),
    "Transpose, Reshape": lambda b, y: b.node(
        "Reshape", b.node("Transpose", y, perm=[0, 2, 1]), ints(b, 2, 30)
    ),
    "Reshape of the channels, Transpose": lambda b, y: b.node(
        "Transpose", b.node("Reshape", y, ints(b, 2, 3, 2, 5)), perm=[0, 2, 3, 1]
    ),
    "Unsqueeze": lambda b, y: b.node("Unsqueeze", y, ints(b, 1)),
}


@pytest.mark.parametrize("name", ENDS)
def test_moves_behind_a_raw_result_are_on_the_bpu(name: str) -> None:
    b = Network((2, 3, IN))
    b.finished(ENDS[name](b, linear(b, b.x)))
    operators = compiled(b)
    assert sum(isinstance(op, Conv) for op in operators) == 1


@pytest.mark.parametrize("relu", [False, True])
def test_an_addition_behind_it_is_fused(relu: bool) -> None:
    b = Network((2, 3, IN))
    y = b.node("Add", b.x, linear(b, b.x, IN))
    b.finished(b.qdq(b.node("Relu", y) if relu else y))
    operators = compiled(b)
    (product,) = (op for op in operators if isinstance(op, Conv))
    assert len(product.inputs) == 2
    assert not [op for op in operators if type(op).__name__ == "Binary"]


def test_a_clamp_behind_it_is_fused() -> None:
    b = Network((2, 3, IN))
    b.finished(b.qdq(b.node("Relu", linear(b, b.x))))
    assert len(compiled(b)) <= 3
