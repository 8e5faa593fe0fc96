"""Memory that a child shares with its parent: which case it is at, and how those before it ended."""

from __future__ import annotations

import mmap

import numpy as np
import numpy.typing as npt

from fuzz.case import OUTCOMES

FAULT = len(OUTCOMES)
"""The column of faults, behind those of the outcomes."""

_INDEX, _KIND, _HEAD = 0, 1, 2
IDLE = -1


class Board:
    """Counts per kind and outcome that outlive the child that made them."""

    def __init__(self, kinds: int) -> None:
        width = FAULT + 1
        self._map = mmap.mmap(-1, 8 * (_HEAD + kinds * width))
        cells: npt.NDArray[np.int64] = np.frombuffer(self._map, dtype=np.int64)
        self._head, self.counts = cells[:_HEAD], cells[_HEAD:].reshape(kinds, width)
        self._head[_KIND] = IDLE
        self._head[_INDEX] = IDLE

    @property
    def index(self) -> int:
        """The last case that was begun."""
        return int(self._head[_INDEX])

    @property
    def kind(self) -> int:
        """The kind of the case that is running; IDLE while it is being made."""
        return int(self._head[_KIND])

    def begin(self, index: int) -> None:
        """The child makes this case now."""
        self._head[:] = index, IDLE

    def made(self, kind: int) -> None:
        """The child runs it now."""
        self._head[_KIND] = kind

    def count(self, kind: int, column: int) -> None:
        """A case has ended."""
        self.counts[kind, column] += 1

    @property
    def cases(self) -> int:
        """All that ended."""
        return int(self.counts.sum())
