"""Output files that are whole or not there at all: written beside their place, then renamed over it."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

Chunk = bytes | bytearray | memoryview


def _target(path: str | os.PathLike[str]) -> Path:
    """Return where a file really goes; raises OSError for a folder, a device or a pipe."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        code = errno.EISDIR if target.is_dir() else errno.EINVAL
        raise OSError(code, "not a regular file" if code == errno.EINVAL else os.strerror(code), str(path))
    return target


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.tmp")


def _created(path: Path) -> BinaryIO:
    # os.open, not tempfile: the mode must follow the user's umask, as that of any other output does.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o666), "wb")


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


def write_atomic(path: str | os.PathLike[str], chunks: Iterable[Chunk]) -> None:
    """Write `chunks` one after another to `path`; a reader sees the old file or the whole new one.

    The temporary file lies in the same folder and is gone after any failure, KeyboardInterrupt included; an
    existing file then stays as it was. A symbolic link is followed. Raises OSError, also where `path` is a
    folder, a device or a pipe (renaming over those would destroy them).
    """
    target = _target(path)
    temporary = _beside(target)
    try:
        with _created(temporary) as file:
            for chunk in chunks:
                file.write(chunk)
        temporary.replace(target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):  # in the name of the file, not of the temporary one
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise
