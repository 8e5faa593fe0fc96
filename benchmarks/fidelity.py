"""How far predicted latencies are from published ones: `python benchmarks/fidelity.py [MARCH …] [--fit]`.

Compiles the networks of `../shared/latency` by --fast-perf (kept in build/fidelity until a source or the
march changes), times them and prints published, predicted, error and bottleneck of each. `--fit` moves the
march's unpublished numbers (`fidelity_knobs.py`), then leaves one family of networks out at a time: that
figure is the headline. `--write` puts the fitted numbers into the march file. Every network is compiled as
the published one was built (`fidelity_builds.py`). Skips where the data is absent.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

import fidelity_data as data
import numpy as np
from fidelity_files import write
from fidelity_fit import (
    Fit,
    Floats,
    Values,
    Wrong,
    fit,
    fit_along,
    frame_errors,
    log_errors_of,
    one_thread_errors,
)
from fidelity_knobs import host_knobs, knobs
from fidelity_timing import Bench, Prediction
from rich.table import Table
from scipy.stats import kendalltau

from openbpu.arch.isa import Engine
from openbpu.cli.screen import show
from openbpu.report.text import add_row, table

DATE = "2026-11-30"
TOGETHER = (("nash-e", "nash-m"), ("nash-p",), ("bayes-e",))
"""Marches that are fitted together: nash-m is nash-e's core at another clock."""


def main(arguments: Sequence[str]) -> int:
    """Report on the marches asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("march", nargs="*", default=list(data.MARCHES))
    parser.add_argument("--fit", action="store_true", help="fit, and leave each family out in turn")
    parser.add_argument(
        "--write", action="store_true", help="with --fit: write the numbers to the march file"
    )
    parser.add_argument("--rounds", type=int, default=6, help="steps of the optimiser")
    parser.add_argument("--again", action="store_true", help="with --fit: time every left-out fit anew")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--tag", default="", help="keep programs under this name, whatever changes")
    options = parser.parse_args(arguments)
    if not data.LATENCY.exists():
        sys.stdout.write(f"{data.LATENCY} is absent: nothing to compare with\n")
        return 0
    for together in TOGETHER:
        if wanted := [march for march in together if march in options.march]:
            report(together if options.fit else wanted, options)
    return 0


def report(marches: Sequence[str], options: argparse.Namespace) -> None:
    """Print the tables of marches that are fitted together."""
    rows, bench = Bench.of_marches(marches, options.jobs, options.tag)
    for march in marches:
        found = bench.predict(march, {}, [r.model for r in rows[march]])
        show(_table(march, rows[march], found))
        framed = [r for r in rows[march] if r.frame]
        errors = log_errors_of(framed, [found[r.model] for r in framed])
        sys.stdout.write(f"{march}: {_summary(framed, errors)}\n{_one_thread(rows[march], found)}\n")
        if march == "bayes-e":
            sys.stdout.write(_estimates(found))
    if options.fit:
        _fit(bench, rows, options)
    bench.close()


def _fit(bench: Bench, by_march: dict[str, list[data.Row]], options: argparse.Namespace) -> None:
    """Fit marches together, then without each family; print both, and write the numbers if that was asked."""
    marches = list(by_march)
    usable = [r for rows in by_march.values() for r in rows if r.measured]
    done = fit(bench, knobs(marches), usable, options.rounds)
    left = _again if options.again else _along
    out = left(bench, done, usable, options.rounds)
    for march in marches:
        mine = [i for i, r in enumerate(usable) if r.march == march]
        rows = [usable[i] for i in mine]
        sys.stdout.write(f"{march}, numbers: {done.values(march)}\n")
        sys.stdout.write(f"{march}, fitted: {_of_frames(rows, done.errors[mine])}\n")
        sys.stdout.write(f"{march}, each family left out: {_of_frames(rows, out[mine])}\n")
        timed = [r for r in by_march[march] if r.one_thread]
        host = fit(bench, host_knobs(march), timed, options.rounds, _with(done.values(march)))
        off = np.abs(np.expm1(host.errors))
        sys.stdout.write(f"{march}, host: {host.values(march)}; one thread, fitted: MAPE {off.mean():.1%}\n")
        if options.write:
            write(march, {**done.values(march), **host.values(march)}, DATE)


def _with(numbers: dict[str, int]) -> Wrong:
    """Return what says how far off one thread is, beside numbers that are fitted already."""

    def errors(bench: Bench, values: Values, rows: Sequence[data.Row]) -> Floats:
        return one_thread_errors(bench, {march: {**numbers, **mine} for march, mine in values.items()}, rows)

    return errors


def _along(bench: Bench, done: Fit, rows: Sequence[data.Row], _: int) -> Floats:
    """Return the log errors of every row, timed with numbers fitted without its family.

    Those fits follow the slopes of the whole fit, taken once; what they predict is timed.
    """
    errors = np.zeros(len(rows))
    for mine, others in _families(rows):
        values = {r.march: fit_along(done, rows, others).values(r.march) for r in rows}
        errors[mine] = frame_errors(bench, values, [rows[i] for i in mine])
    return errors


def _again(bench: Bench, done: Fit, rows: Sequence[data.Row], rounds: int) -> Floats:
    """Return what `_along` does, by a fit from the first guesses for every family."""
    errors = np.zeros(len(rows))
    for mine, others in _families(rows):
        found = fit(bench, done.knobs, [rows[i] for i in others], rounds)
        values = {r.march: found.values(r.march) for r in rows}
        errors[mine] = frame_errors(bench, values, [rows[i] for i in mine])
    return errors


def _families(rows: Sequence[data.Row]) -> Iterator[tuple[list[int], list[int]]]:
    """Every family with the rows in it and those that are not."""
    for family in sorted({r.family for r in rows}):
        mine = [i for i, r in enumerate(rows) if r.family == family]
        yield mine, [i for i in range(len(rows)) if i not in set(mine)]


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
