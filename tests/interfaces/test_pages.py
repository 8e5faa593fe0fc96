"""Every page is in one frame, whole, escaped, made again byte by byte, and says what its report says."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from interfaces.conftest import DIGITS, QUANTIZED, Command, fails
from interfaces.reported import HOSTILE, Page, analysis, closing, evaluated, felt, name, search, verification
from openbpu.arch.errors import printable
from openbpu.arch.program import Placement
from openbpu.report.analysis import analysis_json, first_sentence, sensitivity_json
from openbpu.report.analysis_file import read_analysis
from openbpu.report.page import (
    About,
    accuracy_page,
    analysis_page,
    closing_page,
    performance_page,
    verification_page,
)
from openbpu.report.page.parts import Cell, Column, Table, sortable
from openbpu.report.performance import performance_json
from openbpu.runtime import Session
from runtime.models import conv_program

FLOAT, DATA = DIGITS / "digits.onnx", DIGITS / "calibration.npz"
ABOUT = About("2026-01-02 03:04 UTC", "openbpu <b>", (("model", "<i>m</i>"),), "1.2.3")


def performance(hostile: bool) -> str:
    program = conv_program()
    called = name(0, hostile)
    rows = tuple(Placement(name(k, hostile), "Conv", "CPU", -1, "", "why", "how") for k in range(7))
    named = replace(program, placement=rows)
    return performance_page(performance_json(Session(named)), called, ABOUT)


PAGES: dict[str, Callable[[bool], str]] = {
    "performance": performance,
    "analysis": lambda hostile: analysis_page(analysis(hostile=hostile), felt(hostile=hostile), "mse", ABOUT),
    "closing": lambda hostile: closing_page(closing(hostile=hostile), name(0, hostile), ("by max",), ABOUT),
    "search": lambda hostile: closing_page(
        closing(hostile=hostile), name(0, hostile), (), ABOUT, search(hostile=hostile)
    ),
    "verification": lambda hostile: verification_page(verification(hostile=hostile), name(0, hostile), ABOUT),
    "accuracy": lambda hostile: accuracy_page(
        evaluated(hostile=hostile), 500, (f"{name(1, hostile)}: below 0.95",), ABOUT
    ),
}


@pytest.mark.parametrize("make", PAGES.values(), ids=PAGES)
def test_a_page_is_whole_and_says_what_it_is_of(make: Callable[[bool], str]) -> None:
    text = make(False)
    page = Page(text)
    assert page.open == []
    assert text.endswith("</html>\n")
    assert [page.tags.count(tag) for tag in ("h1", "style", "script")] == [1, 1, 2]
    said = {t.strip() for t in page.texts}
    assert {"openbpu <b>", "<i>m</i>", "2026-01-02 03:04 UTC", "1.2.3"} <= said
    assert ("name", "viewport") in page.attributes
    tabs = [value for key, value in page.attributes if key == "href"]
    assert len(tabs) > 3
    assert all(f'id="{str(tab)[1:]}"' in text for tab in tabs)
    assert make(False) == text


@pytest.mark.parametrize("make", PAGES.values(), ids=PAGES)
def test_only_the_scripts_of_the_page_may_run_and_nothing_is_loaded(make: Callable[[bool], str]) -> None:
    text = make(False)
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed} ;" in text
    assert not re.search(r"""src\s*=|href="[^#]|url\(|@import|fetch\(|XMLHttp|import\(|innerHTML""", text)


@pytest.mark.parametrize("make", PAGES.values(), ids=PAGES)
def test_hostile_names_are_only_text(make: Callable[[bool], str]) -> None:
    plain, page = Page(make(False)), Page(make(True))
    assert page.open == []
    assert set(page.tags) == set(plain.tags)
    assert [page.tags.count(tag) for tag in ("h1", "style", "script")] == [1, 1, 2]
    assert {key for key, _ in page.attributes} == {key for key, _ in plain.attributes}
    said = " ".join(page.texts)
    for called in HOSTILE:
        assert printable(called) in said
    assert "\u202e" not in said
    assert "\x1b" not in said


def test_the_first_node_that_goes_wrong_stands_on_top_with_module_and_line() -> None:
    found = analysis()
    texts = [t.strip() for t in Page(analysis_page(found)).texts]
    first = texts.index(first_sentence(found))
    assert "(module.3 net.py:7)" in texts[first]
    assert first < min(texts.index(t) for t in texts if t.startswith("Noise along"))
    assert texts.count("Weights") > 1
    assert "Sensitivity" not in texts


def test_an_analysis_without_a_fault_says_so() -> None:
    found = replace(analysis(), first=None)
    assert "It goes wrong nowhere" in analysis_page(found)
    assert "frame." not in analysis_page(found)


def test_every_node_has_a_row_a_line_of_the_network_and_a_histogram() -> None:
    text = analysis_page(analysis(30), felt(30), "mse")
    for k in range(30):
        assert text.count(name(k, False)) >= 4
        assert f'id="tensor{k}"' in text
        assert f'href="#tensor{k}"' in text
    assert Page(text).tags.count("svg") == 1 + 2 + 30


def test_the_front_of_a_search_is_drawn_with_every_configuration_that_is_no_worse() -> None:
    text = closing_page(closing(), "net", search=search())
    drawn = re.findall(r'<path class="dot (\w+)"[^>]*><title>([^:]*)', text)
    assert drawn[-1] == ("red", "int16 for 4")
    assert {told for css, told in drawn if css == "tae"} == {"int8", "int16 for 2", "int16 for 6"}
    assert len(drawn) == 7  # the one that is broken has no place
    assert "int16 for 7" in text
    alone = replace(search(), points=search().points[:1], chosen=0)
    assert "Accuracy against latency" not in closing_page(closing(), "net", search=alone)


def test_a_page_of_a_large_network_is_small() -> None:
    assert len(analysis_page(analysis(1500), felt(1500), "mse").encode()) < 5e6


def test_columns_with_nothing_in_them_are_left_out_and_numbers_sort_by_value() -> None:
    columns = (Column("a"), Column("b", "number"), Column("c"))
    text = str(Table(columns, [("x", Cell("3 µs", 3.0), ""), ("y", Cell("--", math.nan), "")]).__html__())
    assert re.findall(r"<th[^>]*>(\w)", text) == ["a", "b"]
    assert re.findall(r'data-v="([^"]*)"', text) == ["3", ""]
    assert [sortable(v) for v in (None, math.inf, -math.inf, 1e-7)] == ["", "Infinity", "-Infinity", "1e-07"]


def test_commands_write_pages_that_can_be_made_again(
    openbpu: Command, hbm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    page, q = tmp_path / "a.html", tmp_path / "q.onnx"
    analyze = ("analyze", FLOAT, QUANTIZED, hbm, "--data", DATA, "--samples", "2", "--page", page, "--json")
    (tmp_path / "a.json").write_text(openbpu(*analyze).out)
    once = page.read_bytes()
    assert openbpu(*analyze).code == 0
    assert page.read_bytes() == once
    said = {t.strip() for t in Page(once.decode()).texts}
    assert f"openbpu analyze {FLOAT} {QUANTIZED} {hbm}" in " ".join(said)
    assert "1970-01-01 00:00 UTC" in said
    digest = hashlib.sha256(QUANTIZED.read_bytes()).hexdigest()
    assert any(digest[:16] in t for t in said)

    assert openbpu("perf", hbm, "-o", tmp_path / "p", "--accuracy", tmp_path / "a.json").code == 0
    both = (tmp_path / "p" / "digits.html").read_text(encoding="utf-8")
    assert 'href="#accuracy"' in both
    assert "Noise along the network" in both

    ran = openbpu("quantize", FLOAT, "--calib", DATA, "-o", q, "--page", page)
    assert f"wrote {q} and {page}" in ran.err
    assert "held out" in page.read_text(encoding="utf-8")


def test_a_page_in_the_place_of_another_file_is_refused(openbpu: Command, tmp_path: Path) -> None:
    q = tmp_path / "q.onnx"
    quantize = openbpu("quantize", FLOAT, "--calib", DATA, "-o", q, "--page", q)
    analyze = openbpu("analyze", FLOAT, QUANTIZED, "--data", DATA, "--page", QUANTIZED)
    for ran in (quantize, analyze):
        assert ran.code == 2
        assert "--page: must be a file of its own" in ran.err
    assert not q.exists()


def test_a_date_that_is_none_is_refused(
    openbpu: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    ran = openbpu("quantize", FLOAT, "--calib", DATA, "-o", tmp_path / "q", "--page", tmp_path / "a")
    fails(ran, "SOURCE_DATE_EPOCH: the date must be seconds since 1970, not 'today'")


def test_an_analysis_is_read_back_as_it_was(tmp_path: Path) -> None:
    found, rows = analysis(), felt()
    document = analysis_json(found) | {"sensitivity": sensitivity_json(rows, "mse")}
    (tmp_path / "a.json").write_text(json.dumps(document))
    read = read_analysis(tmp_path / "a.json")
    assert read.sensitivity == rows
    assert read.metric == "mse"
    assert read.analysis.first is not None
    assert read.analysis.first.row is read.analysis.rows[3]
    assert analysis_page(read.analysis, rows, "mse") == analysis_page(found, rows, "mse")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("not JSON", "the file must be JSON in UTF-8"),
        ("[" * 100_000, "the file must be JSON in UTF-8"),
        ("[]", "the file must be an analysis"),
        ("{}", "the file must be an analysis, not another document (KeyError: 'nodes')"),
        ({"nodes": [3]}, "the file must be an analysis"),
        ({"samples": "many"}, "samples must be"),
        ({"outputs": [99]}, "the file must be an analysis"),
        ({"first": {"row": 0}}, "the file must be an analysis"),
        ({"weights": [{"node": 3}]}, "weights.0.node must be a valid string, not 3"),
    ],
)
def test_what_is_no_analysis_is_refused(
    openbpu: Command, files: Path, change: str | dict[str, object], said: str
) -> None:
    path = files / "a.json"
    whole = analysis_json(analysis()) | {"sensitivity": None}
    path.write_text(change if isinstance(change, str) else json.dumps(whole | change))
    fails(openbpu("perf", files / "bpu.hbm", "-o", files / "out", "--accuracy", path), str(path), said)


def test_an_accuracy_without_a_folder_is_a_usage_error(openbpu: Command, files: Path) -> None:
    (files / "a.json").write_text("{}")
    ran = openbpu("perf", files / "bpu.hbm", "--accuracy", files / "a.json")
    assert ran.code == 2
    assert "--accuracy: must be given with -o" in ran.err


def test_time_by_type_is_the_time_of_the_layers_and_memory_holds_what_is_needed() -> None:
    session = Session(conv_program())
    own = performance_json(session)["openbpu"]
    document = performance_json(session)["summary"]["layer details"]
    computed = sum(float(layer["computing cost (no DDR)"].split()[0]) for layer in document)
    assert sum(t["compute_us"] for t in own["operator types"]) == pytest.approx(computed, rel=0.01)
    assert sum(t["layers"] for t in own["operator types"]) == len(document)
    held = own["memory over time"]
    program = session.program
    inputs = sum(program.tensors[i].nbytes for i in program.inputs)
    outputs = sum(program.tensors[i].nbytes for i in program.outputs)
    assert held["DDR"][0] >= inputs
    assert held["DDR"][-1] == outputs
    assert max(held["on chip"]) <= session.march.chip_bytes


def test_the_performance_page_shows_all_digits_of_fps() -> None:
    made = performance_json(Session(conv_program()))
    made["summary"]["performance"]["FPS"] = 1234567.89
    text = performance_page(made, "net", ABOUT)
    assert "1234567.89" in {t.strip() for t in Page(text).texts}
