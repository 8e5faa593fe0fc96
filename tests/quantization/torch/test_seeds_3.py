"""Document 3: a Linear in int16 three ways, the refused fourth, and the MSE observer's hazard."""

from __future__ import annotations

import functools
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from openbpu.quantization import torch as bpu  # noqa: E402
from quantization.torch.recipes import recipe  # noqa: E402

ROWS = 8
LARGEST_PRINTED = 0.0035
"""Float and calibrated outputs of the document differ by at most 0.0032, at outputs within ±0.6."""


@functools.cache
def outcome(variant: str) -> Any:
    return recipe("linear_int16/linear_int16.py").outcome(variant, ROWS)


def on_cpu(variant: str) -> list[Any]:
    return [row for row in outcome(variant).program.placement if row.on == "CPU"]


def test_the_float_outputs_have_the_documents_size() -> None:
    assert 0.3 < outcome("all").floats.abs().max() < 0.8


def test_the_rewrite_is_the_linear_in_float() -> None:
    script = recipe("linear_int16/linear_int16.py")
    source, data = script.float_model(ROWS), script.example(ROWS)
    with torch.no_grad():
        assert torch.allclose(script.broadcast_model(source)(data), source(data), atol=1e-5)


def test_three_times_int16_differs_as_little_as_printed() -> None:
    assert outcome("all").deviation <= LARGEST_PRINTED
    script = recipe("linear_int16/linear_int16.py")
    mean = (outcome("weight_output").calibrated - outcome("weight_output").floats).abs().mean()
    assert mean <= LARGEST_PRINTED
    assert script.VARIANTS == ("input_output", "weight_output", "all", "double_int16")


def test_more_int16_is_more_exact() -> None:
    deviations = [outcome(v).deviation for v in ("input_output", "weight_output", "all")]
    assert deviations == sorted(deviations, reverse=True)


def test_latency_ranks_as_the_document_says() -> None:
    micros = [outcome(v).latency_us for v in ("input_output", "weight_output", "all")]
    assert micros == sorted(micros)
    assert len(set(micros)) == 3


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


def test_the_sensitivity_table_has_the_documents_columns_and_puts_linear2_first_among_weights() -> None:
    calib_model, source, data = calibrated_and_float()
    lines = str(bpu.sensitivity_table(calib_model, source, data)).splitlines()
    header = next(line for line in lines if "sensitive_type" in line)
    assert header.split() == ["op_name", "sensitive_type", "op_type", "L1", "quant_dtype", "flops"]
    weights = [line for line in lines if " weight " in line]
    assert "linear2" in weights[0]
    assert "qint8" in weights[0]


def test_the_statistics_table_has_the_documents_columns() -> None:
    _, source, data = calibrated_and_float()
    text = str(bpu.statistics_table(source, data))
    header = next(line for line in text.splitlines() if "Mod Name" in line)
    columns = ["Op Name", "Mod Name", "Attr", "Min", "Max", "Mean", "Var", "Shape"]
    assert [cell.strip() for cell in header.strip().strip("|").split("|")] == columns
    assert "torch.Size([60, 256])" in text
