"""The closing report of `openbpu quantize` as text and as JSON: what matters first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from openbpu.evaluation.closing import Closing, InputLook, RangeUse, Report
from openbpu.report.placement import placement_json, placement_summary
from openbpu.report.text import count

_SHOWN = 3
"""Tensors of a kind that are named; `--json` has them all."""


def closing_text(found: Closing) -> str:
    """Return the report in a few lines."""
    report = found.report
    lines = [closeness_sentence(report), *_doubts(report), *_ranges(report)]
    lines += [f"input '{look.name}': {seen(look)}" for look in report.inputs]
    lines += [f"types: {', '.join(f'{n} tensors {kind}' for kind, n in report.types.items())}"]
    lines += [f"on {found.march}: {found.refused or placement_summary(found.placement)}", _time(report)]
    return "\n".join(line for line in lines if line)


def closing_json(found: Closing) -> dict[str, Any]:
    """Return the whole report as JSON, without the findings, which `quantize` lists in any case."""
    report = found.report
    return {
        "cosines": {name: _number(value) for name, value in report.cosines.items()},
        "samples": {
            "calibrated": report.calibrated,
            "judged": report.judged,
            "held_out": report.judged if report.held_out else 0,
        },
        "same_for_all_samples": list(report.same),
        "inputs": [_look_json(look) for look in report.inputs],
        "ranges": [_use_json(use) for use in report.ranges],
        "clipped": [use.tensor for use in report.clipped],
        "wasted": [use.tensor for use in report.wasted],
        "coarse": [use.tensor for use in report.coarse],
        "types": dict(report.types),
        "march": found.march,
        "placement": {
            "summary": placement_summary(found.placement) if not found.refused else "",
            "refused": found.refused,
            "cpu": [row for row in placement_json(found.placement) if row["on"] == "CPU"],
        },
        "seconds": {stage: round(value, 4) for stage, value in report.seconds.items()},
    }


def _number(value: float) -> float | None:
    """NaN, of outputs whose shapes depend on data, is no JSON."""
    return None if value != value else value  # noqa: PLR0124


def closeness_sentence(report: Report) -> str:
    """Say how close the outputs are, the worst first, and on which samples."""
    worst = sorted(report.cosines.items(), key=lambda item: item[1])
    shown = ", ".join(f"{name} {value:.6f}" for name, value in worst[:_SHOWN])
    more = f" and {len(worst) - _SHOWN} closer ones" if len(worst) > _SHOWN else ""
    if report.held_out:
        data = f"on {count(report.judged, 'sample')} held out, {report.calibrated} calibrated"
    else:
        data = f"on {count(report.judged, 'sample')} of the calibration itself: too few to hold any out"
    return f"cosine to the float model: {shown}{more} ({data})"


def _doubts(report: Report) -> Iterator[str]:
    for look in report.inputs:
        yield from (f"look at input '{look.name}': {doubt}" for doubt in look.doubts)
    for name in report.same:
        yield f"look at the data: output '{name}' of the float model is the same for all samples"


def _ranges(report: Report) -> Iterator[str]:
    yield _listed(report.clipped, "cut off more than 0.1 % of the values", lambda u: f"{u.clipped:.2%}")
    yield _listed(
        report.wasted, "keep most codes for less than 0.01 % of the values", lambda u: f"{u.used:.0%} used"
    )
    yield _listed(
        report.coarse, "have nine tenths of the values within one step", lambda u: f"{u.steps:.2g} steps"
    )


def _listed(uses: Sequence[RangeUse], what: str, told: Any) -> str:
    if not uses:
        return ""
    named = ", ".join(f"'{use.tensor}' {told(use)}" for use in uses[:_SHOWN])
    more = ", …" if len(uses) > _SHOWN else ""
    return f"{count(len(uses), 'range')} {what}: {named}{more}"


def seen(look: InputLook) -> str:
    """Say what the values of an input are, and what they look like."""
    hint = "; right if it was trained so, else give --mean and --std" if "not normalised" in look.kind else ""
    kind = "" if look.kind == "no picture" else f": {look.kind}{hint}"
    return f"{look.low:.4g} … {look.high:.4g}, {look.mean:.3g} ± {look.std:.3g}{kind}"


def _time(report: Report) -> str:
    slow = sorted(report.seconds.items(), key=lambda item: -item[1])[:_SHOWN]
    parts = ", ".join(f"{stage} {value:.1f}" for stage, value in slow)
    return f"time: {sum(report.seconds.values()):.1f} s ({parts})"


def _look_json(look: InputLook) -> dict[str, Any]:
    return {
        "name": look.name,
        "low": look.low,
        "high": look.high,
        "mean": look.mean,
        "std": look.std,
        "kind": look.kind,
        "doubts": list(look.doubts),
    }


def _use_json(use: RangeUse) -> dict[str, Any]:
    return {
        "tensor": use.tensor,
        "range": use.range,
        "type": use.dtype.value,
        "clipped": use.clipped,
        "used": use.used,
        "steps": use.steps if use.steps < float("inf") else None,
    }
