"""The closing report: closeness on samples that calibration did not see, the fit of ranges, odd data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from openbpu.cli.commands import app
from openbpu.quantization.onnx import Choice, Report, output_cosines, quantize
from openbpu.quantization.onnx.report import unchanging
from quantization.float_models import Array, float_model, noise, samples

TEXT = """(float[1,3,16,16] x) => (float[1,4] y) {
    [c] c = Conv<pads = [1, 1, 1, 1]>(x, w) [r] r = Relu(c) [p] p = GlobalAveragePool(r)
    [f] f = Flatten(p) [y] y = Gemm(f, v) }"""


def model(before: str = "", **weights: Any) -> onnx.ModelProto:
    text = TEXT.replace("{", "{" + before, 1).replace("(x, w)", "(z, w)" if before else "(x, w)")
    return float_model(text, {"w": noise(4, 3, 3, 3), "v": noise(4, 4, seed=1), **weights})


def pictures(count: int, scale: float = 1 / 255, seed: int = 0) -> Array:
    """Smooth pictures of whole numbers in 0..255, times `scale`."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, size=(count, 1, 3, 4, 4))
    smooth = np.kron(coarse, np.ones((4, 4))) + rng.integers(0, 50, size=(count, 1, 3, 16, 16))
    return (smooth * scale).astype(np.float32)


def reported(source: onnx.ModelProto, data: Any, **options: Any) -> tuple[onnx.ModelProto, Report]:
    told: list[Choice] = []
    made = quantize(source, data, judge=True, told=told.append, **options)
    assert told[0].report is not None
    return made, told[0].report


def doubts(source: onnx.ModelProto, data: Array) -> list[str]:
    return [doubt for look in reported(source, {"x": data})[1].inputs for doubt in look.doubts]


def test_every_tenth_sample_is_held_out_and_judged() -> None:
    data = pictures(30)
    made, report = reported(model(), {"x": data})
    assert (report.calibrated, report.judged, report.held_out) == (27, 3, True)
    held = data[[5, 15, 25]]
    assert report.cosines == pytest.approx(output_cosines(model(), made, {"x": held}), abs=1e-9)
    assert report.cosines["y"] < 1
    rest = np.delete(data, [5, 15, 25], axis=0)
    assert made == quantize(model(), {"x": rest})  # what was held out had no say


def test_of_few_samples_none_is_held_out() -> None:
    made, report = reported(model(), {"x": pictures(9)})
    assert (report.calibrated, report.judged, report.held_out) == (9, 9, False)
    assert made == quantize(model(), {"x": pictures(9)})


def test_without_holding_out_all_samples_calibrate_and_judge() -> None:
    made, report = reported(model(), {"x": pictures(40)}, hold_out=False)
    assert (report.calibrated, report.judged, report.held_out) == (40, 16, False)
    assert made == quantize(model(), {"x": pictures(40)})


def test_values_beyond_a_range_and_codes_without_use_are_counted() -> None:
    data = noise(20, 1, 3, 16, 16)
    data[0, 0, 0, 0, 0] = 400.0
    _, report = reported(model(), {"x": data}, asymmetric=False)
    assert [use.tensor for use in report.wasted][:1] == ["x"]
    assert report.wasted[0].used < 0.02
    assert [use.tensor for use in report.coarse][:1] == ["x"]  # a step is 3.1, nine tenths lie within 1.7
    _, report = reported(
        model(), {"x": data}, config={"model_config": {"activation": {"max_percentile": 0.9}}}
    )
    (found,) = (use for use in report.clipped if use.tensor == "x")
    held = data[[5, 15]]
    assert found.clipped == pytest.approx((np.abs(held) > found.range).mean(), abs=2e-3)


def test_stages_take_the_time_there_is() -> None:
    _, report = reported(model(), {"x": pictures(4)}, method="kl")
    assert {
        "prepare",
        "observe ranges",
        "observe histograms",
        "insert pairs",
        "judge",
    } <= report.seconds.keys()
    assert all(value >= 0 for value in report.seconds.values())


NORMALISED = (pictures(12) - 0.45) / 0.225


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (pictures(12), []),
        (NORMALISED, []),
        (pictures(12, scale=1.0), ["raw pixels 0..255, which the model does not scale itself"]),
        (pictures(12) - 123.675, ["values are -123.2 ±"]),
        (np.full((12, 1, 3, 16, 16), 0.5, np.float32), ["every value is 0.5"]),
        (np.repeat(pictures(1), 12, axis=0), ["all samples are the same"]),
        (noise(32, 1, 3, 16, 16), ["neighbouring pixels have nothing in common"]),
        (
            pictures(12) * np.array([1, 0, 1], np.float32).reshape(3, 1, 1),
            ["channel 1 is the same everywhere"],
        ),
        (pictures(12) / 255, ["no value is beyond 0.003", "neighbouring"][:1]),
        ((pictures(12) - 0.5) / 128, ["no value is beyond 0.003"]),
    ],
)
def test_data_that_no_model_was_trained_on_are_doubted(data: Array, said: list[str]) -> None:
    found = doubts(model(), data.astype(np.float32))
    assert len(found) == len(said)
    assert all(doubt.startswith(start) for doubt, start in zip(found, said, strict=True))


def test_a_model_that_scales_pixels_itself_wants_raw_ones() -> None:
    divides = model("[d] z = Div(x, k)", k=np.array(255, np.float32))
    assert doubts(divides, pictures(12, scale=1.0)) == []
    assert doubts(divides, pictures(12)) == ["values within 0..1, which the model divides by 255 itself"]


def test_outputs_that_do_not_depend_on_the_sample_are_named() -> None:
    source = model(w=np.zeros((4, 3, 3, 3), np.float32), b=np.ones(4, np.float32))
    source.graph.node[0].input.append("b")
    assert reported(source, {"x": pictures(4)})[1].same == ("y",)
    assert reported(model(), {"x": pictures(4)})[1].same == ()


def runs(*values: npt.ArrayLike) -> list[dict[str, Array]]:
    return [{"y": np.array(v)} for v in values]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_output_that_changes_for_one_sample_depends_on_it(place: int) -> None:
    rows = [[4.0, -10.0]] * 3
    for change, same in ((0.9e-3, ("y",)), (1.2e-3, ())):  # 1e-4 of the largest value
        rows[place] = [4.0 + change, -10.0]
        assert unchanging(["y"], runs(*rows)) == same


def test_outputs_of_which_nothing_can_be_said_are_not_named() -> None:
    assert unchanging(["y"], runs([1, 2])) == ()
    assert unchanging(["y"], runs([], [])) == ()
    assert unchanging(["y"], runs([0, 0], [0, 0])) == ()
    assert unchanging(["y"], runs([1, 1], [1])) == ()
    assert unchanging(["y"], runs([1], [1, 1])) == ()
    assert unchanging(["y"], runs([1, 2], [1, 2])) == ("y",)


def test_inputs_that_are_no_pictures_are_looked_at_too() -> None:
    source = float_model("(float[2,6] x) => (float[2,6] y) { y = MatMul(x, w) }", {"w": noise(6, 6)})
    (look,) = reported(source, samples(source, 4))[1].inputs
    assert (look.kind, look.doubts) == ("no picture", ())


def test_the_command_prints_the_report_and_puts_it_into_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(model(), tmp_path / "m.onnx")
    np.savez(tmp_path / "c.npz", x=pictures(12, scale=1.0))
    options = [str(tmp_path / "m.onnx"), "--calib", str(tmp_path / "c.npz"), "-o", str(tmp_path / "q.onnx")]
    app(["quantize", *options], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(("cosine to the float model: y 0.99", "cosine to the float model: y 1.0"))
    assert lines[0].endswith("(on 1 sample held out, 11 calibrated)")
    assert lines[1].startswith("look at input 'x': raw pixels 0..255")
    assert any(line.startswith("on nash-e: ") and "nodes on the BPU" in line for line in lines)
    app(["quantize", *options, "--march", "S600", "--json"], standalone_mode=False)
    report = json.loads(capsys.readouterr().out)["report"]
    assert report["samples"] == {"calibrated": 11, "judged": 1, "held_out": 1}
    assert report["march"] == "nash-p"
    assert report["inputs"][0]["kind"] == "pixels 0..255"
    assert report["placement"]["cpu"] == []
    assert {use["tensor"] for use in report["ranges"]} >= {"x", "r", "p"}


def test_a_model_of_free_axes_has_a_report_without_a_placement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "(float[1,3,h,w] x) => (float y) { c = Conv(x, w) y = Sigmoid(c) }"
    onnx.save(float_model(text, {"w": noise(3, 3, 1, 1)}), tmp_path / "m.onnx")
    np.savez(tmp_path / "c.npz", x=pictures(4))
    options = [str(tmp_path / "m.onnx"), "--calib", str(tmp_path / "c.npz"), "-o", str(tmp_path / "q.onnx")]
    app(["quantize", *options], standalone_mode=False)
    printed = capsys.readouterr().out
    assert printed.startswith("cosine to the float model: y ")
    assert "on nash-e: " in printed
    assert "--shape" in printed
