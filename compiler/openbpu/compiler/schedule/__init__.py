"""Schedule: BPU operators to tile instructions with addresses and tokens.

    driver     the one public function: operators of a segment → code and addresses
    search     residency, tilings, fusion groups and cores together; of several schedules the best is kept
    codegen    tile buffers, loads, compute, stores; tokens from the bytes that instructions touch
    tiling     tile shape, loop order, buffers, fusion groups: the cheapest by the timing rules
    cores      partitions of a job over cores, and the traffic between them
    memory     live ranges, residency, aliasing, allocators; addresses on chip, in DDR and in the L2M
    jobs       operators → jobs, one family per file
    problem    jobs (loop nests), index maps, subviews, byte ranges, options

A room imports only rooms below it (a contract in `pyproject.toml`). A new operator is a job in `jobs/`.
`docs/architecture.md` has the picture and a glossary.
"""

from openbpu.compiler.schedule.driver import Scheduled, schedule
from openbpu.compiler.schedule.problem.options import FASTEST, LEVELS, ScheduleOptions

__all__ = ["FASTEST", "LEVELS", "ScheduleOptions", "Scheduled", "schedule"]
