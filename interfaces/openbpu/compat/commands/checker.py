"""Where nodes will run: `hb_mapper checker`, and `hb_compile` without a configuration."""

from __future__ import annotations

from pathlib import Path

from openbpu.compat.commands.build import march_of
from openbpu.compat.commands.tables import node_table
from openbpu.compat.commands.yaml_file import Lines
from openbpu.compat.screen import say
from openbpu.compat.stages import read
from openbpu.evaluation.foresight import foresee


def checked(model: Path, march: str, shapes: dict[str, list[int]]) -> int:
    """Print the node table as it will be after quantization, with reasons and fixes; returns 0."""
    name = march_of(march, Lines("the command line"))
    found = foresee(read(model), march=name, shapes=shapes or None)
    if found.told:
        say(found.told)
    say(node_table(found.placement, None))
    return 0
