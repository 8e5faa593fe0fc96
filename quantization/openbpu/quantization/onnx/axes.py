"""The shapes that a net has for certain inputs: fixed by the user, or as calibration data come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from onnx import ModelProto, ValueInfoProto

from openbpu.arch.arrays import Array
from openbpu.arch.given_shapes import Shapes, give_shapes
from openbpu.quantization.onnx.fold import fold_constants
from openbpu.quantization.onnx.inference import infer
from openbpu.quantization.onnx.net import Net


def fixed(net: Net, shapes: Shapes | None) -> Net:
    """Return `net` with these input shapes; raises what `give_shapes` raises."""
    if not shapes:
        return net
    header = ModelProto()
    header.CopyFrom(net.header)
    give_shapes(header.graph.input, shapes)
    return replace(net, header=header)


def at_shapes(net: Net, shapes: Mapping[str, Sequence[int | None]]) -> Net:
    """Return `net` with the tensor shapes of runs on inputs of `shapes` (None: they differ there).

    The net itself, with its free axes, stays what it is.
    """
    if not _frees(net):
        return net
    header = ModelProto()
    header.CopyFrom(net.header)
    for value in header.graph.input:
        if value.name in shapes:
            _write(value, shapes[value.name])
    static = infer(replace(net, header=header))
    return replace(net, shapes={**net.shapes, **static.shapes, **fold_constants(static).shapes})


def _frees(net: Net) -> bool:
    """Whether an input has a free axis, or a free number of axes."""
    tensors = [v.type.tensor_type for v in net.header.graph.input if v.type.HasField("tensor_type")]
    return any(
        not t.HasField("shape") or any(not dim.HasField("dim_value") for dim in t.shape.dim) for t in tensors
    )


def _write(value: ValueInfoProto, sizes: Sequence[int | None]) -> None:
    if not value.type.HasField("tensor_type"):
        return
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    shape.SetInParent()
    for size in sizes:
        dim = shape.dim.add()
        if size is not None:
            dim.dim_value = size


def common_shapes(feeds: Sequence[Mapping[str, Array]]) -> dict[str, tuple[int | None, ...]]:
    """Return by input the sizes that all feeds have alike, None where they differ.

    An input whose number of axes differs is left out.
    """
    shapes = {name: [feed[name].shape for feed in feeds] for name in feeds[0]}
    return {name: _common(found) for name, found in shapes.items() if len({*map(len, found)}) == 1}


def _common(shapes: Sequence[tuple[int, ...]]) -> tuple[int | None, ...]:
    return tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*shapes, strict=True))


def largest_shapes(feeds: Iterable[Mapping[str, Array]]) -> dict[str, tuple[int, ...]]:
    """Return the input shapes of the feed that holds the most bytes."""
    most = max(feeds, key=lambda feed: sum(array.nbytes for array in feed.values()))
    return {name: array.shape for name, array in most.items()}
