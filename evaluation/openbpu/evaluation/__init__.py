"""What is measured over data or over many models: is a binary right, where is precision lost, placement.

`analyze` says node by node where a quantized model loses precision, and why. `verify` judges a compiled
program by the float64 meaning of its ONNX model. `openbpu.evaluation.reference`
gives that meaning and knows numpy and onnx only: nothing of the compiler or the simulator, so that an error
of theirs cannot hide in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openbpu.evaluation.analysis import Analysis, analyze
    from openbpu.evaluation.judge import Explanation
    from openbpu.evaluation.tally import Comparison
    from openbpu.evaluation.verification import Verification, Verifier, verify

__all__ = ["Analysis", "Comparison", "Explanation", "Verification", "Verifier", "analyze", "verify"]

_HOME = {
    "Analysis": "analysis",
    "Comparison": "tally",
    "Explanation": "judge",
    "Verification": "verification",
    "Verifier": "verification",
    "analyze": "analysis",
    "verify": "verification",
}


def __getattr__(name: str) -> object:
    """Import on first use: the reference must not bring the runtime along."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - as above

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
