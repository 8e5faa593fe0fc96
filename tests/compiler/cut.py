"""ONNX Runtime layer by layer: every operator runs on the integers that our program had in front of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from witness import ort

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Steps:
    """How far one quantized tensor lies from ONNX Runtime's, in integer steps."""

    elements: int
    differ: int
    largest: int

    @property
    def share(self) -> float:
        return self.differ / max(self.elements, 1)


def against_onnxruntime(
    model: onnx.ModelProto, inputs: dict[str, Array], observed: dict[str, Array]
) -> dict[str, Steps]:
    """Compare observed quantized tensors with what ONNX Runtime makes of the observed tensors before them."""
    cut = cut_model(model, observed)
    session = ort.session(cut)
    feeds = {
        i.name: inputs.get(i.name, observed.get(i.name.removesuffix("@cut"))) for i in session.get_inputs()
    }
    names = [o.name for o in session.get_outputs()]
    found = {}
    for name, value in zip(names, session.run(names, feeds), strict=True):
        distance = np.abs(np.asarray(value).astype(np.int64) - observed[name].astype(np.int64))
        found[name] = Steps(distance.size, int(np.count_nonzero(distance)), int(distance.max(initial=0)))
    return found


def cut_model(model: onnx.ModelProto, observed: dict[str, Array]) -> onnx.ModelProto:
    """Let readers of an observed tensor read a model input instead, and make the tensor a model output."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    graph = cut.graph
    constants = {t.name for t in graph.initializer}
    kept = [i for i in graph.input if i.name not in constants]
    del graph.input[:]
    del graph.output[:]
    graph.input.extend(kept)
    for name, value in observed.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        graph.input.append(onnx.helper.make_tensor_value_info(f"{name}@cut", kind, value.shape))
        graph.output.append(onnx.helper.make_tensor_value_info(name, kind, None))
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name in observed:
                node.input[i] = f"{name}@cut"
    return cut
