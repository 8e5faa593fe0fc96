"""What bounds a layer: computing, DDR or overhead, by the engine time and memory time of its instructions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Int64
from openbpu.arch.definition.integers import Count
from openbpu.arch.isa import Engine
from openbpu.arch.program import Conv, MatMul, Operator
from openbpu.arch.timing import conv_cycles, passes
from openbpu.runtime.roofline.site import Site

_DDR = (Engine.LOAD, Engine.STORE)
COMPUTING = tuple(e for e in Engine if e not in _DDR)


@dataclass(frozen=True, slots=True)
class Bound:
    """The numbers that decide, in µs averaged over the cores unless said otherwise.

    by: the largest of the three: "compute", "DDR" or "overhead" ("none" when nothing runs) · compute_us: work
    of the computing engine that works longest, `engine` · ddr_us: memory time of all cores at full rate, or
    what the transfers keep from the engines where that is longer · overhead_us: issuing instructions and
    setting operators up, of the engine that does so longest · macs, ddr_bytes: totals · peak_macs_per_us: of
    the tensor array for the layer's types, all cores · array_use: MACs as a share of what the array could do
    in its working time (0 without MACs) · idle: which lanes of the array the layer leaves idle at no gain, ""
    when it fills them or is another kind of layer.
    """

    by: str
    engine: str
    compute_us: float
    ddr_us: float
    overhead_us: float
    macs: int
    ddr_bytes: int
    peak_macs_per_us: float
    array_use: float
    idle: str

    @property
    def intensity(self) -> float | None:
        """MACs per byte of DDR traffic; None when no byte moves."""
        return self.macs / self.ddr_bytes if self.ddr_bytes else None


@dataclass(frozen=True, slots=True)
class Sums:
    """By operator, of all cores: work, loss to transfers, overhead by engine; memory cycles, bytes, MACs;
    whether filling up the lanes of its input channels would cost no array time.
    """

    work: Int64
    held: Int64
    overhead: Int64
    memory: Int64
    moved: Int64
    macs: Int64
    fillable: npt.NDArray[np.bool_]


def sums_of(site: Site) -> Sums:
    """Return the sums that `bound_of` reads, once per segment."""
    cycles = site.by_engine([c.cycles for c in site.costs])
    overhead, held = site.by_engine(site.overhead), site.by_engine(site.held)
    memory = site.by_engine([c.memory for c in site.costs]).sum(axis=1)
    moved = site.by_engine([c.moved for c in site.costs]).sum(axis=1)
    macs = site.by_engine([c.macs for c in site.costs]).sum(axis=1)
    return Sums(cycles - overhead - held, held, overhead, memory, moved, macs, _fillable(site))


def bound_of(site: Site, sums: Sums, members: tuple[int, ...]) -> Bound:
    """Return what bounds the operators of one layer."""
    rows = np.array(members)
    cores = max(len(site.segment.code), 1)
    work, overhead = sums.work[rows].sum(axis=0), sums.overhead[rows].sum(axis=0)
    engine = max(COMPUTING, key=lambda e: int(work[e] + overhead[e]))
    macs = int(sums.macs[rows].sum())
    peak = _peak(site, members)
    three = {
        "compute": site.microseconds(int(work[engine]) / cores),
        "DDR": site.microseconds(max(int(sums.memory[rows].sum()), int(sums.held[rows].max()) / cores)),
        "overhead": site.microseconds(int(overhead.max()) / cores),
    }
    array_us = site.microseconds(int(work[Engine.TAE]) / cores)
    return Bound(
        by=max(three, key=lambda k: three[k]) if any(three.values()) else "none",
        engine=engine.name if three["compute"] else "",
        compute_us=three["compute"],
        ddr_us=three["DDR"],
        overhead_us=three["overhead"],
        macs=macs,
        ddr_bytes=int(sums.moved[rows].sum()),
        peak_macs_per_us=peak,
        array_use=macs / (array_us * peak) if array_us and macs else 0.0,
        idle="; ".join(
            dict.fromkeys(text for i in members if (text := _idle(site, i, fillable=bool(sums.fillable[i]))))
        ),
    )


def _peak(site: Site, members: tuple[int, ...]) -> float:
    """Return the MACs per µs of all cores for the slowest types among these operators."""
    tensors, march = site.program.tensors, site.march

    def slowdown(op: Operator) -> int:
        if isinstance(op, Conv):
            return passes(march, tensors[op.inputs[0]].dtype, tensors[op.weight_id].dtype)
        return passes(march, *(tensors[t].dtype for t in op.inputs[:2])) if isinstance(op, MatMul) else 1

    slowest = max(slowdown(site.segment.operators[i]) for i in members)
    cores = max(len(site.segment.code), 1)
    return march.tae.macs_per_cycle * march.clock_hz * cores / slowest / 1e6


def _idle(site: Site, index: int, *, fillable: bool) -> str:
    """Say which channels would cost no array time: those that fill the blocks of lanes a layer uses anyway.

    The array's rule decides: where taps share the lanes of a few channels, more channels do cost time.
    """
    op, march = site.segment.operators[index], site.march
    lanes_in, lanes_out = march.tae.input_lanes, march.tae.output_lanes
    if isinstance(op, MatMul):
        sizes = (("inner size", op.k, lanes_in, True), ("columns", op.n, lanes_out, True))
    elif isinstance(op, Conv) and op.groups == 1:
        c_in, c_out = op.x_shape[3], op.y_shape[3]
        sizes = (("input channels", c_in, lanes_in, fillable), ("output channels", c_out, lanes_out, True))
    else:
        return ""
    found = [
        f"{size} of {_whole(size, n)} lanes of {what}" for what, size, n, free in sizes if free and size % n
    ]
    return f"{', '.join(found)} used: filling them costs no array time" if found else ""


def _whole(size: Count, lanes: int) -> Any:
    return -(-size // lanes) * lanes


def _fillable(site: Site) -> npt.NDArray[np.bool_]:
    """Whether each Conv of one group takes no more array time with its input channels filled up to whole
    blocks of lanes, its weights being there already.
    """
    found = np.zeros(len(site.segment.operators), dtype=np.bool_)
    convs = [
        (i, op) for i, op in enumerate(site.segment.operators) if isinstance(op, Conv) and op.groups == 1
    ]
    if not convs:
        return found
    where = [i for i, _ in convs]
    out = np.array([op.y_shape[1:] for _, op in convs]).T
    taps = np.array([[-(-k // u) for k, u in zip(op.kernel, op.upsample, strict=True)] for _, op in convs]).T
    c_in = np.array([op.x_shape[3] for _, op in convs])
    whole = _whole(c_in, site.march.tae.input_lanes)

    def cycles(channels: Int64) -> Int64:
        return np.asarray(
            conv_cycles(site.march, tuple(out), (channels, out[2]), tuple(taps), weight_bytes=0)
        )

    found[where] = cycles(whole) == cycles(c_in)
    return found
