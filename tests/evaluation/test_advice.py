"""Advice is tested by applying it: what a remedy says is done by the command, and the node's error falls."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import typer
from onnx import ModelProto

from evaluation.analysed import changed
from openbpu.cli.commands import app
from openbpu.evaluation import Analysis, analyze
from openbpu.evaluation.analysis import Analyzer, NodeError
from openbpu.evaluation.analysis.advice import Around
from openbpu.evaluation.analysis.around import Surroundings
from openbpu.evaluation.analysis.watch import Watch
from quantization.float_models import float_model, noise

Array = npt.NDArray[Any]
Data = dict[str, Array]


@dataclass(frozen=True)
class Case:
    """A float model, quantized with `options` on `data` and looked at on `judged`.

    expected: of `node`, what to change · damage: what is done to the quantized model · reader: whose error is
    looked at where the node's tensor holds other values then
    """

    text: str
    weights: dict[str, Any]
    node: str
    expected: set[str]
    data: Data
    judged: Data = field(default_factory=dict)
    options: tuple[str, ...] = ()
    damage: Callable[[ModelProto], ModelProto] = lambda model: model
    reader: str = ""
    opset: int = 17

    def model(self) -> ModelProto:
        made = float_model(self.text, self.weights, self.opset)
        for node in made.graph.node:
            node.name = f"n_{node.output[0]}"
        return made


COMMAND = typer.main.get_command(app)


def quantized(model: ModelProto, data: Data, options: list[str], folder: Path) -> ModelProto:
    source, calibration, made = (folder / name for name in ("m.onnx", "c.npz", "q.onnx"))
    onnx.save(model, source)
    np.savez(calibration, allow_pickle=False, **data)
    made.unlink(missing_ok=True)
    files = [str(source), "--calib", str(calibration), "-o", str(made)]
    arguments = ["quantize", *files, "--no-bias-correction", *options]
    COMMAND(arguments, standalone_mode=False)
    return onnx.load(made)


OPTION = re.compile(r"--(?!quant-config)[a-z0-9-]+(?: (?!or\b|makes\b|gives\b)[\w/.*]+(?:,[\w/.*]+)*)?")
CONFIG = re.compile(r"--quant-config with (.*\})")


def told_options(text: str, folder: Path) -> list[list[str]]:
    """What a remedy names: each option alone, a config as a file; nothing more for "quantize again"."""
    found = [option.split(" ") for option in OPTION.findall(text)]
    for config in CONFIG.findall(text):
        (folder / "types.yaml").write_text(config, encoding="utf-8")
        found.append(["--quant-config", str(folder / "types.yaml")])
    return found or [[]]


def vector(*values: float) -> Array:
    return np.array(values, np.float32)


def far(*shape: int, seed: int = 0) -> Array:
    """Samples of which the last is 30 times as large."""
    sizes = vector(*[1] * (shape[0] - 1), 30)
    return noise(*shape, seed=seed) * sizes.reshape(-1, *[1] * (len(shape) - 1))


def per_tensor(model: ModelProto, name: str, w: Array) -> ModelProto:
    """The model with one scale for these weights."""
    step = np.asarray(np.abs(w).max() / 127, np.float32)
    made = changed(model, f"{name}_quantized", lambda _: np.rint(w / step))
    made = changed(made, f"{name}_scale", lambda _: step)
    made = changed(made, f"{name}_zero_point", lambda _: np.zeros(()))
    for node in made.graph.node:
        if f"{name}_quantized" in node.input:
            del node.attribute[:]
    return made


PAIR = """(float[1, 3, 8, 8] x) => (float[1, 4, 8, 8] y) {
    c = Conv (x, w, b) r = Relu (c) y = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (r, v) }"""
W = {"w": noise(6, 3, 1, 1, seed=1), "b": noise(6, seed=2), "v": noise(4, 6, 3, 3, seed=3)}
IMAGES = {"x": np.abs(noise(8, 1, 3, 8, 8))}
LOUD = {  # one channel is small, the weights that read it are large
    "w": W["w"] * vector(0.001, 1, 1, 1, 1, 1).reshape(6, 1, 1, 1),
    "b": W["b"] * 0,
    "v": W["v"] * vector(60, 1, 1, 1, 1, 1).reshape(1, 6, 1, 1),
}
LOUD_TURNED = {**LOUD, "v": LOUD["v"].transpose(1, 0, 2, 3).copy()}
TAILS = noise(9, 1, 3, 8, 8) ** 5
RARE = {**W, "w": W["w"].copy()}
RARE["w"][5] = 1500 * np.abs(W["w"][5])
RARE["b"] = W["b"].copy()
RARE["b"][5] = -np.quantile(np.einsum("nbchw,c->nbhw", IMAGES["x"], RARE["w"][5, :, 0, 0]), 0.998)
ROWS = "(float[1, 4, 6] x, float[1, 6, 4] z) => (float[1, 4, 4] y)"
TALL = {"x": noise(8, 1, 4, 6), "z": far(8, 1, 6, 4)}
SMALL = {"x": noise(8, 1, 4, 6, seed=3), "z": noise(8, 1, 6, 4, seed=4)}
BESIDE = {"x": noise(8, 1, 4, 6) * 200, "z": noise(8, 1, 4, 2)}
STACK = noise(2, 6, 4, seed=5) * vector(60, 1, 1, 1, 1, 1).reshape(1, 6, 1)
DEAD = noise(8, 2, 5, 6) * vector(0.001, 1, 1, 1, 1, 1)
NARROW = noise(4, 6, 1, 1, seed=5) * vector(1, 1, 1, 0.004).reshape(4, 1, 1, 1)
HIDDEN = np.where(np.tri(8, dtype=np.float32) > 0, 0, -1e4).astype(np.float32)
SHORT = ("--int8-tail",)

CASES = {
    "a method cuts too much": Case(
        PAIR, W, "n_r", {"widen", "int16"}, {"x": TAILS}, options=("--method", "kl")
    ),
    "calibrated with other samples": Case(
        PAIR, W, "n_r", {"widen", "int16"}, {"x": IMAGES["x"] * 0.2}, judged=IMAGES
    ),
    "an input of other samples": Case(
        PAIR, W, "x", {"widen", "int16"}, {"x": IMAGES["x"] * 0.2}, judged=IMAGES
    ),
    "a range for what is rare": Case(
        PAIR, W, "n_r", {"narrow", "int16"}, {"x": far(9, 1, 3, 8, 8)}, judged=IMAGES
    ),
    "an output of the model": Case(
        "(float[1, 4, 6] x) => (float[1, 4, 6] y) { y = Tanh (x) }",
        {},
        "n_y",
        {"narrow", "int16"},
        {"x": noise(8, 1, 4, 6) / 300 + vector(*[0] * 7, 4).reshape(8, 1, 1, 1)},
        judged={"x": noise(8, 1, 4, 6) / 300},
        options=SHORT,
    ),
    "a second operand": Case(
        f"{ROWS} {{ a = Relu (x) e = Relu (z) b = MatMul (a, e) y = Sigmoid (b) }}",
        {}, "n_e", {"narrow", "float"}, TALL, SMALL,
    ),
    "a second operand that others read": Case(
        f"{ROWS[:-1]}, float[1, 6, 4] t) {{ e = Relu (z) b = MatMul (x, e) y = Sigmoid (b) t = Tanh (e) }}",
        {}, "n_e", {"narrow", "int16"}, TALL, SMALL,
    ),
    "a divisor": Case(
        ROWS.replace("6, 4", "4, 6").replace("4, 4", "4, 6")
        + "{ a = Relu (x) e = Relu (z) f = Add (e, one) d = Div (a, f) y = Sigmoid (d) }",
        {"one": np.array(0.1, np.float32)},
        "n_f",
        {"narrow", "float"},
        {"x": TALL["x"], "z": far(8, 1, 4, 6)},
        {"x": SMALL["x"], "z": noise(8, 1, 4, 6, seed=4)},
    ),
    "a unit of several nodes": Case(
        PAIR.replace("y = Conv", "s = Sigmoid (r) m = Mul (r, s) y = Conv").replace("(r, v)", "(m, v)"),
        W, "n_r", {"narrow", "int16"}, {"x": far(9, 1, 3, 8, 8)}, judged=IMAGES,
    ),
    "channels that differ": Case(PAIR, RARE, "n_r", {"equalize", "int16"}, IMAGES, reader="n_y"),
    "channels that equalisation does not reach": Case(
        PAIR.replace("y = Conv", "s = Sigmoid (r) u = Add (r, s) y = Conv").replace("(r, v)", "(u, v)"),
        RARE, "n_u", {"int16"}, IMAGES,
    ),
    "weights of other sizes": Case(PAIR, LOUD, "n_y", {"correct"}, IMAGES),
    "weights of a transposed convolution": Case(
        PAIR.replace("y = Conv ", "y = ConvTranspose "), LOUD_TURNED, "n_y", {"correct"}, IMAGES
    ),
    "weights that equalisation does not reach": Case(
        "(float[1, 5, 6] x) => (float[1, 5, 4] y, float[1, 5, 6] t) { t = Tanh (x) y = MatMul (x, v) }",
        {"v": STACK[0]},
        "n_y",
        {"correct"},
        {"x": (noise(8, 1, 5, 6) / 4 + noise(8, 1, 5, 1, seed=1)) * vector(0.001, 1, 1, 1, 1, 1)},
    ),
    "weights that no correction wins back": Case(
        "(float[1, 5, 6] x) => (float[1, 5, 4] y, float[1, 5, 6] t) { t = Tanh (x) y = MatMul (x, v) }",
        {"v": STACK[0]}, "n_y", {"float"}, {"x": DEAD[:, :1]},
    ),
    "a matrix for each of two": Case(
        "(float[2, 5, 6] x) => (float[2, 5, 4] y, float[2, 5, 6] t) { t = Tanh (x) y = MatMul (x, v) }",
        {"v": STACK}, "n_y", {"float"}, {"x": DEAD},
    ),
    "weights with one scale": Case(
        "(float[1, 6, 4, 4] x) => (float[1, 4, 4, 4] y) { c = Conv (x, w) y = Relu (c) }",
        {"w": NARROW * vector(0.02, 1, 1, 1, 1, 30).reshape(1, 6, 1, 1)},
        "n_c",
        {"per_channel"},
        {"x": noise(8, 1, 6, 4, 4) * vector(1, 1, 1, 1, 1, 0.001).reshape(6, 1, 1)},
        damage=lambda q: per_tensor(
            q, "w", NARROW * vector(0.02, 1, 1, 1, 1, 30).reshape(1, 6, 1, 1)
        ),
    ),
    "weights of another model": Case(
        PAIR, W, "n_y", {"weights"}, IMAGES, damage=lambda q: changed(q, "v_quantized", lambda v: v[::-1])
    ),
    "a mask in a range": Case(
        "(float[1, 8, 8] q, float[1, 8, 8] k) => (float[1, 8, 8] y) "
        "{ s = MatMul (q, k) a = Add (s, m) y = Softmax <axis = -1> (a) }",
        {"m": HIDDEN},
        "n_a",
        {"mask", "narrow", "int16"},
        {"q": noise(8, 1, 8, 8), "k": noise(8, 1, 8, 8, seed=1)},
        options=SHORT,
        damage=lambda q: changed(q, "a_scale", lambda s: np.asarray(1e4 / 127)),
    ),
    "inside of what is written out": Case(
        "(float[1, 8, 12] x) => (float[1, 8, 12] y) { a = Relu (x) y = LogSoftmax <axis = -1> (a) }",
        {},
        "n_y",
        {"int16"},
        {"x": far(8, 1, 8, 12) * 4},
        judged={"x": noise(8, 1, 8, 12)},
        options=SHORT,
    ),
    "an operand beside a larger one": Case(
        "(float[1, 4, 6] x, float[1, 4, 2] z) => (float[1, 4, 8] y) "
        "{ a = Relu (x) e = Sigmoid (z) b = Concat <axis = 2> (a, e) y = Sigmoid (b) }",
        {}, "n_b", {"int16"}, BESIDE, options=SHORT,
    ),
    "a summand beside a larger one": Case(
        "(float[1, 4, 6] x, float[1, 4, 2] z, float[1, 4, 6] u) => (float[1, 4, 6] y) "
        "{ a = Relu (x) e = Sigmoid (u) b = Add (a, e) t = Tanh (z) y = Sigmoid (b) }",
        {}, "n_b", {"int16"}, {**BESIDE, "u": noise(8, 1, 4, 6)}, options=SHORT,
    ),
}  # fmt: skip


DAMAGED = {"a mask in a range", "weights with one scale", "weights of another model"}
"""Quantized again they are better than with the range that there is."""


def row_of(found: Analysis, node: str) -> NodeError:
    (row,) = [row for row in found.rows if row.node == node]
    return row


SLOW = {
    *("an input of other samples", "a second operand that others read", "a unit of several nodes"),
    *("channels that equalisation does not reach", "weights of a transposed convolution", "a divisor"),
    *("weights that equalisation does not reach", "a matrix for each of two", "weights of another model"),
    *(
        "a product that is computed in parts",
        "a summand beside a larger one",
        "calibrated with other samples",
    ),
}
"""Siblings of others here."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in CASES]
)
def test_a_remedy_that_is_applied_makes_the_error_of_its_node_smaller(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    model, judged = case.model(), case.judged or case.data
    q = case.damage(quantized(model, case.data, list(case.options), tmp_path))
    before = analyze(model, q, judged)
    row, reader = row_of(before, case.node), row_of(before, case.reader or case.node).so_far.sqnr
    assert {remedy.change for remedy in row.remedies} == case.expected, row
    for remedy in row.remedies:
        data = judged if "samples like these" in remedy.text else case.data
        for options in told_options(remedy.text, tmp_path):
            made = quantized(model, data, [*case.options, *options], tmp_path)
            found = analyze(model, made, judged)
            if all(other.node != case.node for other in found.rows):  # scaled: no more what it was
                assert row_of(found, case.reader).so_far.sqnr > reader + 0.5, (remedy, options)
                continue
            then = row_of(found, case.node).alone.sqnr
            assert then > row.alone.sqnr + 0.5, (remedy, options)
            if remedy.sqnr is not None:
                off = 1.0 if remedy.sqnr < 60 else 4.0  # of steps so fine, float32 and ties are a part
                assert then > remedy.sqnr - off, (remedy, options)
                assert then < remedy.sqnr + off or name in DAMAGED, (remedy, options)


def rounded(name: str, raw: str) -> str:
    """A pair in int8."""
    return f"{name}_q = QuantizeLinear ({raw}, s, z) {name} = DequantizeLinear ({name}_q, s, z)"


INNER = f"i = Relu (xd) {rounded('id', 'i')}"
SECOND = f"j = Neg (xd) {rounded('jd', 'j')}"


def around(tensor: str, model: ModelProto, q: ModelProto, tops: dict[str, float]) -> Around:
    """What stands around what makes a tensor; tops: the largest values of others."""
    analyzer = Analyzer(model, q)
    match, _, _ = analyzer.matched(
        {i.name: noise(*(d.dim_value for d in i.type.tensor_type.shape.dim)) for i in model.graph.input}
    )
    (unit,) = (u for u in match.units if u.tensor == tensor)
    weights: Any = SimpleNamespace(ranges={}, foreign={}, corrections={})
    return Surroundings(analyzer, match, weights, tops).of(Watch(unit, pictures=False), [])


@pytest.mark.parametrize(
    ("inside", "may"),
    [
        ("y = Sigmoid (xd)", True),  # no pair
        (f"{INNER} y = MatMul (xd, id)", False),  # the second of two computed operands is int8
        (f"{INNER} y = MatMul (id, xd)", True),
        (f"{INNER} y = MatMul (id, id)", False),
        (f"{INNER} {SECOND} y = MatMul (jd, id)", True),  # one of both
        (f"{INNER} k = MatMul (xd, id) l = Sigmoid (id) y = Add (k, l)", True),
        ("wd = DequantizeLinear (w, s, z) y = MatMul (xd, wd)", True),  # weights are no pair
        (f"{INNER} wd = DequantizeLinear (w, s, z) k = MatMul (xd, id) y = MatMul (k, wd)", False),
        (f"{INNER} y = MatMul (xd, id) {rounded('yd', 'y')} t = MatMul (yd, xd)", False),  # t is outside
        (f"y = Sigmoid (xd) {rounded('yd', 'y')} t = MatMul (xd, yd)", True),
    ],
)
def test_a_pair_inside_may_be_int16_where_a_reader_takes_it(inside: str, may: bool) -> None:
    ends = "(float[1, 4, 4] x) => (float[1, 4, 4] y, float[1, 4, 4] t)"
    arrays: Data = {"s": np.array(0.1, np.float32), "z": np.array(0, np.int8), "w": np.ones((4, 4), np.int8)}
    text = f"{ends} {{ {rounded('xd', 'x')} {inside} }}"
    text = text if " t = " in text else text.replace("}", "t = Tanh (y) }")
    model = float_model(f"{ends} {{ y = Sigmoid (x) t = Tanh (y) }}", {})
    assert around("y", model, float_model(text, arrays), {}).within is may


FIRST = f"a = Add (x, u) {rounded('ad', 'a')} y = Sigmoid (ad)"
LAST = f"a = Sigmoid (x) {rounded('ad', 'a')} {rounded('ud', 'u')} y = Add (ad, ud)"


@pytest.mark.parametrize(
    ("nodes", "tensor", "tops", "swallowed"),
    [
        (FIRST, "a", {"x": 0.39, "u": 9}, ("'x' 3.9 steps",)),
        (FIRST, "a", {"x": 0.1, "u": 0.2}, ("'x' 1 steps", "'u' 2 steps")),
        (FIRST, "a", {"x": 0.41, "u": 9}, ()),  # more than four steps
        (FIRST, "a", {"x": 0, "u": 9}, ()),  # nothing is lost
        (LAST, "a", {"x": 0.1, "u": 0.1}, ()),  # no sum
        (LAST, "u", {"a": 0.1, "u": 0.1}, ()),  # an input, which the last node does not make
        (LAST, "y", {"a": 0.1, "u": 0.1}, ()),  # not rounded
    ],
)
def test_operands_of_a_few_steps_of_the_sum_are_swallowed(
    nodes: str, tensor: str, tops: dict[str, float], swallowed: tuple[str, ...]
) -> None:
    ends = "(float[1, 4] x, float[1, 4] u) => (float[1, 4] y)"
    arrays: Data = {"s": np.array(0.1, np.float32), "z": np.array(0, np.int8)}
    plain = {FIRST: "a = Add (x, u) y = Sigmoid (a)", LAST: "a = Sigmoid (x) y = Add (a, u)"}[nodes]
    model = float_model(f"{ends} {{ {plain} }}")
    assert around(tensor, model, float_model(f"{ends} {{ {nodes} }}", arrays), tops).swallowed == swallowed


def test_a_node_that_quantize_made_is_called_by_what_it_makes(tmp_path: Path) -> None:
    text = (
        "(float[1, 4, 6] x, float[1, 4, 2] z, float[1, 4, 8] q) => (float[1, 4, 4] y) "
        "{ a = Relu (x) e = Sigmoid (z) b = Concat <axis = 2> (a, e) t = Transpose <perm = [0, 2, 1]> (b) "
        "p = Relu (q) m = MatMul (p, t) y = Relu (m) }"
    )
    q: Array = np.abs(far(8, 1, 4, 8)) * vector(*[0.002] * 6, 1, 1)
    case = Case(text, {}, "n_m_Add", {"int16"}, {**BESIDE, "q": q})
    model = case.model()
    judged: Data = {**BESIDE, "q": np.asarray(q / 30)}
    found = analyze(model, quantized(model, case.data, [], tmp_path), judged)
    (remedy,) = row_of(found, case.node).remedies
    assert "--int16-nodes m)" in remedy.text  # `openbpu quantize` knows no 'n_m_Add'
    quantized(model, case.data, ["--int16-nodes", "m"], tmp_path)
