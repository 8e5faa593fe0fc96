"""A mixed precision search: the Pareto front as a table and as a picture, and everything as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any

from openbpu.evaluation.search import Point, Search
from openbpu.report.text import add_row, count, in_time, table

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH, _HEIGHT = 60, 12
"""Steps between the ends of the axes of the picture."""
_COLUMNS = _WIDTH + 1
_CHOSEN, _FRONT, _OTHER, _BASE = "*", "o", ".", "+"
_SHOWN = 6
"""Nodes that a sentence names."""


def search_table(found: Search) -> Table:
    """Return a row per point of the front, the fastest first, with the base and the chosen one."""
    against = f"Against {found.base.name}"
    numbers = ("Score", "Below float", "Latency", against, "int16", "float")
    made = table("", "Configuration", *numbers, numbers=numbers, sentences=("Configuration",))
    for point in _shown(found):
        add_row(
            made,
            _mark(found, point),
            point.name,
            shown_score(found, point.score),
            shown_loss(point.loss),
            in_time(point.latency_us),
            f"{100 * point.increase:+.1f} %",
            len(point.setup.named("int16")),
            len(point.setup.named("float")),
        )
    return made


def _shown(found: Search) -> list[Point]:
    points = [p for p in found.points if p.front or p in {found.base, found.best}]
    return sorted(points, key=lambda p: (p.latency_us, p.loss))


def _mark(found: Search, point: Point) -> str:
    if point is found.best:
        return _CHOSEN
    return _FRONT if point.front else _BASE if point is found.base else _OTHER


def shown_score(found: Search, value: float) -> str:
    """Return a value of the metric: a share in percent."""
    return f"{100 * value:.2f} %" if found.is_share else f"{value:.6g}"


def shown_loss(share: float) -> str:
    """Return how much is lost, in percent of float; dashes where that is no number."""
    return f"{100 * share:.3g} %" if isfinite(share) else "--"


def front_plot(found: Search) -> str:
    """Return the points as a picture of characters: latency to the right, what is lost upwards.

    The scale upwards ends where the front does: what loses more is left out.
    """
    lost = [p for p in found.points if isfinite(p.loss)]
    front = [p for p in lost if p.front]
    if len({p.latency_us for p in lost}) < 2 or not front:
        return ""
    high, low = max(_goal_loss(found), *(p.loss for p in front)), min(p.loss for p in lost)
    left, right = (f(p.latency_us for p in lost) for f in (min, max))
    rows = [[" "] * _COLUMNS for _ in range(_HEIGHT + 1)]
    for point in sorted(lost, key=lambda p: (p is found.best, p.front)):
        across = round((point.latency_us - left) / (right - left) * _WIDTH)
        up = round((point.loss - low) / (high - low) * _HEIGHT) if high > low else 0
        if up <= _HEIGHT:
            rows[_HEIGHT - up][across] = _mark(found, point)
    ends = {0: shown_loss(high), _HEIGHT: shown_loss(low)}
    lines = [f"{ends.get(k, ''):>10} |{''.join(row).rstrip()}" for k, row in enumerate(rows)]
    axis = f"{'':>10} +{'-' * _COLUMNS}"
    scale = f"{'':>12}{in_time(left)}{in_time(right):>{_COLUMNS - len(in_time(left))}}"
    legend = f"below float ↑, latency →; {_CHOSEN} chosen, {_FRONT} front, {_OTHER} other"
    return "\n".join([*lines, axis, scale, f"{'':>12}{legend}"])


def _goal_loss(found: Search) -> float:
    return found.goal.budget or 0.0


def sentences(found: Search) -> Iterator[str]:
    """Yield what the table does not say."""
    best = found.best
    yield (
        f"{found.metric} of float: {shown_score(found, found.float_score)}, "
        f"on {count(found.samples, 'sample')}; "
        f"{count(len(found.points), 'configuration')} tried on {found.march} in {found.seconds:.0f} s"
    )
    if found.reached:
        yield (
            f"{found.goal.words}: {best.name}, {shown_loss(best.loss)} below float at "
            f"{in_time(best.latency_us)} ({100 * best.increase:+.1f} %)"
        )
    left = f"float without pairs around, since they stay on the CPU of {found.march}"
    for kind, names in (("int16", found.nodes("int16")), ("float", found.nodes("float")), (left, best.left)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            yield f"{kind}: {', '.join(names[:_SHOWN])}{more}"
    if found.is_share and found.samples and 1 / found.samples > _goal_loss(found) > 0:
        yield f"one of {found.samples} samples is {100 / found.samples:.2g} %: more samples tell more"


def notes(found: Search) -> Iterator[str]:
    """Yield what to know of the data, and what could not be tried."""
    yield from found.told
    yield from (f"left out: {text}" for text in found.refused)


def config_comments(found: Search) -> list[str]:
    """Return what a config file says of where it comes from; no dates, so that it is the same each time."""
    best = found.best
    scores = f"{shown_score(found, best.score)}, float {shown_score(found, found.float_score)}"
    against = f"against {found.base.name} ({in_time(found.base.latency_us)})"
    return [
        f"Chosen by `openbpu quantize --auto`: {found.goal.words}.",
        f"{found.metric}: {scores}, on {count(found.samples, 'sample')}.",
        f"{found.march}: {in_time(best.latency_us)}, {100 * best.increase:+.1f} % {against}.",
        *([found.why] if found.why else []),
    ]


def search_json(found: Search) -> dict[str, Any]:
    """Return everything, the points in the order they were tried."""
    return {
        "metric": found.metric,
        "larger_is_better": found.larger,
        "samples": found.samples,
        "float": found.float_score,
        "goal": asdict(found.goal),
        "march": found.march,
        "reached": found.reached,
        "why": found.why,
        "chosen": found.chosen,
        "points": [_point_json(point) for point in found.points],
        "gains": [asdict(gain) for gain in found.gains],
        "config": dict(found.config),
        "refused": list(found.refused),
        "notes": list(found.told),
        "seconds": round(found.seconds, 3),
    }


def _point_json(point: Point) -> dict[str, Any]:
    return {
        "name": point.name,
        "score": point.score,
        "loss": point.loss if isfinite(point.loss) else None,
        "cosine": point.cosine,
        "latency_us": round(point.latency_us, 3),
        "bpu_us": round(point.bpu_us, 3),
        "cpu_us": round(point.cpu_us, 3),
        "increase": round(point.increase, 6),
        "front": point.front,
        "int16": _listed(point.setup.named("int16")),
        "float": _listed(point.setup.named("float")),
        "options": _listed(point.setup.recipe.words),
        "cpu_nodes": _listed(point.cpu_nodes),
        "left_float": _listed(point.left),
    }


def _listed(names: Sequence[str]) -> list[str]:
    return list(names)
