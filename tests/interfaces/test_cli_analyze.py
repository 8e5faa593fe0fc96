"""`openbpu analyze`: its table, JSON, CSV and files, and what it refuses."""

import csv
import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from interfaces.conftest import DIGITS, QUANTIZED, Command, fails

FLOAT, DATA = DIGITS / "digits.onnx", DIGITS / "calibration.npz"


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """The digits network with the weights of one convolution in another order, and lines of source."""
    model = onnx.load(QUANTIZED)
    conv = next(n for n in model.graph.node if n.name == "node_Conv_97")
    conv.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'stem', 'stem.1', 'conv2d']")
    conv.metadata_props.add(key="pkg.torch.onnx.stack_trace", value='File "/a/net.py", line 7, in forward')
    back = next(n for n in model.graph.node if n.output[0] == conv.input[1])
    for tensor in model.graph.initializer:
        if tensor.name == back.input[0]:
            turned = np.roll(numpy_helper.to_array(tensor), 1, axis=0)
            tensor.CopyFrom(numpy_helper.from_array(turned, tensor.name))
    path = tmp_path / "damaged.onnx"
    onnx.save(model, path)
    return path


def test_analyze_names_the_damaged_layer_first(openbpu: Command, damaged: Path, tmp_path: Path) -> None:
    arguments = ("analyze", FLOAT, damaged, "--data", DATA, "--samples", "2")
    lines = openbpu(*arguments).out.splitlines()
    rows = [line.split() for line in lines if line.startswith(" node_")]
    assert rows[0][:2] == ["node_Conv_97", "Conv"]
    assert len(rows) == 10
    first = "It goes wrong first at Conv 'node_Conv_97' (stem.1 net.py:7): cosine "
    assert any(line.startswith(first) and "It adds most of that itself" in line for line in lines)
    document = openbpu(*arguments, "--json").json()
    assert document["first"]["node"] == document["first"]["most"] == "node_Conv_97"
    assert (document["first"]["module"], document["first"]["source"]) == ("stem.1", "net.py:7")
    assert document["nodes"][document["worst"][0]]["node"] == "node_Conv_97"
    assert sum(document["nodes"][2]["values"]["counts"]) == 2 * 16 * 8 * 8
    assert document["samples"] == 2
    assert document["samples given"] == 64


def test_analyze_sorts_stops_and_writes_csv(openbpu: Command, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    arguments = ("analyze", FLOAT, QUANTIZED, "--data", DATA, "--samples", "1", "--csv", path)
    ran = openbpu(*arguments, "--sort", "order", "--until", "node_relu_1", "--top", "2")
    assert f"wrote {path}" in ran.err
    assert "in the order of the network: 2 of 5 (--all shows every one)" in ran.out
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [r["node"] for r in rows] == ["image", "node_Conv_95", "node_relu", "node_Conv_97", "node_relu_1"]
    assert 30 < float(rows[2]["alone_sqnr"]) < 50
    assert rows[1]["cause"] == "rounding"
    assert rows[1]["part"] == "weights"
    assert "It goes wrong nowhere" in ran.out
    assert len(openbpu(*arguments, "--all").out.splitlines()) > 19


def test_analyze_dumps_float_qdq_and_simulated_tensors(openbpu: Command, hbm: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("analyze", FLOAT, QUANTIZED, hbm, "--data", DATA, "--dump", out)
    assert "Binary cosine" in openbpu(*arguments, "--tensor", "node_relu").out
    parts = ("qdq/relu.npy", "qdq/relu_DequantizeLinear_Output.npy", "qdq/relu_QuantizeLinear_Output.npy")
    written = ["float/relu.npy", *parts, "simulated/relu_QuantizeLinear_Output.npy"]
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.npy")) == written
    assert np.load(out / "float" / "relu.npy").shape == (1, 16, 8, 8)
    ran = openbpu(*arguments, "--samples", "2")
    assert ran.code == 0
    codes = np.load(out / "1" / "simulated" / "relu_QuantizeLinear_Output.npy")
    assert np.array_equal(codes, np.load(out / "1" / "qdq" / "relu_QuantizeLinear_Output.npy"))
    assert codes.dtype == np.int8


def test_analyze_refuses_what_does_not_belong_together(openbpu: Command, tmp_path: Path, hbm: Path) -> None:
    missing = tmp_path / "missing.onnx"
    fails(openbpu("analyze", FLOAT, missing, "--data", DATA), str(missing), "check the path")
    np.savez(tmp_path / "wrong.npz", image=np.zeros((2, 1, 9, 9), np.float32))
    wrong = ("analyze", FLOAT, QUANTIZED, "--data", tmp_path / "wrong.npz")
    fails(openbpu(*wrong), "input 'image'", "(1, 1, 9, 9)")
    fails(openbpu("analyze", FLOAT, QUANTIZED, "--data", DATA, "--until", "x"), "--until: the node must be")
    fails(openbpu("analyze", FLOAT, QUANTIZED, FLOAT, "--data", DATA), "digits.onnx")
    csv_to = ("--csv", tmp_path / "no" / "a.csv")
    fails(openbpu("analyze", FLOAT, QUANTIZED, "--data", DATA, *csv_to), "the output must be writable")
    assert openbpu("analyze", FLOAT, QUANTIZED, "--data", DATA, "--samples", "0").code == 2
    assert openbpu("analyze", FLOAT, QUANTIZED, "--data", DATA, "--tensor", "relu").code == 2
    two = ("--workers", "2", "--scheduler", "tcp://localhost:1")
    assert openbpu("analyze", FLOAT, QUANTIZED, "--data", DATA, *two).code == 2
    swapped = openbpu("analyze", QUANTIZED, FLOAT, "--data", DATA, "--samples", "1")
    assert "The quantized model rounds nothing: is the order right, first the float model?" in swapped.out
    dumped = ("--dump", tmp_path / "d", "--tensor", "nope")
    fails(openbpu("analyze", FLOAT, QUANTIZED, "--data", DATA, *dumped), "--tensor: the name must be")


def test_analyze_measures_sensitivity_by_any_metric(
    openbpu: Command, damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("--samples", "2", "--until", "node_relu_1")
    arguments = ("analyze", FLOAT, damaged, "--data", DATA, *few, "--sensitivity", "only")
    path = tmp_path / "a.csv"
    document = openbpu(*arguments, "--json", "--csv", path).json()["sensitivity"]
    assert (document["metric"], document["mode"]) == ("cosine", "only")
    first = document["nodes"][0]
    assert (first["node"], first["samples"]) == ("node_Conv_97", 2)
    assert first["value"] < 0.99 < document["nodes"][1]["value"]
    lines = {row["node"]: row for row in csv.DictReader(io.StringIO(path.read_text()))}
    assert float(lines["node_Conv_97"]["sensitivity"]) == first["value"]
    (tmp_path / "mine_of_analyze.py").write_text(
        "def agree(a, b):\n    return sum((x['logits'] == y['logits']).all() for x, y in zip(a, b))\n"
        "def broken(a, b):\n    raise KeyError('scores')\n"
    )
    monkeypatch.chdir(tmp_path)
    out = openbpu(*arguments[:-1], "all-but", "--metric", "mine_of_analyze:agree").out
    assert "Sensitivity: agree of the outputs when all but this node is quantized" in out
    failing = openbpu(*arguments, "--metric", "mine_of_analyze:broken")
    fails(failing, "--metric: broken failed (KeyError: 'scores')")
    fails(
        openbpu(*arguments, "--metric", "mine_of_analyze:nope"),
        "a name in mine_of_analyze must be agree, broken, not 'nope'",
    )
    fails(openbpu(*arguments, "--metric", "bleu"), "the metric must be cosine, mse, sqnr or MODULE:FUNCTION")
