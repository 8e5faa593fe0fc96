"""The form that a unit has in the other model: quantized in the float one, float in the quantized one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from openbpu.arch.arrays import Array
from openbpu.evaluation.analysis.alone import Alone, Part, Parts
from openbpu.evaluation.analysis.analyzer import Analyzer
from openbpu.evaluation.analysis.cut import Graph, Kind
from openbpu.evaluation.analysis.units import Match, Unit
from openbpu.quantization.onnx.nodes import reads


class Runs:
    """The other model's form of some units. needs: tensors of the base that `run` takes."""

    def __init__(self, needs: list[str], run: Callable[[Mapping[str, Array]], list[Array]]) -> None:
        self.needs, self.run = needs, run


class Form(Protocol):
    """base: the model that is run, with one unit in the form of the other · kinds: of its tensors."""

    base: Graph
    kinds: Mapping[str, Kind]

    def changed(self, unit: Unit) -> tuple[str, ...]:
        """Return the tensors of the base that get the other form's result."""

    def instead(self, unit: Unit) -> dict[str, str]:
        """Return the tensors behind it that must not be rounded again → those in front of their pairs."""

    def needs(self, unit: Unit) -> list[str]:
        """Return the tensors of the base that the other form is computed from."""

    def forms(self, chunk: Sequence[Unit]) -> Runs:
        """Return what computes the other form of some units."""


class Only:
    """The float model, one unit quantized."""

    def __init__(
        self, analyzer: Analyzer, match: Match, kinds: Mapping[str, Kind], theirs: Mapping[str, Kind]
    ) -> None:
        del theirs
        self.base, self.kinds = analyzer.float, kinds
        self._other, self._aliases = analyzer.quantized, match.aliases

    def changed(self, unit: Unit) -> tuple[str, ...]:
        """As in Form."""
        return (unit.tensor,)

    def instead(self, unit: Unit) -> dict[str, str]:
        """Nothing behind it rounds."""
        del unit
        return {}

    def needs(self, unit: Unit) -> list[str]:
        """As in Form."""
        return [self._aliases[leaf] for leaf in unit.leaves]

    def forms(self, chunk: Sequence[Unit]) -> Runs:
        """As in Form."""
        alone = Alone(self._other, chunk, self._aliases, self.kinds)
        return Runs(alone.needs, lambda values: [value for _, _, value in alone.run(values)])


class AllBut:
    """The quantized model, one unit in float."""

    def __init__(
        self, analyzer: Analyzer, match: Match, kinds: Mapping[str, Kind], theirs: Mapping[str, Kind]
    ) -> None:
        self.base, self.kinds = analyzer.quantized, theirs
        self._float, self._float_kinds, self._units = analyzer.float, kinds, match.units
        values = {unit.tensor: unit.value for unit in match.units}
        self._values = {name: name for name in analyzer.float.fed} | values

    def changed(self, unit: Unit) -> tuple[str, ...]:
        """As in Form."""
        return tuple(dict.fromkeys((unit.raw, unit.value)))

    def instead(self, unit: Unit) -> dict[str, str]:
        """Nodes that move its codes have its rounding: without it they have none."""
        found, group = dict[str, str](), {unit.raw, unit.value}
        for other in self._units:
            if other.moved and group & set(self.base.nodes[other.index].input):
                group |= {other.raw, other.value}
                found[other.value] = other.raw
        return found

    def needs(self, unit: Unit) -> list[str]:
        """As in Form."""
        return [self._values[leaf] for leaf in self._part(unit).leaves]

    def forms(self, chunk: Sequence[Unit]) -> Runs:
        """As in Form."""
        parts = [self._part(unit) for unit in chunk]
        elems = {leaf: self._float_kinds[leaf].elem for part in parts for leaf in part.leaves}
        ready = Parts(self._float, parts, elems)
        needs = {leaf: self._values[leaf] for leaf in ready.leaves}

        def run(values: Mapping[str, Array]) -> list[Array]:
            made = ready.run({leaf: values[name] for leaf, name in needs.items()})
            return [
                found[unit.tensor] if found else values[unit.tensor]  # an input is what is fed
                for unit, found in zip(chunk, made, strict=True)
            ]

        return Runs(list(dict.fromkeys(needs.values())), run)

    def _part(self, unit: Unit) -> Part:
        """Return the float model's nodes between other units and this one."""
        given = set(self._values) - {unit.tensor}
        nodes = tuple(self._float.needed([unit.tensor], given))
        made = {name for k in nodes for name in self._float.nodes[k].output}
        read = dict.fromkeys(name for k in nodes for name in reads(self._float.nodes[k]))
        leaves = tuple(name for name in read if name in given and name not in made)
        return Part(nodes, leaves, (unit.tensor,))


class Pairs:
    """The float model, the result of one unit rounded by the pair behind it, and nothing else of it."""

    def __init__(
        self, analyzer: Analyzer, match: Match, kinds: Mapping[str, Kind], theirs: Mapping[str, Kind]
    ) -> None:
        del match, theirs
        self.base, self.kinds, self._other = analyzer.float, kinds, analyzer.quantized

    def changed(self, unit: Unit) -> tuple[str, ...]:
        """As in Form."""
        return (unit.tensor,)

    def instead(self, unit: Unit) -> dict[str, str]:
        """Nothing behind it rounds."""
        del unit
        return {}

    def needs(self, unit: Unit) -> list[str]:
        """As in Form."""
        return [unit.tensor]

    def forms(self, chunk: Sequence[Unit]) -> Runs:
        """As in Form; raises KeyError for a unit without a pair."""
        parts = [Part(self._pair(unit), (unit.raw,), (unit.value,)) for unit in chunk]
        tensors = {unit.raw: unit.tensor for unit in chunk}
        ready = Parts(self._other, parts, {raw: self.kinds[name].elem for raw, name in tensors.items()})

        def run(values: Mapping[str, Array]) -> list[Array]:
            made = ready.run({raw: values[name] for raw, name in tensors.items()})
            return [found[unit.value] for unit, found in zip(chunk, made, strict=True)]

        return Runs(list(tensors.values()), run)

    def _pair(self, unit: Unit) -> tuple[int, ...]:
        made = self._other.made
        return () if unit.rounding is None else (made[unit.rounding.codes], made[unit.rounding.result])


FORMS: Mapping[str, Callable[..., Form]] = {"only": Only, "all-but": AllBut, "pair": Pairs}
"""By what is measured."""
