"""Rooms: what a package adds to every operator, registered beside its code, complete when it is loaded.

JOBS: Room[type[Operator], Jobs] = Room("the jobs of the schedule", OPERATORS, __name__)

@JOBS.of(Conv, MatMul)
def product_jobs(…): …

require_total("openbpu.compiler", JOBS)      # raises IncompleteError, which names Pool and the file for it
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")
_OPERATORS = "openbpu.arch.operators."


class IncompleteError(ImportError):
    """A package does not say of every operator what it has to: one line per room and operator."""


class Room(Mapping[Key, Value], Generic[Key, Value]):
    """A table with one entry for each of `keys`, filled by the modules of `package`.

    title: what an entry is, with its article · decorator: how to write one in the source, {} for the key ·
    where: the file for it, {} for the key in small letters, if it is not beside its family's.
    """

    def __init__(
        self, title: str, keys: Collection[Key], package: str, *, decorator: str = "", where: str = ""
    ) -> None:
        self.title, self.keys_wanted = title, tuple(keys)
        self._package, self._decorator, self._where = package, decorator, where
        self._entries: dict[Key, Value] = {}
        self._modules: dict[Key, str] = {}

    def of(self, *keys: Key) -> Callable[[Value], Value]:
        """Register what is decorated for these keys."""

        def register(value: Value) -> Value:
            for key in keys:
                self.put(key, value, str(getattr(value, "__module__", "")))
            return value

        return register

    def put(self, key: Key, value: Value, module: str = "") -> None:
        """Register an entry; raises IncompleteError for a key that is not wanted or has one already."""
        if key not in self.keys_wanted or key in self._entries:
            is_known = key in self.keys_wanted
            allowed, actual = ("one", "a second one") if is_known else ("an operator's", "of something else")
            raise IncompleteError(
                f"{self._package}: {self.title} of {name_of(key)} must be {allowed}, not {actual}"
            )
        self._entries[key], self._modules[key] = value, module

    def take(self, table: Mapping[str, Value], names: Mapping[Key, str]) -> None:
        """Register what a table has under other names for these keys."""
        for key, name in names.items():
            if name in table:
                self.put(key, table[name])

    def __getitem__(self, key: Key) -> Value:
        return self._entries[key]

    def __iter__(self) -> Iterator[Key]:
        return (key for key in self.keys_wanted if key in self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def missing(self) -> tuple[Key, ...]:
        """Return the keys without an entry."""
        return tuple(key for key in self.keys_wanted if key not in self._entries)

    def instruction(self, key: Key) -> str:
        """Return what to write, and in which file: where the others of its family are, if any is."""
        family = family_of(key)
        near = [m for k, m in self._modules.items() if m and family and family_of(k) == family]
        file = self._where.format(name_of(key).lower()) or file_of(
            near[0] if near else f"{self._package}.{family or '…'}"
        )
        return f"write {self._decorator.format(name_of(key))} in {file}"


def require_total(package: str, *rooms: Room[Any, Any]) -> None:
    """Raise IncompleteError unless every room has an entry for all it is to have one for."""
    lines = [
        f"{package}: {room.title} must be given for {name_of(key)}, not left out; {room.instruction(key)}"
        for room in rooms
        for key in room.missing()
    ]
    if lines:
        raise IncompleteError("\n".join(lines))


def name_of(key: object) -> str:
    """Return how a key is called: a class by its name, anything else as text."""
    return key.__name__ if isinstance(key, type) else str(key)


def family_of(key: object) -> str:
    """Return the family of a class that `openbpu.arch.operators` defines: its file there; else ""."""
    module = str(getattr(key, "__module__", "")) if isinstance(key, type) else ""
    return module.removeprefix(_OPERATORS).split(".")[0] if module.startswith(_OPERATORS) else ""


def file_of(module: str) -> str:
    """Return the path of a module in the repository."""
    path = module.replace(".", "/") + ".py"
    parts = module.split(".")
    return f"{parts[1]}/{path}" if parts[0] == "openbpu" else f"tests/{path}"
