"""Looking inside a program while it runs: the integers of the quantized tensors that its operators make."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.program import BpuSegment, Concat, CpuSegment, Move, Program, SegmentLut, Space
from openbpu.evaluation.images import part_like
from openbpu.runtime import Session
from openbpu.runtime.cpu import CpuRunner
from openbpu.runtime.reference import Feed
from openbpu.runtime.tensors import check_inputs
from openbpu.simulator.fast import FastSegment

_HALF = {"uint8": 128, "uint16": 32768}
"""What unsigned codes lie above the signed ones of the BPU."""
_FIRST = (0, 3, 1, 2)
_ROUNDED = "/rounded/int16"
"""In the names of what `compiler.passes.cuts` rounds."""
_ORDERED = 5
"""Axes of which every order is looked at, at most."""
ANY = "any "
"""Stands before an operator for every node of it that has no name."""


class Inside:
    """Runs the program of a session, keeping every tensor (in the fast mode, whose bits are the same)."""

    def __init__(self, session: Session) -> None:
        self._program, self._threads = session.program, session.threads

    @cached_property
    def _runners(self) -> list[FastSegment | CpuRunner]:
        return [
            FastSegment(self._program, s, self._threads)
            if isinstance(s, BpuSegment)
            else CpuRunner(self._program, s, self._threads)
            for s in self._program.segments
        ]

    def run(self, feed: Feed) -> Shown:
        """Run once on a feed as the program takes it."""
        program = self._program
        values = check_inputs(program, feed, finite=False)
        for segment, runner in zip(program.segments, self._runners, strict=True):
            feeds = {i: _value(program, values, i) for i in segment.inputs}
            values.update(runner.run_all(feeds) if isinstance(runner, FastSegment) else runner.run(feeds))
        return Shown(program, values)


_LAID_OUT = re.compile(r"(?:/(?:signed|nhwc|nlc|rows|early|r|t))+$")
"""What the compiler adds to the name of a tensor of the model that it has in another layout or type."""


class Shown:
    """The tensors of one run under the names that the model gives them."""

    def __init__(self, program: Program, values: dict[int, Array]) -> None:
        self._program = program
        self._values = values
        made = {i for i, t in enumerate(program.tensors) if i in values or program.root(i) in values}
        self._ids = {program.tensors[i].name: i for i in made}
        self._is_rounded = any(_ROUNDED in name for name in self._ids)

    def tensor(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], run: int = 0, runs: int = 1
    ) -> Array | None:
        """Return a quantized tensor of the model in its layout and type, None where no operator makes it.

        run, runs: which of the runs of the model that this one was.
        """
        for stem in (name, f"{name}/signed"):
            for tail, turn in (("", None), ("/r", None), ("/nhwc", _FIRST), ("/t", _FIRST)):
                x = self._found(stem + tail)
                if tail == "/t" and not (self._is_rounded and x is not None and _is_image(x, shape)):
                    continue  # axes in another order, which the program does not say
                if (
                    x is None
                    or (turn and x.ndim not in (4, 5))
                    or x.size != runs * np.prod(shape, dtype=np.int64)
                ):
                    continue
                if x.dtype.kind in "iu":  # layers of one dimension are layers of height 1
                    found = part_like(_channels_first(x, shape) if turn else x, shape, run, runs)
                    return None if found is None else as_type(found, dtype)
        return None

    def laid_out(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[Array]:
        """Yield what a quantized tensor of the model may be that an operator makes in another layout.

        The program does not say which: its axes in every order that gives the shape, or its rows in one.
        """
        for stem in (name, f"{name}/signed"):
            for made in [n for n in self._ids if n.startswith(f"{stem}/")]:
                x = self._found(made)
                if x is None or x.dtype.kind not in "iu" or x.size != np.prod(shape, dtype=np.int64):
                    continue
                orders = permutations(range(x.ndim)) if x.ndim <= _ORDERED else ()
                turned = [x.transpose(order) for order in orders if x.ndim == len(shape)]
                for y in (*(t for t in turned if t.shape == shape), x.reshape(shape)):
                    codes = as_type(y, dtype)
                    if codes is not None:
                        yield codes

    def value(self, i: int) -> Array:
        """Return a tensor by its id in the program: an input, an output, or one that an operator makes."""
        return _value(self._program, self._values, i)

    def _found(self, name: str) -> Array | None:
        i = self._ids.get(name)
        return None if i is None else _value(self._program, self._values, i)


def _channels_first(x: Array, shape: tuple[int, ...]) -> Array:
    """Return NHWC codes in the order of the model; a volume [N, C, D, H, W] is N·D images."""
    if len(shape) == 5:
        return np.moveaxis(x.reshape(-1, *shape[2:], shape[1]), -1, 1)
    return np.moveaxis(x, -1, 1)


def _is_image(x: Array, shape: tuple[int, ...]) -> bool:
    """Whether codes can only be an image of this shape with its channels last."""
    return x.ndim == len(shape) == 4 and shape[1] != shape[3] and x.transpose(_FIRST).shape == shape


def as_type(x: Array, dtype: np.dtype[Any]) -> Array | None:
    """Return codes in the model's own type, None where they are of another width."""
    if x.dtype == dtype:
        return x
    half = _HALF.get(dtype.name)
    if half is None or x.dtype.itemsize != dtype.itemsize:
        return None
    return (x.astype(np.int64) + half).astype(dtype)


def _value(program: Program, values: dict[int, Array], i: int) -> Array:
    if i in values:
        return values[i]
    t = program.tensors[i]
    if t.space is Space.VIEW:
        return _value(program, values, t.address).view(t.dtype.numpy).reshape(t.shape)
    return np.asarray(program.constant(i))


def made_of_lines(program: Program) -> frozenset[str]:
    """Return the names, as the model has them, of the tensors that have a bound of their own.

    Those that a table of line segments makes, or an operator behind a rounding that the model does not have.
    """
    bounded: set[int] = set()
    rounded = {i for i, t in enumerate(program.tensors) if _ROUNDED in t.name}
    for op in (op for s in program.segments if isinstance(s, BpuSegment) for op in s.operators):
        read = {j for i in op.inputs for j in (i, program.root(i))}
        if isinstance(op, SegmentLut) or read & rounded or (isinstance(op, Move | Concat) and read & bounded):
            bounded.update((op.outputs[0], program.root(op.outputs[0])))
            if isinstance(op, Move | Concat) and read & rounded:
                rounded.add(op.outputs[0])
    names = {t.name for i, t in enumerate(program.tensors) if {i, program.root(i)} & bounded}
    stems = {name.partition("/signed")[0].partition("/nhwc")[0] for name in names}
    return frozenset(names | stems | {_LAID_OUT.sub("", name) for name in names})


def nodes_on_cpu(program: Program) -> frozenset[str]:
    """Return the names of the model's nodes that a CPU segment runs, and their operators behind `ANY`."""
    cpu = {k for k, s in enumerate(program.segments) if isinstance(s, CpuSegment)}
    rows = [p for p in program.placement if p.on == "CPU" and p.segment in cpu]
    return frozenset(p.node for p in rows) | {f"{ANY}{p.op}" for p in rows}
