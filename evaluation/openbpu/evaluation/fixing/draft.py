"""A copy of a model that a fix rewrites: nodes by what they make, constants, quantized or not, and pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper, shape_inference

from openbpu.arch.arrays import Array
from openbpu.arch.march import March
from openbpu.arch.protos import opset_of

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True, slots=True)
class Stored:
    """A constant: floats, or codes with a scale, one for all or one per element of `axis`; no zero point."""

    data: Array
    scale: Array | None = None
    axis: int = 0

    def moved(self, data: Array, order: Array | None = None, axis: int | None = None) -> Stored:
        """The same with other data; `order`: which channel each has its scale from, along `axis`."""
        scale = self.scale
        if scale is not None and scale.size > 1 and order is not None:
            scale = scale[order]
        return Stored(data, scale, self.axis if axis is None else axis)


class Draft:
    """A model that is being rewritten for a march. Names of tensors that are there stay what they are."""

    def __init__(self, model: ModelProto, march: March) -> None:
        self.march = march
        self.proto = ModelProto()
        self.proto.CopyFrom(model)
        graph = self.proto.graph
        self.opset = opset_of(self.proto, unnamed=1)
        self._constants = {t.name: t for t in graph.initializer}
        self._values = {v.name: v for v in _inferred(self.proto)}
        self._taken = {n for node in graph.node for n in (*node.input, *node.output, node.name)}
        self._taken |= {*self._constants, *self._values}

    # --- reading -------------------------------------------------------------------------------------------

    def node(self, name: str) -> NodeProto | None:
        """The node of that name."""
        return next((n for n in self.proto.graph.node if n.name == name), None)

    def maker(self, tensor: str) -> NodeProto | None:
        """The node that makes a tensor."""
        return next((n for n in self.proto.graph.node if tensor and tensor in n.output), None)

    def readers(self, tensor: str) -> list[NodeProto]:
        """The nodes that read a tensor."""
        return [n for n in self.proto.graph.node if tensor in n.input]

    def is_output(self, tensor: str) -> bool:
        """Whether a tensor is an output of the model."""
        return any(v.name == tensor for v in self.proto.graph.output)

    def shape(self, tensor: str) -> tuple[int, ...] | None:
        """The static shape of a tensor."""
        if tensor in self._constants:
            return tuple(self._constants[tensor].dims)
        value = self._values.get(tensor)
        if value is None or not value.type.tensor_type.HasField("shape"):
            return None
        dims = value.type.tensor_type.shape.dim
        return tuple(d.dim_value for d in dims) if all(d.HasField("dim_value") for d in dims) else None

    def kind(self, tensor: str) -> int:
        """The element type of a tensor, as ONNX numbers them; 0 where it is not known."""
        if tensor in self._constants:
            return int(self._constants[tensor].data_type)
        value = self._values.get(tensor)
        return 0 if value is None else int(value.type.tensor_type.elem_type)

    def const(self, tensor: str) -> Array | None:
        """The data of a constant."""
        if tensor in self._constants:
            return np.asarray(numpy_helper.to_array(self._constants[tensor]))
        maker = self.maker(tensor)
        if maker is not None and maker.op_type == "Constant" and maker.attribute[0].name == "value":
            return np.asarray(numpy_helper.to_array(maker.attribute[0].t))
        return None

    def stored(self, tensor: str) -> Stored | None:
        """A constant of floats, or behind a Dequantize of codes without zero point."""
        data = self.const(tensor)
        if data is not None:
            return Stored(data)
        maker = self.maker(tensor)
        if maker is None or maker.op_type != DEQUANTIZE:
            return None
        codes, scale, *zero = (self.const(name) for name in maker.input)
        if codes is None or scale is None or attribute(maker, "block_size", 0):
            return None
        if zero and (zero[0] is None or zero[0].any()):
            return None
        return Stored(codes, scale, int(attribute(maker, "axis", 1)) % max(codes.ndim, 1))

    def value(self, tensor: str) -> Array | None:
        """The real numbers of a constant, dequantized."""
        found = self.stored(tensor)
        if found is None or found.scale is None:
            return None if found is None else found.data
        shape = [-1 if a == found.axis else 1 for a in range(found.data.ndim)]
        scale = found.scale.reshape(shape if found.scale.size > 1 else ())
        return np.asarray(found.data.astype(np.float32) * scale)

    def dequantize(self, tensor: str) -> NodeProto | None:
        """The Dequantize with one constant scale that makes a tensor."""
        maker = self.maker(tensor)
        if maker is None or maker.op_type != DEQUANTIZE:
            return None
        scale = self.const(maker.input[1])
        return maker if scale is not None and scale.size == 1 else None

    def rounding(self, tensor: str) -> NodeProto | None:
        """The Quantize that rounds a tensor, perhaps behind a Relu: one like it in front changes nothing."""
        readers = self.readers(tensor)
        if len(readers) != 1 or self.is_output(tensor):
            return None
        if readers[0].op_type == "Relu":
            return self.rounding(readers[0].output[0])
        scale = self.const(readers[0].input[1]) if readers[0].op_type == QUANTIZE else None
        return readers[0] if scale is not None and scale.size == 1 else None

    # --- writing -------------------------------------------------------------------------------------------

    def fresh(self, stem: str) -> str:
        """A name that nothing has yet."""
        name, n = stem, 1
        while name in self._taken:
            name, n = f"{stem}_{n}", n + 1
        self._taken.add(name)
        return name

    def add(self, data: npt.ArrayLike, stem: str) -> str:
        """Store a constant; returns its name."""
        held = np.asarray(data, order="C")
        made = numpy_helper.from_array(held, self.fresh(stem))
        self.proto.graph.initializer.append(made)
        self._constants[made.name] = made
        return str(made.name)

    def store(self, what: Stored, stem: str) -> tuple[str, list[NodeProto]]:
        """Store a constant as it was stored before; returns its float tensor and the node that makes it."""
        data = self.add(what.data, stem if what.scale is None else f"{stem}_codes")
        if what.scale is None:
            return data, []
        zero = self.add(np.zeros(what.scale.shape, what.data.dtype), f"{stem}_zero")
        scale = self.add(what.scale, f"{stem}_scale")
        axis: dict[str, Any] = {"axis": what.axis} if what.scale.size > 1 else {}
        made = self.op(DEQUANTIZE, [data, scale, zero], stem=stem, **axis)
        return str(made.output[0]), [made]

    def op(
        self, kind: str, inputs: Sequence[str], output: str = "", stem: str = "", **attrs: Any
    ) -> NodeProto:
        """A new node; its result is `output`, or a fresh name from `stem`."""
        out = output or self.fresh(f"{stem or kind.lower()}_out")
        return helper.make_node(kind, list(inputs), [out], self.fresh(f"{stem or kind}_{kind}"), **attrs)

    def replace(self, node: NodeProto, nodes: Iterable[NodeProto]) -> None:
        """Put nodes in the place of one. The one that computes keeps its name, and what the exporter said."""
        graph = self.proto.graph
        at = next(i for i, n in enumerate(graph.node) if n is node or n == node)
        made, old = list(nodes), NodeProto()
        old.CopyFrom(node)
        for new in made:
            if not new.metadata_props:
                new.metadata_props.extend(old.metadata_props)
        left = [*graph.node[:at], *made, *graph.node[at + 1 :]]
        kept = [_copy(n) for n in left]
        del graph.node[:]
        graph.node.extend(kept)

    def insert(self, nodes: Iterable[NodeProto], behind: NodeProto) -> None:
        """Put nodes behind one."""
        self.replace(behind, [_copy(behind), *nodes])

    def pair_like(self, quantize: NodeProto, tensor: str) -> list[NodeProto]:
        """A Quantize and a Dequantize of `tensor` with the scale of another pair."""
        q = self.op(QUANTIZE, [tensor, *quantize.input[1:]], stem=tensor)
        return [q, self.op(DEQUANTIZE, [q.output[0], *quantize.input[1:]], stem=tensor)]

    def rounded(self, tensor: str, was: str) -> tuple[str, list[NodeProto]]:
        """`tensor` with the rounding that `was` gets, if any: so that the BPU has codes in between."""
        quantize = self.rounding(was)
        if quantize is None:
            return tensor, []
        made = self.pair_like(quantize, tensor)
        return str(made[-1].output[0]), made

    def pair(self, tensor: str, scale: float, dtype: str = "int8", zero: int = 0) -> None:
        """Put a pair on a tensor: all that computes reads it."""
        maker, readers = self.maker(tensor), self.readers(tensor)
        s = self.add(np.float32(scale), f"{tensor}_scale")
        z = self.add(np.array(zero, dtype), f"{tensor}_zero")
        q = self.op(QUANTIZE, [tensor, s, z], stem=tensor)
        d = self.op(DEQUANTIZE, [q.output[0], s, z], stem=tensor)
        for reader in readers:
            for at, name in enumerate(reader.input):
                if name == tensor:
                    reader.input[at] = d.output[0]
        if maker is None:
            nodes = [_copy(n) for n in self.proto.graph.node]
            del self.proto.graph.node[:]
            self.proto.graph.node.extend([q, d, *nodes])
        else:
            self.insert([q, d], maker)

    def forget(self, tensors: Iterable[str]) -> None:
        """Leave the types of tensors to be inferred again."""
        names, infos = set(tensors), self.proto.graph.value_info
        kept = [v for v in infos if v.name not in names]
        del infos[:]
        infos.extend(kept)

    def done(self) -> ModelProto:
        """The model, without constants and nodes that nothing reads any more."""
        graph = self.proto.graph
        while True:
            used = {n for node in graph.node for n in (*node.input, *_captured(node))}
            used |= {v.name for v in graph.output}
            live = [n for n in graph.node if not n.output or used.intersection(n.output)]
            if len(live) == len(graph.node):
                break
            kept = [_copy(n) for n in live]
            del graph.node[:]
            graph.node.extend(kept)
        names = {v.name for v in graph.input}
        stay = [t for t in graph.initializer if t.name in used | names]
        if len(stay) < len(graph.initializer):
            copies = [_copy_tensor(t) for t in stay]
            del graph.initializer[:]
            graph.initializer.extend(copies)
        made = {n for node in graph.node for n in node.output}
        infos = [v for v in graph.value_info if v.name in made]
        del graph.value_info[:]
        graph.value_info.extend(infos)
        return self.proto


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """An attribute of a node, or `default`; text as str."""
    found = next((a for a in node.attribute if a.name == name), None)
    if found is None:
        return default
    value = helper.get_attribute_value(found)
    return value.decode() if isinstance(value, bytes) else value


def changed(
    node: NodeProto, inputs: Sequence[str] | None = None, output: str = "", **attrs: Any
) -> NodeProto:
    """A copy of a node with other inputs, another result and other attributes (None takes one away)."""
    made = _copy(node)
    if inputs is not None:
        del made.input[:]
        made.input.extend(inputs)
    if output:
        made.output[0] = output
    kept = [a for a in made.attribute if a.name not in attrs]
    del made.attribute[:]
    made.attribute.extend(kept)
    made.attribute.extend(helper.make_attribute(k, v) for k, v in attrs.items() if v is not None)
    return made


def _copy(node: NodeProto) -> NodeProto:
    made = NodeProto()
    made.CopyFrom(node)
    return made


def _copy_tensor(tensor: onnx.TensorProto) -> onnx.TensorProto:
    made = onnx.TensorProto()
    made.CopyFrom(tensor)
    return made


def _captured(node: NodeProto) -> Iterable[str]:
    for found in node.attribute:
        for graph in (*found.graphs, *([found.g] if found.HasField("g") else [])):
            for inner in graph.node:
                yield from inner.input
                yield from _captured(inner)
            yield from (v.name for v in graph.output)


def _inferred(model: ModelProto) -> Iterable[onnx.ValueInfoProto]:
    try:
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
    except (RuntimeError, ValueError):  # onnx's inference has no class of its own for what it cannot read
        graph = model.graph
    return (*graph.value_info, *graph.input, *graph.output)
