"""Following the batch from the inputs to the outputs, and making every size on its way larger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from openbpu.arch.errors import CompileError, OptionError
from openbpu.compiler.batch.rules import RULES
from openbpu.compiler.batch.site import Mixed, Site
from openbpu.compiler.ir import Graph, Node, Value
from openbpu.compiler.ir.graph import Array


def batched(graph: Graph, batch: int) -> Graph:
    """Return the graph for `batch` images a run: its outputs are those of as many runs, on axis 0.

    Constants that hold something for each image are repeated, shapes that operators ask for are changed.
    Raises OptionError for a batch that is no multiple of the model's own, CompileError naming the node whose
    operator does not leave images apart.
    """
    images = _images(graph, batch)
    if images == batch:
        return graph
    axes, makers = dict.fromkeys(_with_batch(graph), 0), graph.producers()
    values, nodes = dict(graph.values), []
    for node in graph.nodes:
        site = Site(node, graph, axes, images, batch // images, makers)
        axis = _axis(site, batch)
        if axis is None:
            nodes.append(node)
            continue
        axes.update((name, axis) for name in node.outputs if name)
        nodes += _changed(site, values)
    for name in graph.outputs:
        if axes.get(name) != 0:
            raise _refused(f"output '{name}'", "it does not begin with the batch", batch)
    for name, axis in axes.items():
        values[name] = _larger(values[name], axis, batch // images)
    return replace(graph, values=values).with_nodes(_live(nodes, graph.outputs))


def can_be_batched(graph: Graph) -> bool:
    """Whether a model of one image can be made one of several."""
    inputs = _with_batch(graph)
    one = bool(inputs) and all((graph.values[name].shape or (0,))[0] == 1 for name in inputs)
    try:
        return one and bool(batched(graph, 2).nodes)
    except CompileError:
        return False


def _with_batch(graph: Graph) -> list[str]:
    return [name for name in graph.inputs if graph.values[name].shape != ()]


def _images(graph: Graph, batch: int) -> int:
    """Return the batch of the model as it is."""
    found = {(graph.values[name].shape or (0,))[0] for name in _with_batch(graph)}
    if len(found) != 1 or 0 in found:
        raise _refused("inputs", f"their first sizes are {sorted(found)}", batch)
    (images,) = found
    if batch % images:
        raise OptionError("batch", f"a multiple of {images}, the model's own batch", batch, "take one")
    return images


def _axis(site: Site, batch: int) -> int | None:
    """Return the axis of the batch in the results of a node, None where they do not depend on it."""
    node = site.node
    if not any(name in site.axes for name in node.reads):
        return None
    rule = RULES.get(node.op, _unknown) if node.domain == "" and not node.captures else _unknown
    try:
        return rule(site)
    except Mixed as why:
        raise _refused(f"node '{node.name}' ({node.op})", str(why), batch) from None


def _unknown(_: Site) -> int:
    raise Mixed("it is not known to leave them apart")


def _changed(site: Site, values: dict[str, Value]) -> list[Node]:
    """Return the node with the operands that more images ask for, behind what makes those."""
    names, before = list(site.node.inputs), []
    for position, data in site.constants.items():
        names[position] = _constant(site, values, names[position], data)
    for position, axis in site.repeats.items():
        name, maker = names[position], site.makers.get(names[position])
        source = name if maker is None else maker.inputs[0]
        data = np.concatenate([site.graph.values[source].const] * site.times, axis)
        names[position] = made = _constant(site, values, source, data)
        if maker is not None:
            names[position] = f"{made}/dequantized"
            values[names[position]] = replace(values[name], name=names[position], shape=data.shape)
            inputs, title = (made, *maker.inputs[1:]), f"{maker.name}/{site.node.name}"
            before.append(replace(maker, inputs=inputs, outputs=(names[position],), name=title))
    return [*before, replace(site.node, inputs=tuple(names))]


def _constant(site: Site, values: dict[str, Value], old: str, data: Array) -> str:
    name = f"{site.node.outputs[0]}/batch/{old}"
    kept = values[old] if old else Value(name, None, data.dtype.name)
    values[name] = replace(kept, name=name, shape=data.shape, const=data)
    return name


def _live(nodes: Sequence[Node], outputs: Sequence[str]) -> list[Node]:
    """Return the nodes that something depends on; what was repeated may have had a single reader."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            wanted.update(node.reads)
            kept.append(node)
    return kept[::-1]


def _larger(value: Value, axis: int, times: int) -> Value:
    shape = value.shape
    if shape is None:
        return value
    return replace(value, shape=tuple(n * times if i == axis else n for i, n in enumerate(shape)))


def _refused(where: str, why: str, batch: int) -> CompileError:
    fix = f"export the model with a batch of {batch}, or compile it as it is"
    return CompileError(f"{where}: a batch of {batch} must leave images apart, and {why}; {fix}")
