"""What an analysis says: a row per node, what the weights look like, and where it goes wrong first."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

from openbpu.evaluation.analysis.counts import Counts
from openbpu.quantization.measures import Closeness

Cause = Literal["truncation", "rounding", ""]
Part = Literal["result", "weights", "inside", ""]
Change = Literal[
    "int16", "widen", "narrow", "per_channel", "weights", "correct", "equalize", "mask", "float"
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Remedy:
    """What to change. text: in words of the command line · sqnr: of the node alone then, None: unknown."""

    change: Change
    text: str
    sqnr: float | None = None


@dataclass(frozen=True, slots=True)
class NodeError:
    """A node of the quantized model (or an input of it) against the float model.

    index: of the node in the quantized model, −1 for an input · tensor: the result, as the float model calls
    it · through: nodes in front whose results the float model does not have, judged with it.

    so_far: the QDQ run against the float run · alone: this node alone in its quantized form (its weights,
    the pair behind it, and pairs that only it reads), on the float run's tensors; a node that only moves
    codes of one grid adds nothing · simulated: the binary against the float run, None where it does not show
    the tensor · deviating: share of the binary's codes that are not those of the QDQ run; of a float output,
    of values that differ by more than arithmetic in float32 explains.

    dtype, step, range: of the pair behind it ("" and None without one): type of the codes, scale, least and
    largest value · least, largest: values of the float run · clipped: share of these outside the range ·
    used: share of the codes that they use · vanished: share of those that are not 0 and become 0 ·
    unevenness: the largest channel's range over the median channel's.

    cause: *truncation* where values beyond the range make more of the error, *rounding* where steps do; part:
    whether that is the pair behind the node (result), its weights, or pairs in front that only it reads.
    """

    index: int
    node: str
    op: str
    tensor: str
    through: tuple[str, ...]
    module: str
    source: str
    so_far: Closeness
    alone: Closeness
    simulated: Closeness | None
    deviating: float | None
    dtype: str
    step: float | None
    range: tuple[float, float] | None
    least: float
    largest: float
    clipped: float | None
    used: float | None
    vanished: float | None
    unevenness: float | None
    cause: Cause
    part: Part
    remedies: tuple[Remedy, ...]
    values: Counts | None = field(default=None, repr=False)
    rounded: Counts | None = field(default=None, repr=False)

    @property
    def where(self) -> str:
        """Module and line of the source, as far as the exporter wrote them."""
        return " ".join(filter(None, (self.module, self.source)))


@dataclass(frozen=True, slots=True)
class WeightRange:
    """Constant weights by channel. shared: whether all channels have one scale.

    stacked: whether they are a matrix for each of several (a MatMul of more than two axes), which share one.

    narrow: channels whose largest weight is less than `NARROW` steps · narrowest: the one with the fewest,
    and how many steps it has · unevenness: the largest channel's range over the narrowest one's.
    """

    node: str
    tensor: str
    module: str
    source: str
    channels: int
    shared: bool
    narrow: int
    narrowest: int
    steps: float
    unevenness: float
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class First:
    """Where it goes wrong: the first row, in the order of the network, whose cosine so far is too low.

    most: among that row and those it was computed from, the one that adds the most noise alone.
    """

    row: NodeError
    most: NodeError


@dataclass(frozen=True, slots=True)
class Analysis:
    """Rows in the order of the quantized model.

    float_model, quantized, hbm: how they are called · samples: how many were run, of `given` · first: None
    where no cosine so far is below `min_cosine` · unmatched: nodes of the quantized model behind the last
    tensor that both models have · notes: what to know besides.
    """

    float_model: str
    quantized: str
    hbm: str
    samples: int
    given: int
    min_cosine: float
    rows: tuple[NodeError, ...]
    outputs: tuple[NodeError, ...]
    weights: tuple[WeightRange, ...]
    first: First | None
    unmatched: tuple[str, ...]
    notes: tuple[str, ...]

    def row(self, name: str) -> NodeError:
        """Return the row of a node, or of a tensor of the float model; raises KeyError."""
        found = next((r for r in self.rows if name in {r.node, r.tensor}), None)
        if found is None:
            raise KeyError(name)
        return found

    def worst(self, key: SortKey = "alone") -> tuple[NodeError, ...]:
        """Return the rows, the worst by `key` first; equal ones in the order of the network."""
        return tuple(sorted(self.rows, key=KEYS[key]))


SortKey = Literal["alone", "cosine", "sqnr", "l1", "max", "clipped", "used", "order"]


def _low(value: float) -> float:
    return value if isfinite(value) else (1e9 if value > 0 else -1e9)


KEYS = {
    "alone": lambda r: _low(r.alone.sqnr),
    "cosine": lambda r: r.so_far.cosine,
    "sqnr": lambda r: _low(r.so_far.sqnr),
    "l1": lambda r: -r.so_far.l1,
    "max": lambda r: -r.so_far.max_abs,
    "clipped": lambda r: -(r.clipped or 0.0),
    "used": lambda r: 1.0 if r.used is None else r.used,
    "order": lambda _: 0.0,
}
"""By what rows are sorted, least first."""
