"""What is put in front of an input: a transpose, a colour conversion with mean and deviation, NV12 planes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from openbpu.arch.errors import CompileError, must
from openbpu.compat.hbdk.ends import End, readers

_FULL = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))
_VIDEO = ((1.164383, 0.0, 1.596027), (1.164383, -0.391762, -0.812968), (1.164383, 2.017232, 0.0))
_MODE = re.compile(r"(?:yuv(?:444)?)?bt601(full|video)2(rgb|bgr)")


class Input(End):
    """An input; what is inserted in front of it changes what the model takes, from the inside outwards."""

    @property
    def _listed(self) -> Any:
        return self._graph.input

    def get_attached_op(self) -> list[onnx.NodeProto]:
        """The one node that reads it."""
        found = readers(self._graph, self._name)
        return found if len(found) == 1 and found[0].input[0] == self._name else []

    def _beside(self, kinds: tuple[str, ...]) -> onnx.NodeProto | None:
        return next((n for n in readers(self._graph, self._name) if n.op_type in kinds), None)

    def _take_off(self, node: onnx.NodeProto) -> None:
        inner = node.output[0]
        self._retype(inner)
        self._graph.node.remove(node)
        for reader in readers(self._graph, inner):
            for i, name in enumerate(reader.input):
                if name == inner:
                    reader.input[i] = self._name

    # --- what is put in front -----------------------------------------------------------------------------

    def insert_transpose(self, permutes: Sequence[int]) -> Input:
        """Take the axes in another order: transposed by `permutes` the new input is the old one."""
        shape, order = self.type.shape, [int(p) for p in permutes]
        if sorted(order) != list(range(len(shape))):
            allowed = f"an order of 0..{len(shape) - 1}"
            raise CompileError(must(f"input '{self._name}'", "permutes", allowed, list(permutes)))
        outer = [shape[order.index(axis)] for axis in range(len(shape))]
        kind = self._value.type.tensor_type.elem_type
        inner = self._moved_inside()
        self._put(kind, outer, [helper.make_node("Transpose", [self._name], [inner], perm=order)])
        return self

    def insert_image_preprocess(
        self,
        mode: str | None = None,
        divisor: float = 1,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        is_signed: bool = True,
    ) -> Input:
        """Take a picture [N, H, W, C] of bytes: (colours / divisor − mean) / std is the old input.

        mode: "yuvbt601full2rgb", "yuvbt601video2bgr", …, or "skip" for no conversion. is_signed: the bytes
        are int8, 128 less than the picture's.
        """
        shape = self.type.shape
        if len(shape) != 4 or shape[3] not in {1, 3}:
            fix = "insert_transpose first"
            raise CompileError(must(f"input '{self._name}'", "the shape", "[N, H, W, 3 or 1]", shape, fix))
        matrix, bias = _conversion(mode, shape[3], self._name)
        gain = 1 / (float(divisor) * np.asarray(std, np.float64).reshape(-1))
        offset = np.asarray(mean, np.float64).reshape(-1) / np.asarray(std, np.float64).reshape(-1)
        if gain.size not in {1, shape[3]} or not np.isfinite(gain).all():
            raise CompileError(must(f"input '{self._name}'", "std", f"{shape[3]} numbers not 0", list(std)))
        if is_signed:
            bias = bias + 128 * matrix.sum(axis=0)
        matrix, bias = matrix * gain, bias * gain - offset
        inner = self._moved_inside()
        start = self._name
        nodes = [
            helper.make_node("Cast", [start], [f"{start}/float"], to=onnx.TensorProto.FLOAT),
            helper.make_node(
                "MatMul", [f"{start}/float", self._constant("colours", matrix)], [f"{start}/mixed"]
            ),
            helper.make_node("Add", [f"{start}/mixed", self._constant("offset", bias)], [inner]),
        ]
        self._put(onnx.TensorProto.INT8 if is_signed else onnx.TensorProto.UINT8, shape, nodes)
        return self

    def insert_image_convert(self, mode: str = "nv12") -> list[Input]:
        """Take the planes of a camera: <name>_y [N, H, W, 1] and, for "nv12", <name>_uv [N, H/2, W/2, 2]."""
        if mode not in {"nv12", "gray"}:
            raise CompileError(must(f"input '{self._name}'", "mode", '"nv12" or "gray"', repr(mode)))
        n, h, w, c = shape = self.type.shape if len(self.type.shape) == 4 else (0, 0, 0, 0)
        if c != (3 if mode == "nv12" else 1) or (mode == "nv12" and (h % 2 or w % 2)):
            allowed = "[N, H, W, 3] with even H and W" if mode == "nv12" else "[N, H, W, 1]"
            fix = "insert_transpose and insert_image_preprocess first"
            raise CompileError(must(f"input '{self._name}'", "the shape", allowed, shape, fix))
        kind, old, graph = self._value.type.tensor_type.elem_type, self._name, self._graph
        place = next(i for i, v in enumerate(graph.input) if v.name == old)
        graph.input.remove(self._value)
        planes = {f"{old}_y": [n, h, w, 1]}
        if mode == "nv12":
            planes[f"{old}_uv"] = [n, h // 2, w // 2, 2]
        made = [
            helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, size) for name, size in planes.items()
        ]
        listed = list(graph.input)
        del graph.input[:]
        graph.input.extend([*listed[:place], *made, *listed[place:]])
        self._front(_planes(old, mode, self._constant, signed=kind == onnx.TensorProto.INT8))
        return [Input(self._model, name) for name in planes]

    def insert_split(self, dim: int = 0) -> list[Input]:
        """Take <name>_0, <name>_1, … of size 1 along `dim`, which joined are the old input."""
        shape, old, graph = list(self.type.shape), self._name, self._graph
        if not 0 <= dim < len(shape):
            raise CompileError(must(f"input '{old}'", "dim", f"0..{len(shape) - 1}", dim))
        kind = self._value.type.tensor_type.elem_type
        names = [f"{old}_{i}" for i in range(shape[dim])]
        place = next(i for i, v in enumerate(graph.input) if v.name == old)
        listed = [v for v in graph.input if v.name != old]
        part = [*shape[:dim], 1, *shape[dim + 1 :]]
        made = [helper.make_tensor_value_info(name, kind, part) for name in names]
        del graph.input[:]
        graph.input.extend([*listed[:place], *made, *listed[place:]])
        self._front([helper.make_node("Concat", names, [old], name=f"{old}/joined", axis=dim)])
        return [Input(self._model, name) for name in names]

    def insert_roi_resize(self, *_: Any, **__: Any) -> NoReturn:
        """No unit of the model resizes regions: raises CompileError."""
        self._refused("insert_roi_resize", "cut and resize the region before you feed it")

    def insert_rle(self, *_: Any, **__: Any) -> NoReturn:
        """No run-length coding: raises CompileError."""
        self._refused("insert_rle", "encode on the host")

    # --- how ----------------------------------------------------------------------------------------------

    def _moved_inside(self) -> str:
        """Give the old input a name of its own; returns it."""
        graph, taken = self._graph, {name for n in self._graph.node for name in (*n.input, *n.output)}
        inner = next(name for i in range(len(taken) + 1) if (name := f"{self._name}/{i}") not in taken)
        for reader in readers(graph, self._name):
            for i, name in enumerate(reader.input):
                if name == self._name:
                    reader.input[i] = inner
        return inner

    def _constant(self, what: str, value: npt.NDArray[Any]) -> str:
        name = f"{self._name}/{what}"
        kept = value if value.dtype == np.int64 else value.astype(np.float32)
        self._graph.initializer.append(numpy_helper.from_array(kept, name))
        return name

    def _put(self, kind: int, shape: Sequence[int], nodes: list[onnx.NodeProto]) -> None:
        """Stand in front of `nodes`, which make what was the input."""
        self._value.CopyFrom(helper.make_tensor_value_info(self._name, kind, list(shape)))
        for i, node in enumerate(nodes):
            node.name = f"{node.output[0]}/{node.op_type}{i}"
        self._front(nodes)

    def _front(self, nodes: list[onnx.NodeProto]) -> None:
        """Put nodes in front of all others."""
        behind = list(self._graph.node)
        del self._graph.node[:]
        self._graph.node.extend([*nodes, *behind])


def _conversion(mode: str | None, channels: int, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """(matrix [C, C], bias [C]): colours = YUV · matrix + bias, of 0..255."""
    if mode in {None, "skip"}:
        return np.eye(channels), np.zeros(channels)
    if mode in {"rgb2bgr", "bgr2rgb"} and channels == 3:
        return np.eye(3)[::-1], np.zeros(3)
    found = _MODE.fullmatch(str(mode))
    if found is None or channels != 3:
        allowed = '"yuvbt601full2rgb", "…2bgr", "yuvbt601video2rgb", "…2bgr", "rgb2bgr", "bgr2rgb" or "skip"'
        raise CompileError(must(f"input '{name}'", "mode", allowed, repr(mode)))
    rows = np.asarray(_FULL if found[1] == "full" else _VIDEO, np.float64)
    rows = rows if found[2] == "rgb" else rows[::-1]
    black = np.asarray([0.0 if found[1] == "full" else 16.0, 128.0, 128.0])
    return rows.T, -(rows @ black)


def _planes(old: str, mode: str, constant: Any, *, signed: bool) -> list[onnx.NodeProto]:
    """Nodes from the planes to the picture [N, H, W, C] in float, which a Cast behind it takes as it is."""
    made = "float" if not signed else "bytes"
    last = [f"{old}/y", f"{old}/wide"] if mode == "nv12" else [f"{old}/y"]
    nodes = [helper.make_node("Cast", [f"{old}_y"], [f"{old}/y"], to=onnx.TensorProto.FLOAT)]
    if mode == "nv12":
        scales = constant("twice", np.asarray([1.0, 2.0, 2.0, 1.0]))
        nodes += [
            helper.make_node("Cast", [f"{old}_uv"], [f"{old}/uv"], to=onnx.TensorProto.FLOAT),
            helper.make_node(
                "Resize",
                [f"{old}/uv", "", scales],
                [f"{old}/wide"],
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            ),
        ]
    joined = f"{old}/{made}" if signed else old
    nodes.append(helper.make_node("Concat", last, [joined], axis=3))
    if signed:
        nodes.append(helper.make_node("Sub", [joined, constant("half", np.asarray(128.0))], [old]))
    for node in nodes:
        node.name = f"{node.output[0]}/{node.op_type}"
    return nodes
