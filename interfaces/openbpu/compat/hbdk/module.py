"""What `hbdk4.compiler` calls a module: here a QDQ ONNX model with the march it was converted for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import onnx

from openbpu.arch.errors import CompileError, ModelError, must
from openbpu.compat.march import march_name

MARCH_KEY = "openbpu.march"
REMOVE_KEY = "openbpu.remove_io"
_QUANTIZE, _DEQUANTIZE = "quantize", "dequantize"
_KINDS = {"quantize": _QUANTIZE, "dequantize": _DEQUANTIZE}


@dataclass(frozen=True)
class TensorType:
    """Shape and NumPy dtype of an input or output."""

    shape: tuple[int, ...]
    np_dtype: Any

    @property
    def nbytes(self) -> int:
        """Bytes of the dense data."""
        return int(math.prod(self.shape) * np.dtype(self.np_dtype).itemsize)


@dataclass(frozen=True)
class Variable:
    """An input or output: `name` and `type`; scales and zero point where it is quantized.

    The methods that put pre-processing in front of an input are not there yet and say so.
    """

    name: str
    type: TensorType
    scales: tuple[float, ...] = ()
    zero_point: int = 0

    def insert_transpose(self, *_: Any, **__: Any) -> NoReturn:
        """Not yet: raises CompileError."""
        self._not_yet(
            "insert_transpose", "add the Transpose to the PyTorch or ONNX model, before its first op"
        )

    def insert_image_convert(self, *_: Any, **__: Any) -> NoReturn:
        """Not yet: raises CompileError."""
        self._not_yet("insert_image_convert", "convert NV12 to the model's colours before you feed it")

    def insert_image_preprocess(self, *_: Any, **__: Any) -> NoReturn:
        """Not yet: raises CompileError."""
        self._not_yet(
            "insert_image_preprocess", "subtract the mean and divide in the model, or before you feed it"
        )

    def _not_yet(self, what: str, fix: str) -> NoReturn:
        raise CompileError(f"input '{self.name}': {what} is not in openbpu yet (none here so far); {fix}")


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

    def __getitem__(self, index: int) -> Function:
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
    def flatten_inputs(self) -> tuple[Variable, ...]:
        """The inputs."""
        graph = self._module.model.graph
        constants = {t.name for t in graph.initializer}
        return tuple(_variable(v) for v in graph.input if v.name not in constants)

    @property
    def flatten_outputs(self) -> tuple[Variable, ...]:
        """The outputs."""
        return tuple(_variable(v) for v in self._module.model.graph.output)

    inputs = flatten_inputs
    outputs = flatten_outputs

    def remove_io_op(
        self, op_types: Iterable[str] | None = None, op_names: Iterable[str] | None = None
    ) -> list[str]:
        """Have Quantize and/or Dequantize nodes at the ends left out when the module is compiled.

        Returns the names of the nodes; a high-precision output has none. Raises CompileError for other types
        (only these two can go so far) and for single nodes by name.
        """
        if op_names is not None:
            fix = 'give op_types=["Quantize", "Dequantize"]'
            raise CompileError(must("remove_io_op", "op_names", "None", sorted(op_names), fix))
        kinds = [_kind(name) for name in (op_types if op_types is not None else ("Quantize", "Dequantize"))]
        kept = sorted({*self._module.removed, *kinds})
        self._module.model = self._module.with_note(REMOVE_KEY, ",".join(kept)).model
        return [name for kind in dict.fromkeys(kinds) for name in self._at_the_ends(kind)]

    def _at_the_ends(self, kind: str) -> list[str]:
        graph = self._module.model.graph
        if kind == _QUANTIZE:
            names = {v.name for v in self.flatten_inputs}
            return [n.name for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] in names]
        names = {v.name for v in graph.output}
        return [n.name for n in graph.node if n.op_type == "DequantizeLinear" and n.output[0] in names]


def _kind(op_type: str) -> str:
    """Return openbpu's word for a vendor's type such as "Quantize", "hbir.quantize" or "QuantizeLinear"."""
    word = op_type.rpartition(".")[2].lower().removesuffix("linear")
    if word not in _KINDS:
        fix = "other nodes at the ends stay; take them out of the model itself"
        raise CompileError(must("remove_io_op", "op_types", "Quantize or Dequantize", op_type, fix))
    return _KINDS[word]


def _variable(value: onnx.ValueInfoProto) -> Variable:
    kind = value.type.tensor_type
    shape = tuple(d.dim_value for d in kind.shape.dim)
    return Variable(value.name, TensorType(shape, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)))


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
