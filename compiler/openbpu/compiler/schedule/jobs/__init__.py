"""From operators to jobs, a file per family, as in `openbpu.arch.operators`."""

from __future__ import annotations

from openbpu.arch.definition.loading import load_all
from openbpu.arch.program import Operator
from openbpu.compiler.schedule.jobs.context import JOBS, Context, NotAliasableError
from openbpu.compiler.schedule.problem.job import Job

load_all(__name__, __path__)


def jobs_of(index: int, op: Operator, context: Context) -> list[Job]:
    """The jobs of one operator; none when its output is empty."""
    return [job for job in JOBS[type(op)](index, op, context) if all(job.extent)]


__all__ = ["JOBS", "Context", "NotAliasableError", "jobs_of"]
