"""How far predicted latencies are from published ones: `python benchmarks/fidelity.py [MARCH …] [--fit]`.

Compiles the networks of `../shared/latency` by --fast-perf (kept in build/fidelity until a source or the
march changes), times them and prints published, predicted, error and bottleneck of each. `--fit` moves the
march's unpublished numbers (`fidelity_knobs.py`), then leaves one family of networks out at a time: that
figure is the headline. `--write` puts the fitted numbers into the march file. Skips where the data is absent.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import fidelity_data as data
import numpy as np
from fidelity_fit import Floats, fit, log_errors, log_errors_of, one_thread_errors
from fidelity_knobs import host_knobs, knobs
from fidelity_timing import Bench, Prediction
from rich.table import Table
from scipy.stats import kendalltau

from openbpu.arch.isa import Engine
from openbpu.cli.screen import show
from openbpu.report.text import add_row, table

FITTED = "benchmarks/fidelity.py, public latencies of model zoos"
DATE = "2026-11-21"


def main(arguments: Sequence[str]) -> int:
    """Report on the marches asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("march", nargs="*", default=list(data.MARCHES))
    parser.add_argument("--fit", action="store_true", help="fit, and leave each family out in turn")
    parser.add_argument(
        "--write", action="store_true", help="with --fit: write the numbers to the march file"
    )
    parser.add_argument("--rounds", type=int, default=6, help="steps of the optimiser")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    if not data.LATENCY.exists():
        sys.stdout.write(f"{data.LATENCY} is absent: nothing to compare with\n")
        return 0
    for march in options.march:
        report(march, options)
    return 0


def report(march: str, options: argparse.Namespace) -> None:
    """Print the tables of one march."""
    rows, bench = Bench.of_march(march, options.jobs)
    framed, usable = [r for r in rows if r.frame], [r for r in rows if r.measured]
    found = bench.predict(march, {}, [r.model for r in rows])
    show(_table(march, rows, found))
    errors = log_errors_of(framed, found)
    sys.stdout.write(f"{march}: {_summary(framed, errors)}\n{_one_thread(rows, found)}\n")
    if march == "bayes-e":
        sys.stdout.write(_estimates(found))
    if options.fit:
        done = fit(bench, march, knobs(march), usable, options.rounds)
        sys.stdout.write(f"fitted: {done.values}\n{march}, fitted: {_of_frames(usable, done.errors)}\n")
        left = leave_out(bench, march, usable, options.rounds)
        sys.stdout.write(f"{march}, each family left out: {_of_frames(usable, left)}\n")
        timed = [r for r in rows if r.one_thread]
        host = fit(bench, march, host_knobs(march), timed, options.rounds, one_thread_errors)
        off = np.abs(np.expm1(host.errors))
        sys.stdout.write(f"host: {host.values}; one thread, fitted: MAPE {off.mean():.1%}\n")
        if options.write:
            write(march, {**done.values, **host.values})
    bench.close()


def leave_out(bench: Bench, march: str, rows: Sequence[data.Row], rounds: int) -> Floats:
    """Return the log errors of every row, predicted by a fit of its own to the other families."""
    errors = np.zeros(len(rows))
    for family in sorted({r.family for r in rows}):
        mine = [i for i, r in enumerate(rows) if r.family == family]
        done = fit(bench, march, knobs(march), [r for r in rows if r.family != family], rounds)
        errors[mine] = log_errors(bench, march, done.values, [rows[i] for i in mine])
    return errors


def _of_frames(rows: Sequence[data.Row], errors: Floats) -> str:
    kept = [i for i, r in enumerate(rows) if r.frame]
    return _summary([rows[i] for i in kept], errors[kept])


def _summary(rows: Sequence[data.Row], errors: Floats) -> str:
    published = np.array([r.frame or 0.0 for r in rows])
    off = np.abs(np.expm1(errors))
    tau = kendalltau(published, published * np.exp(errors)).statistic
    worst = rows[int(off.argmax())].model
    return (
        f"{len(rows)} networks, MAPE {off.mean():.1%}, median {np.median(off):.1%}, "
        f"worst {off.max():.0%} ({worst}), Kendall {tau:.3f}"
    )


def _one_thread(rows: Sequence[data.Row], found: dict[str, Prediction]) -> str:
    pairs = [(found[r.model].one_thread / 1e3, r.one_thread) for r in rows if r.one_thread]
    return f"one thread: {len(pairs)} networks, MAPE {np.mean([abs(p / t - 1) for p, t in pairs]):.1%}"


def _estimates(found: dict[str, Prediction]) -> str:
    lines = []
    for model, (us, moved) in data.estimates().items():
        if model in found:
            ours = found[model]
            bytes_ = ours.loaded + ours.stored
            lines.append(
                f"{model}: vendor's estimate {us:.0f} us, {moved / 1e6:.2f} MB of DDR; "
                f"ours {ours.bpu:.0f} us ({ours.bpu / us - 1:+.0%}), "
                f"{bytes_ / 1e6:.2f} MB ({bytes_ / moved - 1:+.0%})\n"
            )
    return "".join(lines)


def _table(march: str, rows: Sequence[data.Row], found: dict[str, Prediction]) -> Table:
    numbers = ("Published", "Predicted", "Error", "One thread", "Predicted 1T", "DDR MB")
    made = table("Network", *numbers, "Bottleneck", numbers=numbers, title=march)
    for r in rows:
        p = found[r.model]
        add_row(
            made,
            r.model,
            f"{r.frame:.3f}" if r.frame else "",
            f"{p.frame_on(r.cores) / 1e3:.3f}",
            f"{p.frame_on(r.cores) / 1e3 / r.frame - 1:+.1%}" if r.frame else "",
            f"{r.one_thread:.2f}" if r.one_thread else "",
            f"{p.one_thread / 1e3:.2f}",
            f"{(p.loaded + p.stored) / 1e6:.1f}",
            bottleneck(p),
        )
    return made


def bottleneck(p: Prediction) -> str:
    """Return what a network spends most time on: an engine and the share of the BPU's time it is busy."""
    if p.frame > 2 * p.bpu:
        return "CPU"
    if not p.busy:
        return ""
    engine = int(np.argmax(p.busy))
    return f"{Engine(engine).name} {p.busy[engine]:.0%}"


def write(march: str, values: dict[str, int]) -> None:
    """Put fitted numbers into the march file, with date and source; only numbers the file holds itself."""
    path = data.ROOT / "arch" / "openbpu" / "arch" / "march" / f"{march}.json"
    text = Path(path).read_text(encoding="utf-8")
    for key, value in values.items():
        section, _, name = key.partition(".")
        start = text.index(f'"{section}": {{')
        unit = json.loads(text)[section][name]["unit"]
        entry = {"value": value, "unit": unit, "source": f"{FITTED}, {DATE}", "confidence": "fitted"}
        tail = re.sub(rf'"{name}": \{{[^\n]*?\}}', f'"{name}": {json.dumps(entry)}', text[start:], count=1)
        text = text[:start] + tail
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
