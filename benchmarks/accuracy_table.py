"""The results of `accuracy.py`, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accuracy_networks import Network
from accuracy_quantizers import Binary
from rich.table import Table

from openbpu.cli.screen import show
from openbpu.evaluation.search import Search
from openbpu.report.text import add_row, table

PEERS = ("ONNX Runtime", "NNCF")
OURS = ("int8", "int8, best", "auto", "int16")
VERSIONS = ("openbpu", "onnxruntime", "onnx", "numpy", "pillow", "scipy")


@dataclass(frozen=True, slots=True)
class Choice:
    """What `--auto` chose. increase: of the latency against int8, a share · loss: below float, a share, on
    the samples that it was chosen by · reached: whether that is within the budget · int16, float: nodes.
    """

    name: str
    microseconds: float
    increase: float
    loss: float
    reached: bool
    int16: int
    float: int
    trials: int


def choice(found: Search) -> Choice:
    """Return what the table says of a search."""
    best = found.best
    return Choice(
        best.name,
        best.latency_us,
        best.increase,
        best.loss,
        found.reached,
        len(found.nodes("int16")),
        len(found.nodes("float")),
        len(found.points),
    )


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a network in one way: scores by measure, or why there are none.

    seconds: what this process spent on quantization (NNCF has one of its own); elapsed: of the clock.
    """

    network: str
    column: str
    way: str
    scores: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    elapsed: float | None = None
    binary: Binary | None = None
    note: str = ""
    chosen: Choice | None = None


def best_of(results: Sequence[Result], network: Network, columns: Sequence[str]) -> Result | None:
    """Return the result with the best first measure, then the second …; None where none has any."""
    mine = [r for r in results if r.network == network.name and r.column in columns and r.scores]
    return max(mine, key=lambda r: [r.scores[m.name] for m in network.measures], default=None)


def cell(result: Result | None, measure: str, peer: float | None) -> str:
    """Return a score as the table has it."""
    if result is None:
        return "--"
    score = result.scores[measure]
    below = peer is not None and result.column in OURS and score < peer - 1e-9
    return f"{score:.3f}{' <' if below else ''}"


def duration(result: Result | None) -> str:
    """Return the seconds of quantization as the table has them."""
    if result is None or result.seconds is None:
        return ""
    return f"{result.elapsed if result.column == 'NNCF' else result.seconds:.1f}"


def latency(result: Result | None) -> str:
    """Return what `--auto` costs on the chip against int8."""
    return f"{100 * result.chosen.increase:+.1f} %" if result and result.chosen else ""


def rows(results: Sequence[Result], networks: Sequence[Network]) -> Iterator[list[str]]:
    """Yield the table's rows: of each network one per measure, then the times of quantization."""
    for network in networks:
        best = {c: best_of(results, network, (c,)) for c in ("float", *PEERS, *OURS)}
        peer = best_of(results, network, PEERS)
        for number, measure in enumerate(network.measures if best["float"] else ()):
            peers_best = peer.scores[measure.name] if peer else None
            name = network.name if number == 0 else ""
            yield [name, measure.name, *(cell(r, measure.name, peers_best) for r in best.values())]
        if any(best[c] for c in (*PEERS, *OURS)):
            yield ["", "chosen", *((r.way if r and c != "float" else "") for c, r in best.items())]
            yield ["", "seconds", *map(duration, best.values())]
            yield ["", "latency", *map(latency, best.values())]


def printed(results: Sequence[Result], networks: Sequence[Network]) -> None:
    """Print the table, and what has no score."""
    columns = ("Network", "Measure", "float", *PEERS, *(f"ours {c}" for c in OURS))
    made: Table = table(*columns, numbers=columns[2:])
    lines = list(rows(results, networks))
    for row in lines:
        add_row(made, *row)
    notes = [f"{r.network}, {r.way}: {r.note}" for r in results if r.note]
    binaries = [r for r in results if r.binary]
    notes += [
        f"{r.network}, {r.way}, binary: {b.same} of {b.samples} samples equal the QDQ model, largest "
        f"difference {b.difference:.1e} of the range, {b.microseconds:,.0f} µs"
        for r in binaries
        if (b := r.binary)
    ]
    show(made, "\n".join(notes))


def markdown(results: Sequence[Result], networks: Sequence[Network]) -> str:
    """Return the table as docs have it."""
    columns = ("network", "measure", "float", *PEERS, *OURS)
    head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows(results, networks))])


def document(results: Sequence[Result], march: str) -> dict[str, Any]:
    """Return what `--json` writes."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "march": march,
        "versions": {name: version(name) for name in VERSIONS},
        "results": [asdict(r) for r in results],
    }


def loaded(path: Path) -> list[Result]:
    """Return the results of a file that `--json` wrote."""
    kept = json.loads(path.read_text(encoding="utf-8"))["results"]
    inner = {"binary": Binary, "chosen": Choice}
    return [Result(**{k: inner[k](**v) if k in inner and v else v for k, v in r.items()}) for r in kept]
