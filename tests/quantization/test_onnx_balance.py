"""Facts about a Concat that a product reads: its operands get ranges alike, the weights make up for it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest

from openbpu.arch.dtypes import DType
from openbpu.compiler import compile as build
from openbpu.evaluation.analysis import analyze
from openbpu.quantization.onnx import Choice, quantize
from openbpu.quantization.onnx.judge import run_all
from quantization.float_models import float_model, noise, samples

LARGE, SMALL = 100.0, 0.3
ROWS = np.array([LARGE] * 4 + [SMALL] * 4, np.float32)


def weights(*shape: int, axis: int, seed: int = 3) -> Any:
    """Weights whose rows of the small operand count as much as the others."""
    across = [1] * len(shape)
    across[axis] = -1
    return noise(*shape, seed=seed) / ROWS.reshape(across)


CONSTS: dict[str, Any] = {
    "wa": LARGE * noise(4, 3, 1, 1),
    "wb": SMALL * noise(4, 3, 1, 1, seed=1),
    "gate": noise(8, 3, 1, 1, seed=2),
    "conv": weights(4, 8, 3, 3, axis=1),
    "conv2": weights(4, 8, 3, 3, axis=1, seed=5),
    "rows": weights(8, 5, axis=0),
    "deep": weights(8, 1, 3, 3, axis=0),
    "gain": (1 / ROWS).reshape(1, 8, 1, 1),
    "next": noise(3, 4, 1, 1, seed=6),
    "next8": noise(3, 8, 1, 1, seed=7),
    "next5": noise(5, 3, seed=8),
    "tokens": np.array([0, 8, -1]),
    "flat": np.repeat(weights(8, 5, axis=0, seed=9), 64, 0),
    "line": np.array([1, 512]),
}
HEAD = "a = Conv(x, wa) b = Conv(x, wb) c = Concat <axis = 1> (a, b)"
READ = {
    "a convolution": "m = Conv(c, conv) n = Relu(m) y = Conv(n, next)",
    "two convolutions": "m = Conv(c, conv) k = Conv(c, conv2) n = Add(m, k) y = Conv(n, next)",
    "behind a clamp and a pool": "r = Relu(c) p = MaxPool <kernel_shape = [2, 2]> (r) y = Conv(p, conv)",
    "behind a mean": "g = GlobalAveragePool(c) f = Flatten(g) m = MatMul(f, rows) y = MatMul(m, next5)",
    "as tokens": """r = Reshape(c, tokens) t = Transpose <perm = [0, 2, 1]> (r) m = MatMul(t, rows)
                    y = MatMul(m, next5)""",
    "flattened": "r = Reshape(c, line) m = MatMul(r, flat) y = MatMul(m, next5)",
    "depthwise": "m = Conv <group = 8> (c, deep) n = Relu(m) y = Conv(n, next8)",
    "times a constant": "m = Mul(c, gain) s = Sigmoid(m) y = Conv(s, next8)",
    "times a gate": "s = Sigmoid(x0) m = Mul(c, s) y = Conv(m, conv)",
}
TYPES = {"int8": {"tail": DType.INT8}, "the usual": {}, "int16": {"activation": DType.INT16}}


def made(body: str, **options: Any) -> tuple[Any, Any, Any]:
    gate = " x0 = Conv(x, gate)" if "x0" in body else ""
    words = set(re.findall(r"\w+", HEAD + gate + body))
    consts = {name: value for name, value in CONSTS.items() if name in words}
    model = float_model(f"(float[1,3,8,8] x) => (float y) {{ {HEAD}{gate} {body} }}", consts)
    told: list[Choice] = []
    quantized = quantize(model, samples(model, 6), told=told.append, **options)
    onnx.checker.check_model(quantized, full_check=True)
    return model, quantized, told[0].findings


def closeness(model: Any, quantized: Any) -> float:
    feeds = [{"x": x} for x in samples(model, 6)["x"]]
    a, b = (np.concatenate([r["y"].ravel() for r in run_all(m, ["y"], feeds)]) for m in (model, quantized))
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("name", READ)
def test_a_concat_that_a_product_reads_keeps_both_operands(name: str, types: str) -> None:
    model, quantized, found = made(READ[name], **TYPES[types])
    assert [(f.kind, f.node) for f in found] == [("balanced", "Concat_c")]
    assert closeness(model, quantized) > 0.999


def test_what_is_scaled_has_a_name_of_its_own_and_runs_on_the_bpu() -> None:
    _, quantized, _ = made(READ["a convolution"])
    (concat,) = (node for node in quantized.graph.node if node.op_type == "Concat")
    assert (concat.name, concat.output[0]) == ("Concat_c", "c_balanced")
    assert {row.on for row in build(quantized, march="nash-e").placement} == {"BPU"}


KEPT = {
    "the result is an output": "y = Relu(c)",
    "two ways that meet again": "r = Relu(c) l = LeakyRelu(c) m = Mul(r, l) y = Conv(m, conv)",
    "curved on the way": "t = Tanh(c) y = Conv(t, next8)",
}


BESIDE = {
    "an output": ("y = Conv(c, conv)", "float y, float c"),
    "an output behind a clamp": ("r = Relu(c) y = Conv(r, conv)", "float y, float r"),
    "an output in front of a clamp": ("r = Relu(c) y = Conv(r, conv)", "float y, float c"),
    "a function": ("y = Conv(c, conv) s = Sigmoid(c) z = Conv(s, next8)", "float y, float z"),
    "a second product on another way": (
        "y = Conv(c, conv) r = Relu(c) z = Conv(r, conv2) s = Sigmoid(r) u = Conv(s, next8)",
        "float y, float z, float u",
    ),
}


@pytest.mark.parametrize("name", BESIDE)
def test_products_read_a_concat_of_like_ranges_whatever_else_reads_it(name: str) -> None:
    body, outputs = BESIDE[name]
    words = set(re.findall(r"\w+", HEAD + body))
    consts = {key: value for key, value in CONSTS.items() if key in words}
    model = float_model(f"(float[1,3,8,8] x) => ({outputs}) {{ {HEAD} {body} }}", consts)
    told: list[Choice] = []
    quantized = quantize(model, samples(model, 6), told=told.append)
    onnx.checker.check_model(quantized, full_check=True)
    assert ("balanced", "Concat_c") in {(f.kind, f.node) for f in told[0].findings}
    assert len({node.name for node in quantized.graph.node}) == len(quantized.graph.node)
    feeds, names = [{"x": x} for x in samples(model, 6)["x"]], [v.name for v in model.graph.output]
    ours, wanted = (run_all(m, names, feeds) for m in (quantized, model))
    for output in names:
        small = slice(4, None) if output in "cr" else slice(None)  # channels that one scale would swallow
        a, b = (np.concatenate([r[output][:, small].ravel() for r in runs]) for runs in (ours, wanted))
        assert a @ b / np.sqrt((a @ a) * (b @ b)) > 0.999, output
    assert {row.on for row in build(quantized, march="nash-e").placement} == {"BPU"}


@pytest.mark.parametrize("name", KEPT)
def test_a_concat_that_not_only_products_read_is_left_as_it_is(name: str) -> None:
    found = made(KEPT[name], tail=DType.INT8)[2]
    assert "balanced" not in {f.kind for f in found}


def test_operands_of_like_ranges_are_left_as_they_are() -> None:
    model = float_model(
        """(float[1,3,8,8] x) => (float y) { a = Conv(x, w) b = Conv(x, v)
           c = Concat <axis = 1> (a, b) y = Conv(c, z) }""",
        {"w": noise(4, 3, 1, 1), "v": noise(4, 3, 1, 1, seed=1), "z": noise(4, 8, 1, 1, seed=2)},
    )
    quantized = quantize(model, samples(model, 2))
    assert "Mul" not in {node.op_type for node in quantized.graph.node}
    assert any("c" in node.output for node in quantized.graph.node)


def test_a_product_that_takes_int8_alone_is_named_and_nothing_is_widened_for_it() -> None:
    text = f"""(float[1,3,8,8] x) => (float y) {{ {HEAD} r = Reshape(c, tokens) q0 = Conv(x, wq)
               q = Reshape(q0, tokens) t = Transpose <perm = [0, 2, 1]> (q) m = MatMul(t, r)
               k = MatMul(t, r) y = Add(m, k) }}"""
    consts = {
        "wa": CONSTS["wa"],
        "wb": CONSTS["wb"],
        "wq": noise(8, 3, 1, 1, seed=4),
        "tokens": CONSTS["tokens"],
    }
    model = float_model(text, consts)
    told: list[Choice] = []
    quantize(model, samples(model, 2), told=told.append)
    (found,) = told[0].findings
    assert found.kind == "swallowed"
    assert "MatMul 'MatMul_m' takes nothing but int8 there" in found.text


@pytest.mark.parametrize("behind", ["y = Sigmoid(c)", "y = Conv(c, next)"])
def test_a_summand_that_an_accumulator_takes_in_is_said_too(behind: str) -> None:
    head = HEAD.replace("c = Concat <axis = 1> (a, b)", "c = Add(a, b)")
    consts = {name: CONSTS[name] for name in ("wa", "wb", "next") if name in head + behind}
    model = float_model(f"(float[1,3,8,8] x) => (float y) {{ {head} {behind} }}", consts)
    told: list[Choice] = []
    quantize(model, samples(model, 2), tail=DType.INT8, told=told.append)
    (found,) = told[0].findings
    assert (found.kind, found.tensor, found.node) == ("swallowed", "b", "Add_c")


SECOND = {
    "in what is summed up": "q = Reshape(q0, tokens) t = Transpose <perm = [0, 2, 1]> (q) m = MatMul(t, r)",
    "side by side": "q = Reshape(q0, tokens) s = Transpose <perm = [0, 2, 1]> (r) m = MatMul(q, s)",
    "behind a clamp": "p = Relu(r) q = Reshape(q0, tokens) t = Transpose <perm = [0, 2, 1]> (q) "
    "m = MatMul(t, p)",
}


@pytest.mark.parametrize("name", SECOND)
def test_a_product_is_computed_of_each_part_of_its_second_operand(name: str) -> None:
    """The first operand makes up for the ranges of the parts."""
    text = f"""(float[1,3,8,8] x) => (float y) {{ {HEAD} r = Reshape(c, tokens) q0 = Conv(x, wq)
               {SECOND[name]} y = Relu(m) }}"""
    consts = {"wa": CONSTS["wa"], "wb": CONSTS["wb"], "wq": weights(8, 3, 1, 1, axis=0, seed=2)}
    model = float_model(text, consts | {"tokens": CONSTS["tokens"]})
    told: list[Choice] = []
    quantized = quantize(model, samples(model, 6), told=told.append)
    onnx.checker.check_model(quantized, full_check=True)
    (found,) = [f for f in told[0].findings if f.kind == "apart"]
    assert (found.tensor, found.node) == ("b", "MatMul_m")
    assert "computed of each part of 'c' on its own: one int8 scale of 'c' would swallow 'b'" in found.text
    assert closeness(model, quantized) > 0.999
    assert sum(node.op_type == "MatMul" for node in quantized.graph.node) == 2
    assert {row.on for row in build(quantized, march="nash-e").placement} == {"BPU"}


def test_analysis_compares_nothing_that_is_scaled() -> None:
    model, quantized, _ = made(READ["a convolution"])
    rows = analyze(model, quantized, samples(model, 3)).rows
    assert {row.tensor for row in rows}.isdisjoint({"c", "b"})
    assert {"n", "y"} <= {row.tensor for row in rows}
    assert all(row.alone.cosine > 0.999 for row in rows)
