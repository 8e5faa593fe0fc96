"""The `.hbm` file: a Program as bytes, and back. No pickle, no eval: JSON, arrays and instruction records.

Equal programs give equal bytes. A file is read through a memory map; a damaged, truncated, forged or newer
one raises HbmError and nothing else.
"""

from __future__ import annotations

import os

from openbpu.arch.definition.needs import BadRecordError
from openbpu.arch.errors import HbmError
from openbpu.arch.files import write_atomic
from openbpu.arch.hbm.check import check_program
from openbpu.arch.hbm.container import ALIGNMENT, FORMAT, MAGIC, Section, map_file, pack, unpack
from openbpu.arch.hbm.meta import from_sections, to_sections
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
    "read_sections",
    "to_bytes",
    "write_hbm",
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
    pieces = _pieces(program)
    try:
        write_atomic(path, pieces)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise HbmError(
            f"{os.fspath(path)}: the .hbm cannot be written ({reason}); choose another path"
        ) from error


def read_hbm(source: Source) -> Program:
    """Return the program in a file or in bytes; its constants and code are read-only views of the file's map.

    Every byte is checked. Raises HbmError: unreadable, not a .hbm, truncated, damaged, newer, inconsistent.
    """
    where, data = map_file(source)
    sections = unpack(where, data)
    try:
        program = from_sections(sections)
        check_program(program)
    except BadRecordError as error:
        raise HbmError(
            f"{where}: {error}, so something other than openbpu wrote it; compile the model again"
        ) from error
    return program


def read_sections(source: Source) -> tuple[Section, ...]:
    """Return the section table of a file whose every byte was checked; raises HbmError as `read_hbm` does."""
    where, data = map_file(source)
    return tuple(s for s, _ in unpack(where, data))
