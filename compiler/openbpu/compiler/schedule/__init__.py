"""Schedule: BPU operators to tile instructions with addresses and tokens.

    operators ─ inside ─► places    tensors that lie inside others, so that concats and slices copy nothing
              ─ jobs ───► jobs      iteration boxes; how each axis of each operand follows the box (axes)
              ─ homes ──► homes     tensors that live on chip, from when to when, at which address
              ─ tiling ─► plans     tile shape, loop order, buffers: the cheapest by the timing rules (cost)
              ─ fusing ─► groups    jobs that run depth-first, stripe by stripe (groups, group_plan)
              ─ emit ───► code      loads, compute, stores; buffers go round the free memory (memory);
                                    tokens from the bytes that instructions touch (hazards)

`planning` weighs homes against tiles, `driver` holds the one public function. A new operator is a job in
`jobs/`.
"""

from openbpu.compiler.schedule.driver import Scheduled, schedule
from openbpu.compiler.schedule.problem.options import FASTEST, LEVELS, Effort

__all__ = ["FASTEST", "LEVELS", "Effort", "Scheduled", "schedule"]
