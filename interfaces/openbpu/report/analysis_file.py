"""Reading what `openbpu analyze --json` printed, for the accuracy tab of a performance page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from openbpu.arch.errors import InputError, must
from openbpu.arch.files import read_bounded
from openbpu.evaluation.analysis import Analysis, First, Sensitivity

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST = 1 << 30
"""Bytes of an analysis; one of 1,000 nodes has 3 MB."""
_FIX = "give what `openbpu analyze --json` printed"
_BEYOND = {"cosine": math.nan, "l1": math.inf, "mse": math.inf, "max_abs": math.inf}
"""What null stands for in the JSON of a closeness; that of an SQNR depends on the rest."""


@dataclass(frozen=True, slots=True)
class Analysed:
    """An analysis, and the sensitivities by `metric` that were measured with it."""

    analysis: Analysis
    sensitivity: tuple[Sensitivity, ...] = ()
    metric: str = ""


def read_analysis(path: Path) -> Analysed:
    """Return the analysis in a file of JSON. Raises InputError for a file that holds none, OSError."""
    try:
        document = json.loads(read_bounded(path, _MOST).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(must(str(path), "the file", "JSON in UTF-8", f"({error})", _FIX)) from error
    try:
        return _analysed(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = ".".join(map(str, first["loc"])) or "the file"
        allowed = first["msg"].lower().removeprefix("input should be ")
        raise InputError(must(str(path), what, allowed, repr(first["input"])[:60], _FIX)) from error
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        told = f"another document ({type(error).__name__}: {error})"
        raise InputError(must(str(path), "the file", "an analysis", told, _FIX)) from error


def _analysed(document: Any) -> Analysed:
    rows = [_row(row) for row in document["nodes"]]
    first, felt = document["first"], document["sensitivity"]
    ends = [rows[k] for k in document["outputs"]]
    found = TypeAdapter(Analysis).validate_python(
        {
            "float_model": document["float"],
            "quantized": document["quantized"],
            "hbm": document["hbm"] or "",
            "samples": document["samples"],
            "given": document["samples given"],
            "min_cosine": document["min cosine"],
            "rows": rows,
            "outputs": ends,
            "weights": [_numbers(w, steps=0.0, unevenness=math.inf) for w in document["weights"]],
            "first": None,
            "unmatched": document["unmatched"],
            "notes": document["notes"],
        }
    )
    if first is not None:  # the very rows, not others that are equal
        found = replace(found, first=First(found.rows[first["row"]], found.rows[first["most row"]]))
    return Analysed(found) if felt is None else Analysed(found, _felt(felt["nodes"]), str(felt["metric"]))


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    seen = {key: row[key] and _closeness(row[key]) for key in ("so_far", "alone", "simulated")}
    return {**_numbers(row, least=math.nan, largest=math.nan), **seen}


def _closeness(of: Mapping[str, Any]) -> dict[str, Any]:
    found = _numbers(of, **_BEYOND)
    return _numbers(found, sqnr=-math.inf if found["max_abs"] else math.inf)


def _numbers(of: Mapping[str, Any], **beyond: float) -> dict[str, Any]:
    """Return a mapping with these in place of nulls."""
    return {key: beyond.get(key, value) if value is None else value for key, value in of.items()}


def _felt(rows: Sequence[Mapping[str, Any]]) -> tuple[Sensitivity, ...]:
    plain = [_numbers(row, value=math.nan, loss=math.nan) for row in rows]
    return TypeAdapter(tuple[Sensitivity, ...]).validate_python(plain)
