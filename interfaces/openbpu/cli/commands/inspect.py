"""What a `.hbm` holds and what a march is: info, disasm, march."""

from __future__ import annotations

import typer

from openbpu.cli import arguments
from openbpu.cli.app import command
from openbpu.cli.screen import show, show_json


@command("info")
def info(model: arguments.HbmFile, march: arguments.OwnMarch = None, json: arguments.Json = False) -> None:
    """Show what a .hbm file holds.

    March, inputs and outputs, segments, memory, sections.
    """
    arguments.readable(model)
    from openbpu.arch.hbm import read_sections
    from openbpu.report.info import info_json, info_tables
    from openbpu.runtime import Session

    session, sections = Session(model, march=march), read_sections(model)
    if json:
        show_json(info_json(session, sections))
        return
    show(*info_tables(session, sections))


@command("disasm")
def disasm(model: arguments.HbmFile, json: arguments.Json = False) -> None:
    """Print the instructions of a .hbm file."""
    arguments.readable(model)
    from openbpu.arch.hbm import read_hbm
    from openbpu.report.disasm import disasm_json, disassemble

    program = read_hbm(model)
    if json:
        show_json(disasm_json(program), compact=True)
        return
    for line in disassemble(program):
        typer.echo(line)


@command("march")
def march(
    name: arguments.MarchName = None,
    json: arguments.Json = False,
) -> None:
    """Show the marches, or one with every number.

    Every number comes with its unit, its source and how sure it is.
    """
    from openbpu.arch.march import get_march, march_names
    from openbpu.report.march import march_json, march_tables, marches_table

    if name is not None:
        found = get_march(name)
        show_json(march_json(found)) if json else show(*march_tables(found))
        return
    every = [get_march(n) for n in march_names()]
    show_json([march_json(m) for m in every]) if json else show(marches_table(every))
