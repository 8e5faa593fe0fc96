"""From the operators of a segment to encoded tile instructions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from openbpu.arch.errors import CompileError, must
from openbpu.arch.isa import Code
from openbpu.arch.march import March
from openbpu.arch.program import Operator, Space, Tensor
from openbpu.compiler.schedule.ddr import Life, pack
from openbpu.compiler.schedule.emit import Emitter, Placed
from openbpu.compiler.schedule.job import Job
from openbpu.compiler.schedule.jobs import Context, jobs_of
from openbpu.compiler.schedule.tiling import Plan, Rules, search, smallest


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A segment ready for the `.hbm`: `tensors` is the program's table with the spaces and addresses chosen
    here.

    `code`: encoded instructions per core; `chip_bytes`: on-chip memory used; `ddr_bytes`: end of the DDR
    space used.
    """

    operators: tuple[Operator, ...]
    tensors: tuple[Tensor, ...]
    code: tuple[Code, ...]
    chip_bytes: int
    ddr_bytes: int


def schedule(  # noqa: PLR0913 - the segment, the chip and three addresses
    operators: Sequence[Operator],
    tensors: Sequence[Tensor],
    inputs: Sequence[int],
    outputs: Sequence[int],
    march: March,
    *,
    opt: int,
    ddr_base: int,
    ddr_start: int,
    constants: npt.NDArray[np.uint8] | None = None,
) -> Scheduled:
    """Tile, place and order one segment.

    `tensors` is the table of the whole program: CONST and VIEW tensors are placed, a dynamic one with
    address −1 is placed here: on chip or at DDR addresses ≥ `ddr_start` (flat address: ddr_base + address).
    `inputs` and `outputs` are DDR tensors that the caller placed. `constants` is the image of the CONST
    space; with it Gather and Resize load only the rows their tables name. Raises CompileError where even
    the smallest tile does not fit on chip.
    """
    context = Context(tensors, constants)
    jobs = [job for i, op in enumerate(operators) for job in jobs_of(i, op, context)]
    roots = _roots(tensors)
    kept = (*inputs, *outputs)
    ddr, ddr_bytes = _place_ddr(jobs, tensors, roots, kept, march.alignment, ddr_start, reuse=opt > 0)
    rules = Rules(double=opt > 0, reuse=opt > 0, alignment=march.alignment)
    flat = {root: _flat(tensors[root], ddr.get(root, tensors[root].address), ddr_base) for root in set(roots)}
    emitter = Emitter({}, flat, roots, ddr_base, reuse=opt > 0)
    chip_bytes = 0
    for job in jobs:
        placed = _place(job, _plan(job, rules, march.chip_bytes))
        chip_bytes = max(chip_bytes, placed.plan.nbytes)
        emitter.job(placed)
    final = tuple(replace(t, address=ddr[i]) if i in ddr else t for i, t in enumerate(tensors))
    return Scheduled(tuple(operators), final, (emitter.code(),), chip_bytes, ddr_bytes)


def _flat(tensor: Tensor, address: int, ddr_base: int) -> int:
    return address if tensor.space is Space.CONST else ddr_base + address


def _roots(tensors: Sequence[Tensor]) -> list[int]:
    """The owner of every tensor's bytes."""
    out = []
    for i, t in enumerate(tensors):
        at, tensor = i, t
        while tensor.space is Space.VIEW:
            at = tensor.address
            tensor = tensors[at]
        out.append(at)
    return out


def _place_ddr(
    jobs: Sequence[Job],
    tensors: Sequence[Tensor],
    roots: Sequence[int],
    kept: Sequence[int],
    alignment: int,
    start: int,
    *,
    reuse: bool,
) -> tuple[dict[int, int], int]:
    """DDR addresses of the tensors that jobs use and nobody placed yet; those that outlive the segment
    share nothing.
    """
    spans: dict[int, tuple[int, int]] = {}
    for moment, job in enumerate(jobs):
        for operand in job.operands:
            root = roots[operand.tensor]
            if tensors[root].space is Space.DDR and tensors[root].address < 0:
                spans[root] = (spans.get(root, (moment, 0))[0], moment)
    forever = {roots[t] for t in kept}
    lives = []
    for root, (first, last) in spans.items():
        whole = not reuse or root in forever
        lives.append(Life(root, tensors[root].nbytes, 0 if whole else first, len(jobs) if whole else last))
    return pack(lives, alignment, -(-start // alignment) * alignment)


def _plan(job: Job, rules: Rules, budget: int) -> Plan:
    """The cheapest way to cut a job within `budget` bytes; raises CompileError if there is none."""
    none: frozenset[int] = frozenset()
    single = replace(rules, double=False)
    for attempt, fine in ((rules, False), (single, False), (rules, True), (single, True)):
        plan = search(job, none, attempt, lambda p: p.nbytes <= budget, fine=fine)
        if plan:
            return plan
    where, what = f"operator {job.index} ({job.name})", "the on-chip memory in bytes"
    needed = smallest(job, none, rules).nbytes
    fix = "run the operator on the CPU or choose a march with more on-chip memory"
    raise CompileError(must(where, what, f">= {needed} for the smallest tile", budget, fix))


def _place(job: Job, plan: Plan) -> Placed:
    """Buffers one behind the other from address 0."""
    at, buffers = 0, []
    for size, depth in zip(plan.sizes, plan.depths, strict=True):
        buffers.append(tuple(at + i * size for i in range(depth)))
        at += size * depth
    return Placed(job, plan, tuple(buffers))
