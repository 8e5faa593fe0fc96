"""What is known of every node, as viewers of models read it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto
from typer.testing import CliRunner

from openbpu.cli.commands import app
from openbpu.evaluation.fixing.table import codes, example
from openbpu.quantization.onnx import quantize

RUNNER = CliRunner()
WEIGHT = codes(4, 4, 3, 3).astype(np.float32) / 200


def network() -> ModelProto:
    """A convolution, an operator of the CPU, a convolution."""
    text = """(float[1,4,8,8] x) => (float y)
        c = Conv(x, w); h = Hardmax<axis=1>(c); y = Conv(h, w)"""
    return example(text, w=WEIGHT).model


def told(model: ModelProto, node: str) -> dict[str, str]:
    found = next(n for n in model.graph.node if n.name == node)
    return {entry.key: entry.value for entry in found.metadata_props}


def test_placement_and_latency_of_a_float_model(tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "m.onnx")
    folder = tmp_path / "data"
    asked = ["check", str(tmp_path / "m.onnx"), "--march", "nash-e", "--node-data", str(folder)]
    assert RUNNER.invoke(app, asked).exit_code == 0
    placed = json.loads((folder / "placement.json").read_text(encoding="utf-8"))["example"]["results"]
    times = json.loads((folder / "latency_us.json").read_text(encoding="utf-8"))["example"]
    assert {placed[name]["value"] for name in ("Conv_c", "Conv_y", "c", "[value] c")} == {"BPU"}
    assert placed["Hardmax_h"]["value"] == placed["h"]["value"] == "CPU"
    assert placed["Conv_c"]["bgColor"] != placed["Hardmax_h"]["bgColor"]
    known = {n.name for n in network().graph.node} | {o for n in network().graph.node for o in n.output}
    assert {key.removeprefix("[value] ") for key in placed} == known
    assert set(times["results"]) == set(placed)
    assert times["results"]["Hardmax_h"]["value"] > times["results"]["Conv_c"]["value"] > 0
    assert [stop["stop"] for stop in times["gradient"]] == [0, 1]


def test_the_annotated_model_is_the_model_with_metadata(tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "m.onnx")
    asked = ["check", str(tmp_path / "m.onnx"), "--march", "nash-e", "--node-data", str(tmp_path / "data")]
    assert RUNNER.invoke(app, asked).exit_code == 0
    made = onnx.load(tmp_path / "data" / "annotated.onnx")
    onnx.checker.check_model(made, full_check=True)
    assert told(made, "Conv_c")["openbpu.on"] == "BPU"
    assert told(made, "Conv_c")["openbpu.subgraph"] == "id(0)"
    said = told(made, "Hardmax_h")
    assert said["openbpu.on"] == "CPU"
    assert said["openbpu.reason"] == "no BPU unit for this operator"
    assert "splits a segment" in said["openbpu.cost"]
    assert said["openbpu.latency"].endswith("µs")
    for node in made.graph.node:
        del node.metadata_props[:]
    assert made.SerializeToString() == network().SerializeToString()


def test_the_error_of_every_node(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=(4, 4, 8, 8)).astype(np.float32)}
    onnx.save(network(), tmp_path / "m.onnx")
    onnx.save(quantize(network(), data), tmp_path / "q.onnx")
    np.savez(tmp_path / "data.npz", x=data["x"])
    folder = tmp_path / "nodes"
    paths = [str(tmp_path / name) for name in ("m.onnx", "q.onnx")]
    made = RUNNER.invoke(
        app, ["analyze", *paths, "--data", str(tmp_path / "data.npz"), "--node-data", str(folder)]
    )
    assert made.exit_code == 0, made.output
    errors = json.loads((folder / "error.json").read_text(encoding="utf-8"))["example"]["results"]
    assert 0 < errors["Conv_c"]["value"] < 0.01
    assert float(told(onnx.load(folder / "annotated.onnx"), "Conv_c")["openbpu.error"]) > 0
