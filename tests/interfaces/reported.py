"""Reports made by hand, of any size and with any names, for the pages that show them."""

from __future__ import annotations

import math
from html.parser import HTMLParser

from openbpu.arch.dtypes import DType
from openbpu.arch.program import Placement
from openbpu.evaluation import Comparison, Explanation, Verification
from openbpu.evaluation.accuracy import Difference, Evaluation, Score
from openbpu.evaluation.accuracy.intervals import Interval
from openbpu.evaluation.accuracy.metrics import OfClass
from openbpu.evaluation.accuracy.results import Row
from openbpu.evaluation.analysis import (
    Analysis,
    Closeness,
    Counts,
    First,
    NodeError,
    Remedy,
    Sensitivity,
    WeightRange,
)
from openbpu.evaluation.beside import Parting
from openbpu.evaluation.closing import Closing, Finding, InputLook, RangeUse, Report
from openbpu.evaluation.search import Goal, Point, Search
from openbpu.evaluation.search.result import Gain
from openbpu.evaluation.search.setup import Setup

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7*7 }} ${7*7} a&lt;b",
    "]]></style></script><h1>",
    "n" * 300,
    "/модель/слой/卷积/" + "層" * 40,
    "\x1b[31m\u202egnp.exe",
)
VOID = ("meta",)


class Page(HTMLParser):
    """Text by element; every tag is closed by its own."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.open += [] if tag in VOID else [tag]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def name(k: int, hostile: bool) -> str:
    return HOSTILE[k % len(HOSTILE)] + str(k) if hostile else f"/model.{k // 9}/block.{k % 9}/Conv_{k}"


def analysis(n: int = 12, *, hostile: bool = False) -> Analysis:
    """An analysis of n nodes: the third is the worst alone, the fourth the first that goes wrong."""
    rows = tuple(node(k, hostile) for k in range(n))
    weights = (WeightRange(name(1, hostile), "w", "module.1", "net.py:3", 16, True, 3, 5, 2.5, math.inf),)
    first = First(rows[3], rows[2])
    return Analysis(
        "a/float.onnx", "b/q.onnx", "c/q.hbm", 4, 64, 0.99, rows, rows[-1:], weights, first, (), ()
    )


def node(k: int, hostile: bool = False) -> NodeError:
    """Node k: each has another error, the third clips, every fifth adds nothing."""
    called, worst = name(k, hostile), k == 2
    remedies = (Remedy("widen", "a wider range: --method max", 38.5), Remedy("int16", called))
    exact = Closeness(1.0, math.inf, 0.0, 0.0, 0.0, 100)
    alone = Closeness(1 - 1e-4 * k, 13.5 if worst else 50 - k % 30, 0.01 * k, 1e-4, 0.1 + k, 100)
    so_far = Closeness(0.9 if k >= 3 else 0.9999, 12.0 if k >= 3 else 40.0, 0.02, 1e-3, 0.5, 100)
    counts = tuple(int(1000 * math.exp(-(((i - 32) / 12) ** 2))) for i in range(64))
    return NodeError(
        index=k, node=called, op=called if hostile else "Conv", tensor=f"t{k}", through=(),
        module=called if hostile else f"module.{k}", source="net.py:7", so_far=so_far,
        alone=exact if k % 5 == 4 else alone, simulated=so_far if k % 2 else None,
        deviating=0.25 if k % 2 else None, dtype="int8", step=0.01, range=(-1.28, 1.27), least=-2.0,
        largest=2.0, clipped=0.03 if worst else 0.0, used=0.5, vanished=0.0, unevenness=2.0,
        cause="truncation" if worst else "rounding", part="result",
        remedies=remedies if worst else (),
        values=Counts(-2.0, 0.0625, counts), rounded=Counts(-1.25, 0.0625, counts[12:52]),
    )  # fmt: skip


def felt(n: int = 12, *, hostile: bool = False) -> tuple[Sensitivity, ...]:
    return tuple(
        Sensitivity(k, name(k, hostile), "Conv", f"t{k}", "", "net.py:7", "only", 1 - k / 1000, k / 1000, 4)
        for k in reversed(range(n))
    )


def closing(n: int = 12, *, hostile: bool = False) -> Closing:
    """A closing report with one range of each kind to look at, an input to doubt and a node on the CPU."""
    ranges = tuple(
        RangeUse(
            name(k, hostile), 1.0 + k, DType.INT8, *((0.02, 0.9, 20), (0.0, 0.1, 20), (0.0, 0.9, 0.5))[k % 3]
        )
        for k in range(n)
    )
    look = InputLook(
        name(0, hostile), 0.0, 255.0, 120.0, 60.0, "pixels 0..255, not normalised", ("too large",)
    )
    report = Report(
        cosines={name(1, hostile): 0.95, "y": 0.9999, "z": math.nan},
        calibrated=58,
        judged=6,
        held_out=True,
        same=("y",),
        inputs=(look,),
        ranges=ranges,
        types={"int8": n, "int16": 1},
        findings=(Finding("swallowed", "t", name(2, hostile), f"{name(2, hostile)} swallows its inputs"),),
        seconds={"observe": 1.5, "write": 0.25},
    )
    rows = tuple(
        Placement(name(k, hostile), "Conv", "CPU" if k == 1 else "BPU", 0, "int8/int8",
                  name(k, hostile) if k == 1 else "", "quantize it" if k == 1 else "")
        for k in range(n)
    )  # fmt: skip
    return Closing(report, "nash-e", rows)


def search(n: int = 8, *, hostile: bool = False) -> Search:
    """A search of n configurations: every second is on the front, the fifth was chosen, the last broke."""
    points = tuple(
        Point(f"int16 for {k}" if k else "int8", Setup(tuple((name(j, hostile), "int16") for j in range(k))),
              0.9 + k / 100, math.inf if k == n - 1 else 0.08 - k / 100, 0.99, 100.0 + 5 * k, 0.0, 0.05 * k,
              (), front=k % 2 == 0)
        for k in range(n)
    )  # fmt: skip
    gains = tuple(Gain(name(k, hostile), (name(k + 1, hostile),), 0.1 / (k + 1), 2.0) for k in range(3))
    return Search(
        metric=name(0, hostile)[:40] if hostile else "top1", larger=True, is_share=True, samples=64,
        float_score=0.98, goal=Goal(0.05), march="nash-e", points=points, chosen=4, reached=True, why="",
        gains=gains, refused=(name(1, hostile),), told=("all the same",), config={}, seconds=12.0,
    )  # fmt: skip


def verification(n: int = 9, *, hostile: bool = False) -> Verification:
    """n outputs, of which the second is wrong and the third has no step."""
    steps = (None, 0.0, 9.0)
    outputs = tuple(
        Comparison(name(k, hostile), 1 - k / 64, k / 8, None if k == 2 else 0.5, steps[k % 3], k / 100, 64)
        for k in range(n)
    )
    where = f"'{name(1, hostile)}' (Conv)"
    said = Explanation(30, 4, 5, 6, f"{where}: 4 codes", where, where, {name(1, hostile): "codes beyond"})
    failure = f"output '{name(1, hostile)}': 9 steps"
    parting = Parting(where, 3, 64, 2, 0.5001)
    remarks, float32 = (f"remark on {name(2, hostile)}",), ("LSTM",)
    return Verification(
        "float64", outputs, outputs, parting, said, (failure,), remarks, float32, samples=3, noise=True
    )


def evaluated(*, hostile: bool = False) -> Evaluation:
    """Three models on seven samples, with classes of a name each."""
    models = tuple(name(k, hostile) for k in range(3))
    classes = tuple(OfClass(name(k, hostile), k / 8, k, ((name(k + 1, hostile), 2),)) for k in range(4))
    scores = []
    for metric, share in (("top1", True), ("mine:error", False)):
        for k, model in enumerate(models):
            apart = Difference(-k / 50, Interval(-0.1, 0.02), 0.04 * k, "McNemar", 3, 1) if k else None
            value = 0.9 - k / 50
            scores.append(
                Score(model, metric, value, share, Interval(0.8, 0.95), apart, classes if share else ())
            )
    rows = tuple(Row(name(k, hostile), k, {m: {"top1": k % 2} for m in models}) for k in range(7))
    return Evaluation(models, 7, 9, tuple(scores), rows, ("two samples had no label",))
