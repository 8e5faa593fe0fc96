"""What the L2M holds is chosen from a plan that does not know it: of that and the next, the better stays."""

from __future__ import annotations

import pytest

from compiler.chains import random_net
from compiler.scheduling import chip_of, scheduled
from openbpu.compiler.schedule.search.candidates import ScheduleSearch
from openbpu.simulator.timing import simulate
from simulator.build import segment_of

FIRST, SECOND, BOTH = slice(1), slice(-1, None), slice(None)


def test_the_plan_that_did_not_know_the_l2m_is_kept_where_it_takes_less_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program, march, planned = random_net(13), chip_of(1 << 14, "nash-p"), ScheduleSearch._planned

    def cycles(kept: slice) -> int:
        monkeypatch.setattr(ScheduleSearch, "_planned", lambda self, c: list(planned(self, c))[kept])
        made = scheduled(program, march, 2, cores=2, l2m_bytes=1 << 16)
        return simulate(made, segment_of(made), march).cycles

    assert cycles(BOTH) < cycles(SECOND)
    assert cycles(BOTH) <= cycles(FIRST)
