"""Cutting a matrix product into tiles: blocks of channels, rows of A, packed weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openbpu.arch.arrays import Bytes, Int64
from openbpu.simulator.fast.conv.arguments import GROUP, MAX_ROWS, TILE_SLOTS, Unit
from openbpu.simulator.fast.declaration import Table
from openbpu.simulator.fast.plan.steps import Lowering, Symbol, Symbols


def split_even(total: int, most: int) -> list[int]:
    """Return sizes of at most `most` that differ by one at most and sum to `total`."""
    parts = -(-total // most)
    return [(total * (i + 1)) // parts - (total * i) // parts for i in range(parts)]


@dataclass(frozen=True, slots=True)
class Channels:
    """Channels that share the tiles of one micro-kernel."""

    start: int  # first channel
    count: int
    groups: int  # registers of 16 channels


def channel_blocks(start: int, count: int, mode: str) -> list[Channels]:
    """Cut `count` channels from `start` on."""
    widest = len(MAX_ROWS[mode]) - 1
    blocks, done = [], 0
    for groups in split_even(-(-count // GROUP), widest):
        channels = min(groups * GROUP, count - done)
        blocks.append(Channels(start + done, channels, groups))
        done += channels
    return blocks


@dataclass(frozen=True, slots=True)
class Runs:
    """Stretches of rows of A, all of one length, whose outputs lie at one distance."""

    first: Int64  # [runs]: the first offset
    pixel: Int64  # [runs]: the first pixel of y
    rows: int
    distance: int  # pixels of y from row to row


def tile_units(groups: Sequence[int], runs: Runs, mode: str) -> Table[Unit]:
    """Return every tile of every block, which has so many groups."""
    cuts = {g: split_even(runs.rows, MAX_ROWS[mode][g]) for g in set(groups)}
    tables = {g: _tiles(np.array(rows, dtype=np.int64), runs) for g, rows in cuts.items()}
    made = [tables[g] for g in groups]
    blocks = np.repeat(np.arange(len(groups)), [len(t) for t in made])
    first, rows, pixel = np.concatenate(made).T if made else np.zeros((3, 0), dtype=np.int64)
    return Table.columns(Unit, block=blocks, first=first, rows=rows, pixel=pixel)


def _tiles(rows: Int64, runs: Runs) -> Int64:
    """Return [tiles of all runs, 3]: the first offset, rows, the first pixel."""
    done = np.cumsum(rows) - rows
    first = runs.first[:, None] + done
    pixel = runs.pixel[:, None] + done * runs.distance
    return np.stack(np.broadcast_arrays(first, rows, pixel), axis=-1).reshape(-1, 3)


def pack_weights(weights: npt.NDArray[np.integer], groups: int, word: int) -> Bytes:
    """Pack [C, taps, K] as [taps·steps][16·groups][word], zeros behind K and C."""
    channels, taps, depth = weights.shape
    steps = -(-depth // word)
    full = np.zeros((groups * GROUP, taps, steps * word), dtype=np.int8 if word == 4 else np.int16)
    full[:channels, :, :depth] = weights
    packed = full.reshape(groups * GROUP, taps * steps, word).transpose(1, 0, 2)
    return np.ascontiguousarray(packed).view(np.uint8).reshape(-1)


def tile_symbols(low: Lowering, *, words: bool) -> Symbols:
    """Return the micro-kernels by [groups·TILE_SLOTS + rows]."""
    name = "words" if words else "bytes"
    slots: list[Symbol | None] = [None] * (5 * TILE_SLOTS)
    for groups, most in enumerate(MAX_ROWS[low.mode]):
        for rows in range(1, most + 1):
            slots[groups * TILE_SLOTS + rows] = Symbol(f"gemm_{name}_{rows}x{groups}")
    return tuple(slots)
