"""A file of lines that only grows: what is in it survives whatever ends the process.

Everything else that is written is whole or not there (`openbpu.arch.files`). A journal is what long work
leaves behind line by line, so that it can go on; a last line that was cut off is taken away when it does.
"""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path
from typing import final

from openbpu.arch.errors import InputError, must
from openbpu.arch.files import lock_file

_END = b"\n"


@final
class Journal:
    """A journal that is open for writing, by this process alone; used in a `with` block.

    path: the file · new: it must not exist yet, else it must. `lines` are those that were there; nothing is
    changed before the first `add`. Raises InputError, OSError.
    """

    def __init__(self, path: str | os.PathLike[str], *, new: bool) -> None:
        self.path = Path(path)
        self._file = self._opened(new=new)
        try:
            self._lock()
            self.lines = self._whole_lines()
        except BaseException:
            self._file.close()
            raise

    def _opened(self, *, new: bool) -> FileIO:
        flags = os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0)
        flags |= os.O_CREAT | os.O_EXCL if new else 0
        return os.fdopen(os.open(self.path, flags, 0o666), "rb+", buffering=0)

    def _lock(self) -> None:
        if not lock_file(self._file.fileno(), wait=False):
            fix = "wait for it to end, or use another file"
            raise InputError(must(str(self.path), "the file", "used by one process", "by another one", fix))

    def _whole_lines(self) -> list[str]:
        content = self._file.readall()
        end = content.rfind(_END) + 1
        self._cut_at = end if end < len(content) else None
        try:
            return content[:end].decode("utf-8").split("\n")[:-1]
        except UnicodeDecodeError as error:
            found = f"(byte {error.start} is none)"
            raise InputError(must(str(self.path), "the file", "a text in UTF-8", found)) from error

    def add(self, line: str) -> None:
        """Append a line; it is the system's when this returns, so that killing the process loses nothing.

        Where the disk is full nothing of the line is left; the OSError names the file.
        """
        if self._cut_at is not None:
            self._file.truncate(self._cut_at)
            self._cut_at = None
        start, left = os.fstat(self._file.fileno()).st_size, memoryview(line.encode("utf-8") + _END)
        try:
            while left:  # a system that has room for a part writes that
                left = left[os.write(self._file.fileno(), left) :]
        except OSError as error:
            self._file.truncate(start)
            raise type(error)(error.errno, error.strerror, str(self.path)) from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
