"""What passes: bits equal away from ties, approximated operators within their bounds, cascades explained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.numerics import SEGMENT_SHARE
from openbpu.evaluation.inside import ANY
from openbpu.evaluation.reference import Layerwise, Step, TensorReport
from openbpu.evaluation.tally import Comparison

APPROXIMATED = frozenset(
    {"Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization", "Div", "Resize", "ReduceL2"}
    | {"InstanceNormalization", "GroupNormalization", "Upsample", "QLinearSoftmax", "GridSample"}
)
"""Operators that the BPU approximates, by at most APPROXIMATE_STEPS (docs/numerics.md)."""
APPROXIMATE_STEPS = 1.0
EXACT_STEPS = 0.5
CPU_STEPS = {1: 0.05, 2: 0.5}
"""By bytes of a code: what float32 arithmetic of a CPU segment adds, in steps."""
EXACT_SHARE, FLOAT32 = 1e-2, 2.0**-21
"""What a float output may be off by that is codes times a scale in float32: of a step, and of its values."""
FUNCTIONS_OF_INT16 = frozenset(
    """
    Sigmoid Tanh Erf Gelu Swish HardSwish HardSigmoid Mish Softplus Elu Selu Celu Softsign LeakyRelu PRelu Exp
    Log Sqrt Reciprocal Pow Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Floor Ceil Round Abs Sign
    ThresholdedRelu Shrink QuickGelu FastGelu BiasGelu QLinearSigmoid QLinearLeakyRelu
    """.split()  # noqa: SIM905 - a word per line hides the list
)
"""Tables of line segments where their input has 16 bits; the compiler refuses them beyond SEGMENT_SHARE."""

MIN_COSINE = 0.99
"""An output below it, and beyond one step somewhere, is not that of the same model, unless explained."""


def bound(
    cone: Iterable[Step],
    bytes_of_code: int,
    on_cpu: frozenset[str],
    *,
    from16: bool = True,
    lines: bool = False,
) -> float:
    """Return how far, in steps, a code may lie from the real number that these operators make.

    `from16`: they read a tensor of 16 bits, so that functions are lines · `lines`: the program has lines for
    them, whatever they are (x · x · x is one function), or a rounding of its own in front. Both together are
    within a step of int8: the compiler leaves what is not to the CPU (docs/numerics.md).
    """
    steps = list(cone)
    ops = {s.op for s in steps if not s.node or s.node not in on_cpu}
    most = APPROXIMATE_STEPS if ops & APPROXIMATED else EXACT_STEPS
    if lines or (from16 and ops & FUNCTIONS_OF_INT16):
        most = max(most, 1.0, 2.0 ** (8 * bytes_of_code) / SEGMENT_SHARE)
    slack = CPU_STEPS[min(bytes_of_code, 2)] if any(_on_cpu(s, on_cpu) for s in steps) else 0.0
    return most + slack


def _on_cpu(step: Step, on_cpu: frozenset[str]) -> bool:
    """Whether a CPU segment runs a node, or may: one without a name is known by its operator alone."""
    return (step.node or f"{ANY}{step.op}") in on_cpu


@dataclass(slots=True)
class Explanation:
    """Why outputs differ, from the tensors that the program shows, each judged on those before it.

    tensors: how many were compared · ties: codes that differ where float64 lies within 1e-5 of a step of a
    tie · near: codes within the bound of an approximated operator · first_tie, first_wrong: the first
    tensor with one, in words, "" for none · wrong: codes beyond both · unjudged: outputs of integers, no
    codes, that a CPU segment decides from floats: an index may change with the last bit of one.
    """

    tensors: int = 0
    ties: int = 0
    near: int = 0
    wrong: int = 0
    first_tie: str = ""
    first_near: str = ""
    first_wrong: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    unjudged: set[str] = field(default_factory=set)

    @property
    def holds(self) -> bool:
        """Whether ties and stated bounds explain everything that was seen."""
        return self.tensors > 0 and not self.first_wrong and not self.outputs

    def add(self, report: TensorReport, on_cpu: frozenset[str], lines: frozenset[str] = frozenset()) -> None:
        """Take a tensor into account; `lines` are the tensors that tables of line segments make."""
        self.tensors += 1
        self.ties += report.mismatches - report.mismatches_off_tie
        if report.mismatches > report.mismatches_off_tie:
            self.first_tie = self.first_tie or place(report)
        if report.exact:
            return
        size = np.dtype(report.dtype).itemsize
        lined = report.name in lines
        most = bound(report.cone, size, on_cpu, from16=report.from16, lines=lined)
        if report.max_error <= most:
            self.near += report.mismatches_off_tie
            self.first_near = self.first_near or place(report)
            return
        self.wrong += report.mismatches_off_tie
        said = f"{place(report)}: {report.mismatches_off_tie} of {report.elements} codes lie up to "
        self.first_wrong = (
            self.first_wrong or f"{said}{report.max_error:.4g} steps from float64, not {most:g}"
        )

    def add_output(
        self, name: str, made: Array, found: Layerwise, step: float | None, cpu: frozenset[str]
    ) -> None:
        """Take an output into account, on what was seen before it."""
        if made.dtype.kind in "iub" and any(_on_cpu(s, cpu) for s in found.cones.get(name, ())):
            self.unjudged.add(name)
            return
        meant = found.outputs[name]
        gap = _gap(made, meant, found.others.get(name))
        unit = step or _own_step(meant)
        cone, steps = found.cones.get(name, ()), EXACT_SHARE
        if cone:  # a rounding that is not shown may be on the way
            steps = bound(cone, 1, cpu) + (EXACT_STEPS if step else 0.0)
        if gap > steps * unit + FLOAT32 * _largest(meant):  # steps of 32 bits are finer than float32
            said = f"it lies {gap / unit:.4g} steps from what float64 makes of the tensors before it"
            self.outputs[name] = f"{said}{_after(cone)}"
            self.wrong += 1


def _gap(made: Array, expected: Array, other: Array | None) -> float:
    """Return the largest difference from the nearer of what may be expected; infinite for other shapes."""
    if made.shape != expected.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):
        gaps = [
            np.where((made == y) | (np.isnan(made) & np.isnan(y)), 0.0, np.abs(made.astype(np.float64) - y))
            for y in (expected, expected if other is None else other)
        ]
    return float(np.nan_to_num(np.minimum(*gaps), nan=np.inf).max(initial=0.0))


def _own_step(value: Array) -> float:
    return _largest(value) / 127.5 or 1.0


def _largest(value: Array) -> float:
    return float(np.abs(value[np.isfinite(value)].astype(np.float64)).max(initial=0))


def place(report: TensorReport) -> str:
    """Return a tensor and the node that made it, in words."""
    return f"tensor '{report.name}'{_after(report.cone)}"


def _after(cone: tuple[Step, ...]) -> str:
    if not cone:
        return ""
    last = cone[-1]
    return f" behind {last.op} '{last.node}'" if last.node else f" behind {last.op}"


def failure(
    c: Comparison,
    min_cosine: float | None = None,
    max_steps: float | None = None,
    *,
    explained: Explanation | None = None,
) -> str:
    """Return in words why an output does not pass, "" when it does.

    What an explanation covers passes, and what it calls wrong does not. Without one the bound is MIN_COSINE,
    and an output within one step everywhere passes whatever its cosine is: next to zeros a single step can
    turn it. `min_cosine` takes the place of all that; `max_steps` is asked for besides. An infinite
    difference never passes.
    """
    where = f"output '{c.name}'"
    if np.isinf(c.max_abs):
        return f"{where}: one side is NaN or infinite, or has another shape, where the other is not"
    wrong = (explained.first_wrong or explained.outputs.get(c.name)) if explained is not None else ""
    if wrong and c.differing and min_cosine is None:
        return f"{where}: {wrong}"
    close = c.max_steps is not None and c.max_steps <= 1
    passes = min_cosine is None and (close or (explained is not None and explained.holds))
    bound_ = MIN_COSINE if min_cosine is None else min_cosine
    if c.cosine < bound_ and not passes:
        return f"{where}: cosine {c.cosine:.6f} is below {bound_:g}"
    if max_steps is not None and c.max_steps is not None and c.max_steps > max_steps:
        return f"{where}: it differs by {c.max_steps:.3g} steps, more than {max_steps:g}"
    return ""
