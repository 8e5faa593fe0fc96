"""How the arguments of a kernel are declared: once, for the plan that packs and the kernel that reads them.

    @dataclass(frozen=True, kw_only=True)
    class Gather(Arguments):
        x: Address
        row_bytes: int
        indices: Int32s

The plan makes one by keyword, `Gather(x=low.read(x), row_bytes=…, indices=…)`; the kernel has its name in
snake case, is `def gather(args: Gather, lo, hi, scratch)` and reads `args.row_bytes`. A field that is
missing, or not declared, is refused by the constructor, by mypy on both sides, and by numba when it compiles
the kernel (`language.records` makes of `args.row_bytes` a load at a constant place). Nothing here needs
numba.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

import numpy as np

WORD = 8
"""Bytes of a word: every number and every address takes one."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """A word that is the address of elements of a dtype; "" where other fields say what is there."""

    element: str = ""


@dataclass(frozen=True, slots=True)
class Rows:
    """A word that is the address of a table: records, one behind the other."""

    record: type[Any]


@dataclass(frozen=True, slots=True)
class Words:
    """Words in place, whose meaning others declare."""

    count: int


Address = Annotated[Any, Pointer()]
Int8s = Annotated[Any, Pointer("int8")]
Int16s = Annotated[Any, Pointer("int16")]
Int32s = Annotated[Any, Pointer("int32")]
Int64s = Annotated[Any, Pointer("int64")]
Float32s = Annotated[Any, Pointer("float32")]
Code = Annotated[Any, Pointer()]
"""The address of machine code, mostly a vector kernel; or 0."""


class Record:
    """Words with names: the fields of the frozen, keyword-only dataclass that a subclass is, in their order.

    A field is an `int`, an address (`Address`, `Int32s`, …: Any to mypy), another Record, which lies there in
    place, or a `tuple[R, …]`: the address of a table, each row a NamedTuple R of ints.
    """


class Arguments(Record):
    """What a kernel is given."""


def name_of(record: type[Any]) -> str:
    """Return the name in snake case; for Arguments it is the kernel's."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", record.__name__).lower()


def family_of(arguments: type[Arguments]) -> str:
    """Return the folder of the module that declares them: its kernels are compiled together."""
    return arguments.__module__.split(".")[-2]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record, `at` words from its start."""

    name: str
    kind: type[Any] | Pointer | Rows | Words
    at: int


def layout(record: type[Any]) -> dict[str, Field]:
    """Return the fields of a Record, or of a NamedTuple of ints, by name and in their order."""
    return _laid_out(cast(Any, record))[0]


def words_of(record: type[Any]) -> int:
    """Return how many words a record takes."""
    return _laid_out(cast(Any, record))[1]


@cache
def _laid_out(record: Any) -> tuple[dict[str, Field], int]:
    hints = get_type_hints(record, include_extras=True)
    names = [f.name for f in fields(record)] if issubclass(record, Record) else record._fields
    made: dict[str, Field] = {}
    at = 0
    for name in names:
        made[name] = Field(name, _kind(record, name, hints[name]), at)
        at += _words(made[name].kind)
    return made, at


def _words(kind: Any) -> int:
    if isinstance(kind, Words):
        return kind.count
    return words_of(kind) if isinstance(kind, type) and issubclass(kind, Record) else 1


def _kind(record: type[Any], name: str, hint: Any) -> Any:
    if hint is int or (isinstance(hint, type) and issubclass(hint, Record)):
        return hint
    if get_origin(hint) is Annotated:
        return get_args(hint)[1]
    if get_origin(hint) is tuple:
        return Rows(get_args(hint)[0])
    raise TypeError(f"{name_of(record)}.{name}: must be an int, an address or records, not {hint}")


def pack(record: Record) -> tuple[Any, ...]:
    """Return what every word shall hold: numbers, arrays, and what else the plan has for addresses.

    Raises TypeError for a number that is none, and for an array of another dtype than the declared.
    """
    words: list[Any] = []
    for field in layout(type(record)).values():
        value = getattr(record, field.name)
        words += pack(value) if isinstance(value, Record) else [_word(type(record), field, value)]
    return tuple(words)


def _word(record: type[Record], field: Field, value: Any) -> Any:
    where = f"{name_of(record)}.{field.name}"
    if field.kind is int:
        if isinstance(value, int):
            return int(value)
        raise TypeError(f"{where}: must be an int, not {type(value).__name__}")
    if isinstance(field.kind, Rows):
        return np.array(value, dtype=np.int64).reshape(-1, words_of(field.kind.record))
    if isinstance(value, int) and value != 0:
        raise TypeError(f"{where}: must be an address or 0, not {value}")
    wanted = field.kind.element if isinstance(field.kind, Pointer) else ""
    if wanted and isinstance(value, np.ndarray) and value.dtype != wanted:
        raise TypeError(f"{where}: must be of {wanted}, not {value.dtype}")
    return value
