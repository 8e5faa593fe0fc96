"""What `hbdk4.compiler` calls a module: here a QDQ ONNX model with the march it was converted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx

from openbpu.arch.arrays import Array
from openbpu.arch.errors import CompileError, ModelError, must
from openbpu.compat.hbdk.ends import REMOVABLE, End, Output, constants
from openbpu.compat.hbdk.images import Input
from openbpu.compat.march import march_name
from openbpu.runtime import Session

MARCH_KEY = "openbpu.march"
REMOVE_KEY = "openbpu.remove_io"
_QUANTIZE, _DEQUANTIZE = "quantize", "dequantize"
_BY_COMPILER = {"QuantizeLinear": _QUANTIZE, "DequantizeLinear": _DEQUANTIZE}
"""Kinds that the compiler takes off: it knows the ends of the units as well."""


class Module:
    """A QDQ ONNX model under the vendor's word; `functions` are its graphs, of which ONNX has one."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model

    @property
    def functions(self) -> tuple[Function, ...]:
        """The graphs of the module."""
        return (Function(self),)

    @property
    def graphs(self) -> tuple[Function, ...]:
        """The same under the newer name."""
        return self.functions

    def __getitem__(self, index: int | str) -> Function:
        """A graph by number or name."""
        if isinstance(index, str):
            found = {function.name: function for function in self.functions}
            if index not in found:
                raise CompileError(must("the module", "the graph", f"one of {', '.join(found)}", index))
            return found[index]
        return self.functions[index]

    def __len__(self) -> int:
        return 1

    @property
    def march(self) -> str | None:
        """The march it was converted for; None before `convert`."""
        return self._noted(MARCH_KEY)

    @property
    def removed(self) -> tuple[str, ...]:
        """What `remove_io_op` takes off the ends when the module is compiled."""
        return tuple(filter(None, (self._noted(REMOVE_KEY) or "").split(",")))

    def _noted(self, key: str) -> str | None:
        return next((p.value for p in self.model.metadata_props if p.key == key), None)

    def with_note(self, key: str, value: str) -> Module:
        """Return a copy of the module that carries a note, which `save` keeps."""
        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        kept = [p for p in copy.metadata_props if p.key != key]
        del copy.metadata_props[:]
        copy.metadata_props.extend(kept)
        copy.metadata_props.add(key=key, value=value)
        return Module(copy)


class Function:
    """A graph of a module."""

    def __init__(self, module: Module) -> None:
        self._module = module

    @property
    def name(self) -> str:
        """Name of the graph."""
        return self._module.model.graph.name

    @property
    def flatten_inputs(self) -> tuple[Input, ...]:
        """The inputs, which can be changed."""
        model = self._module.model
        fixed = constants(model.graph)
        return tuple(Input(model, v.name) for v in model.graph.input if v.name not in fixed)

    @property
    def flatten_outputs(self) -> tuple[Output, ...]:
        """The outputs, which can be changed."""
        model = self._module.model
        return tuple(Output(model, v.name) for v in model.graph.output)

    inputs = flatten_inputs
    outputs = flatten_outputs

    def feed(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Run once in the simulator, compiled for the march of `convert`: arrays by name in and out.

        Raises CompileError for a module that was not converted.
        """
        from openbpu.compiler import compile as build  # noqa: PLC0415  # only when it is used

        module = self._module
        if module.march is None:
            raise CompileError(must("feed", "the module", "converted for a march", "not", "call convert"))
        program = build(module.model, march=module.march, remove_io=module.removed)
        return Session(program).run({name: np.asarray(value) for name, value in inputs.items()}).outputs

    def __call__(self, *arrays: Any, **named: Any) -> tuple[Array, ...]:
        """The outputs in order, of arrays in the order of the inputs or by name."""
        names = [v.name for v in self.flatten_inputs]
        given = {**dict(zip(names, arrays, strict=False)), **named}
        found = self.feed(given)
        return tuple(found[v.name] for v in self.flatten_outputs)

    def statistics(self) -> dict[str, int]:
        """How many nodes of each operator the graph has."""
        return dict(Counter(node.op_type for node in self._module.model.graph.node).most_common())

    def remove_io_op(
        self, op_types: Iterable[str] | None = None, op_names: Iterable[str] | None = None
    ) -> list[str]:
        """Take nodes off the ends, by type or by name, until none of these stands there; returns their names.

        Types that stand at no end have nothing to remove. Quantize and Dequantize go when the module is
        compiled: a high-precision output has no node to name. Raises CompileError for other types than
        Quantize, Dequantize, Transpose, Cast, Reshape and Softmax.
        """
        names = {_ours(name) for name in op_names or ()}
        listed = op_types if op_types is not None else () if names else ("Quantize", "Dequantize")
        kinds = {_kind(name) for name in listed}
        removed = self._taken_off(kinds - set(_BY_COMPILER), names)
        later = [kind for kind in _BY_COMPILER if kind in kinds]
        if later:
            kept = sorted({*self._module.removed, *(_BY_COMPILER[kind] for kind in later)})
            note = ",".join(kept)
            self._module.model.CopyFrom(self._module.with_note(REMOVE_KEY, note).model)
        return removed + [name for kind in later for name in self._at_the_ends(kind)]

    def _taken_off(self, kinds: set[str], names: set[str]) -> list[str]:
        removed: list[str] = []
        ends: list[End] = [*self.flatten_inputs, *self.flatten_outputs]
        for end in ends:
            while node := next(iter(end.get_attached_op()), None):
                if (node.op_type not in kinds and node.name not in names) or not end.remove_attached_op()[0]:
                    break
                removed.append(node.name)
        return removed

    def _at_the_ends(self, kind: str) -> list[str]:
        ends = self.flatten_inputs if kind == "QuantizeLinear" else self.flatten_outputs
        return [n.name for end in ends for n in end.get_attached_op() if n.op_type == kind]


def _ours(name: str) -> str:
    """Return our name of a node at an end: the vendor calls them after what they read, with Hz in between."""
    for theirs, kind in (("_HzDequantize", "DequantizeLinear"), ("_HzQuantize", "QuantizeLinear")):
        if name.endswith(theirs):
            return f"{name.removesuffix(theirs)}_{kind}"
    return name


def _kind(op_type: str) -> str:
    """Return ONNX's word for a vendor's type such as "Quantize", "hbir.quantize" or "QuantizeLinear"."""
    word = op_type.rpartition(".")[2].lower().removesuffix("linear")
    known = {name.lower().removesuffix("linear"): name for name in REMOVABLE}
    if word not in known:
        fix = "other nodes at the ends stay; take them out of the model itself"
        allowed = ", ".join(sorted(name.removesuffix("Linear") for name in REMOVABLE))
        raise CompileError(must("remove_io_op", "op_types", f"among {allowed}", op_type, fix))
    return known[word]


def as_module(m: Any, where: str) -> Module:
    """Return a module: of itself, or of what `export` returned; raises ModelError for anything else."""
    if isinstance(m, Module):
        return m
    if isinstance(m, onnx.ModelProto):
        return Module(m)
    fix = "give what export, load or convert returned"
    raise ModelError(must(where, "the model", "a module or an ONNX model", type(m).__name__, fix))


def check_march(module: Module, march: Any, where: str) -> str:
    """Return the name of the march; raises CompileError when the module was converted for another one."""
    name = march_name(march)
    if module.march is not None and module.march != name:
        fix = "convert the model again for this march"
        raise CompileError(must(where, "march", f"{module.march}, as converted", name, fix))
    return name
