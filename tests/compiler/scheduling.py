"""What tests of the scheduler share: programs scheduled, then executed instruction by instruction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from openbpu.arch.isa import Instr, decode
from openbpu.arch.march import March, get_march, with_values
from openbpu.arch.program import Program
from openbpu.compiler.schedule import ScheduleOptions, driver, schedule
from openbpu.compiler.schedule.search import candidates
from openbpu.simulator.exact import ExactSegment
from simulator.build import random_tensor, segment_of
from witness.builder import GraphBuilder
from witness.emit import EMITTERS

Array = npt.NDArray[np.generic]


def chip_of(chip_bytes: int, name: str = "nash-e") -> March:
    """A march with this much on-chip memory."""
    return with_values(get_march(name), {"chip.chip_bytes": chip_bytes})


def scheduled(
    program: Program, march: March, opt: int, *, with_constants: bool = True, **effort: int
) -> Program:
    """The program of one BPU segment, with its code."""
    segment = segment_of(program)
    done = schedule(
        segment.operators,
        program.tensors,
        segment.inputs,
        segment.outputs,
        march,
        options=ScheduleOptions(opt, **effort),
        ddr_base=-(-len(program.constants) // 64) * 64,
        ddr_start=program.ddr_bytes,
        constants=program.constants if with_constants else None,
    )
    coded = replace(segment, code=done.code, chip_bytes=done.chip_bytes, l2m_bytes=done.l2m_bytes)
    assert done.chip_bytes <= march.chip_bytes
    assert done.l2m_bytes <= effort.get("l2m_bytes", 0)
    return replace(program, tensors=done.tensors, segments=(coded,), ddr_bytes=done.ddr_bytes)


@contextmanager
def spread() -> Iterator[None]:
    """All cores that are asked for share the work, whether or not it pays."""

    def shared(effort: ScheduleOptions) -> list[candidates.Configuration]:
        return [
            configuration
            for configuration in candidates.configurations(effort)
            if configuration.cores == effort.cores
        ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "configurations", shared)
        yield


def executed(program: Program, inputs: Mapping[int, Array], seed: int | None = None) -> dict[int, Array]:
    """The outputs of the exact simulator; engines take turns by `seed` as far as tokens let them."""
    return ExactSegment(program, segment_of(program), order_seed=seed).run(inputs)


def inputs_of(program: Program, seed: int) -> dict[int, Array]:
    """Random inputs by tensor id."""
    rng = np.random.default_rng(seed)
    return {t: random_tensor(rng, program.tensors[t].shape, program.tensors[t].dtype) for t in program.inputs}


def instrs_of(program: Program) -> list[Instr]:
    """The instructions of the only core of the only segment."""
    return decode(segment_of(program).code[0])


def same(left: Mapping[int, Array], right: Mapping[int, Array]) -> bool:
    """Whether two sets of outputs are equal to the last bit."""
    return left.keys() == right.keys() and all(np.array_equal(left[t], right[t]) for t in left)


def crossing() -> tuple[onnx.ModelProto, dict[str, npt.NDArray[np.generic]]]:
    """A model of two BPU segments with a CPU one between them; what it feeds on."""
    b = GraphBuilder()
    x = b.quantized_input((1, 8, 6, 6))
    y = b.qdq(EMITTERS["Conv"](b, x, channels=8, pads=1)[0])
    z = b.qdq(EMITTERS["Conv"](b, y, channels=8, pads=1)[0])
    b.output(b.qdq(b.node("Add", z, b.qdq(b.node("Hardmax", y)))))
    return b.model(), b.inputs
