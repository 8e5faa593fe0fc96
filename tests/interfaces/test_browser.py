"""The pages in a real Chromium: light and dark, on a phone and on a screen, with and without their script."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from interfaces.reported import HOSTILE, analysis, closing, felt
from interfaces.test_pages import PAGES
from openbpu.report.page import analysis_page, closing_page

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra dev)")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    not CHROMIUM, reason="needs a Chromium (Debian: apt install chromium; or CHROMIUM=/path/to/it)"
)

SEEN = Path(__file__).with_name("seen.js").read_text(encoding="utf-8")
MODES = [(scheme, width) for scheme in ("light", "dark") for width in (420, 1400)]
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    plain = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with playwright.sync_playwright() as engine:
        started = engine.chromium.launch(executable_path=CHROMIUM, args=plain)
        yield started
        started.close()


@pytest.fixture
def shown(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Open a page's text from a file, without network; what it asks for or complains about fails the test."""
    complaints: list[str] = []
    with contextlib.ExitStack() as stack:

        def opened(text: str, scheme: str = "light", width: int = 1400, *, script: bool = True) -> Any:
            path = tmp_path / "page.html"
            path.write_text(text, encoding="utf-8")
            context = browser.new_context(
                color_scheme=scheme, viewport={"width": width, "height": 900}, java_script_enabled=script,
                offline=True,
            )  # fmt: skip
            stack.callback(context.close)
            page = context.new_page()
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda message: complaints.append(message.text))
            page.on("dialog", lambda dialog: complaints.append(dialog.message))
            page.on(
                "request", lambda asked: complaints.append(asked.url) if asked.url != path.as_uri() else None
            )
            page.goto(path.as_uri())
            return page

        yield opened
        assert complaints == []


def seen_on_every_tab(page: Any) -> dict[str, list[str]]:
    """What is wrong on each tab; nothing where all is well."""
    found = {}
    for link in page.locator("nav a").all():
        link.click()
        assert page.locator(".tab.shown").count() == 1
        complaints = page.evaluate(SEEN)
        if complaints:
            found[link.inner_text()] = complaints[:8]
    return found


def column(page: Any, table: str, title: str) -> list[str]:
    """The cells of a column that are shown, from the top."""
    cells: list[str] = page.evaluate(
        """([table, title]) => [...document.querySelector(table).querySelectorAll("tbody tr")]
        .filter((row) => row.checkVisibility())
        .map((row) => [...row.cells].find((cell) => cell.dataset.l === title).textContent)""",
        [table, title],
    )
    return cells


def number(text: str) -> float:
    return float(text.split(maxsplit=1)[0].removesuffix("%"))


def test_the_analysis_can_be_read_sorted_and_filtered_on_a_phone_in_the_dark(shown: Open) -> None:
    page = shown(analysis_page(analysis(14), felt(14), "mse"), "dark", 420)
    assert seen_on_every_tab(page) == {}
    page.locator("nav a", has_text="Nodes").click()
    tools = page.locator("#nodes .tools")
    tools.locator("select").select_option(label="Max")
    largest = [number(text) for text in column(page, "#nodes", "Max")]
    assert largest == sorted(largest, reverse=True)
    assert len(largest) == 14
    tools.locator("button").click()
    assert [number(text) for text in column(page, "#nodes", "Max")] == largest[::-1]
    tools.locator("input").fill("CONV_1 module.1")
    shown_nodes = column(page, "#nodes", "Node")
    assert len(shown_nodes) == 5  # 1, 10, 11, 12, 13
    assert all("Conv_1" in text for text in shown_nodes)
    assert tools.locator(".count").inner_text() == "5 of 14 nodes"


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), MODES)
@pytest.mark.parametrize("hostile", [False, True], ids=["plain", "hostile"])
@pytest.mark.parametrize("kind", PAGES)
def test_nothing_is_cut_overlapping_empty_or_pale(
    shown: Open, kind: str, hostile: bool, scheme: str, width: int
) -> None:
    assert seen_on_every_tab(shown(PAGES[kind](hostile), scheme, width)) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("style", "complaint"),
    [
        (".tiles { width: 2000px }", "the page is"),
        ("h2 { transform: translateX(-80px) }", "cut"),
        ("h2 { margin-bottom: -1.5rem }", "overlap"),
        ("p { color: #999 }", "contrast"),
        (".tiles { height: 0; overflow: hidden }", "empty"),
        ("path { d: none }", "empty drawing"),
    ],
)
def test_what_is_wrong_would_be_seen(shown: Open, style: str, complaint: str) -> None:
    page = shown(analysis_page(analysis(14)))
    page.add_style_tag(content=style)
    assert any(told.startswith(complaint) for told in page.evaluate(SEEN))


@pytest.mark.slow
def test_heads_of_columns_sort_and_values_that_are_missing_come_last(shown: Open) -> None:
    page = shown(analysis_page(analysis(14)))
    page.locator("nav a", has_text="Nodes").click()
    head = page.locator("#nodes th", has_text="SQNR alone")
    for direction in ("descending", "ascending"):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == direction
        found = column(page, "#nodes", "SQNR alone")
        assert found[-2:] == ["--", "--"]
        values = [number(text) for text in found[:-2]]
        assert values == sorted(values, reverse=direction == "descending")
    page.locator("#nodes th", has_text="Node").locator("button").focus()
    page.keyboard.press("Enter")
    assert "Conv_2" in column(page, "#nodes", "Node")[2]  # by number: 0, 1, 2, …, 10


@pytest.mark.slow
def test_a_line_of_the_network_leads_to_its_histogram(shown: Open) -> None:
    page = shown(analysis_page(analysis(14)))
    page.locator("nav a", has_text="Network").click()
    page.locator("#network a").nth(6).click()
    assert page.locator(".tab.shown").get_attribute("id") == "histograms"
    box = page.locator("#tensor6").bounding_box()
    assert box is not None
    assert 0 <= box["y"] <= 900
    page.go_back()
    assert page.locator(".tab.shown").get_attribute("id") == "network"


@pytest.mark.slow
def test_cards_sort_by_what_they_hold(shown: Open) -> None:
    page = shown(analysis_page(analysis(14)))
    page.locator("nav a", has_text="Histograms").click()
    page.locator("#histograms select").select_option(label="place in the network")
    titles = page.locator("#histograms article h3").all_inner_texts()
    assert [int(t.rpartition("_")[2]) for t in titles] == list(range(14))
    page.locator("#histograms select").select_option(label="clipped")
    assert page.locator("#histograms article h3").first.inner_text().endswith("_2")


@pytest.mark.slow
@pytest.mark.parametrize("kind", PAGES)
def test_without_its_script_everything_is_there_to_read(shown: Open, kind: str) -> None:
    page = shown(PAGES[kind](False), width=420, script=False)
    tabs = page.locator(".tab")
    assert tabs.count() > 3
    assert all(tab.is_visible() for tab in tabs.all())
    assert page.locator(".tools").count() == 0


@pytest.mark.slow
def test_on_paper_every_tab_is_there(shown: Open) -> None:
    page = shown(closing_page(closing(), "net"))
    page.emulate_media(media="print")
    assert all(tab.is_visible() for tab in page.locator(".tab").all())
    assert not page.locator("nav").is_visible()


@pytest.mark.slow
def test_a_large_page_opens_soon_and_shows_its_first_rows(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(analysis_page(analysis(1000), felt(1000), "mse"), encoding="utf-8")
    with contextlib.closing(browser.new_page()) as page:
        meter = page.context.new_cdp_session(page)
        meter.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.goto(path.as_uri(), timeout=120_000)
        spent = {
            metric["name"]: metric["value"] for metric in meter.send("Performance.getMetrics")["metrics"]
        }
        assert spent["TaskDuration"] < 2  # seconds of the processor; 0.3 when this was written
        page.locator("nav a", has_text="Nodes").click()
        assert len(column(page, "#nodes", "Node")) == 100
        page.locator("#nodes .more").click()
        assert len(column(page, "#nodes", "Node")) == 1000


@pytest.mark.slow
def test_a_hostile_name_runs_nothing_and_is_found_by_the_filter(shown: Open) -> None:
    page = shown(closing_page(closing(14, hostile=True), HOSTILE[0]))
    page.locator("nav a", has_text="Ranges").click()
    page.locator("#ranges input").fill("<SCRIPT>alert")
    assert len(column(page, "#ranges", "Tensor")) == 2
