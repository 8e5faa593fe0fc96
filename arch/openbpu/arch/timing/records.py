"""From encoded instructions to cycles: the records of a kind, handed to the rule of its class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openbpu.arch import isa
from openbpu.arch.arrays import Int64
from openbpu.arch.definition.layers import Layers, Records
from openbpu.arch.errors import HbmError
from openbpu.arch.isa import ENGINES, RECORDS, Code, Engine, Instr
from openbpu.arch.march import March
from openbpu.arch.operators.transfer import port_cycles, transfer_costs
from openbpu.arch.program import Operator, Tensor


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
            for cost, part in zip(parts, transfer_costs(rows, march), strict=True):
                cost[where] = part
            continue
        costs.cycles[where], costs.macs[where] = cls.cycles(rows, layers), cls.macs(rows, layers)
    turns = _turns(heads)
    tables = layers.of(heads["operator"][turns].astype(np.int64), _has_table)
    costs.cycles[turns] += march.chip.layer_cycles + tables * march.cycles_in(march.chip.table_ns)
    _hold(costs, heads, march)
    return costs


def _has_table(operator: Operator) -> int:
    """Return 1 where an operator is a look-up, in a table or in segments, or ends in one."""
    return int(operator.LOOKS_UP or getattr(operator, "table_id", -1) >= 0)


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
    held = np.repeat(port_cycles(march, moved[mine]), count)
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
    fills[Engine.SPU] = march.spu.fill_cycles
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
