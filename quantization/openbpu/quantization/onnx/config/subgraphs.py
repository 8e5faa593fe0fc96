"""The nodes of a subgraph that is given by its ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from openbpu.arch.errors import InputError, must
from openbpu.quantization.onnx.config.names import Directory
from openbpu.quantization.onnx.net import Net
from openbpu.quantization.onnx.nodes import reads


def nodes_between(
    inputs: Sequence[str], outputs: Sequence[str], model: Net, names: Directory, where: str
) -> list[int]:
    """Return the nodes on all ways from `inputs` to `outputs`, in the order of the model.

    A name of a node is that node, with it; one of a tensor alone is what reads it, or makes it: every name is
    one of these. Raises InputError where no way leads from one to the other.
    """
    readers, makers = model.consumers(), model.producers()
    starts = [i for name in inputs for i in _at(name, names, readers)]
    ends = [i for name in outputs for i in _at(name, names, {n: [i] for n, i in makers.items()})]
    ahead = _reached(
        starts, [[i for name in node.output for i in readers.get(name, [])] for node in model.nodes]
    )
    back = _reached(ends, [[makers[name] for name in reads(node) if name in makers] for node in model.nodes])
    between = sorted(ahead & back)
    if not between:
        found = f"{', '.join(inputs)} and {', '.join(outputs)}"
        raise InputError(must(where, "inputs and outputs", "ends of a way through the model", found))
    return between


def _at(name: str, names: Directory, by_tensor: Mapping[str, Sequence[int]]) -> Iterable[int]:
    return names.nodes[name] if name in names.nodes else by_tensor[name]


def _reached(starts: Iterable[int], steps: Sequence[Sequence[int]]) -> set[int]:
    """Return all that is reached from `starts`, which are among it."""
    found, left = set[int](), list(starts)
    while left:
        index = left.pop()
        if index not in found:
            found.add(index)
            left += steps[index]
    return found
