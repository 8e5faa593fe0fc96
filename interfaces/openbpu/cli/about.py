"""What a page says of its making: the command as it was given, the date, the files with their digests."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

if TYPE_CHECKING:
    from openbpu.report.page import About

_given: ContextVar[str] = ContextVar("given", default="")
_EPOCH = "SOURCE_DATE_EPOCH"
_SHOWN = 16
_PIECE = 1 << 20


class Remembered(TyperCommand):
    """A subcommand that remembers the words it was called with."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Remember, then parse as ever."""
        _given.set(f"{ctx.command_path} {shlex.join(args)}")
        return super().parse_args(ctx, args)


def about(files: dict[str, Path | None], **facts: str) -> About:
    """Return what a page of this command says of itself: its files by name, then `facts`.

    The date is that of SOURCE_DATE_EPOCH where it is set, so that a page can be made again, byte by byte.
    Raises OSError for a file that cannot be read, InputError for a date that is none.
    """
    from openbpu.report.page import About

    told = {name: _described(path) for name, path in files.items() if path is not None}
    return About(_date(), _given.get(), tuple((told | facts).items()))


def _described(path: Path) -> str:
    from openbpu.report.text import in_bytes

    paths = [path, *_data(path)]
    size = sum(p.stat().st_size for p in paths)
    return f"{path.name} · {in_bytes(size)} · sha256 {_digest(paths)[:_SHOWN]}…"


def _data(path: Path) -> list[Path]:
    """Return the files of an ONNX model's weights, where it has some."""
    if path.suffix != ".onnx":
        return []
    from openbpu.quantization.save import data_files

    return [found for found in data_files(path) if found.exists()]


def _digest(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of a file; of several, as if they were one."""
    found = hashlib.sha256()
    for piece in _pieces(paths):
        found.update(piece)
    return found.hexdigest()


def _pieces(paths: Iterable[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece


def _date() -> str:
    from openbpu.arch.errors import InputError, must

    given = os.environ.get(_EPOCH, "")
    try:
        when = datetime.fromtimestamp(int(given), timezone.utc) if given else datetime.now(timezone.utc)
    except (ValueError, OverflowError, OSError) as error:
        fix = "unset it for the time of now"
        raise InputError(must(_EPOCH, "the date", "seconds since 1970", repr(given), fix)) from error
    return f"{when:%Y-%m-%d %H:%M} UTC"
