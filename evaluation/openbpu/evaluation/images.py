"""Programs of `--batch N`: as many runs of the model in one, each judged as the model of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from onnx import ValueInfoProto

from openbpu.arch.arrays import Array
from openbpu.arch.program import Program
from openbpu.quantization.onnx.samples import input_of


def runs_in_one(program: Program, inputs: Sequence[ValueInfoProto]) -> int:
    """Return how many runs of the model one run of the program is; 1 where the model takes any batch."""
    batch = int(dict(program.options).get("batch") or 0)
    shapes = [input_of(i).shape for i in inputs]
    own = {shape[0] for shape in shapes if shape}
    (first,) = own if len(own) == 1 else (None,)
    return batch // first if isinstance(first, int) and first > 0 and batch > first else 1


def part(array: Array, run: int, runs: int, axis: int = 0) -> Array:
    """Return the share that one of the runs has of an array; all of a scalar."""
    if array.ndim == 0 or runs == 1:
        return array
    size = array.shape[axis] // runs
    return array.take(range(run * size, (run + 1) * size), axis)


def part_of(arrays: Mapping[str, Array], run: int, runs: int) -> dict[str, Array]:
    """Return what one of the runs takes or makes."""
    return {name: part(x, run, runs) for name, x in arrays.items()}


def together(runs: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Return the outputs of all runs as the program gives them; nothing where a run has none."""
    if len(runs) == 1:
        return dict(runs[0])
    return {} if not all(runs) else {n: np.concatenate([made[n] for made in runs]) for n in runs[0]}


def part_like(array: Array, shape: tuple[int, ...], run: int, runs: int) -> Array | None:
    """Return one run's share of a tensor whose shape in the model is this; None where its axis is not clear.

    The axis of the batch is the one that is `runs` times as long; axes of length 1 may have come and gone.
    """
    if runs == 1:
        return array.reshape(shape)
    sizes = [n for n in array.shape if n != 1]
    longer = [tuple(n * runs if i == axis else n for i, n in enumerate(shape)) for axis in range(len(shape))]
    fits = [axis for axis, full in enumerate(longer) if [n for n in full if n != 1] == sizes]
    apart = [range(a, b) for a, b in pairwise(fits)]
    if not fits or any(shape[i] != 1 for between in apart for i in between):
        return None
    return part(array.reshape(longer[fits[0]]), run, runs, fits[0])
