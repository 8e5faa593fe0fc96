"""Whatever happens to the bytes of a `.hbm`, the reader says so and nothing else."""

import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arch.samples import full
from openbpu.arch.errors import HbmError
from openbpu.arch.hbm import FORMAT, Section, read_hbm, read_sections, to_bytes

GOOD = to_bytes(full())
SECTIONS = read_sections(GOOD)
HEADER = 64
TABLE_END = HEADER + 64 * len(SECTIONS)


@given(st.integers(0, len(GOOD) * 8 - 1))
@settings(max_examples=500, deadline=None)
def test_any_flipped_bit_is_detected(bit: int) -> None:
    data = bytearray(GOOD)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(HbmError):
        read_hbm(bytes(data))


def test_every_flipped_bit_of_header_and_table_is_detected() -> None:
    data = bytearray(GOOD)
    for bit in range(TABLE_END * 8):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(HbmError):
            read_hbm(bytes(data))
        data[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: s.name)
def test_the_damaged_section_is_named(section: Section) -> None:
    data = bytearray(GOOD)
    data[section.offset] ^= 1
    with pytest.raises(HbmError, match=rf"section '{section.name}' is damaged: .* copy it again or compile"):
        read_hbm(data)


@pytest.mark.parametrize("section", [s for s in SECTIONS if s.size % 64], ids=lambda s: s.name)
def test_flipped_padding_is_detected(section: Section) -> None:
    data = bytearray(GOOD)
    data[section.offset + section.size] ^= 0x80
    with pytest.raises(HbmError, match=f"section '{section.name}' is damaged"):
        read_hbm(data)


EDGES = {edge for s in SECTIONS for edge in (s.offset, s.offset + s.size)}
LENGTHS = {1, 7, 8, 12, HEADER - 1, HEADER, *(edge + d for edge in EDGES for d in (-1, 0, 1))}


@pytest.mark.parametrize("length", sorted(n for n in LENGTHS if n < len(GOOD)))
def test_truncation_is_said(length: int, tmp_path: Path) -> None:
    path = tmp_path / "m.hbm"
    path.write_bytes(GOOD[:length])
    with pytest.raises(HbmError, match=rf"m.hbm: the file is truncated: .* {length} found"):
        read_hbm(path)


def test_every_truncation_is_detected() -> None:
    for length in range(len(GOOD)):
        with pytest.raises(HbmError):
            read_hbm(GOOD[:length])


@pytest.mark.parametrize("source", [b"", Path("empty")])
def test_empty_is_said(source: bytes | Path, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(HbmError, match=r"empty|truncated"):
        read_hbm(tmp_path / source if isinstance(source, Path) else source)


def test_appended_bytes_are_detected() -> None:
    with pytest.raises(HbmError, match="bytes were appended"):
        read_hbm(GOOD + b"\0")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x08\x0a\x12\x07pytorch", "not an ONNX model; compile it first"),
        (b"GIF89a" * 40, "not something else"),
    ],
)
def test_another_kind_of_file_is_said(data: bytes, message: str) -> None:
    with pytest.raises(HbmError, match=message):
        read_hbm(data)


def test_text_mode_transfer_is_noticed() -> None:
    with pytest.raises(HbmError):
        read_hbm(GOOD.replace(b"\r\n", b"\n"))


def of_version(version: int, *, checksum: bool) -> bytes:
    head = bytearray(GOOD[:HEADER])
    struct.pack_into("<I", head, 8, version)
    if checksum:
        struct.pack_into("<I", head, 60, zlib.crc32(head[:60]))
    return bytes(head) + GOOD[HEADER:]


@pytest.mark.parametrize("checksum", [True, False])
def test_newer_format_asks_for_an_upgrade(checksum: bool) -> None:
    message = f"made by a newer openbpu: format {FORMAT + 1}, this package reads up to {FORMAT}"
    with pytest.raises(HbmError, match=message):
        read_hbm(of_version(FORMAT + 1, checksum=checksum))


def test_format_zero_never_existed() -> None:
    with pytest.raises(HbmError, match=f"the format must be {FORMAT}, not 0"):
        read_hbm(of_version(0, checksum=True))


@pytest.mark.parametrize("path", ["missing.hbm", ".", "nul\0byte"])
def test_unreadable_path_is_said(path: str, tmp_path: Path) -> None:
    with pytest.raises(HbmError, match="must be a readable file"):
        read_hbm(tmp_path / path)
