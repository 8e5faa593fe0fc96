"""The vendor's commands as programs: compat-commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openbpu.cli import arguments
from openbpu.cli.app import command
from openbpu.cli.screen import show, show_json


@command("compat-commands")
def compat_commands(
    folder: Annotated[Path, typer.Argument(metavar="DIR", show_default=False)],
    json: arguments.Json = False,
) -> None:
    """Write the vendor's commands into a folder, for scripts that call them by name.

    hb_compile, hb_mapper, hrt_model_exec and so on; each runs as `python -m openbpu.compat NAME` does. Put
    the folder on the PATH.
    """
    from openbpu.compat.commands.launchers import write_launchers
    from openbpu.compat.commands.run import COMMANDS

    written = write_launchers(folder)
    if json:
        show_json({"folder": str(folder), "commands": [str(path) for path in written]})
        return
    show(
        "\n".join(f"{path.name}: {COMMANDS[path.stem]}" for path in written), f'export PATH="{folder}:$PATH"'
    )
