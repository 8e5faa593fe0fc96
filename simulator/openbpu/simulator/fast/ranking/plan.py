"""TopK as a step."""

from __future__ import annotations

from openbpu.arch.operators.ranking import TopK
from openbpu.simulator.fast.declaration import Address, Arguments
from openbpu.simulator.fast.plan.registry import lowers
from openbpu.simulator.fast.plan.steps import Lowering


class Ranked(Arguments):
    """The first `count` along the middle axis of x [·, length, inner]."""

    x: Address
    x_kind: int
    y: Address
    y_kind: int
    length: int
    inner: int
    count: int
    sign: int
    """−1 puts the smallest first."""
    indices: int


@lowers(TopK, "ranking")
def lower_top_k(op: TopK, low: Lowering) -> None:
    """Rows along the middle axis of [A,R,B]."""
    (x,), (y,) = op.inputs, op.outputs
    outer, length, inner = op.shape
    made = Ranked(
        x=low.read(x), x_kind=low.kind(x), y=low.write(y), y_kind=low.kind(y), length=length, inner=inner,
        count=op.k, sign=1 if op.largest else -1, indices=int(op.indices),
    )  # fmt: skip
    low.add(made, outer * inner, outer * length * inner * op.k * 1.0)
