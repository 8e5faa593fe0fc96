"""Dataclasses to JSON records and back: fields by name, values checked against the field's type.

A field that has its default value is left out. Nothing is guessed on the way back: a wrong kind of number,
an unknown field or a missing one raises BadRecordError, whatever the file says.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import partial
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from openbpu.arch.definition.needs import BadRecordError
from openbpu.arch.dtypes import DType
from openbpu.arch.tensors import Space

_INT_LIMIT = 1 << 63
Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class _Kind:
    """How values of one type are written and read; both raise ValueError or TypeError for any other value."""

    text: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def _write_int(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return _read_int(operator.index(value))


def _read_int(value: Any) -> int:
    if type(value) is not int or not -_INT_LIMIT <= value < _INT_LIMIT:
        raise TypeError
    return value


def _write_bool(value: Any) -> bool:
    if not isinstance(value, bool) and type(value).__name__ not in (
        "bool_",
        "bool",
    ):  # NumPy's has had both names
        raise TypeError
    return bool(value)


def _read_bool(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError
    return value


def _write_float(value: Any) -> float:
    return _read_float(float(value))


def _read_float(value: Any) -> float:
    if type(value) is not float or not math.isfinite(value):
        raise TypeError
    return value


def _write_str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return _read_str(str(value))


def _read_str(value: Any) -> str:
    if type(value) is not str:
        raise TypeError
    value.encode("utf-8")  # a lone surrogate would only fail later, where it is printed
    return value


_SCALARS: dict[Any, _Kind] = {
    bool: _Kind("true or false", _write_bool, _read_bool),
    int: _Kind("a 64-bit integer", _write_int, _read_int),
    float: _Kind("a finite float", _write_float, _read_float),
    str: _Kind("text", _write_str, _read_str),
    DType: _Kind("an element type", lambda v: DType(v).value, DType),
    Space: _Kind("a memory space", lambda v: Space(v).value, Space),
}


def _kind(hint: Any) -> _Kind:
    """Return the kind of a field's type: a scalar, a dataclass, `tuple[T, ...]`, a tuple of one length."""
    if is_dataclass(hint) and isinstance(hint, type):
        return _Kind(f"a {hint.__name__}", to_record, partial(from_record, hint))
    if get_origin(hint) is not tuple:
        return _SCALARS[hint]
    args = get_args(hint)
    if args[1:] == (...,):
        return _many(_kind(args[0]))
    return _fixed(tuple(_kind(a) for a in args))


def _many(item: _Kind) -> _Kind:
    def read(value: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise TypeError
        return tuple(map(item.read, value))

    return _Kind(f"a list, each {item.text}", lambda v: list(map(item.write, v)), read)


def _fixed(items: tuple[_Kind, ...]) -> _Kind:
    def read(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(items):
            raise TypeError
        return tuple(k.read(v) for k, v in zip(items, value, strict=True))

    def write(value: Any) -> list[Any]:
        return [k.write(v) for k, v in zip(items, value, strict=True)]

    return _Kind(f"a list of {len(items)}", write, read)


_Layout = dict[str, tuple[_Kind, Any]]
_LAYOUTS: dict[tuple[type[Any], frozenset[str]], _Layout] = {}


def _layout(cls: type[Any], skip: frozenset[str]) -> _Layout:
    """Return kind and default of every field of a dataclass but those in `skip`."""
    if (cls, skip) not in _LAYOUTS:
        _LAYOUTS[cls, skip] = _make_layout(cls, skip)
    return _LAYOUTS[cls, skip]


def _make_layout(cls: type[Any], skip: frozenset[str]) -> _Layout:
    hints = get_type_hints(cls)
    return {f.name: (_kind(hints[f.name]), f.default) for f in fields(cls) if f.name not in skip}


def to_record(value: Any, skip: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return a dataclass instance as a JSON object; raises BadRecordError for a value of a wrong type."""
    record = {}
    for name, (kind, default) in _layout(type(value), skip).items():
        item = getattr(value, name)
        if default is not MISSING and item == default:
            continue
        try:
            record[name] = kind.write(item)
        except (TypeError, ValueError) as error:
            raise BadRecordError(_message(name, kind, item)) from error
    return record


def from_record(cls: type[Record], record: Any, **others: Any) -> Record:
    """Return the instance a JSON object describes; `others` are the fields that are kept elsewhere.

    Raises BadRecordError when the object is not exactly what `to_record` writes.
    """
    if type(record) is not dict:
        raise BadRecordError(f"a {cls.__name__} must be an object, not {_short(record)}")
    layout = _layout(cls, frozenset(others))
    unknown = record.keys() - layout.keys()
    if unknown:
        raise BadRecordError(f"{cls.__name__} has no field {_short(min(unknown))}")
    values = {}
    for name, (kind, default) in layout.items():
        if name not in record:
            if default is MISSING:
                raise BadRecordError(f"{cls.__name__} must have a field '{name}'")
            continue
        try:
            values[name] = kind.read(record[name])
        except (TypeError, ValueError) as error:
            raise BadRecordError(_message(name, kind, record[name])) from error
    return cls(**values, **others)


def _message(name: str, kind: _Kind, value: Any) -> str:
    return f"field '{name}' must be {kind.text}, not {_short(value)}"


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}…"
