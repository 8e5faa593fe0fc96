"""Schedule: BPU operators to tile instructions with addresses and tokens.

operators → jobs (iteration boxes) → plans (tile shape, loop order, buffers) → addresses → instructions and
tokens.
"""

from openbpu.compiler.schedule.driver import Scheduled, schedule

__all__ = ["Scheduled", "schedule"]
