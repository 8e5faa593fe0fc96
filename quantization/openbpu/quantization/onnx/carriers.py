"""Which tensors carry integers: all that a BPU operator reads or makes, and movement on the way.

    Conv ─► Transpose ─► TopK ─► Reshape ─► ScatterND ─┬► ScatterND ─► …
      pair      pair       float     float     float   └► Slice ─► Mul ─► …
                                                           pair     pair

What CPU operators make (TopK, ScatterND, …) stays float between them; its pair stands where a BPU operator
reads, and CPU operators beside that one read what was made.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from openbpu.arch.onnx_ops import CUTS
from openbpu.quantization.onnx.classes import Kind, data_inputs
from openbpu.quantization.onnx.fuse import Fused, Units
from openbpu.quantization.onnx.given import Given, is_dequantize
from openbpu.quantization.onnx.net import Net


def find_carriers(
    net: Net, kinds: Sequence[Kind], fused: Fused, units: Units, given: Given, spared: frozenset[str]
) -> list[str]:
    """Return the tensors that carry integers on the BPU and have no pair yet, in the order of the graph.

    `spared` are results that stay float although a BPU operator could make them.
    """
    wanted: set[str] = set()
    for index, node in enumerate(net.nodes):
        if kinds[index] in {Kind.CPU, Kind.KEEP}:
            continue
        ins = [units.root[index]] if index in units.root else data_inputs(node)
        outs = [name for name in node.output if index not in units.root or name in units.results]
        wanted.update(name for name in ins if net.is_live(name))
        if kinds[index] is not Kind.MAC or not _is_final(net, node.output[0]):
            wanted.update(name for name in outs if net.is_live(name))
    wanted -= fused.unrounded | spared
    _spread(net, kinds, wanted, given, spared)
    order = [*net.inputs, *(name for node in net.nodes for name in node.output)]
    return [name for name in order if name in wanted - given.present]


def _is_final(net: Net, name: str) -> bool:
    return name in net.outputs and name not in net.consumers()


def float_ends(net: Net, kinds: Sequence[Kind]) -> frozenset[str]:
    """Return the outputs that nothing reads, and what is only moved into one."""
    readers, ends = net.consumers(), {name for name in net.outputs if _is_final(net, name)}
    for node, kind in zip(reversed(net.nodes), reversed(kinds), strict=True):
        moved = kind is Kind.KEEP and node.input[0] not in net.outputs and len(readers[node.input[0]]) == 1
        if moved and ends.issuperset(filter(None, node.output)):
            ends.add(node.input[0])
    return frozenset(ends - set(net.inputs))


def handed_over(net: Net, kinds: Sequence[Kind], floats: Collection[int]) -> frozenset[str]:
    """Return the results of products that the nodes `floats` alone read: they take the accumulators."""
    readers = net.consumers()
    results = [node.output[0] for node, kind in zip(net.nodes, kinds, strict=True) if kind is Kind.MAC]
    return frozenset(
        name for name in results if name in readers and all(user in floats for user in readers[name])
    )


def fed_to_bpu(net: Net, kinds: Sequence[Kind], carriers: Sequence[str]) -> frozenset[str]:
    """Return the carriers that no BPU operator makes: graph inputs, and what comes from CPU operators."""
    made = set(net.inputs)
    known = set(carriers)
    for node, kind in zip(net.nodes, kinds, strict=True):
        if kind is Kind.CPU or (kind is Kind.KEEP and node.input[0] not in known):
            made.update(node.output)
    return frozenset(made & known)


def _spread(net: Net, kinds: Sequence[Kind], wanted: set[str], given: Given, spared: frozenset[str]) -> None:
    """Quantize movement where what it reads is quantized on the BPU, or what it makes has to be.

    Not where the model quantizes what it reads: the scale is known there already.
    """
    wanted.update(given.rounded)
    readers, off = net.consumers(), _made_on_cpu(net, kinds)
    moves = [
        index
        for index, kind in enumerate(kinds)
        if kind is Kind.KEEP
        and net.is_live(net.nodes[index].input[0])
        and net.nodes[index].input[0] not in given.quantized
    ]
    wanted.update(
        net.nodes[index].input[0]
        for index in moves
        if net.nodes[index].input[0] in net.inputs and not _ends_on_cpu(net, kinds, readers, index)
    )
    grown = -1
    while grown != len(wanted):
        grown = len(wanted)
        for index in moves:
            node = net.nodes[index]
            outs = {name for name in node.output if net.is_live(name)} - spared
            if node.input[0] in wanted and (node.input[0] not in off or outs & wanted):
                wanted |= outs
            elif outs & wanted and (
                node.input[0] not in off or _is_quantized_whole(net, kinds, readers, index, wanted)
            ):
                wanted |= outs | {node.input[0]}


def _made_on_cpu(net: Net, kinds: Sequence[Kind]) -> set[str]:
    """Return the tensors that CPU operators make, and what is moved from them."""
    found: set[str] = set()
    for node, kind in zip(net.nodes, kinds, strict=True):
        if is_dequantize(node):
            continue  # of the model itself: what it reads is on the BPU
        if kind is Kind.CPU or (kind is Kind.KEEP and node.input[0] in found):
            found.update(node.output)
    return found


def _is_quantized_whole(
    net: Net, kinds: Sequence[Kind], readers: dict[str, list[int]], index: int, wanted: set[str]
) -> bool:
    """Whether all readers of what a movement moves from a CPU operator want it in integers, as a whole."""
    name = net.nodes[index].input[0]
    if name in net.outputs or net.nodes[index].op_type in CUTS:  # a scale made behind it may be finer
        return False
    return all(kinds[u] is not Kind.CPU and not wanted.isdisjoint(net.nodes[u].output) for u in readers[name])


def _ends_on_cpu(net: Net, kinds: Sequence[Kind], readers: dict[str, list[int]], index: int) -> bool:
    """Whether CPU operators alone read what a movement makes."""
    outs = [name for name in net.nodes[index].output if name]
    users = [user for name in outs for user in readers.get(name, [])]
    if not users or any(name in net.outputs for name in outs):
        return False
    return all(
        kinds[u] is Kind.CPU or (kinds[u] is Kind.KEEP and _ends_on_cpu(net, kinds, readers, u))
        for u in users
    )


def scale_sources(net: Net, kinds: Sequence[Kind], carriers: Sequence[str]) -> dict[str, str]:
    """Map every carrier to the tensor whose scale it has: through movement, that of the input."""
    sources = {name: name for name in carriers}
    for node, kind in zip(net.nodes, kinds, strict=True):
        if kind is Kind.KEEP and node.input[0] in sources:
            sources.update((name, sources[node.input[0]]) for name in node.output if name in sources)
    return sources
