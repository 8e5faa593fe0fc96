"""A march: the numbers of one chip that the compiler, the timing rules and the reports read.

Sections hold plain numbers under short names; `March.numbers` holds the same ones as `section.name` with
unit, source and confidence. The docstring of a section says what its fields mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from openbpu.arch.dtypes import DType
from openbpu.arch.engines import Engine

_NS = 1_000_000_000  # a second

CONFIDENCES = ("published", "fitted", "assumed")
"""published: a public document states it · fitted: to published latencies · assumed: chosen, plausible."""


CHANNEL_BLOCK = 16
"""Channels that the engines of every march take together: the multiple that public advice asks for.

The depthwise mode computes whole blocks, and the schedule cuts channels into them.
"""

SIZE_MAX = 65535
"""The largest extent of a tile: what a 16-bit field of an instruction holds."""


@dataclass(frozen=True, slots=True)
class Number:
    """One datum of a march with where it comes from. `value` is a number, a string or a list of strings."""

    value: Any
    unit: str
    source: str
    confidence: str


def at_least(minimum: int) -> Any:
    """Declare a number with a smallest legal value; fields declared plainly must be at least 1."""
    return field(metadata={"min": minimum})


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """What all engines of a chip share.

    clock_hz: cycles per second of the BPU · cores: BPU cores · tops: advertised "equivalent" int8 TOPS of all
    cores · chip_bytes: on-chip memory of one core that programs can address · shared_bytes: second-level
    memory of all cores, the L2M (0: none; programs use it where they are compiled with --max-l2m-size) ·
    shared_bytes_per_cycle: what LOAD and STORE of one core each move between it and on-chip memory, whatever
    the other cores do (0: there is none) · alignment: smallest tensor allocation in bytes ·
    nv12_stride: alignment of the row stride of NV12 images in bytes · start_us: time of a core per BPU
    segment before its first and after its last instruction (fetching the program, starting, reporting) ·
    layer_cycles: engine time of setting up an operator, once (all engines but LOAD and STORE) ·
    table_ns: time of setting up an operator's look-up table, on top, whatever the clock ·
    port_bytes_per_cycle: what LOAD and STORE
    move for an operator keeps it from the on-chip memory's port for as many cycles as that takes (0: they do
    not disturb each other).
    """

    clock_hz: int
    cores: int
    tops: int
    chip_bytes: int
    shared_bytes: int = at_least(0)
    shared_bytes_per_cycle: int = at_least(0)
    alignment: int
    nv12_stride: int
    start_us: int = at_least(0)
    layer_cycles: int = at_least(0)
    table_ns: int = at_least(0)
    port_bytes_per_cycle: int = at_least(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tae:
    """The tensor array: input_lanes × output_lanes × (pixel_rows × pixel_cols) int8 MACs per cycle.

    depthwise_lanes: products per cycle of a depthwise convolution, blocks of 16 channels × pixels ·
    packs_taps: 1 when the taps of a kernel row fill idle input lanes (few input channels) ·
    passes_int16_int8, passes_int8_int16: cycles per step for int16 input × int8 weight and for int8 ×
    int16 · requant_lanes: results written per cycle · raw_lanes: the same for int32 accumulators that leave
    as they are (high-precision outputs) · weight_bytes_per_cycle: weights streamed into the array ·
    vector_bytes_per_cycle: the same where one pixel is all that uses them · stall_permille: extra cycles per
    1000, for operand fetch conflicts · matrix_ns: time that every matrix of a MatMul takes to become the
    array's weights, whatever its size and the clock · issue_cycles: engine time per instruction ·
    fill_cycles: pipeline depth, from the end of the engine's time to the token; hidden when the next
    instruction is ready.
    """

    input_lanes: int
    output_lanes: int
    pixel_rows: int
    pixel_cols: int
    depthwise_lanes: int
    packs_taps: int = at_least(0)
    passes_int16_int8: int
    passes_int8_int16: int
    requant_lanes: int
    raw_lanes: int
    weight_bytes_per_cycle: int
    vector_bytes_per_cycle: int
    stall_permille: int = at_least(0)
    matrix_ns: int = at_least(0)
    issue_cycles: int = at_least(0)
    fill_cycles: int = at_least(0)

    @property
    def macs_per_cycle(self) -> int:
        """Int8 × int8 multiply-accumulates per cycle of one core."""
        return self.input_lanes * self.output_lanes * self.pixel_rows * self.pixel_cols


@dataclass(frozen=True, slots=True, kw_only=True)
class Vae:
    """The vector engine: elements per cycle.

    lanes_int8, lanes_int16, lanes_int32: element-wise, by the widest operand · lut_int8: 256-entry look-ups ·
    lut_int16: segmented look-ups · softmax_passes, norm_passes: int16 passes over a row ·
    row_cycles: extra cycles per row of a row function · issue_cycles, fill_cycles: as in Tae.
    """

    lanes_int8: int
    lanes_int16: int
    lanes_int32: int
    lut_int8: int
    lut_int16: int
    softmax_passes: int
    norm_passes: int
    row_cycles: int = at_least(0)
    issue_cycles: int = at_least(0)
    fill_cycles: int = at_least(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aae:
    """Pooling and resizing.

    lanes_int8, lanes_int16: window elements per cycle · resize_lanes: results per cycle · issue_cycles,
    fill_cycles: as in Tae.
    """

    lanes_int8: int
    lanes_int16: int
    resize_lanes: int
    issue_cycles: int = at_least(0)
    fill_cycles: int = at_least(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trans:
    """Layout: bytes_per_cycle where source and target rows are contiguous, elements_per_cycle where not."""

    bytes_per_cycle: int
    elements_per_cycle: int
    issue_cycles: int = at_least(0)
    fill_cycles: int = at_least(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vpu:
    """Quantize and dequantize: lanes: elements per cycle (0: this march has no VPU)."""

    lanes: int = at_least(0)
    issue_cycles: int = at_least(0)
    fill_cycles: int = at_least(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spu:
    """Scalars in order of size: cycles_per_element (0: this march has no SPU)."""

    cycles_per_element: int = at_least(0)
    issue_cycles: int = at_least(0)
    fill_cycles: int = at_least(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ddr:
    """External memory as the BPU sees it, shared by LOAD and STORE of all cores.

    bytes_per_second: what one core gets, with long bursts · shared_bytes_per_second: what all cores together
    get where every one is kept busy by frames of its own (0: as much as each of them asks for) ·
    burst_bytes: the least that one access transfers, aligned to its size
    · row_cycles: extra memory time per contiguous run · issue_cycles: engine time per instruction ·
    latency_cycles: from the last byte to the token, hidden when the next transfer is ready.
    """

    bytes_per_second: int
    shared_bytes_per_second: int = at_least(0)
    burst_bytes: int
    row_cycles: int = at_least(0)
    issue_cycles: int = at_least(0)
    latency_cycles: int = at_least(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """The CPU beside the BPU: what fallback operators cost.

    flops_per_cycle: sustained float32 operations per core · bytes_per_second: sustained memory traffic ·
    dispatch_us: per operator · handover_us: per segment between BPU segments, there and back · submit_us: per
    run of a model, from the call to the first cycle and back · serial_us: the part of it that threads do one
    after another, which bounds the frames of all cores together · dequantize_ps: per element of an output
    that leaves the BPU as integers, when one thread dequantizes it.
    """

    name: str
    cores: int
    clock_hz: int
    flops_per_cycle: int
    bytes_per_second: int
    dispatch_us: int = at_least(0)
    handover_us: int = at_least(0)
    submit_us: int = at_least(0)
    serial_us: int = at_least(0)
    dequantize_ps: int = at_least(0)


@dataclass(frozen=True, slots=True)
class CpuOp:
    """An ONNX operator that stays on the CPU; `when`: "always" (no unit) or "default" (the user may ask)."""

    when: str
    source: str
    confidence: str


@dataclass(frozen=True, slots=True, eq=False)
class March:
    """One chip. `target` says whether the compiler can target it and `reason`, if it cannot, why.

    `conv_pairs` and `matmul_pairs` are the legal (input, weight) types, `high_precision` the types a last
    conv or matmul may emit without requantization, `limits` the numbers of
    `openbpu.arch.march.limits.LIMITS`, `cpu_ops` the ONNX operators that stay on the CPU, `quantize_on_bpu`
    whether Quantize and Dequantize of float tensors run on the BPU.
    """

    name: str
    product: str
    target: bool
    reason: str
    engines: tuple[Engine, ...]
    chip: Chip
    tae: Tae
    vae: Vae
    aae: Aae
    trans: Trans
    vpu: Vpu
    spu: Spu
    ddr: Ddr
    cpu: Cpu
    conv_pairs: tuple[tuple[DType, DType], ...]
    matmul_pairs: tuple[tuple[DType, DType], ...]
    high_precision: tuple[DType, ...]
    quantize_on_bpu: bool
    limits: Mapping[str, int]
    cpu_ops: Mapping[str, CpuOp]
    numbers: Mapping[str, Number]

    @property
    def clock_hz(self) -> int:
        """BPU cycles per second."""
        return self.chip.clock_hz

    def cycles_in(self, ns: int) -> int:
        """Return the BPU cycles that a time in ns takes, the last one whole."""
        return -(-ns * self.clock_hz // _NS)

    @property
    def cores(self) -> int:
        """Number of BPU cores."""
        return self.chip.cores

    @property
    def alignment(self) -> int:
        """Smallest tensor allocation, in bytes."""
        return self.chip.alignment

    @property
    def chip_bytes(self) -> int:
        """On-chip memory of one core, in bytes."""
        return self.chip.chip_bytes
