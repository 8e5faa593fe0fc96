"""Where the nodes of a model run, printed and written: what `check_model` and `advice` show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from openbpu.arch.files import write_text
from openbpu.arch.program import Placement
from openbpu.compat.screen import table
from openbpu.report.placement import placement_json, placement_summary


def placement_text(placement: Sequence[Placement]) -> str:
    """Return the table of every node, a reason and fix for every one on the CPU, and the summary."""
    rows = placement_json(placement)
    columns = ("node", "on", "subgraph", "type", "dtypes")
    found = table(
        ("Node", "ON", "Subgraph", "Type", "In/Out DataType"), [[row[c] for c in columns] for row in rows]
    )
    reasons = [
        f"{row['node']}: on the CPU: {row['reason']}"
        + (f"; {row['fix']}" if row["fix"] else "")
        + (f" ({row['source']})" if row["source"] else "")
        for row in rows
        if row["on"] == "CPU"
    ]
    return "\n".join([found, *reasons, placement_summary(placement)])


def write_placement(placement: Sequence[Placement], folder: Path) -> Path:
    """Write the placement as `advice.json` and `advice.txt` into a folder; returns the JSON's path."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"summary": placement_summary(placement), "placement": placement_json(placement)}
    path = folder / "advice.json"
    write_text(path, json.dumps(document, indent=2))
    write_text(folder / "advice.txt", placement_text(placement) + "\n")
    return path
