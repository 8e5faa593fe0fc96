"""From operators to jobs, one family per file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from openbpu.arch.program import (
    Binary,
    Concat,
    Conv,
    Dequantize,
    Gather,
    LayerNorm,
    Lut,
    MatMul,
    Move,
    Operator,
    Pad,
    Pool,
    Quantize,
    Reduce,
    Rescale,
    Resize,
    SegmentLut,
    Softmax,
)
from openbpu.compiler.schedule.jobs.context import Context, NotAliasableError
from openbpu.compiler.schedule.jobs.conv import conv_jobs, matmul_jobs
from openbpu.compiler.schedule.jobs.elementwise import binary_jobs, dequantize_jobs, quantize_jobs, unary_jobs
from openbpu.compiler.schedule.jobs.moves import concat_jobs, gather_jobs, move_jobs, pad_jobs
from openbpu.compiler.schedule.jobs.rows import reduce_jobs, row_jobs
from openbpu.compiler.schedule.jobs.windows import pool_jobs, resize_jobs
from openbpu.compiler.schedule.problem.job import Job

JOBS: dict[type[Operator], Callable[[int, Any, Context], list[Job]]] = {
    Conv: conv_jobs,
    MatMul: matmul_jobs,
    Binary: binary_jobs,
    Lut: unary_jobs,
    SegmentLut: unary_jobs,
    Rescale: unary_jobs,
    Pool: pool_jobs,
    Reduce: reduce_jobs,
    Softmax: row_jobs,
    LayerNorm: row_jobs,
    Move: move_jobs,
    Concat: concat_jobs,
    Pad: pad_jobs,
    Gather: gather_jobs,
    Resize: resize_jobs,
    Quantize: quantize_jobs,
    Dequantize: dequantize_jobs,
}
"""How every kind of operator becomes jobs: (index in the segment, operator, context) → jobs in order."""


def jobs_of(index: int, op: Operator, context: Context) -> list[Job]:
    """The jobs of one operator; none when its output is empty."""
    return [job for job in JOBS[type(op)](index, op, context) if all(job.extent)]


__all__ = ["JOBS", "Context", "NotAliasableError", "jobs_of"]
