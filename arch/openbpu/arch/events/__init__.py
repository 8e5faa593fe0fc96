"""When instructions start and end: an event engine over queues, tokens and shared memory, in integer cycles.

The timing simulator shows what it finds; the compiler chooses between finished schedules by it.
"""

from openbpu.arch.events.kernel import SHARES, run
from openbpu.arch.events.marks import PLANNED, TOTAL
from openbpu.arch.events.queues import Queues, Tables
from openbpu.arch.events.what_if import WhatIf

__all__ = ["PLANNED", "SHARES", "TOTAL", "Queues", "Tables", "WhatIf", "run"]
