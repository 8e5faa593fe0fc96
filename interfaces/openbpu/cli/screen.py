"""Printing: tables for people, one JSON document for programs, progress on stderr when somebody watches."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from openbpu.arch.program import Program

Report = Callable[[str, float], None]
"""How long work reports: the stage and the share of it that is done, 0..1."""

_PIPE_WIDTH = 100_000


def show(*parts: RenderableType) -> None:
    """Print tables and sentences to stdout; a pipe gets every row on one line, without colours."""
    from rich.console import Console
    from rich.table import Table

    from openbpu.arch.errors import printable
    from openbpu.report.fit import fitted
    from openbpu.report.plain import plain

    wide = None if sys.stdout.isatty() else _PIPE_WIDTH
    console = Console(width=wide, highlight=False, markup=False, emoji=False, soft_wrap=False)
    is_plain = wide is not None and not console.is_terminal and not console.options.ascii_only
    for part in parts:
        if isinstance(part, str):
            console.print(printable(part, keep="\n"))
        elif not isinstance(part, Table):
            console.print(part)
        elif is_plain:
            typer.echo(plain(part))
        else:
            console.print(fitted(part, console.width))


def show_json(document: Any, *, compact: bool = False) -> None:
    """Print one JSON document to stdout; ASCII, so that no locale can spoil it."""
    typer.echo(as_json(document, compact=compact))


def as_json(document: Any, *, compact: bool = False) -> str:
    """Return JSON; `compact` is ten times as fast and for documents with a line per instruction."""
    return json.dumps(document, indent=None if compact else 2, allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    """NumPy numbers as Python's; anything else is a bug."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def note(text: str) -> None:
    """Say something on stderr that is not the result."""
    from openbpu.arch.errors import printable

    typer.echo(printable(text), err=True)


def say_if_kernels_compile(program: Program) -> None:
    """Tell a person who waits that the simulator compiles the kernels of this program, once per machine."""
    from openbpu.arch.program import BpuSegment
    from openbpu.simulator.fast import kernel_cache_dir, kernel_cache_refusals, kernels_are_cached

    on_bpu = any(isinstance(s, BpuSegment) for s in program.segments)
    if on_bpu and not kernels_are_cached(program):
        how = _how_kernels_are_kept(kernel_cache_dir(), kernel_cache_refusals())
        note(f"compiling the simulator's kernels for this machine, {how}")


def _how_kernels_are_kept(folder: Path, refused: Mapping[Path, str]) -> str:
    """Say how often kernels compile, and why they are not kept where one would look for them."""
    reasons = " nor in ".join(f"{place} ({reason})" for place, reason in refused.items())
    if folder in refused:
        return f"again each time: they cannot be kept in {reasons}; give another place by OPENBPU_CACHE_DIR"
    return f"once; they are kept in {folder}" + (f", as they cannot be in {reasons}" if refused else "")


@contextlib.contextmanager
def progress() -> Iterator[Report | None]:
    """Show a bar on stderr while the block runs; yields what work reports to, None without a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def report(stage: str, share: float) -> None:
            bar.update(task, description=stage, completed=share, total=1.0)

        yield report
