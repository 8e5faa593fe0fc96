"""In which order nodes become int16: the most noise per µs first.

A tensor's noise is gone when all its readers are int16, and a node that reads two tensors is paid for once:
gain and cost of a group are what it adds to those taken before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from openbpu.evaluation.search.readers import Readers, shared
from openbpu.evaluation.search.result import Gain


class Book:
    """What is known beforehand of every tensor and node.

    noise: by tensor, alone · costs: µs by node, of int16 against int8; never less than `least`, so that what
    costs nothing is ordered by its gain.
    """

    def __init__(
        self, found: Sequence[Readers], noise: Mapping[str, float], costs: Mapping[str, float], least: float
    ) -> None:
        self._noise, self._costs, self._least = noise, costs, least
        self._groups = shared(found)
        self._of_node: dict[str, list[Readers]] = {}
        for readers in found:
            for name in readers.nodes:
                self._of_node.setdefault(name, []).append(readers)

    def cost(self, nodes: Sequence[str]) -> float:
        """Return the µs that int16 for these nodes costs."""
        return sum(max(self._costs.get(name, 0.0), self._least) for name in nodes)

    def ordered(self) -> list[Gain]:
        """Return the groups in the order they should be taken, each with what it adds and its new nodes."""
        taken, left, order = set[str](), list(self._groups), list[Gain]()
        while left:
            gains = [self._gain(nodes, taken) for nodes, _ in left]
            best = max(range(len(left)), key=lambda k: (gains[k].noise / gains[k].microseconds, -k))
            taken.update(gains[best].nodes)
            if gains[best].nodes:
                order.append(gains[best])
            left = [group for k, group in enumerate(left) if k != best and not taken.issuperset(group[0])]
        return order

    def _gain(self, nodes: Sequence[str], taken: set[str]) -> Gain:
        new = tuple(name for name in nodes if name not in taken)
        after = taken.union(new)
        near = {r.tensor: r for name in new for r in self._of_node[name]}.values()
        freed = {r.tensor: self._noise.get(r.tensor, 0.0) for r in near if after.issuperset(r.nodes)}
        noise, tensor = sum(freed.values()), max(freed, key=lambda name: freed[name], default="")
        return Gain(tensor, new, noise, max(self.cost(new), self._least))
