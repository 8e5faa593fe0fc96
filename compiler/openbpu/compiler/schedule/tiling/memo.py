"""A memo for searches: what candidate tiles and stripes cost is worked out once per segment."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from openbpu.compiler.schedule.problem.job import Job

T = TypeVar("T")
_KEPT = 1 << 27
"""Bytes that are kept; beyond that all is forgotten."""


class Memo:
    """The results of one segment's searches by key.

    The same jobs are searched again beside other tensors on chip, by another balance, with another split of
    the work. What their tiles take does not change with these, only which of them is best; nor does it
    between layers that are alike.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[object, Any]] = {}
        self._bytes = 0
        self._kinds: dict[Hashable, int] = {}
        self._kind_of: dict[int, tuple[Job, int]] = {}

    def kind(self, job: Job) -> int:
        """A number that jobs share if their tiles cost the same."""
        if id(job) not in self._kind_of:
            self._kind_of[id(job)] = job, self._kinds.setdefault(job.cost_key, len(self._kinds))
        return self._kind_of[id(job)][1]

    def recall(self, key: Hashable, about: object, make: Callable[[], T], nbytes: Callable[[T], int]) -> T:
        """The result under a key, made the first time. `about` lives on with it, so that ids in the key stay
        its own; `nbytes`: how much memory a result takes.
        """
        found = self._kept.get(key)
        if found is None:
            found = (about, make())
            if self._bytes > _KEPT:
                self._kept, self._bytes = {}, 0
            self._kept[key] = found
            self._bytes += nbytes(found[1])
        result: T = found[1]
        return result
