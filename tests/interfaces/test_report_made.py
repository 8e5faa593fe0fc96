"""What reports say of results made by hand, which take every branch and lie on both sides of every limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.table import Table

from conftest import Golden
from interfaces.reported import analysis, closing, felt, node, search
from openbpu.arch.dtypes import DType
from openbpu.evaluation import Comparison, Explanation, Verification
from openbpu.evaluation.accuracy import Difference, Evaluation, Score
from openbpu.evaluation.accuracy.intervals import Interval
from openbpu.evaluation.accuracy.metrics import OfClass
from openbpu.evaluation.analysis import Analysis, Closeness, Counts, First, Remedy, Sensitivity, WeightRange
from openbpu.evaluation.beside import Parting
from openbpu.evaluation.closing import Closing, InputLook, RangeUse
from openbpu.evaluation.search import Goal, Point, Search
from openbpu.evaluation.search.setup import Recipe, Setup
from openbpu.quantization.onnx import Corrections
from openbpu.report import accuracy, verify
from openbpu.report import analysis as analysed
from openbpu.report import search as searched
from openbpu.report.closing import closing_json, closing_text
from openbpu.report.latency import latency_table
from openbpu.report.page import About, analysis_page, closing_page
from openbpu.report.plain import plain
from openbpu.runtime.latency import Latency, SegmentLatency

ABOUT = About("2026-01-02 03:04 UTC", "openbpu", (("model", "m"),), "1.2.3")
FAR = Closeness(-0.5, -math.inf, 2.0, 4.0, math.inf, 8)
SAME = Closeness(1.0, math.inf, 0.0, 0.0, 0.0, 8)


def lines(*parts: Table | str) -> list[str]:
    return [line for p in parts for line in (p if isinstance(p, str) else plain(p)).splitlines()]


def body(page: str) -> list[str]:
    """The lines of a page without its style and scripts."""
    return page.partition("</head>")[2].rpartition("<script>")[0].replace("><", ">\n<").splitlines()


# --- analyze ------------------------------------------------------------------------------------------------


def noisy(db: float) -> Closeness:
    return Closeness(1 - 10 ** (-db / 10), db, 10 ** (-db / 20), 10 ** (-db / 10), 2 * 10 ** (-db / 20), 100)


def every_node() -> Analysis:
    """A row for every colour of noise and its sides, with every cause and none of what may be missing."""
    rows = [
        replace(node(k), node=f"n{k}", tensor=f"t{k}", so_far=noisy(db), alone=noisy(db + 0.25),
                clipped=k / 64, used=k / 16, cause=("truncation", "rounding")[k % 2],
                part=("result", "weights", "inside")[k % 3])
        for k, db in enumerate((60.5, 50.0, 49.75, 40.0, 30.0, 20.0, 10.0, 3.0, 2.75, 0.0))
    ]  # fmt: skip
    rows[1] = replace(rows[1], module="", source="", remedies=(Remedy("int16", "int16"),))
    rows[2] = replace(rows[2], so_far=FAR, alone=SAME, simulated=SAME, deviating=0.0, source="")
    rows[3] = replace(
        rows[3], dtype="", step=None, range=None, clipped=None, used=None, vanished=None, unevenness=None,
        values=Counts(0.0, 0.5, ()), rounded=None, cause="", part="",
    )  # fmt: skip
    rows[4] = replace(
        rows[4], values=None, module="", remedies=(Remedy("mask", "a"), Remedy("widen", "b", 7.0))
    )
    rows[5] = replace(rows[5], values=Counts(0.0, 0.25, (4, 0, 1)), rounded=Counts(0.0, 0.5, ()), step=1.0)
    weights = tuple(
        WeightRange(f"n{k}", f"w{k}", "", "", 16 + k, k % 2 == 0, k, 5 - k, 7.96 - k, 2.0**k)
        for k in range(3)
    )
    made = Analysis(
        "float.onnx", "q.onnx", "", 1, 1, 0.9, tuple(rows), tuple(rows[2:]), weights, None, (), ()
    )
    return replace(made, unmatched=("u0", "u1", "u2"), notes=("why is this?", "that is so"))


def analyses() -> dict[str, tuple[Analysis, tuple[Sensitivity, ...]]]:
    every, many = every_node(), analysis()
    nine = tuple(f"u{k}" for k in range(9))
    empty = replace(every, rows=(), outputs=(), weights=(), unmatched=(), notes=())
    several = replace(every, first=First(every.rows[5], every.rows[5]), samples=2, given=3, unmatched=nine)
    but = tuple(replace(s, mode="all-but", module=f"m{s.index % 2 or ''}") for s in felt(3))
    return {
        "of every kind": (every, felt(12)),
        "with a binary": (many, ()),
        "wrong itself": (several, but),
        "of nothing": (empty, tuple(replace(s, source="") for s in felt(1))),
        "with eleven nodes": (replace(every, rows=(*every.rows, replace(every.rows[0], node="more"))), ()),
    }


@pytest.mark.parametrize("name", analyses())
def test_an_analysis_is_told_as_it_was(golden: Golden, name: str) -> None:
    found, sensitivity = analyses()[name]
    tables: list[Table | str] = [
        *(analysed.analysis_table(found, sort=sort, top=top) for sort, top in TOPS.items()),
        *(analysed.sensitivity_table(sensitivity, "mse", top=top) for top in (10, None) if sensitivity),
        analysed.weights_table(found.weights),
        *analysed.sentences(found),
    ]  # fmt: skip
    made: dict[str, Any] = {
        "words": lines(*tables),
    }
    if name != "with eleven nodes":
        made |= {
            "json": analysed.analysis_json(found),
            "sensitivity": analysed.sensitivity_json(sensitivity, "mse"),
            "csv": analysed.analysis_csv(found, "sqnr", sensitivity).splitlines(),
            "page": body(analysis_page(found, sensitivity, "mse", ABOUT)),
        }
    golden(f"report_analysis_{name.replace(' ', '_')}", made)


TOPS = dict(zip(analysed.SORTED, (10, 1, 2, None, 11, 3, 9, None), strict=True))


# --- quantize -----------------------------------------------------------------------------------------------


def closings() -> dict[str, Closing]:
    usual = closing(7)
    uses = tuple(
        RangeUse(f"r{k}", 0.1 * k, dtype, clipped, used, steps)
        for k, (dtype, clipped, used, steps) in enumerate(
            (d, c, u, s)
            for d in (DType.INT8, DType.INT16)
            for c, u, s in (
                (0.001, 0.25, 1.0), (0.00101, 0.25, 1.0), (0.5, 0.25, 9.0), (0.001, 0.2499, 1.0),
                (0.0, 0.01, 4.0), (0.0, 1.0, 0.999), (0.0, 1.0, 0.0), (0.0, 0.9, math.inf), (1.0, 0.1, 0.5),
            )
        )
    )  # fmt: skip
    looks = tuple(
        InputLook(f"i{k}", -k / 3, 255.0 * k, 1e5 / 3, 1 / 3, kind, ("one", "two")[:k])
        for k, kind in enumerate(("no picture", "pixels 0..1, not normalised", "pixels, normalised"))
    )
    few = replace(
        usual.report, cosines={"y": 0.99}, held_out=False, judged=1, same=(), inputs=looks, ranges=uses,
        types={"int8": 1}, findings=(), seconds={},
    )  # fmt: skip
    close = {f"y{k}": c for k, c in enumerate((0.99, 0.9899999, 1.0, 0.5))}
    more = replace(
        few, cosines=close, seconds={"a": 1.25, "b": 0.05, "c": 3.0, "d": 2.0}, judged=2, held_out=True
    )
    odd = replace(few, cosines={"y": math.nan}, ranges=uses[:3], judged=3)
    return {
        "usual": usual,
        "few samples": replace(usual, report=few),
        "four outputs": replace(usual, report=more, placement=usual.placement[:1]),
        "refused": Closing(odd, "nash-p", (), "because"),
    }


@pytest.mark.parametrize("name", closings())
def test_a_closing_report_is_told_as_it_was(golden: Golden, name: str) -> None:
    found = closings()[name]
    page = closing_page(found, "net", ("by max",), ABOUT)
    made = {"words": lines(closing_text(found)), "json": closing_json(found), "page": body(page)}
    golden(f"report_closing_{name.replace(' ', '_')}", made)


def searches() -> dict[str, Search]:
    usual = search(8)
    options = Recipe("mix", corrections=Corrections(True, True, True))
    mixed = Setup((("a", "int16"), ("b", "float"), ("c", "int16")), options)
    costly = Point("most", mixed, 0.97, -0.01, 0.9, 250.0, 1000.0, 11.5, ("b",), front=True)
    points = (usual.points[0], costly, replace(costly, name="worse", loss=5.0, front=False, cpu_us=2000.0))
    alone = replace(usual.points[0], front=True, left=("/decode/Softmax",))
    return {
        "usual": usual,
        "missed": replace(usual, goal=Goal(0.001, 0.1), reached=False, why="too noisy", told=()),
        "no share": replace(usual, is_share=False, goal=Goal(0.0)),
        "three": replace(usual, points=points, chosen=1, goal=Goal(None, 0.25), samples=1),
        "the whole": replace(usual, points=points, chosen=2, goal=Goal(0.02), samples=50, refused=()),
        "alone": replace(usual, points=(alone,), chosen=0, goal=Goal(0.02), samples=49, gains=()),
        "all as fast": replace(usual, points=(alone, replace(alone, name="too")), chosen=0, samples=0),
        "never better": replace(usual, points=(alone, replace(alone, name="slow", cpu_us=7.0)), chosen=1),
    }  # fmt: skip


@pytest.mark.parametrize("name", searches())
def test_a_search_is_told_as_it_was(golden: Golden, name: str) -> None:
    found = searches()[name]
    said = [*searched.sentences(found), *searched.notes(found), *searched.config_comments(found)]
    made = {
        "words": lines(searched.search_table(found), searched.front_plot(found), *said),
        "json": searched.search_json(found),
        "page": body(closing_page(closing(1), "net", (), ABOUT, found)),
    }
    golden(f"report_search_{name.replace(' ', '_')}", made)


# --- verify -------------------------------------------------------------------------------------------------


def verifications() -> Iterator[Verification]:
    exact = Comparison("y", 1.0, 0.0, 0.5, 0.0, 0.0, 1)
    off = Comparison("z", 0.98765432, 1.2345678, 0.25, 4.938, 0.123456, 300)
    none = Comparison("f", 0.0, math.inf, None, None, 1.0, 2)
    good = Verification("float64", (exact,), (exact,), None, None, (), (), (), 1, False)
    yield good
    ties = Explanation(tensors=3, ties=1, first_tie="here")
    parting = Parting("t of Conv 'c'", 2, 1, 1, 0.50004)
    yield replace(good, outputs=(exact, off), explanation=ties, parting=parting, noise=True, samples=2)
    near = Explanation(tensors=1, near=2, first_near="there")
    yield replace(good, outputs=(off,), onnxruntime=None, explanation=near, float32=("Sin", "Cos"))
    wrong = Explanation(9, 2, 1, 7, "a tie", "a bound", "Add 'a'", {"z": "off by 3"})
    yield replace(good, outputs=(off, none), explanation=wrong, failures=("z",), remarks=("one", "two"))
    yield replace(good, judge="ONNX Runtime", outputs=(none,), failures=("f",), onnxruntime=(none,))
    yield replace(good, outputs=(off,), explanation=Explanation())
    yield replace(good, outputs=(off,), explanation=Explanation(tensors=2))
    yield replace(good, outputs=(exact,) * 2, failures=("y",))


def test_a_verification_is_told_as_it_was(golden: Golden) -> None:
    made = [
        {
            "words": lines(verify.verify_table(v), *verify.sentences(v), verify.verdict(v)),
            "json": verify.verify_json(v),
        }
        for v in verifications()
    ]
    golden("report_verifications", made)


# --- eval ---------------------------------------------------------------------------------------------------


def scores() -> list[Score]:
    between = Interval(0.25, 0.75)
    classes = tuple(OfClass(f"c{k}", k / 32, k, (("c0", 2), ("c1", 1))[: k % 3]) for k in (*range(1, 22), 0))
    share = Score("a.onnx", "top1", 0.875, True, between, None, classes[:20])
    plain_ = Score("a.onnx", "loss", 1.23456789, False, between, None)

    def against(score: Score, value: float, p: float | None, only: int | None, test: str) -> Score:
        apart = Difference(value, between if p is not None else None, p, test, only, only and only + 1)
        return replace(score, model="b.onnx", value=score.value + value, difference=apart)

    return [
        share,
        against(replace(share, classes=classes), -0.125, 0.0499, 4, "McNemar"),
        plain_,
        against(plain_, 0.5, 0.05, None, "bootstrap"),
        replace(plain_, metric="raw", interval=None),
        against(replace(plain_, metric="raw", interval=None), 0.125, None, None, "bootstrap"),
        against(replace(share, metric="top5", classes=classes[:1]), 0.25, 0.001, 0, "McNemar"),
        against(replace(share, metric="top9", classes=()), 0.25, 0.000999, 1, "McNemar"),
    ]


def evaluations() -> Iterator[tuple[Evaluation, int]]:
    every = scores()
    two = Evaluation(("a.onnx", "b.onnx"), 3, 4, tuple(every), (), ("told",))
    yield two, 500
    yield replace(two, samples=4), 0
    for of_one in (every[:1], every[2:3], [every[0], every[2]], []):
        alone = replace(two, models=("a.onnx",), samples=1, of=1, scores=tuple(of_one))
        yield alone, 500
        yield alone, 0


def test_an_evaluation_is_told_as_it_was(golden: Golden) -> None:
    limits: list[Callable[[Evaluation], list[str]]] = [
        lambda e: e.failures(at_least=0.875),
        lambda e: e.failures(at_most_lost=0.125),
        lambda e: e.failures(at_least=0.8751, at_most_lost=0.1249),
    ]
    made: list[dict[str, Any]] = [
        {
            "words": lines(accuracy.accuracy_table(e), *accuracy.sentences(e, n), *accuracy.class_tables(e)),
            "brief": accuracy.in_brief(e.scores),
            "json": accuracy.accuracy_json(e),
            "csv": accuracy.class_csv(e).splitlines(),
            "failures": [limit(e) for limit in limits],
        }
        for e, n in evaluations()
    ]
    golden("report_evaluations", made)


def test_the_front_is_drawn_where_its_points_are() -> None:
    """Three points on a line: the ends in the corners, the middle halfway."""
    base = search(1).points[0]
    points = tuple(
        replace(base, name=f"p{k}", loss=0.1 * (2 - k), bpu_us=100.0 + k, cpu_us=0.0, front=True)
        for k in range(3)
    )
    drawn = searched.front_plot(replace(search(1), points=points, chosen=2, goal=Goal(0.0))).splitlines()
    grid = np.array([[*line[12:].ljust(61)] for line in drawn[:13]])
    assert np.argwhere(grid != " ").tolist() == [[0, 0], [6, 30], [12, 60]]
    assert (grid[0, 0], grid[6, 30], grid[12, 60]) == ("o", "o", "*")
    assert [line[:10].strip() for line in (drawn[0], drawn[12])] == ["20 %", "0 %"]


@pytest.mark.parametrize(
    ("losses", "row"),
    [
        ([0.2, 0.0, 0.1], 6),
        ([0.2, 0.0, 0.25], None),  # above the front
        ([0.2, 0.1, 0.0], 12),  # below all of it
        ([0.2, 0.1, -0.1], 12),
        ([0.1, 0.1, 0.0], 12),
        ([0.1, 0.1, 0.1], 12),  # on one level
    ],
)
def test_a_point_beside_the_front_is_drawn_unless_it_loses_more(losses: list[float], row: int | None) -> None:
    base = search(1).points[0]
    points = tuple(
        replace(base, name=f"p{k}", loss=lost, bpu_us=100.0 + k, front=k < 2) for k, lost in enumerate(losses)
    )
    drawn = searched.front_plot(replace(search(1), points=points, chosen=1, goal=Goal(0.0))).splitlines()
    assert [k for k, line in enumerate(drawn[:13]) if line.endswith(".")] == ([] if row is None else [row])
    assert all(len(line) == len(drawn[13]) for line in drawn if line.endswith("."))
    assert drawn[12].startswith(f"{searched.shown_loss(min(losses)):>10} |")


def test_the_axis_of_the_front_is_as_wide_as_its_scale() -> None:
    drawn = searched.front_plot(search(8)).splitlines()
    assert len(drawn[13]) == len(drawn[14]) == 12 + 61


@pytest.mark.parametrize("on", [("BPU",), ("CPU",), ("BPU", "CPU"), ("CPU", "BPU", "CPU", "BPU"), ()])
@pytest.mark.parametrize("top", [None, 1])
def test_the_sum_of_the_cpu_stands_where_there_is_one(on: tuple[str, ...], top: int | None) -> None:
    segments = tuple(
        SegmentLatency(f"s{k}", where, 10.0 - k, "simulated" if where == "BPU" else "estimate", cycles=7000)
        for k, where in enumerate(on)
    )
    said = lines(latency_table(Latency(segments, 1.0), top))
    names = [f"s{k}" for k in range(len(on))][:top]
    assert [line.split()[0] for line in said if line.strip().startswith("s") and "run" not in line] == names
    assert any("shorter" in line for line in said) is (len(names) < len(on))
    assert [line for line in said if "7,000" in line] == [
        line for line in said if line.split()[:2] in [[n, "BPU"] for n in names]
    ]
    assert any("all BPU segments" in line for line in said)
    assert any("all CPU segments" in line for line in said) is ("CPU" in on)
