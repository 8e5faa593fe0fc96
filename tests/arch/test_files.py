"""An output file is whole or not there at all."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from arch.samples import every_operator, full
from openbpu.arch.errors import HbmError
from openbpu.arch.files import write_atomic
from openbpu.arch.hbm import read_hbm, to_bytes, write_hbm


def broken(error: BaseException) -> Iterator[bytes]:
    yield b"half"
    raise error


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), MemoryError(), OSError(28, "No space left on device")]
)
@pytest.mark.parametrize("before", [None, b"old"])
def test_failure_leaves_what_was_there(error: BaseException, before: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "out"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(type(error)):
        write_atomic(path, broken(error))
    assert [p.name for p in tmp_path.iterdir()] == ([] if before is None else ["out"])
    assert before is None or path.read_bytes() == before


def test_interrupt_while_renaming_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_hbm(every_operator(), tmp_path / "m.hbm")

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_hbm(full(), tmp_path / "m.hbm")
    assert [p.name for p in tmp_path.iterdir()] == ["m.hbm"]
    assert read_hbm(tmp_path / "m.hbm") == every_operator()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "out", [b"x"])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640


def test_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_atomic(tmp_path / "link", [b"new"])
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_long_name_is_fine(tmp_path: Path) -> None:
    write_atomic(tmp_path / ("n" * 250), [b"x"])
    assert (tmp_path / ("n" * 250)).read_bytes() == b"x"


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="no devices")
def test_device_is_refused_and_stays_one() -> None:
    with pytest.raises(HbmError, match="not a regular file"):
        write_hbm(full(), "/dev/null")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("folder", "Is a directory"),
        ("missing/m.hbm", "No such file"),
        ("file/m.hbm", "Not a directory"),
        ("\0", "null"),
    ],
)
def test_unwritable_path_is_said(path: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(HbmError, match=f"cannot be written .*{message}.*choose another path"):
        write_hbm(full(), tmp_path / path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_written_bytes_are_those_of_to_bytes(tmp_path: Path) -> None:
    write_hbm(full(), tmp_path / "m.hbm")
    assert (tmp_path / "m.hbm").read_bytes() == to_bytes(full())
