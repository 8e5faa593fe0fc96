"""Records in numba: `args.rows` is a load of the word that is declared, `args.blocks[i]` a record again.

`kernel` takes the declaration from the annotation of `args`, so a kernel cannot be compiled for another one.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import extending
from numba.core.typing import templates

from openbpu.simulator.fast.declaration import (
    WORD,
    Arguments,
    Pointer,
    Record,
    Rows,
    Words,
    family_of,
    layout,
    name_of,
    words_of,
)
from openbpu.simulator.fast.language.lang import Function, export, types
from openbpu.simulator.fast.language.pointers import P8

_extending: Any = extending
_templates: Any = templates
_Word = ir.IntType(64)


class RecordType(types.Opaque):  # type: ignore[misc]  # numba has no annotations
    """The address of a record."""

    def __init__(self, record: type[Any]) -> None:
        self.record = record
        super().__init__(f"{record.__module__}.{record.__qualname__}")


class RowsType(types.Opaque):  # type: ignore[misc]
    """The address of the first of many records."""

    def __init__(self, record: type[Any]) -> None:
        self.record = record
        super().__init__(f"table of {record.__module__}.{record.__qualname__}")


for _type in (RecordType, RowsType):
    _extending.register_model(_type)(_extending.models.OpaqueModel)


def kernel(function: Function) -> Function:
    """Make `function(args, lo, hi, scratch)` the kernel of the declaration that annotates `args`.

    Raises TypeError if it has another name.
    """
    declared: type[Arguments] = function.__globals__[function.__annotations__["args"]]
    if function.__name__ != name_of(declared):
        raise TypeError(f"{declared.__name__}: kernel must be {name_of(declared)}, not {function.__name__}")
    made = types.void(RecordType(declared), types.int64, types.int64, P8)
    return export(family_of(declared), made, function)


def _in_place(kind: Any) -> bool:
    return isinstance(kind, Words) or (isinstance(kind, type) and issubclass(kind, Record))


def _type_of(kind: Any) -> Any:
    """Return numba's type of a field: the address of elements unknown is a number."""
    if isinstance(kind, Rows):
        return RowsType(kind.record)
    if isinstance(kind, Words):
        return types.CPointer(types.int64)
    if isinstance(kind, Pointer) and kind.element:
        return types.CPointer(getattr(types, kind.element))
    return RecordType(kind) if _in_place(kind) else types.int64


@_extending.infer_getattr
class _Fields(_templates.AttributeTemplate):  # type: ignore[misc]
    key = RecordType

    def generic_resolve(self, value: Any, attr: str) -> Any:
        """Return the type of a field; None makes numba refuse it, with the names of both."""
        field = layout(value.record).get(attr)
        return None if field is None else _type_of(field.kind)


@_extending.lower_getattr_generic(RecordType)
def _read(context: Any, builder: Any, kind: Any, value: Any, attr: str) -> Any:
    field = layout(kind.record)[attr]
    place = builder.gep(value, [ir.Constant(_Word, field.at)], source_etype=_Word)
    if _in_place(field.kind):
        return place
    word, made = builder.load(place, align=1, typ=_Word), _type_of(field.kind)
    return word if made == types.int64 else builder.inttoptr(word, context.get_value_type(made))


@_extending.type_callable(operator.getitem)
def _row_type(_context: Any) -> Any:
    def typer(rows: Any, index: Any) -> Any:
        if isinstance(rows, RowsType) and isinstance(index, types.Integer):
            return _templates.signature(RecordType(rows.record), rows, types.int64)
        return None

    return typer


@_extending.lower_builtin(operator.getitem, RowsType, types.int64)
def _row(_context: Any, builder: Any, made: Any, values: Any) -> Any:
    step = ir.Constant(_Word, WORD * words_of(made.args[0].record))
    return builder.gep(values[0], [builder.mul(values[1], step)], source_etype=ir.IntType(8))
