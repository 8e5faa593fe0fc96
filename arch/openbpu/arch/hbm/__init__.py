"""The `.hbm` file: a Program as bytes, and back. No pickle, no eval: JSON, arrays and instruction records.

Equal programs give equal bytes. A file is read through a memory map; a damaged, truncated, forged or newer
one raises HbmError and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from openbpu.arch.definition.needs import BadRecordError
from openbpu.arch.errors import HbmError, must
from openbpu.arch.files import write_atomic
from openbpu.arch.hbm.check import check_program
from openbpu.arch.hbm.container import ALIGNMENT, FORMAT, MAGIC, Section, map_file, pack, unpack
from openbpu.arch.hbm.meta import from_sections, to_sections
from openbpu.arch.hbm.package import MOST_GRAPHS, is_package, package_sections, programs_of
from openbpu.arch.program import Program

Source = str | os.PathLike[str] | bytes | bytearray | memoryview

__all__ = [
    "ALIGNMENT",
    "FORMAT",
    "MAGIC",
    "Section",
    "Source",
    "check_program",
    "check_writable",
    "read_hbm",
    "read_package",
    "read_sections",
    "to_bytes",
    "write_hbm",
    "write_package",
]


def check_writable(program: Program) -> None:
    """Raise the HbmError that `write_hbm` would raise for a program; nothing is written."""
    _sections(program)


def _pieces(program: Program) -> list[bytes | memoryview]:
    return pack(_sections(program))


def _sections(program: Program) -> list[tuple[str, memoryview]]:
    try:
        check_program(program)
        return list(to_sections(program))
    except BadRecordError as error:
        raise HbmError(
            f"program '{program.name}': {error}; this is a bug in what made the program"
        ) from error


def to_bytes(program: Program) -> bytes:
    """Return the bytes of a `.hbm`; raises HbmError for a program that `read_hbm` would refuse."""
    return b"".join(_pieces(program))


def write_hbm(program: Program, path: str | os.PathLike[str]) -> None:
    """Write a `.hbm`: the whole file or none.

    After any failure nothing is left behind and an existing file is as it was. Raises HbmError for a
    program that `read_hbm` would refuse and for a path that cannot be written.
    """
    _write(_pieces(program), path)


def write_package(programs: Sequence[Program], path: str | os.PathLike[str]) -> None:
    """Write several programs to one file, what they share stored once; as `write_hbm`.

    Raises HbmError as it does, and for more than MOST_GRAPHS programs, none, or two of one name.
    """
    names = [program.name for program in programs]
    if not 1 <= len(names) <= MOST_GRAPHS:
        raise HbmError(must(os.fspath(path), "the number of graphs", f"1..{MOST_GRAPHS}", len(names)))
    if len(set(names)) < len(names):
        fix = "give the graphs names of their own when they are exported"
        raise HbmError(must(os.fspath(path), "the names of graphs", "different", ", ".join(names), fix))
    for program in programs:
        check_writable(program)
    _write(pack(package_sections(programs)), path)


def _write(pieces: Sequence[bytes | memoryview], path: str | os.PathLike[str]) -> None:
    try:
        write_atomic(path, pieces)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise HbmError(
            f"{os.fspath(path)}: the .hbm cannot be written ({reason}); choose another path"
        ) from error


def read_hbm(source: Source) -> Program:
    """Return the program in a file or in bytes; its constants and code are read-only views of the file's map.

    Every byte is checked. Raises HbmError: unreadable, not a .hbm, truncated, damaged, newer, inconsistent,
    or several programs in one file, which `read_package` reads.
    """
    programs = read_package(source)
    if len(programs) > 1:
        where, _ = map_file(source)
        fix = "hbdk4.compiler.Hbm and hbm_runtime read such files; or compile each graph to a file of its own"
        found = f"{len(programs)}: {', '.join(p.name for p in programs)}"
        raise HbmError(must(where, "the number of graphs", "1 here", found, fix))
    return programs[0]


def read_package(source: Source) -> tuple[Program, ...]:
    """Return the programs in a file: one, or those that `write_package` wrote. Raises as `read_hbm` does."""
    where, data = map_file(source)
    sections = unpack(where, data)
    try:
        programs = tuple(programs_of(sections)) if is_package(sections) else (from_sections(sections),)
        for program in programs:
            check_program(program)
    except BadRecordError as error:
        raise HbmError(
            f"{where}: {error}, so something other than openbpu wrote it; compile the model again"
        ) from error
    if len({program.name for program in programs}) < len(programs):
        raise HbmError(
            f"{where}: two graphs have one name, which no linker of openbpu writes; link them again"
        )
    return programs


def read_sections(source: Source) -> tuple[Section, ...]:
    """Return the section table of a file whose every byte was checked; raises HbmError as `read_hbm` does."""
    where, data = map_file(source)
    return tuple(s for s, _ in unpack(where, data))
