"""The vendor's commands: `python -m openbpu.compat hb_compile …`, on the engines of `openbpu`.

`run` is what the entry point calls; each command is a module with `main(arguments)`, loaded when it is asked
for. `launchers` writes programs of these names into a folder.
"""

from openbpu.compat.commands.run import COMMANDS, run

__all__ = ["COMMANDS", "run"]
