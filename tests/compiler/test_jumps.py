"""Functions that jump, or end, decide as the graph's float32 does: 10 · 0.7 is 7, and 127 · (1/127) is 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from compiler.written import model_of
from openbpu.arch.numerics import chains
from openbpu.arch.numerics.functions import POINTWISE
from openbpu.compiler import compile as compile_model
from openbpu.evaluation.reference import evaluate, singles
from openbpu.runtime import Session
from witness import ort

Array = np.ndarray[Any, Any]
SCALES = (0.1, 0.7, 0.05, 0.3, 0.35, 1 / 127)
JUMPS: dict[str, dict[str, float]] = {"Floor": {}, "Ceil": {}, "Round": {}}
EDGES = ("Acos", "Asin")
COMPARISONS = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
TURNS = {"ThresholdedRelu": {"alpha": 0.7}, "Shrink": {"lambd": 0.7}}


def outputs(
    op: str,
    scale: float,
    step: float,
    codes: Array,
    march: str = "nash-e",
    attrs: Any = None,
    middle: Any = None,
) -> tuple[Array, Array, Array]:
    """The output on the march, on ONNX Runtime and in the float64 reference, for every code.

    middle: nodes from `xf` to `r` instead of one `op`; `c` is 0.7.
    """
    pair = ("QuantizeLinear", "DequantizeLinear")
    ends = [("x", "xq", "xf", "s"), ("r", "yq", "y", "t")]
    first, last = (
        [helper.make_node(pair[0], [a, s, "z"], [b]), helper.make_node(pair[1], [b, s, "z"], [c])]
        for a, b, c, s in ends
    )
    constants: dict[str, Array] = {
        "s": np.array(scale, np.float32),
        "t": np.array(step, np.float32),
        "z": np.zeros((), codes.dtype),
        **({"c": np.array(0.7, np.float32)} if middle else {}),
    }
    nodes = [*first, *(middle or [helper.make_node(op, ["xf"], ["r"], **(attrs or {}))]), *last]
    model = model_of(nodes, codes.shape, {"y": None}, constants, 21, 10)
    x = codes.astype(np.float32) * np.float32(scale)
    (found,) = Session(compile_model(model, march=march)).run({"x": x}).outputs.values()
    (wanted,) = ort.run(model, {"x": x}).values()
    return found, wanted, evaluate(model, {"x": x}).outputs["y"].astype(np.float32)


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
@pytest.mark.parametrize("op", JUMPS)
def test_no_code_lands_on_the_other_side_of_a_whole_number(op: str, march: str) -> None:
    codes = np.arange(-128, 128, dtype=np.int8)[None]
    for scale in SCALES:
        found, wanted, reference = outputs(op, scale, 1.0, codes, march)
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(found, reference)


@pytest.mark.parametrize("op", JUMPS)
def test_nor_one_of_int16(op: str) -> None:
    codes = np.arange(-32768, 32768, dtype=np.int16)[None]
    for scale in (0.0007, 0.0001, 1 / 32767):
        found, wanted, reference = outputs(op, scale, 1 / 1024, codes)
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(found, reference)


@pytest.mark.parametrize("op", TURNS)
def test_nor_one_at_a_threshold(op: str) -> None:
    """The step lies so that no result is beside a tie; a jump is many of them."""
    codes = np.arange(-128, 128, dtype=np.int8)[None]
    for scale in (0.1, 0.7, 0.35, 0.07):
        found, wanted, reference = outputs(op, scale, 0.0137, codes, attrs=TURNS[op])
        np.testing.assert_allclose(found, wanted, atol=0.0138)
        np.testing.assert_allclose(found, reference, atol=0.0138)


def one_way_and_back(op: str) -> list[Any]:
    """A comparison with 0.7, a remainder of it, or a Cast to integers."""
    if op == "Mod":
        return [helper.make_node("Mod", ["xf", "c"], ["r"], fmod=1)]
    if op == "Cast":
        there = helper.make_node("Cast", ["xf"], ["b"], to=TensorProto.INT32)
    else:
        there = helper.make_node(op, ["xf", "c"], ["b"])
    return [there, helper.make_node("Cast", ["b"], ["r"], to=1)]


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
@pytest.mark.parametrize("op", [*COMPARISONS, "Mod", "Cast"])
def test_nor_one_at_an_equality(op: str, march: str) -> None:
    codes = np.arange(-128, 128, dtype=np.int8)[None]
    for scale in SCALES:
        found, wanted, reference = outputs(op, scale, 0.0137, codes, march, middle=one_way_and_back(op))
        np.testing.assert_allclose(found, wanted, atol=0.0138)
        np.testing.assert_allclose(found, reference, atol=0.0138)


def chain(*steps: tuple[str, str]) -> list[Any]:
    """Operators behind one another, each with a constant or alone, from `xf` to `r`."""
    names = ["xf", *(f"m{i}" for i in range(len(steps) - 1)), "r"]
    return [
        helper.make_node(op, [names[i], *([c] if c else [])], [names[i + 1]])
        for i, (op, c) in enumerate(steps)
    ]


THRESHOLD = helper.make_node("ThresholdedRelu", ["m0"], ["r"], alpha=0.7)
CHAINS = {
    "quotient": chain(("Div", "c"), ("Floor", "")),
    "product": chain(("Mul", "c"), ("Ceil", "")),
    "affine": chain(("Div", "c"), ("Add", "c"), ("Sub", "c"), ("Floor", "")),
    "root": chain(("Mul", "c"), ("Abs", ""), ("Sqrt", ""), ("Ceil", "")),
    "sign": chain(("Sub", "c"), ("Sign", "")),
    "quantizer": chain(("Div", "c"), ("Round", ""), ("Mul", "c")),
    "fraction": [*chain(("Div", "c"), ("Floor", ""))[:1],
                 helper.make_node("Floor", ["m0"], ["f"]), helper.make_node("Sub", ["m0", "f"], ["r"])],
    "compared": [helper.make_node("Mul", ["xf", "c"], ["m"]), helper.make_node("Less", ["m", "c"], ["b"]),
                 helper.make_node("Cast", ["b"], ["r"], to=1)],
    "threshold": [*chain(("Mul", "c"), ("Abs", ""))[:1], THRESHOLD],
}  # fmt: skip


@pytest.mark.parametrize("march", ["nash-e", "bayes-e"])
@pytest.mark.parametrize("name", CHAINS)
def test_the_roundings_in_front_of_a_jump_are_those_of_the_graph(name: str, march: str) -> None:
    codes = np.arange(-128, 128, dtype=np.int8)[None]
    for scale in (0.1, 0.7, 0.05, 0.35, 1 / 127, 0.07):
        found, wanted, reference = outputs(name, scale, 0.0137, codes, march, middle=CHAINS[name])
        np.testing.assert_allclose(found, wanted, atol=0.0138)
        np.testing.assert_allclose(found, reference, atol=0.0138)


def test_the_reference_looks_back_through_what_tables_hold() -> None:
    booleans = {"And", "Or", "Xor", "Not", "Cast"}
    assert set(POINTWISE) - booleans <= singles.CHAINED | singles.JUMPS
    assert singles.JUMPS >= chains.JUMPS
    assert singles.TURNS == chains.TURNS


@pytest.mark.parametrize("op", EDGES)
def test_the_end_of_a_domain_belongs_to_it(op: str) -> None:
    """n · (1/n) is 1 in float32, but a little less or more with the float64 value of the scale."""
    ends = [n for n in range(100, 128) if np.float32(n) * np.float32(1 / n) == 1]
    beyond = [n for n in ends if n * float(np.float32(1 / n)) != 1]
    for n in beyond[:6]:
        found, wanted, reference = outputs(op, 1 / n, 1 / 64, np.array([[n, -n]], np.int8))
        np.testing.assert_allclose(found, wanted, atol=1 / 64)
        np.testing.assert_allclose(found, reference, atol=1 / 64)
