"""What quantization chose is said: the method of a mixture, and every range."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from openbpu.arch.dtypes import DType
from openbpu.cli.commands import app
from openbpu.quantization.onnx import METHODS, Choice, output_cosines, quantize
from quantization.float_models import Array, float_model, noise, pair_of, samples

TEXT = (
    "(float[1,4,8,8] x) => (float[1,4,8,8] y) { c = Conv (x, w) r = Relu(c) d = Conv(r, v) y = Sigmoid(d) }"
)


def model() -> Any:
    return float_model(TEXT, {"w": noise(4, 4, 1, 1), "v": noise(4, 4, 1, 1, seed=1)})


def outliers() -> dict[str, Array]:
    data = samples(model(), 8)["x"].copy()
    data[0, 0, 0, 0, 0] = 40.0  # which `max` gives most of its range to
    return {"x": data}


def chosen(method: Any, data: dict[str, Array]) -> tuple[Any, Choice]:
    found: list[Choice] = []
    made = quantize(model(), data, method=method, told=found.append)
    (choice,) = found
    return made, choice


@pytest.mark.parametrize("method", METHODS)
def test_ranges_are_those_of_the_scales(method: str) -> None:
    made, choice = chosen(method, outliers())
    assert set(choice.ranges) >= {"x"}
    for name, found in choice.ranges.items():
        scale, _ = pair_of(made, name)
        assert scale == np.float32(found.range / (127.5 if found.dtype is DType.INT8 else 32767.5))
        assert 0 < found.range <= found.largest
    assert choice.ranges["x"].largest == 40.0
    assert method in {choice.method, "mix"}
    assert (method == "mix") == bool(choice.cosines)


def test_a_mixture_is_the_candidate_closest_to_the_float_model() -> None:
    data = outliers()
    made, choice = chosen("mix", data)
    assert list(choice.cosines) == ["max", "percentile", "mse", "kl"]
    assert choice.cosines[choice.method] == max(choice.cosines.values())
    for method, cosine in choice.cosines.items():
        other, _ = chosen(method, data)
        assert output_cosines(model(), other, data)["y"] == pytest.approx(cosine)
        assert (other == made) == (method == choice.method)


@pytest.mark.parametrize("method", ["mix", "mse"])
def test_the_command_says_it_in_words_and_in_json(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(model(), tmp_path / "m.onnx")
    np.savez(tmp_path / "c.npz", **outliers())  # type: ignore[arg-type]
    command = ["quantize", tmp_path / "m.onnx", "--calib", tmp_path / "c.npz", "-o", tmp_path / "q.onnx"]
    with pytest.raises(SystemExit) as ended:
        app([str(a) for a in (*command, "--method", method, "--json")], prog_name="openbpu")
    assert not ended.value.code
    out, err = capsys.readouterr()
    document = json.loads(out)
    _, choice = chosen(method, outliers())
    assert document["chosen"] == {"method": choice.method, "cosines": dict(choice.cosines)}
    assert document["ranges"]["x"] == {"range": choice.ranges["x"].range, "largest": 40.0, "type": "int8"}
    said = f"ranges of all tensors by {choice.method}: mean cosine of the outputs"
    assert (said in err) == (method == "mix")
