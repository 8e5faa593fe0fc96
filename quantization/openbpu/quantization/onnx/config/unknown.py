"""Names in a `quant_config` that its model lacks: all of them in one message, not one per attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import onnx

from openbpu.arch.errors import InputError, must
from openbpu.quantization.onnx.classes import TABLE
from openbpu.quantization.onnx.config.names import Directory, is_pattern
from openbpu.quantization.onnx.config.schema import QuantConfig, nearest
from openbpu.quantization.onnx.net import Net

_COMPARED = 3
"""Names of a place for which like ones are looked for: that takes as long as the model has names."""

Words = tuple[str, str, str]
"""What a name is called, and what one must be and several must be."""

_NODE: Words = ("name", "a node of the model", "nodes of the model")
_PATTERN: Words = ("name", "one that matches nodes", "ones that match nodes")
_END: Words = ("name", "a node or a tensor of the model", "nodes or tensors of the model")
_OPERATOR: Words = ("key", "an operator of ONNX", "operators of ONNX")


@dataclass(frozen=True, slots=True)
class _Place:
    """Names in one place of a config that mean nothing. known: what they could have meant."""

    where: str
    words: Words
    names: Sequence[str]
    known: Callable[[], Iterable[str]]

    def told(self) -> str:
        """Return what is wrong, as one message."""
        name, one, several = self.words
        kind = "operators" if self.words is _OPERATOR else "names"
        known = list(self.known())
        if len(self.names) == 1:
            (wrong,) = self.names
            return must(self.where, f"the {name}", one, f"'{wrong}'", nearest(wrong, known, kind))
        like = (nearest(wrong, known, f"{kind} like '{wrong}'", "") for wrong in self.names[:_COMPARED])
        listed = ", ".join(f"'{wrong}'" for wrong in self.names)
        return must(self.where, f"the {name}s", several, listed, "; ".join(filter(None, like)))


def refuse_unknown(config: QuantConfig, model: Net, names: Directory) -> None:
    """Raise InputError with every name in `config` that is none of `model`, nor an operator of ONNX."""
    places = [place for place in _places(config, model, names) if place.names]
    if places:
        raise InputError("; also ".join(place.told() for place in places))


def _places(config: QuantConfig, model: Net, names: Directory) -> Iterator[_Place]:
    present = {node.op_type for node in model.nodes}
    wrong = [op for op in config.ops if op not in present | TABLE.keys() and not onnx.defs.has(op)]
    yield _Place("op_config", _OPERATOR, wrong, lambda: sorted(present | TABLE.keys()))
    for section, part in config.subgraphs.items():
        for given, tensors in ((part.inputs, model.consumers()), (part.outputs, model.producers())):
            wrong = [name for name in given if name not in names.nodes and name not in tensors]
            every = [*names.nodes, *model.inputs, *names.tensors]
            yield _Place(f"subgraph_config.{section}", _END, wrong, lambda known=every: known)  # type: ignore[misc]
    for layer, given_nodes in (("node_config", config.nodes), ("the command line", config.options)):
        lost = [name for name in given_nodes if not names.has(name)]
        for words, wanted in ((_NODE, False), (_PATTERN, True)):
            yield _Place(layer, words, [n for n in lost if is_pattern(n) is wanted], lambda: names.names)
