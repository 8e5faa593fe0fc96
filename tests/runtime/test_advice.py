"""Advice is tested by following it: what is said to help can be done, is gone then, and helped."""

import re
from functools import cache

import numpy as np
import pytest
from onnx import ModelProto

from conftest import Golden
from openbpu.compiler import compile as build
from openbpu.quantization.onnx import quantize_random
from openbpu.runtime import Session
from quantization.float_models import float_model, noise

WEIGHTS = {"w": noise(16, 3, 3, 3), "v": noise(3, 16, 1, 1), "u": noise(16, 16, 1, 1)}
TEXTS = {
    "images": "c = Conv<pads=[1,1,1,1]>(x, w) r = Relu(c) y = Conv(r, v)",
    "two readers": "c = Conv<pads=[1,1,1,1]>(x, w) d = Conv(c, v) e = Sigmoid(x) y = Add(d, e)",
    "read inside": "c = Conv<pads=[1,1,1,1]>(x, w) d = Conv(c, v) z = Sigmoid(d) y = Mul(d, z)",
    "softmax inside": "c = Conv<pads=[1,1,1,1]>(x, w) s = Softmax<axis=1>(c) d = Conv(s, u) y = Relu(d)",
    "reshaped": "f = Flatten(x) y = Sigmoid(f)",
    "erf inside": "c = Conv<pads=[1,1,1,1]>(x, w) s = Hardmax<axis=1>(c) y = Conv(s, u)",
}


def model(name: str) -> ModelProto:
    text = TEXTS[name]
    weights = {n: a for n, a in WEIGHTS.items() if f", {n})" in text}
    outputs = "(float y, float d)" if name == "read inside" else "(float y)"
    return quantize_random(float_model(f"(float[1,3,16,16] x) => {outputs} {{ {text} }}", weights))


@cache
def untouched(name: str, march: str) -> Session:
    return Session(build(model(name), march=march))


def options_in(text: str) -> tuple[str, ...]:
    found = re.search(r"--remove-io ([\w,]+)", text)
    return tuple(found[1].split(",")) if found else ()


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
@pytest.mark.parametrize("name", TEXTS)
def test_ends_that_are_said_to_come_off_do(name: str, march: str) -> None:
    before = untouched(name, march)
    whole = before.latency.bpu_us + before.latency.cpu_us
    for change in before.roofline.changes:
        removed = options_in(change.text)
        if not removed:
            continue
        after = Session(build(model(name), march=march, remove_io=removed))
        saved = whole - after.latency.bpu_us - after.latency.cpu_us
        assert saved > 0.5 * change.gain_us, change
        again = {(c.key, c.layers) for c in after.roofline.changes if options_in(c.text) == removed}
        assert (change.key, change.layers) not in again
    for line in before.roofline.layers:
        assert set(options_in(line.advice.text)) <= {"quantize", "dequantize", "transpose"}


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
@pytest.mark.parametrize("name", TEXTS)
def test_no_node_is_left_with_the_advice_that_was_followed(name: str, march: str) -> None:
    removed = ("quantize", "dequantize", "transpose")
    left = Session(build(model(name), march=march, remove_io=removed))
    assert [p.fix for p in left.placement if "--remove-io quantize,dequantize" in p.fix] == []
    assert [c.text for c in left.roofline.changes if options_in(c.text)] == []
    assert [line.advice.text for line in left.roofline.layers if options_in(line.advice.text)] == []


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
def test_the_layout_of_both_ends_is_one_change(march: str) -> None:
    """Where the march converts on the CPU, too, which lies between the image and the end."""
    changes = untouched("images", march).roofline.changes
    (layout,) = [c for c in changes if c.key == "layout at the ends"]
    assert (layout.layers, options_in(layout.text)) == (2, ("quantize", "dequantize", "transpose"))


def test_a_quantizer_inside_names_the_operator_to_move() -> None:
    rows = untouched("softmax inside", "bayes-e").placement
    inner = [p.fix for p in rows if p.on == "CPU" and "Quantize" in p.op and "bring" in p.fix]
    assert inner
    assert all("Softmax" in fix for fix in inner)
    ends = [p.fix for p in rows if p.on == "CPU" and "--remove-io" in p.fix]
    assert len(ends) == 2


def test_what_was_taken_off_stays_in_the_advice() -> None:
    session = Session(build(model("images"), march="nash-e", remove_io=("quantize",)))
    (advice,) = [c.text for c in session.roofline.changes if c.key == "conversion at the ends"]
    assert options_in(advice) == ("quantize", "dequantize")
    assert np.isfinite(session.latency.bpu_us)


def test_advice_says_what_it_did(golden: Golden) -> None:
    made = {}
    for name in TEXTS:
        for march in ("nash-e", "bayes-e"):
            found = untouched(name, march).roofline
            made[f"{name}, {march}"] = {
                "changes": [[c.key, c.text, c.layers, round(c.gain_us, 4)] for c in found.changes],
                "layers": [[line.advice.key, line.advice.text] for line in found.layers],
                "cpu": [[c.by, c.cure, round(c.gain_us, 4)] for c in found.cpu],
            }
    golden("advice", made)
