"""Facts about what only says "never" in front of a Softmax: no scale is made of it, what it hides stays 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from openbpu.arch.dtypes import DType
from openbpu.arch.errors import InputError, QuantizationError
from openbpu.compiler import check
from openbpu.quantization.onnx import quantize, quantize_random, quantize_unseen
from openbpu.quantization.onnx.judge import cosines, run_all
from openbpu.quantization.onnx.masks import find_masks, finite_feeds
from openbpu.quantization.onnx.prepare import read
from quantization.float_models import Array, float_model, noise, pair_of, samples
from quantization.masks import ADDED, FUTURE, LEAST, PADDED, D, L, attention, causal, data, lengths

F = np.float32
FILLS = (-30.0, -1e4, -1e9, LEAST, -np.inf)


def forms(fill: float) -> dict[str, ModelProto]:
    """Return attention whose mask is written in every way, by name."""
    f, one, off = F(fill), F(1), np.array([0], dtype=F)
    where, keep = "m = Where(past, s, f)", "u = Sub(one, keep) n = Mul(u, f) m = Add(s, n)"
    bias = noise(L, L, seed=5)
    made = {
        "add": attention("m = Add(s, c)", {"c": causal(fill)}),
        "where": attention(where, {"past": ~FUTURE, "f": f}),
        "where of a tensor": attention("m = Where(a, c, s)", {"a": FUTURE, "c": np.full((L, L), fill, F)}),
        "least of two": attention("m = Min(s, c)", {"c": np.where(FUTURE, fill, -fill).astype(F)}),
        "moved": attention(
            "r = Unsqueeze(s, first) e = Add(c, r) m = Squeeze(e, first)",
            {"c": causal(fill), "first": np.array([0])},
        ),
        "scaled behind": attention("a = Add(s, c) m = Mul(a, h)", {"c": causal(fill), "h": F(0.5)}),
        "with a bias": attention("m = Add(s, c)", {"c": np.where(FUTURE, F(fill), bias)}),
        "beside a bias": attention("a = Add(s, b) m = Add(a, c)", {"c": causal(fill), "b": bias}),
        "chosen of a mask": attention(
            "z = Equal(keep, off) n = Where(z, f, off) m = Add(s, n)", {"f": f, "off": off}, PADDED
        ),
        "input": attention("m = Add(s, mask)", {}, ADDED),
    }
    if np.isfinite(fill):
        made["subtracted"] = attention("m = Sub(s, c)", {"c": -causal(fill)})
        made["computed"] = attention(keep, {"one": one, "f": f}, PADDED)
        made["computed and subtracted"] = attention(keep.replace("Add", "Sub"), {"one": one, "f": -f}, PADDED)
        text = "a = Add(s, c) " + keep.replace("(s, n)", "(a, n)")
        made["two masks"] = attention(text, {"one": one, "f": f, "c": causal(fill)}, PADDED)
    return made


def outcome(model: ModelProto, calibration: dict[str, Array], **options: Any) -> tuple[float, Array, Array]:
    """Return the cosine of y to the float model, and the weights p of float and quantized model."""
    made = quantize(model, calibration, **options)
    onnx.checker.check_model(made, full_check=True)
    feeds = [{name: x[i : i + 1] for name, x in calibration.items()} for i in range(3)]
    want, got = (run_all(m, ["y", "p"], feeds) for m in (model, made))
    close = cosines(["y"], want, got)["y"]
    return close, np.stack([r["p"] for r in want]), np.stack([r["p"] for r in got])


OPTIONS: dict[str, dict[str, Any]] = {
    "int8": {},
    "int16": {"activation": DType.INT16},
    "int8 tail by percentile": {"tail": DType.INT8, "method": "percentile"},
}


@pytest.mark.parametrize(
    ("fill", "options"), [(f, "int8") for f in FILLS] + [(-1e9, option) for option in (*OPTIONS,)[1:]]
)
def test_every_spelling_of_a_mask_keeps_the_values_and_hides_what_it_hides(fill: float, options: str) -> None:
    for name, model in forms(fill).items():
        close, want, got = outcome(model, data(model, fill=fill), **OPTIONS[options])
        assert close > 0.99, name
        assert not got[want < 1e-10].any(), name
        assert (want < 1e-10).any(), name


@pytest.mark.parametrize("fill", FILLS, ids=str)
def test_range_behind_a_mask_reaches_what_an_int8_weight_can_show(fill: float) -> None:
    """Below the largest score of a row: ln 255 for half a step, 1 for what was not calibrated, the rest."""
    small = attention("m = Add(s, c)", {"c": causal(fill)}, size=0.15)
    made = quantize(small, data(small), tail=DType.INT8)
    scores, masked = (float(pair_of(made, name)[0]) * 127.5 for name in ("s", "m"))
    assert scores < 2
    assert 5.5 < masked < 9


def test_bias_of_the_position_that_masks_nothing_keeps_its_values() -> None:
    """Bounded by what a weight can show: −20 steps · 0.5 beside scores in ±3."""
    slope = -0.5 * np.abs(np.arange(L)[None] - np.arange(L)[:, None]).astype(F)
    model = attention("m = Add(s, c)", {"c": slope})
    close, want, got = outcome(model, data(model))
    assert close > 0.999
    assert np.abs(want - got).max() < 0.1


def test_a_mask_that_calibration_never_used_masks_all_the_same() -> None:
    model = attention("u = Sub(one, keep) n = Mul(u, f) m = Add(s, n)", {"one": F(1), "f": F(-1e9)}, PADDED)
    given = data(model)
    made = quantize(model, {**given, "keep": np.ones_like(given["keep"])})
    feed = {name: x[1:2] for name, x in given.items()}
    assert not run_all(made, ["p"], [feed])[0]["p"][..., 4:].any()


@pytest.mark.parametrize("fill", [-np.inf, -1e9])
def test_row_that_is_masked_as_a_whole_is_no_nan_and_takes_no_range(fill: float) -> None:
    mask = causal(fill)
    mask[3] = fill
    model = attention("m = Add(s, c)", {"c": mask})
    made = quantize(model, data(model))
    assert np.isfinite(run_all(made, ["y"], [{"x": data(model)["x"][:1]}])[0]["y"]).all()
    free = attention("m = Add(s, c)", {"c": causal(fill)})
    assert float(pair_of(made, "m")[0]) < 1.3 * float(pair_of(quantize(free, data(free)), "m")[0])


@pytest.mark.parametrize("fill", [-30.0, -1e9, -np.inf])
@pytest.mark.parametrize("body", ["m = Add(s, c)", "m = Where(open, s, f)"])
def test_log_softmax_keeps_the_values_of_what_is_not_masked(fill: float, body: str) -> None:
    mask = np.where(np.arange(8) < 5, 0, fill).astype(F)
    model = float_model(
        f"(float[1,{D}] x) => (float[1,8] y) {{ s = MatMul(x, w) {body} y = LogSoftmax <axis = 1> (m) }}",
        {"w": noise(D, 8), "c": mask, "open": mask == 0, "f": F(fill)},
    )
    given = samples(model, 4)
    made = quantize(model, given)
    feeds = [{"x": x[None]} for x in given["x"].reshape(4, D)]
    want, got = (np.stack([r["y"] for r in run_all(m, ["y"], feeds)]) for m in (model, made))
    assert np.abs(want - got)[..., :5].max() < 0.01 * np.abs(want[..., :5]).max()
    assert got[..., 5:].max() < -10
    assert {row.on for row in check(quantize(model, given), march="nash-e") if row.op == "Gemm"} <= {"BPU"}


def test_infinity_elsewhere_is_refused_by_name() -> None:
    model = float_model(
        "(float[1,4] x) => (float[1,4] y) { y = Add(x, c) }", {"c": np.array([0, -np.inf, 0, 0], F)}
    )
    with pytest.raises(QuantizationError, match=r"'y'.*finite"):
        quantize(model, samples(model))


def test_infinite_data_are_refused_where_they_are_no_mask() -> None:
    model = attention("m = Add(s, mask)", {}, ADDED)
    given = data(model, fill=-np.inf)
    quantize(model, given)
    given["x"] = given["x"].copy()
    given["x"][0, 0, 0] = -np.inf
    with pytest.raises(InputError, match="'x'"):
        quantize(model, given)


KEPT = f"(float[1,{L},{D}] x, KIND[1,1,{L}] keep) => (float[1,{L},{D}] y, float[1,{L},{L}] p)"
CHOSEN = {
    "bool": "n = Where(keep, off, f) m = Add(s, n)",
    "int8": "b = Cast <to = 9> (keep) n = Where(b, off, f) m = Add(s, n)",
    "int64": "b = Cast <to = 9> (keep) n = Where(b, off, f) m = Add(s, n)",
    "float": "u = Sub(one, keep) n = Mul(u, f) m = Add(s, n)",
}


@pytest.mark.parametrize("kind", CHOSEN)
def test_data_that_choose_what_is_masked_stay_as_they_are(kind: str) -> None:
    masks = find_masks(
        read(attention(CHOSEN[kind], {"f": F(-1e9), "off": F(0), "one": F(1)}, KEPT.replace("KIND", kind)))
    )
    keep = lengths(2).astype({"float": "float32"}.get(kind, kind))
    feeds = [{"x": noise(1, L, D), "keep": row[None]} for row in keep]
    made = finite_feeds(feeds, masks)
    assert "keep" in masks.reach
    assert all(
        new["keep"] is old["keep"] and new["x"] is old["x"] for new, old in zip(made, feeds, strict=True)
    )


@pytest.mark.parametrize("value", [0.0, 1e9, -1e9, 1.1e9, -1.1e9, LEAST, np.inf, -np.inf])
def test_only_data_of_masks_are_bounded(value: float) -> None:
    masks = find_masks(read(attention("m = Add(s, mask)", {}, ADDED)))
    feed = {name: np.array([[value, 0.5]], F) for name in ("x", "mask")}
    (made,) = finite_feeds([feed], masks)
    assert made["x"] is feed["x"]
    np.testing.assert_array_equal(made["mask"], np.array([[max(min(value, 1e9), -1e9), 0.5]], F))


@pytest.mark.parametrize("made", [quantize_unseen, quantize_random])
def test_masks_of_infinity_run_on_the_bpu_without_calibration_too(made: Any) -> None:
    model = attention("m = Add(s, c)", {"c": causal(-np.inf)})
    assert {row.on for row in check(made(model), march="nash-e")} == {"BPU"}
