"""How fast `timing` alone is: `python benchmarks/timing.py [MODEL.hbm …] [--limit 1e6]`.

Instructions per second of CPU time, the best of several runs in one process, of `simulate` alone: costs of
all instructions, event engine, sums by layer. Without arguments: the digits model, and networks of
`../shared/latency/graphs` compiled by --fast-perf, where that folder exists. The exit code is 1 when the
total (all instructions / all seconds) is below the limit.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from fidelity_data import GRAPHS, compiled
from rich.table import Table

from openbpu.arch.hbm import read_hbm
from openbpu.arch.march import get_march
from openbpu.arch.program import BpuSegment, Program
from openbpu.cli.screen import show
from openbpu.compiler import compile as compile_model
from openbpu.report.text import add_row, table
from openbpu.simulator.timing import simulate

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "models" / "digits" / "digits.q.onnx"
NETWORKS = (
    ("ResNet18", "nash-e"),
    ("YOLOv8n", "nash-e"),
    ("YOLOv8l", "nash-e"),
    ("YOLOv9e", "bayes-e"),
    ("YOLO12l", "bayes-e"),
)
LIMIT = 1e6
RUNS = 7


def programs(paths: list[Path]) -> Iterator[tuple[str, Program]]:
    """Yield the programs of files, or those compiled here."""
    for path in paths:
        yield path.name, read_hbm(path)
    if paths:
        return
    yield f"{DIGITS.stem} (nash-e)", compile_model(DIGITS, march="nash-e")
    for name, march in NETWORKS if GRAPHS.is_dir() else ():
        yield f"{name} ({march})", compiled(name, march)


def best_seconds(program: Program) -> float:
    """Return the CPU seconds of the fastest of several runs over all BPU segments."""
    march = get_march(program.march)
    segments = [s for s in program.segments if isinstance(s, BpuSegment)]

    def once() -> float:
        started = time.process_time()
        for segment in segments:
            simulate(program, segment, march)
        return time.process_time() - started

    return min(once() for _ in range(RUNS))


def main() -> int:
    """Print one row per program and the total; returns the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("models", nargs="*", type=Path)
    arguments.add_argument("--limit", type=float, default=LIMIT, help="instructions per second")
    given = arguments.parse_args()
    import openbpu.simulator.timing.compiled  # noqa: F401 - LLVM's start-up is no part of the rate

    made: Table = table("Program", "Instructions", "ms", "M/s", numbers=("Instructions", "ms", "M/s"))
    count, seconds = 0, 0.0
    for name, program in programs(given.models):
        mine = sum(len(c) for s in program.segments if isinstance(s, BpuSegment) for c in s.code)
        took = best_seconds(program)
        count, seconds = count + mine, seconds + took
        add_row(made, name, f"{mine:,}", f"{took * 1e3:.2f}", f"{mine / took / 1e6:.2f}")
    rate = count / seconds if seconds else 0.0
    show(made, f"{count:,} instructions in {seconds * 1e3:.1f} ms: {rate / 1e6:.2f} million per second")
    return int(rate < given.limit)


if __name__ == "__main__":
    sys.exit(main())
