"""Programs of the vendor's names in a folder of the user's choice, each of which starts the command here.

They are not installed with openbpu: on a machine with the vendor's tools they would stand in front of them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from openbpu.arch.errors import InputError, must
from openbpu.arch.files import read_bounded, write_atomic
from openbpu.compat.commands.run import COMMANDS

_MARK = "openbpu.compat.commands"
_RUNNABLE = 0o777
"""Without what the umask takes away."""


def write_launchers(folder: Path) -> tuple[Path, ...]:
    """Write a program per command; returns the paths.

    Raises InputError where a file of that name is there that openbpu did not write; nothing is written then.
    """
    targets = {name: folder / (f"{name}.bat" if os.name == "nt" else name) for name in COMMANDS}
    for path in targets.values():
        if path.exists() and _MARK.encode() not in read_bounded(path, 1 << 16):
            fix = "choose another folder: this may be the vendor's own"
            raise InputError(
                must("compat-commands", "the folder", f"without a foreign {path.name}", f"'{path}'", fix)
            )
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in targets.items():
        write_atomic(path, [_text(name).encode()], mode=_RUNNABLE)
    return tuple(targets.values())


def _text(name: str) -> str:
    if os.name == "nt":
        return f'@"{sys.executable}" -m openbpu.compat {name} %*\r\n@rem {_MARK}\r\n'
    call = f"sys.exit(run({name!r}, sys.argv[1:]))"
    head = f"#!/bin/sh\n'''exec' \"{sys.executable}\" \"$0\" \"$@\"\n' '''\n"
    return f"{head}import sys\n\nfrom {_MARK} import run\n\n{call}\n"
