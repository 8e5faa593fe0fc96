"""How the arguments of a kernel are declared: once, for the plan that packs and the kernel that reads them.

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
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, cast, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from typing import dataclass_transform  # noqa: TID251 - new in 3.11, on which mypy runs
else:

    def dataclass_transform(**_options: bool) -> Any:
        """For mypy alone: making dataclasses would take longer than everything else when this is imported."""
        return lambda made: made


WORD = 8
"""Bytes of a word: every number and every address takes one."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """A word that is the address of elements of a dtype; "" where other fields say what is there."""

    element: str = ""


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


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Record:
    """Words with names: the annotated fields of a subclass, in their order, given by keyword.

    A field is an `int`, an address (`Address`, `Int32s`, …: Any to mypy), another Record, which lies there in
    place, or a `Table[R]`: the address of Records of ints, one behind the other. Raises TypeError for a field
    too few or too many.
    """

    def __init__(self, **values: Any) -> None:
        _check_names(type(self), values)
        self.__dict__.update(values)


class Arguments(Record):
    """What a kernel is given."""


R = TypeVar("R", bound=Record)


class Table(Generic[R]):
    """Records of ints as int64 [rows, fields]; a kernel reads `table[i].field`."""

    def __init__(self, record: type[R], values: npt.NDArray[np.int64]) -> None:
        self.record, self.values = record, values.reshape(-1, words_of(record))

    @classmethod
    def of(cls, record: type[R], rows: Iterable[R]) -> Table[R]:
        """Make one of records."""
        values = [[vars(row)[name] for name in layout(record)] for row in rows]
        return cls(record, np.array(values, dtype=np.int64))

    @classmethod
    def columns(cls, record: type[R], **columns: npt.ArrayLike) -> Table[R]:
        """Make one of a sequence, or one number for all rows, per field; raises TypeError as Record."""
        _check_names(record, columns)
        made = np.broadcast_arrays(*(np.asarray(columns[name], dtype=np.int64) for name in layout(record)))
        return cls(record, np.stack(made, axis=-1))

    def __getitem__(self, index: int) -> R:
        """Return a row."""
        return self.record(**dict(zip(layout(self.record), self.values[index].tolist(), strict=True)))

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Rows:
    """A word that is the address of a table."""

    record: type[Record]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record, `at` words from its start."""

    name: str
    kind: type[Any] | Pointer | Rows | Words
    at: int


def name_of(record: type[Record]) -> str:
    """Return the name in snake case; for Arguments it is the kernel's."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", record.__name__).lower()


def family_of(arguments: type[Arguments]) -> str:
    """Return the folder of the module that declares them: its kernels are compiled together."""
    return arguments.__module__.split(".")[-2]


def layout(record: type[Record]) -> dict[str, Field]:
    """Return the fields by name and in their order."""
    return _laid_out(cast(Any, record))[0]


def words_of(record: type[Record]) -> int:
    """Return how many words a record takes."""
    return _laid_out(cast(Any, record))[1]


@cache
def _laid_out(record: Any) -> tuple[dict[str, Field], int]:
    made: dict[str, Field] = {}
    at = 0
    for name, hint in get_type_hints(record, include_extras=True).items():
        made[name] = Field(name, _kind(record, name, hint), at)
        at += _words(made[name].kind)
    return made, at


def _words(kind: Any) -> int:
    if isinstance(kind, Words):
        return kind.count
    return words_of(kind) if isinstance(kind, type) and issubclass(kind, Record) else 1


def _kind(record: type[Record], name: str, hint: Any) -> Any:
    if hint is int or (isinstance(hint, type) and issubclass(hint, Record)):
        return hint
    if get_origin(hint) is Annotated:
        return get_args(hint)[1]
    if get_origin(hint) is Table:
        return Rows(get_args(hint)[0])
    raise TypeError(f"{name_of(record)}.{name}: must be an int, an address or records, not {hint}")


def _check_names(record: type[Record], values: dict[str, Any]) -> None:
    declared = layout(record)
    if values.keys() == declared.keys():
        return
    lines = [f"{name_of(record)}.{f}: must be given, not left out" for f in declared if f not in values]
    lines += [f"{name_of(record)}.{f}: must be a declared field" for f in values if f not in declared]
    raise TypeError("; ".join(lines))


def pack(record: Record) -> tuple[Any, ...]:
    """Return what every word shall hold: numbers, arrays, and what else the plan has for addresses.

    Raises TypeError for a number that is none, and for an array of another dtype than the declared.
    """
    words: list[Any] = []
    for name, field in layout(type(record)).items():
        value = vars(record)[name]
        words += pack(value) if isinstance(value, Record) else [_word(type(record), field, value)]
    return tuple(words)


def _word(record: type[Record], field: Field, value: Any) -> Any:
    where = f"{name_of(record)}.{field.name}"
    if field.kind is int:
        if isinstance(value, int):
            return int(value)
        raise TypeError(f"{where}: must be an int, not {type(value).__name__}")
    if isinstance(value, Table):
        value = value.values
    if isinstance(value, int) and value != 0:
        raise TypeError(f"{where}: must be an address or 0, not {value}")
    wanted = field.kind.element if isinstance(field.kind, Pointer) else ""
    if wanted and isinstance(value, np.ndarray) and value.dtype != wanted:
        raise TypeError(f"{where}: must be of {wanted}, not {value.dtype}")
    return value
