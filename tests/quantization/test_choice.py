"""What quantization chose is said: the method of a mixture, and every range."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from openbpu.cli.commands import app
from openbpu.quantization.onnx import METHODS, Choice, output_cosines, quantize
from openbpu.quantization.onnx.mixture import settle
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
        scale, zero = pair_of(made, name)
        assert scale == pytest.approx(found.step, rel=0.01 if found.zero_point else 1e-6)
        assert zero == found.zero_point
        assert 0 < found.range <= found.largest
    assert choice.ranges["x"].largest == 40.0
    assert method in {choice.method, "mix"}
    assert (method == "mix") == bool(choice.cosines)


def test_a_mixture_is_at_least_as_close_as_every_single_method() -> None:
    data = outliers()
    made, choice = chosen("mix", data)
    assert list(choice.cosines) == ["max", "percentile", "mse", "kl", "mix"]
    assert choice.cosines["mix"] == max(choice.cosines.values())
    assert output_cosines(model(), made, data)["y"] == pytest.approx(choice.cosines["mix"])
    for method in METHODS[:-1]:
        other, single = chosen(method, data)
        assert output_cosines(model(), other, data)["y"] == pytest.approx(choice.cosines[method])
        for name, found in choice.ranges.items():
            assert found.method != method or found.range == single.ranges[name].range


def test_a_mixture_says_the_method_of_every_tensor() -> None:
    """A little is clipped of one input, nothing of the other, whose largest values are most of its power."""
    two = float_model(
        "(float[1,4,8,8] x, float[1,4,8,8] m) => (float[1,4,8,8] y)"
        "{ c = Conv(x, w) d = Conv(m, w) y = Add(c, d) }",
        {"w": noise(4, 4, 1, 1)},
    )
    found: list[Choice] = []
    quantize(
        two,
        {"x": noise(8, 1, 4, 8, 8), "m": 0.05 * noise(8, 1, 4, 8, 8, seed=5) ** 3},
        method="mix",
        asymmetric=False,
        told=found.append,
    )
    (choice,) = found
    assert choice.method == "mix"
    assert (choice.ranges["x"].method, choice.ranges["m"].method) == ("kl", "max")
    assert choice.ranges["x"].range < choice.ranges["x"].largest
    assert sum(choice.counts.values()) == len(choice.ranges)


def test_of_equal_methods_the_mixture_takes_the_first() -> None:
    exact = np.tile(np.linspace(-1, 1, 256, dtype=np.float32).reshape(1, 1, 4, 8, 8), (2, 1, 1, 1, 1))
    _, choice = chosen("mix", {"x": np.zeros_like(exact)})
    assert choice.method == "max"
    assert set(choice.cosines.values()) == {1.0}


def test_halves_are_taken_where_all_of_it_loses() -> None:
    base, wanted = dict.fromkeys("abcd", "max"), dict.fromkeys("abcd", "kl")
    gain = {"a": 0.1, "b": 0.2, "c": -0.9, "d": 0.3}

    def closeness(trial: Mapping[str, str]) -> float:
        return sum(gain[name] for name, method in trial.items() if method == "kl")

    taken, best = settle(base, wanted, 0.0, closeness, lambda *_: None)
    assert taken == {"a": "kl", "b": "kl", "c": "max", "d": "kl"}
    assert best == pytest.approx(0.6)


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
    assert document["ranges"]["x"] == {
        "range": choice.ranges["x"].range,
        "largest": 40.0,
        "type": "int8",
        "method": choice.ranges["x"].method,
    }
    assert ("ranges of " in err and "mean cosine of the outputs" in err) == (method == "mix")
