"""A name of a vendor's package, and what becomes of it here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Status = Literal["works", "differs", "refused"]


@dataclass(frozen=True, slots=True)
class Row:
    """`module.name`; "" for the name is the module itself.

    differs: in what, "" where it does as the vendor's · does, instead: of a name that is refused, what it
    does with the vendor, and what there is here.
    """

    module: str
    name: str
    differs: str = ""
    does: str = ""
    instead: str = ""

    @property
    def status(self) -> Status:
        """What happens to a script that imports it."""
        if self.does:
            return "refused"
        return "differs" if self.differs else "works"

    @property
    def reason(self) -> str:
        """Of a name that is refused, what it does with the vendor and what to use here."""
        return f"with the vendor it {self.does}; here use {self.instead}"

    @property
    def told(self) -> str:
        """What a table says of it."""
        return self.reason if self.does else self.differs


def works(module: str, names: str) -> tuple[Row, ...]:
    """Return rows of names that do as the vendor's."""
    return tuple(Row(module, name) for name in names.split())


def differs(module: str, names: Mapping[str, str]) -> tuple[Row, ...]:
    """Return rows of names that are there and do something else: how."""
    return tuple(Row(module, name, differs=how) for name, how in names.items())


def refused(module: str, names: Mapping[str, tuple[str, str]]) -> tuple[Row, ...]:
    """Return rows of names that are not there: (what they do, what to use here)."""
    return tuple(Row(module, name, does=does, instead=instead) for name, (does, instead) in names.items())
