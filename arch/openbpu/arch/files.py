"""Output files that are whole or not there at all: written beside their place, then renamed over it.

Every file that openbpu writes for its user goes through here. The bytes are on the disk before the name
points to them. What a killed process leaves behind is removed by the next writer of the folder: a temporary
file belongs to a living writer exactly as long as that writer holds a lock on it.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

fcntl = importlib.import_module("fcntl") if os.name == "posix" else None
"""Locks; on Windows an open file cannot be removed by others, which does as well."""

Chunk = bytes | bytearray | memoryview

_LEFTOVER = re.compile(r"\.[^/]*\.[0-9a-f]{16}\.tmp")
"""What `_beside` makes, and nothing else that this module may remove."""

_PIECE = 1 << 20


def check_target(path: str | os.PathLike[str]) -> None:
    """Raise the OSError that `write_atomic` would raise now, naming `path`; nothing is left behind."""
    target = _target(path)
    temporary = _beside(target)
    try:
        _created(temporary).close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_atomic(path: str | os.PathLike[str], chunks: Iterable[Chunk], *, mode: int = 0o666) -> None:
    """Write `chunks` one after another to `path`; a reader sees the old file or the whole new one.

    That also holds after a loss of power. The temporary file lies in the same folder and is gone after any
    failure, KeyboardInterrupt included; an existing file then stays as it was. A symbolic link is followed,
    the permissions of an existing file are kept; a new one gets `mode` without the bits of the umask. Raises
    OSError, also where `path` is a folder, a device or a pipe (renaming over those would destroy them).
    """
    target = _target(path)
    temporary = _beside(target)
    _remove_leftovers(target.parent)  # first: they may be what fills the disk
    try:
        with _locked(temporary, mode) as file:
            _keep_mode(file, target)
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            if fcntl is not None:  # under the lock; Windows renames no open file
                temporary.replace(target)
        if fcntl is None:
            temporary.replace(target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):  # in the name of the file, not of the temporary one
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise
    _sync_folder(target.parent)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, as `write_atomic` does; what UTF-8 cannot hold becomes `?`."""
    write_atomic(path, [text.encode("utf-8", errors="replace")])


def copy_file(source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Copy the bytes of `source` to `path`, as `write_atomic` does."""
    with Path(source).open("rb") as file:
        write_atomic(path, iter(lambda: file.read(_PIECE), b""))


def _target(path: str | os.PathLike[str]) -> Path:
    """Return where a file really goes; raises OSError for a folder, a device or a pipe."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        code = errno.EISDIR if target.is_dir() else errno.EINVAL
        raise OSError(code, "not a regular file" if code == errno.EINVAL else os.strerror(code), str(path))
    return target


def _beside(target: Path) -> Path:
    short = target.name.encode(errors="ignore")[:100].decode(errors="ignore")  # file systems count bytes
    return target.with_name(f".{short}.{secrets.token_hex(8)}.tmp")


def _created(path: Path, mode: int = 0o666) -> BinaryIO:
    # os.open, not tempfile: the mode must follow the user's umask, as that of any other output does.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, mode), "wb")


@contextlib.contextmanager
def _locked(path: Path, mode: int) -> Iterator[BinaryIO]:
    """Create a file and hold its lock; anew when another writer took it for a leftover before that."""
    while True:
        with _created(path, mode) as file:
            lock_file(file.fileno())
            if fcntl is None or os.fstat(file.fileno()).st_nlink != 0:
                yield file
                return


def lock_file(descriptor: int, *, wait: bool = True) -> bool:
    """Lock an open file; False where another process holds it or the file system has no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _keep_mode(file: BinaryIO, target: Path) -> None:
    """Give a new file the permissions of the one that it will replace, where there is one."""
    if hasattr(os, "fchmod"):
        with contextlib.suppress(OSError):  # none there, or a file system without permissions
            os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))


def _sync_folder(folder: Path) -> None:
    """Bring a rename to the disk, where folders can be synchronised (not on Windows)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that no longer exist: this user's, regular, and not locked."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _LEFTOVER.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    _remove_unless_written(entry)


def _remove_unless_written(entry: os.DirEntry[str]) -> None:
    found = entry.stat(follow_symlinks=False)
    own = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
    if not own or not stat.S_ISREG(found.st_mode):
        return
    if fcntl is None:
        Path(entry.path).unlink()
        return
    descriptor = _opened(entry.path)
    try:
        if lock_file(descriptor, wait=False):
            Path(entry.path).unlink()
    finally:
        os.close(descriptor)


def _opened(path: str) -> int:
    """Open for locking: network file systems lock what may be written, local ones anything."""
    careful = os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(path, os.O_RDWR | careful)
    except PermissionError:
        return os.open(path, os.O_RDONLY | careful)


def read_bounded(path: str | os.PathLike[str], most: int) -> bytes:
    """Return the bytes of a file that a person writes; a pipe is read, a device without an end is not.

    Raises OSError, with EFBIG where it holds more than `most` bytes.
    """
    with Path(path).open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"more than {most:,} bytes", str(path))
    return data
