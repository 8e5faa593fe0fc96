"""Programs made by hand: no compiler needed to test a simulator.

b = Build()
x = b.input((1, 8, 8, 16))
y = b.tensor((1, 8, 8, 32))
b.add(Conv(inputs=(x,), outputs=(y,), weight_id=b.const(w), ...))
program = b.program(outputs=(y,))
segment = program.segments[0]
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from openbpu.arch.dtypes import DType
from openbpu.arch.program import BpuSegment, Operator, Program, Space, Tensor

ALIGNMENT = 64
Array = npt.NDArray[np.generic]


def aligned(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT


@dataclass
class Build:
    """Collects tensors, constants and operators; every DDR tensor gets bytes of its own."""

    tensors: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    constants: bytearray = field(default_factory=bytearray)
    ddr_bytes: int = 0

    def tensor(self, shape: tuple[int, ...], dtype: DType = DType.INT8, space: Space = Space.DDR) -> int:
        """A tensor that an operator writes; CHIP tensors have no address of their own (0)."""
        address = self.ddr_bytes if space is Space.DDR else 0
        made = Tensor(f"t{len(self.tensors)}", tuple(shape), dtype, space, address)
        if space is Space.DDR:
            self.ddr_bytes += aligned(made.nbytes)
        self.tensors.append(made)
        return len(self.tensors) - 1

    def input(self, shape: tuple[int, ...], dtype: DType = DType.INT8) -> int:
        self.inputs.append(self.tensor(shape, dtype))
        return self.inputs[-1]

    def view(self, of: int, shape: tuple[int, ...]) -> int:
        """The bytes of another tensor under another shape."""
        source = self.tensors[of]
        assert int(np.prod(shape)) == int(np.prod(source.shape))
        self.tensors.append(Tensor(f"v{len(self.tensors)}", tuple(shape), source.dtype, Space.VIEW, of))
        return len(self.tensors) - 1

    def const(self, values: Array) -> int:
        data = np.ascontiguousarray(values)
        made = Tensor(
            f"c{len(self.tensors)}", data.shape, DType.of(data.dtype), Space.CONST, len(self.constants)
        )
        self.constants += data.tobytes()
        self.constants += bytes(aligned(len(self.constants)) - len(self.constants))
        self.tensors.append(made)
        return len(self.tensors) - 1

    def add(self, operator: Operator) -> Operator:
        self.operators.append(operator)
        return operator

    def program(self, outputs: tuple[int, ...]) -> Program:
        """One BPU segment that holds every operator added so far."""
        segment = BpuSegment("segment0", tuple(self.operators), tuple(self.inputs), tuple(outputs), ())
        return Program(
            name="hand-made",
            march="nash-e",
            tensors=tuple(self.tensors),
            inputs=tuple(self.inputs),
            outputs=tuple(outputs),
            segments=(segment,),
            constants=np.frombuffer(bytes(self.constants), dtype=np.uint8),
            ddr_bytes=self.ddr_bytes,
        )


def one_operator_program(b: Build, operator: Operator) -> Program:
    b.add(operator)
    return b.program(operator.outputs)


def segment_of(program: Program) -> BpuSegment:
    (segment,) = program.segments
    assert isinstance(segment, BpuSegment)
    return segment


def random_tensor(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType = DType.INT8) -> Array:
    """Uniform over the whole range; floats are normal times 3."""
    if dtype is DType.FLOAT32:
        return (rng.standard_normal(shape) * 3).astype(np.float32)
    return rng.integers(dtype.qmin, dtype.qmax, shape, dtype=dtype.numpy, endpoint=True)
