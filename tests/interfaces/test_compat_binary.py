"""QuantAnalysis of QDQ models and binaries: no PyTorch is needed for it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from evaluation.analysed import TEXT, changed, weights
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import QuantizationError
from openbpu.arch.hbm import write_hbm
from openbpu.compat.hbdk import Hbm
from openbpu.compat.hbdk.module import Module
from openbpu.compat.profiler import QuantAnalysis
from openbpu.compiler import compile as build
from openbpu.quantization.onnx import quantize
from quantization.float_models import float_model, samples


@pytest.fixture(scope="module")
def q() -> ModelProto:
    """A QDQ model whose convolutions have modules."""
    net = float_model(TEXT, weights())
    made = quantize(net, samples(net), tail=DType.INT8)
    for node in made.graph.node:
        if node.op_type == "Conv":
            path = {"c": "stem", "d": "body.1"}[node.output[0]]
            node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=f"['', '{path}', 'conv2d']")
    return made


def binary(model: ModelProto, path: Path) -> Path:
    write_hbm(build(model, march="nash-e"), path)
    return path


def abnormal(baseline: Any, model: Any, place: Path) -> list[dict[str, str]]:
    analysis = QuantAnalysis(baseline, model, "convert", out_dir=place)
    analysis.auto_find_bad_case([samples(float_model(TEXT))["x"][0]])
    analysis.run()
    analysis.compare_per_layer()
    return list(csv.DictReader((place / "abnormal_layer_advisor.csv").read_text().splitlines()))


def test_the_damaged_layer_is_named_first_of_a_binary_and_of_a_module(q: ModelProto, tmp_path: Path) -> None:
    bad = changed(q, "v_quantized", lambda v: np.roll(v, 1, axis=0))
    path = binary(bad, tmp_path / "bad.hbm")
    for k, (baseline, model) in enumerate(
        ((q, path), (Module(q), Hbm(path)), (q, bad), (Module(q), Module(bad)))
    ):
        first = abnormal(baseline, model, tmp_path / str(k))[0]
        assert first["mod_name"] == "body.1"
        assert first["advice"].startswith("it computes something else here")
    assert abnormal(q, binary(q, tmp_path / "good.hbm"), tmp_path / "good") == []
    rows = list(csv.DictReader((tmp_path / "good" / "compare_per_layer_out.csv").read_text().splitlines()))
    assert {"x", "stem", "body.1", "y"} <= {row["mod_name"] for row in rows}
    assert max(float(row["Cosine"]) for row in rows) == 1


def test_what_a_binary_cannot_be_asked_is_said(q: ModelProto, tmp_path: Path) -> None:
    path = binary(q, tmp_path / "q.hbm")
    with pytest.raises(QuantizationError, match=r"baseline_model must be a model, not a binary"):
        QuantAnalysis(path, q, "convert", out_dir=tmp_path)
    analysis = QuantAnalysis(q, path, "convert", out_dir=tmp_path)
    analysis.set_bad_case(samples(float_model(TEXT))["x"][0])
    with pytest.raises(QuantizationError, match=r"use `openbpu analyze --sensitivity`"):
        analysis.sensitivity()
    onnx.save(q, tmp_path / "q.onnx")
    by_path = QuantAnalysis(tmp_path / "q.onnx", path, "convert", out_dir=tmp_path)
    by_path.set_bad_case({"x": samples(float_model(TEXT))["x"][0]})
    assert not any(row.abnormal for row in by_path.run())
