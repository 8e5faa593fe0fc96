"""What a Program must satisfy before it runs: ids in range, addresses inside their spaces, known opcodes.

The simulators trust this: their kernels index without bounds checks, so a forged file must stop here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import fields

import numpy as np

from openbpu.arch.definition.checked import Checked
from openbpu.arch.definition.needs import BadRecordError
from openbpu.arch.dtypes import DType
from openbpu.arch.hbm.check_operators import check_operator
from openbpu.arch.isa import ISA, MAX_CORES, SERVES, headers
from openbpu.arch.program import OPERATORS, BpuSegment, CpuSegment, Program, Space, Tensor

MAX_BYTES = 1 << 40
"""No memory space is larger: 1 TiB, far above any device and far below an int64 overflow."""

MAX_TENSOR_BYTES = 1 << 31
"""No tensor is larger: the compiler takes 2 GiB of a value, in float32, and none has wider elements here."""

MAX_CHIP_BYTES = 1 << 32  # on-chip addresses have 32 bits
MAX_RANK = 32  # NumPy 1.26's own limit

_KNOWN_OPCODES = np.zeros(256, dtype=np.uint8)
_KNOWN_OPCODES[list(ISA)] = 1
_ENGINE_OF = np.zeros(256, dtype=np.uint8)
_ENGINE_OF[list(ISA)] = [int(cls.ENGINE) for cls in ISA.values()]
_SERVES = np.zeros((256, len(OPERATORS)), dtype=np.bool_)  # opcode, kind of operator
for _opcode, _cls in ISA.items():
    _SERVES[_opcode] = [kind in SERVES[_cls] for kind in OPERATORS]


def check_program(program: Program) -> None:
    """Raise BadRecordError, naming the place, at the first thing about a program that cannot be right."""
    _require(0 <= program.ddr_bytes <= MAX_BYTES, "ddr_bytes", program.ddr_bytes)
    for index, tensor in enumerate(program.tensors):
        _check_tensor(f"tensors[{index}] '{tensor.name}'", tensor, program)
    roots = _check_views(program)
    check_ids("inputs", program.inputs, program)
    check_ids("outputs", program.outputs, program)
    _check_ends(program)
    known, checked = _Known(program, roots), Checked(program)
    for index, segment in enumerate(program.segments):
        where = f"segments[{index}] '{segment.name}'"
        check_ids(f"{where}.inputs", segment.inputs, program)
        check_ids(f"{where}.outputs", segment.outputs, program)
        known.require(f"{where}.inputs", segment.inputs)
        if isinstance(segment, CpuSegment):
            _check_cpu(where, segment)
            known.write(f"{where}.outputs", segment.outputs)
        else:
            _check_bpu(where, program, segment, checked, known)
        known.end_segment(segment.outputs)
    known.require("outputs", program.outputs)
    _check_tables(program)


def _require(legal: bool, where: str, actual: object) -> None:
    if not legal:
        raise BadRecordError(f"{where} cannot be {actual}")


def _check_ends(program: Program) -> None:
    """Inputs are given and outputs got by name; inputs are written to bytes of their own."""
    for where, ids in (("inputs", program.inputs), ("outputs", program.outputs)):
        seen = set[str]()
        for name in (program.tensors[i].name for i in ids):
            _require(name not in seen, where, f"two or more named '{name}'")
            seen.add(name)
    for i in program.inputs:
        space = program.tensors[i].space
        _require(space is Space.DDR, f"inputs: space of '{program.tensors[i].name}'", space.value)


def check_ids(where: str, ids: Iterable[int], program: Program) -> None:
    """Raise BadRecordError unless every id names a tensor of the program."""
    for i in ids:
        _require(0 <= i < len(program.tensors), f"{where}: tensor id", i)


def _check_tensor(where: str, t: Tensor, program: Program) -> None:
    _require(len(t.shape) <= MAX_RANK, f"{where}: rank", len(t.shape))
    _require(all(0 <= d <= MAX_BYTES for d in t.shape), f"{where}: shape", t.shape)
    size = math.prod(t.shape) * t.dtype.nbytes
    _require(size <= MAX_TENSOR_BYTES, f"{where}: size in bytes", size)
    _require(len(t.scale) <= 1 or -1 <= t.axis < len(t.shape), f"{where}: axis", t.axis)
    if t.dtype is DType.OTHER:  # its elements are Python objects: never bytes of a file
        _require(
            t.space is Space.DDR and t.address == -1,
            f"{where}: space",
            f"{t.space.value} for {t.dtype.value}",
        )
    if t.space is Space.CONST:
        _require(
            0 <= t.address <= program.constants.size - size, f"{where}: address of {size} bytes", t.address
        )
    elif t.space is Space.DDR:  # -1: only ever crosses CPU segments
        _require(
            -1 <= t.address <= max(program.ddr_bytes - size, -1),
            f"{where}: address of {size} bytes",
            t.address,
        )
    elif t.space is Space.L2M:
        _require(0 <= t.address <= MAX_CHIP_BYTES - size, f"{where}: address of {size} bytes", t.address)
    elif t.space is Space.CHIP:
        _require(-1 <= t.address <= MAX_BYTES, f"{where}: address", t.address)


def _check_views(program: Program) -> list[int]:
    """A VIEW must lead to a tensor of the same size that is no view: returns which, by tensor id.

    Every tensor is visited once, however long the chains of views are.
    """
    tensors = program.tensors
    roots = [-1 if t.space is Space.VIEW else i for i, t in enumerate(tensors)]
    for start in range(len(tensors)):
        at, chain = start, dict[int, None]()
        while roots[at] < 0:
            where = f"tensors[{at}] '{tensors[at].name}'"
            if at in chain:
                raise BadRecordError(f"{where} is a view of itself")
            chain[at] = None
            at = tensors[at].address
            check_ids(f"{where}: view", (at,), program)
        root = tensors[roots[at]]
        for i in chain:
            where, nbytes = f"tensors[{i}] '{tensors[i].name}'", tensors[i].nbytes
            _require(root.dtype is not DType.OTHER, f"{where}: dtype as a view of", root.dtype.value)
            _require(nbytes == root.nbytes, f"{where}: size as a view of {root.nbytes} bytes", nbytes)
            roots[i] = roots[at]
    return roots


class _Known:
    """What can be read: inputs, constants, what was computed before, and views of those.

    Each tensor is walked over once: a view that led to something known is known from then on.
    """

    def __init__(self, program: Program, roots: Sequence[int]) -> None:
        constants = (i for i, t in enumerate(program.tensors) if t.space is Space.CONST)
        self._program, self._roots = program, roots
        self._before = {*program.inputs, *constants}
        self._inside = set[int]()
        self._written = {roots[i] for i in program.inputs}

    def require(self, where: str, ids: Iterable[int]) -> None:
        """Raise BadRecordError at the first tensor of `ids` that nothing computes before."""
        for i in ids:
            at, chain = i, []
            while at not in self._before and at not in self._inside:
                chain.append(at)
                t = self._program.tensors[at]
                _require(t.space is Space.VIEW, where, f"tensor {i}, which nothing computes before")
                at = t.address
            (self._before if at in self._before else self._inside).update(chain)

    def write(self, where: str, ids: Iterable[int]) -> None:
        """Take note of what is computed in the present segment: for that segment only.

        A tensor is written once: kernels read operands while they write, and may do so in any order.
        """
        for i in ids:
            root = self._roots[i]
            taken = root in self._written or self._program.tensors[root].space is Space.CONST
            _require(not taken, where, f"tensor {i}, whose bytes something else has written")
            self._written.add(root)
            self._inside.add(i)

    def end_segment(self, outputs: Iterable[int]) -> None:
        """Of what was computed inside, keep what the segment hands on."""
        self._inside = set()
        self._before.update(outputs)


def _check_cpu(where: str, segment: CpuSegment) -> None:
    _require(
        len(segment.names_in) == len(segment.inputs), f"{where}: number of input names", len(segment.names_in)
    )
    _require(
        len(segment.names_out) == len(segment.outputs),
        f"{where}: number of output names",
        len(segment.names_out),
    )
    for name in ("flops", "bytes_moved", "nodes"):
        _require(getattr(segment, name) >= 0, f"{where}: {name}", getattr(segment, name))


def _check_bpu(where: str, program: Program, segment: BpuSegment, checked: Checked, known: _Known) -> None:
    _require(0 <= segment.chip_bytes <= MAX_CHIP_BYTES, f"{where}: chip_bytes", segment.chip_bytes)
    _require(0 <= segment.l2m_bytes <= MAX_CHIP_BYTES, f"{where}: l2m_bytes", segment.l2m_bytes)
    _require(len(segment.code) <= MAX_CORES, f"{where}: number of cores", len(segment.code))
    for index, op in enumerate(segment.operators):
        place = f"{where}.operators[{index}] {type(op).__name__}"
        check_ids(place, (*op.inputs, *op.outputs, *op.constants()), program)
        _require(-1 <= op.node < len(program.debug), f"{place}: node", op.node)
        known.require(place, op.inputs)
        try:
            check_operator(checked, op)
        except BadRecordError as error:
            raise BadRecordError(f"{place}: {error}") from error
        known.write(f"{place}: output", op.outputs)
    known.require(f"{where}.outputs", segment.outputs)
    for core, code in enumerate(segment.code):
        _check_code(f"{where}, code of core {core}", segment, code)


def _check_code(
    where: str, segment: BpuSegment, code: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
) -> None:
    head = headers(code)
    opcodes = head["opcode"]
    unknown = np.flatnonzero(_KNOWN_OPCODES[opcodes] == 0)
    if unknown.size:
        _require(False, f"{where}: opcode of instruction {unknown[0]}", f"0x{int(opcodes[unknown[0]]):02x}")
    for name, wrong in (
        ("engine", head["engine"] != _ENGINE_OF[opcodes]),
        ("flags", head["flags"] != 0),
        ("operator", head["operator"] >= len(segment.operators)),
    ):
        first = np.flatnonzero(wrong)
        if first.size:
            _require(False, f"{where}: {name} of instruction {first[0]}", int(head[name][first[0]]))
    kinds = np.array([OPERATORS.index(type(op)) for op in segment.operators], dtype=np.intp)
    strangers = (
        np.flatnonzero(~_SERVES[opcodes, kinds[head["operator"]]]) if len(code) else np.empty(0, np.intp)
    )
    if strangers.size:
        kind = type(segment.operators[head["operator"][strangers[0]]]).__name__
        _require(False, f"{where}: instruction {strangers[0]}", f"part of a {kind}")


def _check_tables(program: Program) -> None:
    for index, line in enumerate(program.placement):
        where = f"placement[{index}] '{line.node}'"
        _require(line.on in {"BPU", "CPU"}, f"{where}: on", line.on)
        _require(-1 <= line.segment < len(program.segments), f"{where}: segment", line.segment)
        _require(-1 <= line.layer < len(program.debug), f"{where}: layer", line.layer)
        least = min(getattr(line.cost, f.name) for f in fields(line.cost))
        _require(least >= 0, f"{where}: a cost", least)
