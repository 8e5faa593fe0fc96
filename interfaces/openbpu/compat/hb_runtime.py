"""`horizon_tc_ui`'s runtime of every stage: an ONNX model, a module that `save` wrote, or a compiled file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, ModelError, must
from openbpu.compat.hbdk.build import load
from openbpu.runtime import Session
from openbpu.runtime.reference import Reference

__all__ = ["HBRuntime", "HB_ONNXRuntime"]


class HBRuntime:
    """A model of any stage, by the suffix of its path: `.onnx` (or a ModelProto), `.bc`, `.hbm` or `.bin`.

    An ONNX model runs on ONNX Runtime, nothing optimised; the others in the simulator. Raises ModelError,
    HbmError.
    """

    def __init__(self, model: Any = None, *, model_file: Any = None, onnx_model: Any = None) -> None:
        given = next((m for m in (model, model_file, onnx_model) if m is not None), None)
        if given is None:
            raise ModelError(must("HBRuntime", "the model", "a path or an ONNX model", "missing"))
        suffix = Path(given).suffix.lower() if isinstance(given, str | os.PathLike) else ".onnx"
        if suffix in {".hbm", ".bin", ".hbo"}:
            self._of_session(Session(given))
        elif suffix == ".bc":
            self._of_session(_built(given))
        elif suffix == ".onnx":
            self._of_onnx(given)
        else:
            raise ModelError(must("HBRuntime", "the file", ".onnx, .bc, .hbm or .bin", f"'{given}'"))

    def _of_session(self, session: Session) -> None:
        self._engine: Any = _Simulated(session)
        ends = (session.inputs, session.outputs)
        self._names, self._shapes, self._types = (
            [[t.name for t in end] for end in ends],
            [[list(t.shape) for t in end] for end in ends],
            [[np.dtype(t.dtype.numpy).name for t in end] for end in ends],
        )

    def _of_onnx(self, model: Any) -> None:
        reference = Reference(model)
        self._engine = reference
        ends = (reference.inputs, reference.outputs)
        self._names = [[v.name for v in end] for end in ends]
        self._shapes = [[list(v.shape) for v in end] for end in ends]
        self._types = [[_numpy_name(v.type) for v in end] for end in ends]

    @property
    def input_names(self) -> list[str]:
        """The inputs in order."""
        return self._names[0]

    @property
    def output_names(self) -> list[str]:
        """The outputs in order."""
        return self._names[1]

    @property
    def input_num(self) -> int:
        """How many inputs there are."""
        return len(self.input_names)

    @property
    def output_num(self) -> int:
        """How many outputs there are."""
        return len(self.output_names)

    @property
    def input_shapes(self) -> list[list[int]]:
        """Their sizes, in the order of the names."""
        return self._shapes[0]

    @property
    def output_shapes(self) -> list[list[int]]:
        """Their sizes, in the order of the names."""
        return self._shapes[1]

    @property
    def input_types(self) -> list[str]:
        """Their types by NumPy's names, in the order of the names."""
        return self._types[0]

    @property
    def output_types(self) -> list[str]:
        """Their types by NumPy's names, in the order of the names."""
        return self._types[1]

    def run(
        self, output_names: Sequence[str] | None, input_info: Mapping[str, Any], **options: Any
    ) -> list[Array]:
        """Return the outputs, in the order asked for (None: all); arrays by input name.

        input_offset: what the vendor takes off pixels for its own models; ours take them as they are, so it
        changes nothing, and integers become the floats that an ONNX model reads. Raises InputError for
        another output or option.
        """
        for name, value in options.items():
            if name != "input_offset" or value not in {None, 0, 128}:
                fix = "leave it out"
                raise InputError(must("HBRuntime.run", name, "input_offset of 0 or 128", value, fix))
        wanted = list(output_names or self.output_names)
        for name in wanted:
            if name not in self.output_names:
                allowed = f"among {', '.join(self.output_names)}"
                raise InputError(must("HBRuntime.run", "output_names", allowed, f"'{name}'"))
        made = self._engine.run({name: self._typed(name, value) for name, value in input_info.items()})
        return [made[name] for name in wanted]

    def _typed(self, name: str, value: Any) -> Array:
        """Return an array; pixels in bytes as floats, where an ONNX model reads such."""
        array = np.asarray(value)
        wanted = dict(zip(self.input_names, self.input_types, strict=True)).get(name)
        pixels = array.dtype == np.uint8 and wanted == "float32" and isinstance(self._engine, Reference)
        return array.astype(np.float32) if pixels else array

    def run_direct(self, output_names: Sequence[str] | None, input_info: Mapping[str, Any]) -> list[Array]:
        """The same under its older name."""
        return self.run(output_names, input_info)

    run_feature = run_direct


class HB_ONNXRuntime(HBRuntime):  # noqa: N801  # the vendor's name
    """The same under its older name."""


class _Simulated:
    """A session that returns its outputs alone."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def run(self, feed: Mapping[str, Array]) -> Mapping[str, Array]:
        return self._session.run(feed).outputs


def _built(path: str | os.PathLike[str]) -> Session:
    """Return a session of a module that `save` wrote, compiled for the march of `convert`."""
    from openbpu.compiler import compile as build  # noqa: PLC0415  # only when it is used

    module = load(path)
    if module.march is None:
        fix = "load it with hbdk4.compiler and convert it, or give its .onnx"
        raise ModelError(must(os.fspath(path), "the module", "converted for a march", "not", fix))
    return Session(build(module.model, march=module.march, remove_io=module.removed))


def _numpy_name(of: str) -> str:
    """Return NumPy's name of "tensor(float)"."""
    inner = of.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(inner, inner)
