"""Prefixes of the order of nodes: the configurations that the search tries."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from openbpu.evaluation.search.result import Gain
from openbpu.evaluation.search.setup import Kind, Recipe, Setup
from openbpu.evaluation.search.trial import Trial
from openbpu.evaluation.search.trials import Trials


class Prefixes:
    """Configurations of one recipe: the first groups of an order in int16, some nodes in float.

    places: the nodes in the order of the network, which that of a config is.
    """

    def __init__(
        self,
        trials: Trials,
        recipe: Recipe,
        gains: Sequence[Gain],
        places: Sequence[str],
        floats: Sequence[str] = (),
    ) -> None:
        self.trials, self.recipe, self.gains, self.floats = trials, recipe, tuple(gains), tuple(floats)
        self._places = {name: k for k, name in enumerate(places)}
        self._order = tuple(places)

    def with_floats(self, floats: Sequence[str]) -> Prefixes:
        """Return the same with these nodes in float."""
        return Prefixes(self.trials, self.recipe, self.gains, self._order, floats)

    def plain(self) -> Prefixes:
        """Return the same without the recipe."""
        return Prefixes(self.trials, Recipe(), self.gains, self._order, self.floats)

    def setup(self, gains: Sequence[Gain]) -> Setup:
        """Return the configuration that takes some groups."""
        types: dict[str, Kind] = dict.fromkeys((name for gain in gains for name in gain.nodes), "int16")
        types |= dict.fromkeys(self.floats, "float")
        last = len(self._places)
        return Setup(tuple(sorted(types.items(), key=lambda t: self._places.get(t[0], last))), self.recipe)

    def run(self, some: Sequence[Sequence[Gain]]) -> list[Trial]:
        """Try several selections of groups."""
        return self.trials.run([self.setup(gains) for gains in some])

    def good(self, lengths: Sequence[int]) -> list[int]:
        """Try prefixes of these lengths, and return those that are good enough with all longer ones.

        One that is good while a longer one is not is so by chance: few samples leave much of that.
        """
        found = self._those(lengths, self.trials.is_good)
        return [n for n in found if all(longer in found for longer in lengths if longer > n)]

    def fast(self, lengths: Sequence[int]) -> list[int]:
        """Try prefixes of these lengths, and return those that are fast enough."""
        return self._those(lengths, self.trials.is_fast)

    def _those(self, lengths: Sequence[int], enough: Callable[[Trial], bool]) -> list[int]:
        trials = self.run([self.gains[:n] for n in lengths])
        return [n for n, trial in zip(lengths, trials, strict=True) if enough(trial)]

    def at(self, share: float) -> int:
        """Return how many groups cost at most this share of what all cost, by the book; at least one."""
        total = sum(gain.microseconds for gain in self.gains)
        spent = 0.0
        for k, gain in enumerate(self.gains):
            spent += gain.microseconds
            if spent > share * total * (1 + 1e-9):
                return max(k, 1)
        return len(self.gains)
