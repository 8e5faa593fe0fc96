"""Tables and documents say what the results say."""

import io
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console, RenderableType

from arch.samples import full
from openbpu.arch.errors import printable
from openbpu.arch.march import get_march
from openbpu.arch.program import CpuCost, Placement
from openbpu.report import text
from openbpu.report.disasm import disassemble
from openbpu.report.fit import fitted
from openbpu.report.intervals import spread
from openbpu.report.march import march_tables, marches_table
from openbpu.report.page.performance import placement as placement_section
from openbpu.report.placement import cost_text, placement_json, placement_summary, placement_table
from openbpu.report.plain import plain

PLACED = (
    Placement("conv1", "Conv", "BPU", 1, "int8/int8", layer=0),
    Placement("nz", "NonZero", "CPU", 2, "float/int64", "no BPU unit", "remove it", "net.head", "net.py:9"),
    Placement("conv2", "Conv", "BPU", 4, "int8/int32", layer=1),
    Placement("folded", "Reshape", "BPU", -1, "int8/int8", "folded"),
)


def rendered(*parts: RenderableType, width: int = 300) -> str:
    console = Console(file=io.StringIO(), width=width)
    for part in parts:
        console.print(part)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def rows(table: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]


def test_placement_has_the_vendors_columns() -> None:
    found = rows(rendered(placement_table(PLACED)))
    assert found[1][:7] == ["Node", "ON", "Subgraph", "Type", "In/Out DataType", "Reason", "Fix"]
    assert found[3] == ["conv1", "BPU", "id(0)", "Conv", "int8/int8"]
    assert found[4][:5] == ["nz", "CPU", "--", "NonZero", "float/int64"]
    assert found[4][-1] == "net.head net.py:9"
    assert found[5][2] == "id(1)"
    assert found[6][2] == "--"


def test_placement_without_modules_has_no_column_for_them() -> None:
    bare = [replace(p, scope="", source="") for p in PLACED]
    assert "Module" not in rendered(placement_table(bare))


def test_placement_summary_counts() -> None:
    assert placement_summary(PLACED) == "3 of 4 nodes on the BPU in 2 subgraphs; 1 on the CPU (NonZero)"
    assert placement_summary(()) == "0 of 0 nodes on the BPU in 0 subgraphs"


def test_placement_json_has_every_field() -> None:
    assert placement_json(PLACED)[1] == {
        "node": "nz",
        "on": "CPU",
        "subgraph": "--",
        "type": "NonZero",
        "dtypes": "float/int64",
        "reason": "no BPU unit",
        "fix": "remove it",
        "cost": None,
        "scope": "net.head",
        "source": "net.py:9",
    }


def test_the_cost_of_a_node_on_the_cpu_is_in_words_and_in_figures() -> None:
    cost = CpuCost(1, 2048, 512, 1250.0, 100.0, 3)
    assert cost_text(cost) == (
        "splits a segment, with 2 others; 2.0 KiB to the CPU; 512 B back; 1.250 ms + 100.0 µs hand-over"
    )
    (row,) = placement_json([replace(PLACED[1], cost=cost)])
    assert row["cost"] == {
        "segments split": 1,
        "bytes to the CPU": 2048,
        "bytes back": 512,
        "cpu_ms_estimate": 1.25,
        "handover_ms_estimate": 0.1,
        "nodes of its segment": 3,
        "text": cost_text(cost),
    }


def test_the_page_has_the_cost_of_a_node_on_the_cpu() -> None:
    cost = CpuCost(1, 2048, 512, 1250.0, 100.0, 1)
    nodes = placement_json([PLACED[0], replace(PLACED[1], cost=cost)])
    page = placement_section({"summary": "", "nodes": nodes}).__html__()
    assert "Cost, estimate" in page
    assert "splits a segment; 2.0 KiB to the CPU; 512 B back; 1.250 ms + 100.0 µs hand-over" in page


def test_the_table_has_a_column_of_costs_where_there_are_any() -> None:
    cost = CpuCost(0, 0, 0, 8.0, 0.0, 1)
    shown = rendered(placement_table([PLACED[0], replace(PLACED[1], cost=cost)]))
    assert "Cost, estimate" in shown
    assert "8.00 µs" in shown
    assert "Cost" not in rendered(placement_table(PLACED))


@pytest.mark.parametrize("name", ["[red]x[/red]", "\x1b[31mx", "a\nb", "\x07", "[/]"])
def test_names_from_a_file_cannot_steer_the_terminal(name: str) -> None:
    shown = rendered(placement_table([replace(PLACED[0], node=name)]))
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert printable(name) in shown


def test_disassembly_shows_layer_operands_and_tokens() -> None:
    lines = list(disassemble(full()))
    assert lines[0] == "; segment 0 'segment0', core 0: 2 instructions, 1048576 bytes on chip"
    assert lines[1].split()[:4] == ["0", "LOAD", "Conv.2", "Load"]
    assert "counts=[1,1,1,4]" in lines[1]
    assert lines[2].endswith("wait LOAD>=1")
    assert lines[-1] == "; segment 1 'cpu0': 1 nodes on the CPU"


@pytest.mark.parametrize(
    ("n", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.00 GiB")],
)
def test_bytes_are_readable(n: int, shown: str) -> None:
    assert text.in_bytes(n) == shown


def test_spread_keeps_the_sum_and_the_place() -> None:
    edges = np.linspace(0.0, 100.0, 5)
    start, end = np.array([0, 10, 60, 30]), np.array([50, 20, 100, 30])
    amount: Sequence[float] = [10, 4, 8, 7]
    found = spread(edges, start, end, np.array(amount, dtype=np.float64))
    np.testing.assert_allclose(found, [5 + 4, 5 + 7, 3, 5])


@pytest.mark.parametrize("number", range(4))
def test_a_table_in_a_pipe_is_what_rich_prints(number: int) -> None:
    ends = text.table("Name", "Größe", "日本", numbers=("Größe",))
    for cells in (("a", 1, "x"), ("[b]", 12.5, "日本語"), ("", "", "")):
        text.add_row(ends, *cells)
        ends.add_section()
    tables = (
        ends,
        marches_table([get_march("nash-e")]),
        placement_table(PLACED),
        march_tables(get_march("nash-e"))[-1],
    )
    made = tables[number]
    assert not made.title or number
    lines = [line.rstrip() for line in rendered(made, width=100_000).splitlines()]
    assert [line for line in plain(made).splitlines() if line] == [line for line in lines if line]


def test_a_section_in_a_pipe_is_a_blank_line() -> None:
    made = text.table("A", "B", title="What it is")
    text.add_row(made, "1", "2")
    made.add_section()
    text.add_row(made, "3", "4")
    assert plain(made) == "What it is\n\n A  B\n ────\n 1  2\n\n 3  4\n"


TABLES = (*march_tables(get_march("nash-e")), marches_table([get_march("nash-e")]), placement_table(PLACED))


@pytest.mark.parametrize("width", [60, 80, 90, 100, 120, 200])
def test_a_narrow_terminal_loses_nothing_and_breaks_no_word(width: int) -> None:
    for number, made in enumerate(TABLES):
        words = {w for c in made.columns for cell in c.cells for w in str(cell).split()}
        shown = rendered(fitted(made, width), width=width)
        assert max(map(len, shown.splitlines())) <= width
        assert words <= {*shown.split(), *re.sub(r"[:·]", " ", shown).split()}, number


def test_a_wide_terminal_gets_the_table_as_it_is() -> None:
    made = placement_table(PLACED)
    assert fitted(made, 300) is made


def test_a_table_that_fits_no_more_stacks_its_rows() -> None:
    shown = rendered(fitted(march_tables(get_march("nash-e"))[0], 80), width=80).splitlines()
    at = shown.index("tae.fill_cycles")
    assert shown[at + 1].startswith("  Value: 40 · Unit: cycles · Confidence: assumed")
