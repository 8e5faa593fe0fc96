"""Facts about hmct: build_model is openbpu's quantizer, and leaves the vendor's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from evaluation.analysed import TEXT, weights
from openbpu.arch.errors import InputError, OpenbpuError, QuantizationError
from openbpu.compat.hmct.api import build_model, check_model
from openbpu.compat.hmct.debugger import (
    get_channelwise_data_distribution,
    get_sensitivity_of_nodes,
    plot_acc_error,
    plot_distribution,
    runall,
    sensitivity_analysis,
)
from openbpu.quantization.onnx import is_quantized, quantize
from quantization.float_models import float_model, samples


@pytest.fixture(scope="module")
def net() -> ModelProto:
    return float_model(TEXT, weights())


def data(net: ModelProto) -> dict[str, list[Any]]:
    return {name: list(np.asarray(x)) for name, x in samples(net).items()}


def test_build_model_is_quantize_with_its_files(
    net: ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = build_model(net, "nash-e", cali_data=data(net), name_prefix=str(tmp_path / "out"), verbose=True)
    assert made == quantize(net, samples(net), judge=True)
    names = {
        f"out_{stage}_model.onnx" for stage in ("original_float", "optimized_float", "calibrated", "ptq")
    }
    assert {p.name for p in tmp_path.iterdir()} == names
    assert is_quantized(onnx.load(tmp_path / "out_ptq_model.onnx"))
    assert "on the BPU" in capsys.readouterr().out


def test_folders_and_a_file_do_as_well(net: ModelProto, tmp_path: Path) -> None:
    onnx.save(net, tmp_path / "net.onnx")
    (tmp_path / "x").mkdir()
    for n, sample in enumerate(data(net)["x"]):
        sample.astype(np.float32).tofile(tmp_path / "x" / f"{n}.rgb")
    made = build_model(onnx_file=tmp_path / "net.onnx", march="S100", cali_dict={"x": tmp_path / "x"})
    assert made == build_model(net, "nash-e", cali_data=data(net))


def test_a_quant_config_is_heard(net: ModelProto) -> None:
    config = {"model_config": {"all_node_type": "int16"}}
    made = build_model(net, "nash-e", cali_data=data(net), quant_config=config)
    assert made == quantize(net, samples(net), config=config, judge=True)


def test_without_data_it_is_for_latency_and_says_so(
    net: ModelProto, capsys: pytest.CaptureFixture[str]
) -> None:
    assert is_quantized(build_model(net, "nash-e"))
    assert "right for latency, not for values" in capsys.readouterr().out


def test_check_model_prints_where_nodes_run(net: ModelProto, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_model(net, march="bayes-e") == 0
    assert "on the BPU" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda _: build_model(march="nash-e"), "onnx_model or onnx_file must be given"),
        (lambda m: build_model(m, march=None), "march must be given"),
        (lambda m: build_model(m, "nash-e", frobnicate=1), "a keyword must be"),
        (lambda m: build_model(m, "nash-e", cali_data={"z": []}), "an input must be one of x"),
        (lambda m: build_model("none.onnx", "nash-e"), "must be an ONNX file, not missing"),
        (lambda m: build_model(m, "nash-e", cali_data={"x": "nowhere"}), "must be a folder, not missing"),
        (lambda m: build_model(m, "nash-e", quant_config={"nodes": {}}), "node_config"),
    ],
)
def test_what_is_wrong_is_said(net: ModelProto, call: Any, text: str) -> None:
    with pytest.raises(OpenbpuError, match=text):
        call(net)


def test_the_debugger_names_the_node_that_costs_most_first(net: ModelProto, tmp_path: Path) -> None:
    build_model(net, "nash-e", cali_data=data(net), name_prefix=str(tmp_path / "out"))
    calibrated = tmp_path / "out_calibrated_model.onnx"
    found = get_sensitivity_of_nodes(calibrated, ["cosine-similarity", "mse"], data(net), data_num=2)
    cosines = [row["cosine-similarity"] for row in found.values()]
    assert len(found) > 1
    assert cosines == sorted(cosines)
    assert set(next(iter(found.values()))) == {"cosine-similarity", "mse"}
    few = sensitivity_analysis(calibrated, data(net), pick_threshold=cosines[1], data_num=2)
    assert list(few) == list(found)[:1]


def test_the_debuggers_pictures_are_one_page(
    net: ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_model(net, "nash-e", cali_data=data(net), name_prefix=str(tmp_path / "out"))
    calibrated, places = str(tmp_path / "out_calibrated_model.onnx"), [tmp_path / str(n) for n in range(4)]
    plot_distribution(places[0], calibrated, data(net), nodes_list=["Gemm_y"])
    get_channelwise_data_distribution(places[1], calibrated, data(net), "Gemm_y", axis=1)
    plot_acc_error(places[2], data(net), calibrated, metric="cosine-similarity")
    runall(calibrated, data(net), places[3])
    for place in places:
        assert {p.name for p in place.iterdir()} == {"analysis.html", "analysis.csv"}
        assert "Gemm_y" in (place / "analysis.html").read_text(encoding="utf-8")
    assert "Gemm_y: " in capsys.readouterr().out
    assert "sensitivity" in (places[3] / "analysis.csv").read_text().lower()
    with pytest.raises(InputError, match="nodes_list must be nodes of the model, not 'nobody'"):
        plot_distribution(places[0], calibrated, data(net), "nobody")
    with pytest.raises(InputError, match="must be left out"):
        plot_acc_error(places[0], data(net), calibrated, quantize_node=["Gemm_y"])


def test_the_debugger_says_what_it_lacks(net: ModelProto) -> None:
    with pytest.raises(InputError, match="the float model must be beside the calibrated one"):
        get_sensitivity_of_nodes(net, calibrated_data=data(net))
    with pytest.raises(InputError, match='node_type must be "node"'):
        get_sensitivity_of_nodes(net, node_type="weight")
    with pytest.raises(QuantizationError, match="march"):
        check_model(net)
