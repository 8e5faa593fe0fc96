"""Facts about the run on random data that only asks for the largest magnitudes."""

import numpy as np
import pytest

from openbpu.arch.errors import ModelError
from openbpu.quantization.onnx import quantize_random
from openbpu.quantization.onnx.engine import run_once
from openbpu.quantization.onnx.net import SMALL, assemble
from openbpu.quantization.onnx.opset import OPSET_PER_CHANNEL
from openbpu.quantization.onnx.peaks import peaks
from openbpu.quantization.onnx.prepare import prepare
from openbpu.quantization.onnx.samples import random_feed
from quantization.float_models import float_model, noise


def test_peaks_are_the_largest_magnitudes_of_inputs_and_results() -> None:
    text = "(float[1,16,8,8] x) => (float y) { c = Conv(x, w) r = Relu(c) n = Neg(r) y = Conv(n, w) }"
    weight = noise(16, 16, 3, 3)
    assert weight.size > SMALL  # fed, not stored in the session
    net = prepare(float_model(text, {"w": weight}), OPSET_PER_CHANNEL)
    names = [*net.inputs, *(o for node in net.nodes for o in node.output)]
    feed = random_feed(net.header.graph.input)
    computed = run_once(assemble(net, names[1:]), feed, names[1:])
    expected = {name: np.abs(x).max() for name, x in (feed | computed).items()}
    assert peaks(net, names, feed) == {name: float(top) for name, top in expected.items()}


def test_peaks_of_infinite_values_are_infinite() -> None:
    net = prepare(float_model("(float[1,4] x) => (float y) { l = Log(x) y = Neg(l) }"), OPSET_PER_CHANNEL)
    assert peaks(net, ["y"], {"x": np.zeros((1, 4), np.float32)}) == {"y": np.inf}


def test_shapes_that_contradict_each_other_are_a_model_error() -> None:
    model = float_model("(float[1,4] x) => (float[1,4] w) { y = Tanh(x) }", {"w": noise(3)})
    with pytest.raises(
        ModelError, match=r"model 'g': the shapes must be consistent, not .*; export it again"
    ):
        quantize_random(model)
