"""A folder in which the vendor's commands find a network, samples and a configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from openbpu.compat.commands import run
from quantization.float_models import float_model

RNG = np.random.default_rng(0)
WEIGHTS = {
    "w": RNG.normal(size=(8, 3, 3, 3)).astype(np.float32) / 5,
    "b": RNG.normal(size=8).astype(np.float32) / 5,
    "v": RNG.normal(size=(4, 8, 1, 1)).astype(np.float32) / 3,
}
NET = """(float[1,3,8,8] x) => (float[1,4,8,8] y)
{ c = Conv <pads = [1,1,1,1]> (x, w, b)  r = Relu (c)  y = Conv (r, v) }"""


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Vendor = Callable[..., Ran]


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Vendor:
    """Run a command in a folder with net.onnx and two samples in data/."""
    monkeypatch.chdir(tmp_path)
    net = named(float_model(NET, WEIGHTS))
    onnx.save(net, tmp_path / "net.onnx")
    (tmp_path / "data").mkdir()
    for n in range(2):
        np.save(tmp_path / "data" / f"{n}.npy", sample(n))

    def call(name: str, *arguments: object) -> Ran:
        code = run(name, [str(a) for a in arguments])
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return call


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    for node, name in zip(model.graph.node, ("stem", "act", "head"), strict=True):
        node.name = name
    return model


def sample(seed: int) -> Any:
    return np.random.default_rng(seed).normal(size=(1, 3, 8, 8)).astype(np.float32)


BASE: dict[str, dict[str, Any]] = {
    "model_parameters": {
        "onnx_model": "net.onnx",
        "march": "nash-e",
        "working_dir": "out",
        "output_model_file_prefix": "net",
    },
    "input_parameters": {"input_name": "x", "input_shape": "1x3x8x8", "input_type_rt": "featuremap"},
    "calibration_parameters": {"cal_data_dir": "data", "calibration_type": "max"},
    "compiler_parameters": {"optimize_level": "O2", "compile_mode": "latency"},
}


def config(**groups: dict[str, Any]) -> str:
    """Write the base configuration with changes; one key a line, as the templates have it."""
    lines = []
    for group, keys in BASE.items():
        lines.append(f"{group}:")
        found = keys | groups.get(group.removesuffix("_parameters"), {})
        lines += [f"  {key}: {json.dumps(value)}" for key, value in found.items() if value is not ...]
    Path("net.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return "net.yaml"
