"""Corrections: adaptive rounding never raises a layer's error, bias correction leaves no shift of means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from openbpu.arch.errors import QuantizationError
from openbpu.cli.commands import app
from openbpu.quantization.onnx import Choice, Corrections, quantize
from openbpu.quantization.onnx.corrections.bias import correct_biases, with_biases
from openbpu.quantization.onnx.corrections.choose import split
from openbpu.quantization.onnx.corrections.layers import float_weights, layers
from openbpu.quantization.onnx.corrections.patches import columns
from openbpu.quantization.onnx.corrections.rounding import round_adaptively, round_rows, row_errors
from openbpu.quantization.onnx.corrections.walk import Walk
from openbpu.quantization.onnx.engine import run_once
from openbpu.quantization.onnx.inference import infer
from openbpu.quantization.onnx.net import Net, take_apart
from openbpu.quantization.onnx.prepare import prepare
from quantization.float_models import Array, float_model, noise, stored

SILENT: Any = lambda *_: None  # noqa: E731  # a progress that nobody watches

MIXED = float_model(
    """(float[1,4,9,9] x) => (float[1,6] y, float[1,3,18,18] u) {
        a = Conv <pads=[1,1,1,1], strides=[2,2]> (x, w)
        r = Relu(a)
        d = Conv <group=8, dilations=[2,2], pads=[2,2,2,2]> (r, v, vb)
        g = Conv <group=2> (d, k, kb)
        s = Add(g, r)
        t = ConvTranspose <strides=[4,4], pads=[1,1,1,1]> (s, z)
        p = GlobalAveragePool(s)
        f = Flatten(p)
        m = MatMul(f, e)
        n = Add(m, nb)
        h = Relu(n)
        y = Gemm <transB=1> (h, q)
        u = Identity(t)
    }""",
    {
        "w": noise(8, 4, 3, 3),
        "v": noise(8, 1, 3, 3, seed=1),
        "vb": noise(8, seed=2),
        "k": noise(8, 4, 1, 1, seed=3),
        "kb": noise(8, seed=4),
        "z": noise(8, 3, 4, 4, seed=5),
        "e": noise(8, 12, seed=6),
        "nb": noise(12, seed=7),
        "q": noise(6, 12, seed=8),
    },
)


def feeds(count: int = 8) -> list[dict[str, Array]]:
    return [{"x": np.abs(noise(1, 4, 9, 9, seed=20 + n)) + 0.1} for n in range(count)]


NONE = Corrections(bias_correction=False)


def nets(model: ModelProto = MIXED) -> tuple[Net, Net]:
    """The quantized net, with biases everywhere, and the float net behind it."""
    made = quantize(model, feeds(), corrections=NONE)
    return infer(with_biases(infer(take_apart(made)))), prepare(model, 21)


def test_no_row_is_rounded_worse_than_to_nearest() -> None:
    rng = np.random.default_rng(0)
    for rank, length in (
        (3, 7),
        (90, 70),
        (200, 130),
    ):  # too few samples to tell, more than one block, enough
        x = rng.normal(size=(2, rank, length)) @ rng.normal(size=(length, length))
        second = np.matmul(x.transpose(0, 2, 1), x)
        exact = rng.uniform(-140, 140, size=(2, 5, length))
        nearest = np.clip(np.rint(exact), -128, 127)
        codes = round_rows(exact, nearest, second, (-128, 127))
        before, after = row_errors(nearest - exact, second), row_errors(codes - exact, second)
        assert (after <= before).all()
        assert after.sum() < 0.9 * before.sum()
        inside = np.abs(exact) < 126
        assert (np.abs(codes - exact) < 1 + 1e-9)[inside].all()
        assert codes.min() >= -128
        assert codes.max() <= 127


def test_rows_of_a_product_are_what_its_weights_meet() -> None:
    """Weights times rows is the product itself: strides, dilations, pads and groups included."""
    net = prepare(MIXED, 21)
    wanted = [node for node in net.nodes if node.op_type in {"Conv", "Gemm", "MatMul"}]
    assert len(wanted) == 5
    walk = Walk(net, feeds(2))
    for node in wanted:
        index = net.nodes.index(node)
        walk.advance(index, node.input[0])
        inputs = [tensors[node.input[0]].copy() for tensors in walk.live]
        weight = net.consts[node.input[1]]
        axis = 1 if node.op_type == "MatMul" or (node.op_type == "Gemm" and not node.attribute) else 0
        rows = columns(node, inputs, weight.shape, 10**6)
        assert rows is not None
        flat = np.moveaxis(weight, axis, 0).reshape(len(rows), weight.shape[axis] // len(rows), -1)
        made = np.einsum("grk,gok->rgo", rows, flat).reshape(rows.shape[1], -1)
        walk.advance(index + 1, node.output[0])
        bias = net.consts[node.input[2]] if len(node.input) > 2 else 0.0
        outs = [tensors[node.output[0]] for tensors in walk.live]
        channels = 1 if node.op_type == "Conv" else -1
        real = np.concatenate([np.moveaxis(o, channels, -1).reshape(-1, made.shape[1]) for o in outs]) - bias
        np.testing.assert_allclose(made, real, rtol=1e-4, atol=1e-4)
        thinned = columns(node, inputs, weight.shape, 2)
        assert thinned is not None
        assert thinned.shape[1] <= 2


def test_rounding_lowers_the_error_of_a_layer_and_changes_nothing_but_codes() -> None:
    net, reference = nets()
    made, changed = round_adaptively(net, float_weights(net, reference), feeds(), SILENT)
    found = list(layers(net))
    assert len(found) == 6
    assert changed == 5  # all but the ConvTranspose
    assert made.nodes == net.nodes
    codes = {layer.codes for layer in found}
    for name, array in net.consts.items():
        assert name in codes or (made.consts[name] == array).all()
        assert np.abs(made.consts[name].astype(np.float64) - array).max() <= (1 if name in codes else 0)


def test_bias_correction_leaves_no_shift_of_a_mean() -> None:
    net, reference = nets()
    made, changed = correct_biases(net, reference, feeds(), SILENT)
    assert changed == 6
    twins = [node for node in reference.nodes if node.op_type in {"Conv", "ConvTranspose", "Gemm"}]
    made_by = {node.name: node.output[0] for node in net.nodes}

    def shifts(quantized: Net) -> list[float]:
        found = []
        for twin in twins:
            a = np.stack([_value(quantized, feed, made_by[twin.name]) for feed in feeds()])
            b = np.stack([_value(reference, feed, twin.output[0]) for feed in feeds()])
            axes = (0, 1, *range(3, a.ndim))
            found.append(float(np.abs(a.mean(axes) - b.mean(axes)).max() / b.std()))
        return found

    before, after = shifts(net), shifts(made)
    assert max(after) < 5e-4  # half a step of an accumulator, and float32
    assert max(before) > 20 * max(after)
    kept = {n for n in net.consts if (made.consts[n] == net.consts[n]).all()}
    assert all(
        "bias" in n or n in {"vb_quantized", "kb_quantized", "nb_quantized"} for n in set(net.consts) - kept
    )


def _value(net: Net, feed: dict[str, Array], name: str) -> Array:
    walk = Walk(net, [feed])
    walk.advance(net.producers()[name] + 1, name)
    return walk.live[0][name]


def test_a_walk_makes_what_the_whole_net_makes() -> None:
    net, _ = nets()
    model = onnx.ModelProto()
    model.CopyFrom(quantize(MIXED, feeds()))
    walk = Walk(infer(take_apart(model)), feeds(2))
    last = walk.net.producers()["y"]
    for stop in (3, 4, 11, last + 1):
        walk.advance(stop, "y")
    for tensors, feed in zip(walk.live, feeds(2), strict=True):
        np.testing.assert_allclose(tensors["y"], run_once(model, feed, ["y"])["y"], rtol=1e-5, atol=1e-6)
    assert net.outputs == walk.net.outputs


SEQUENCE = float_model(
    """(float[1,4] x) => (float[1,4] y) {
        s = SequenceConstruct(x) a = Gemm(x, w, c) r = Relu(a) i = SequenceAt(s, n)
        b = Add(r, i) y = Gemm(b, v, c)
    }""",
    {"w": noise(4, 4), "v": noise(4, 4, seed=1), "c": noise(4, seed=2), "n": np.int64(0)},
)


def test_what_is_no_tensor_is_refused_by_name() -> None:
    data = [{"x": noise(1, 4, seed=n)} for n in range(4)]
    for wanted in (Corrections(adaptive_rounding=True), Corrections(bias_correction=True)):
        with pytest.raises(QuantizationError, match="'s' must be a tensor, not a sequence"):
            quantize(SEQUENCE, data, corrections=wanted)


def test_every_fourth_sample_is_held_out() -> None:
    samples = feeds(8)
    train, judged, held_out = split(samples)
    assert held_out
    assert judged == [samples[3], samples[7]]
    assert train == [*samples[:3], *samples[4:7]]
    assert split(samples[:3]) == (samples[:3], samples[:3], False)
    assert len(split(samples * 16)[1]) == 16


@pytest.mark.parametrize(
    "wanted",
    [Corrections(False, True, False), Corrections(False, False, True), Corrections(True, True, True)],
)
def test_corrections_say_what_they_won_and_are_kept_only_then(wanted: Corrections) -> None:
    found: list[Choice] = []
    made = quantize(MIXED, feeds(), corrections=wanted, told=found.append)
    plain = quantize(MIXED, feeds(), corrections=NONE)
    onnx.checker.check_model(made, full_check=True)
    assert made == quantize(MIXED, feeds(), corrections=wanted)
    (choice,) = found
    flags = wanted.equalisation, wanted.adaptive_rounding, wanted.bias_correction
    assert len(choice.corrections) == flags.count(True)
    for one, following in zip(choice.corrections, choice.corrections[1:], strict=False):
        assert following.before == (one.after if one.kept else one.before)
    for one in choice.corrections:
        assert (one.samples, one.held_out) == (2, True)
        assert one.kept != one.sentence.endswith("; left out")
    assert any(c.kept for c in choice.corrections) == (made != plain)
    same, scale, _ = stored(made, "y", 1)
    if not wanted.equalisation:
        assert scale.tobytes() == stored(plain, "y", 1)[1].tobytes()
    assert same.dtype == np.int8


@pytest.mark.parametrize(("count", "tried"), [(3, False), (4, True), (8, True)])
def test_biases_are_corrected_where_samples_can_be_held_out(count: int, tried: bool) -> None:
    told: list[Choice] = []
    usual = quantize(MIXED, feeds(count), told=told.append)
    asked = quantize(MIXED, feeds(count), corrections=Corrections(bias_correction=True), told=told.append)
    none = quantize(MIXED, feeds(count), corrections=NONE, told=told.append)
    assert [len(choice.corrections) for choice in told] == [tried, 1, 0]
    assert usual == (asked if tried else none)
    assert told[1].corrections[0].kept == (asked != none)


def test_what_nobody_asked_for_refuses_nothing_and_says_nothing_of_nothing() -> None:
    told: list[Choice] = []
    data = [{"x": noise(1, 4, seed=n)} for n in range(4)]
    made = quantize(SEQUENCE, data, told=told.append)
    assert made == quantize(SEQUENCE, data, corrections=NONE)
    quantize(float_model("(float[1,4] x) => (float[1,4] y) { y = Sigmoid(x) }"), data, told=told.append)
    assert [choice.corrections for choice in told] == [(), ()]


def test_nothing_is_corrected_where_there_is_no_product() -> None:
    model = float_model("(float[1,4] x) => (float[1,4] y) { y = Sigmoid(x) }")
    found: list[Choice] = []
    data = [{"x": noise(1, 4, seed=n)} for n in range(4)]
    made = quantize(model, data, corrections=Corrections(True, True, True), told=found.append)
    assert made == quantize(model, data)
    assert [c.sentence for c in found[0].corrections] == [
        "cross-layer equalisation: nothing to change",
        "adaptive rounding: nothing to change",
        "bias correction: nothing to change",
    ]


def test_the_command_takes_them_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(MIXED, tmp_path / "m.onnx")
    np.savez(tmp_path / "c.npz", x=np.stack([feed["x"] for feed in feeds()]))
    command = ["quantize", tmp_path / "m.onnx", "--calib", tmp_path / "c.npz", "-o", tmp_path / "q.onnx"]
    with pytest.raises(SystemExit) as ended:
        app(
            [str(a) for a in (*command, "--bias-correction", "--adaptive-rounding", "--json")],
            prog_name="openbpu",
        )
    assert not ended.value.code
    out, err = capsys.readouterr()
    told = json.loads(out)["corrections"]
    assert [c["name"] for c in told] == ["adaptive rounding", "bias correction"]
    assert err.count("; left out") == sum(not c["kept"] for c in told)
    assert "bias correction (6 layers): mean cosine of the outputs " in err
    assert "on 2 held-out samples" in err
