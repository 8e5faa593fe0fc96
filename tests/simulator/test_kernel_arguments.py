"""Facts about the arguments of kernels: what is declared is what is packed and what is read, by name."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import openbpu.simulator.fast
from openbpu.simulator.fast.conv.arguments import Unit
from openbpu.simulator.fast.declaration import (
    Address,
    Arguments,
    Int32s,
    Record,
    Rows,
    Table,
    layout,
    name_of,
    pack,
    words_of,
)
from openbpu.simulator.fast.jit.library import sources
from openbpu.simulator.fast.layer.arguments import Out
from openbpu.simulator.fast.plan.steps import Place
from openbpu.simulator.fast.run.arguments import StepRow

PACKAGE = "openbpu.simulator.fast"
FAST = Path(openbpu.simulator.fast.__file__).parent
FAMILIES = sorted(p.parent.name for p in FAST.glob("*/kernels.py"))


def declarations(family: str) -> dict[str, type[Any]]:
    """The records and rows of tables that a family declares, by name; small ones beside their plan."""
    made: dict[str, type[Any]] = {}
    for file in ("arguments", "plan"):
        if (FAST / family / f"{file}.py").exists():
            module = import_module(f"{PACKAGE}.{family}.{file}")
            types = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Record)]
            made |= {v.__name__: v for v in types if v.__module__ == module.__name__}
    return made


def functions(family: str) -> Iterator[ast.FunctionDef]:
    tree = ast.parse((FAST / family / "kernels.py").read_text(encoding="utf-8"))
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def reads(function: ast.FunctionDef, name: str) -> set[str]:
    """The attributes of a variable that a function reads."""
    nodes = [n for n in ast.walk(function) if isinstance(n, ast.Attribute)]
    return {n.attr for n in nodes if isinstance(n.value, ast.Name) and n.value.id == name}


def declared(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """Parameters with the names of their types."""
    for argument in function.args.args:
        if isinstance(argument.annotation, ast.Name):
            yield argument.arg, argument.annotation.id


class Sample(Arguments):
    x: Address
    indices: Int32s
    count: int


SAMPLE: dict[str, Any] = {"x": Place(0), "indices": np.zeros(3, dtype=np.int32), "count": 3}
EVERYTHING = {name: kind for family in FAMILIES for name, kind in declarations(family).items()}


def test_a_record_is_packed_in_the_order_of_its_declaration() -> None:
    assert pack(Sample(**SAMPLE)) == (SAMPLE["x"], SAMPLE["indices"], 3)
    assert [field.at for field in layout(Sample).values()] == [0, 1, 2]


@pytest.mark.parametrize("field", SAMPLE)
def test_a_missing_field_is_an_error_that_names_it(field: str) -> None:
    with pytest.raises(TypeError, match=rf"sample\.{field}: must be given, not left out"):
        Sample(**{k: v for k, v in SAMPLE.items() if k != field})


def test_an_unknown_field_is_an_error_that_names_it() -> None:
    with pytest.raises(TypeError, match=r"sample\.length: must be a declared field"):
        Sample(**SAMPLE | {"length": 1})


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"count": Place(0)}, r"sample\.count: must be an int, not Place"),
        ({"count": 1.0}, r"sample\.count: must be an int, not float"),
        ({"x": 7}, r"sample\.x: must be an address or 0, not 7"),
        ({"indices": np.zeros(3)}, r"sample\.indices: must be of int32, not float64"),
    ],
)
def test_a_field_of_the_wrong_kind_is_an_error_that_names_kernel_and_field(
    wrong: dict[str, Any], text: str
) -> None:
    with pytest.raises(TypeError, match=text):
        pack(Sample(**SAMPLE | wrong))


def test_tables_are_made_of_rows_or_of_columns_by_name() -> None:
    made = Table.columns(Unit, block=[0, 1], first=5, rows=[2, 3], pixel=[7, 8])
    assert made.values.tolist() == [[0, 5, 2, 7], [1, 5, 3, 8]]
    assert (made[1].block, made[1].rows, made[1].pixel, len(made)) == (1, 3, 8, 2)
    assert Table.of(Unit, [made[0], made[1]]).values.tolist() == made.values.tolist()
    with pytest.raises(TypeError, match=r"unit\.pixel: must be given, .*; unit\.row: must be a declared"):
        Table.columns(Unit, block=0, first=0, rows=0, row=0)


@pytest.mark.parametrize("name", [name for name, kind in EVERYTHING.items() if issubclass(kind, Arguments)])
def test_arguments_fit_into_a_step(name: str) -> None:
    room = layout(StepRow)["arguments"]
    assert words_of(EVERYTHING[name]) <= words_of(StepRow) - room.at


@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_read_declared_fields_only_and_by_name(family: str) -> None:
    for function in functions(family):
        for parameter, kind in declared(function):
            if kind in EVERYTHING:
                assert reads(function, parameter) <= set(layout(EVERYTHING[kind])), function.name
        calls = [n for n in ast.walk(function) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
        loads = [n.args[0] for n in calls if isinstance(n.func, ast.Name) and n.func.id == "ld"]
        records = {"args", *(parameter for parameter, kind in declared(function) if kind in EVERYTHING)}
        assert not [n.id for n in loads if isinstance(n, ast.Name) and n.id in records], function.name


@pytest.mark.parametrize("family", FAMILIES)
def test_each_declaration_is_that_of_one_kernel(family: str) -> None:
    kernels = {
        (f.name, kind)
        for f in functions(family)
        for parameter, kind in declared(f)
        if parameter == "args"
        and [d for d in f.decorator_list if isinstance(d, ast.Name) and d.id == "kernel"]
    }
    arguments = {n: kind for n, kind in declarations(family).items() if issubclass(kind, Arguments)}
    assert kernels == {(name_of(kind), n) for n, kind in arguments.items()}


def records_in(kind: type[Any]) -> list[type[Any]]:
    """The records that lie in one, and the rows of its tables."""
    inner = [f.kind.record if isinstance(f.kind, Rows) else f.kind for f in layout(kind).values()]
    return [k for k in inner if isinstance(k, type) and k.__name__ in EVERYTHING]


def test_every_declared_field_is_read() -> None:
    read: dict[str, set[str]] = {name: set() for name in EVERYTHING}
    read[StepRow.__name__] = {"kernel", "units", "chunks", "arguments"}  # rows of a table without a record
    for function in (f for family in FAMILIES for f in functions(family)):
        anything = {n.attr for n in ast.walk(function) if isinstance(n, ast.Attribute)}
        for parameter, kind in declared(function):
            for base in EVERYTHING[kind].__mro__ if kind in EVERYTHING else ():
                read.get(base.__name__, set()).update(reads(function, parameter))
            for inner in records_in(EVERYTHING[kind]) if kind in EVERYTHING else ():
                read[inner.__name__] |= anything
    unread = {f"{name}.{f}" for name, kind in EVERYTHING.items() for f in layout(kind) if f not in read[name]}
    assert not unread


def imported(path: Path) -> set[Path]:
    """The files of the fast mode that one imports."""
    nodes = [
        n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.ImportFrom)
    ]
    modules = [n for n in nodes if n.module and n.module.startswith(f"{PACKAGE}.")]
    found = set()
    for node in modules:
        place = FAST / str(node.module).removeprefix(f"{PACKAGE}.").replace(".", "/")
        names = [place / name.name for name in node.names] if place.is_dir() else [place]
        found |= {name.with_suffix(".py") for name in names}
    return found


@pytest.mark.parametrize("family", [*FAMILIES, "vector_portable"])
def test_compiled_kernels_are_named_by_all_they_are_made_from(family: str) -> None:
    is_vector = family.startswith("vector_")
    todo = {FAST / "vectors.py"} if is_vector else {FAST / family / "kernels.py"}
    found: set[Path] = set()
    while todo:
        path = todo.pop()
        found.add(path)
        todo |= imported(path) - found
    assert len(found) > 1
    assert found <= set(sources(family))


def test_declarations_and_plans_need_no_numba() -> None:
    code = f"import sys, {PACKAGE}.operators; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_numba_refuses_a_field_that_is_not_declared_and_a_number() -> None:
    from numba.core.errors import TypingError

    from openbpu.simulator.fast.language.lang import compiled_for, types
    from openbpu.simulator.fast.language.pointers import ld
    from openbpu.simulator.fast.language.records import RecordType

    made = types.int64(RecordType(Out))
    assert compiled_for(made, lambda args: args.y_kind)
    with pytest.raises(TypingError, match=r"attribute 'y_size' of type .*layer\.arguments\.Out"):
        compiled_for(made, lambda args: args.y_size)
    with pytest.raises(TypingError, match=r"ld: pointer must be one, not .*layer\.arguments\.Out"):
        compiled_for(made, lambda args: ld(args, 4))


def test_a_kernel_has_the_name_of_its_declaration() -> None:
    from openbpu.simulator.fast.language.records import kernel

    def other(args: Sample, lo: int, hi: int, scratch: Any) -> None: ...

    with pytest.raises(TypeError, match="kernel must be sample, not other"):
        kernel(other)


def test_records_are_numbers_addresses_and_records() -> None:
    class Wrong(Record):
        scale: float

    with pytest.raises(TypeError, match=r"wrong\.scale: must be an int, an address or records"):
        layout(Wrong)
