"""Where operators and instructions declare themselves: every list of them is made from this, none by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, TypeVar

from openbpu.arch.definition.instruction import Instr
from openbpu.arch.definition.operator import Operator
from openbpu.arch.errors import must
from openbpu.arch.onnx_ops import ONNX_OPS, Does

_Operator = TypeVar("_Operator", bound=Operator)
_Instr = TypeVar("_Instr", bound=Instr)
_operators: dict[int, type[Operator]] = {}
_tiles: dict[type[Operator], tuple[type[Instr], ...]] = {}
_units: dict[type[Operator], str] = {}
_instructions: dict[int, type[Instr]] = {}


class DefinitionError(TypeError):
    """An operator or an instruction leaves out a part of its definition, or takes another one's number."""


def operator(number: int, *tiles: type[Instr], onnx: str) -> Callable[[type[_Operator]], type[_Operator]]:
    """Declare a kind of operator: its place in every table, for good, and the instructions that compute it.

    onnx: an operator of ONNX that it is the unit of, "" where it is none of its own. This stands above
    `@dataclass`, which with slots makes a class of its own.
    """

    def declare(cls: type[_Operator]) -> type[_Operator]:
        _require(cls, "check", cls.check is not Operator.check, "what a file must not contain")
        _require(cls, "a docstring", (cls.__doc__ or "").find("(") != len(cls.__name__), "its formula")
        _require(cls, "an instruction", bool(tiles), "in @operator(number, Tile), what computes it")
        _take(_operators, number, cls)
        _tiles[cls] = tiles
        if onnx:
            _units[cls] = onnx
        return cls

    return declare


def instruction(cls: type[_Instr]) -> type[_Instr]:
    """Declare an instruction, by its OPCODE; stands above `@dataclass`, too."""
    _require(cls, "cycles", cls.cycles is not Instr.cycles, "what it costs")
    _require(cls, "an ENGINE", hasattr(cls, "ENGINE"), "which queue it stands in")
    _require(cls, "an OPCODE", hasattr(cls, "OPCODE"), "a number that no other has")
    _take(_instructions, cls.OPCODE, cls)
    return cls


def _require(cls: type[object], what: str, has: bool, meaning: str) -> None:
    if not has:
        raise DefinitionError(
            f"{cls.__module__}: {cls.__name__} must have {what}, not leave it out; say there {meaning}"
        )


def require_declared(modules: Iterable[ModuleType]) -> None:
    """Refuse a class of these modules that is an operator or an instruction, and nowhere declared as one.

    What declared classes have in common may be a class of its own.
    """
    declared = (*operators(), *instructions())
    found = [(module, cls) for module in modules for cls in vars(module).values() if isinstance(cls, type)]
    for module, cls in found:
        is_ours = issubclass(cls, (Operator, Instr)) and cls.__module__ == module.__name__
        if is_ours and not any(issubclass(other, cls) for other in declared):
            name = "@instruction" if issubclass(cls, Instr) else "@operator(number, Tile)"
            raise DefinitionError(
                f"{cls.__module__}: {cls.__name__} must have {name}, not leave it out; write it above the "
                f"class in arch/{cls.__module__.replace('.', '/')}.py"
            )


def _take(table: dict[int, type[Any]], number: int, cls: type[Any]) -> None:
    taken = table.setdefault(number, cls)
    if taken is not cls:
        raise DefinitionError(
            f"{cls.__module__}: the number of {cls.__name__} must be its own, not {number}, which is that of "
            f"{taken.__name__}; {max(table) + 1} is free"
        )


def operators() -> tuple[type[Operator], ...]:
    """Return every kind of operator that has declared itself, by number."""
    return tuple(_operators[number] for number in sorted(_operators))


def units() -> Mapping[type[Operator], str]:
    """Return which operator of ONNX a kind is the unit of; refuses one that says it has none."""
    for kind, name in _units.items():
        row = ONNX_OPS.get(name)
        if row is None or row.does is Does.OTHER:
            allowed, fix = "what the BPU computes", "change its row in arch/openbpu/arch/onnx_ops.py"
            actual = f"{Does.OTHER.name}: {kind.__name__} is its unit"
            raise DefinitionError(must("openbpu.arch.onnx_ops", name, allowed, actual, fix))
    return {kind: _units[kind] for kind in operators() if kind in _units}


def instructions() -> tuple[type[Instr], ...]:
    """Return every instruction that has declared itself, by opcode."""
    return tuple(_instructions[opcode] for opcode in sorted(_instructions))


def serves() -> Mapping[type[Instr], tuple[type[Operator], ...]]:
    """Return which kinds of operators each instruction can be part of."""
    kinds = operators()
    return {
        tile: kinds if tile.SERVES_ALL else tuple(kind for kind in kinds if tile in _tiles[kind])
        for tile in instructions()
    }
