"""From encoded instructions to cycles: the geometry of every record, handed to the rule of its family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from openbpu.arch import isa
from openbpu.arch.errors import HbmError
from openbpu.arch.isa import ENGINES, RECORDS, Code, Engine, Instr
from openbpu.arch.march import March
from openbpu.arch.program import LayerNorm, Lut, Operator, SegmentLut, Tensor
from openbpu.arch.timing import dma, tae, vector
from openbpu.arch.timing.boxes import runs, volume
from openbpu.arch.timing.integers import Int64, Ints, ceil_div
from openbpu.arch.timing.layers import Layers

Records = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Costs:
    """What each instruction costs, int64 [n] each.

    cycles: engine time when it has the memory for itself · memory: the part of it that is memory time (LOAD
    and STORE) · moved: bytes loaded from DDR or stored there · shared: the same for the L2M · macs:
    multiply-accumulates.
    """

    cycles: Int64
    memory: Int64
    moved: Int64
    shared: Int64
    macs: Int64


def instruction_costs(
    code: Code, operators: Sequence[Operator], tensors: Sequence[Tensor], march: March
) -> Costs:
    """Return the costs of instructions, uint8 [n, 128]; raises HbmError for records no compiler writes."""
    heads = isa.headers(code)
    costs = Costs(*(np.zeros(len(code), dtype=np.int64) for _ in range(5)))
    layers = Layers(operators, tensors, march)
    for opcode in np.unique(heads["opcode"]).tolist():
        where = np.flatnonzero(heads["opcode"] == opcode)
        cls = isa.ISA.get(opcode)
        if cls is None:
            raise HbmError(
                f"instruction {where[0]}: opcode 0x{opcode:02x} does not exist; the file is damaged"
            )
        rows = np.ascontiguousarray(code[where]).view(RECORDS[cls])[:, 0]
        _check_header(rows, where, cls, operators)
        if cls.ENGINE in (Engine.LOAD, Engine.STORE):
            parts = (costs.cycles, costs.memory, costs.moved, costs.shared)
            for column, part in zip(parts, _dma(rows, march), strict=True):
                column[where] = part
            continue
        costs.cycles[where] = _RULES[cls](rows, layers)
        if cls.ENGINE is Engine.TAE:
            costs.macs[where] = _macs(rows, layers, cls)
    turns = _turns(heads)
    tables = layers.of(
        heads["operator"][turns].astype(np.int64), lambda o: int(getattr(o, "table_id", -1) >= 0)
    )
    costs.cycles[turns] += march.chip.layer_cycles + tables * march.chip.table_cycles
    _hold(costs, heads, march)
    return costs


def _turns(heads: Records) -> Int64:
    """Return the first instruction of every operator on every computing engine."""
    computing = np.flatnonzero((heads["engine"] != Engine.LOAD) & (heads["engine"] != Engine.STORE))[::-1]
    pair = heads["operator"][computing].astype(np.int64) * ENGINES + heads["engine"][computing]
    first = np.full(int(pair.max(initial=-1)) + 1, -1, dtype=np.int64)
    first[pair] = computing  # backwards, so that the earliest instruction of a pair is written last
    return first[first >= 0]


def _hold(costs: Costs, heads: Records, march: March) -> None:
    """Add what an operator's transfers hold the on-chip memory's port, shared out to its instructions."""
    engine, operator = heads["engine"].astype(np.int64), heads["operator"].astype(np.int64)
    moves = (engine == Engine.LOAD) | (engine == Engine.STORE)
    moved = np.zeros(int(operator.max(initial=-1)) + 1, dtype=np.int64)
    np.add.at(moved, operator[moves], costs.moved[moves] + costs.shared[moves])
    where = np.flatnonzero(~moves)
    order = where[np.argsort(operator[where], kind="stable")]
    mine, first, count = np.unique(operator[order], return_index=True, return_counts=True)
    held = np.repeat(dma.port_cycles(march, moved[mine]), count)
    position, of = np.arange(len(order)) - np.repeat(first, count), np.repeat(count, count)
    costs.cycles[order] += held * (position + 1) // of - held * position // of


def cycles(code: Code, operators: Sequence[Operator], tensors: Sequence[Tensor], march: March) -> Int64:
    """Return the engine cycles of encoded instructions, int64 [n]; see `instruction_costs`."""
    return instruction_costs(code, operators, tensors, march).cycles


def fill_cycles(march: March) -> Int64:
    """Return, by engine, the cycles from the end of an instruction's engine time to its token; int64 [8]."""
    fills = np.zeros(ENGINES, dtype=np.int64)
    fills[[Engine.LOAD, Engine.STORE]] = march.ddr.latency_cycles
    fills[Engine.TAE] = march.tae.fill_cycles
    fills[Engine.AAE] = march.aae.fill_cycles
    fills[Engine.VAE] = march.vae.fill_cycles
    fills[Engine.VPU] = march.vpu.fill_cycles
    fills[Engine.TRANS] = march.trans.fill_cycles
    return fills


def _check_header(rows: Records, where: Int64, cls: type[Instr], operators: Sequence[Operator]) -> None:
    """Refuse a wrong engine, and an operator that does not exist or that the instruction cannot serve."""
    strange = np.flatnonzero(rows["engine"] != cls.ENGINE)
    if len(strange):
        at, engine = where[strange[0]], rows["engine"][strange[0]]
        raise HbmError(
            f"instruction {at}: {cls.__name__} must be on {cls.ENGINE.name}, not on engine {engine}"
        )
    operator, count = rows["operator"], len(operators)
    beyond = np.flatnonzero(operator >= count)
    if len(beyond):
        at, index = where[beyond[0]], operator[beyond[0]]
        raise HbmError(f"instruction {at}: operator {index} does not exist (the segment has {count})")
    seen = np.zeros(count, dtype=np.bool_)
    seen[operator] = True
    for index in np.flatnonzero(seen).tolist():
        if not isinstance(operators[index], isa.SERVES[cls]):
            at, kind = where[np.argmax(operator == index)], type(operators[index]).__name__
            raise HbmError(f"instruction {at}: {cls.__name__} cannot serve operator {index}, a {kind}")


def _column(rows: Records, name: str) -> Int64:
    return rows[name].astype(np.int64)


def _dma(rows: Records, march: March) -> tuple[Int64, Int64, Int64, Int64]:
    """Return cycles, memory time, bytes from or to DDR, bytes from or to the L2M."""
    counts, row = _column(rows, "counts"), _column(rows, "row_bytes")
    moved = volume(np.concatenate([counts, row[:, None]], axis=1))
    count, stretch = runs(counts, (_column(rows, "ddr_strides"),), (row,))
    offset = (rows["ddr"] % np.uint64(march.ddr.burst_bytes)).astype(np.int64)
    memory = dma.memory_cycles(march, rows=count, run=stretch * row, offset=offset)
    issue, near = march.ddr.issue_cycles, rows["ddr"] >= isa.L2M_BASE
    if not near.any():
        return issue + memory, memory, moved, np.zeros_like(moved)
    busy = np.where(near, np.asarray(dma.shared_cycles(march, moved)), np.asarray(memory))
    return issue + busy, np.where(near, 0, memory), np.where(near, 0, moved), np.where(near, moved, 0)


def _conv(rows: Records, layers: Layers) -> Ints:
    ids, march, tensors = _column(rows, "operator"), layers.march, layers.tensors

    def step(o: Any) -> int:
        return tae.passes(march, tensors[o.inputs[0]].dtype, tensors[o.weight_id].dtype)

    return tae.conv_cycles(
        march,
        tuple(_column(rows, name) for name in ("out_h", "out_w", "out_c")),
        (
            layers.of(ids, lambda o: max(1, o.x_shape[3] // o.groups)),
            layers.of(ids, lambda o: max(1, o.y_shape[3] // o.groups)),
        ),
        (
            layers.of(ids, lambda o: ceil_div(o.kernel[0], o.upsample[0])),
            layers.of(ids, lambda o: ceil_div(o.kernel[1], o.upsample[1])),
        ),
        step=layers.of(ids, step),
        weight_bytes=layers.of(ids, lambda o: layers.size(o.weight_id)),
        reads=layers.of(ids, lambda o: len(o.inputs)),
        raw=layers.of(ids, lambda o: int(o.raw)),
    )


def _matmul(rows: Records, layers: Layers) -> Ints:
    ids, march, tensors = _column(rows, "operator"), layers.march, layers.tensors

    def step(o: Any) -> int:
        return tae.passes(march, *(tensors[t].dtype for t in o.inputs[:2]))

    return tae.matmul_cycles(
        march,
        m=_column(rows, "m"),
        n=_column(rows, "n"),
        k=layers.of(ids, lambda o: o.k),
        step=layers.of(ids, step),
        weight_bytes=layers.of(ids, lambda o: layers.size(o.inputs[1])),
        raw=layers.of(ids, lambda o: int(o.raw)),
    )


def _macs(rows: Records, layers: Layers, cls: type[Instr]) -> Int64:
    terms = layers.of(_column(rows, "operator"), lambda o: o.terms)
    if cls is isa.MatMulTile:
        return _column(rows, "m") * _column(rows, "n") * terms
    return _column(rows, "out_h") * _column(rows, "out_w") * _column(rows, "out_c") * terms


def _pool(rows: Records, layers: Layers) -> Ints:
    ids = _column(rows, "operator")
    return vector.pool_cycles(
        layers.march,
        out_h=_column(rows, "out_h"),
        out_w=_column(rows, "out_w"),
        channels=_column(rows, "channels"),
        taps=layers.of(ids, lambda o: o.kernel[0] * o.kernel[1]),
        bits=layers.of(ids, layers.bits),
    )


def _resize(rows: Records, layers: Layers) -> Ints:
    return vector.resize_cycles(
        layers.march,
        out_h=_column(rows, "out_h"),
        out_w=_column(rows, "out_w"),
        channels=_column(rows, "channels"),
    )


def _box(rows: Records, *operands: tuple[str, Int64]) -> tuple[Int64, Int64]:
    """Return rows and run of a box, by its operands: name of the strides and bytes of an element."""
    counts = _column(rows, "counts")
    volume(counts)
    return runs(counts, [_column(rows, name) for name, _ in operands], [size for _, size in operands])


def _binary(rows: Records, layers: Layers) -> Ints:
    ids = _column(rows, "operator")
    a = layers.of(ids, layers.input_size)
    b = layers.of(ids, lambda o: layers.size(o.inputs[1]))
    y = layers.of(ids, layers.output_size)
    count, run = _box(rows, ("a_strides", a), ("b_strides", b), ("y_strides", y))
    return vector.elementwise_cycles(layers.march, rows=count, run=run, bits=layers.of(ids, layers.bits))


def _unary(rows: Records, layers: Layers) -> Ints:
    ids, march = _column(rows, "operator"), layers.march
    x, y = layers.of(ids, layers.input_size), layers.of(ids, layers.output_size)
    for part in np.unique(rows["part"]).tolist():
        of_part = rows["part"] == part
        x[of_part] = layers.of(ids[of_part], partial(_part_size, layers, part))
    count, run = _box(rows, ("x_strides", x), ("y_strides", y))
    is_table = layers.of(ids, lambda o: isinstance(o, (Lut, SegmentLut))).astype(bool)
    table = vector.lut_cycles(march, rows=count, run=run, bits=8 * x)
    plain = vector.elementwise_cycles(march, rows=count, run=run, bits=layers.of(ids, layers.bits))
    return np.where(is_table, table, plain)


def _part_size(layers: Layers, part: int, operator: Operator) -> int:
    return layers.size(operator.inputs[part])


def _fill(rows: Records, layers: Layers) -> Ints:
    size = layers.of(_column(rows, "operator"), layers.output_size)
    count, run = _box(rows, ("y_strides", size))
    return vector.elementwise_cycles(layers.march, rows=count, run=run, bits=8 * size)


def _reduce(rows: Records, layers: Layers) -> Ints:
    size = layers.of(_column(rows, "operator"), layers.input_size)
    count, run = _box(rows, ("x_strides", size))
    counts = _column(rows, "counts")
    outputs = counts[:, 0] * counts[:, 2]
    return vector.reduce_cycles(layers.march, rows=count, run=run, outputs=outputs, bits=8 * size)


def _row(rows: Records, layers: Layers) -> Ints:
    ids, count = _column(rows, "operator"), _column(rows, "rows")
    length = layers.of(ids, lambda o: o.shape[1])
    is_norm = layers.of(ids, lambda o: isinstance(o, LayerNorm)).astype(bool)
    soft, norm = (vector.row_cycles(layers.march, rows=count, length=length, norm=n) for n in (False, True))
    return np.where(is_norm, norm, soft)


def _vpu(rows: Records, layers: Layers) -> Ints:
    ids = _column(rows, "operator")
    x, y = layers.of(ids, layers.input_size), layers.of(ids, layers.output_size)
    count, run = _box(rows, ("x_strides", x), ("y_strides", y))
    return vector.vpu_cycles(layers.march, rows=count, run=run)


def _move(rows: Records, layers: Layers) -> Ints:
    element = _column(rows, "element")
    count, run = _box(rows, ("x_strides", element), ("y_strides", element))
    return vector.move_cycles(layers.march, rows=count, run=run, element=element)


def _gather(rows: Records, layers: Layers) -> Ints:
    counts = _column(rows, "counts")
    volume(counts)
    element = layers.of(_column(rows, "operator"), layers.input_size)
    count = counts[:, 0] * counts[:, 1]
    return vector.move_cycles(layers.march, rows=count, run=counts[:, 2], element=element)


_RULES: dict[type[Instr], Callable[[Records, Layers], Ints]] = {
    isa.ConvTile: _conv,
    isa.MatMulTile: _matmul,
    isa.PoolTile: _pool,
    isa.ResizeTile: _resize,
    isa.BinaryTile: _binary,
    isa.UnaryTile: _unary,
    isa.ReduceTile: _reduce,
    isa.RowTile: _row,
    isa.FillTile: _fill,
    isa.QuantizeTile: _vpu,
    isa.DequantizeTile: _vpu,
    isa.MoveTile: _move,
    isa.GatherTile: _gather,
}
