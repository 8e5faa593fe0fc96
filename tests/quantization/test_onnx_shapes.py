"""Chains that compute a shape from a shape fold before ranges are taken, in every form exporters write."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from openbpu.quantization.onnx import quantize
from quantization.float_models import float_model, noise, ops, samples
from witness import ort

CONV = "c = Conv <pads = [1, 1, 1, 1]> (x, w)"
W = {"w": noise(4, 3, 3, 3), "one": np.array([1]), "two": np.array([2])}

CHAINS = {
    "whole": ("s = Shape(x) a = Gather(s, two) n = Concat <axis = 0> (one, minus, a)", [1, 24, 5]),
    "start": ("a = Shape <start = 2> (c) n = Concat <axis = 0> (one, four, a)", [1, 4, 5, 6]),
    "start and end": (
        "a = Shape <start = 1, end = 3> (c) n = Concat <axis = 0> (one, a, minus)",
        [1, 4, 5, 6],
    ),
    "negative": ("a = Shape <start = -1> (c) n = Concat <axis = 0> (one, minus, a)", [1, 20, 6]),
    "negative end": ("a = Shape <end = -2> (c) n = Concat <axis = 0> (a, minus)", [1, 4, 30]),
    "beyond": ("a = Shape <start = -9, end = 9> (c) n = Identity(a)", [1, 4, 5, 6]),
    "size": ("t = Size(c) a = Reshape(t, one) n = Concat <axis = 0> (one, a)", [1, 120]),
    "product": ("s = Shape(c) p = ReduceProd <keepdims = 1> (s) n = Concat <axis = 0> (one, p)", [1, 120]),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_of_shapes_folds(name: str) -> None:
    chain, shape = CHAINS[name]
    dims = ",".join(map(str, shape))
    text = f"(float[1,3,5,6] x) => (float[{dims}] y) {{ {CONV} {chain} y = Reshape(c, n) }}"
    model = float_model(text, W | {"minus": np.array([-1]), "four": np.array([4])})
    made = quantize(model, samples(model))
    onnx.checker.check_model(made, full_check=True)
    assert ops(made) == ["Conv", "Reshape"]
    feeds = {"x": noise(1, 3, 5, 6, seed=3)}
    (wanted,), (found,) = ort.run(model, feeds).values(), ort.run(made, feeds).values()
    assert found.shape == wanted.shape == tuple(shape)
    assert np.abs(found - wanted).mean() < 0.02 * np.abs(wanted).mean()
