"""What is to be done with every item."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

Item_contra = TypeVar("Item_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)
Item = TypeVar("Item")
Result = TypeVar("Result")

Take = Callable[[int, Any], None]
"""Takes (number of the item, its result) as results come, in any order."""


class Task(Protocol[Item_contra, Result_co]):
    """Work that can travel: what is pickled is small or needed everywhere, such as the bytes of a model."""

    def open(self) -> Callable[[Item_contra], Result_co]:
        """Return what makes the result of an item; called once in every process that works.

        The result must depend on the item alone, and on nothing that an earlier item left behind. Several
        threads may call what is returned, where a cluster has workers of several threads.
        """


@dataclass(frozen=True, slots=True)
class Ready(Generic[Item, Result]):
    """A task that is open already, for this process."""

    work: Callable[[Item], Result]

    def open(self) -> Callable[[Item], Result]:
        """Return the work."""
        return self.work
