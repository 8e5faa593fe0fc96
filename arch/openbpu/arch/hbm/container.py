"""The container of a `.hbm`: header, section table, 64-byte aligned sections, a checksum over every byte.

    offset 0      header, 64 bytes: magic, format, number of sections, file size, zeros, table crc, header crc
           64     one 64-byte entry per section: name, offset, size, crc
           …      the sections in table order, each padded with zeros to a multiple of 64 bytes

All integers are little-endian. A section's crc covers its padding, so no bit of the file is outside a
checksum. The header's layout never changes: any version can read the format number of any other.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openbpu.arch.arrays import Bytes
from openbpu.arch.errors import HbmError, must

MAGIC = b"\x89HBM\r\n\x1a\n"  # as PNG's: a transfer in text mode, or one that clears bit 7, shows at once
FORMAT = 2
"""The newest format this package reads and the one it writes."""

ALIGNMENT = 64
_HEADER = struct.Struct("<8sIIQ32xII")
_ENTRY = struct.Struct("<40sQQII")
_CRC_BYTES = 4
_RECOMPILE = "copy it again or compile the model again"


@dataclass(frozen=True, slots=True)
class Section:
    """A section: byte offset from the start of the file, size without padding, crc32 with padding."""

    name: str
    offset: int
    size: int
    crc: int


def pack(sections: Sequence[tuple[str, memoryview]]) -> list[bytes | memoryview]:
    """Return the bytes of a file with these sections, in pieces; equal sections give equal bytes."""
    offset = _HEADER.size + _ENTRY.size * len(sections)
    table, body = bytearray(), list[bytes | memoryview]()
    for name, data in sections:
        padding = bytes(-data.nbytes % ALIGNMENT)
        crc = zlib.crc32(padding, zlib.crc32(data))
        table += _ENTRY.pack(name.encode("ascii"), offset, data.nbytes, crc, 0)
        body += (data, padding)
        offset += data.nbytes + len(padding)
    head = _HEADER.pack(MAGIC, FORMAT, len(sections), offset, zlib.crc32(table), 0)[:-_CRC_BYTES]
    return [head, struct.pack("<I", zlib.crc32(head)), bytes(table), *body]


def map_file(source: str | os.PathLike[str] | bytes | bytearray | memoryview) -> tuple[str, Bytes]:
    """Return how to call the file in messages, and its bytes, read-only (a memory map for a path)."""
    if isinstance(source, bytes | bytearray | memoryview):
        data = np.frombuffer(source, dtype=np.uint8)
        data.flags.writeable = False
        return "the .hbm", data
    path = Path(source)
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise HbmError(must(str(path), "the file", "a .hbm", "empty", "compile the model again"))
            return str(path), np.frombuffer(
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8
            )
    except (
        OSError,
        ValueError,
    ) as error:  # ValueError: a path with a null byte; a pipe, which cannot be mapped
        reason = getattr(error, "strerror", None) or error
        raise HbmError(
            must(str(path), "the .hbm", "a readable file", f"({reason})", "check the path")
        ) from error


def unpack(where: str, data: Bytes) -> list[tuple[Section, Bytes]]:
    """Check every byte of a file and return its sections in order, as views of `data`.

    Raises HbmError: not a .hbm, truncated, damaged (saying where), or of a newer format.
    """
    count, table_crc = _check_header(where, data)
    end = _HEADER.size + count * _ENTRY.size
    if end > data.size:
        raise HbmError(
            must(where, "the section table", f"within {data.size} bytes", f"{end} long", _RECOMPILE)
        )
    table = data[_HEADER.size : end]
    if zlib.crc32(table.data) != table_crc:
        raise _damaged(where, "section table")
    sections = [
        _entry(where, table[i : i + _ENTRY.size].tobytes()) for i in range(0, table.size, _ENTRY.size)
    ]
    return [(s, view) for s, view in zip(sections, _bodies(where, data, sections, end), strict=True)]


def _damaged(where: str, what: str) -> HbmError:
    return HbmError(f"{where}: the {what} is damaged: its checksum does not match; {_RECOMPILE}")


def _check_header(where: str, data: Bytes) -> tuple[int, int]:
    """Return the number of sections and the crc of their table."""
    head = data[: _HEADER.size].tobytes()
    if head[: len(MAGIC)] != MAGIC[: len(head)]:
        fix = "compile it first: openbpu compile" if head[:1] == b"\x08" else "make one with openbpu compile"
        looks = "an ONNX model" if head[:1] == b"\x08" else "something else (the first bytes differ)"
        raise HbmError(must(where, "the file", "a .hbm of openbpu", looks, fix))
    if len(head) < _HEADER.size:
        raise _truncated(where, data.size, f"at least {_HEADER.size}")
    _, version, count, size, table_crc, header_crc = _HEADER.unpack(head)
    newer = f"made by a newer openbpu: format {version}, this package reads up to {FORMAT}"
    if zlib.crc32(head[:-_CRC_BYTES]) != header_crc:
        doubt = f", or it was {newer}" if version > FORMAT else ""
        raise HbmError(f"{where}: the header is damaged: its checksum does not match{doubt}; {_RECOMPILE}")
    if version > FORMAT:
        raise HbmError(f"{where}: {newer}; upgrade openbpu, or compile the model again with this one")
    if version != FORMAT:
        raise HbmError(must(where, "the format", FORMAT, version, "compile the model again"))
    if data.size < size:
        raise _truncated(where, data.size, str(size))
    if data.size > size:
        raise HbmError(
            must(where, "the file", f"{size} bytes long", data.size, f"bytes were appended; {_RECOMPILE}")
        )
    return count, table_crc


def _truncated(where: str, actual: int, expected: str) -> HbmError:
    return HbmError(
        f"{where}: the file is truncated: {expected} bytes expected, {actual} found; {_RECOMPILE}"
    )


def _entry(where: str, raw: bytes) -> Section:
    name, offset, size, crc, zero = _ENTRY.unpack(raw)
    text = name.rstrip(b"\0")
    if zero or not text.isascii() or b"\0" in text:
        raise _forged(where, "a section's name is not plain text")
    return Section(text.decode("ascii"), offset, size, crc)


def _bodies(where: str, data: Bytes, sections: Sequence[Section], start: int) -> list[Bytes]:
    views = []
    for s in sections:
        end = s.offset + s.size
        padded = end + -end % ALIGNMENT
        if s.offset != start or padded > data.size:
            raise _forged(where, f"section '{s.name}' lies outside its place")
        if zlib.crc32(data[s.offset : padded].data) != s.crc:
            raise _damaged(where, f"section '{s.name}'")
        if data[end:padded].any():
            raise _forged(where, f"the padding of section '{s.name}' is not zero")
        views.append(data[s.offset : end])
        start = padded
    if start != data.size:
        raise _forged(where, f"{data.size - start} bytes belong to no section")
    return views


def _forged(where: str, what: str) -> HbmError:
    return HbmError(f"{where}: {what}, so something other than openbpu wrote it; compile the model again")
