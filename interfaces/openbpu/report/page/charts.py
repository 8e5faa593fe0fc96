"""The drawings of the performance page: use and memory over time, timelines of the cores, the roofline."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from openbpu.report.page.parts import Bar, Bars, Mark, Plot
from openbpu.report.text import in_bytes, in_time

Json = dict[str, Any]
ENGINES = ("LOAD", "STORE", "TAE", "AAE", "VAE", "VPU", "SPU", "TRANS")
_ROW = 18
_STEPS = 1500
"""The finest step of a timeline: instructions of one layer that are closer together are drawn as one bar."""
_SHOWN_TYPES = 24


def key(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return a legend of engines by colour."""
    return [(name.lower(), name) for name in names]


def over_time(info: Json) -> Plot | str:
    """Draw "interval info": the tensor engine's use as bars, DDR bandwidth as lines; "" for no time."""
    used = info["interval computing unit utilization"]
    loaded = info["interval ddr loading bandwidth (megabytes/s)"]
    stored = info["interval ddr storing bandwidth (megabytes/s)"]
    total_us = info["interval number"] * info["interval time (ms)"] * 1e3
    if not total_us:
        return ""
    most, wide = max(*loaded, *stored, 1.0), 1000 / len(used)
    bars = [
        Mark("tae pale", box(i * wide, 1000 - u * 1000, wide * 0.94, u * 1000), said=f"{u:.1%}")
        for i, u in enumerate(used)
        if u
    ]
    lines = [
        Mark("load", line([v / most for v in loaded]), "line"),
        Mark("store", line([v / most for v in stored]), "line"),
    ]
    names = [("tae pale", "tensor engine (left)"), ("load", "DDR loading"), ("store", "DDR storing (right)")]
    right = [(0.02, f"{most / 1e3:.1f} GB/s"), (1.0, "0")]
    left = [(0.02, "100 %"), (1.0, "0")]
    return Plot("use over time", [*bars, *lines], 190, left, right, time_axis(total_us), names)


def memory(found: Json) -> Plot | str:
    """Draw "memory over time": bytes of tensors that something still needs, by memory; "" for no time."""
    series = {name: found[name] for name in ("on chip", "L2M", "DDR") if any(found[name])}
    if not series or not found["interval time (us)"]:
        return ""
    most = max(max(values) for values in series.values())
    css = {"on chip": "tae", "L2M": "aae", "DDR": "load"}
    marks = [Mark(css[n], stairs([v / most for v in values]), "line") for n, values in series.items()]
    total = found["interval time (us)"] * len(found["DDR"])
    left = [(0.02, in_bytes(most)), (1.0, "0")]
    return Plot("memory over time", marks, 190, left, (), time_axis(total), [(css[n], n) for n in series])


def timeline(details: Sequence[Sequence[Json]]) -> Plot | str:
    """Draw "details": what every engine of every core works on, and when; "" for no time."""
    ends = [e["start_time (us)"] + e["working_time (us)"] for core in details for e in core]
    total = max(ends, default=0.0)
    if not total:
        return ""
    lanes = [
        (n, engine) for n, core in enumerate(details) for engine in ENGINES
        if any(e["inst_type"] == engine for e in core)
    ]  # fmt: skip
    high, marks, left = 1000 / len(lanes), [], []
    for place, (n, engine) in enumerate(lanes):
        bars = _bars([e for e in details[n] if e["inst_type"] == engine], total / _STEPS)
        top = place * high + 0.1 * high
        for name, start, end in bars:
            x, wide = start / total * 1000, max((end - start) / total * 1000, 0.3)
            said = f"{name}: {in_time(start)} ~ {in_time(end)}"
            marks.append(Mark(engine.lower(), box(x, top, wide, 0.8 * high), said=said))
        left.append(((place + 0.5) / len(lanes), engine if len(details) == 1 else f"core {n} {engine}"))
    used = [e for e in ENGINES if any(engine == e for _, engine in lanes)]
    several = len(details) > 1
    return Plot("timeline", marks, _ROW * len(lanes), left, (), time_axis(total), key(used), wide=several)


def _bars(events: Sequence[Json], gap: float) -> Iterator[tuple[str, float, float]]:
    """Yield (layer, start, end), instructions of one layer with less than `gap` between them as one."""
    name, start, end = "", 0.0, -math.inf
    for event in sorted(events, key=lambda e: e["start_time (us)"]):
        layer, begins = ", ".join(event["source_layer_names"]), event["start_time (us)"]
        if layer != name or begins - end > gap:
            if name:
                yield name, start, end
            name, start = layer, begins
        end = begins + event["working_time (us)"]
    if name:
        yield name, start, end


def by_type(types: Sequence[Json]) -> Bars:
    """Draw "operator types": computing, loading and storing of each, the longest first."""
    parts = (("tae", "compute_us"), ("load", "load_us"), ("store", "store_us"), ("grey", "cpu_us"))
    most = max((sum(t[k] for _, k in parts) for t in types), default=0.0) or 1.0
    bars = tuple(
        Bar(
            f"{t['type']} ×{t['layers']}",
            tuple((css, t[k] / most) for css, k in parts if t[k]),
            in_time(sum(t[k] for _, k in parts)),
        )
        for t in types[:_SHOWN_TYPES]
    )
    names = (
        ("tae", "computing"), ("load", "DDR loading"), ("store", "DDR storing"), ("grey", "CPU, estimate")
    )  # fmt: skip
    used = {css for bar in bars for css, _ in bar.pieces}
    return Bars("time by operator type", bars, tuple(n for n in names if n[0] in used))


def roofline(found: Json) -> Plot | str:
    """Draw the layers that multiply under the roof: MACs per byte against MACs per second; "" for none."""
    dots = [x for x in found["layers"] if x["macs per byte"] and x["reached macs per us"]]
    if not dots:
        return ""
    roof = found["roof"]
    peak, ridge = roof["int8 macs per second"], roof["ridge (macs per byte)"]
    across = _Log([ridge / 100, ridge * 100, *(x["macs per byte"] for x in dots)])
    up = _Log([peak / 1e4, peak, *(x["reached macs per us"] * 1e6 for x in dots)])
    low = max(across.low, up.low / (peak / ridge))
    path = f"M{_m(across(low))} {_m(1 - up(low * peak / ridge))}L{_m(across(ridge))} {_m(1 - up(peak))}H1000"
    marks = [Mark("ink", path, "line")]
    for x in dots:
        said = f"{x['layer name']}: {x['bound']}-bound, {x['macs per byte']:g} MACs per byte"
        place = f"M{_m(across(x['macs per byte']))} {_m(1 - up(x['reached macs per us'] * 1e6))}h0"
        marks.append(Mark(x["engine"].lower(), place, "dot", said))
    left = [(1 - up(v), _rate(v)) for v in up.decades()]
    below = [(across(v), f"{v:g}") for v in across.decades()]
    used = [e for e in ENGINES if any(x["engine"] == e for x in dots)]
    roofed = f"the roof: {peak / 1e12:.3g} TMAC/s, from {ridge:g} MACs per byte of DDR traffic on"
    return Plot("roofline", marks, 320, left, (), below, [("ink", roofed), *key(used)])


def _rate(macs: float) -> str:
    """Return 1e13 MACs per second as "10 T/s"."""
    return f"{macs / 1e12:g} T/s" if macs >= 1e12 else f"{macs / 1e9:g} G/s"


class _Log:
    """A logarithmic axis: from values to shares of its length."""

    def __init__(self, values: Sequence[float]) -> None:
        self.low, self._high = min(values) / 1.5, max(values) * 1.5

    def __call__(self, value: float) -> float:
        return math.log(value / self.low) / math.log(self._high / self.low)

    def decades(self) -> list[float]:
        """Return the powers of ten on the axis, a few of them."""
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self._high))
        step = max(1, (last - first + 3) // 4)
        return [10.0**e for e in range(first, last + 1, step)]


def time_axis(total_us: float) -> list[tuple[float, str]]:
    """Return the labels of an axis from 0 to `total_us`."""
    return [(share, in_time(share * total_us)) for share in (0.0, 0.5, 1.0)]


def box(x: float, y: float, wide: float, high: float) -> str:
    """Return the path of a rectangle, in thousandths."""
    return f"M{x:.4g} {y:.4g}h{wide:.3g}v{high:.4g}h-{wide:.3g}z"


def line(shares: Sequence[float]) -> str:
    """Return the path through the middles of equal parts of the width, by shares of the height."""
    n = len(shares)
    points = (f"{1000 * (i + 0.5) / n:.1f} {_m(1 - v)}" for i, v in enumerate(shares))
    return "M" + "L".join(points)


def stairs(shares: Sequence[float]) -> str:
    """Return the path of a step function over equal parts of the width, by shares of the height."""
    wide = 1000 / len(shares)
    return f"M0 {_m(1 - shares[0])}" + "".join(
        f"V{_m(1 - v)}H{(i + 1) * wide:.1f}" for i, v in enumerate(shares)
    )


def _m(share: float) -> str:
    """Return a share in thousandths, as short as can be."""
    return f"{1000 * share:.1f}".removesuffix(".0")
