"""Networks that run depth-first or shared out to cores, where that pays, as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from compiler.chains import Net
from compiler.pinned import figures
from compiler.scheduling import chip_of, executed, inputs_of, scheduled
from conftest import Golden
from openbpu.arch.program import Program
from openbpu.compiler.schedule.search import fusion, segment_planner
from openbpu.compiler.schedule.tiling.fusion_groups import FusionGroup


def chain() -> Program:
    """Images that are larger than the memory, between layers of few weights."""
    net = Net()
    x = net.b.input((1, 40, 40, 8))
    for kernel in (3, 1, 3):
        x = net.conv(x, 8, kernel, table=kernel == 1)
    return net.program([x])


def skip() -> Program:
    """What is made is read twice, by the next layer and behind it."""
    net = Net()
    y = net.conv(net.b.input((1, 32, 32, 8)), 8)
    return net.program([net.sum(net.conv(net.conv(y, 8, 1), 8), y)])


def narrowing() -> Program:
    """Depthwise, wide, pooled, a table: three engines one behind another."""
    net = Net()
    x = net.b.input((1, 32, 28, 16))
    return net.program([net.lut(net.pool(net.conv(net.conv(x, 16, groups=16), 32, 1), 3, 2))])


NETS: dict[str, tuple[Callable[[], Program], int, str, dict[str, int]]] = {
    "a chain": (chain, 16, "nash-e", {}),
    "a chain on bayes": (chain, 12, "bayes", {"balance": 50}),
    "a skip": (skip, 12, "nash-e", {}),
    "three engines": (narrowing, 12, "nash-m", {}),
    "three engines in more memory": (narrowing, 24, "nash-e", {"balance": 0}),
    "two cores": (skip, 12, "nash-p", {"cores": 2}),
    "three cores and L2M": (narrowing, 8, "nash-h", {"cores": 3, "l2m_bytes": 1 << 14}),
    "two cores and L2M that overflows": (chain, 8, "nash-p", {"cores": 2, "l2m_bytes": 1 << 12}),
}
DEPTH_FIRST = ("a chain", "a skip", "three engines", "three engines in more memory")


@pytest.mark.parametrize("name", NETS)
def test_a_network_is_scheduled_as_it_was(name: str, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    net, kib, march_name, effort = NETS[name]
    march, program = chip_of(kib << 10, march_name), net()
    grouped: list[bool] = []

    def seen(*given: Any) -> Any:
        found = fusion.fuse_jobs(*given)
        grouped.append(any(isinstance(unit, FusionGroup) for unit in found))
        return found

    monkeypatch.setattr(segment_planner, "fuse_jobs", seen)
    done = scheduled(program, march, 2, with_constants=True, **effort)
    assert any(grouped) or name not in DEPTH_FIRST
    inputs = inputs_of(program, 1)
    plain = executed(scheduled(net(), chip_of(1 << 20, march_name), 0), inputs)
    for tensor, value in executed(done, inputs).items():
        np.testing.assert_array_equal(value, plain[tensor])
    golden("pinned_schedules", figures(done, march, file=False), entry=name)
