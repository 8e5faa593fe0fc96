"""What a command raises becomes one message on stderr and an exit code."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import typer

from openbpu.cli.signals import INTERRUPTED

ERROR = 1
CLOSED_PIPE = 141

_TRACEBACKS = "OPENBPU_DEBUG"


def prepare_process() -> None:
    """Make printing survive any encoding.

    A process without stdout ends here: a file opened later would take its number, and be printed into.
    """
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # for the whole process
    if sys.stdout is None:
        sys.stderr.write("openbpu: stdout is closed; send it to a file, or to /dev/null\n")
        sys.exit(ERROR)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def show_tracebacks() -> None:
    """Print the traceback of internal errors from now on, as OPENBPU_DEBUG=1 does."""
    os.environ[_TRACEBACKS] = "1"


def guarded(function: Callable[..., None]) -> Callable[..., None]:
    """Return `function` with every exception turned into a message and `typer.Exit`.

    Usage errors (typer's own) pass through: they print the usage and exit with 2.
    """

    @functools.wraps(function)
    def run(*args: Any, **options: Any) -> None:
        try:
            function(*args, **options)
            sys.stdout.flush()
        except Exception as error:  # noqa: BLE001  # the last line before the user: nothing may pass
            _report(error)
        except KeyboardInterrupt:
            _fail("interrupted", INTERRUPTED)

    return run


def run_app(app: Callable[..., None]) -> None:
    """Run the whole command, so that what fails outside of every subcommand is guarded, too.

    That is what `--install-completion` writes, and completion itself.
    """
    try:
        guarded(app)(prog_name="openbpu")
    except typer.Exit as ended:
        sys.exit(ended.exit_code)


def _report(error: Exception) -> NoReturn:
    """Print what a user should know about `error` and exit; typer's own exceptions are raised again."""
    from openbpu.arch.errors import OpenbpuError, printable

    if isinstance(error, typer.Exit | typer.Abort) or hasattr(error, "exit_code"):
        raise error
    if isinstance(error, BrokenPipeError):
        _close_stdout()
        raise typer.Exit(CLOSED_PIPE) from error
    if os.environ.get(_TRACEBACKS, "") not in ("", "0"):
        typer.echo(printable("".join(traceback.format_exception(error)), keep="\n"), err=True, nl=False)
    if isinstance(error, OpenbpuError):
        _fail(str(error), ERROR)
    if isinstance(error, MemoryError):
        _fail("not enough memory for this model; close other programs or use a machine with more", ERROR)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        _fail(f"{where}{error.strerror or error}; check the path, its permissions and the free space", ERROR)
    _fail(_internal(error), ERROR)


def _internal(error: Exception) -> str:
    text = " ".join(str(error).split())
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return (
        f"internal error in openbpu {version('openbpu')}: {what}; "
        "this is a bug, please report it with the model, this command and what `openbpu --debug …` prints"
    )


def _fail(message: str, code: int) -> NoReturn:
    from openbpu.arch.errors import printable

    typer.echo(f"openbpu: {printable(message)}", err=True)
    raise typer.Exit(code)


def _close_stdout() -> None:
    """Let nothing more be written to a pipe that nobody reads, also not at the end of the process."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
