"""Inputs and outputs of a module that can be changed: renamed, stripped of the node beside them, erased."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from openbpu.arch.errors import CompileError, must
from openbpu.compat.hbdk.variable import TensorType

REMOVABLE = frozenset({"QuantizeLinear", "DequantizeLinear", "Transpose", "Cast", "Reshape", "Softmax"})
"""Operators that may be taken off an end of a model."""


def constants(graph: onnx.GraphProto) -> set[str]:
    """Names of the initializers."""
    return {t.name for t in graph.initializer}


def readers(graph: onnx.GraphProto, name: str) -> list[onnx.NodeProto]:
    """The nodes that read a tensor."""
    return [n for n in graph.node if name in n.input]


def rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Give a tensor another name wherever nodes speak of it."""
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new
    stale = [v for v in graph.value_info if v.name in {old, new}]
    for value in stale:
        graph.value_info.remove(value)


class End:
    """An input or an output of a module's graph; `name` and `desc` can be set."""

    def __init__(self, model: onnx.ModelProto, name: str) -> None:
        self._model, self._name = model, name

    @property
    def _graph(self) -> Any:
        return self._model.graph

    @property
    def _listed(self) -> Any:
        """The graph's list that it stands in."""
        raise NotImplementedError

    @property
    def _value(self) -> onnx.ValueInfoProto:
        found: onnx.ValueInfoProto
        for found in self._listed:
            if found.name == self._name:
                return found
        fix = "take it from flatten_inputs or flatten_outputs again"
        raise CompileError(must(f"'{self._name}'", "the end", "part of the model", "erased", fix))

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @name.setter
    def name(self, new: str) -> None:
        graph = self._graph
        taken = {n for node in graph.node for n in (*node.input, *node.output)} | constants(graph)
        taken |= {v.name for v in (*graph.input, *graph.output)}
        if new == self._name:
            return
        if not new or new in taken:
            raise CompileError(must(f"'{self._name}'", "the new name", "one that is not taken", repr(new)))
        value = self._value
        rename(graph, self._name, new)
        value.name = self._name = new

    @property
    def desc(self) -> str:
        """A description, which `save` keeps."""
        return str(self._value.doc_string)

    @desc.setter
    def desc(self, text: str) -> None:
        self._value.doc_string = text

    @property
    def type(self) -> TensorType:
        """Shape and dtype."""
        kind = self._value.type.tensor_type
        shape = tuple(d.dim_value for d in kind.shape.dim)
        return TensorType(shape, helper.tensor_dtype_to_np_dtype(kind.elem_type))

    @property
    def scales(self) -> tuple[float, ...]:
        """The scales of its integers; empty where it is float."""
        return tuple(self._grid()[0])

    @property
    def zero_point(self) -> int:
        """The zero point of its integers."""
        return self._grid()[1]

    def _grid(self) -> tuple[list[float], int]:
        node = self._beside(("QuantizeLinear", "DequantizeLinear"))
        found = {t.name: numpy_helper.to_array(t) for t in self._graph.initializer}
        if node is None or node.input[1] not in found:
            return [], 0
        zero = found.get(node.input[2]) if len(node.input) > 2 else None
        first = 0 if zero is None else int(np.ravel(zero)[0])
        return [float(s) for s in np.ravel(found[node.input[1]])], first

    def _beside(self, kinds: tuple[str, ...]) -> onnx.NodeProto | None:
        """A node of these kinds between the end and the rest."""
        raise NotImplementedError

    # --- the operator beside it ---------------------------------------------------------------------------

    def get_attached_op(self) -> list[onnx.NodeProto]:
        """The node between the end and the rest of the model: a list of one, or empty."""
        raise NotImplementedError

    @property
    def is_removable(self) -> tuple[bool, str]:
        """(whether the node beside it can be taken off, why not)."""
        found = self.get_attached_op()
        if not found:
            return False, f"'{self._name}' has no single node beside it"
        if found[0].op_type not in REMOVABLE:
            return False, f"{found[0].op_type} is none of {', '.join(sorted(REMOVABLE))}"
        return True, ""

    def remove_attached_op(self) -> tuple[bool, str]:
        """Take that node off: the end is then what was on its other side; returns as `is_removable`."""
        able = self.is_removable
        if able[0]:
            self._take_off(self.get_attached_op()[0])
        return able

    def _take_off(self, node: onnx.NodeProto) -> None:
        raise NotImplementedError

    def _retype(self, inner: str) -> None:
        """Take shape and dtype of the tensor on the other side."""
        typed = shape_inference.infer_shapes(self._model)
        listed = (*typed.graph.value_info, *typed.graph.input, *typed.graph.output)
        found = next((v.type for v in listed if v.name == inner), None)
        if found is None:
            raise CompileError(must(f"'{self._name}'", "the shape behind it", "known", "unknown"))
        self._value.type.CopyFrom(found)

    def erase(self) -> None:
        """Take an end away that nothing depends on; raises CompileError otherwise."""
        if readers(self._graph, self._name):
            raise CompileError(must(f"'{self._name}'", "an erased end", "read by no node", "one that is"))
        if len(self._listed) == 1:
            raise CompileError(must(f"'{self._name}'", "the last end", "kept", "erased"))
        self._listed.remove(self._value)

    def _refused(self, what: str, fix: str) -> NoReturn:
        raise CompileError(f"input '{self._name}': {what} is not in openbpu (none here so far); {fix}")


class Output(End):
    """An output."""

    @property
    def _listed(self) -> Any:
        return self._graph.output

    def get_attached_op(self) -> list[onnx.NodeProto]:
        """The node that makes it."""
        return [n for n in self._graph.node if self._name in n.output]

    def _beside(self, kinds: tuple[str, ...]) -> onnx.NodeProto | None:
        beside = (n for n in self._graph.node if self._name in {*n.output, *n.input[:1]})
        return next((n for n in beside if n.op_type in kinds), None)

    def _take_off(self, node: onnx.NodeProto) -> None:
        inner = node.input[0]
        self._retype(inner)
        graph = self._graph
        graph.node.remove(node)
        rename(graph, self._name, f"{self._name}/before")
        rename(graph, inner, self._name)

    def erase(self) -> None:
        """Take the output away; nodes that only it needed stay and are dropped by the compiler."""
        if len(self._listed) == 1:
            raise CompileError(must(f"'{self._name}'", "the last output", "kept", "erased"))
        self._listed.remove(self._value)
