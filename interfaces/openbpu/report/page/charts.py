"""The drawings of the page: use and bandwidth over time, the timeline of every core, the roofline."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from openbpu.report.page.markup import ENGINES, key, label, svg, text
from openbpu.report.text import in_time

_WIDTH, _LEFT, _RIGHT = 1100, 60, 1090
_ROW = 16
_STEPS = 1500
"""The finest step of a timeline: instructions of one layer that are closer together are drawn as one bar."""


def _x(share: float) -> float:
    return _LEFT + share * (_RIGHT - _LEFT)


def over_time(info: dict[str, Any]) -> str:
    """Draw "interval info": the tensor engine's use as bars, DDR bandwidth as lines."""
    used = info["interval computing unit utilization"]
    loaded = info["interval ddr loading bandwidth (megabytes/s)"]
    stored = info["interval ddr storing bandwidth (megabytes/s)"]
    total_us = info["interval number"] * info["interval time (ms)"] * 1e3
    if not total_us:
        return ""
    high, top, n = 170, 10, len(used)
    most = max(*loaded, *stored, 1.0)
    base = top + high
    parts = [f'<path class="axis" d="M{_LEFT} {top}V{base}H{_RIGHT}"/>']
    parts += [
        f'<rect class="tae" opacity=".45" x="{_x(i / n):.1f}" y="{base - u * high:.1f}" '
        f'width="{(_RIGHT - _LEFT) / n - 1:.1f}" height="{u * high:.1f}"><title>{u:.1%}</title></rect>'
        for i, u in enumerate(used)
    ]
    parts += [_line("load", loaded, most, base, high), _line("store", stored, most, base, high)]
    parts += [label(_LEFT - 6, top + 10, "100%", "end"), label(_LEFT - 6, base, "0", "end")]
    parts += [label(_RIGHT, top + 10, f"{most / 1e3:.1f} GB/s", "end")]
    parts += _time_axis(total_us, base + 16)
    names = 'tensor engine <i class="load"></i>DDR loading <i class="store"></i>DDR storing'
    return (
        svg(_WIDTH, base + 24, "use over time", parts)
        + f'<div class="key"><i class="tae"></i>{names}</div>\n'
    )


def _line(kind: str, values: Sequence[float], most: float, base: int, high: int) -> str:
    n = len(values)
    points = " ".join(f"{_x((i + 0.5) / n):.1f},{base - v / most * high:.1f}" for i, v in enumerate(values))
    return f'<polyline class="curve {kind}" points="{points}"/>'


def _time_axis(total_us: float, y: float) -> list[str]:
    ends = ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
    return [label(_x(share), y, in_time(share * total_us), anchor) for share, anchor in ends]


def timeline(details: Sequence[Sequence[dict[str, Any]]]) -> str:
    """Draw "details": what every engine of every core works on, and when."""
    ends = [e["start_time (us)"] + e["working_time (us)"] for core in details for e in core]
    total = max(ends, default=0.0)
    if not total:
        return ""
    parts, y, used = [], 0, set()
    for number, core in enumerate(details):
        mine = {e["inst_type"] for e in core}
        if len(details) > 1:
            y += _ROW
            parts.append(label(0, y - 4, f"core {number}"))
        for engine in (e for e in ENGINES if e in mine):
            parts.append(label(_LEFT - 6, y + _ROW - 4, engine, "end"))
            bars = _bars([e for e in core if e["inst_type"] == engine], total / _STEPS)
            parts += [_bar(engine, name, start, end, total, y) for name, start, end in bars]
            y += _ROW
        used |= mine
    parts += _time_axis(total, y + 14)
    return svg(_WIDTH, y + 20, "timeline", parts) + key(e for e in ENGINES if e in used)


def _bar(engine: str, name: str, start: float, end: float, total: float, y: int) -> str:
    x, wide = _x(start / total), (end - start) / total * (_RIGHT - _LEFT)
    said = f"{name}: {in_time(start)} ~ {in_time(end)}"
    return (
        f'<rect class="{engine.lower()}" x="{x:.2f}" y="{y + 2}" width="{max(wide, 0.3):.2f}" '
        f'height="{_ROW - 4}"><title>{text(said)}</title></rect>'
    )


def _bars(events: Sequence[dict[str, Any]], gap: float) -> Iterator[tuple[str, float, float]]:
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


def roofline(found: dict[str, Any]) -> str:
    """Draw the layers that multiply under the roof: MACs per byte against MACs per second."""
    dots = [x for x in found["layers"] if x["macs per byte"] and x["reached macs per us"]]
    if not dots:
        return ""
    roof = found["roof"]
    peak, ridge = roof["int8 macs per second"], roof["ridge (macs per byte)"]
    across = _Log([ridge / 100, ridge * 100, *(x["macs per byte"] for x in dots)], _LEFT, _RIGHT)
    up = _Log([peak / 1e4, peak * 2, *(x["reached macs per us"] * 1e6 for x in dots)], 300, 12)
    slope = peak / ridge
    low = max(across.low, up.low / slope)
    path = f"M{across(low):.1f} {up(low * slope):.1f}L{across(ridge):.1f} {up(peak):.1f}H{_RIGHT}"
    parts = [f'<path class="axis" d="M{_LEFT} 12V300H{_RIGHT}"/>', f'<path class="roof" d="{path}"/>']
    for x in dots:
        said = f"{x['layer name']}: {x['bound']}-bound, {x['macs per byte']:g} MACs per byte"
        parts.append(
            f'<circle class="{x["engine"].lower()}" opacity=".7" r="4" cx="{across(x["macs per byte"]):.1f}" '
            f'cy="{up(x["reached macs per us"] * 1e6):.1f}"><title>{text(said)}</title></circle>'
        )
    parts += [
        label(across(ridge), up(peak) - 4, f"{peak / 1e12:.3g} TMAC/s, {ridge:g} MACs per byte", "middle")
    ]
    parts += [label(_LEFT - 4, up(v), f"{v:.0e}", "end") for v in up.decades()]
    parts += [label(across(v), 314, f"{v:g}", "middle") for v in across.decades()]
    parts.append(label(_RIGHT, 328, "MACs per byte of DDR traffic", "end"))
    return svg(_WIDTH, 332, "roofline", parts)


class _Log:
    """A logarithmic axis: from values to places in the drawing."""

    def __init__(self, values: Sequence[float], first: float, last: float) -> None:
        self.low, self._high = min(values), max(values)
        self._first, self._last = first, last

    def __call__(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self._high / self.low)
        return self._first + share * (self._last - self._first)

    def decades(self) -> list[float]:
        """Return the powers of ten on the axis, a few of them."""
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self._high))
        step = max(1, (last - first) // 6)
        return [10.0**e for e in range(first, last + 1, step)]
