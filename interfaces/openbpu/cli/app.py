"""The root of the `openbpu` command: what every subcommand shares."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any

import typer

from openbpu.cli import guard
from openbpu.cli.about import Remembered

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would cost every `--help` 0.1 s
)


def command(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a subcommand; what it raises becomes a message and an exit code."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        app.command(name, cls=Remembered)(guard.guarded(function))
        return function

    return register


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"openbpu {version('openbpu')}")
        raise typer.Exit


def _set_debug(wanted: Any) -> None:
    if wanted:
        guard.show_tracebacks()


@app.callback()
def root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", callback=_set_debug, help="Show the traceback of an internal error.")
    ] = False,
) -> None:
    """Compile quantized ONNX models for BPU-class NPUs and simulate them, bit-exact and with cycles."""
