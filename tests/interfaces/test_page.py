"""The performance document, its page and its trace say the same, and what a model is called is only text."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compiler.scheduling import crossing, spread
from interfaces.reported import Page
from openbpu.compiler import compile as build
from openbpu.report.page import performance_page
from openbpu.report.performance import performance_json
from openbpu.report.plain import plain
from openbpu.report.roofline import roofline_table
from openbpu.report.trace import trace_json
from openbpu.runtime import Session
from runtime.models import conv_program
from runtime.qdq import mixed_model

DIGITS = Path(__file__).parents[2] / "models" / "digits" / "digits.q.onnx"


@pytest.fixture(scope="module")
def session() -> Session:
    """A program with BPU and CPU segments."""
    return Session(build(mixed_model(), march="nash-e"))


@pytest.fixture(scope="module")
def document(session: Session) -> Any:
    return json.loads(json.dumps(performance_json(session)))


def test_intervals_hold_the_bytes_of_the_run(document: Any) -> None:
    info, ddr = document["summary"]["interval info"], document["summary"]["DDR access data"]
    seconds = info["interval time (ms)"] / 1e3
    for way, doing in (("loaded", "loading"), ("stored", "storing")):
        rates = info[f"interval ddr {doing} bandwidth (megabytes/s)"]
        assert len(rates) == info["interval number"]
        assert sum(rates) * seconds * 1e6 == pytest.approx(ddr[f"{way} bytes per run"], rel=0.01, abs=8)
    assert ddr["DDR megabytes per run"] * 1e6 == ddr["loaded bytes per run"] + ddr["stored bytes per run"]


def test_layers_details_and_cores_add_up_to_the_same(document: Any) -> None:
    (core,), (rows,) = document["coreSummaryGroup"], document["details"]
    us_per_cycle = 1e-3  # nash-e: 1 GHz
    for engine, cycles in core["busy cycles"].items():
        mine = sum(r["working_time (us)"] for r in rows if r["inst_type"] == engine)
        assert mine == pytest.approx(cycles * us_per_cycle, abs=1e-3)
    costs = document["summary"]["layer details"]
    for key, engines in (("load cost", ("LOAD",)), ("store cost", ("STORE",))):
        mine = sum(float(c[key].split()[0]) for c in costs)
        assert mine == pytest.approx(sum(core["busy cycles"][e] for e in engines) * us_per_cycle, rel=0.01)
    compute = sum(float(c["computing cost (no DDR)"].split()[0]) for c in costs)
    others = sum(v for e, v in core["busy cycles"].items() if e not in ("LOAD", "STORE"))
    assert compute == pytest.approx(others * us_per_cycle, rel=0.01)


def test_fps_and_segments_are_the_latency(document: Any) -> None:
    performance = document["summary"]["performance"]
    assert sum(performance["latency (us) by segments"]) == pytest.approx(
        performance["latency (us)"], abs=0.01
    )
    assert performance["FPS"] == pytest.approx(1e6 / performance["latency (us)"], rel=1e-3)


def test_page_is_whole_and_loads_nothing(document: Any) -> None:
    text = performance_page(document, "net")
    page = Page(text)
    assert page.open == []
    assert {"link", "img", "iframe"}.isdisjoint(page.tags)
    assert not re.search(r"""src\s*=|href\s*=\s*"?[^#"]|url\(|@import|fetch\(|XMLHttp|import\(""", text)
    assert page.tags.count("svg") == 4


def test_page_names_every_layer_segment_and_node(document: Any) -> None:
    texts = {t.strip() for t in Page(performance_page(document, "net")).texts}
    assert {line["layer name"] for line in document["summary"]["layer details"]} <= texts
    assert {s["name"] for s in document["openbpu"]["latency"]["segments"]} <= texts
    assert {p["node"] for p in document["openbpu"]["placement"]["nodes"]} <= texts
    assert any(t.startswith("estimate: handover") for t in texts)


@pytest.mark.parametrize(("moved", "shown"), [(0, False), (3 << 20, True)])
def test_page_has_a_figure_of_the_l2m_only_where_it_is_used(document: Any, moved: int, shown: bool) -> None:
    own = document["openbpu"]
    used = {**document, "openbpu": {**own, "L2M": {**own["L2M"], "bytes moved per run": moved}}}
    texts = {t.strip() for t in Page(performance_page(used, "net")).texts}
    assert ("moved to and from the L2M" in texts) is shown


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"onload="x', "a&lt;b", "\x1b[31m"])
def test_names_are_only_text(session: Session, name: str) -> None:
    program = session.program
    evil = replace(
        program,
        debug=tuple(replace(d, name=name, origins=(name,)) for d in program.debug),
        placement=tuple(replace(p, node=name, reason=name) for p in program.placement),
    )
    page = Page(performance_page(performance_json(Session(evil)), name))
    assert page.open == []
    assert page.tags.count("script") == 2
    assert any(name.replace("\x1b", "") in t.replace("\\x1b", "") for t in page.texts)


def test_page_of_a_program_without_bpu_has_no_drawings() -> None:
    from runtime.models import cpu_program

    page = Page(performance_page(performance_json(Session(cpu_program())), "cpu"))
    assert page.open == []
    assert "svg" not in page.tags


def test_trace_is_one_run_from_call_to_return(session: Session) -> None:
    events = [e for e in trace_json(session)["traceEvents"] if e["ph"] == "X"]
    latency = session.latency
    assert min(e["ts"] for e in events) == 0
    last = max(e["ts"] + e["dur"] for e in events)
    assert last == pytest.approx(latency.one_thread_us, rel=0.02)
    assert last <= latency.one_thread_us + 1e-3
    assert sum("estimate" in e["name"] for e in events) >= 1 + sum(s.on == "CPU" for s in latency.segments)
    for segment in (s for s in latency.segments if s.timing):
        mine = [e for e in events if e.get("args", {}).get("segment") == segment.name]
        assert segment.timing is not None
        worked = sum(int(core.duration.sum()) for core in segment.timing.cores) * 1e-3
        assert sum(e["dur"] for e in mine) == pytest.approx(worked, abs=1e-3)


def test_every_bpu_segment_of_a_trace_begins_with_its_start(session: Session) -> None:
    segments = [s for s in session.latency.segments if s.timing]
    started = {
        e["name"]: e["dur"] for e in trace_json(session)["traceEvents"] if e["name"].endswith(": start")
    }
    assert segments
    assert started == {f"{s.name}: start": s.start_us for s in segments}


def test_no_engine_does_two_things_at_once(session: Session) -> None:
    rows: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for e in trace_json(session)["traceEvents"]:
        if e["ph"] == "X":
            rows.setdefault((e["pid"], e["tid"]), []).append((e["ts"], e["ts"] + e["dur"]))
    for spans in rows.values():
        spans.sort()
        assert all(end <= start + 1e-3 for (_, end), (start, _) in itertools.pairwise(spans))


def test_cores_that_share_a_model_raise_the_roof_and_get_their_own_rows() -> None:
    model, _ = crossing()
    one = Session(build(model, march="nash-p", opt=1))
    with spread():
        four = Session(build(model, march="nash-p", opt=1, core_num=4))
    roofs = [performance_json(s)["openbpu"]["roofline"]["roof"] for s in (one, four)]
    assert [r["cores"] for r in roofs] == [1, 4]
    assert roofs[1]["int8 macs per second"] == 4 * roofs[0]["int8 macs per second"]
    page = Page(performance_page(performance_json(four), "net"))
    assert {f"core {n} LOAD" for n in range(4)} <= set(page.texts)
    assert {e["pid"] for e in trace_json(four)["traceEvents"]} == {0, 1, 2, 3, 4}


def test_that_no_change_helps_much_is_said_in_json_page_and_table() -> None:
    session = Session(conv_program(size=128))
    document = performance_json(session)
    (line,) = document["openbpu"]["roofline"]["layers"]
    told = line["change"]["what"]
    assert line["change"]["kind"] == "little"
    assert told.startswith("no change of the list helps much")
    assert 0 < line["change"]["gain_us"] < 0.02 * line["exposed_us"]
    assert told in Page(performance_page(document, "conv")).texts
    assert told in plain(roofline_table(session))
