"""A compiled program: tensors in DDR or on chip, BPU and CPU segments in the order they run."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from openbpu.arch.definition.operator import Operator
from openbpu.arch.tensors import Space, Tensor


@dataclass(frozen=True, slots=True)
class DebugEntry:
    """One line of the debug map: a layer's name, the user's nodes in it, and where the user wrote them."""

    name: str
    op: str
    origins: tuple[str, ...] = ()
    scope: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class CpuCost:
    """What a node on the CPU costs a run; `nodes` is 0 for one that costs nothing.

    splits: BPU segments more because of its segment · bytes_in, bytes_out: what it reads of the BPU's results
    and makes for the BPU · cpu_us: its own estimated time on one core · handover_us: of its segment, both
    ways · nodes: how many nodes share that segment, its split and its hand-over.
    """

    splits: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    cpu_us: float = 0.0
    handover_us: float = 0.0
    nodes: int = 0


NO_COST = CpuCost()


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one node of the user's model runs, and why. `segment` indexes `Program.segments` (-1: none)."""

    node: str
    op: str
    on: str  # "BPU" | "CPU"
    segment: int
    dtypes: str  # "int8/int8", "float/float", …: input / output
    reason: str = ""
    fix: str = ""
    scope: str = ""
    source: str = ""
    layer: int = -1  # index into the debug map of the layer that holds it
    cost: CpuCost = NO_COST


@dataclass(frozen=True, slots=True)
class BpuSegment:
    """Operators that run on the BPU as one submission.

    `code` holds the encoded tile instructions of each core, uint8 [n, 128]; `inputs` and `outputs` are tensor
    ids in DDR (or in the L2M, if only BPU segments use them); `chip_bytes` is what the code uses of on-chip
    memory, by the core that uses most, `l2m_bytes` what it uses of the L2M.
    """

    name: str
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    code: tuple[npt.NDArray[np.uint8], ...] = field(compare=False)
    chip_bytes: int = 0
    l2m_bytes: int = 0

    @property
    def working_cores(self) -> int:
        """How many cores have instructions: fewer than were asked for where more would take more time."""
        return sum(len(code) > 0 for code in self.code)


@dataclass(frozen=True, slots=True)
class CpuSegment:
    """Nodes that run on ONNX Runtime.

    `model` is a serialized ONNX model whose input and output names are `names_in` and `names_out`, in the
    order of the tensor ids `inputs` and `outputs`. `flops` and `bytes_moved` estimate its cost. A tensor that
    only crosses CPU segments may have no static shape: shape () with `Tensor.address` -1.
    """

    name: str
    model: bytes
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    names_in: tuple[str, ...]
    names_out: tuple[str, ...]
    flops: int = 0
    bytes_moved: int = 0
    nodes: int = 0


Segment = BpuSegment | CpuSegment


@dataclass(frozen=True, slots=True)
class Program:
    """What a `.hbm` holds. `inputs` and `outputs` are tensor ids in the order of the user's model.

    `constants` is the image of the CONST space; `ddr_bytes` the size of the DDR space; `options` what it was
    compiled with; `macs` counts multiply-accumulates by dtype pair ("int8xint8", …).
    """

    name: str
    march: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    segments: tuple[Segment, ...]
    constants: npt.NDArray[np.uint8] = field(compare=False)
    ddr_bytes: int
    debug: tuple[DebugEntry, ...] = ()
    placement: tuple[Placement, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    macs: tuple[tuple[str, int], ...] = ()

    @property
    def cores(self) -> int:
        """How many cores it was compiled for; 0 where nothing runs on the BPU."""
        return max((len(s.code) for s in self.segments if isinstance(s, BpuSegment)), default=0)

    @property
    def working_cores(self) -> int:
        """How many of them have instructions, in the segment that uses most."""
        return max((s.working_cores for s in self.segments if isinstance(s, BpuSegment)), default=0)

    def constant(self, tensor_id: int) -> npt.NDArray[np.generic]:
        """Return a read-only view of a constant tensor."""
        t = self.tensors[tensor_id]
        raw = self.constants[t.address : t.address + t.nbytes]
        return raw.view(t.dtype.numpy).reshape(t.shape)

    def root(self, tensor_id: int) -> int:
        """Return the id of the tensor that owns the bytes of a VIEW (the id itself for all others)."""
        while self.tensors[tensor_id].space is Space.VIEW:
            tensor_id = self.tensors[tensor_id].address
        return tensor_id
