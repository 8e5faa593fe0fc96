"""The small network that the analysis is tried on, and what is done to it and measured by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, numpy_helper

from quantization.float_models import float_model, noise

Array = npt.NDArray[Any]

TEXT = """(float[1, 3, 8, 8] x) => (float[1, 5] y) {
    c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w, b)
    r = Relu (c)
    m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
    d = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (m, v)
    s = Sigmoid (d)
    g = GlobalAveragePool (s)
    f = Flatten (g)
    y = Gemm (f, k)
}"""


def weights() -> dict[str, Array]:
    return {
        "w": noise(8, 3, 3, 3, seed=1),
        "b": noise(8, seed=2),
        "v": noise(6, 8, 3, 3, seed=3),
        "k": noise(6, 5, seed=4),
    }


def named(text: str) -> ModelProto:
    """The network of `text`, whose nodes are called n_ and what they make."""
    model = float_model(text, weights())
    for node in model.graph.node:
        node.name = f"n_{node.output[0]}"
    return model


def changed(model: ModelProto, name: str, change: Callable[[Array], Array]) -> ModelProto:
    """A copy with another constant."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.name == name:
            old = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(change(old).astype(old.dtype), name))
            return copy
    raise KeyError(name)


def by_hand(a: Array, b: Array) -> tuple[float, float, float, float]:
    """Cosine, SQNR in dB, mean absolute and largest difference, in float64."""
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    cosine = float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    noise = float(((a - b) ** 2).sum())
    sqnr = 10 * np.log10((a**2).sum() / noise) if noise else np.inf
    return cosine, float(sqnr), float(np.abs(a - b).mean()), float(np.abs(a - b).max())
