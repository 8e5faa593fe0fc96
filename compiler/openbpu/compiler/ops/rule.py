"""The form of a row of the operator table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from openbpu.compiler.ops.mechanical import EMPTY
from openbpu.compiler.ops.ranks import merged_rank
from openbpu.compiler.ops.site import Refused, Site

Violation = str | None
_BYTES = {"int8": 1, "int16": 2}
_WIDEST = 4
"""Bytes of an element on the BPU, by type of the codes; all others are int32 and float32."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A rule a node must meet to run on the BPU.

    `text` is the line of the docs; `{key}` in it stands for a number of the march. `violation` returns None
    when the rule holds, else the actual value in words: text and value together are the refusal. `when` names
    a number of the march; where that is 0 the march has no such rule.
    """

    text: str
    violation: Callable[[Site], Violation]
    fix: str
    when: str = ""

    def check(self, site: Site) -> None:
        """Raise Refused when the rule does not hold."""
        if self.when and not site.limit(self.when):
            return
        actual = self.violation(site)
        if actual is not None:
            raise Refused(f"{self.text.format_map(site.march.limits)}, not {actual}", self.fix)


def _rank(site: Site) -> Violation:
    return in_range(merged_rank(site), 0, site.limit("rank_max"))


def _empty(site: Site) -> Violation:
    shapes = [v.shape for n in site.node.inputs if n and (v := site.rw.values[n]).const is None]
    made = [site.shape_of(name) for name in site.node.outputs if name]
    empty = [s for s in (*shapes, *made) if s is not None and 0 in s]
    return "×".join(map(str, empty[0])) if empty else None


def _bytes(site: Site) -> Violation:
    """The bytes of the largest tensor: those of its codes where it is quantized."""
    most = max(_size(site, name) for name in (*site.node.inputs, *site.node.outputs) if name)
    return in_range(most, 0, site.limit("tensor_bytes_max"))


def _size(site: Site, name: str) -> int:
    elements = math.prod(site.rw.values[name].shape or ())
    if elements * _WIDEST <= site.limit("tensor_bytes_max"):
        return elements  # whatever its type is
    leaf = site.leaf_or_none(name)
    codes = leaf.scaling if leaf is not None else site.out if name == site.node.outputs[0] else None
    return elements * _BYTES.get(site.rw.values[name].dtype if codes is None else codes.dtype, _WIDEST)


RANK = Limit(
    "the rank (axes that stay together are one, without axes of one) must be at most {rank_max}",
    _rank,
    "move in several steps of fewer axes",
)
FILLED = Limit("every tensor must have an element", _empty, EMPTY)
BYTES = Limit(
    "every tensor must take at most {tensor_bytes_max} bytes", _bytes, "run smaller batches, or split it"
)
EVERY = (RANK, FILLED, BYTES)
"""The limits of every operator, in front of those of its row."""


@dataclass(frozen=True, slots=True)
class OpRule:
    """One ONNX operator: which engine runs it, which dtypes it takes, its limits, and how it is lowered.

    `lower` emits BPU nodes through the site, or raises Refused. `fuses` marks operators that may take a fused
    BatchNormalization, residual Add, Relu and Clip; the others take Relu and Clip only when `clamps`. `raw`
    marks those that can give their int32 accumulator. `note` is for the docs.
    """

    op: str
    engine: str
    dtypes: str
    lower: Callable[[Site], None]
    limits: tuple[Limit, ...] = ()
    fuses: bool = False
    clamps: bool = True
    raw: bool = False
    note: str = ""

    def apply(self, site: Site) -> None:
        """Check the limits and lower the node; raises Refused with the first broken rule."""
        for limit in (*EVERY, *self.limits):
            limit.check(site)
        self.lower(site)


def in_range(value: int, low: int, high: int) -> Violation:
    """Violation of low <= value <= high."""
    return None if low <= value <= high else str(value)


def all_in_range(values: Iterable[int], low: int, high: int) -> Violation:
    """Violation of low <= v <= high for every v."""
    found = tuple(values)
    return None if all(low <= v <= high for v in found) else "×".join(map(str, found))
