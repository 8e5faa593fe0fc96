"""Small `.hbm` files to start from: every operator, code of tiles, CPU segments, several cores, an L2M."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from arch.samples import full
from compiler.scheduling import crossing, spread
from openbpu.arch.errors import HbmError
from openbpu.arch.hbm import to_bytes
from openbpu.arch.hbm.container import map_file, pack, unpack
from openbpu.arch.program import Program
from openbpu.compiler import compile as compile_model
from simulator.random_operators import CASES, program_of
from simulator.tiles import tiled
from witness.single_op import single_op_model

Path = tuple[str | int, ...]
"""Where in the meta a value lies."""

_SMALL = 4096
_PER_KIND = 4
_SEEDS = 60

_COMPILED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "conv on two cores": ("Conv", {"pads": 1}, {"march": "nash-p", "core_num": 2}),
    "conv in the L2M": ("Conv", {"pads": 1}, {"march": "nash-p", "core_num": 2, "max_l2m_size": 65536}),
    "conv of bayes": ("Conv", {"then": "Relu"}, {"march": "bayes-e"}),
    "matmul": ("MatMul", {"other": "self"}, {"march": "nash-e"}),
    "softmax int16": ("Softmax", {"style": "int16"}, {"march": "nash-e"}),
    "bare ends": ("Add", {}, {"march": "nash-e", "remove_io": ("quantize", "dequantize")}),
    "on the CPU": ("Resize", {"mode": "cubic"}, {"march": "nash-e"}),
    "reshape": ("Flatten", {}, {"march": "nash-e"}),
}


@dataclass(frozen=True)
class Base:
    """A file taken apart: its sections, its meta as text and the places of values in it, by area."""

    name: str
    data: bytes = field(repr=False)
    sections: dict[str, bytes] = field(repr=False)
    places: dict[str, list[Path]] = field(repr=False)
    numbers: tuple[int, ...] = field(repr=False)

    @property
    def meta(self) -> Any:
        """A meta of one's own."""
        return json.loads(self.sections["meta"])


def base_of(name: str, program: Program) -> Base:
    """Take a program apart; raises HbmError for one that cannot be written."""
    data = to_bytes(program)
    sections = {s.name: view.tobytes() for s, view in unpack(*map_file(data))}
    meta = json.loads(sections["meta"])
    places: dict[str, list[Path]] = {"operator": [], "tensor": [], "graph": [], "text": [], "list": []}
    numbers = set()
    for path, value in leaves(meta):
        places[area_of(path, value)].append(path)
        if type(value) is int:
            numbers.add(value)
        if type(value) is list:
            places["list"].append(path)
    return Base(name, data, sections, places, tuple(sorted(numbers)))


def leaves(at: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value below the meta, with its place."""
    for key, item in at.items() if isinstance(at, dict) else enumerate(at):
        yield (*path, key), item
        if isinstance(item, dict | list):
            yield from leaves(item, (*path, key))


def area_of(path: Path, value: Any) -> str:
    """What a value of the meta is about."""
    if "operators" in path[:-2]:
        return "operator"
    if path[0] == "tensors":
        return "tensor"
    return "text" if type(value) is str or path[0] in {"debug", "placement", "options", "macs"} else "graph"


def bases() -> tuple[Base, ...]:
    """All of them; those of one operator come first and are most."""
    small = [base_of(name, tiled(program)) for name, program in _one_operator_each()]
    return (*small, *(base_of(name, _compiled(*how)) for name, how in _COMPILED.items()), *_whole())


def _one_operator_each() -> Iterator[tuple[str, Program]]:
    for kind in CASES:
        programs = ((seed, program_of(kind, seed)[0]) for seed in range(_SEEDS))
        writable = ((f"{kind} {seed}", program) for seed, program in programs if _writable(program))
        yield from itertools.islice(writable, _PER_KIND)


def _writable(program: Program) -> bool:
    try:
        return len(to_bytes(tiled(program))) < _SMALL
    except HbmError:  # the draw takes liberties that a file may not
        return False


def _compiled(op: str, variation: dict[str, Any], options: dict[str, Any]) -> Program:
    with spread():
        return compile_model(single_op_model(op, **variation)[0], **options)


def _whole() -> Iterator[Base]:
    yield base_of("every operator", full())
    yield base_of("a CPU segment between two", compile_model(crossing()[0], march="nash-e"))


def packed(sections: dict[str, bytes]) -> bytes:
    """A file of these sections, all checksums right."""
    return b"".join(pack([(name, memoryview(data)) for name, data in sections.items()]))
