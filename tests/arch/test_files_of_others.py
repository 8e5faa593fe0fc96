"""What lies around an output file: permissions, temporary files of other writers, a disk that is full."""

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from openbpu.arch import files
from openbpu.arch.files import copy_file, write_atomic, write_text

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
ORPHAN = ".out.0123456789abcdef.tmp"


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


WRITER = """
import os, sys, time
from openbpu.arch.files import write_atomic
def chunks():
    yield b"half"
    print("half", flush=True)
    time.sleep(60)
write_atomic(sys.argv[1], chunks())
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that is in the middle of writing tmp_path/"out"."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", WRITER, str(tmp_path / "out")]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


@posix
def test_what_a_killed_writer_left_is_removed_by_the_next_one(
    writer: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    assert len(names(tmp_path)) == 1
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert len(names(tmp_path)) == 1
    write_atomic(tmp_path / "other", [b"x"])
    assert names(tmp_path) == ["other"]


@posix
def test_what_a_running_writer_writes_stays(writer: "subprocess.Popen[str]", tmp_path: Path) -> None:
    before = names(tmp_path)
    write_atomic(tmp_path / "other", [b"x"])
    assert names(tmp_path) == sorted([*before, "other"])
    assert writer.poll() is None


def test_writers_in_one_process_leave_each_other_alone(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"1"
        write_atomic(tmp_path / "inner", [b"2"])
        yield b"3"

    write_atomic(tmp_path / "outer", chunks())
    assert (tmp_path / "outer").read_bytes() == b"13"
    assert names(tmp_path) == ["inner", "outer"]


@posix
@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_leftover_is_removed_whatever_its_permissions(mode: int, tmp_path: Path) -> None:
    (tmp_path / ORPHAN).write_bytes(b"half")
    (tmp_path / ORPHAN).chmod(mode)
    write_atomic(tmp_path / "new", [b"x"])
    assert names(tmp_path) == ["new"]


@pytest.mark.parametrize(
    "name",
    ["out.0123456789abcdef.tmp", ".out.tmp", ".out.0123456789abcdeg.tmp", ".out.0123456789abcdef.tmp2"],
)
def test_files_that_only_look_like_leftovers_stay(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    write_atomic(tmp_path / "new", [b"x"])
    assert name in names(tmp_path)


@posix
def test_links_folders_and_files_of_others_are_no_leftovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "precious").write_bytes(b"kept")
    (folder / ORPHAN).symlink_to(tmp_path / "precious")
    (folder / ORPHAN.replace("a", "b")).mkdir()
    os.mkfifo(folder / ORPHAN.replace("a", "c"))
    before = names(folder)
    write_atomic(folder / "new", [b"x"])
    assert names(folder) == sorted([*before, "new"])
    (folder / ORPHAN.replace("a", "d")).touch()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    write_atomic(folder / "new", [b"x"])
    assert ORPHAN.replace("a", "d") in names(folder)


@posix
def test_a_file_that_was_taken_for_a_leftover_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = files._created
    taken: list[Path] = []

    def raced(path: Path, mode: int) -> object:
        file = made(path, mode)
        if not taken:  # another writer comes between creation and lock
            taken.append(path)
            path.unlink()
        return file

    monkeypatch.setattr(files, "_created", raced)
    write_atomic(tmp_path / "out", [b"whole"])
    assert taken
    assert (tmp_path / "out").read_bytes() == b"whole"


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o444])
def test_permissions_of_an_existing_file_are_kept(mode: int, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")
    (tmp_path / "out").chmod(mode)
    (tmp_path / "link").symlink_to("out")
    write_atomic(tmp_path / "link", [b"new"])
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == mode
    assert (tmp_path / "out").read_bytes() == b"new"


@posix
def test_bytes_and_name_are_on_the_disk_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    sync, rename = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        if events[-1] == "file":
            assert os.fstat(descriptor).st_size == 2  # nothing waits in a buffer of ours
        sync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        events.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    write_atomic(tmp_path / "out", [b"a", b"b"])
    assert events == ["file", "rename", "folder"]


@posix
def test_a_disk_that_fills_up_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")
    script = (
        "import resource, signal, sys; from openbpu.arch.files import write_atomic\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: write_atomic(sys.argv[1], [b'x' * 3000] * 3)\n"
        "except OSError as error: print(error.errno, error.filename)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", script, str(tmp_path / "out")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == f"{errno.EFBIG} {tmp_path / 'out'}\n"
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out").read_bytes() == b"old"


def test_a_name_of_long_characters_is_fine(tmp_path: Path) -> None:
    name = "名" * 80  # 240 of the 255 bytes that a file system takes
    write_atomic(tmp_path / name, [b"x"])
    assert names(tmp_path) == [name]


def test_text_is_utf_8_and_a_copy_has_the_bytes_of_its_source(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "é\n\udcff")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xa9\n?"
    copy_file(tmp_path / "a", tmp_path / "b")
    copy_file(tmp_path / "b", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"\xc3\xa9\n?"
