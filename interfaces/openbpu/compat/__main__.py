"""`python -m openbpu.compat script.py [arguments]`: run a script written for the vendor's modules.

Also `python -m openbpu.compat -m package.module [arguments]`, as Python itself has it, and
the vendor's commands: `python -m openbpu.compat hb_compile -c net.yaml`.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from openbpu.arch.errors import OpenbpuError, printable
from openbpu.compat.commands import COMMANDS, run
from openbpu.compat.finder import install
from openbpu.compat.names import REFUSAL, answer
from openbpu.compat.registry import refused_in

_USAGE = """usage: python -m openbpu.compat script.py [arguments]
       python -m openbpu.compat -m module [arguments]
       python -m openbpu.compat COMMAND [arguments]

commands:
"""
_USAGE += "".join(f"  {name:18} {what}\n" for name, what in COMMANDS.items())


def main(arguments: list[str]) -> int:
    """Run the script as `__main__`; returns 2 for a wrong call, 1 for an error that openbpu explains."""
    if not arguments or arguments == ["-m"] or arguments[0] in ("-h", "--help"):
        sys.stderr.write(_USAGE)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    if arguments[0] in COMMANDS and not Path(arguments[0]).is_file():
        return run(arguments[0], arguments[1:])
    install()
    try:
        _run(arguments)
    except OpenbpuError as error:
        sys.stderr.write(printable(f"openbpu: {error}\n{_where(error)}", keep="\n"))
        return 1
    except (ImportError, AttributeError) as error:  # of a name that is refused
        if not str(error).startswith(REFUSAL):
            raise
        sys.stderr.write(printable(f"openbpu: {error}\n{_where(error)}", keep="\n"))
        return 1
    except NameError as error:  # of a name that a star import would have brought
        told = _missing(error)
        if not told:
            raise
        sys.stderr.write(printable(f"openbpu: {told}\n{_where(error)}", keep="\n"))
        return 1
    return 0


def _missing(error: NameError) -> str:
    """Say what becomes of a vendor's name that no star import brings here; "" for any other name."""
    row = refused_in(error.name or "")
    return "" if row is None else answer(row.module, row.name)


def _run(arguments: list[str]) -> None:
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path.insert(0, "")
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    script = Path(arguments[0])
    if not script.is_file():
        raise OpenbpuError(f"compat: the script must be a file, not '{script}'; check the path")
    sys.argv = arguments
    sys.path.insert(0, str(script.resolve().parent))
    runpy.run_path(str(script), run_name="__main__")


def _where(error: Exception) -> str:
    """Name the script's line that led to the error; a library's frames say nothing to its user."""
    found = error.__traceback__
    lines = []
    while found is not None:
        name = found.tb_frame.f_code.co_filename
        if found.tb_frame.f_globals.get("__name__") == "__main__" and Path(name).name != "__main__.py":
            lines.append(f"  {name}:{found.tb_lineno}\n")
        found = found.tb_next
    return lines[-1] if lines else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
