"""The reports of some programs as a whole, figure by figure and word by word."""

from __future__ import annotations

from typing import Any

import pytest

from compiler.scheduling import crossing, spread
from conftest import Golden
from openbpu.arch.march import get_march
from openbpu.compiler import compile as build
from openbpu.report.disasm import disasm_json, disassemble
from openbpu.report.info import info_json, info_tables
from openbpu.report.march import march_tables, marches_table
from openbpu.report.page import About, performance_page
from openbpu.report.performance import performance_json, performance_tables
from openbpu.report.placement import placement_json, placement_summary, placement_table
from openbpu.report.plain import plain
from openbpu.report.trace import trace_json
from openbpu.runtime import Session
from runtime.models import mixed_program
from runtime.qdq import mixed_model


def compiled() -> Session:
    """Two BPU segments and one of the CPU."""
    return Session(build(mixed_model(), march="nash-e"))


def by_hand() -> Session:
    """Modules and lines of source, a node that costs the CPU time, a view as an output."""
    return Session(mixed_program())


def of_four_cores() -> Session:
    """Cores that share the work, and the L2M."""
    with spread():
        return Session(build(crossing()[0], march="nash-p", core_num=4, max_l2m_size=1 << 20))


SESSIONS = {made.__name__: made for made in (compiled, by_hand, of_four_cores)}


def documents(session: Session) -> dict[str, Any]:
    return {
        "perf": performance_json(session),
        "trace": trace_json(session),
        "info": info_json(session, ()),
        "placement": placement_json(session.placement),
        "disasm": disasm_json(session.program),
    }


def words(session: Session) -> dict[str, list[str]]:
    parts = [*performance_tables(session, top=2), *performance_tables(session, top=None, sort="order")]
    tables = [*parts, *info_tables(session, ()), placement_table(session.placement)]
    page = performance_page(performance_json(session), "name", About(openbpu="1"))
    page = page.partition("</head>")[2].rpartition("<script>")[0]
    return {
        "tables": [line for t in tables for line in (t if isinstance(t, str) else plain(t)).splitlines()],
        "summary": placement_summary(session.placement).splitlines(),
        "disassembly": list(disassemble(session.program)),
        "page": page.replace("><", ">\n<").splitlines(),
    }


@pytest.mark.parametrize("name", SESSIONS)
def test_what_a_report_says_is_what_it_said(golden: Golden, name: str) -> None:
    session = SESSIONS[name]()
    golden(f"report_{name}", {"documents": documents(session), "words": words(session)})


def test_a_march_is_shown_as_it_was(golden: Golden) -> None:
    march = get_march("bayes-e")
    tables = [marches_table([march, get_march("nash-p")]), *march_tables(march)]
    golden("march", [line for t in tables for line in plain(t).splitlines()])
