"""What a change is, and the costs that several of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from openbpu.arch.program import Operator
from openbpu.arch.timing import Costs
from openbpu.runtime.roofline.site import Site, computing


@dataclass(frozen=True, slots=True)
class Change:
    """One row. key: its name in JSON · title: what it is, for a whole network · about: the sentence for one
    operator, "" where the change does not apply · costs: what every instruction of a segment would cost if
    the change applied to all operators.
    """

    key: str
    title: str
    about: Callable[[Site, int], str]
    costs: Callable[[Site], list[Costs]]


def dropped(site: Site) -> list[Costs]:
    """Every computing instruction costs nothing; transfers stay."""
    return [
        replace(c, cycles=np.where(computing(engine), 0, c.cycles))
        for c, engine in zip(site.costs, site.engine, strict=True)
    ]


def with_weights(site: Site, costs: list[Costs], share: Callable[[Operator], float]) -> list[Costs]:
    """Return costs whose loads of constants take the share of their operator."""
    by_operator = np.array([share(op) for op in site.segment.operators])
    shares = [
        np.where(constant, by_operator[operator], 1.0)
        for constant, operator in zip(site.constant, site.operator, strict=True)
    ]
    return site.with_transfers(costs, shares)
