"""Files in a folder that nobody else can put files into: machine code is loaded from no other.

The folder is opened once and looked at through that handle, then its files are, so nothing can be exchanged
in between; neither it nor a file in it may be a symbolic link. Its parents do not matter: who can exchange
the folder cannot make one that belongs to this user. On Windows a user's folders are that user's own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from openbpu.arch.files import write_atomic

_HAS_OWNERS = hasattr(os, "geteuid") and os.open in os.supports_dir_fd
_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_SUPERUSER = 0  # who could change anything anyway
_PROBE = bytes(1 << 18)  # about a family of kernels: a full disk must show
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_LINKS = getattr(os, "O_NOFOLLOW", 0)


def read(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises OSError, also where the folder or the file belongs to another user or others may write to it.
    """
    with _opened(path.parent) as folder:
        handle = os.open(path if folder is None else path.name, _READ | _LINKS, dir_fd=folder)
        with open(handle, "rb") as file:  # noqa: PTH123  # Path's takes no handle
            _must_be_own(path, handle)
            return file.read()


def write(path: Path, data: bytes) -> None:
    """Write a file in one step, into a folder that is made if need be; raises OSError as `read` does."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _opened(path.parent):
        path.unlink(missing_ok=True)  # one that `read` refuses must not hand its permissions on
        write_atomic(path, [data], mode=0o600)


def check(folder: Path) -> None:
    """Raise the OSError that `write` would raise for a file in `folder`, which is made if need be."""
    probe = folder / f".{secrets.token_hex(8)}"
    write(probe, _PROBE)
    probe.unlink()


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int | None]:
    """Yield a handle of a folder that is surely the user's own; None where there are no owners."""
    if not _HAS_OWNERS:
        yield None
        return
    handle = os.open(folder, _READ | _LINKS | os.O_DIRECTORY)
    try:
        _must_be_own(folder, handle)
        yield handle
    finally:
        os.close(handle)


def _must_be_own(path: Path, handle: int) -> None:
    if not _HAS_OWNERS:
        return
    found = os.fstat(handle)
    if found.st_uid not in (_SUPERUSER, os.geteuid()):
        raise PermissionError(errno.EPERM, "it belongs to another user", str(path))
    if found.st_mode & _OTHERS:
        raise PermissionError(errno.EPERM, "other users may write to it", str(path))
