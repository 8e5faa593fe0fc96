"""A BPU segment executed instruction by instruction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from openbpu.arch import isa
from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, SimulationError, must
from openbpu.arch.isa import EncodingError, Instr
from openbpu.arch.program import BpuSegment, Operator, Program, Space
from openbpu.simulator.exact.core import Core
from openbpu.simulator.exact.memory import Memory
from openbpu.simulator.exact.operators import EXECUTE
from openbpu.simulator.exact.queues import Order, Queues

DDR_ALIGNMENT = 64
"""The DDR space of a program starts at this alignment behind its constants."""

_MALFORMED = (ArithmeticError, IndexError, KeyError, TypeError, ValueError, MemoryError)


class ExactSegment:
    """Runs the tile instructions of one BPU segment; see `queues.Order` for `order_seed`.

    Raises SimulationError where the code does what hardware could not: a read of bytes nobody wrote, an
    address outside memory, a token that never comes, an instruction that does not fit its operator.
    """

    def __init__(self, program: Program, segment: BpuSegment, *, order_seed: int | None = None) -> None:
        self.program = program
        self.segment = segment
        self.order_seed = order_seed
        self.saturations = 0
        self._ddr_base = -(-len(program.constants) // DDR_ALIGNMENT) * DDR_ALIGNMENT
        self._code = [self._decoded(core, code) for core, code in enumerate(segment.code)]

    def run(self, tensors: Mapping[int, Array]) -> dict[int, Array]:
        """Execute the segment on arrays by tensor id (`segment.inputs`); returns `segment.outputs` likewise.

        `saturations` then holds how many accumulators this run saturated to int32.
        """
        ddr, l2m = self._filled(tensors)
        cores = [
            Core(self._memory("on-chip", self.segment.chip_bytes), ddr, l2m, self.program) for _ in self._code
        ]
        queues = [Queues(code) for code in self._code]
        for number, queue in enumerate(queues):
            queue.others = tuple(q for other, q in enumerate(queues) if other != number)
        self._execute(cores, queues, Order(self.order_seed))
        self.saturations = sum(core.saturations for core in cores)
        return {i: self._output(ddr, l2m, i) for i in self.segment.outputs}

    def _decoded(self, core: int, code: isa.Code) -> list[Instr]:
        """Decode the code of one core and check that its operators exist and fit."""
        try:
            instrs = isa.decode(code)
        except EncodingError as error:
            raise SimulationError(
                f"{self.segment.name}: core {core}: {error}; the file is damaged"
            ) from error
        for index, instr in enumerate(instrs):
            count = len(self.segment.operators)
            if instr.operator >= count:
                raise self._error(core, index, instr, f"operator {instr.operator} of {count} does not exist")
            if not isinstance(self.segment.operators[instr.operator], isa.SERVES[type(instr)]):
                raise self._error(core, index, instr, "the instruction cannot serve this operator")
        return instrs

    def _execute(self, cores: Sequence[Core], queues: Sequence[Queues], order: Order) -> None:
        while not all(q.finished() for q in queues):
            ready = [(i, engine) for i, q in enumerate(queues) for engine in q.ready()]
            if not ready:
                blocked = next(q.blocked() for q in queues if not q.finished())
                raise SimulationError(f"{self.segment.name}: deadlock: {blocked}; a token is wrong")
            chosen, engine = order.choose(ready)
            queue = queues[chosen]
            at = queue.by_engine[engine][queue.done[engine]]
            self._one(cores[chosen], chosen, at, queue.code[at])
            queue.done[engine] += 1

    def _one(self, core: Core, number: int, at: int, instr: Instr) -> None:
        operator = self.segment.operators[instr.operator]
        try:
            EXECUTE[type(instr)](core, instr, operator)
        except SimulationError as error:
            raise self._error(number, at, instr, str(error)) from error
        except _MALFORMED as error:
            raise self._error(number, at, instr, f"cannot be executed ({error})") from error

    def _error(self, core: int, at: int, instr: Instr, what: str) -> SimulationError:
        return SimulationError(
            f"{self.segment.name}: core {core}, instruction {at} ({type(instr).__name__} of "
            f"{self._layer(instr.operator)}): {what}"
        )

    def _layer(self, index: int) -> str:
        if index >= len(self.segment.operators):
            return f"operator {index}"
        operator: Operator = self.segment.operators[index]
        debug = self.program.debug
        name = f" '{debug[operator.node].name}'" if 0 <= operator.node < len(debug) else ""
        return f"operator {index}, a {type(operator).__name__}{name}"

    def _memory(self, name: str, size: int, constants: int = 0) -> Memory:
        try:
            return Memory(name, size, constants)
        except (MemoryError, ValueError, OverflowError) as error:
            raise SimulationError(
                f"{self.segment.name}: {name} memory of {size} bytes does not fit this computer"
            ) from error

    def _filled(self, tensors: Mapping[int, Array]) -> tuple[Memory, Memory]:
        """Return the DDR with constants and inputs in it, and the L2M with the inputs that are there."""
        size = self._ddr_base + self.program.ddr_bytes
        ddr = self._memory("DDR", size, constants=len(self.program.constants))
        ddr.fill(0, self.program.constants)
        l2m = self._memory("L2M", self.segment.l2m_bytes)
        for i in self.segment.inputs:
            self._put(ddr, l2m, i, tensors)
        return ddr, l2m

    def _put(self, ddr: Memory, l2m: Memory, i: int, tensors: Mapping[int, Array]) -> None:
        t = self.program.tensors[i]
        where = f"{self.segment.name}: input '{t.name}'"
        if i not in tensors:
            raise InputError(must(where, "the tensor", "given", "absent"))
        value = np.asarray(tensors[i])
        if value.shape != t.shape or value.dtype != t.dtype.numpy:
            wanted, given = f"{t.dtype.value} {t.shape}", f"{value.dtype.name} {value.shape}"
            raise InputError(must(where, "the array", wanted, given))
        space = self.program.tensors[self.program.root(i)].space
        if space is not Space.CONST:
            memory = l2m if space is Space.L2M else ddr
            memory.box(self._address(i), (value.nbytes,), (1,), np.uint8)
            memory.fill(self._address(i), value)

    def _address(self, i: int) -> int:
        """Return the address of a tensor, or of the tensor whose bytes it shares, in DDR or the L2M."""
        root = self.program.tensors[self.program.root(i)]
        if root.space in {Space.CONST, Space.L2M}:
            return root.address
        if root.space is not Space.DDR:
            raise SimulationError(
                must(self.segment.name, f"tensor '{root.name}'", "in DDR", root.space.value)
            )
        return self._ddr_base + root.address

    def _output(self, ddr: Memory, l2m: Memory, i: int) -> Array:
        t = self.program.tensors[i]
        memory = l2m if self.program.tensors[self.program.root(i)].space is Space.L2M else ddr
        try:
            return memory.dense(self._address(i), t.shape, t.dtype.numpy).read()
        except SimulationError as error:
            raise SimulationError(f"{self.segment.name}: output '{t.name}': {error}") from error
