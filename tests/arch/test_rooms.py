"""Facts about registration: what says nothing of an operator is named, with what is missing and its file."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

import operators
from arch.samples import SAMPLES
from openbpu.arch.definition import registry
from openbpu.arch.definition.instruction import Instr, u32
from openbpu.arch.definition.layers import Layers, Records
from openbpu.arch.definition.operator import Operator
from openbpu.arch.definition.registry import DefinitionError, instruction, operator
from openbpu.arch.definition.rooms import IncompleteError, Room, name_of, require_total
from openbpu.arch.engines import Engine
from openbpu.arch.isa import RowTile
from openbpu.arch.program import OPERATORS, Softmax
from openbpu.compiler.ir.dialect import LOWERED
from openbpu.compiler.ops import ROWS as TABLE
from openbpu.compiler.schedule.jobs.context import JOBS
from openbpu.simulator.exact.rooms import EXECUTE, ROWS, UNARY
from openbpu.simulator.fast.jit.library import KernelLibrary
from openbpu.simulator.fast.operators import PLANS
from simulator.oracle import RUN
from simulator.random_operators import DRAWN
from simulator.tiles import TILES
from witness.single_op import DRAWABLE, EMITTED, VARIED

REPO = Path(__file__).parents[2]
ROOMS: tuple[Room[Any, Any], ...] = (
    LOWERED, TABLE, JOBS, EXECUTE, UNARY, ROWS, PLANS, RUN, TILES, DRAWN, SAMPLES,
)  # fmt: skip
EACH = [(room, key) for room in ROOMS for key in room]


@pytest.mark.parametrize(("room", "key"), EACH, ids=lambda v: v.title if isinstance(v, Room) else name_of(v))
def test_what_is_left_out_is_named_with_its_room_and_its_file(
    room: Room[Any, Any], key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_total("here", room)
    monkeypatch.delitem(room._entries, key)
    with pytest.raises(IncompleteError) as refused:
        require_total("here", room)
    (line,) = str(refused.value).splitlines()
    said, _, todo = line.partition("; ")
    assert said == f"here: {room.title} must be given for {name_of(key)}, not left out"
    assert todo.startswith("write ")
    assert name_of(key) in todo
    assert (REPO / todo.rpartition(" in ")[2]).parent.is_dir()


def test_everything_that_is_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (JOBS, RUN):
        monkeypatch.delitem(room._entries, Softmax)
    with pytest.raises(
        IncompleteError, match=r"jobs of the schedule .* Softmax.*\n.*slow formula .* Softmax"
    ):
        require_total("here", JOBS, RUN)


@pytest.mark.parametrize("key", [Softmax, RowTile], ids=name_of)
def test_nothing_is_registered_twice_or_for_a_stranger(key: type[Any]) -> None:
    with pytest.raises(IncompleteError, match=f"of {key.__name__} must be"):
        JOBS.of(key)(lambda *_: [])


# --- an operator that is only declared --------------------------------------------------------------------

HALF = """
from dataclasses import dataclass
from typing import ClassVar
from openbpu.arch.definition.instruction import Instr, u32
from openbpu.arch.definition.operator import Operator
from openbpu.arch.definition.registry import instruction, operator
from openbpu.arch.engines import Engine

@instruction
@dataclass(frozen=True, slots=True, kw_only=True)
class NewTile(Instr):
    "What is new."
    OPCODE: ClassVar[int] = 0x7f
    ENGINE: ClassVar[Engine] = Engine.VAE
    x: int = u32()
    def cycles(rows, layers): return 0

@operator(99, NewTile, onnx="{onnx}")
@dataclass(frozen=True, slots=True, kw_only=True)
class New(Operator):
    "y = x"
    def check(self, program): pass

NewTile.__module__ = New.__module__ = "openbpu.arch.operators.row"
import {package}
"""
COMPILER = "compiler/openbpu/compiler"
JOBS_FILE = "schedule/jobs/row.py"
FAST_ROWS = "simulator/openbpu/simulator/fast/row/plan.py"
EXACT = "simulator/openbpu/simulator/exact/operators"
PACKAGES = {
    "openbpu.compiler": (
        f"openbpu.compiler: a row of the operator table|an OpRule for New into RULES|{COMPILER}/ops/rows.py",
        f"openbpu.compiler: a node that becomes it|a function under @form(New, …)|{COMPILER}/ops/rows.py",
        f"openbpu.compiler: the jobs of the schedule|a function under @JOBS.of(New)|{COMPILER}/{JOBS_FILE}",
    ),
    "openbpu.simulator.exact": (
        f"openbpu.simulator.exact: the exact execution|a function under @EXECUTE.of(NewTile)|{EXACT}/row.py",
    ),
    "openbpu.simulator.fast.operators": (
        f"openbpu.simulator.fast: the plan of the fast mode|a function under @lowers(New, …)|{FAST_ROWS}",
    ),
    "operators": (
        "tests: the slow formula|a function under @RUN.of(New)|tests/operators/new.py",
        "tests: the one tile|a function under @TILES.of(New)|tests/operators/new.py",
        "tests: the random operators|a function under @drawn(New)|tests/operators/new.py",
        "tests: a sample|a function under @SAMPLES.of(New)|tests/operators/new.py",
    ),
}


def said(line: str) -> str:
    what, todo, file = line.split("|")
    name = "NewTile" if "NewTile" in todo else "New"
    return f"{what} must be given for {name}, not left out; write {todo} in {file}"


def importing(package: str, onnx: str) -> list[str]:
    """What the import says that ends for want of something."""
    code = HALF.replace("{package}", package).replace("{onnx}", onnx)
    path = f"import sys; sys.path.insert(0, {str(REPO / 'tests')!r})\n"
    ran = subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    lines = ran.stderr.splitlines()
    first = max(i for i, line in enumerate(lines) if "Error: " in line)
    return [lines[first].partition("Error: ")[2], *lines[first + 1 :]]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_package_is_imported_that_says_nothing_of_an_operator(package: str) -> None:
    assert importing(package, "GroupNormalization") == [said(line) for line in PACKAGES[package]]


def test_a_unit_of_what_onnx_ops_leaves_to_the_cpu_is_refused() -> None:
    (line,) = importing("openbpu.arch.program", "NonZero")
    assert line.startswith("openbpu.arch.onnx_ops: NonZero must be what the BPU computes, not OTHER: New is")
    assert line.endswith("; change its row in arch/openbpu/arch/onnx_ops.py")


def test_variations_and_recipes_are_asked_for_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (EMITTED, VARIED, DRAWABLE):
        monkeypatch.delitem(room._entries, Softmax)
        with pytest.raises(IncompleteError, match=r"for Softmax, .* in tests/operators/softmax.py"):
            require_total("tests", room)


def test_a_plan_without_a_kernel_says_where_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = KernelLibrary()
    monkeypatch.setattr(kernels, "require", lambda _: None)
    monkeypatch.setattr(kernels, "_engine", SimpleNamespace(get_function_address=lambda _: 0))
    with pytest.raises(LookupError, match=r"row.new, .* new under @kernel in .*/fast/row/kernels.py"):
        kernels.address("row", "new")


# --- definitions ------------------------------------------------------------------------------------------


def refused(match: str) -> Any:
    return pytest.raises(DefinitionError, match=match)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole(Operator):
    """y = x"""

    def check(self, program: object) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchecked(Operator):
    """y = x"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent(Operator):
    def check(self, program: object) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("kind", "number", "tiles", "said"),
    [
        (Unchecked, 98, (RowTile,), "Unchecked must have check, not leave it out"),
        (Silent, 98, (RowTile,), "Silent must have a docstring, not leave it out"),
        (Whole, 98, (), "Whole must have an instruction, not leave it out"),
        (
            Whole,
            0,
            (RowTile,),
            "the number of Whole must be its own, not 0, which is that of Conv; ",
        ),
    ],
)
def test_half_an_operator_is_refused(
    kind: type[Operator], number: int, tiles: tuple[type[Instr], ...], said: str
) -> None:
    with refused(said):
        operator(number, *tiles, onnx="")(kind)
    assert registry.operators() == OPERATORS


@dataclass(frozen=True, slots=True, kw_only=True)
class Free(Instr):
    """Costs nothing, as nobody says what."""

    OPCODE: ClassVar[int] = 0x7E
    ENGINE: ClassVar[Engine] = Engine.VAE
    x: int = u32()


@dataclass(frozen=True, slots=True, kw_only=True)
class Twice(Free):
    """Has the number of another."""

    OPCODE: ClassVar[int] = RowTile.OPCODE

    @staticmethod
    def cycles(rows: Records, layers: Layers) -> Any:
        """None."""
        return np.zeros(len(rows), np.int64)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Free, "Free must have cycles, not leave it out; say there what it costs"),
        (Twice, "the number of Twice must be its own, not 51, which is that of RowTile"),
    ],
)
def test_half_an_instruction_is_refused(kind: type[Instr], said: str) -> None:
    with refused(said):
        instruction(kind)


def test_a_class_that_is_not_declared_is_refused_by_the_name_of_its_file() -> None:
    room = ModuleType("openbpu.arch.operators.row")
    for cls, name in ((Whole, "@operator"), (Free, "@instruction")):
        made = type(cls.__name__, (cls,), {"__module__": room.__name__})
        room.__dict__["made"] = made
        with refused(rf"{cls.__name__} must have {name}.* in arch/openbpu/arch/operators/row.py"):
            registry.require_declared((room,))
    room.__dict__["made"] = Operator
    registry.require_declared((room,))


def test_what_later_operators_bring_along_is_loaded_before_any_test() -> None:
    assert operators.__name__ in sys.modules
