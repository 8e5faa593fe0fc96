"""A quantized ONNX model becomes a program: read, fold, integerise, place, partition, schedule, emit.

Imports `openbpu.arch`, onnx and numpy. It never imports the simulator: they meet in the bytes of the `.hbm`.
"""

from openbpu.arch.definition.rooms import require_total
from openbpu.compiler.api import check, compile  # noqa: A004 - the word of the field
from openbpu.compiler.ir.dialect import LOWERED
from openbpu.compiler.ops import ROWS
from openbpu.compiler.schedule.jobs import JOBS

require_total("openbpu.compiler", ROWS, LOWERED, JOBS)

__all__ = ["check", "compile"]
