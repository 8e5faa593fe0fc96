"""Document 3: a Linear in int16 three ways, the refused fourth, and the MSE observer's hazard."""

from __future__ import annotations

import functools
import re
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from openbpu.quantization import torch as bpu  # noqa: E402
from quantization.torch.recipes import recipe  # noqa: E402

ROWS = 8

FLOAT = """
-0.3016 0.1338 -0.5251 -0.0551 -0.2093 -0.0308 -0.1969 -0.0131 -0.3287 0.3234 -0.0869 -0.0637
-0.3056 0.1478 -0.2673 0.2355 -0.3487 0.0134 -0.3990 -0.0389 -0.1686 -0.0046 -0.4131 0.0482
-0.1059 0.2431 -0.1886 0.0787 -0.3454 0.0231 -0.2134 -0.1071 -0.0575 0.3434 -0.1661 0.2248"""
BROADCAST = """
-0.3038 0.1370 -0.5269 -0.0571 -0.2111 -0.0296 -0.1975 -0.0111 -0.3280 0.3215 -0.0884 -0.0637
-0.3051 0.1487 -0.2678 0.2349 -0.3478 0.0132 -0.3988 -0.0392 -0.1662 -0.0055 -0.4117 0.0484
-0.1058 0.2442 -0.1890 0.0780 -0.3447 0.0240 -0.2142 -0.1061 -0.0586 0.3423 -0.1657 0.2255"""
"""What the document prints of [1, 100, 60] outputs: the corners, row by row."""


@functools.cache
def outcome(variant: str) -> Any:
    return recipe("linear_int16/linear_int16.py").outcome(variant, ROWS)


def on_cpu(variant: str) -> list[Any]:
    return [row for row in outcome(variant).program.placement if row.on == "CPU"]


def test_the_rewrite_is_the_linear_in_float() -> None:
    script = recipe("linear_int16/linear_int16.py")
    source, data = script.float_model(ROWS), script.example(ROWS)
    with torch.no_grad():
        assert torch.allclose(script.broadcast_model(source)(data), source(data), atol=1e-5)


def corners(output: Any) -> Any:
    """The values of a [2, 100, 60] output that torch's print shows of the first batch."""
    ends = [0, 1, 2, -3, -2, -1]
    return output[0][ends][:, ends]


def test_three_times_int16_differs_from_float_as_little_as_printed() -> None:
    printed = [torch.tensor([float(v) for v in text.split()]) for text in (FLOAT, BROADCAST)]
    expected = (printed[1] - printed[0]).abs()
    script = recipe("linear_int16/linear_int16.py")
    source, data = script.float_model(), script.example()
    with torch.no_grad():
        floats = source(data)
        calib_model = script.calibrate(script.prepared("all", source, data), data)
        found = (corners(calib_model(data)) - corners(floats)).abs()
    assert 0.3 < corners(floats).abs().max() < 0.6  # outputs of the document's size
    assert found.max() <= expected.max()
    assert found.mean() <= expected.mean()


def test_more_int16_is_more_exact() -> None:
    deviations = [outcome(v).deviation for v in ("input_output", "weight_output", "all")]
    assert deviations == sorted(deviations, reverse=True)


def test_latency_ranks_as_the_document_says() -> None:
    micros = [outcome(v).latency_us for v in ("input_output", "weight_output", "all")]
    assert micros == sorted(micros)
    assert len(set(micros)) == 3


@pytest.mark.slow
def test_latency_ranks_so_at_the_documents_size() -> None:
    script = recipe("linear_int16/linear_int16.py")
    micros = [script.outcome(v).latency_us for v in ("input_output", "weight_output", "all")]
    assert micros == sorted(set(micros))


@pytest.mark.parametrize("variant", ["input_output", "weight_output", "all"])
def test_the_second_linear_is_on_the_bpu(variant: str) -> None:
    rows = outcome(variant).program.placement
    ops = {row.op for row in rows if row.on == "BPU"}
    assert {"Mul", "ReduceSum"} <= ops if variant == "all" else "MatMul" in ops or "Gemm" in ops
    assert not [row for row in on_cpu(variant) if "linear3" not in row.scope]


def test_a_linear_of_two_int16_is_refused_with_the_dtypes_and_the_rewrite() -> None:
    refused = [row for row in on_cpu("double_int16") if row.op in ("MatMul", "Gemm")]
    (row,) = refused
    assert row.scope == "linear2"
    assert "int8×int8, int16×int8, int8×int16" in row.reason
    assert "not int16×int16" in row.reason
    assert "broadcast Mul and ReduceSum" in row.fix
    assert row.source.startswith("linear_int16.py:")


class Hazard(nn.Module):  # type: ignore[misc]  # torch is Any to the type check
    """A product of which most is near 0, summed, through a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.quant = bpu.QuantStub()
        self.quant_weight = bpu.QuantStub()
        self.dequant = bpu.DeQuantStub()
        self.mul = bpu.FloatFunctional()
        self.weight = torch.ones(1, 256)

    def forward(self, x: Any) -> Any:
        product = self.mul.mul(self.quant(x), self.quant_weight(self.weight))
        return self.dequant(torch.sigmoid(product.sum(dim=-1)))


def hazard_error(fix_scale: float | None) -> float:
    """The largest error of the calibrated model on the rows without outliers."""
    bpu.set_march(bpu.March.NASH_M)
    generator = torch.Generator().manual_seed(0)
    data = torch.rand(64, 256, generator=generator) * 0.02
    data[0, :8], data[0, 8:16] = 3000.0, -3000.0  # the outliers: their sum is as small as the others'
    model = Hazard().eval()
    qconfig = bpu.get_qconfig(
        observer=bpu.MSEObserver, weight_dtype=None, out_dtype=bpu.qint16, fix_scale=fix_scale
    )
    fine = bpu.get_qconfig(
        bpu.MinMaxObserver, weight_dtype=None, out_dtype=bpu.qint16, fix_scale=0.02 / 32767
    )
    setters = (
        bpu.ModuleNameQconfigSetter({"mul": qconfig, "quant": fine}),
        bpu.calibration_8bit_weight_16bit_act_qconfig_setter,
    )
    calib_model = bpu.prepare(model, data, qconfig_setter=setters)
    calib_model.eval()
    bpu.set_fake_quantize(calib_model, bpu.FakeQuantState.CALIBRATION)
    with torch.no_grad():
        calib_model(data)
        calib_model.eval()
        bpu.set_fake_quantize(calib_model, bpu.FakeQuantState.VALIDATION)
        return float((calib_model(data) - model(data))[1:].abs().max())


def test_the_mse_observer_rounds_small_products_away_and_a_fixed_scale_cures_it() -> None:
    assert hazard_error(None) > 0.3
    assert hazard_error(7 / 32767) < 0.01


def calibrated_and_float() -> tuple[Any, Any, Any]:
    script = recipe("linear_int16/linear_int16.py")
    source, data = script.float_model(ROWS), script.example(ROWS)
    return script.calibrate(script.prepared("input_output", source, data), data), source, data


def test_the_sensitivity_table_prints_as_the_documents() -> None:
    calib_model, source, data = calibrated_and_float()
    lines = str(bpu.sensitivity_table(calib_model, source, data)).splitlines()
    assert lines[0].split() == ["op_name", "sensitive_type", "op_type", "L1", "quant_dtype", "flops"]
    assert set(lines[1]) == {"-", " "}
    rows = {tuple(line.split()[:2]): line for line in lines[2:]}
    weights = [line for line in lines if " weight " in line]
    assert weights[0].startswith("linear2 ")  # its weights have the outliers
    number = r"\d+(\.\d+)?(e-\d+)?"
    flops = 2 * ROWS * 256 * 60
    for key, kind, dtype, work in (
        (("layernorm.rsqrt", "activation"), "SegmentLUT", "qint16", r"0\(0%\)"),
        (("linear2", "weight"), "Linear", "qint8", rf"{flops}\(\d+\.\d\d%\)"),
        (("layernorm.var_mean.pre_mean", "activation"), "FloatFunctional", "qint16", r"0\(0%\)"),
    ):
        pattern = rf"{key[0]} +{key[1]} +<class '[\w.]*\.{kind}'> +{number} +{dtype} +{work}"
        assert re.fullmatch(pattern, rows[key]), rows[key]


def test_the_statistics_table_prints_as_the_documents() -> None:
    _, source, data = calibrated_and_float()
    lines = str(bpu.statistics_table(source, data)).splitlines()
    columns = ["Op Name", "Mod Name", "Attr", "Min", "Max", "Mean", "Var", "Shape"]
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == columns
    assert re.fullmatch(r"\|-+", lines[1].rstrip("|"))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    found = [row for row in cells if row[1] == "linear2"]
    assert {row[0] for row in found} == {"torch.nn.modules.linear.Linear"}
    shapes = {"input": [2, ROWS, 256], "weight": [60, 256], "bias": [60], "output": [2, ROWS, 60]}
    assert [(row[2], row[7]) for row in found] == [(k, f"torch.Size({v})") for k, v in shapes.items()]
    assert all(re.fullmatch(r"-?\d+\.\d{7}", value) for row in found for value in row[3:7])
    weight = source.linear2.weight
    assert found[1][3:5] == [f"{weight.min():.7f}", f"{weight.max():.7f}"]
