"""The tables and scatter plots of docs/fidelity.md: `python benchmarks/fidelity_page.py` (needs matplotlib).

Writes docs/fidelity_networks.md and docs/images/fidelity-MARCH.svg from the march files as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import fidelity_data as data
from fidelity import bottleneck
from fidelity_timing import Bench, Prediction

PAGE = data.ROOT / "docs" / "fidelity_networks.md"
IMAGES = data.ROOT / "docs" / "images"
HEAD = """# Predicted and published latencies, network by network

Written by `python benchmarks/fidelity_page.py`; what it means is in [fidelity.md](fidelity.md). Times are in
ms per frame of one core.
"""


def main(arguments: Sequence[str]) -> int:
    """Write the page and the plots of all marches; returns the exit code.

    arguments: nothing, or the `--tag` of a run of `fidelity.py` whose programs are taken.
    """
    tag = arguments[0] if arguments else ""
    if not data.LATENCY.exists():
        sys.stdout.write(f"{data.LATENCY} is absent: nothing to compare with\n")
        return 0
    parts = [HEAD]
    for march in data.MARCHES:
        by_march, bench = Bench.of_marches([march], tag=tag)
        rows = by_march[march]
        found = bench.predict(march, {}, [r.model for r in rows])
        bench.close()
        parts.append(_table(march, rows, found))
        _plot(march, rows, found)
    PAGE.write_text("\n".join(parts), encoding="utf-8")
    return 0


def _table(march: str, rows: Sequence[data.Row], found: dict[str, Prediction]) -> str:
    lines = [
        f"## {march}",
        "",
        f"![{march}](images/fidelity-{march}.svg)",
        "",
        "| network | published ms | predicted ms | error | one thread ms | predicted | DDR MB | bottleneck |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for r in rows:
        p = found[r.model]
        ms = p.frame_on(r.cores) / 1e3
        error = f"{ms / r.frame - 1:+.1%}" if r.frame else ""
        cells = (
            r.model,
            r.frame or "",
            f"{ms:.3f}",
            error,
            r.one_thread or "",
            f"{p.one_thread / 1e3:.2f}",
            f"{(p.loaded + p.stored) / 1e6:.1f}",
            bottleneck(p),
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*lines, ""])


def _plot(march: str, rows: Sequence[data.Row], found: dict[str, Prediction]) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = march  # the same picture gives the same file
    from matplotlib import pyplot as plt

    pairs = [(r.frame, found[r.model].frame_on(r.cores) / 1e3, r.model) for r in rows if r.frame]
    figure, axes = plt.subplots(figsize=(6, 6))
    low, high = min(p[0] for p in pairs) / 1.3, max(p[0] for p in pairs) * 1.3
    axes.plot([low, high], [low, high], color="grey", linewidth=1)
    for factor in (0.8, 1.25):
        axes.plot([low, high], [low * factor, high * factor], color="lightgrey", linewidth=0.8)
    axes.scatter([p[0] for p in pairs], [p[1] for p in pairs], s=14)
    for published, predicted, model in pairs:
        if abs(predicted / published - 1) > 0.15:
            axes.annotate(model, (published, predicted), fontsize=7)
    axes.set(xscale="log", yscale="log", xlabel="published, ms", ylabel="predicted, ms", title=march)
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGES / f"fidelity-{march}.svg", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
